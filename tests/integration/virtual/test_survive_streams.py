"""Through real sockets: what a broken stream costs its caller, its endpoint and its successor."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from fakes.broken_streams import (
    DONE,
    END,
    PRICES,
    ROLE,
    SOON,
    Script,
    ask,
    errors_of,
    in_flight,
    metric,
)
from fakes.gateway import (
    STREAM_HEAD,
    Gateway,
    Reply,
    Scripted,
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
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")


IDLE_MS = 400


WHOLE: Script = (STREAM_HEAD, ROLE, said("Hello, "), said("world"), END, DONE)


RESTART = b": switchboard restart\n"


UPSTREAM_ERROR = event(error={"message": "out of memory at 10.0.0.7", "code": 500})


def broken(*events: bytes, by: Script = (None,)) -> Script:
    """A stream that breaks when these events have gone out."""
    return (STREAM_HEAD, *events, SOON, *by)


#: Two is asked only where one has been; three stands in the next tier.
TIERS = ([("one", 1), ("two", 0)], ["three"])


@asynccontextmanager
async def models(
    *scripts: Script,
    within: int = 0,
    tiers: Sequence[Any] = TIERS,
    idle_ms: int = 400,
    **fields: Any,
) -> AsyncGenerator[tuple[Gateway, list[Scripted]]]:
    """Run a gateway whose backends are one, two and three, each playing its script."""
    names = ["one", "two", "three"][: len(scripts)]
    async with scripted_all(*scripts) as upstreams:
        backends = [
            external(name, upstream.url, pricing=PRICES, timeouts={"idle_ms": idle_ms})
            for name, upstream in zip(names, upstreams, strict=True)
        ]
        chosen = failover(*tiers, restart_within_chars=within, **fields)
        async with gateway(chosen, *backends) as gw:
            yield gw, upstreams
            # Whatever happened, nothing is held.
            await until(lambda: in_flight(gw) == 0 and len(gw.plane.live) == 0)


@asynccontextmanager
async def scripted_all(*scripts: Script) -> AsyncGenerator[list[Scripted]]:
    async with scripted(*scripts[0]) as first:
        if len(scripts) == 1:
            yield [first]
        else:
            async with scripted_all(*scripts[1:]) as others:
                yield [first, *others]


def last_event(reply: Reply) -> Any:
    return orjson.loads(reply.body[:-2].rpartition(b"\n\n")[2].removeprefix(b"data: "))


@pytest.mark.parametrize(
    "keep_alive",
    [
        b": ping\n\n",
        b"data:\n\n",
        b"data: {}\n\n",
        b'event: ping\ndata: {"type":"ping"}\n\n',
        ROLE,
        said(""),
        said(delta={"role": "assistant", "content": "", "tool_calls": [], "refusal": None}),
        event(choices=[], usage=None),
    ],
)
async def test_what_says_nothing_does_not_keep_a_stream_alive(keep_alive: bytes) -> None:
    script = (STREAM_HEAD, said("hi"), *(keep_alive, 0.1) * 30)
    async with models(script) as (gw, _):
        reply = await gw.send(chat(stream=True))
        error = last_event(reply)["error"]
        assert (error["code"], "no content" in error["message"]) == ("upstream_timeout", True)
        assert (await gw.outcome()).duration_s < 2 * IDLE_MS / 1000 + 0.5


@pytest.mark.parametrize(
    "progress",
    [
        said("word "),
        said(delta={"reasoning_content": "hm"}),
        said(delta={"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}),
        event(choices=[{"index": 0, "text": "word "}]),
        b'data: {"choices": [{"delta": {"content": "spaced"}}]}\r\n\r\n',
        b'id: 1\ndata: {"choices": [{"delta":\ndata: {"content": "lines"}}]}\n\n',
    ],
)
async def test_content_of_any_kind_keeps_a_stream_alive(progress: bytes) -> None:
    """For longer than the idle timeout, and with pauses well below it."""
    async with models((STREAM_HEAD, *(progress, 0.15) * 6, END, DONE)) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert reply.body == progress * 6 + END + DONE
        assert (await gw.outcome()).error == ""


@pytest.mark.parametrize(
    ("by", "code"),
    [
        ((None,), "upstream_reset"),
        ((), "upstream_reset"),
        ((b'data: {"choices":[{"del',), "upstream_reset"),
        ((b": " + b"x" * 9_000_000,), "upstream_protocol"),
        ((2.0,), "upstream_timeout"),
        ((UPSTREAM_ERROR,), "upstream_server_error"),
        ((UPSTREAM_ERROR, DONE), "upstream_server_error"),
        ((b'event: error\ndata: {"message":"x","code":503}\n\n',), "upstream_overloaded"),
        ((UPSTREAM_ERROR.removesuffix(b"\n"),), "upstream_server_error"),
    ],
    ids=["cut", "end", "half", "huge", "stall", "error", "error-done", "named", "unterminated"],
)
async def test_a_break_ends_with_an_error_event_that_says_what_was_used(
    by: Script, code: str
) -> None:
    # Only the one that stalls is to be idle: nine megabytes take a busy machine half a second.
    idle_ms = 400 if code == "upstream_timeout" else 5_000
    async with models(broken(said("Hel"), said("lo"), by=by), idle_ms=idle_ms) as (gw, _):
        reply = await gw.send(chat("x" * 40, stream=True))
        assert reply.body.startswith(said("Hel") + said("lo"))
        assert reply.text == "Hello"
        error = last_event(reply)["error"]
        assert {"message", "type", "param", "code", "usage"} == set(error)
        assert (error["code"], "10.0.0.7" in error["message"]) == (code, False)
        assert error["usage"] == {
            "prompt_tokens": 10,
            "completion_tokens": 2,
            "total_tokens": 12,
            "estimated": True,
        }
        assert b"[DONE]" not in reply.body
        outcome = await gw.outcome()
        assert (outcome.error, outcome.breaks) == (code, ("ai/one",))
        assert (outcome.input_tokens, outcome.output_tokens, outcome.estimated) == (10, 2, True)
        assert outcome.cost_microdollars == 14.0
        assert errors_of(gw, "one") == 1.0
        breaks = await metric(gw, "switchboard_stream_breaks_total")
        assert breaks == {'{backend="ai/one",policy="ai/chat"}': 1}


async def test_broken_framing_below_the_events_is_a_break() -> None:
    head = STREAM_HEAD.replace(b"connection: close", b"transfer-encoding: chunked")
    content = said("Hel")
    chunk = b"%x\r\n%b\r\n" % (len(content), content)
    async with models((head, chunk, SOON, b"no size\r\n" + chunk, 1.0)) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert reply.body.startswith(content + b'data: {"error"')
        assert last_event(reply)["error"]["code"] == "upstream_protocol"
        assert (await gw.outcome()).breaks == ("ai/one",)


async def test_an_error_that_comes_with_the_first_content_is_failed_over() -> None:
    """Nothing has gone out yet."""
    async with models((STREAM_HEAD, said("Hel") + UPSTREAM_ERROR), WHOLE) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert reply.body == b"".join(one for one in WHOLE[1:] if isinstance(one, bytes))
        outcome = await gw.outcome()
        assert [one.failure for one in outcome.attempts][-1] == ""
        assert outcome.breaks == ()


async def test_an_error_of_the_callers_own_is_passed_on_and_breaks_nothing() -> None:
    refusal = event(error={"message": "the answer was filtered", "code": 400})
    async with models(broken(said("hi"), by=(refusal, DONE)), WHOLE, within=200) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert reply.body == said("hi") + refusal
        outcome = await gw.outcome()
        assert (outcome.error, outcome.breaks) == ("upstream_error_event", ())
        assert errors_of(gw, "one") == 0.0


@pytest.mark.parametrize(
    "garbage",
    [b"data: no json\n\n", b"data: \xff\xfe\n\n", b"\x00\x01\n\n", b"data: [1\r\n\r\n", b"\n\n\n"],
)
async def test_garbage_between_content_passes_through(garbage: bytes) -> None:
    async with models(broken(said("hi"), by=(garbage, SOON, END, DONE))) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert reply.body == said("hi") + garbage + END + DONE
        assert (await gw.outcome()).error == ""


@pytest.mark.parametrize("end", [(END,), (END, None), (DONE,), (END, UPSTREAM_ERROR, DONE)])
async def test_what_is_complete_is_not_broken_by_what_follows(end: Script) -> None:
    async with models(broken(said("hi"), by=(*end[:1], SOON, *end[1:]))) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert reply.body == said("hi") + b"".join(one for one in end if isinstance(one, bytes))
        outcome = await gw.outcome()
        assert (outcome.error, outcome.breaks) == ("", ())


async def test_one_of_two_choices_that_ended_does_not_make_an_answer_complete() -> None:
    async with models(broken(said("hi"), END, by=())) as (gw, _):
        reply = await gw.send(chat(stream=True, n=2))
        assert last_event(reply)["error"]["code"] == "upstream_reset"


@pytest.mark.parametrize("by", [(None,), (), (2.0,), (UPSTREAM_ERROR, DONE)])
async def test_a_stream_that_breaks_early_is_answered_anew_by_the_next(by: Script) -> None:
    async with models(broken(said("Hel"), by=by), WHOLE, within=200, attempts=3) as (gw, ups):
        reply = await gw.send(chat("x" * 40, stream=True))
        begun, _, anew = reply.body.partition(RESTART)
        assert begun == said("Hel")
        assert anew.endswith(said("Hello, ") + said("world") + END + DONE)
        assert b"role" not in anew, "the caller has been told"
        assert b'"error"' not in reply.body
        assert ups[0].seen[0].partition(b"\r\n\r\n")[2] == ups[1].seen[0].partition(b"\r\n\r\n")[2]
        outcome = await gw.outcome()
        assert (outcome.status, outcome.error, outcome.backend) == (200, "", "ai/two")
        assert outcome.breaks == ("ai/one",)
        assert errors_of(gw, "one") >= 1.0
        assert errors_of(gw, "two") == 0.0


def told(reply: Reply) -> dict[str, str]:
    """What the comment of a restart says."""
    comment = reply.body.partition(RESTART)[2].partition(b"\n\n")[0].decode()
    return dict(line.removeprefix(": ").split(": ") for line in comment.splitlines())


async def test_a_restart_says_who_answers_now_where_headers_cannot() -> None:
    async with models(broken(said("Hel")), WHOLE, within=99) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert reply.headers["x-switchboard-backend"] == "ai/one", "it had gone out"
        assert told(reply) == {
            "x-switchboard-backend": "ai/two",
            "x-switchboard-rule": "default",
            "x-switchboard-tier": "tier-0",
            "x-switchboard-attempts": "2",
            "x-switchboard-revision": reply.headers["x-switchboard-revision"],
            "x-switchboard-reason": "fallback:reset",
        }
        outcome = await gw.outcome()
        assert (outcome.backend, outcome.tier) == ("ai/two", "tier-0")
        labels = '{backend="ai/two",policy="ai/chat",rule="default",tier="tier-0"}'
        assert await metric(gw, "switchboard_decisions_total") == {labels: 1}
        assert await metric(gw, "switchboard_fallbacks_total") == {labels: 1}


async def test_a_restart_says_no_more_than_headers_may() -> None:
    async with (
        scripted(*broken(said("Hel"))) as one,
        scripted(*WHOLE) as two,
        gateway(
            failover("one", "two", restart_within_chars=99),
            external("one", one.url),
            external("two", two.url),
            detail_headers=False,
        ) as gw,
    ):
        reply = await gw.send(chat(stream=True))
        assert reply.body.startswith(said("Hel") + RESTART + b"\n" + said(delta={}))
        assert b"ai/two" not in reply.body


async def test_chunks_name_the_model_that_wrote_them() -> None:
    """Its own name for itself, as it is; the one that was asked for is an alias."""
    one = event(model="m-1", choices=[{"index": 0, "delta": {"content": "Hel"}}])
    two = event(model="m-2", choices=[{"index": 0, "delta": {"content": "lo"}}])
    async with models(broken(one), (STREAM_HEAD, two, END, DONE), within=99) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert [one["model"] for one in reply.events if "model" in one] == ["m-1", "m-2"]
    async with models((http(500, b"{}"),), (STREAM_HEAD, two, END, DONE)) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert reply.body == two + END + DONE
        assert reply.headers["x-switchboard-backend"] == "ai/two"
        assert (await gw.outcome()).upstream_model == "fake-model"


async def test_a_restart_goes_elsewhere_before_it_comes_back() -> None:
    async with models(broken(said("Hel")), WHOLE, within=99, tiers=["one", "two"]) as (gw, ups):
        reply = await gw.send(chat(stream=True))
        assert reply.text == "HelHello, world"
        assert [len(one.seen) for one in ups] == [1, 1]


async def test_an_endpoint_that_is_the_only_one_is_asked_again() -> None:
    async with models(broken(said("Hel")), within=99, attempts=2, tiers=["one"]) as (gw, ups):
        reply = await gw.send(chat(stream=True))
        assert reply.body.startswith(said("Hel") + RESTART)
        assert reply.text == "HelHel"
        assert "error" in last_event(reply)
        assert len(ups[0].seen) == 2


async def test_both_attempts_of_a_restart_are_accounted() -> None:
    async with models(broken(said("Hel"), said("lo")), WHOLE, within=200) as (gw, _):
        reply = await gw.send(chat("x" * 40, stream=True))
        assert reply.text == "HelloHello, world"
        outcome = await gw.outcome()
        first, second = outcome.attempts
        assert (first.backend, first.failure) == ("ai/one", "reset")
        assert (first.input_tokens, first.output_tokens, first.cost_microdollars) == (10, 2, 14.0)
        assert (second.backend, second.failure) == ("ai/two", "")
        assert (outcome.input_tokens, outcome.output_tokens) == (10, 2)
        assert outcome.cost_microdollars == 14.0
        costs = await metric(gw, "switchboard_cost_microdollars_total")
        (cost_of_one,) = (cost for labels, cost in costs.items() if '"ai/one"' in labels)
        assert cost_of_one == 14.0
        attempts = await metric(gw, "switchboard_attempts_total")
        assert attempts['{backend="ai/one",reason="reset"}'] == 1


@pytest.mark.parametrize(
    ("events", "fields"),
    [
        ([said("x" * 21)], {}),
        ([said("x" * 10)] * 3, {}),
        ([said(delta={"reasoning_content": "x" * 21})], {}),
        ([said(delta={"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]})], {}),
        ([said("x"), b"data: garbage\n\n"], {}),
        ([said("x")], {"n": 2}),
    ],
    ids=["more", "more-in-pieces", "reasoning", "tool-call", "garbage", "two-choices"],
)
async def test_what_cannot_be_said_twice_is_not_restarted(
    events: list[bytes], fields: dict[str, Any]
) -> None:
    async with models(broken(*events), WHOLE, within=20) as (gw, ups):
        reply = await gw.send(chat(stream=True, **fields))
        assert last_event(reply)["error"]["code"] == "upstream_reset"
        assert (RESTART in reply.body, ups[1].seen) == (False, [])


async def test_content_up_to_the_bound_is_restarted() -> None:
    async with models(broken(said("é" * 10), said("x" * 10)), WHOLE, within=20) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert reply.text == "é" * 10 + "x" * 10 + "Hello, world"


async def test_the_bound_holds_over_all_restarts() -> None:
    scripts = [broken(said("x" * 15)), broken(said("y" * 15)), WHOLE]
    async with models(*scripts, within=20, attempts=9) as (gw, ups):
        reply = await gw.send(chat(stream=True))
        assert "error" in last_event(reply)
        assert reply.body.count(RESTART) == 1
        assert ups[2].seen == []
        usage = last_event(reply)["error"]["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (4, 2)


async def test_a_restart_keeps_to_the_guardrails() -> None:
    forbids = ir.Guardrail(name="never-two", policy="ai/chat", forbids=("ai/two",))
    async with models(broken(said("x")), WHOLE, within=99, guardrails=(forbids,)) as (gw, ups):
        reply = await gw.send(chat(stream=True))
        assert "error" in last_event(reply)
        assert ups[1].seen == []


async def test_a_restart_keeps_to_the_attempts() -> None:
    async with models(broken(said("x")), WHOLE, within=99, attempts=1) as (gw, ups):
        reply = await gw.send(chat(stream=True))
        assert last_event(reply)["error"]["code"] == "upstream_reset"
        assert ups[1].seen == []


async def test_a_restart_keeps_to_the_deadline() -> None:
    slow = broken(said("x"), by=(0.2, None))
    async with models(slow, WHOLE, within=99) as (gw, ups):
        reply = await gw.send(chat(stream=True), x_switchboard_deadline_ms="200")
        assert last_event(reply)["error"]["code"] == "upstream_reset"
        assert ups[1].seen == []


async def test_a_restart_that_nothing_answers_ends_with_the_last_failure() -> None:
    overloaded = (http(503, b"{}"),)
    async with models(broken(said("Hel")), overloaded, within=99, attempts=2) as (gw, _):
        reply = await gw.send(chat("x" * 40, stream=True))
        assert reply.body.startswith(said("Hel") + b"data: ")
        error = last_event(reply)["error"]
        assert error["code"] == "upstream_overloaded"
        assert error["usage"]["prompt_tokens"] == 10
        outcome = await gw.outcome()
        assert (outcome.status, len(outcome.attempts)) == (200, 2)
        assert outcome.attempts[0].cost_microdollars == 12.0


async def test_an_answer_that_cannot_stand_in_a_stream_does_not_replace_one() -> None:
    refusal = (http(400, b'{"error":{"message":"no"}}'),)
    async with models(broken(said("Hel")), refusal, within=99, attempts=2) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert last_event(reply)["error"]["code"] == "upstream_reset"
        assert reply.events[0]["choices"]


async def test_a_caller_that_leaves_during_a_restart_cancels_it() -> None:
    hanging = (STREAM_HEAD, 30.0)
    async with models(broken(said("Hel")), hanging, within=99) as (gw, ups):
        reader, writer = await ask(gw)
        await reader.readuntil(b"Hel")
        await until(lambda: bool(ups[1].seen))
        assert in_flight(gw) == 1
        writer.transport.abort()
        await until(lambda: ups[1].closed == 1, within_s=0.5)
        outcome = await gw.outcome()
        assert (outcome.caller_left, in_flight(gw)) == (True, 0)
        assert [one.failure for one in outcome.attempts][-1] == "cancelled"


async def test_an_endpoint_whose_streams_all_break_is_left_out() -> None:
    async with models(broken(said("Hel")), WHOLE, tiers=["one", "two"]) as (gw, ups):
        for _ in range(8):
            await gw.send(chat(stream=True))
        assert len(ups[0].seen) == 5, "that many failures in a row open a breaker"
        assert len(ups[1].seen) == 3
