"""The connections to one origin: kept alive, capped, and reaped when they have been idle."""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

from switchboard_dataplane.upstream.addresses import AddressGuard
from switchboard_dataplane.upstream.connection import Connection
from switchboard_dataplane.upstream.dial import dial

#: Opens a socket: see ``dial.dial``.
Dial = Callable[[asyncio.AbstractEventLoop, str, int, AddressGuard], Awaitable[socket.socket]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """What an origin's connections may take.

    ``connections_max`` bounds sockets, and with them memory: more streams than one engine can
    batch. ``keepalive_s`` is below the 60 s after which common load balancers drop an idle
    connection without a word. Idle ones are looked at every ``reap_s``; a pool without a
    connection is forgotten after ``forgotten_s``.
    """

    connections_max: int = 4_096
    keepalive_s: float = 55.0
    reap_s: float = 5.0
    forgotten_s: float = 300.0


POOL_LIMITS: Final = PoolLimits()


class Origin(NamedTuple):
    """Where connections go: ``tls_name`` is what the certificate must name, None without TLS."""

    host: str
    port: int
    tls_name: str | None


class Pool:
    """The connections to one origin. The most recently used is used next, so others fall idle."""

    __slots__ = (
        "_dial",
        "_guard",
        "_idle",
        "_limits",
        "_line",
        "_loop",
        "_open",
        "_promised",
        "_tls",
        "origin",
        "used_at",
    )

    def __init__(
        self,
        origin: Origin,
        *,
        tls: ssl.SSLContext | None,
        loop: asyncio.AbstractEventLoop,
        guard: AddressGuard,
        limits: PoolLimits = POOL_LIMITS,
        dial: Dial = dial,
    ) -> None:
        self.origin = origin
        self.used_at = loop.time()
        self._tls = tls
        self._loop = loop
        self._guard = guard
        self._limits = limits
        self._dial = dial
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        # Those who wait for a connection; they get one, or None for leave to open one.
        self._line: deque[asyncio.Future[Connection | None]] = deque()
        # How many have been given leave and have not begun yet.
        self._promised = 0

    def __len__(self) -> int:
        return len(self._open)

    def take(self) -> Connection | None:
        """Return an idle connection, None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                return connection
        return None

    async def open(self) -> Connection:
        """Open a connection; at the cap, wait for one that another request gives back.

        Raises OSError (ssl.SSLError is one). The caller bounds the time.
        """
        again = False
        while len(self._open) + self._promised >= self._limits.connections_max:
            given = await self._stand_in_line(first=again)
            if given is None:
                self._promised -= 1
                break
            if given.usable():
                return given
            again = True
        connection = await self._connect()
        if not connection.usable():
            raise ConnectionResetError("it was closed as soon as it was open")
        return connection

    def reap(self) -> None:
        """Close connections that have been idle for too long."""
        oldest = self._loop.time() - self._limits.keepalive_s
        kept: list[Connection] = []
        for connection in self._idle:
            if connection.idle_since > oldest:
                kept.append(connection)
            else:
                connection.abort()
        self._idle = kept

    def close(self) -> None:
        """Close all connections at once."""
        for connection in tuple(self._open):
            connection.abort()

    async def _stand_in_line(self, *, first: bool) -> Connection | None:
        waiting: asyncio.Future[Connection | None] = self._loop.create_future()
        if first:
            self._line.appendleft(waiting)
        else:
            self._line.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.cancelled():
                with suppress(ValueError):
                    self._line.remove(waiting)
            else:
                given = waiting.result()
                if given is None:
                    self._promised -= 1
                self._pass_on(given)
            raise

    async def _connect(self) -> Connection:
        connection = Connection(self._loop, released=self._release, lost=self._forget)
        self._open.add(connection)
        host, port, tls_name = self.origin
        try:
            await self._loop.create_connection(
                lambda: cast("asyncio.Protocol", connection),
                sock=await self._dial(self._loop, host, port, self._guard),
                ssl=self._tls if tls_name is not None else None,
                server_hostname=tls_name,
            )
        except BaseException:
            connection.abort()
            self._forget(connection)
            raise
        return connection

    def _release(self, connection: Connection) -> None:
        connection.idle_since = self.used_at = self._loop.time()
        self._pass_on(connection)

    def _pass_on(self, connection: Connection | None) -> None:
        while self._line:
            waiting = self._line.popleft()
            if not waiting.done():
                if connection is None:
                    self._promised += 1
                waiting.set_result(connection)
                return
        if connection is not None:
            self._idle.append(connection)

    def _forget(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._pass_on(None)
