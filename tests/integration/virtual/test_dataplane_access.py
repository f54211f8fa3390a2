"""Who is let in, and to what: over both fronts, on real sockets."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fakes.gateway import CHAT, SCOPE, Gateway, chat, external, failover, fakes, gateway, until
from fakes.policies import KEY as SCOPE_KEY
from fakes.policies import client, policy, rule, tier
from fakes.raw_caller import calling, request
from switchboard_cli.fake_model.server import Serving
from switchboard_dataplane.front.routes import Patience
from switchboard_policy import ir
from switchboard_policy.seal import read_keyring, write_key_file

pytestmark = pytest.mark.usefixtures("each_front")

WEB, APP = "sk-sb-web-0123456789abcdef", "sk-sb-app-0123456789abcdef"
XFCC = "URI=spiffe://cluster.local/ns/apps/sa/web"
DECISION = "x-switchboard-decision"
BOTH = read_keyring(SCOPE, write_key_file("k2", {"k1": SCOPE_KEY, "k2": b"n" * 32}))
NEW = read_keyring(SCOPE, write_key_file("k2", {"k2": b"n" * 32}))
ELSEWHERE = read_keyring("gw/other", write_key_file("k1", {"k1": b"o" * 32}))


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


@asynccontextmanager
async def open_to(
    *clients: ir.Client, models: tuple[str, ...] = ("chat",), **said: Any
) -> AsyncGenerator[tuple[Gateway, Serving]]:
    """A gateway that asks for keys, with these clients."""
    fields: dict[str, Any] = {"access": "keys"} | said
    learning = fields.pop("learning", None)
    async with fakes({}) as (model,):
        entries = (
            failover("model", models=models, learning=learning),
            external("model", model.url),
        )
        async with gateway(*entries, *clients, **fields) as gw:
            yield gw, model


def served(model: Serving) -> int:
    return len(model.engine.records.last(1_000))


async def counted(gw: Gateway) -> dict[str, float]:
    """What the metric says of those who were not let in, by reason."""
    page = (await gw.admin("/metrics")).body.decode()
    name = 'switchboard_unauthenticated_total{reason="'
    lines = [line.removeprefix(name) for line in page.splitlines() if line.startswith(name)]
    return {line.split('"')[0]: float(line.split(" ")[-1]) for line in lines}


# --- keys ----------------------------------------------------------------------------------------


async def test_who_has_a_key_is_served_and_nobody_else() -> None:
    past = ms(datetime.now(UTC) - timedelta(seconds=1))
    clients = client("web", WEB), client("old", APP, expires_ms=past)
    async with open_to(*clients) as (gw, model):
        assert (await gw.send(chat(), **bearer(WEB))).status == 200
        assert (await gw.send(chat(), api_key=WEB)).status == 200
        assert (await gw.outcome()).client == "apps/web"
        for headers, code, words in (
            ({}, "missing_api_key", "no API key was given"),
            (bearer(f"{WEB}0"), "invalid_api_key", "none of a client"),
            (bearer(APP), "invalid_api_key", "expired at 20"),
        ):
            reply = await gw.send(chat(), **headers)
            assert (reply.status, reply.error["code"]) == (401, code)
            assert reply.error["type"] == "invalid_request_error"
            assert words in reply.error["message"]
            assert reply.headers["www-authenticate"] == "Bearer"
        assert served(model) == 2
        assert await counted(gw) == {"missing": 1, "unknown": 1, "expired": 1}
        assert (await gw.outcome(2)).client == ""
        assert (await gw.outcome(2)).error == "missing_api_key"


async def test_a_key_of_another_gateway_is_unknown() -> None:
    async with open_to(client("web", WEB, ring=ELSEWHERE)) as (gw, model):
        reply = await gw.send(chat(), **bearer(WEB))
        assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
        assert served(model) == 0


async def test_a_key_that_is_taken_away_stops_the_next_request() -> None:
    async with open_to(client("web", WEB)) as (gw, model), calling(gw) as caller:
        entries = failover("model"), external("model", model.url)
        key = f"authorization: Bearer {WEB}"
        await caller.write(request("hello", key))
        assert (await caller.answer()).status == 200
        await gw.publish(*entries)
        await caller.write(request("hello", key))
        assert (await caller.answer()).code == "invalid_api_key"
        await gw.publish(*entries, client("web", APP), client("other", WEB))
        await caller.write(request("hello", key))
        assert (await caller.answer()).status == 200
        assert (await gw.outcome(2)).client == "apps/other"


async def test_a_key_is_good_while_the_scopes_key_rotates() -> None:
    async with open_to(client("web", WEB)) as (gw, model):
        entries = failover("model"), external("model", model.url)

        async def works() -> bool:
            return (await gw.send(chat(), **bearer(WEB))).status == 200

        stop = asyncio.Event()

        async def load() -> list[bool]:
            said: list[bool] = []
            while not stop.is_set():
                # For the loop's clock, which stands still while there is anything to do.
                await asyncio.sleep(0.001)
                said.append(await works())
            return said

        loading = asyncio.create_task(load())
        for ring, hashed in ((BOTH, ("k1", BOTH)), (BOTH, ("k2", BOTH)), (NEW, ("k2", NEW))):
            gw.keys.append(ring)
            await gw.plane.in_force.refresh()
            await gw.publish(*entries, client("web", WEB, key_id=hashed[0], ring=hashed[1]))
            assert await works()
        stop.set()
        assert all(await loading)


# --- models --------------------------------------------------------------------------------------


async def test_a_client_has_its_own_models() -> None:
    clients = client("web", WEB, models=("small", "gpt-4o*")), client("app", APP)
    async with open_to(*clients, models=("small", "big", "gpt-*")) as (gw, model):

        async def listed(key: str) -> list[str]:
            reply = await gw.send(b"", "/v1/models", method="GET", **bearer(key))
            return [one["id"] for one in reply.json["data"]]

        async def one(name: str, key: str) -> int:
            return (await gw.send(b"", f"/v1/models/{name}", method="GET", **bearer(key))).status

        assert (await listed(WEB), await listed(APP)) == (["small"], ["big", "small"])
        names = ["small", "big", "gpt-4o-mini", "gpt-5"]
        assert [await one(name, WEB) for name in names] == [200, 404, 200, 404]
        assert [await one(name, APP) for name in names] == [200, 200, 200, 200]
        for path in ("/v1/models", "/v1/models/small"):
            assert (await gw.get(path)).error["code"] == "missing_api_key"
        for name, status in (("small", 200), ("gpt-4o", 200), ("big", 403), ("nowhere", 403)):
            reply = await gw.send(chat() | {"model": name}, **bearer(WEB))
            assert reply.status == status
            if status == 403:
                assert (reply.error["code"], reply.error["param"]) == ("model_not_allowed", "model")
                assert reply.error["type"] == "permission_error"
        assert served(model) == 2
        # They are let in: what they ask for is not for them.
        assert await counted(gw) == {"missing": 2}


async def test_feedback_is_of_those_who_are_let_in() -> None:
    async with open_to(client("web", WEB), learning=ir.Learning()) as (gw, _):
        reply = await gw.send(chat(), **bearer(WEB))
        rating = {"decision": reply.headers[DECISION], "rating": "up"}
        refused = await gw.send(rating, "/v1/feedback")
        assert (refused.status, refused.error["code"]) == (401, "missing_api_key")
        assert (await gw.send(rating, "/v1/feedback", **bearer(WEB))).status == 202
        recent = gw.plane.beside.learning.journal.recent
        await until(lambda: len(recent) == 1)
        assert b'"client":"apps/web"' in (await gw.admin("/decisions")).body


# --- facts ---------------------------------------------------------------------------------------


async def test_rules_know_who_calls_and_never_by_what_key() -> None:
    rules = (
        rule("leak", tier("first", "model"), when="'authorization' in request.headers"),
        rule("leaks", tier("first", "model"), when="request.headers.exists(h, h == 'x-api-key')"),
        rule("gold", tier("first", "model"), when="client.tier == 'gold'"),
        rule("rest", tier("first", "model")),
    )
    clients = client("web", WEB, tier="gold"), client("app", APP)
    async with fakes({}) as (model,):
        entries = policy("chat", *rules), external("model", model.url), *clients
        async with gateway(*entries, access="keys") as gw:
            for key, expected in ((WEB, "gold"), (APP, "rest")):
                for headers in (bearer(key), {"x_api_key": key}):
                    reply = await gw.send(chat(), **headers)
                    assert reply.headers["x-switchboard-rule"] == expected
        seen = [dict(one.headers) for one in model.engine.records.last(10)]
    assert not [
        name for one in seen for name in one if name.lower() in ("authorization", "x-api-key")
    ]
    assert WEB not in str(seen)


async def test_a_conversation_is_of_one_client() -> None:
    rules = (
        rule("again", tier("first", "model"), when="signals.lastModel != ''"),
        rule("rest", tier("first", "model")),
    )
    clients = client("web", WEB), client("app", APP)
    async with fakes({}) as (model,):
        entries = policy("chat", *rules), external("model", model.url), *clients
        async with gateway(*entries, access="keys") as gw:

            async def rule_for(key: str) -> str:
                reply = await gw.send(chat(), x_switchboard_session="s-1", **bearer(key))
                return reply.headers["x-switchboard-rule"]

            assert [await rule_for(key) for key in (WEB, APP, WEB, APP)] == [
                "rest",
                "rest",
                "again",
                "again",
            ]


async def test_a_key_is_in_nothing_that_the_gateway_tells(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    async with open_to(client("web", WEB), learning=ir.Learning(texts=True)) as (gw, _):
        await gw.send(chat(), **bearer(WEB))
        await gw.send(chat(), **bearer(f"{WEB}-wrong"))
        await gw.send(b"{", **bearer(WEB))
        await gw.outcome(2)
        pages = [
            await gw.admin(path) for path in ("/metrics", "/decisions", "/policy", "/backends")
        ]
        told = b"".join(page.body for page in pages)
    digest = client("web", WEB).digest
    for secret in (WEB, digest, digest[:16]):
        assert secret.encode() not in told
        assert secret not in caplog.text


# --- mesh ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trusted", "status"), [("127.0.0.0/8", 200), ("10.0.0.0/8", 401)])
async def test_who_writes_the_header_of_a_mesh_is_believed_where_it_is_the_mesh(
    trusted: str, status: int
) -> None:
    settings: dict[str, Any] = {"access": "mesh", "trusted_peers": trusted, "mesh_header": "X-Peer"}
    async with open_to(**settings) as (gw, model):
        reply = await gw.send(chat(), x_peer=XFCC, x_forwarded_client_cert=XFCC)
        assert reply.status == status
        if status == 200:
            assert (await gw.outcome()).client == "apps/web"
            (record,) = model.engine.records.last(1)
            assert not {name.lower() for name in record.headers} & {
                "x-peer",
                "x-forwarded-client-cert",
            }
        else:
            assert await counted(gw) == {"missing": 1}
            assert served(model) == 0


async def test_a_sidecars_caller_is_its_pod() -> None:
    settings: dict[str, Any] = {"access": "pod", "service_account": "web", "pod_namespace": "apps"}
    async with open_to(**settings) as (gw, _):
        assert (await gw.send(chat(), **bearer("whatever"))).status == 200
        assert (await gw.outcome()).client == "apps/web"


# --- strangers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [CHAT, "/v1/feedback"])
@pytest.mark.parametrize("expects", [True, False])
async def test_the_body_of_a_stranger_is_not_waited_for(target: str, *, expects: bool) -> None:
    patience = Patience(linger_s=0.2, sweep_s=0.05)
    async with open_to(client("web", WEB), patience=patience) as (gw, _), calling(gw) as caller:
        head = f"POST {target} HTTP/1.1\r\nhost: gateway\r\ncontent-length: 20000000\r\n"
        await caller.write((head + "expect: 100-continue\r\n" * expects + "\r\n").encode())
        answer = await asyncio.wait_for(caller.answer(), 1)
        assert (answer.status, answer.code) == (401, "missing_api_key")
        assert answer.headers["connection"] == "close"
        assert gw.plane.public._connections.routes.bodies.held_bytes == 0


@pytest.mark.parametrize("target", [CHAT, "/v1/feedback"])
@pytest.mark.parametrize("expects", [True, False])
async def test_nor_is_one_that_comes_in_chunks(target: str, *, expects: bool) -> None:
    patience = Patience(linger_s=0.2, sweep_s=0.05)
    async with open_to(client("web", WEB), patience=patience) as (gw, _), calling(gw) as caller:
        head = f"POST {target} HTTP/1.1\r\nhost: gateway\r\ntransfer-encoding: chunked\r\n"
        await caller.write((head + "expect: 100-continue\r\n" * expects + "\r\n").encode())
        answer = await asyncio.wait_for(caller.answer(), 1)
        assert (answer.status, answer.code) == (401, "missing_api_key")
        assert answer.headers["connection"] == "close"


async def test_who_shared_a_connection_with_a_client_is_a_stranger() -> None:
    async with (
        open_to(client("web", WEB), client("app", APP)) as (gw, model),
        calling(gw) as caller,
    ):
        requests = [
            request("hello", *said)
            for said in (
                [f"authorization: Bearer {WEB}"],
                [],
                [f"api-key: {APP}"],
                ["connection: upgrade", "upgrade: websocket"],
                # Which of two is meant nobody can tell.
                [f"authorization: Bearer {WEB}", f"authorization: Bearer {WEB}"],
                [f"authorization: Bearer {WEB}0", f"api-key: {APP}"],
            )
        ]
        for one in requests:
            await caller.write(one)
        answers = [await asyncio.wait_for(caller.answer(), 5) for _ in requests]
        assert [one.status for one in answers] == [200, 401, 200, 401, 401, 401]
        assert served(model) == 2
        assert (await gw.outcome()).client == "apps/web"
        assert [(await gw.outcome(place)).client for place in (1, 2)] == ["", "apps/app"]


@pytest.mark.parametrize(
    "path", ["/", "/v1/models/../models", "/v1//models", "/admin", "/v1/realtime", "/V1/MODELS"]
)
async def test_what_is_not_served_tells_a_stranger_nothing(path: str) -> None:
    async with open_to(client("web", WEB), models=("secret-name",)) as (gw, _), calling(gw) as line:
        await line.write(f"GET {path} HTTP/1.1\r\nhost: gateway\r\n\r\n".encode())
        answer = await asyncio.wait_for(line.answer(), 5)
        assert answer.status in (401, 404)
        assert b"secret-name" not in answer.body


async def test_a_stranger_that_sends_all_the_same_reads_its_answer() -> None:
    async with open_to(client("web", WEB)) as (gw, _), calling(gw) as caller:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: gateway\r\ncontent-length: 2000000\r\n\r\n"
        await caller.write(head.encode(), b"x" * 1_000_000)
        assert (await asyncio.wait_for(caller.answer(), 5)).code == "missing_api_key"


async def test_large_bodies_of_clients_come_whole_and_the_connection_goes_on() -> None:
    async with open_to(client("web", WEB)) as (gw, _), calling(gw) as caller:
        for text in ("x" * 500_000, "y" * 3_000_000, "z"):
            await caller.write(request(text, f"authorization: Bearer {WEB}"))
            assert (await asyncio.wait_for(caller.answer(), 10)).status == 200
        # Small enough to come at once, and who is refused may try again.
        for key, status in ((WEB + "0", 401), (WEB, 200)):
            await caller.write(request("x" * 100, f"authorization: Bearer {key}"))
            assert (await asyncio.wait_for(caller.answer(), 5)).status == status
