"""A connection to an upstream, without sockets: what it refuses, when it is used again."""

import asyncio

import pytest

from fakes.plain_transport import cut, turns
from fakes.upstream_wire import REQUEST_HEAD, distant_bound, read_answer, wire
from switchboard_dataplane.errors import UpstreamProtocol, UpstreamReset
from switchboard_dataplane.upstream.connection import (
    FRAMING_BYTES_MAX,
    HEAD_BYTES_MAX,
    UNREAD_BYTES_MAX,
    WRITE_BYTES,
)

OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"content-length: 2\r\n\r\nhi"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"

MALFORMED = {
    "length-then-chunked": OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
    "chunked-then-length": OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n",
    "chunked-twice": OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    "chunked-chunked": OK + b"transfer-encoding: chunked, chunked\r\n\r\n",
    "gzip": OK + b"transfer-encoding: gzip\r\n\r\n",
    "gzip-chunked": OK + b"transfer-encoding: gzip, chunked\r\n\r\n",
    "identity": OK + b"transfer-encoding: identity\r\n\r\n",
    "xchunked": OK + b"transfer-encoding: xchunked\r\n\r\n",
    "coding-of-none": OK + b"transfer-encoding:\r\n\r\n",
    "same-length-twice": OK + b"content-length: 2\r\ncontent-length: 2\r\n\r\nhi",
    "two-lengths": OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi",
    "length-list": OK + b"content-length: 2, 2\r\n\r\nhi",
    "length-empty": OK + b"content-length:\r\n\r\nhi",
    "length-hex": OK + b"content-length: 0x2\r\n\r\nhi",
    "length-negative": OK + b"content-length: -2\r\n\r\nhi",
    "length-signed": OK + b"content-length: +2\r\n\r\nhi",
    "length-half": OK + b"content-length: 2.0\r\n\r\nhi",
    "length-huge": OK + b"content-length: 18446744073709551616\r\n\r\nhi",
    "chunk-size-signed": CHUNKED + b"+2\r\nhi\r\n0\r\n\r\n",
    "chunk-size-hex": CHUNKED + b"0x2\r\nhi\r\n0\r\n\r\n",
    "chunk-size-empty": CHUNKED + b"\r\nhi\r\n0\r\n\r\n",
    "chunk-size-text": CHUNKED + b"two\r\nhi\r\n0\r\n\r\n",
    "chunk-size-space": CHUNKED + b"2 \r\nhi\r\n0\r\n\r\n",
    "chunk-size-huge": CHUNKED + b"f" * 17 + b"\r\nhi\r\n0\r\n\r\n",
    "chunk-size-lf": CHUNKED + b"2\nhi\r\n0\r\n\r\n",
    "chunk-without-crlf": CHUNKED + b"2\r\nhi0\r\n\r\n",
    "chunk-with-lf": CHUNKED + b"2\r\nhi\n0\r\n\r\n",
    "chunk-too-long": CHUNKED + b"2\r\nhim\r\n0\r\n\r\n",
    "folded": OK + b"x: a\r\n b\r\ncontent-length: 0\r\n\r\n",
    "folded-first": OK + b" x: a\r\ncontent-length: 0\r\n\r\n",
    "bare-cr": OK + b"x: a\rb\r\ncontent-length: 0\r\n\r\n",
    "bare-lf": OK + b"x: a\ncontent-length: 0\r\n\r\n",
    "nul": OK + b"x: a\0b\r\ncontent-length: 0\r\n\r\n",
    "space-before-colon": OK + b"x : a\r\ncontent-length: 0\r\n\r\n",
    "space-in-name": OK + b"x y: a\r\ncontent-length: 0\r\n\r\n",
    "nameless": OK + b": a\r\ncontent-length: 0\r\n\r\n",
    "no-colon": OK + b"x\r\ncontent-length: 0\r\n\r\n",
    "trailer-folded": CHUNKED + b"0\r\nx: a\r\n b\r\n\r\n",
    "trailer-nul": CHUNKED + b"0\r\nx: a\0b\r\n\r\n",
    "trailer-length": CHUNKED + b"0\r\ncontent-length: 2\r\n\r\n",
    "lf-only": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "status-0": b"HTTP/1.1 000 OK\r\ncontent-length: 0\r\n\r\n",
    "status-99": b"HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
    "status-short": b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
    "status-long": b"HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
    "version-2": b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
    "version-0.9": b"HTTP/0.9 200 OK\r\ncontent-length: 0\r\n\r\n",
    "another-protocol": b"ICY 200 OK\r\n\r\n",
    "http2": b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\x01\0\0\0\x05\0\xff\xff\xff",
    "tls": b"\x15\x03\x01\0\x02\x02\x46",
    "switching": b"HTTP/1.1 101 S\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhello",
}


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_no_http_is_a_protocol_failure_in_whatever_pieces(answer: bytes) -> None:
    for pieces in ([answer], cut(answer, range(len(answer)))):
        read = await read_answer([*pieces, None])
        assert (read.failure, read.reusable) == (UpstreamProtocol, False)


