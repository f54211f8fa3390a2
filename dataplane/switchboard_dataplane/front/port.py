"""The public port: its first bytes choose who serves a connection, for the connection's life."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Final, cast

from switchboard_dataplane.front.aiohttp_front import AiohttpFront
from switchboard_dataplane.front.lane import APIS_BY_TARGET, Connections, Lane
from switchboard_dataplane.front.routes import Routes
from switchboard_dataplane.wire.response_heads import ResponseHeads

#: How often it is looked whether the last answers have gone out, in seconds.
FLUSH_LOOK_S: Final = 0.01

#: What the fast form is for; everything else is aiohttp's.
_HOT: Final = tuple(b"POST " + target + b" " for target in APIS_BY_TARGET)
_HOT_BYTES_MAX: Final = max(map(len, _HOT))


class PublicPort:
    """Makes the protocol of each new connection of the public port.

    Without ``lane`` aiohttp serves all of them. ``clock`` is the event loop's, ``today`` tells the
    time of day.
    """

    def __init__(
        self,
        routes: Routes,
        *,
        lane: bool,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        today: Callable[[], datetime],
    ) -> None:
        self._front = AiohttpFront(routes)
        self._patience = routes.patience
        self._connections = Connections(
            routes=routes,
            heads=ResponseHeads(clock=clock, today=today),
            clock=clock,
            # As loop.create_task does, without a name made up for each.
            create_task=partial(asyncio.Task, loop=loop, name="request"),
        )
        self._lane = lane
        self._doors: set[_Door] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    def __call__(self) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection."""
        if not self._lane:
            return self._front()
        if self._sweeper is None:
            self._sweep()
        deadline = self._connections.clock() + self._patience.head_s
        return _Door(self._doors, self._choose, deadline=deadline)

    def pre_shutdown(self) -> None:
        """Close the connections that nothing is served on."""
        self._front.pre_shutdown()
        for door in tuple(self._doors):
            door.transport.close()
        for lane in tuple(self._connections.open):
            lane.close_idle()

    async def shutdown(self, timeout_s: float) -> None:
        """Close all connections; ``timeout_s`` is for answers that are on their way."""
        until = self._connections.clock() + timeout_s
        for one in self._all():
            one.transport.close()
        await self._front.shutdown(timeout_s)
        while self._all() and self._connections.clock() < until:  # noqa: ASYNC110 - ends soon
            await asyncio.sleep(FLUSH_LOOK_S)
        for one in self._all():
            one.transport.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _all(self) -> "tuple[_Door | Lane, ...]":
        return *self._doors, *self._connections.open

    def _choose(self, seen: bytes) -> asyncio.Protocol:
        hot = seen.startswith(_HOT)
        return cast("asyncio.Protocol", Lane(self._connections) if hot else self._front())

    def _sweep(self) -> None:
        now = self._connections.clock()
        for one in self._all():
            one.close_if_overdue(now)
        self._sweeper = asyncio.get_running_loop().call_later(self._patience.sweep_s, self._sweep)


class _Door(asyncio.Protocol):
    """A connection until its first bytes say who serves it."""

    __slots__ = ("_choose", "_deadline", "_doors", "_seen", "transport")

    def __init__(
        self,
        doors: "set[_Door]",
        choose: Callable[[bytes], asyncio.Protocol],
        *,
        deadline: float,
    ) -> None:
        self.transport: asyncio.Transport
        self._deadline = deadline
        self._doors = doors
        self._choose = choose
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first bytes."""
        self.transport = cast("asyncio.Transport", transport)
        self._doors.add(self)

    def data_received(self, data: bytes) -> None:
        """Hand the connection over as soon as it is clear to whom."""
        seen = self._seen = self._seen + data
        if len(seen) < _HOT_BYTES_MAX and any(hot.startswith(seen) for hot in _HOT):
            return
        self._doors.discard(self)
        protocol = self._choose(seen)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        protocol.data_received(seen)

    def close_if_overdue(self, now: float) -> None:
        """Close where the deadline is over."""
        if now >= self._deadline:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller left without a word."""
        self._doors.discard(self)
