"""Callers that are not who they say: keys, identities of a mesh, other scopes.

More of the same: tests/integration/test_dataplane_access.py, test_access_clients.py and
test_access_tokens.py (real API server and Redis), tests/unit/access.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fakes.defences import off, passes, without
from fakes.gateway import CHAT, Gateway, chat, external, failover, fakes, gateway
from fakes.policies import client
from switchboard_dataplane import proxy
from switchboard_dataplane.access import mesh
from switchboard_dataplane.access.identify import Access, Keys
from switchboard_dataplane.access.mesh import Mesh
from switchboard_dataplane.decision.client import ANYBODY, Client
from switchboard_policy import ir
from switchboard_policy.seal import read_keyring, write_key_file

KEY = "sk-sb-web-0123456789abcdef"
ELSEWHERE = read_keyring("gw/other", write_key_file("k1", {"k1": b"o" * 32}))
BANK = "URI=spiffe://cluster.local/ns/bank/sa/payments"
SHOP = "URI=spiffe://cluster.local/ns/shop/sa/web"

pytestmark = pytest.mark.usefixtures("each_front")


@asynccontextmanager
async def guarded(*clients: ir.Client, **settings: Any) -> AsyncGenerator[Gateway]:
    async with (
        fakes({}) as (model,),
        gateway(
            failover("a", models=("chat", "other")), external("a", model.url), *clients, **settings
        ) as gw,
    ):
        yield gw


async def status(gw: Gateway, model: str = "chat", **headers: str) -> int:
    return (await gw.send(chat() | {"model": model}, **headers)).status


def anybody(*_: object, **__: object) -> Client:
    return ANYBODY


# --- keys ----------------------------------------------------------------------------------------


@without(off(Keys, "identify", anybody))
@pytest.mark.parametrize(
    "key",
    [
        "sk-sb-nobody-0123456789",
        KEY[:-1],
        KEY + "0",
        KEY.upper(),
        f"{KEY}, {KEY}",
        client("web", KEY).digest,
        "x" * 60_000,
        "\u00e9" * 20,
    ],
)
async def test_what_is_no_clients_key_opens_nothing(defended: bool, key: str) -> None:
    async with guarded(client("web", KEY), access="keys") as gw:
        sent = f"Bearer {key}".encode().decode("latin-1")
        assert await status(gw, authorization=sent) == (401 if defended else 200)
        assert await status(gw, authorization=f"Bearer {KEY}") == 200


async def let_in(*_: object) -> Client:
    return ANYBODY


@without(off(Access, "_identify", let_in))
@pytest.mark.parametrize("path", [CHAT, "/v1/feedback", "/v1/models", "/v1/models/chat"])
async def test_no_route_is_left_open(defended: bool, path: str) -> None:
    async with guarded(client("web", KEY), access="keys") as gw:
        method = "GET" if "models" in path else "POST"
        reply = await gw.send(chat(), path, method=method)
        assert (reply.status == 401) is defended


async def test_a_key_of_another_scope_opens_nothing() -> None:
    """The hash in the store is under the key of its scope: copied over, it is nobody's."""
    foreign = client("web", KEY, ring=ELSEWHERE)
    async with guarded(foreign, access="keys") as gw:
        assert await status(gw, authorization=f"Bearer {KEY}") == 401


@without(off(proxy, "check_model", passes()))
async def test_a_client_uses_no_model_but_its_own(defended: bool) -> None:
    async with guarded(client("web", KEY, models=("chat",)), access="keys") as gw:
        mine, other = [
            await status(gw, model, authorization=f"Bearer {KEY}") for model in ("chat", "other")
        ]
    assert (mine, other) == (200, 403 if defended else 200)


# --- meshes --------------------------------------------------------------------------------------


@without(off(Mesh, "trusts", passes(value=True)))
async def test_the_header_of_a_mesh_counts_from_its_proxies_alone(defended: bool) -> None:
    settings = {"access": "mesh", "trusted_peers": "10.0.0.0/8"}
    async with guarded(**settings) as gw:
        found = await status(gw, x_forwarded_client_cert=BANK)
    assert found == (401 if defended else 200)


def first_element(said: str) -> str:
    return said.split(",", maxsplit=1)[0].strip()


@without(off(mesh, "_last_element", first_element))
async def test_of_a_chain_the_nearest_proxys_word_counts(defended: bool) -> None:
    """What stands before it is what the caller sent to that proxy."""
    settings = {"access": "mesh", "trusted_peers": "127.0.0.0/8"}
    async with guarded(**settings) as gw:
        assert await status(gw, x_forwarded_client_cert=f"{BANK},{SHOP}") == 200
        known = (await gw.outcome()).client
    assert known == ("shop/web" if defended else "bank/payments")
