"""The answers of upstreams as bytes, without sockets: what is refused, and how much is read."""

import pytest

from fakes.plain_transport import cut
from fakes.upstream_wire import CHUNKED, OK, WHOLE, read_answer, wire
from switchboard_dataplane.errors import UpstreamProtocol
from switchboard_dataplane.upstream.connection import FRAMING_BYTES_MAX, HEAD_BYTES_MAX

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
