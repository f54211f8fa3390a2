"""A connection to an upstream, without sockets: when it is used again, and what ends it."""

import asyncio

import pytest

from fakes.plain_transport import turns
from fakes.upstream_wire import OK, REQUEST_HEAD, WHOLE, distant_bound, read_answer, wire
from switchboard_dataplane.errors import UpstreamReset
from switchboard_dataplane.upstream.connection import WRITE_BYTES


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
