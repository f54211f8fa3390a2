"""The transport of our own: HTTP/1.1 over kept connections, a pool for each origin."""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from switchboard_dataplane.decision.running import Endpoint
from switchboard_dataplane.errors import (
    UpstreamConnect,
    UpstreamError,
    UpstreamProtocol,
    UpstreamReset,
)
from switchboard_dataplane.upstream.addresses import AddressGuard
from switchboard_dataplane.upstream.bound import Bound
from switchboard_dataplane.upstream.connection import Connection, Response
from switchboard_dataplane.upstream.pool import POOL_LIMITS, Origin, Pool, PoolLimits
from switchboard_dataplane.upstream.tls import without_port
from switchboard_dataplane.wire.headers import header_lines

log = logging.getLogger(__name__)

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class _Route(NamedTuple):
    """How an endpoint is reached: its pool, and the beginning of a request's head."""

    pool: Pool
    base_path: str
    host: str


class Http1Upstream:
    """An Upstream; ``tls`` is what connections are verified by, ``guard`` refuses addresses."""

    def __init__(
        self, *, tls: ssl.SSLContext, guard: AddressGuard, limits: PoolLimits = POOL_LIMITS
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        self._guard = guard
        self._limits = limits
        self._pools: dict[Origin, Pool] = {}
        self._routes: dict[tuple[str, str], _Route] = {}
        self._reaper = self._loop.call_later(limits.reap_s, self._reap)

    async def send(
        self,
        endpoint: Endpoint,
        path: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        bound: Bound,
    ) -> Response:
        """See ``Upstream.send``."""
        route = self._routes.get((endpoint.url, endpoint.host)) or self._route(endpoint)
        head = _head(route, path, headers, len(body), endpoint)
        pool = route.pool
        connection = pool.take()
        if connection is not None:
            try:
                return await connection.exchange(head, body, bound)
            except UpstreamReset as error:
                if not connection.silent:
                    raise _named(error, endpoint) from error
                # It had been closed at the other end while it was idle: no fault of anybody's.
            except UpstreamProtocol as error:
                raise _named(error, endpoint) from error
        connection = await self._open(pool, endpoint, bound)
        try:
            return await connection.exchange(head, body, bound)
        except (UpstreamReset, UpstreamProtocol) as error:
            raise _named(error, endpoint) from error

    async def close(self) -> None:
        """See ``Upstream.close``."""
        self._reaper.cancel()
        for pool in self._pools.values():
            pool.close()
        # A transport tells of its end in the next turn of the loop, under TLS in the one after.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _open(self, pool: Pool, endpoint: Endpoint, bound: Bound) -> Connection:
        connect_s = endpoint.backend.spec.timeouts.connect_ms / 1000
        try:
            async with asyncio.timeout(connect_s):
                return await bound.over(pool.open())
        except (OSError, ValueError) as error:  # TimeoutError and ssl.SSLError are OSErrors
            if bound.expired:
                raise
            log.debug("no connection to %s", endpoint.id, exc_info=error)
            raise UpstreamConnect(f"backend {endpoint.backend.name} cannot be reached") from error

    def _route(self, endpoint: Endpoint) -> _Route:
        url = urlsplit(endpoint.url)
        port = _port(url)
        if not url.hostname or not port:
            raise UpstreamConnect(
                f"backend {endpoint.backend.name} has an address that cannot be called"
            )
        host = endpoint.host or url.netloc.rpartition("@")[2]
        tls_name = None
        if url.scheme == "https":
            tls_name = without_port(endpoint.host) if endpoint.host else url.hostname
        origin = Origin(url.hostname, port, tls_name)
        pool = self._pools.get(origin)
        if pool is None:
            pool = Pool(
                origin, tls=self._tls, loop=self._loop, guard=self._guard, limits=self._limits
            )
            self._pools[origin] = pool
        route = self._routes[endpoint.url, endpoint.host] = _Route(pool, url.path, host)
        return route

    def _reap(self) -> None:
        long_ago = self._loop.time() - self._limits.forgotten_s
        for pool in self._pools.values():
            pool.reap()
        gone = {o for o, pool in self._pools.items() if not len(pool) and pool.used_at < long_ago}
        if gone:
            self._pools = {o: pool for o, pool in self._pools.items() if o not in gone}
            self._routes = {k: r for k, r in self._routes.items() if r.pool.origin not in gone}
        self._reaper = self._loop.call_later(self._limits.reap_s, self._reap)


def _port(url: SplitResult) -> int:
    try:
        return _DEFAULT_PORTS.get(url.scheme, 0) if url.port is None else url.port
    except ValueError:
        return 0


def _head(
    route: _Route, path: str, headers: Sequence[tuple[str, str]], length: int, endpoint: Endpoint
) -> bytes:
    try:
        text = header_lines(headers)
    except ValueError as error:
        raise UpstreamConnect(f"backend {endpoint.backend.name}: {error}") from error
    return (
        f"POST {route.base_path}{path} HTTP/1.1\r\nhost: {route.host}\r\n{text}"
        f"content-length: {length}\r\n\r\n"
    ).encode("utf-8", "surrogateescape")


def _named(error: UpstreamError, endpoint: Endpoint) -> UpstreamError:
    backend = endpoint.backend.name
    log.debug("attempt at %s failed", endpoint.id, exc_info=error)
    if isinstance(error, UpstreamReset):
        return UpstreamReset(f"backend {backend} closed the connection without an answer")
    return UpstreamProtocol(f"backend {backend} does not answer in HTTP/1.1")