def head_of(size: int) -> bytes:
    """A head of that many bytes, of headers of 1,000 bytes each."""
    end = b"content-length: 2\r\n\r\n"
    lines = OK
    while len(lines) + len(end) < size:
        fill = min(992, size - len(lines) - len(end) - 8)
        lines += b"x-one: " + b"a" * max(fill - 1, 0) + b"\r\n"
    assert len(lines + end) == size
    return lines + end


PIECE_BYTES = [1_000, 10_000, HEAD_BYTES_MAX, 1_000_000]


@pytest.mark.parametrize("piece_bytes", PIECE_BYTES)
async def test_a_head_has_the_same_limit_in_whatever_pieces(piece_bytes: int) -> None:
    fits = head_of(HEAD_BYTES_MAX) + b"hi"
    read = await read_answer(cut(fits, range(0, len(fits), piece_bytes)))
    assert (read.failure, read.body, read.reusable) == (None, b"hi", True)
    over = head_of(HEAD_BYTES_MAX + 1) + b"hi"
    assert (await read_answer(cut(over, range(0, len(over), piece_bytes)))).failure is (
        UpstreamProtocol
    )


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(OK + b"x: " + b"a" * 1_000_000, id="header"),
        pytest.param(OK + b"x: y\r\n" * 200_000, id="headers"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 40_000, id="interim"),
        pytest.param(CHUNKED + b"0\r\nx: " + b"a" * 1_000_000, id="trailer"),
        pytest.param(CHUNKED + b"0\r\n" + b"x: y\r\n" * 200_000, id="trailers"),
        pytest.param(CHUNKED + b"2;" + b"a" * 1_000_000, id="extension"),
        pytest.param(CHUNKED + b"0" * 1_000_000, id="chunk-size"),
    ],
)
@pytest.mark.parametrize("piece_bytes", [5_000, 256 * 1024])
async def test_what_never_ends_is_cut_off(endless: bytes, piece_bytes: int) -> None:
    one = wire()
    exchange = await one.begin()
    taken = 0
    for piece in cut(endless, range(0, len(endless), piece_bytes)):
        if one.connection.usable():
            one.transport.feed(piece)
            taken += len(piece)
    assert taken <= FRAMING_BYTES_MAX + 2 * piece_bytes
    with pytest.raises(UpstreamProtocol):
        await (await exchange).read()


async def test_trailers_are_dropped_and_do_not_count_for_the_next_answer() -> None:
    one = wire()
    trailers = b"x: " + b"a" * (HEAD_BYTES_MAX - 100) + b"\r\n\r\n"
    for _ in range(4):
        exchange = await one.begin()
        for piece in cut(CHUNKED + b"2\r\nhi\r\n0\r\n" + trailers, range(0, 70_000, 9_000)):
            one.transport.feed(piece)
        response = await exchange
        assert await response.read() == b"hi"
        assert response.headers == [("transfer-encoding", "chunked")]
    assert one.told == ["released"] * 4


async def test_a_long_stream_of_small_chunks_is_not_taken_for_framing() -> None:
    one = wire()
    exchange = await one.begin()
    one.transport.feed(CHUNKED)
    response = await exchange
    size = 0
    for _ in range(1_000):
        one.transport.feed(b"1;" + b"e" * 300 + b"\r\n", b"x\r\n")
        size += len(await response.read())
    one.transport.feed(b"0\r\n\r\n")
    assert (size, await response.read(), one.told) == (1_000, b"", ["released"])


