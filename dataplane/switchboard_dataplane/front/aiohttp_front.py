"""The public port's aiohttp form: it serves every route."""

import asyncio
import logging
from collections.abc import MutableMapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import HttpVersion11, web
from multidict import CIMultiDict

from switchboard_dataplane.errors import BodyTooLarge, BodyTooSlow
from switchboard_dataplane.front.routes import (
    APIS,
    FEEDBACK,
    HEAD_BYTES_MAX,
    NOT_ONE_HOST,
    Patience,
    Routes,
    malformed,
)
from switchboard_dataplane.wire.answers import Answer, error_answer
from switchboard_dataplane.wire.headers import join_headers
from switchboard_policy.ir import Api

log = logging.getLogger(__name__)

_OPTIONS: Final[dict[str, Any]] = {
    "access_log": None,
    "auto_decompress": False,
    "max_line_size": HEAD_BYTES_MAX,
    "max_field_size": HEAD_BYTES_MAX,
}


class AiohttpCaller:
    """A Caller on an aiohttp request; ``response`` is what its handler returns in the end."""

    def __init__(self, request: web.BaseRequest, api: Api, routes: Routes) -> None:
        self.api: Api = api
        self.headers: MutableMapping[str, str] = join_headers(request.headers.items())
        self.response: web.StreamResponse = web.Response()
        self._request = request
        self._routes = routes
        self._wanted = False
        self._unread = False
        self._gave_way = False
        self._time: asyncio.Timeout | None = None
        self._waiting: list[bytes] = []

    @property
    def peer(self) -> str:
        """See ``Caller.peer``."""
        return self._request.remote or ""

    async def read_body(self) -> bytes:
        """See ``Caller.read_body``."""
        self._wanted = True
        try:
            self._routes.check_body(self.headers)
            return await self._read_body()
        except (BodyTooLarge, BodyTooSlow):
            # What is left of the body is not read: the connection goes with the answer.
            self._unread = True
            raise

    async def send(self, answer: Answer) -> None:
        """See ``Caller.send``."""
        self.response = _response(answer, closing=self._is_last())

    async def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """See ``Caller.begin``."""
        self.response = web.StreamResponse(status=status, headers=CIMultiDict(headers))
        if self._is_last() or self._request.version < HttpVersion11:
            # The end of a body that has neither length nor chunks is that of the connection.
            self.response.force_close()
        await self.response.prepare(self._request)

    def put(self, data: bytes) -> bool:
        """See ``Caller.put``; aiohttp writes in coroutines only, so ``drained`` does it."""
        self._waiting.append(data)
        return False

    async def drained(self) -> None:
        """See ``Caller.drained``."""
        waiting, self._waiting = self._waiting, []
        await self.response.write(b"".join(waiting))

    async def end(self) -> None:
        """See ``Caller.end``."""
        await self.drained()
        await self.response.write_eof()

    def _is_last(self) -> bool:
        """Say whether the connection ends with this request."""
        unwanted = not self._wanted and not self._request.content.is_eof()
        return unwanted or self._unread or self._routes.live.closing

    async def _read_body(self) -> bytes:
        if (
            self.headers.get("expect", "").lower() == "100-continue"
            and self._request.version >= HttpVersion11
        ):
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            async with asyncio.timeout(self._routes.patience.body_s) as self._time:
                return await self._whole_body()
        except TimeoutError as error:
            why = self._routes.gave_way() if self._gave_way else self._routes.too_slow()
            raise why from error

    def give_way(self) -> None:
        """See ``Arriving.give_way``: its time is over."""
        if self._time is not None:
            self._gave_way = True
            self._time.reschedule(asyncio.get_running_loop().time())

    async def _whole_body(self) -> bytes:
        pieces: list[bytes] = []
        size = 0
        try:
            while piece := await self._request.content.readany():
                size += len(piece)
                if size > self._routes.body_limit_bytes:
                    raise self._routes.too_large()
                pieces.append(piece)
                self._routes.bodies.grew(self, size)
        finally:
            self._routes.bodies.left(self)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Connection(web.RequestHandler):
    """A connection whose errors below the level of requests are told in OpenAI's shape too.

    It is closed where its first request does not come (aiohttp waits for the others alone), and
    where the caller takes nothing of what waits for it.
    """

    __slots__ = ("_first_request", "_patience", "_stall", "_unsent_bytes")

    _first_request: asyncio.TimerHandle
    _stall: asyncio.TimerHandle | None
    _unsent_bytes: int

    def __init__(self, front: "AiohttpFront", patience: Patience) -> None:
        super().__init__(
            front,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=patience.idle_s,
            **_OPTIONS,
        )
        self._patience = patience

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        self._stall = None
        loop = asyncio.get_running_loop()
        self._first_request = loop.call_later(self._patience.head_s, self._close_unused)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The caller has left."""
        self._first_request.cancel()
        self._stop_stall()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The caller does not read."""
        super().pause_writing()
        self._await_reading()

    def resume_writing(self) -> None:
        """The caller reads again."""
        self._stop_stall()
        super().resume_writing()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to a request that could not be read, or whose handler failed."""
        if status != HTTPStatus.BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        # What follows is the bytes themselves, and they may be a credential.
        told = (message or "").partition("\n")[0].partition(" when reading")[0]
        log.debug("malformed HTTP from %s: %s", request.remote, told)
        return _response(error_answer(malformed(told)), closing=True)

    def close(self) -> None:
        """Serve nothing more; aiohttp leaves an idle connection open."""
        idle = self._waiter is not None
        super().close()
        if idle and self.transport is not None:
            self.transport.close()

    def _close_unused(self) -> None:
        if not self._request_count:
            self.force_close()

    def _await_reading(self) -> None:
        if self.transport is not None:
            self._unsent_bytes = self.transport.get_write_buffer_size()
            loop = asyncio.get_running_loop()
            self._stall = loop.call_later(self._patience.stall_s, self._close_stalled)

    def _stop_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _close_stalled(self) -> None:
        if self.transport is None:
            return
        if self.transport.get_write_buffer_size() < self._unsent_bytes:
            self._await_reading()
        else:
            self.transport.abort()


class AiohttpFront(web.Server):
    """An aiohttp server without a router, whose connections speak OpenAI's errors.

    A caller that leaves cancels its handler. Bodies are not decompressed.
    """

    def __init__(self, routes: Routes) -> None:
        super().__init__(self._handle, handler_cancellation=True, **_OPTIONS)
        self._routes = routes

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return _Connection(self, self._routes.patience)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if fault := _fault(request):
            return _response(error_answer(malformed(fault)), closing=True)
        api, rates = APIS.get(request.path), request.path == FEEDBACK
        caller = AiohttpCaller(request, api or "chat", self._routes)
        if (api is None and not rates) or request.method != "POST":
            answer = await self._routes.answer(request.method, request.path, caller)
            return _response(answer, closing=self._routes.live.closing)
        serve = self._routes.rate if rates else self._routes.proxy.serve
        live, task = self._routes.live, asyncio.current_task()
        live.enter(task)
        try:
            await serve(caller)
        finally:
            live.leave(task)
        return caller.response


def _fault(request: web.BaseRequest) -> str:
    """Say what of a request's head can be read in two ways, "" if nothing can."""
    hosts = len(request.headers.getall("Host", ()))
    if hosts > 1 or (not hosts and request.version >= HttpVersion11):
        return NOT_ONE_HOST
    coding = request.headers.get("Transfer-Encoding", "chunked")
    return "" if coding.strip().lower() == "chunked" else "the transfer-encoding is not chunked"


def _response(answer: Answer, *, closing: bool) -> web.Response:
    response = web.Response(
        status=answer.status, headers=CIMultiDict(answer.headers), body=answer.body
    )
    if closing:
        response.force_close()
    return response
