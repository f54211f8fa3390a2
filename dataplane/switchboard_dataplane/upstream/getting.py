"""Small requests of the gateway's own, such as for metrics: over kept connections of their own.

A caller's request never waits in line behind one of them. They follow nowhere, and go to the
address itself, never through a forward proxy. None carries a credential, but for the token that a
sidecar shows to its gateway.
"""

import asyncio
import re
import ssl
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from switchboard_dataplane.errors import UpstreamError, UpstreamReset
from switchboard_dataplane.upstream.addresses import AddressGuard
from switchboard_dataplane.upstream.bound import Bound
from switchboard_dataplane.upstream.connection import Response
from switchboard_dataplane.upstream.pool import Origin, Pool
from switchboard_dataplane.upstream.tls import without_port

#: How often idle connections are looked at, in seconds.
REAP_S: Final = 5.0
#: A pool without a connection is forgotten after this time, in seconds.
POOL_FORGOTTEN_S: Final = 60.0

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Got(NamedTuple):
    """An answer: its status and its whole body."""

    status: int
    body: bytes


class Getter:
    """Gets, and posts JSON; ``tls`` is what connections are verified by, ``guard`` refuses some.

    ``pod`` is told as the user agent, so that an engine's log says who asks.
    """

    def __init__(self, *, tls: ssl.SSLContext, guard: AddressGuard, pod: str = "") -> None:
        name = re.sub("[^A-Za-z0-9._-]", "?", pod)
        self._agent = f"switchboard-dataplane/{name}" if name else "switchboard-dataplane"
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        self._guard = guard
        self._pools: dict[Origin, Pool] = {}
        self._reap_at = self._loop.time() + REAP_S

    async def get(
        self, url: str, *, host: str, timeout_s: float, bytes_max: int, bearer: str = ""
    ) -> Got:
        """Return the answer; ``host`` is the name for TLS and Host, "" where the URL's is right.

        ``bearer`` is a token that is shown, "" for none: one that is a line of printable ASCII.
        Raises OSError: no connection, no HTTP, more than ``bytes_max``, not within ``timeout_s``.
        """
        shown = f"authorization: Bearer {bearer}\r\n" if bearer else ""
        head = f"accept: text/plain, */*;q=0.5\r\n{shown}"
        async with asyncio.timeout(timeout_s):
            return await self._send("GET", url, host, head, b"", bytes_max)

    async def post(self, url: str, body: bytes, *, timeout_s: float, bytes_max: int) -> Got:
        """Post JSON and return the answer; raises OSError as ``get`` does."""
        head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        async with asyncio.timeout(timeout_s):
            return await self._send("POST", url, "", head, body, bytes_max)

    async def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.close()
        # A transport tells of its end in the next turn of the loop, under TLS in the one after.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _send(
        self, method: str, url: str, host: str, headers: str, body: bytes, bytes_max: int
    ) -> Got:
        try:
            pool, head = self._prepare(method, url, host, headers)
            response = await self._exchange(pool, head, body)
            try:
                return Got(response.status, await _read(response, bytes_max))
            finally:
                response.close()
        except (UpstreamError, ValueError) as error:
            raise OSError(str(error)) from error

    async def _exchange(self, pool: Pool, head: bytes, body: bytes) -> Response:
        connection = pool.take()
        if connection is not None:
            try:
                return await connection.exchange(head, body, _unbounded())
            except UpstreamReset:
                if not connection.silent:
                    raise
        connection = await pool.open()
        return await connection.exchange(head, body, _unbounded())

    def _prepare(self, method: str, url: str, host: str, headers: str) -> tuple[Pool, bytes]:
        """Return the connections to a URL's origin and a request's head; raises ValueError."""
        self._reap()
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
        if not parts.hostname or not port:
            raise ValueError(f"{url} is no address")
        tls_name = None
        if parts.scheme == "https":
            tls_name = without_port(host) if host else parts.hostname
        origin = Origin(parts.hostname, port, tls_name)
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(
                origin, tls=self._tls, loop=self._loop, guard=self._guard
            )
        query = f"?{parts.query}" if parts.query else ""
        head = (
            f"{method} {parts.path or '/'}{query} HTTP/1.1\r\nhost: {host or parts.netloc}\r\n"
            f"user-agent: {self._agent}\r\n{headers}accept-encoding: identity\r\n\r\n"
        )
        return pool, head.encode()

    def _reap(self) -> None:
        now = self._loop.time()
        if now < self._reap_at:
            return
        self._reap_at = now + REAP_S
        for pool in self._pools.values():
            pool.reap()
        self._pools = {
            origin: pool
            for origin, pool in self._pools.items()
            if len(pool) or pool.used_at > now - POOL_FORGOTTEN_S
        }


def _unbounded() -> Bound:
    """Return a bound that never expires: the time is bounded by cancelling."""
    return Bound({})


async def _read(response: Response, bytes_max: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := await response.read():
        size += len(piece)
        if size > bytes_max:
            raise OSError(f"the answer exceeds {bytes_max} bytes")
        pieces.append(piece)
    return b"".join(pieces)
