"""``/explain`` and ``switchboard explain`` on a real admin port: what goes in, what comes out."""

import asyncio
import io
import logging
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import msgspec
import orjson
import pytest

from fakes.gateway import Gateway, chat, external, gateway, scripted
from fakes.policies import endpoints, policy, rule, service, tier
from switchboard_cli.explain import command
from switchboard_dataplane.explaining import form
from switchboard_dataplane.explaining.port import AT_ONCE_MAX
from switchboard_dataplane.explaining.question import QUESTION_BYTES_MAX
from switchboard_policy import ir

PROMPT = "the secret plan"
TOKEN = "sk-proj-secret"
EXPLAIN = "/explain"


@pytest.fixture
async def gw() -> AsyncGenerator[Gateway]:
    spec = policy(
        "chat",
        rule("vip", tier("t", "b"), match=ir.Match(headers=(ir.HeaderMatch("x-plan", "gold"),))),
        rule("default", tier("cheap", "a", "b"), tier("dear", "b")),
        guardrails=(ir.Guardrail("eu", "platform/rails", ("ai/b",)),),
        learning=ir.Learning(),
    )
    entries: list[ir.Entry] = [service("a"), service("b"), spec]
    async with gateway(
        *entries, endpoints("a", "10.0.0.1:80"), endpoints("b", "10.0.0.2:80")
    ) as running:
        yield running


async def ask(gw: Gateway, question: object, *, method: str = "POST", path: str = EXPLAIN) -> Any:
    data = question if isinstance(question, bytes) else orjson.dumps(question)
    async with gw.session.request(
        method, gw.admin_url + path, data=io.BytesIO(data) if data else None
    ) as response:
        return response.status, await response.read()


async def test_a_request_is_explained_and_nothing_of_it_comes_out(
    gw: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    headers = {"Authorization": f"Bearer {TOKEN}", "x-plan": "the-plan", "cookie": TOKEN}
    status, body = await ask(gw, {"headers": headers, "body": chat(PROMPT, user="the-user")})
    found = msgspec.json.decode(body, type=form.Explanation)
    assert (status, found.outcome, found.rule) == (200, "served", "default")
    assert found.pick is not None
    assert found.pick.endpoint == "ai/a@10.0.0.1:80"
    for hidden in (PROMPT, TOKEN, "the-plan", "the-user"):
        assert hidden.encode() not in body
        assert hidden not in caplog.text


async def test_a_get_may_have_the_body_too(gw: Gateway) -> None:
    status, body = await ask(gw, chat(), method="GET")
    assert (status, orjson.loads(body)["policy"]) == (200, "ai/chat")


async def test_nobody_is_asked_and_nobodys_turn_is_taken() -> None:
    by_weight = policy("chat", rule("r", tier("t", ("a", 1), ("b", 1))))
    async with scripted() as model, gateway() as gw:
        assert (await ask(gw, chat()))[0] == 503, "no policy has come yet"
        await gw.publish(external("a", model.url), external("b", model.url), by_weight)
        status, body = await ask(gw, chat())
        assert (status, orjson.loads(body)["outcome"]) == (200, "served")
        assert not model.seen
        assert not gw.outcomes
        assert not gw.plane.in_force.signals.turns


async def test_what_is_wrong_is_named_and_not_repeated(gw: Gateway) -> None:
    for question in (b"", b"{" + PROMPT.encode(), chat(messages=[{"role": "user", "content": 7}])):
        status, body = await ask(gw, question)
        assert status == 400
        assert set(orjson.loads(body)["error"]) == {"code", "param", "message"}
        assert PROMPT.encode() not in body
    assert (await ask(gw, chat(), method="PUT"))[0] == 405


async def test_a_question_that_is_too_long_is_not_read_to_its_end(gw: Gateway) -> None:
    sent = 0

    async def endless() -> AsyncGenerator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b" " * 65_536

    try:
        async with gw.session.post(gw.admin_url + EXPLAIN, data=endless()) as response:
            assert response.status == 413
    except aiohttp.ClientError:
        # The connection may be closed before all of it has gone out.
        pass
    assert sent < 4 * QUESTION_BYTES_MAX


async def test_a_question_that_does_not_come_is_not_waited_for(gw: Gateway) -> None:
    gw.plane.admin.explain.patience_s = 0.05

    async def never() -> AsyncGenerator[bytes]:
        yield b"{"
        await asyncio.sleep(30.0)

    try:
        async with gw.session.post(gw.admin_url + EXPLAIN, data=never()) as response:
            assert response.status == 408
    except aiohttp.ClientError:
        pass
    assert (await ask(gw, chat()))[0] == 200


async def test_few_are_explained_at_once(gw: Gateway) -> None:
    told = await asyncio.gather(*(ask(gw, chat()) for _ in range(4 * AT_ONCE_MAX)))
    statuses = {status for status, _ in told}
    assert 200 in statuses
    assert statuses <= {200, 503}
    assert (await ask(gw, chat()))[0] == 200


async def test_a_decision_is_found_by_its_id(gw: Gateway) -> None:
    reply = await gw.send(chat(PROMPT))
    decision = reply.headers["x-switchboard-decision"]
    await gw.outcome()
    status, body = await ask(gw, b"", method="GET", path=f"{EXPLAIN}?decision={decision}")
    found = msgspec.json.decode(body, type=form.Remembered)
    assert (status, found.decision["id"], found.decision["rule"]) == (200, decision, "default")
    assert found.now.same_revision
    assert found.forgotten
    assert PROMPT.encode() not in body
    status, body = await ask(gw, b"", method="GET", path=f"{EXPLAIN}?decision=x")
    assert (status, orjson.loads(body)["error"]["code"]) == (404, "decision_not_found")


async def run(*args: str) -> int:
    return await asyncio.to_thread(command.main, args)


async def test_the_command_asks_a_live_pod(
    gw: Gateway, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "question.json"
    path.write_bytes(orjson.dumps(chat(PROMPT)))
    assert await run(str(path), "--admin", gw.admin_url) == command.SERVED
    assert "SERVED      ai/a@10.0.0.1:80 would serve it" in capsys.readouterr().out
    path.write_bytes(orjson.dumps(chat(PROMPT, model="nobody")))
    assert await run(str(path), "--admin", gw.admin_url, "--output", "json") == command.REJECTED
    assert orjson.loads(capsys.readouterr().out)["reason"] == "model_not_found"
    path.write_text("{")
    assert await run(str(path), "--admin", gw.admin_url) == command.UNREADABLE
    assert await run(str(path), "--admin", gw.url) == command.UNREADABLE
    assert await run("--decision", "x", "--admin", gw.admin_url) == command.UNREADABLE
    assert await run(str(path), "--admin", "http://127.0.0.1:1") == command.UNREADABLE
    reply = await gw.send(chat(PROMPT))
    await gw.outcome()
    decision = reply.headers["x-switchboard-decision"]
    capsys.readouterr()
    assert await run("--decision", decision, "--admin", gw.admin_url) == command.REJECTED
    told = capsys.readouterr().out
    assert f"decision {decision}" in told
    assert "not remembered" in told
    assert PROMPT not in told