async def test_what_comes_without_a_request_closes_the_connection() -> None:
    one = wire()
    one.transport.feed(WHOLE)
    assert not one.connection.usable()
    one = wire()
    exchange = await one.begin()
    one.transport.feed(WHOLE)
    await exchange
    one.transport.feed(b"HTTP/1.1 408 Too slow\r\n\r\n")
    assert not one.connection.usable()


async def test_exchanges_follow_each_other_on_one_connection() -> None:
    one = wire()
    for number in range(3):
        exchange = await one.begin(b"%d" % number)
        before = one.connection.silent
        one.transport.feed(WHOLE)
        assert (before, one.connection.silent) == (True, False)
        assert await (await exchange).read() == b"hi"
    assert one.told == ["released"] * 3
    assert one.transport.written == b"".join(REQUEST_HEAD + b"%d" % n for n in range(3))


async def test_an_interim_answer_leaves_nothing_behind() -> None:
    read = await read_answer(
        [
            b"HTTP/1.1 103 Hints\r\nx: a\r\ncontent-type: text/html\r\ncontent-length: 9\r\n\r\n",
            WHOLE,
        ]
    )
    assert (read.headers, read.body) == ((("content-length", "2"),), b"hi")


async def test_the_media_type_is_that_of_the_answer_itself() -> None:
    one = wire()
    exchange = await one.begin()
    one.transport.feed(b"HTTP/1.1 103 Hints\r\ncontent-type: text/html\r\n\r\n")
    one.transport.feed(WHOLE)
    assert (await exchange).media_type == ""
    exchange = await one.begin()
    one.transport.feed(OK + b"Content-Type:  Text/Event-Stream ; charset=utf-8\r\n")
    one.transport.feed(b"Content-Length: 0\r\n\r\n")
    assert (await exchange).media_type == "text/event-stream"


# --- the end of a connection ---------------------------------------------------------------------


async def test_an_answer_to_the_end_of_the_connection_ends_well_only_with_it() -> None:
    async def end(how: str) -> bytes:
        one = wire()
        exchange = await one.begin()
        one.transport.feed(OK + b"\r\nhi")
        response = await exchange
        assert await response.read() == b"hi"
        match how:
            case "end":
                one.transport.feed(None)
            case "reset":
                one.transport.break_off()
            case _:
                one.connection.abort()
        await turns()
        return await response.read()

    assert await end("end") == b""
    for how in ("reset", "abort"):
        with pytest.raises(UpstreamReset):
            await end(how)


async def test_an_answer_given_up_closes_the_connection_and_a_whole_one_does_not() -> None:
    one = wire()
    exchange = await one.begin()
    one.transport.feed(WHOLE[:-1])
    response = await exchange
    one.transport.feed(WHOLE[-1:])
    response.close()
    assert one.connection.usable()
    exchange = await one.begin()
    one.transport.feed(WHOLE[:-1])
    (await exchange).close()
    assert not one.connection.usable()


async def test_a_connection_that_closes_while_it_is_idle_is_lost_and_not_used() -> None:
    one = wire()
    one.transport.feed(None)
    assert not one.connection.usable()
    await turns()
    assert one.told == ["lost"]


async def test_an_answer_that_says_close_is_the_last() -> None:
    for answer in (
        OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    ):
        read = await read_answer([answer])
        assert (read.body, read.failure, read.reusable) == (b"hi", None, False)
    old = b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi"
    assert (await read_answer([old])).reusable


# --- time and leaving ----------------------------------------------------------------------------


async def test_the_bound_ends_the_wait_for_the_head() -> None:
    one, bound = wire(), distant_bound()
    exchange = await one.begin(bound=bound)
    bound.expire()
    with pytest.raises(TimeoutError):
        await exchange
    assert not one.connection.usable()


async def test_the_bound_ends_the_writing_of_a_body() -> None:
    one, bound = wire(stuck=True), distant_bound()
    exchange = await one.begin(b"x" * WRITE_BYTES * 3, bound=bound)
    bound.expire()
    with pytest.raises(TimeoutError):
        await exchange
    assert not one.connection.usable()


