"""One connection to an upstream: HTTP/1.1 on an asyncio transport, parsed by httptools (llhttp).

llhttp is strict here: two lengths, a bad chunk size, folded lines, a bare CR or LF are errors, and
an error ends the connection.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, cast

import httptools

from switchboard_dataplane.errors import UpstreamError, UpstreamProtocol, UpstreamReset
from switchboard_dataplane.upstream.bound import Bound

#: Bounds the head of an answer, interim ones before it among it, in memory.
HEAD_BYTES_MAX: Final = 64 * 1024
#: Bounds what may come in a row of an answer without a byte of its body: chunk sizes, trailers.
FRAMING_BYTES_MAX: Final = 128 * 1024
#: Reading pauses while more than this of an answer waits to be taken, in bytes.
UNREAD_BYTES_MAX: Final = 256 * 1024
#: A body is handed to the socket in pieces of this size, so that a slow upstream pins no copy.
WRITE_BYTES: Final = 256 * 1024

_VERSIONS: Final = frozenset({"1.0", "1.1"})
_INTERIM: Final = range(100, 200)
_SWITCHING: Final = 101
_WITHOUT_BODY: Final = frozenset({204, 304})


class Response:
    """An UpstreamResponse that is coming in; the connection fills it, one task empties it."""

    __slots__ = (
        "_connection",
        "_failure",
        "_paused",
        "_pieces",
        "_take",
        "_unread",
        "_waiter",
        "ended",
        "headers",
        "media_type",
        "status",
    )

    def __init__(self, connection: "Connection") -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.media_type = ""
        self.ended = False
        self._connection = connection
        self._pieces: list[bytes] = []
        self._unread = 0
        self._take: Callable[[bytes], bool] | None = None
        self._paused = False
        self._failure: UpstreamError | OSError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def head(self) -> None:
        """Wait for the head; raises UpstreamReset, UpstreamProtocol, TimeoutError."""
        while not self.status:
            if self._failure is not None:
                raise self._failure
            await self._news()

    async def read(self) -> bytes:
        """See ``UpstreamResponse.read``."""
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self.ended:
                return b""
            await self._news()
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        if self._unread > UNREAD_BYTES_MAX and not self.ended:
            self._connection.resume()
        self._unread = 0
        return data

    async def pour(
        self, take: Callable[[bytes], bool], ready: Callable[[], Awaitable[None]]
    ) -> None:
        """See ``UpstreamResponse.pour``: the socket's callback calls ``take``, no task between."""
        pieces, self._pieces = self._pieces, []
        self._paused = self._unread > UNREAD_BYTES_MAX
        self._unread = 0
        for piece in pieces:
            if not take(piece):
                self._paused = True
        self._take = take
        try:
            while True:
                if self._paused:
                    self._paused = False
                    await ready()
                    if not self.ended:
                        self._connection.resume()
                elif self._failure is not None:
                    raise self._failure
                elif self.ended:
                    return
                else:
                    await self._news()
        finally:
            # What comes after a timeout has nobody to go to.
            self._take = None

    def close(self) -> None:
        """See ``UpstreamResponse.close``."""
        if not self.ended:
            self._connection.abort()

    def put(self, data: bytes) -> bool:
        """Take in a piece of the body; return whether to pause."""
        if self._take is not None:
            return self._hand_on(data, self._take)
        self._pieces.append(data)
        self._unread += len(data)
        self.wake()
        return self._unread > UNREAD_BYTES_MAX

    def expire(self) -> None:
        """Give up: its time is over."""
        # An answer that has come whole keeps nobody waiting, and its connection may serve another.
        if not self.ended:
            self.fail(TimeoutError())
            self._connection.abort()

    def _hand_on(self, data: bytes, take: Callable[[bytes], bool]) -> bool:
        try:
            if take(data):
                return False
        except (UpstreamError, ConnectionError) as error:
            # What came with it has nobody to go to.
            self._take = None
            self.fail(error)
            self._connection.abort()
            return True
        self._paused = True
        self.wake()
        return True

    def fail(self, failure: UpstreamError | OSError) -> None:
        """End it early; what has come before can still be read."""
        if self._failure is None and not self.ended:
            self._failure = failure
            self.wake()

    def wake(self) -> None:
        """Let the task that waits look again."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _news(self) -> None:
        self._waiter = self._connection.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Connection:
    """A connection that carries one exchange at a time: an asyncio.Protocol by what it can do.

    Not by inheritance: compiled, its attributes would be looked up by name.

    ``released`` is called when an exchange is over and the connection can carry another, ``lost``
    when it is gone. ``silent`` says that the exchange that runs has brought no byte yet.
    """

    __slots__ = (
        "_barren_bytes",
        "_drained",
        "_headers",
        "_lost",
        "_parser",
        "_released",
        "_reusable",
        "_size_told",
        "_transport",
        "_unsent",
        "idle_since",
        "loop",
        "response",
        "silent",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        released: Callable[["Connection"], None],
        lost: Callable[["Connection"], None],
    ) -> None:
        self.loop = loop
        self.response: Response | None = None
        self.silent = True
        self.idle_since = 0.0
        self._released = released
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[str, str]] = []
        # What has come since the exchange began, or since the last byte of a head or a body.
        self._barren_bytes = 0
        self._size_told = False
        self._reusable = False
        self._unsent = False
        self._drained: asyncio.Future[None] | None = None

    # --- the exchange -----------------------------------------------------------------------

    async def exchange(self, head: bytes, body: bytes, bound: Bound) -> Response:
        """Send a request and return its answer when the head is here.

        Raises UpstreamReset, UpstreamProtocol, TimeoutError. Cancelling it closes the connection.
        """
        response = self.response = Response(self)
        bound.watch(response.expire)
        self.silent = True
        self._barren_bytes = 0
        try:
            if len(body) <= WRITE_BYTES:
                self._write(head + body)
            else:
                await self._write_in_pieces(head, body, response)
            await response.head()
        except BaseException:
            response.close()
            raise
        return response

    def usable(self) -> bool:
        """Say whether another exchange can begin."""
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        """Close at once; whatever was on its way is lost."""
        if self.response is not None:
            self.response.fail(UpstreamReset("the connection was given up"))
        if self._transport is not None:
            self._transport.abort()

    def resume(self) -> None:
        """Read on."""
        if self.usable() and self._transport is not None:
            self._transport.resume_reading()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def _write_in_pieces(self, head: bytes, body: bytes, response: Response) -> None:
        self._unsent = True
        self._write(head)
        whole = memoryview(body)
        for start in range(0, len(body), WRITE_BYTES):
            if response.status or not self.usable():
                # An upstream that has answered, or is gone, does not want the rest.
                return
            self._write(bytes(whole[start : start + WRITE_BYTES]))
            if self._drained is not None:
                await asyncio.wait({self._drained})
        self._unsent = False

    # --- asyncio.Protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came; what nobody asked for ends the connection."""
        response = self.response
        if response is None:
            self.abort()
            return
        self.silent = False
        self._barren_bytes += len(data)
        if self._barren_bytes > HEAD_BYTES_MAX:
            self._feed_with_limits(data, response)
        else:
            self._feed(data)
        if response.ended:
            self._finish()

    def eof_received(self) -> None:
        """The upstream sends no more, and what it has not taken by now it never will."""
        self._cut(None)
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was on its way."""
        self._cut(exc)
        self.resume_writing()
        self._lost(self)

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._drained = self.loop.create_future()

    def resume_writing(self) -> None:
        """The socket takes more again."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # --- httptools --------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin an answer; one more than was asked for makes the connection useless."""
        if self.response is None or self.response.ended:
            self._reusable = False
        self._headers = []
        self._size_told = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is dropped."""
        response = self.response
        if response is None or response.status:
            return
        key = name.decode("latin-1").lower()
        text = value.decode("utf-8", "surrogateescape")
        if key == "content-length":
            self._size_told = True
        elif key == "transfer-encoding":
            if self._size_told or text.strip().lower() != "chunked":
                raise ValueError(f"its transfer-encoding is {text[:40]!r}, or not the only one")
            self._size_told = True
        elif key == "content-type":
            response.media_type = text.partition(";")[0].strip().lower()
        self._headers.append((key, text))

    def on_headers_complete(self) -> None:
        """Hand the head on; an interim answer is passed over."""
        response = self.response
        if response is None or response.ended:
            return
        parser = self._parser
        status = parser.get_status_code()
        if status in _INTERIM:
            if status == _SWITCHING:
                raise ValueError("it switches protocols, which nobody asked for")
            response.media_type = ""
            return
        self._reusable = parser.should_keep_alive()
        if status < _INTERIM.start or (
            not self._reusable and parser.get_http_version() not in _VERSIONS
        ):
            raise ValueError("its status line is not that of an HTTP/1.1 answer")
        if status in _WITHOUT_BODY:
            self._size_told = True
        response.status = status
        response.headers = self._headers
        self._barren_bytes = 0
        response.wake()
        if self._drained is not None:
            # It does not wait for the rest of the request.
            self.resume_writing()

    def on_body(self, data: bytes) -> None:
        """Hand a piece of the body on."""
        self._barren_bytes = 0
        if (
            self.response is not None
            and not self.response.ended
            and self.response.put(data)
            and self._transport is not None
        ):
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """End the answer; the connection is released when all that came with it is parsed."""
        response = self.response
        if response is not None and response.status:
            response.ended = True
            response.wake()

    # --- feeding the parser -----------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            self._break(str(error.__context__))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break(str(error))

    def _feed_with_limits(self, data: bytes, response: Response) -> None:
        size = len(data)
        room = size if response.status else HEAD_BYTES_MAX - (self._barren_bytes - size)
        self._feed(data[:room])
        if not response.status:
            self._break(f"its head exceeds {HEAD_BYTES_MAX} bytes")
            return
        if room < size:
            self._feed(data[room:])
        if self._barren_bytes > FRAMING_BYTES_MAX:
            self._break(f"over {FRAMING_BYTES_MAX} bytes of it bring no body")

    # --- the end of an exchange -------------------------------------------------------------

    def _cut(self, exc: Exception | None) -> None:
        """End an answer with its connection: well where that is the end of its body."""
        response, self.response = self.response, None
        if response is not None and not response.ended:
            if response.status and not self._size_told and exc is None:
                response.ended = True
                response.wake()
            else:
                response.fail(UpstreamReset("the upstream broke off its answer"))

    def _break(self, why: str) -> None:
        """End what cannot be read; an answer that is whole already stays whole."""
        self._reusable = False
        if self.response is not None and not self.response.ended:
            self.response.fail(UpstreamProtocol(f"the upstream's answer is no HTTP/1.1: {why}"))
            self.abort()

    def _finish(self) -> None:
        self.response = None
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not self._reusable or self._unsent or transport.get_write_buffer_size():
            transport.abort()
            return
        transport.resume_reading()
        self._released(self)
