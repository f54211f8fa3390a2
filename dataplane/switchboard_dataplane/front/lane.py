"""The public port's fast form: a connection whose requests are parsed by httptools (llhttp).

llhttp is strict here: two lengths, a bad chunk size, folded lines, a bare CR or LF are errors, and
an error ends the connection. Requests of one connection are served in turn.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools

from switchboard_dataplane.errors import RequestError
from switchboard_dataplane.front.lane_caller import LaneCaller
from switchboard_dataplane.front.routes import (
    APIS,
    HEAD_BYTES_MAX,
    HEADERS_MAX,
    NOT_ONE_HOST,
    Routes,
    malformed,
)
from switchboard_dataplane.wire.answers import Answer, error_answer
from switchboard_dataplane.wire.response_heads import ResponseHeads
from switchboard_policy.ir import Api

#: Reading pauses when this much has come behind the request that is being served, in bytes. Until
#: then it goes on: it is how a caller that leaves is noticed.
AHEAD_BYTES_MAX: Final = 64 * 1024
#: Bounds what may come in a row of a request without a byte of its body: chunk sizes, trailers.
FRAMING_BYTES_MAX: Final = 128 * 1024

_VERSIONS: Final = frozenset({"1.0", "1.1"})


@dataclass(slots=True, kw_only=True)
class Connections:
    """What the connections of one port share. ``clock`` and ``create_task`` are the event loop's.

    ``open`` are those that are served here, and not by aiohttp.
    """

    routes: Routes
    heads: ResponseHeads
    clock: Callable[[], float]
    create_task: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    open: "set[Lane]" = field(default_factory=set["Lane"])


class Lane:
    """A connection: an asyncio.Protocol, but not by inheritance (see ``upstream.Connection``).

    ``deadline`` is when it is closed unless something happens before.
    """

    __slots__ = (
        "_ahead",
        "_ahead_bytes",
        "_barren_bytes",
        "_drained",
        "_framing",
        "_headers",
        "_parser",
        "_patience",
        "_port",
        "_receiving",
        "_refusal",
        "_serving",
        "_target",
        "_task",
        "_unsent_bytes",
        "deadline",
        "transport",
    )

    def __init__(self, port: Connections) -> None:
        self.transport: asyncio.Transport
        self.deadline = math.inf
        self._port = port
        self._patience = port.routes.patience
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, str] = {}
        # The framing of a body that the parser leaves out: that of a request for an upgrade.
        self._framing = b""
        # What has come since the last byte of a head or a body.
        self._barren_bytes = 0
        self._receiving: LaneCaller | None = None
        self._ahead: deque[LaneCaller] = deque()
        self._ahead_bytes = 0
        self._serving: LaneCaller | None = None
        self._task: asyncio.Task[None] | None = None
        self._refusal: RequestError | None = None
        self._drained: asyncio.Future[None] | None = None
        self._unsent_bytes = 0

    # --- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request."""
        self.transport = cast("asyncio.Transport", transport)
        self.deadline = self._port.clock() + self._patience.head_s
        self._port.open.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and serve the first request of it."""
        if self._refusal is not None:
            return
        before = self._receiving
        self._barren_bytes += len(data)
        if self._barren_bytes > HEAD_BYTES_MAX:
            self._feed_with_limits(data)
        else:
            self._feed(data)
        self._count_body(before)
        if self._serving is None:
            self._go_on()
        elif self._ahead:
            # Pipelined: what comes after it can wait in the socket.
            self._ahead_bytes += len(data)
            if self._ahead_bytes > AHEAD_BYTES_MAX:
                self.transport.pause_reading()

    def eof_received(self) -> None:
        """The caller sends no more, which ends the connection."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has left."""
        self._port.open.discard(self)
        self.deadline = math.inf
        self._ahead.clear()
        # The parser and this refer to each other: what is held here waits for the collector.
        receiving, self._receiving = self._receiving, None
        if receiving is not None:
            self._port.routes.bodies.left(receiving)
        if self._task is not None:
            self._task.cancel()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The caller does not read."""
        self._drained = asyncio.get_running_loop().create_future()
        self._unsent_bytes = self.transport.get_write_buffer_size()
        if self._serving is not None:
            self.deadline = self._port.clock() + self._patience.stall_s

    def resume_writing(self) -> None:
        """The caller reads again, or is gone."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
        if self._serving is not None:
            self.deadline = math.inf

    # --- httptools --------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._target = b""
        self._headers = {}
        if self._serving is None:
            self.deadline = self._port.clock() + self._patience.head_s

    def on_url(self, url: bytes) -> None:
        """Take the target, or a piece of it."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is dropped."""
        if self._receiving is not None:
            return
        key = name.decode("latin-1").lower()
        text = value.decode("utf-8", "replace")
        headers = self._headers
        if len(headers) >= HEADERS_MAX:
            raise malformed(f"the head has over {HEADERS_MAX} fields")
        if key == "host" and key in headers:
            raise malformed(NOT_ONE_HOST)
        headers[key] = f"{headers[key]}, {text}" if key in headers else text

    def on_headers_complete(self) -> None:
        """Begin to receive the body."""
        if self._receiving is not None:
            # It is the framing of a body: see ``_feed``.
            return
        parser, headers = self._parser, self._headers
        version = parser.get_http_version()
        if version not in _VERSIONS:
            raise malformed("the HTTP version is neither 1.0 nor 1.1")
        if "host" not in headers and version == "1.1":
            raise malformed(NOT_ONE_HOST)
        coding = headers.get("transfer-encoding")
        if coding is not None and (coding.strip().lower() != "chunked" or version == "1.0"):
            raise malformed("the transfer-encoding is not chunked, or that of HTTP/1.0")
        method = parser.get_method().decode("ascii", "replace")
        path = ""
        api = APIS_BY_TARGET.get(self._target)
        if api is None or method != "POST":
            path = _path_of(self._target)
            api = APIS.get(path)
            if method == "CONNECT":
                # What follows it is no HTTP, in the eyes of whoever sent it.
                raise malformed("nothing can be connected to here")
        if "upgrade" in headers and parser.should_upgrade():
            self._framing = _framing_of(headers)
        self._receiving = LaneCaller(
            self,
            self._port.routes,
            method=method,
            path=path,
            api=api,
            headers=headers,
            keep_alive=parser.should_keep_alive(),
            old=version == "1.0",
        )
        self._ahead.append(self._receiving)
        self._barren_bytes = 0

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._barren_bytes = 0
        if self._receiving is not None:
            self._receiving.feed(data)

    def on_message_complete(self) -> None:
        """The request is here."""
        self._barren_bytes = 0
        if self._receiving is not None and not self._framing:
            self._receiving.complete()
            self._receiving = None

    def _count_body(self, before: LaneCaller | None) -> None:
        """Count what is held of a body that is not here yet; most bodies come at once."""
        now = self._receiving
        if before is not None and before is not now:
            self._port.routes.bodies.left(before)
        if now is not None and now.held_bytes:
            self._port.routes.bodies.grew(now, now.held_bytes)

    # --- feeding the parser -----------------------------------------------------------------

    def _feed(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # RFC 9110, 7.8: it may be passed over; the connection goes on in HTTP/1.1, with the
                # request's body, which this parser takes for the other protocol.
                self._parser = httptools.HttpRequestParser(self)
                framing, self._framing = self._framing, b""
                self._parser.feed_data(framing)
                data = memoryview(data)[upgrade.args[0] :]
                continue
            except httptools.HttpParserCallbackError as error:
                self._refuse(error.__context__ or error)
            except httptools.HttpParserError as error:
                self._refuse(error)
            return

    def _feed_with_limits(self, data: bytes) -> None:
        size = len(data)
        in_body = self._receiving is not None
        room = size if in_body else HEAD_BYTES_MAX - (self._barren_bytes - size)
        self._feed(data[:room])
        if not in_body and self._barren_bytes > HEAD_BYTES_MAX:
            self._refuse(malformed(f"the head has over {HEAD_BYTES_MAX} bytes"))
        if self._refusal is None and room < size:
            self._feed(data[room:])
        if self._barren_bytes > FRAMING_BYTES_MAX:
            self._refuse(malformed(f"over {FRAMING_BYTES_MAX} bytes of it bring no body"))

    # --- serving ----------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Serve the next request that is here."""
        if self.transport.is_closing():
            return
        if self._ahead:
            caller = self._serving = self._ahead.popleft()
            if self._ahead_bytes and not self._ahead:
                self._ahead_bytes = 0
                self.transport.resume_reading()
            self.deadline = math.inf
            self._task = self._port.create_task(self._serve(caller))
        elif self._refusal is not None:
            answer = error_answer(self._refusal)
            self.transport.write(self._port.heads.whole(answer, close=True, old=False, bare=False))
            self._linger()

    async def _serve(self, caller: LaneCaller) -> None:
        try:
            if caller.routed:
                await self._serve_routed(caller)
            else:
                routes = self._port.routes
                self.answer(caller, await routes.answer(caller.method, caller.path, caller))
                await self.drained()
        except (asyncio.CancelledError, ConnectionError):
            # The caller has left, and its outcome has been observed.
            self.transport.abort()
        finally:
            self._serving = self._task = None
            if not caller.ended:
                # An answer that was begun and cannot be ended well: a cut says so.
                self.transport.abort()
        if self._outlives(caller):
            self._go_on()

    async def _serve_routed(self, caller: LaneCaller) -> None:
        routes = self._port.routes
        serve = routes.rate if caller.rates else routes.proxy.serve
        routes.live.enter(self._task)
        try:
            await serve(caller)
        finally:
            routes.live.leave(self._task)

    def _outlives(self, caller: LaneCaller) -> bool:
        """Say whether the connection lives on after a request; if not, close it."""
        if self.transport.is_closing():
            return False
        if caller.keep_alive:
            self.deadline = self._port.clock() + self._patience.idle_s
            return True
        if not caller.received or self._ahead:
            self._linger()
        else:
            self.deadline = self._port.clock() + self._patience.stall_s
            self.transport.close()
        return False

    def _refuse(self, error: BaseException) -> None:
        """Nothing more is read from the caller; it is told after the requests before."""
        self._refusal = error if isinstance(error, RequestError) else malformed(str(error))
        if self._receiving is not None:
            self._receiving.fail(self._refusal)

    def _linger(self) -> None:
        """Close, but not so fast that what the caller still sends destroys the answer."""
        self._refusal = self._refusal or malformed("the connection is closing")
        self._ahead.clear()
        self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.deadline = self._port.clock() + self._patience.linger_s

    # --- for callers ------------------------------------------------------------------------

    def answer(self, caller: LaneCaller, answer: Answer) -> None:
        """Write a whole answer."""
        if self._port.routes.live.closing or not caller.received:
            caller.keep_alive = False
        caller.ended = True
        self.transport.write(
            self._port.heads.whole(
                answer,
                close=not caller.keep_alive,
                old=caller.old,
                bare=caller.method == "HEAD",
            )
        )

    def begin(self, caller: LaneCaller, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Write the head of a streamed answer."""
        if self._port.routes.live.closing or not caller.received or caller.old:
            caller.keep_alive = False
        self.transport.write(
            self._port.heads.streamed(status, headers, close=not caller.keep_alive, old=caller.old)
        )

    def keeps_up(self) -> bool:
        """Say whether the caller reads as fast as it is written to."""
        return self._drained is None

    async def drained(self) -> None:
        """Wait until it has."""
        if self._drained is not None:
            await self._drained

    def close_if_overdue(self, now: float) -> None:
        """Close where the deadline is over; a caller that has read since then gets a new one."""
        if now < self.deadline:
            return
        unsent = self.transport.get_write_buffer_size()
        if self._drained is not None and unsent < self._unsent_bytes:
            self._unsent_bytes = unsent
            self.deadline = now + self._patience.stall_s
        else:
            self.transport.abort()

    def close_idle(self) -> None:
        """Close if nothing is being served: this process is going away."""
        if self._serving is None and self._receiving is None:
            self.transport.close()


def _framing_of(headers: Mapping[str, str]) -> bytes:
    """Return the head of a request with the same body, b"" if there is none."""
    if "transfer-encoding" in headers:
        return b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    size = int(headers.get("content-length", 0))
    return b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size if size else b""


APIS_BY_TARGET: Final[dict[bytes, Api]] = {path.encode(): api for path, api in APIS.items()}


def _path_of(target: bytes) -> str:
    """Return the path of a request target in origin or absolute form, "" of any other."""
    try:
        path: bytes | None = httptools.parse_url(target).path
    except httptools.HttpParserInvalidURLError:
        path = None
    return unquote(path.decode("ascii", "replace")) if path else ""
