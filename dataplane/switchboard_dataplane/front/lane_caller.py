"""A caller on the fast form of the public port."""

import asyncio
from collections.abc import MutableMapping, Sequence
from typing import Any, Final, Protocol, cast

from switchboard_dataplane.errors import RequestError
from switchboard_dataplane.front.routes import FEEDBACK, Routes
from switchboard_dataplane.wire.answers import Answer
from switchboard_policy.ir import Api

#: What may be here of a body that is not wanted yet, in bytes: the rest waits in the socket.
UNWANTED_BYTES_MAX: Final = 64 * 1024


class Line(Protocol):
    """What a caller needs of its connection."""

    transport: asyncio.Transport

    def answer(self, caller: "LaneCaller", answer: Answer) -> None:
        """Write a whole answer."""

    def begin(self, caller: "LaneCaller", status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Write the head of a streamed answer."""

    def keeps_up(self) -> bool:
        """Say whether the caller reads as fast as it is written to."""
        ...

    async def drained(self) -> None:
        """Wait until it has."""
        ...


class LaneCaller:
    """A Caller whose request the connection fills.

    ``received`` says that the request is here whole, ``ended`` that its answer is written whole,
    ``keep_alive`` that the connection lives on, ``old`` that the caller speaks HTTP/1.0. ``rates``:
    it is feedback. ``api`` is meaningful only where ``routed`` to a model; what is neither is
    answered without its body.
    """

    __slots__ = (
        "_body",
        "_failure",
        "_line",
        "_paused",
        "_routes",
        "_size",
        "_waiter",
        "_wanted",
        "api",
        "ended",
        "headers",
        "keep_alive",
        "method",
        "old",
        "path",
        "rates",
        "received",
        "routed",
    )

    def __init__(
        self,
        line: Line,
        routes: Routes,
        *,
        method: str,
        path: str,
        api: Api | None,
        headers: MutableMapping[str, str],
        keep_alive: bool,
        old: bool,
    ) -> None:
        self.api: Api = api or "chat"
        self.rates = path == FEEDBACK and method == "POST"
        self.routed = (api is not None and method == "POST") or self.rates
        self.headers = headers
        self.method = method
        self.path = path
        self.keep_alive = keep_alive
        self.old = old
        self.received = False
        self.ended = False
        self._line = line
        self._routes = routes
        # Not a list of pieces: a body may come in millions of them.
        self._body: bytes | bytearray = b""
        self._size = 0
        self._wanted = self._paused = False
        self._failure: RequestError | None = None
        self._waiter: asyncio.Future[None] | None = None

    # --- the connection's side --------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take a piece of the body; what nobody will read is dropped."""
        self._size += len(data)
        if self.routed and self._size > UNWANTED_BYTES_MAX and not self._wanted:
            self._paused = True
            self._line.transport.pause_reading()
        if (
            not self.routed
            or self._size > self._routes.body_limit_bytes
            or self._failure is not None
        ):
            self._body = b""
            self._wake()
        elif not self._body:
            self._body = data
        else:
            if not isinstance(self._body, bytearray):
                self._body = bytearray(self._body)
            self._body += data

    def complete(self) -> None:
        """The body is here."""
        self._read_on()
        self.received = True
        self._wake()

    def fail(self, error: RequestError) -> None:
        """The rest of the body cannot be read."""
        self._failure = error
        self._body = b""
        self._wake()

    def give_way(self) -> None:
        """See ``Arriving.give_way``."""
        self.fail(self._routes.gave_way())

    @property
    def held_bytes(self) -> int:
        """What is held of the body."""
        return len(self._body)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- the proxy's side -------------------------------------------------------------------

    @property
    def peer(self) -> str:
        """See ``Caller.peer``."""
        address: Any = self._line.transport.get_extra_info("peername")
        # Of a socket in the file system it is a path, or nothing.
        return cast("tuple[str, ...]", address)[0] if isinstance(address, tuple) else ""

    async def read_body(self) -> bytes:
        """See ``Caller.read_body``."""
        self._wanted = True
        self._read_on()
        self._routes.check_body(self.headers)
        if not self.received and self._size <= self._routes.body_limit_bytes:
            if not self._size and not self.old and self._is_waited_for():
                self._line.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await self._rest()
        if self._failure is not None:
            raise self._failure
        if self._size > self._routes.body_limit_bytes:
            raise self._routes.too_large()
        body, self._body = self._body, b""
        return bytes(body)

    async def send(self, answer: Answer) -> None:
        """See ``Caller.send``."""
        self._line.answer(self, answer)
        await self._line.drained()

    async def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """See ``Caller.begin``."""
        self._line.begin(self, status, headers)

    def put(self, data: bytes) -> bool:
        """See ``Caller.put``."""
        line = self._line
        if line.transport.is_closing():
            raise ConnectionResetError("the caller has left")
        line.transport.write(data if self.old else b"%x\r\n%b\r\n" % (len(data), data))
        return line.keeps_up()

    async def drained(self) -> None:
        """See ``Caller.drained``."""
        await self._line.drained()

    async def end(self) -> None:
        """See ``Caller.end``."""
        if not self.old:
            self._line.transport.write(b"0\r\n\r\n")
        self.ended = True
        await self._line.drained()

    def _read_on(self) -> None:
        if self._paused:
            self._paused = False
            self._line.transport.resume_reading()

    def _is_waited_for(self) -> bool:
        """Say whether the caller sends the body only when it is asked for."""
        return self.headers.get("expect", "").lower() == "100-continue"

    async def _rest(self) -> None:
        if self._failure is not None:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._routes.in_time(self._waiter)
        finally:
            self._waiter = None
