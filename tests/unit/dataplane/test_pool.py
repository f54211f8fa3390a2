"""The connections to one origin, without sockets: who gets one, and when it closes."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from fakes.loopback import GUARD
from fakes.plain_transport import PlainTransport, turns
from fakes.upstream_wire import REQUEST_HEAD, distant_bound
from switchboard_dataplane.upstream.connection import Connection
from switchboard_dataplane.upstream.pool import POOL_LIMITS, Origin, Pool, PoolLimits

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


class PlainLoop:
    """What a pool asks of an event loop; its connections are open at once unless told otherwise."""

    def __init__(self) -> None:
        self.now = 0.0
        self.transports: list[PlainTransport] = []
        self.hold: asyncio.Event | None = None
        self.fails = False
        self.closes = False

    def time(self) -> float:
        return self.now

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    async def dial(self, *_: object) -> Any:
        if self.hold is not None:
            await self.hold.wait()
        if self.fails:
            raise ConnectionRefusedError

    async def create_connection(self, make: Callable[[], Connection], **_: Any) -> None:
        connection = make()
        transport = PlainTransport(connection)
        connection.connection_made(transport)
        self.transports.append(transport)
        if self.closes:
            transport.feed(None)


@pytest.fixture
def loop() -> PlainLoop:
    return PlainLoop()


@pytest.fixture
def cap() -> int:
    """How many connections the pool may have."""
    return 2


@pytest.fixture
def pool(loop: PlainLoop, cap: int) -> Pool:
    return Pool(
        Origin("model", 80, None),
        tls=None,
        loop=cast("asyncio.AbstractEventLoop", loop),
        guard=GUARD,
        limits=PoolLimits(connections_max=cap),
        dial=loop.dial,
    )


async def use(connection: Connection) -> None:
    """Run an exchange, after which the pool has the connection back."""
    exchange = asyncio.create_task(connection.exchange(REQUEST_HEAD, b"", distant_bound()))
    await turns()
    connection.data_received(ANSWER)
    await exchange


async def test_the_connection_that_was_used_last_is_used_next(pool: Pool) -> None:
    first, second = await pool.open(), await pool.open()
    assert pool.take() is None
    await use(first)
    await use(second)
    assert (pool.take(), pool.take(), pool.take()) == (second, first, None)
    assert len(pool) == 2


async def test_a_connection_is_closed_when_it_has_been_idle_for_too_long(
    pool: Pool, loop: PlainLoop
) -> None:
    first, second = await pool.open(), await pool.open()
    await use(first)
    loop.now = POOL_LIMITS.keepalive_s / 2
    await use(second)
    pool.reap()
    assert first.usable()
    loop.now = POOL_LIMITS.keepalive_s
    pool.reap()
    await turns()
    assert (first.usable(), second.usable(), len(pool)) == (False, True, 1)
    assert pool.take() is second


async def test_reaping_does_not_rely_on_the_order_in_which_connections_came_back(
    pool: Pool, loop: PlainLoop
) -> None:
    old, young = await pool.open(), await pool.open()
    await use(young)
    await use(old)
    young.idle_since, old.idle_since = POOL_LIMITS.keepalive_s, 0.0
    loop.now = POOL_LIMITS.keepalive_s
    pool.reap()
    await turns()
    assert (old.usable(), young.usable(), pool.take()) == (False, True, young)


async def test_a_connection_that_was_closed_while_idle_is_not_given_out(
    pool: Pool, loop: PlainLoop
) -> None:
    connection = await pool.open()
    await use(connection)
    loop.transports[0].feed(None)
    assert pool.take() is None
    await turns()
    assert len(pool) == 0


async def test_a_connection_that_cannot_be_opened_leaves_nothing_behind(
    pool: Pool, loop: PlainLoop
) -> None:
    loop.fails = True
    with pytest.raises(ConnectionRefusedError):
        await pool.open()
    assert len(pool) == 0


async def test_a_connection_that_closes_as_it_opens_is_not_given_out(
    pool: Pool, loop: PlainLoop
) -> None:
    loop.closes = True
    with pytest.raises(ConnectionResetError):
        await pool.open()
    await turns()
    assert len(pool) == 0


async def stand(pool: Pool, count: int) -> list[asyncio.Task[Connection]]:
    tasks = [asyncio.create_task(pool.open()) for _ in range(count)]
    await turns()
    return tasks


async def test_at_the_cap_who_comes_first_is_served_first(pool: Pool, cap: int) -> None:
    held = [await pool.open() for _ in range(cap)]
    line = await stand(pool, 3)
    assert not any(task.done() for task in line)
    for task in line[:2]:
        await use(held[0])
        assert await task is held[0]
        assert pool.take() is None
    held[1].abort()
    await turns(6)
    assert await line[2] not in held
    assert len(pool) == cap


async def test_nobody_overtakes_who_was_given_leave_to_open(pool: Pool, cap: int) -> None:
    held = [await pool.open() for _ in range(cap)]
    (first,) = await stand(pool, 1)
    # It runs before the one that is given leave in the same turn of the loop.
    newcomer = asyncio.create_task(pool.open())
    held[0].connection_lost(None)
    await turns()
    assert (first.done(), newcomer.done(), len(pool)) == (True, False, cap)
    await use(held[1])
    assert await newcomer is held[1]


@pytest.mark.parametrize("given", ["connection", "leave"])
async def test_who_leaves_the_line_as_its_turn_comes_hands_it_on(
    pool: Pool, cap: int, given: str
) -> None:
    held = [await pool.open() for _ in range(cap)]
    first, second = await stand(pool, 2)
    if given == "leave":
        held[0].connection_lost(None)
    else:
        exchange = asyncio.create_task(held[0].exchange(REQUEST_HEAD, b"", distant_bound()))
        await turns()
        held[0].data_received(ANSWER)
        assert not exchange.done()
    first.cancel()
    await turns(6)
    assert first.cancelled()
    assert second.done()
    assert len(pool) == cap


async def test_who_leaves_the_line_before_its_turn_is_forgotten(pool: Pool, cap: int) -> None:
    held = [await pool.open() for _ in range(cap)]
    first, second = await stand(pool, 2)
    first.cancel()
    await turns()
    assert len(pool._line) == 1
    await use(held[0])
    assert await second is held[0]


async def test_an_opening_that_fails_passes_its_leave_on(
    pool: Pool, loop: PlainLoop, cap: int
) -> None:
    loop.hold = asyncio.Event()
    opening = await stand(pool, cap + 2)
    assert len(pool) == cap
    opening[0].cancel()
    await turns(6)
    assert len(pool) == cap
    loop.fails = True
    loop.hold.set()
    await asyncio.gather(*opening, return_exceptions=True)
    assert (len(pool), len(pool._line), pool._promised) == (0, 0, 0)


async def test_a_connection_that_is_lost_as_it_is_given_is_made_up_for(
    pool: Pool, cap: int
) -> None:
    held = [await pool.open() for _ in range(cap)]
    first, second = await stand(pool, 2)
    exchange = asyncio.create_task(held[0].exchange(REQUEST_HEAD, b"", distant_bound()))
    await turns()
    held[0].data_received(ANSWER)
    held[0].abort()
    await exchange
    await turns(6)
    assert await first not in held
    assert not second.done()
    await use(held[1])
    assert await second is held[1]


async def test_closing_closes_all_connections(pool: Pool) -> None:
    idle, busy = await pool.open(), await pool.open()
    await use(idle)
    pool.close()
    await turns()
    assert (idle.usable(), busy.usable(), len(pool)) == (False, False, 0)
