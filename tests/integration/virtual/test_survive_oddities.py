"""Through real sockets: what models send that no specification foresees, and what callers get."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fakes.gateway import (
    DONE,
    STREAM_HEAD,
    Gateway,
    chat,
    event,
    external,
    failover,
    gateway,
    http,
    said,
    scripted,
    until,
)
from fakes.taking_turns import TakingTurns, answered, refused, streamed, taking_turns
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")

SOON = 0.1
END = said(finish_reason="stop")
HTTP_1_0 = STREAM_HEAD.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"connection: close\r\n", b"")
WHOLE_1_0 = HTTP_1_0.replace(b"text/event-stream", b"application/json")
ANSWER = b'{"model":"m","choices":[{"index":0,"message":{"content":"hi"}}]}'
MARK = b"\xef\xbb\xbf"


@asynccontextmanager
async def odd(
    *script: bytes | float | None, stream: bool = True, **fields: Any
) -> AsyncGenerator[tuple[Gateway, TakingTurns]]:
    """A model that plays a script, and one in the next tier that answers; nothing is left of it."""
    async with (
        scripted(*script) as model,
        taking_turns(streamed("good") if stream else answered("good")) as other,
        gateway(
            failover("odd", "other", **fields),
            external("odd", model.url),
            external("other", other.url),
        ) as gw,
    ):
        yield gw, other
        signals = gw.plane.in_force.signals
        await until(lambda: not any(one.in_flight for one in signals.values()))
        await until(lambda: len(gw.plane.live) == 0)


@pytest.mark.parametrize("end", [(None,), ()], ids=["reset", "end"])
async def test_a_head_without_a_body_is_a_reset_and_nothing_has_gone_out(end: tuple[None]) -> None:
    async with odd(STREAM_HEAD, *end) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert (reply.status, reply.text) == (200, "good")
        assert reply.headers["x-switchboard-reason"] == "fallback:reset"


async def test_an_answer_of_http_1_0_ends_with_its_connection() -> None:
    async with odd(WHOLE_1_0, ANSWER, stream=False) as (gw, other):
        assert (await gw.send(chat())).body == ANSWER
        assert not other.seen
    async with odd(HTTP_1_0, said("hi"), END, DONE) as (gw, other):
        assert (await gw.send(chat(stream=True))).body == said("hi") + END + DONE


async def test_an_answer_of_http_1_0_that_was_cut_behind_a_brace_is_not_taken_for_whole() -> None:
    async with odd(WHOLE_1_0, ANSWER[: ANSWER.index(b"}") + 1], stream=False) as (gw, _):
        reply = await gw.send(chat())
        assert reply.json["model"] == "the-good"
        assert reply.headers["x-switchboard-reason"] == "fallback:protocol"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        ({"code": 400}, 400, "primary"),
        ({"code": "content_filter"}, 400, "primary"),
        ({"code": 429}, 200, "fallback:rate_limited"),
        ({"code": 502}, 200, "fallback:server_error"),
    ],
)
async def test_an_error_in_the_body_of_a_200_counts_as_what_it_says(
    error: dict[str, Any], status: int, reason: str, *, stream: bool
) -> None:
    body = event(error={"message": "no", **error}).removeprefix(b"data: ").strip()
    async with odd(http(200, body), stream=stream) as (gw, _):
        reply = await gw.send(chat(stream=stream))
        assert (reply.status, reply.headers["x-switchboard-reason"]) == (status, reason)
        assert status == 200 or reply.json == {"error": {"message": "no", **error}}


@pytest.mark.parametrize(
    ("said_after", "again"),
    [
        ("-1", 0),
        ("1e9", 0),
        ("soon", 0),
        ("", 0),
        ("99999999999", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 0),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 1),
        ("0", 1),
    ],
)
async def test_a_retry_after_without_sense_is_none_and_one_that_is_over_is_no_wait(
    said_after: str, again: int
) -> None:
    async with (
        taking_turns(refused(429, f"retry-after: {said_after}")) as limited,
        taking_turns(answered("good")) as other,
        gateway(
            failover("limited", "other"),
            external("limited", limited.url),
            external("other", other.url),
        ) as gw,
    ):
        reply = await gw.send(chat())
        assert reply.json["model"] == "the-good"
        assert len(limited.seen) == 1 + again
        assert (await gw.outcome()).duration_s < 1.0


async def test_a_limit_in_a_race_is_remembered_and_the_first_is_waited_for() -> None:
    late = (STREAM_HEAD, 0.8, said("late"), END, DONE)
    async with (
        scripted(*late) as slow,
        taking_turns(refused(429, "retry-after: 30")) as limited,
        gateway(
            failover("slow", "limited"),
            external("slow", slow.url, timeouts={"first_token_ms": 400}),
            external("limited", limited.url),
        ) as gw,
    ):
        for _ in range(2):
            assert (await gw.send(chat(stream=True))).text == "late"
        outcome = await gw.outcome()
        assert [one.failure for one in outcome.attempts] == ["rate_limited", ""]
        assert len(limited.seen) == 1


@pytest.mark.parametrize("status", [400, 429, 503])
async def test_a_hedge_that_is_refused_does_not_win(status: int) -> None:
    hedge = ir.Hedge(after_ms=50, budget_permille=1_000)
    async with (
        scripted(STREAM_HEAD, 0.3, said("first"), END, DONE) as slow,
        taking_turns(refused(status)) as quick,
        gateway(
            failover("slow", "quick", hedge=hedge),
            external("slow", slow.url),
            external("quick", quick.url),
        ) as gw,
    ):
        reply = await gw.send(chat(stream=True))
        assert (reply.status, reply.text) == (200, "first")
        assert len(quick.seen) == 1


def crlf(events: bytes) -> bytes:
    return events.replace(b"\n", b"\r\n")


UNICODE = 'data: {"choices":[{"index":0,"delta":{"content":"é漢😀"}}]}\n\n'.encode()
INSIDE = UNICODE.index("漢".encode()) + 1
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
USAGE = event(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 6})


@pytest.mark.parametrize(
    ("script", "body"),
    [
        (
            (crlf(said("hi")), SOON, crlf(END)[:-1], SOON, b"\n", crlf(DONE)),
            crlf(said("hi") + END + DONE),
        ),
        ((UNICODE[:INSIDE], SOON, UNICODE[INSIDE:], END, DONE), UNICODE + END + DONE),
        ((MARK + said("hi"), END, DONE), said("hi") + END + DONE),
        ((MARK, SOON, said("hi"), END, DONE), said("hi") + END + DONE),
        ((PING, SOON, PING, said("hi"), END, DONE), PING + PING + said("hi") + END + DONE),
        ((said(finish_reason="content_filter"), DONE), said(finish_reason="content_filter") + DONE),
        ((said("hi"), END, USAGE, SOON, None), said("hi") + END),
    ],
    ids=["crlf", "unicode", "mark", "mark-alone", "ping", "filtered", "usage-and-reset"],
)
async def test_an_odd_stream_that_is_whole_goes_through(
    script: tuple[bytes | float | None, ...], body: bytes
) -> None:
    async with odd(STREAM_HEAD, *script) as (gw, other):
        reply = await gw.send(chat(stream=True))
        assert (reply.status, reply.body) == (200, body)
        assert ((await gw.outcome()).error, other.seen) == ("", [])


@pytest.mark.parametrize(
    ("script", "before"),
    [
        ((crlf(said("a")), SOON, crlf(said("b"))[:-20], None), crlf(said("a"))),
        ((said("a"), SOON, UNICODE[:INSIDE], SOON, None), said("a")),
        ((said("a"), SOON, USAGE, SOON, None), said("a")),
    ],
    ids=["crlf", "unicode", "usage-without-an-end"],
)
async def test_an_odd_stream_that_is_cut_ends_with_whole_events_and_an_error(
    script: tuple[bytes | float | None, ...], before: bytes
) -> None:
    async with odd(STREAM_HEAD, *script) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert reply.body.startswith(before + b'data: {"error"')
        assert reply.body.endswith(b"}}\n\n")
        assert (await gw.outcome()).error == "upstream_reset"
        reply.body.decode()


async def test_a_usage_that_came_before_the_break_is_told_as_it_is() -> None:
    async with odd(STREAM_HEAD, said("a"), SOON, USAGE, SOON, None) as (gw, _):
        usage = (await gw.send(chat(stream=True))).events[-1]["error"]["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 6)
        assert not usage["estimated"]


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x'}}]},
        {"function_call": {"name": "f", "arguments": '{"x'}},
        {"audio": {"id": "a", "data": "AAAA"}},
    ],
    ids=["tool-call", "function-call", "sound"],
)
async def test_half_of_what_cannot_be_said_twice_ends_with_an_error(delta: dict[str, Any]) -> None:
    half = said(delta=delta)
    async with odd(STREAM_HEAD, half, SOON, None, restart_within_chars=200) as (gw, other):
        reply = await gw.send(chat(stream=True))
        assert reply.body.startswith(half + b'data: {"error"')
        assert not other.seen


@pytest.mark.parametrize("body", [b"hello there", b"", streamed("good")], ids=repr)
async def test_a_text_in_answer_to_a_stream_is_no_answer(body: bytes) -> None:
    async with odd(http(200, body, media_type="text/plain")) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert (reply.text, reply.headers["x-switchboard-backend"]) == ("good", "ai/other")
        assert reply.headers["x-switchboard-reason"] == "fallback:protocol"
