"""Callers that take room or time: endless and oversized requests, slow ones, and bombs.

More of the same: tests/unit/dataplane/test_lane.py and test_bodies.py (each limit to the byte),
tests/integration/virtual/test_survive_slow_callers.py (callers that do not read), and
tests/integration/test_bad_input.py.
"""

import asyncio
import gzip
import io
import time
from collections.abc import AsyncIterator

import orjson
import pytest

from fakes.defences import off, passes, without
from fakes.echoing_gateway import called, serving
from fakes.gateway import HELLO, chat
from fakes.lane_wire import PlainLane, split_answers
from fakes.raw_caller import RawCaller, request
from fakes.virtual_time import now_s
from switchboard_dataplane.front import aiohttp_front, lane
from switchboard_dataplane.front.routes import Patience, Routes

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
LIMIT_BYTES = 20_000
#: A caller is given up after this, where it is bounded.
SOON_S = 0.2

each_front = pytest.mark.usefixtures("each_front")
#: With the bound, and with one so wide that the attack goes on.
bounded = pytest.mark.parametrize("bounded", [True, False], ids=["bounded", "unbounded"])


async def outlives(caller: RawCaller, *pieces: bytes) -> bool:
    """Dribble these, again and again; say whether well after its time no answer and no end came."""
    ended = asyncio.create_task(caller.reader.read(1))
    until = now_s() + 4 * SOON_S
    while now_s() < until and not ended.done():
        for piece in pieces:
            caller.writer.write(piece)
            await asyncio.sleep(0.02)
    alive = not ended.done()
    ended.cancel()
    return alive


# --- slowness ------------------------------------------------------------------------------------


@each_front
@bounded
@pytest.mark.parametrize("begun", [b"", HEAD, HEAD + b"x-a"], ids=["nothing", "lines", "name"])
async def test_a_head_that_dribbles_is_given_up(bounded: bool, begun: bytes) -> None:
    patience = Patience(head_s=SOON_S if bounded else 60.0, sweep_s=0.05)
    async with called(patience=patience) as caller:
        await caller.write(begun)
        assert await outlives(caller, b"a" if begun else b"") is not bounded


@each_front
@bounded
@pytest.mark.parametrize(
    ("head", "piece"),
    [(HEAD + b"content-length: 10000\r\n\r\n", b" "), (CHUNKED, b"1\r\n \r\n")],
    ids=["sized", "chunked"],
)
async def test_a_body_that_dribbles_is_given_up(bounded: bool, head: bytes, piece: bytes) -> None:
    patience = Patience(body_s=SOON_S if bounded else 60.0, sweep_s=0.05, linger_s=0.05)
    async with called(patience=patience) as caller:
        await caller.write(head)
        assert await outlives(caller, piece) is not bounded


@each_front
@bounded
async def test_an_idle_connection_is_not_kept_for_ever(bounded: bool) -> None:
    patience = Patience(idle_s=SOON_S if bounded else 60.0, sweep_s=0.05)
    async with called(patience=patience) as caller:
        await caller.write(request("hi"))
        await caller.answer()
        assert await outlives(caller, b"") is not bounded


# --- size ----------------------------------------------------------------------------------------


@each_front
@bounded
@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "sized"])
async def test_a_body_beyond_the_limit_is_not_read(bounded: bool, chunked: bool) -> None:
    body = orjson.dumps(chat("x" * 2 * LIMIT_BYTES))
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(body)
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    limit = LIMIT_BYTES if bounded else 100 * LIMIT_BYTES
    async with called(body_limit_bytes=limit) as caller:
        await caller.write(HEAD + framing + b"\r\n\r\n" + sent)
        assert (await caller.answer()).status == (413 if bounded else 200)


@each_front
@bounded
async def test_bodies_that_never_end_do_not_pile_up(bounded: bool) -> None:
    """Each of many callers stays below the limit of one; together they are bounded too."""
    held = LIMIT_BYTES if bounded else 100 * LIMIT_BYTES
    async with serving(body_limit_bytes=LIMIT_BYTES, bodies_limit_bytes=held) as (gw, _):
        statuses = [one async for one in unfinished(gw.plane.port, number=4)]
    assert (408 in statuses) is bounded


async def unfinished(port: int, *, number: int) -> AsyncIterator[int]:
    """Send most of a body on each of many connections; yield what is answered meanwhile."""
    open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(number)]
    for _, writer in open_ones:
        size = LIMIT_BYTES * 3 // 4
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % LIMIT_BYTES + b" " * size)
        await writer.drain()
        await asyncio.sleep(0.05)
    for reader, writer in open_ones:
        try:
            first = await asyncio.wait_for(reader.readline(), 0.5)
            yield int(first.split()[1])
        except TimeoutError:
            yield 0
        writer.transport.abort()


