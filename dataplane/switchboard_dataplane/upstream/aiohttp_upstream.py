"""The transport's aiohttp form: one connection pool for all upstreams."""

import io
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from switchboard_dataplane.decision.running import Endpoint
from switchboard_dataplane.errors import (
    UpstreamConnect,
    UpstreamError,
    UpstreamProtocol,
    UpstreamReset,
)
from switchboard_dataplane.upstream.addresses import AddressGuard
from switchboard_dataplane.upstream.bound import Bound
from switchboard_dataplane.upstream.connection import HEAD_BYTES_MAX
from switchboard_dataplane.upstream.tls import without_port
from switchboard_dataplane.upstream.transport import UpstreamResponse

log = logging.getLogger(__name__)

#: Bounds sockets, and with them memory; far above what one process can keep busy.
CONNECTIONS_MAX: Final = 8_192
#: Below the 5 s after which uvicorn, and so vLLM, closes an idle connection under us.
KEEPALIVE_S: Final = 4.5
#: A larger body is written in pieces, or it would hold up every other request.
WHOLE_BODY_BYTES_MAX: Final = 1024 * 1024

#: Family, kind, protocol, name and address of a socket to be made.
_AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]

_SET_BY_US: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class AiohttpUpstream:
    """An Upstream on an aiohttp session: redirects and cookies are not taken.

    ``tls`` is what connections are verified by, ``proxy`` the URL of a forward proxy. ``guard``
    refuses addresses; through a proxy, which may have any itself, those that stand in the URL.
    """

    def __init__(
        self, *, tls: ssl.SSLContext, guard: AddressGuard, proxy: str | None = None
    ) -> None:
        self._guarded_hosts = guard if proxy else None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=tls,
                limit=CONNECTIONS_MAX,
                keepalive_timeout=KEEPALIVE_S,
                socket_factory=None if proxy else _guarded(guard),
            ),
            proxy=proxy,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_SET_BY_US,
            timeout=aiohttp.ClientTimeout(total=None),
            max_line_size=HEAD_BYTES_MAX,
            max_field_size=HEAD_BYTES_MAX,
        )
        self._timeouts: dict[int, aiohttp.ClientTimeout] = {}

    async def send(
        self,
        endpoint: Endpoint,
        path: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        bound: Bound,
    ) -> UpstreamResponse:
        """See ``Upstream.send``."""
        host, server_hostname = endpoint.host, None
        if self._guarded_hosts is not None:
            why = self._guarded_hosts.refusal(urlsplit(endpoint.url).hostname or "")
            if why:
                raise UpstreamConnect(f"backend {endpoint.backend.name} may not be called: {why}")
        if host:
            headers = (*headers, ("host", host))
            if endpoint.url.startswith("https:"):
                server_hostname = without_port(host)
        try:
            response = await bound.over(
                self._session.post(
                    endpoint.url + path,
                    data=body if len(body) <= WHOLE_BODY_BYTES_MAX else io.BytesIO(body),
                    headers=headers,
                    allow_redirects=False,
                    timeout=self._timeout(endpoint.backend.spec.timeouts.connect_ms),
                    server_hostname=server_hostname,
                )
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if bound.expired:
                raise TimeoutError from error
            raise _named(error, endpoint) from _cause(error)
        return AiohttpResponse(response, bound)

    async def close(self) -> None:
        """See ``Upstream.close``."""
        await self._session.close()

    def _timeout(self, connect_ms: int) -> aiohttp.ClientTimeout:
        timeout = self._timeouts.get(connect_ms)
        if timeout is None:
            connect_s = connect_ms / 1000
            timeout = self._timeouts[connect_ms] = aiohttp.ClientTimeout(
                # The first includes the wait for a free connection and the name's resolution.
                connect=connect_s,
                sock_connect=connect_s,
                ceil_threshold=float("inf"),
            )
        return timeout


def _guarded(guard: AddressGuard) -> Callable[[_AddressInfo], socket.socket]:
    """Return what makes the sockets: none to an address that is refused."""

    def make(address: _AddressInfo) -> socket.socket:
        family, kind, protocol, _, (host, *_) = address
        guard.check(str(host))
        return socket.socket(family, kind, protocol)

    return make


class AiohttpResponse:
    """An UpstreamResponse on an aiohttp response."""

    __slots__ = ("_bound", "_response")

    def __init__(self, response: aiohttp.ClientResponse, bound: Bound) -> None:
        self._response = response
        self._bound = bound

    @property
    def status(self) -> int:
        """See ``UpstreamResponse.status``."""
        return self._response.status

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """See ``UpstreamResponse.headers``."""
        return [(name.lower(), value) for name, value in self._response.headers.items()]

    @property
    def media_type(self) -> str:
        """See ``UpstreamResponse.media_type``."""
        return self._response.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """See ``UpstreamResponse.read``."""
        try:
            return await self._bound.over(self._response.content.readany())
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamReset("the upstream broke off its answer") from error

    async def pour(
        self, take: Callable[[bytes], bool], ready: Callable[[], Awaitable[None]]
    ) -> None:
        """See ``UpstreamResponse.pour``."""
        while piece := await self.read():
            if not take(piece):
                await ready()

    def close(self) -> None:
        """See ``UpstreamResponse.close``."""
        # Not close(): release() keeps the connection if the whole body is here, and else closes it.
        self._response.release()


def _named(error: Exception, endpoint: Endpoint) -> UpstreamError:
    """Return the failure that an exception of the client stands for."""
    backend = endpoint.backend.name
    log.debug("attempt at %s failed", endpoint.id, exc_info=error)
    match error:
        case aiohttp.ClientConnectorError() | aiohttp.ClientHttpProxyError() | TimeoutError():
            return UpstreamConnect(f"backend {backend} cannot be reached")
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | OSError():
            return UpstreamReset(f"backend {backend} closed the connection without an answer")
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return UpstreamProtocol(f"backend {backend} does not answer in HTTP/1.1")
        case _:
            return UpstreamConnect(f"backend {backend} has an address that cannot be called")


def _cause(error: Exception) -> Exception:
    """Return what is behind an exception of the client, without the client's own words."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return error.certificate_error
        case aiohttp.ClientConnectorError():
            return error.os_error
        case aiohttp.ClientHttpProxyError():
            # Its own text has the proxy's URL, and with it maybe a password.
            return ConnectionError(f"the proxy answered {error.status}")
        case _:
            return error