async def test_the_bound_ends_the_reading_of_an_answer_after_what_has_come() -> None:
    one, bound = wire(), distant_bound()
    exchange = await one.begin(bound=bound)
    one.transport.feed(OK + b"\r\nhi")
    response = await exchange
    bound.expire()
    await turns()
    assert await response.read() == b"hi"
    with pytest.raises(TimeoutError):
        await response.read()


async def test_a_bound_that_is_over_ends_an_exchange_as_it_begins() -> None:
    one, bound = wire(), distant_bound()
    bound.expire()
    exchange = await one.begin(b"x" * WRITE_BYTES * 3, bound=bound)
    with pytest.raises(TimeoutError):
        await exchange


async def test_a_bound_and_a_cancellation_that_come_late_do_not_touch_the_next_exchange() -> None:
    one, bound = wire(), distant_bound()
    first = await one.begin(bound=bound)
    one.transport.feed(WHOLE)
    # The answer is here, its task has not run yet, and the connection serves the next request.
    second = asyncio.create_task(one.connection.exchange(REQUEST_HEAD, b"", distant_bound()))
    first.cancel()
    bound.expire()
    await turns()
    assert first.cancelled()
    assert one.connection.usable()
    one.transport.feed(WHOLE)
    assert await (await second).read() == b"hi"


@pytest.mark.parametrize("body", [b"", b"x" * WRITE_BYTES * 3], ids=["small", "big"])
async def test_cancelling_closes_the_connection_at_once(body: bytes) -> None:
    one = wire(stuck=bool(body))
    exchange = await one.begin(body)
    exchange.cancel()
    await turns()
    assert exchange.cancelled()
    assert one.told == ["lost"]


# --- writing -------------------------------------------------------------------------------------


