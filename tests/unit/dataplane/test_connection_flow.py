"""Bodies on a connection to an upstream, without sockets: written and read at the pace of both."""

import asyncio

import pytest

from fakes.plain_transport import cut, turns
from fakes.upstream_wire import CHUNKED, OK, REQUEST_HEAD, WHOLE, wire
from switchboard_dataplane.errors import UpstreamProtocol, UpstreamReset
from switchboard_dataplane.upstream.connection import UNREAD_BYTES_MAX, WRITE_BYTES

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

    async with asyncio.timeout(30):
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
