"""Chooses how a backend is reached: by our own transport, or through a forward proxy by aiohttp's.

Backends outside the cluster obey HTTP_PROXY, HTTPS_PROXY and NO_PROXY; Services never do.
"""

import ssl
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from switchboard_dataplane.decision.running import Endpoint
from switchboard_dataplane.upstream.addresses import AddressGuard
from switchboard_dataplane.upstream.aiohttp_upstream import AiohttpUpstream
from switchboard_dataplane.upstream.bound import Bound
from switchboard_dataplane.upstream.http1 import Http1Upstream
from switchboard_dataplane.upstream.tls import without_port
from switchboard_dataplane.upstream.transport import Upstream, UpstreamResponse


def choose_upstream(
    *, tls: ssl.SSLContext, proxies: Mapping[str, str], guard: AddressGuard
) -> Upstream:
    """Return the transport for an environment; ``proxies`` as of ``getproxies_environment``.

    What a proxy resolves is out of sight: of what goes through one, ``guard`` reads the URL alone.
    Raises ValueError for a proxy that cannot be used.
    """
    by_proxy: dict[str, Upstream] = {}
    by_scheme: dict[str, Upstream] = {}
    for scheme in ("http", "https"):
        if scheme in proxies:
            proxy = _proxy_url(scheme, proxies[scheme])
            if proxy not in by_proxy:
                by_proxy[proxy] = AiohttpUpstream(tls=tls, guard=guard, proxy=proxy)
            by_scheme[scheme] = by_proxy[proxy]
    direct = Http1Upstream(tls=tls, guard=guard)
    return _ChosenUpstream(direct, by_scheme, proxies) if by_scheme else direct


class _ChosenUpstream:
    """An Upstream that is several; which one serves an origin is decided once."""

    def __init__(
        self, direct: Upstream, proxied: Mapping[str, Upstream], proxies: Mapping[str, str]
    ) -> None:
        self._direct = direct
        self._proxied = proxied
        self._no_proxy = proxies.get("no", "")
        self._chosen: dict[str, Upstream] = {}

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
        if endpoint.host:
            # It is an address of a Service: of the cluster, where a proxy has no business.
            chosen = self._direct
        else:
            chosen = self._chosen.get(endpoint.url) or self._choose(endpoint.url)
        return await chosen.send(endpoint, path, headers=headers, body=body, bound=bound)

    async def close(self) -> None:
        """See ``Upstream.close``."""
        for one in (self._direct, *{id(one): one for one in self._proxied.values()}.values()):
            await one.close()

    def _choose(self, url: str) -> Upstream:
        parts = urlsplit(url)
        proxied = self._proxied.get(parts.scheme)
        if proxied is None or goes_direct(parts.netloc.lower(), self._no_proxy):
            proxied = self._direct
        self._chosen[url] = proxied
        return proxied


def goes_direct(netloc: str, no_proxy: str) -> bool:
    """Say whether ``host:port`` is exempt from a proxy.

    ``no_proxy`` are names (with all names below them), addresses and networks, separated by
    commas; a name or address may have a port; ``*`` is everything. What a proxy would reach on the
    loopback is the proxy's own host, so that is always exempt.
    """
    host = without_port(netloc)
    if _is_loopback(host):
        return True
    said = (one.strip().lower() for one in no_proxy.split(","))
    return any(_covers(one, host, netloc) for one in said if one)


def _covers(one: str, host: str, netloc: str) -> bool:
    if one == "*":
        return True
    if "/" in one:
        try:
            return ip_address(host) in ip_network(one, strict=False)
        except ValueError:
            return False
    name = one.removeprefix("*").removeprefix(".")
    return name in (host, netloc) or host.endswith(f".{name}") or netloc.endswith(f".{name}")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _proxy_url(scheme: str, said: str) -> str:
    """Return the URL of a proxy; without a scheme it is spoken to in plain HTTP, as by curl."""
    url = said if "://" in said else f"http://{said}"
    parts = urlsplit(url)
    # Not the value: it may hold a password.
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{scheme.upper()}_PROXY is no http:// or https:// URL")
    if not parts.hostname:
        raise ValueError(f"{scheme.upper()}_PROXY names no host")
    return url