ENDLESS = {
    "target": (b"POST /" + b"a" * 1_000_000, "HEAD_BYTES_MAX"),
    "header": (HEAD + b"x: " + b"a" * 1_000_000, "HEAD_BYTES_MAX"),
    "trailer": (CHUNKED + b"0\r\nx: " + b"a" * 1_000_000, "FRAMING_BYTES_MAX"),
    "trailers": (CHUNKED + b"0\r\n" + b"x: y\r\n" * 160_000, "FRAMING_BYTES_MAX"),
    "extension": (CHUNKED + b"2;" + b"a" * 1_000_000, "FRAMING_BYTES_MAX"),
}


@without(off(lane, "HEAD_BYTES_MAX", 10**9), off(lane, "FRAMING_BYTES_MAX", 10**9))
@pytest.mark.parametrize("attack", ENDLESS)
async def test_what_never_ends_is_refused(defended: bool, attack: str) -> None:
    endless, _ = ENDLESS[attack]
    plain = PlainLane()
    for start in range(0, len(endless), 50_000):
        await plain.send(endless[start : start + 50_000])
    statuses = [one.status for one in split_answers(bytes(plain.transport.written))]
    assert (statuses == [400]) is plain.transport.ended is defended
    await plain.leave()


@without(off(lane, "HEADERS_MAX", 10**9), off(lane, "HEAD_BYTES_MAX", 10**9))
async def test_more_headers_than_anybody_sends_are_refused(defended: bool) -> None:
    lines = b"".join(b"x-%d: a\r\n" % number for number in range(20_000))
    plain = PlainLane()
    told = await plain.send(HEAD + lines + b"content-length: 2\r\n\r\nhi")
    assert [one.status for one in split_answers(told)] == [400 if defended else 200]
    await plain.leave()


@each_front
async def test_the_aiohttp_form_of_the_port_has_the_same_limits() -> None:
    for attack in ("target", "header"):
        async with called() as caller:
            caller.writer.write(ENDLESS[attack][0][:100_000])
            told = await asyncio.wait_for(caller.reader.readline(), 5)
        assert told.split()[1] == b"400"


# --- bombs ---------------------------------------------------------------------------------------


@without(
    off(Routes, "check_body", passes()),
    off(aiohttp_front, "_OPTIONS", {**aiohttp_front._OPTIONS, "auto_decompress": True}),
)
async def test_a_body_that_unpacks_to_a_thousand_times_its_size_is_refused(
    defended: bool,
) -> None:
    body = gzip.compress(orjson.dumps(chat("x" * 1_000_000)))
    assert len(body) < 5_000
    head = HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with called(lane=False) as caller:
        await caller.write(head + body)
        assert (await caller.answer()).status == (400 if defended else 200)


def nested(depth: int) -> bytes:
    return b'{"model": "chat", "messages": ' + b"[" * depth + b"]" * depth + b"}"


BOMBS: dict[str, bytes] = {
    "nested-lists": nested(1_000_000),
    "nested-objects": b'{"messages":' * 300_000 + b"1" + b"}" * 300_000,
    "never-closed": b"[" * 2_000_000,
    "digits": b'{"model": "chat", "max_tokens": ' + b"9" * 1_000_000 + b"}",
    "exponent": b'{"model": "chat", "max_tokens": 1e999999999}',
    "negative": orjson.dumps({"model": "chat", "messages": HELLO, "max_tokens": -(2**62)}),
    "escapes": b'{"model": "' + rb"\ud800" * 300_000 + b'"}',
    "one-key-again-and-again": b"{" + b'"model": "chat", ' * 200_000 + b'"messages": 1}',
    "no-utf-8": b'{"model": "\xff\xfe"}',
}


@each_front
@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_body_that_is_a_bomb_is_refused_at_once(bomb: str) -> None:
    """The parser is orjson, which bounds depth: there is nothing here to switch off."""
    async with serving() as (gw, model):
        # Its own work: a machine that stands still is nobody's fault.
        began = time.process_time()
        reply = await gw.send(BOMBS[bomb])
        assert (reply.status, time.process_time() - began < 2) == (400, True)
        assert model.requests == []
        assert (await gw.send(chat())).status == 200


@pytest.mark.parametrize("bomb", ["nested-lists", "never-closed", "escapes"])
async def test_the_admin_port_takes_no_bomb_either(bomb: str) -> None:
    async with serving() as (gw, _):
        async with gw.session.post(
            gw.admin_url + "/explain", data=io.BytesIO(b'{"body": ' + BOMBS[bomb] + b"}")
        ) as reply:
            assert 400 <= reply.status < 500
        assert (await gw.admin("/livez")).status == 200
