"""Keys and prompts in what the gateway tells: a canary of each is looked for everywhere.

More of the same: tests/integration/test_dataplane_access.py and test_access_tokens.py (clients'
keys and tokens), tests/unit/explaining, tests/unit/compiler/test_compile.py (reports and status).
"""

import asyncio
import base64
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from fakes.defences import off, without
from fakes.gateway import Gateway, chat, external, failover, fakes, gateway, until
from fakes.policies import client, keyring
from switchboard_dataplane import admin, proxy
from switchboard_dataplane.decision.running import Backend
from switchboard_dataplane.learning import noting
from switchboard_policy import ir
from switchboard_policy.names import credential_key, origin
from switchboard_policy.seal import Keyring

BACKENDS_KEY = "sk-canary-of-the-backend-1234"
CALLERS_KEY = "sk-canary-of-the-caller-5678"
PROMPT = "the canary sings at 7 Rue du Secret"
SESSION = "canary-session-of-alice"
CANARIES = (BACKENDS_KEY, CALLERS_KEY, PROMPT, SESSION)
PAGES = ("/metrics", "/policy", "/backends", "/decisions", "/readyz", "/livez", "/nothing")


def forms(canary: str) -> tuple[bytes, ...]:
    """What a canary may look like in bytes: as it is, and in base64."""
    raw = canary.encode()
    return raw, base64.b64encode(raw).rstrip(b"=")[:-2]


def found_in(told: bytes) -> set[str]:
    """The canaries that somebody who reads this finds."""
    return {one for one in CANARIES if any(form in told for form in forms(one))}


@asynccontextmanager
async def singing(**settings: Any) -> AsyncGenerator[Gateway]:
    """A gateway that has served and refused requests that are full of canaries."""
    learning = ir.Learning(texts=settings.pop("texts", False))
    async with fakes({"faults": [{"kind": "status", "status": 500}]}, {}) as (bad, model):
        entry = external("a", model.url, credential=credential_key("ai", "a"))
        sealed = keyring().seal(BACKENDS_KEY.encode(), entry.uid, origin(entry.url))
        held = ir.Credential(backend="ai/a", key_id="k1", sealed=sealed)
        entries = (failover("bad", "a", learning=learning), external("bad", bad.url), entry, held)
        caller = client("web", CALLERS_KEY)
        async with gateway(*entries, caller, access="keys", **settings) as gw:
            headers = {
                "authorization": f"Bearer {CALLERS_KEY}",
                "x_switchboard_session": SESSION,
                "user_agent": "canary",
            }
            assert (await gw.send(chat(PROMPT, user=SESSION), **headers)).status == 200
            await gw.send(chat(PROMPT, stream=True), **headers)
            await gw.send(chat(PROMPT) | {"model": "nobody"}, **headers)
            await gw.send(chat(PROMPT) | {"temperature": {"of": PROMPT}}, **headers)
            await gw.send(orjson.dumps(chat(PROMPT))[:-3], **headers)
            await gw.send(chat(PROMPT), authorization=f"Bearer {CALLERS_KEY}0")
            await until(lambda: len(gw.outcomes) >= 4)
            yield gw


# --- logs ----------------------------------------------------------------------------------------

_read_body = proxy.Proxy.serve


async def serve_and_tell(self: Any, caller: Any) -> None:
    """What a debug line of good intentions would look like."""
    logging.getLogger("switchboard").debug("headers %r", dict(caller.headers))
    await _read_body(self, caller)


