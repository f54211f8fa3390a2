"""Through real sockets: streams pass unchanged, and whatever breaks them, they end well-formed."""

import asyncio
from typing import Any

import orjson
import pytest

from fakes.gateway import (
    CHAT,
    DONE,
    STREAM_HEAD,
    Gateway,
    chat,
    event,
    external,
    failover,
    fakes,
    gateway,
    said,
    scripted,
    until,
)

pytestmark = pytest.mark.usefixtures("each_front")

PATIENT = {"first_token_ms": 20_000, "idle_ms": 20_000, "total_ms": 60_000}
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
USAGE_EVENT = event(choices=[], usage=USAGE)
END = said(finish_reason="stop")


async def stream_of(*script: bytes | float | None, **fields: Any) -> tuple[bytes, Gateway]:
    """Send a streamed request to an upstream that plays the script; return what came."""
    async with (
        scripted(STREAM_HEAD, *script) as model,
        gateway(failover("model"), external("model", model.url, timeouts={"idle_ms": 400})) as gw,
    ):
        reply = await gw.send(chat(stream=True, **fields))
        assert reply.status == 200, reply.body
        await gw.outcome()
        return reply.body, gw


async def test_a_stream_passes_through_byte_for_byte() -> None:
    odd = b': hi\r\n\r\ndata:  {"choices":[{"delta":{"content":"\\u00e9"}}] }\r\n\r\n'
    odd += b"id: 7\ndata: {}\n\n"
    body, _ = await stream_of(odd, END, DONE, stream_options={"include_usage": True})
    assert body == odd + END + DONE


async def test_usage_is_asked_for_and_hidden_where_the_caller_did_not_ask() -> None:
    async with (
        scripted(STREAM_HEAD, said("hi"), END, USAGE_EVENT, DONE) as model,
        gateway(failover("model"), external("model", model.url)) as gw,
    ):
        reply = await gw.send(chat(stream=True))
        assert reply.body == said("hi") + END + DONE
        sent = orjson.loads(model.seen[0].partition(b"\r\n\r\n")[2])
        assert sent["stream_options"] == {"include_usage": True}
        outcome = await gw.outcome()
        assert (outcome.input_tokens, outcome.output_tokens, outcome.estimated) == (7, 2, False)


async def test_usage_stays_in_the_stream_where_the_caller_asked() -> None:
    asked = {"include_usage": True}
    body, gw = await stream_of(said("hi"), END, USAGE_EVENT, DONE, stream_options=asked)
    assert body == said("hi") + END + USAGE_EVENT + DONE
    assert gw.outcomes[0].output_tokens == 2


async def test_usage_beside_choices_is_counted_and_kept() -> None:
    last = event(choices=[{"delta": {}, "finish_reason": "stop"}], usage=USAGE)
    body, gw = await stream_of(said("hi"), last, DONE)
    assert body == said("hi") + last + DONE
    assert gw.outcomes[0].input_tokens == 7


async def test_a_stream_without_usage_is_estimated() -> None:
    _, gw = await stream_of(said("one "), said("two"), END, DONE)
    assert gw.outcomes[0].estimated
    assert gw.outcomes[0].output_tokens


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ((said("hi"), None), "upstream_reset"),
        ((said("hi"),), "upstream_reset"),
        ((said("hi"), b'data: {"choices":[{"del'), "upstream_reset"),
        ((said("hi"), 2.0), "upstream_timeout"),
        ((said("hi"), *(b": ping\n\n", 0.1) * 20), "upstream_timeout"),
    ],
    ids=["reset", "ended", "half-event", "silence", "only-keep-alives"],
)
async def test_a_stream_that_breaks_ends_with_an_error_event(
    script: tuple[bytes | float | None, ...], code: str
) -> None:
    body, gw = await stream_of(*script)
    assert body.startswith(said("hi"))
    assert body.endswith(b"\n\n")
    last = orjson.loads(body[:-2].rpartition(b"\n\n")[2].removeprefix(b"data: "))
    assert last["error"]["code"] == code
    assert b"[DONE]" not in body
    assert b'"del' not in body.replace(b'"delta"', b"")
    outcome = gw.outcomes[0]
    assert (outcome.status, outcome.error, outcome.output_tokens is None) == (200, code, False)
    assert [signal.in_flight for signal in gw.plane.in_force.signals.values()] == [0]


async def test_an_event_that_does_not_end_is_cut_off() -> None:
    body, gw = await stream_of(said("hi"), b"data: " + b"x" * (9 * 1024 * 1024), 1.0)
    assert gw.outcomes[0].error == "upstream_protocol"
    assert len(body) < 1000


