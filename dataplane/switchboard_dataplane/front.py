"""The public port's aiohttp form: requests in, the proxy's answers out."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from multidict import CIMultiDict

from switchboard_dataplane.decision.match import find_policy
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.errors import (
    BodyTooLarge,
    BodyTooSlow,
    InvalidRequest,
    MalformedHttp,
    NoRoute,
    NotReady,
    RouterError,
    UnknownPath,
    WrongMethod,
)
from switchboard_dataplane.lifecycle import LiveRequests
from switchboard_dataplane.proxy import Proxy
from switchboard_dataplane.wire.answers import Answer, error_answer, model_answer, models_answer
from switchboard_dataplane.wire.asks import PATHS
from switchboard_dataplane.wire.headers import join_headers
from switchboard_policy.ir import Api

log = logging.getLogger(__name__)

#: A body that takes longer is not coming, in seconds; it bounds what an idle socket can hold.
BODY_READ_S: Final = 60.0

_MODELS: Final = "/v1/models"
_APIS: Final[Mapping[str, Api]] = {f"/v1{path}": api for api, path in PATHS.items()}


class Front:
    """Handles the requests of the public port; ``snapshot`` returns the one in force."""

    def __init__(
        self,
        proxy: Proxy,
        live: LiveRequests,
        *,
        snapshot: Callable[[], Snapshot | None],
        body_limit_bytes: int,
    ) -> None:
        self._proxy = proxy
        self._live = live
        self._snapshot = snapshot
        self._body_limit_bytes = body_limit_bytes

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        api = _APIS.get(request.path)
        if api is None or request.method != "POST":
            return _response(self._answer_here(request), closing=self._live.closing)
        caller = AiohttpCaller(
            request, api, closing=self._live.closing, body_limit_bytes=self._body_limit_bytes
        )
        self._live.enter()
        try:
            await self._proxy.serve(caller)
        finally:
            self._live.leave()
        return caller.response

    def _answer_here(self, request: web.BaseRequest) -> Answer:
        try:
            return self._models(request)
        except RouterError as error:
            return error_answer(error)

    def _models(self, request: web.BaseRequest) -> Answer:
        """List the exact model names; a name that only a wildcard covers can be asked for."""
        path = request.path
        one = path.startswith(f"{_MODELS}/")
        if path != _MODELS and not one:
            if path in _APIS:
                raise WrongMethod(f"{path} takes POST, not {request.method}")
            served = ", ".join([*_APIS, _MODELS])
            raise UnknownPath(f"nothing is served under {path[:200]!r}; try {served}")
        if request.method not in ("GET", "HEAD"):
            raise WrongMethod(f"{_MODELS} takes GET, not {request.method}")
        snapshot = self._snapshot()
        if snapshot is None:
            raise NotReady("no policy has reached this gateway yet; send the request again")
        if not one:
            return models_answer(sorted(snapshot.exact))
        name = path[len(_MODELS) + 1 :]
        if find_policy(snapshot, name) is None:
            raise NoRoute(
                f"no policy answers for the model {name[:200]!r}; GET {_MODELS} lists names",
                param="model",
            )
        return model_answer(name)


class AiohttpCaller:
    """A Caller on an aiohttp request; ``response`` is what its handler returns in the end.

    ``closing`` says that the connection is not to be used again: this process is going away.
    """

    def __init__(
        self, request: web.BaseRequest, api: Api, *, closing: bool, body_limit_bytes: int
    ) -> None:
        self.api: Api = api
        self.headers: Mapping[str, str] = join_headers(request.headers.items())
        self.response: web.StreamResponse = web.Response()
        self._request = request
        self._closing = closing
        self._body_limit_bytes = body_limit_bytes

    async def read_body(self) -> bytes:
        """See ``Caller.read_body``."""
        if (self._request.content_length or 0) > self._body_limit_bytes:
            raise self._too_large()
        encoding = self.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise InvalidRequest(
                f"content-encoding is {encoding[:40]!r}, and bodies are not decoded; send it as it "
                "is, without that header",
                param="content-encoding",
            )
        pieces: list[bytes] = []
        size = 0
        content = self._request.content
        try:
            async with asyncio.timeout(BODY_READ_S):
                while piece := await content.readany():
                    size += len(piece)
                    if size > self._body_limit_bytes:
                        raise self._too_large()
                    pieces.append(piece)
        except TimeoutError as error:
            self._closing = True
            raise BodyTooSlow(f"the body did not arrive within {BODY_READ_S:g} s") from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def send(self, answer: Answer) -> None:
        """See ``Caller.send``."""
        self.response = _response(answer, closing=self._closing)

    async def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """See ``Caller.begin``."""
        self.response = web.StreamResponse(status=status, headers=_multi(headers))
        if self._closing:
            self.response.force_close()
        await self.response.prepare(self._request)

    async def write(self, data: bytes) -> None:
        """See ``Caller.write``."""
        await self.response.write(data)

    async def end(self) -> None:
        """See ``Caller.end``."""
        await self.response.write_eof()

    def _too_large(self) -> BodyTooLarge:
        # What is left of the body is not read: the connection goes with the answer.
        self._closing = True
        return BodyTooLarge(
            f"the body exceeds {self._body_limit_bytes} bytes; send less, or raise "
            "--body-limit-bytes"
        )


class _Connection(web.RequestHandler):
    """A connection whose errors below the level of requests are told in OpenAI's shape too."""

    __slots__ = ()

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
        said = told.rstrip(":. ") or "the request cannot be read"
        log.debug("malformed HTTP from %s: %s", request.remote, said)
        error = MalformedHttp(f"{said[:200]}; send HTTP/1.1 with a head of less than 8 KiB a line")
        return _response(error_answer(error), closing=True)


class HttpServer(web.Server):
    """An aiohttp server without a router, whose connections speak OpenAI's errors.

    A caller that leaves cancels its handler. Bodies are not decompressed.
    """

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        self._options: dict[str, Any] = {"access_log": None, "auto_decompress": False}
        super().__init__(handler, handler_cancellation=True, **self._options)

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return _Connection(self, loop=asyncio.get_running_loop(), **self._options)


def _response(answer: Answer, *, closing: bool) -> web.Response:
    response = web.Response(status=answer.status, headers=_multi(answer.headers), body=answer.body)
    if closing:
        response.force_close()
    return response


def _multi(headers: Sequence[tuple[str, str]]) -> CIMultiDict[str]:
    return CIMultiDict(headers)