@without(off(proxy.Proxy, "serve", serve_and_tell))
async def test_the_log_has_no_canary_at_its_most_talkative(
    defended: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with singing(log_level="debug"):
        pass
    assert caplog.records, "there is a log"
    assert (found_in(caplog.text.encode()) == set()) is defended


# --- the admin port ------------------------------------------------------------------------------

_describe_policy = admin.describe_policy


def describe_too_much(snapshot: Any) -> Mapping[str, Any]:
    keys = {name: one.api_key for name, one in snapshot.backends.items()}
    return {**_describe_policy(snapshot), "keys": keys}


@without(off(admin, "describe_policy", describe_too_much))
async def test_no_page_of_the_admin_port_has_a_canary(defended: bool) -> None:
    async with singing() as gw:
        told = b"".join([(await gw.admin(path)).body for path in PAGES])
    assert b"switchboard_attempts_total" in told
    assert (found_in(told) == set()) is defended


async def test_an_explanation_repeats_nothing_of_the_request() -> None:
    question = {
        "body": chat(PROMPT, user=SESSION),
        "headers": {
            "authorization": f"Bearer {CALLERS_KEY}",
            "x-switchboard-session": SESSION,
            "x-custom": PROMPT,
        },
    }
    async with singing() as gw:
        remembered = orjson.loads((await gw.admin("/decisions")).body.split(b"\n")[0])
        identity = remembered.get("id") or remembered.get("decision")
        told = (await gw.admin(f"/explain?decision={identity}")).body
        async with gw.session.post(gw.admin_url + "/explain", data=orjson.dumps(question)) as reply:
            assert reply.status == 200
            told += await reply.read()
    assert b"ai/a" in told
    assert found_in(told) == set()


# --- answers -------------------------------------------------------------------------------------


async def test_no_error_repeats_a_key_to_whoever_called() -> None:
    async with singing() as gw:
        replies = [
            await gw.send(chat(), authorization=f"Bearer {CALLERS_KEY}0"),
            await gw.send(chat() | {"model": "no"}, authorization=f"Bearer {CALLERS_KEY}"),
            await gw.get("/v1/nothing"),
        ]
    told = b"".join(one.body + repr(one.headers).encode() for one in replies)
    assert found_in(told) == set()


# --- traces and metrics --------------------------------------------------------------------------


@asynccontextmanager
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[list[bytes]]:
    """What a collector of traces and metrics is sent."""
    posted: list[bytes] = []

    async def collect(request: web.BaseRequest) -> web.Response:
        posted.append(request.path.encode() + await request.read())
        return web.Response()

    runner = web.ServerRunner(web.Server(collect))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    yield posted
    await runner.cleanup()


@pytest.mark.parametrize("defended", [True, False], ids=["defended", "prompt-as-model"])
async def test_traces_and_metrics_have_no_canary(
    defended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model's name is told: with the prompt in its place the collector does get to see it."""
    async with collector(monkeypatch) as posted:
        async with singing(otlp=True) as gw:
            if not defended:
                named = chat() | {"model": PROMPT}
                await gw.publish(
                    failover("a", models=(PROMPT,)),
                    external("a", "http://127.0.0.1:9"),
                    client("web", CALLERS_KEY),
                )
                await gw.send(named, authorization=f"Bearer {CALLERS_KEY}")
        await until(lambda: any(one.startswith(b"/v1/traces") for one in posted))
    told = b"".join(posted)
    assert b"apps/web" in told or b"ai/a" in told
    assert (found_in(told) == set()) is defended


# --- the store and the disk ----------------------------------------------------------------------


async def stored(gw: Gateway) -> bytes:
    """All that the store holds, once it holds the decisions too."""
    await gw.plane.beside.learning.journal.log.flush(2.0)
    await asyncio.sleep(0.1)
    return repr(gw.store.__dict__).encode() + b"".join(
        body for channel in gw.store.channels.values() for body in channel.entries.values()
    )


@pytest.mark.parametrize("texts", [False, True], ids=["defended", "texts-asked-for"])
async def test_the_store_has_no_canary_unless_a_policy_asks_for_texts(texts: bool) -> None:
    async with singing(texts=texts) as gw:
        told = await stored(gw)
    assert found_in(told) == ({PROMPT} if texts else set())


def plain(_: Keyring, plaintext: bytes, *context: str) -> bytes:
    return plaintext


def opened(_: Keyring, key_id: str, sealed: bytes, *context: str) -> bytes:
    return sealed


def on_disk(folder: Path) -> bytes:
    files = [*folder.iterdir()]
    assert not any(one.stat().st_mode & 0o077 for one in files), "nobody else on the node reads it"
    return b"".join(one.read_bytes() for one in files)


@without(off(Keyring, "seal", plain), off(Keyring, "unseal", opened))
async def test_neither_store_nor_disk_has_a_credential(defended: bool, tmp_path: Path) -> None:
    async with singing(state_dir=str(tmp_path)) as gw:
        await until(lambda: any(tmp_path.glob("*.snapshot")))
        await asyncio.sleep(0.2)
        told = await stored(gw)
        told += on_disk(tmp_path)
    assert (BACKENDS_KEY in found_in(told)) is not defended


_fill = noting.Notes._fill


def told_as_it_is(self: Any, noted: Any, view: Any, plan: Any) -> None:
    _fill(self, noted, view, plan)
    noted.session = view.session


@without(off(noting.Notes, "_fill", told_as_it_is))
async def test_sessions_are_known_by_keyed_hashes(defended: bool) -> None:
    async with singing() as gw:
        told = (await gw.admin("/decisions")).body + await stored(gw)
    assert (SESSION in found_in(told)) is not defended


def test_what_holds_a_key_does_not_show_it() -> None:
    """A line of a log or a traceback has the repr."""
    spec = external("a", "http://model.example")
    held = Backend(name="ai/a", spec=spec, api_key=BACKENDS_KEY)
    assert found_in(repr((held, keyring())).encode()) == set()