async def test_a_stream_that_finished_without_done_is_complete() -> None:
    body, gw = await stream_of(said("hi"), END)
    assert body == said("hi") + END
    assert gw.outcomes[0].error == ""


async def test_a_done_without_an_empty_line_is_passed_whole() -> None:
    body, gw = await stream_of(said("hi"), b"data: [DONE]\n")
    assert body == said("hi") + DONE
    assert gw.outcomes[0].error == ""


async def test_a_total_timeout_ends_a_stream() -> None:
    async with (
        scripted(STREAM_HEAD, *((said("x"), 0.1) * 50)) as model,
        gateway(failover("model"), external("model", model.url, timeouts={"total_ms": 600})) as gw,
    ):
        reply = await gw.send(chat(stream=True))
        assert reply.events[-1]["error"]["code"] == "upstream_timeout"
        assert (await gw.outcome()).duration_s < 2


async def test_a_caller_that_reads_slowly_is_not_an_idle_upstream() -> None:
    """More than the sockets hold, unread for longer than the idle timeout."""
    big = said("x" * 100_000)
    async with (
        scripted(STREAM_HEAD, *([big] * 120), END, DONE) as model,
        gateway(failover("model"), external("model", model.url)) as gw,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", gw.plane.port, limit=1024)
        body = orjson.dumps(chat(stream=True))
        head = (
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}"
        )
        writer.write(head.encode() + b"\r\n\r\n" + body)
        await reader.readexactly(10)
        await asyncio.sleep(1.0)
        rest = await reader.read()
        assert b"[DONE]" in rest
        assert b'"error"' not in rest
        writer.close()
        assert (await gw.outcome()).error == ""


@pytest.mark.parametrize("when", ["whole", "before-headers", "before-first-token", "mid-stream"])
async def test_a_caller_that_leaves_cancels_the_upstream_within_100_ms(when: str) -> None:
    stream = when != "whole"
    script: tuple[bytes | float, ...] = {
        "whole": (30.0,),
        "before-headers": (30.0,),
        "before-first-token": (STREAM_HEAD, said(role="assistant"), 30.0),
        "mid-stream": (STREAM_HEAD, said("hi"), 30.0),
    }[when]
    slow = {"first_token_ms": 20_000, "idle_ms": 20_000, "total_ms": 60_000}
    async with (
        scripted(*script) as model,
        gateway(failover("model"), external("model", model.url, timeouts=slow)) as gw,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", gw.plane.port)
        body = orjson.dumps(chat("x" * 40, stream=stream))
        writer.write(b"POST %b HTTP/1.1\r\nHost: x\r\n" % CHAT.encode())
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await until(lambda: bool(model.seen))
        if when == "mid-stream":
            await reader.readuntil(said("hi").strip())
        else:
            await asyncio.sleep(0.05)
        assert sum(one.in_flight for one in gw.plane.in_force.signals.values()) == 1
        left_at = asyncio.get_running_loop().time()
        writer.transport.abort()
        await until(lambda: model.closed == 1)
        assert asyncio.get_running_loop().time() - left_at < 0.1
        outcome = await gw.outcome()
        assert outcome.caller_left
        assert sum(one.in_flight for one in gw.plane.in_force.signals.values()) == 0
        if when == "mid-stream":
            assert (outcome.input_tokens, outcome.estimated) == (10, True)
        else:
            assert outcome.attempts[-1].failure == "cancelled"


async def test_many_streams_at_once_do_not_mix() -> None:
    async with (
        fakes({"tokens_per_second": 200}, {"tokens_per_second": 200}) as (one, two),
        gateway(
            failover(["one", "two"]),
            # Sixty streams at once on a busy machine may all be late; none must move on.
            external("one", one.url, timeouts=PATIENT),
            external("two", two.url, timeouts=PATIENT),
        ) as gw,
    ):
        replies = await asyncio.gather(*(gw.send(chat(f"n{n}", stream=True)) for n in range(60)))
        for reply in replies:
            name = {"ai/one": "a", "ai/two": "b"}[reply.headers["x-switchboard-backend"]]
            assert reply.text.startswith(f"This is {name} answering")
            assert reply.events[-1] == "[DONE]"
        await gw.outcome(59)
        assert one.engine.records.seen + two.engine.records.seen == 60
        assert min(one.engine.records.seen, two.engine.records.seen) > 10
        assert sum(signal.in_flight for signal in gw.plane.in_force.signals.values()) == 0