async def test_a_slow_upstream_pauses_the_writing_of_a_big_body() -> None:
    one = wire(stuck=True)
    body = bytes(range(256)) * (WRITE_BYTES // 256) * 3 + b"end"
    exchange = await one.begin(body)
    sent = []
    while len(one.transport.written) < len(REQUEST_HEAD) + len(body):
        sent.append(len(one.transport.written))
        one.transport.take_all()
        await turns()
    assert len(sent) == 3
    assert sent[0] <= len(REQUEST_HEAD) + WRITE_BYTES
    assert one.transport.written == REQUEST_HEAD + body
    one.transport.take_all()
    await turns()
    one.transport.feed(WHOLE)
    assert await (await exchange).read() == b"hi"
    assert one.told == ["released"]


async def test_an_answer_before_the_body_is_written_is_taken_and_ends_the_connection() -> None:
    one = wire(stuck=True)
    exchange = await one.begin(b"x" * WRITE_BYTES * 3)
    one.transport.feed(b"HTTP/1.1 413 Too much\r\ncontent-length: 2\r\n\r\nno")
    response = await exchange
    assert (response.status, await response.read()) == (413, b"no")
    assert not one.connection.usable()


async def test_a_connection_with_half_a_request_on_it_is_never_used_again() -> None:
    one = wire(stuck=True)
    exchange = await one.begin(b"x" * WRITE_BYTES * 3)
    # The buffer is empty, but the next piece has not been written when the answer comes.
    one.transport.take_all()
    one.transport.feed(WHOLE)
    assert await (await exchange).read() == b"hi"
    assert (one.connection.usable(), "released" in one.told) == (False, False)


async def test_an_answer_that_streams_is_read_while_the_body_is_not_wanted() -> None:
    one = wire(stuck=True)
    exchange = await one.begin(b"x" * WRITE_BYTES * 3)
    one.transport.feed(CHUNKED + b"2\r\nhi\r\n")
    response = await exchange
    assert await response.read() == b"hi"
    one.transport.feed(b"0\r\n\r\n")
    assert await response.read() == b""
    assert not one.connection.usable()


async def test_an_upstream_that_ends_the_connection_does_not_wait_for_the_body() -> None:
    one = wire(stuck=True)
    exchange = await one.begin(b"x" * WRITE_BYTES * 3)
    one.transport.feed(None)
    with pytest.raises(UpstreamReset):
        await exchange
    assert one.told == ["lost"]


# --- reading -------------------------------------------------------------------------------------


async def test_reading_pauses_while_nobody_takes_and_goes_on_when_somebody_does() -> None:
    one = wire()
    exchange = await one.begin()
    size = UNREAD_BYTES_MAX * 4
    data = OK + b"content-length: %d\r\n\r\n" % size + b"x" * size
    one.transport.feed(*cut(data, range(0, len(data), 50_000)))
    response = await exchange
    await turns()
    assert one.transport.paused
    total = 0
    while piece := await response.read():
        assert len(piece) <= UNREAD_BYTES_MAX + 50_000
        total += len(piece)
        await turns()
    assert (total, one.told) == (size, ["released"])


async def test_pouring_waits_for_the_listener_and_reads_no_more_meanwhile() -> None:
    one = wire()
    exchange = await one.begin()
    one.transport.feed(CHUNKED + b"2\r\nab\r\n")
    response = await exchange
    taken: list[bytes] = []
    room = asyncio.Event()

    def take(piece: bytes) -> bool:
        taken.append(piece)
        return room.is_set()

    async def ready() -> None:
        await room.wait()

    pouring = asyncio.create_task(response.pour(take, ready))
    await turns()
    assert taken == [b"ab"]
    one.transport.feed(b"2\r\ncd\r\n", b"2\r\nef\r\n", b"0\r\n\r\n")
    await turns()
    assert (taken, one.transport.paused) == ([b"ab", b"cd"], True)
    room.set()
    await pouring
    assert (taken, one.told) == ([b"ab", b"cd", b"ef"], ["released"])


async def test_pouring_takes_up_an_answer_that_had_to_wait() -> None:
    one = wire()
    exchange = await one.begin()
    size = UNREAD_BYTES_MAX * 4
    data = OK + b"content-length: %d\r\n\r\n" % size + b"x" * size
    one.transport.feed(*cut(data, range(0, len(data), 50_000)))
    response = await exchange
    assert one.transport.paused
    taken: list[bytes] = []

    def take(piece: bytes) -> bool:
        taken.append(piece)
        return True

    async with asyncio.timeout(5):
        await response.pour(take, turns)
    assert sum(map(len, taken)) == size


@pytest.mark.parametrize("kind", [ConnectionResetError, UpstreamProtocol])
async def test_what_the_listener_raises_ends_the_pouring_and_the_connection(
    kind: type[Exception],
) -> None:
    one = wire()
    exchange = await one.begin()
    one.transport.feed(CHUNKED)
    response = await exchange
    taken: list[bytes] = []

    def take(piece: bytes) -> bool:
        taken.append(piece)
        raise kind("no more")

    pouring = asyncio.create_task(response.pour(take, turns))
    await turns()
    one.transport.feed(b"2\r\nab\r\n2\r\ncd\r\n")
    with pytest.raises(kind, match="no more"):
        await pouring
    assert taken[0] == b"ab"
    assert not one.connection.usable()


async def test_nothing_is_poured_after_the_pouring_was_given_up() -> None:
    one = wire()
    exchange = await one.begin()
    one.transport.feed(CHUNKED)
    response = await exchange
    taken: list[bytes] = []

    def take(piece: bytes) -> bool:
        taken.append(piece)
        return True

    pouring = asyncio.create_task(response.pour(take, turns))
    await turns()
    one.transport.feed(b"2\r\nab\r\n")
    pouring.cancel()
    await turns()
    one.transport.feed(b"2\r\ncd\r\n")
    await turns()
    assert taken == [b"ab"]
    response.close()
    assert not one.connection.usable()


@pytest.mark.parametrize("end", [None, b"x"], ids=["reset", "protocol"])
async def test_a_poured_answer_that_breaks_off_says_so(end: bytes | None) -> None:
    one = wire()
    exchange = await one.begin()
    one.transport.feed(CHUNKED + b"2\r\nab\r\n")
    response = await exchange
    taken: list[bytes] = []

    def take(piece: bytes) -> bool:
        taken.append(piece)
        return True

    pouring = asyncio.create_task(response.pour(take, turns))
    await turns()
    one.transport.feed(end)
    with pytest.raises(UpstreamReset if end is None else UpstreamProtocol):
        await pouring
    assert taken == [b"ab"]
