"""A model server, or whoever has taken its place, that answers to do harm.

More of the same: tests/unit/dataplane/test_connection_framing.py (an answer's framing, byte by
byte), tests/integration/virtual/test_upstream_exchange.py and test_survive_oddities.py.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from fakes.defences import off, passes, without
from fakes.gateway import (
    DONE,
    STREAM_HEAD,
    Reply,
    chat,
    external,
    failover,
    gateway,
    http,
    said,
    scripted,
)
from switchboard_dataplane.upstream import attempt, connection
from switchboard_dataplane.wire import events, headers, response_heads

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
ANSWER = b'{"choices": [{"message": {"content": "well"}}], "model": "m"}'
FOR_EVER = {"connect_ms": 500, "first_token_ms": 60_000, "idle_ms": 60_000, "total_ms": 60_000}


async def answer_to(
    *script: bytes | float, stream: bool = False, timeouts: dict[str, int] | None = None
) -> Reply:
    """Ask a gateway whose upstream answers like this."""
    async with scripted(*script) as model:
        backend = external("a", model.url, timeouts=timeouts or {})
        async with gateway(failover("a"), backend) as gw:
            return await gw.send(chat(stream=stream))


def piled(*pieces: bytes, times: int) -> Sequence[bytes]:
    """The same again and again, in pieces that come one by one."""
    return [b"".join(pieces) * (times // 20)] * 20


# --- answers that never end ----------------------------------------------------------------------


@without(off(connection, "HEAD_BYTES_MAX", 10**9), off(connection, "FRAMING_BYTES_MAX", 10**9))
@pytest.mark.parametrize(
    "line", [b"server: %b\r\n" % (b"a" * 900), b"date: y\r\n"], ids=["long", "many"]
)
async def test_a_head_that_never_ends_is_cut_off(defended: bool, line: bytes) -> None:
    lines = piled(line, times=1_000_000 // len(line))
    end = b"content-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
    reply = await answer_to(OK, *lines, end)
    assert reply.status == (502 if defended else 200)


@without(off(connection, "FRAMING_BYTES_MAX", 10**9))
async def test_chunks_without_a_body_are_cut_off(defended: bool) -> None:
    begun = OK + b"transfer-encoding: chunked\r\n\r\n%x;" % len(ANSWER)
    extension = [one for _ in range(20) for one in (b"e" * 20_000, 0.005)]
    reply = await answer_to(begun, *extension, b"\r\n", ANSWER, b"\r\n0\r\n\r\n")
    assert reply.status == (502 if defended else 200)


@without(off(attempt, "ANSWER_BYTES_MAX", 10**9))
async def test_an_answer_beyond_measure_is_not_held(
    defended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if defended:
        # Its own limit takes a while to reach.
        monkeypatch.setattr(attempt, "ANSWER_BYTES_MAX", 1_000_000)
    body = ANSWER[:-1] + b', "x": "' + b"x" * 2_000_000 + b'"}'
    reply = await answer_to(http(200, body))
    assert reply.status == (502 if defended else 200)


@without(off(attempt, "OPENING_BYTES_MAX", 10**9))
async def test_events_that_say_nothing_are_cut_off(defended: bool) -> None:
    nothing = piled(b": keep-alive\n\n", times=200_000)
    end = (said("well"), said(finish_reason="stop"), DONE)
    reply = await answer_to(STREAM_HEAD, *nothing, *end, stream=True, timeouts=FOR_EVER)
    assert reply.status == (502 if defended else 200)


@without(off(events, "EVENT_BYTES_MAX", 10**9))
async def test_an_event_that_never_ends_is_cut_off(
    defended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if defended:
        monkeypatch.setattr(events, "EVENT_BYTES_MAX", 500_000)
    monkeypatch.setattr(attempt, "OPENING_BYTES_MAX", 10**9)
    endless = b": " + b"a" * 1_000_000 + b"\n\n"
    end = (said("well"), said(finish_reason="stop"), DONE)
    reply = await answer_to(STREAM_HEAD, endless, *end, stream=True, timeouts=FOR_EVER)
    assert reply.status == (502 if defended else 200)


@pytest.mark.parametrize("bounded", [True, False], ids=["bounded", "unbounded"])
@pytest.mark.parametrize("place", ["head", "body", "stream"])
async def test_an_answer_that_dribbles_is_given_up(bounded: bool, place: str) -> None:
    before = {"head": OK, "body": OK + b"content-length: 900\r\n\r\n", "stream": STREAM_HEAD}
    piece = {"head": b"x: y\r\n", "body": b" ", "stream": b": still here\n\n"}[place]
    script = [one for _ in range(40) for one in (piece, 0.05)]
    bound = {"first_token_ms": 300, "idle_ms": 300, "total_ms": 500} if bounded else FOR_EVER
    reply = await answer_to(before[place], *script, stream=place == "stream", timeouts=bound)
    # Unbounded it is waited for until it breaks off.
    assert reply.status == (504 if bounded else 502)


# --- answers that lie ----------------------------------------------------------------------------


LIES = {
    "shorter-than-said": OK + b"content-length: 9999\r\n\r\n" + ANSWER,
    "two-lengths": OK + b"content-length: 2\r\ncontent-length: 61\r\n\r\n" + ANSWER,
    "length-and-chunks": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "no-number": OK + b"content-length: many\r\n\r\n" + ANSWER,
    "chunk-that-overflows": OK + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}",
    "another-protocol": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n",
    "endless-interim": b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    "no-http": b"SSH-2.0-OpenSSH_9.6\r\n",
    "compressed": OK + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    "no-json": http(200, b"<html>"),
    "nested": http(200, b"[" * 500_000),
}


@pytest.mark.parametrize("lie", LIES)
async def test_an_answer_that_lies_is_a_failure_and_the_next_candidate_serves(lie: str) -> None:
    async with scripted(LIES[lie]) as liar, scripted(http(200, ANSWER)) as good:
        backends = external("a", liar.url), external("b", good.url)
        async with gateway(failover("a", "b"), *backends) as gw:
            reply = await gw.send(chat())
    assert (reply.status, reply.body) == (200, ANSWER)


@without(off(headers, "_goes_back", passes(value=True)))
@pytest.mark.parametrize("header", ["set-cookie: session=1", "x-switchboard-arm: other"])
async def test_an_upstream_says_nothing_in_the_gateways_name(defended: bool, header: str) -> None:
    reply = await answer_to(OK + header.encode() + b"\r\n\r\n" + ANSWER)
    name, _, value = header.partition(": ")
    assert (reply.headers.get(name) == value) is not defended


@without(
    off(response_heads, "header_lines", lambda pairs: "".join(f"{n}: {v}\r\n" for n, v in pairs))
)
def test_a_line_break_in_a_header_begins_none(defended: bool) -> None:
    """The parser refuses it first; here it has let one pass, and nothing else does."""
    heads = response_heads.ResponseHeads(clock=lambda: 0.0, today=_today)
    pairs = [("x", "a\r\nset-cookie: session=1")]
    if defended:
        with pytest.raises(ValueError, match="line break"):
            heads.streamed(200, pairs, close=False, old=False)
    else:
        told = heads.streamed(200, pairs, close=False, old=False)
        assert b"\r\nset-cookie: session=1\r\n" in told


def _today() -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC)
