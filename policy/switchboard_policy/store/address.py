"""The address of a Redis: one server, the Sentinels that know which one is the primary, a Cluster.

``redis://`` and ``rediss://`` (TLS) name a server. ``redis+sentinel://`` and
``rediss+sentinel://`` name Sentinels and a service:
``redis+sentinel://USER:PASSWORD@HOST:26379,HOST:26379/SERVICE/DB``. USER and PASSWORD are those
of the data servers; ``?sentinel_username=…&sentinel_password=…`` are for the Sentinels, and
``ssl_ca_certs=FILE`` (as with ``rediss://``) is for both. ``redis+cluster://`` and
``rediss+cluster://`` name nodes of a Redis Cluster, which know the others:
``redis+cluster://USER:PASSWORD@HOST:6379,HOST:6379``.
"""

import ssl
from dataclasses import dataclass, field
from urllib.parse import (
    SplitResult,
    parse_qs,
    quote,
    unquote,
    urlencode,
    urlsplit,
    urlunsplit,
)

_SENTINEL_PORT = 26379
_NODE_PORT = 6379
_ONE_SERVER = ("redis", "rediss")
_SENTINELS = ("redis+sentinel", "rediss+sentinel")
_CLUSTER = ("redis+cluster", "rediss+cluster")
_QUOTE = "quote what a URL reserves: p/ss is p%2Fss"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of an encrypted connection, each None where the URL names none."""

    authorities: str | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Sentinels and the service that they watch."""

    hosts: tuple[tuple[str, int], ...]
    service: str
    db: int
    tls: bool
    username: str | None
    password: str | None = field(repr=False)
    sentinel_username: str | None
    sentinel_password: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes of a Redis Cluster."""

    hosts: tuple[tuple[str, int], ...]
    tls: bool
    username: str | None
    password: str | None = field(repr=False)


def parse_address(url: str) -> str | Sentinels | Cluster:
    """Return a server's URL as it is, or what any other URL says; raises ValueError.

    The message names what is wrong and never the URL, which may hold a password.
    """
    parts = _split(url)
    tls_files_of(url)
    if parts.scheme in _ONE_SERVER:
        _port(parts)
        return url
    if parts.scheme in _SENTINELS:
        return _sentinels(parts)
    if parts.scheme in _CLUSTER:
        return _cluster(parts)
    schemes = ", ".join(f"{scheme}://" for scheme in (*_ONE_SERVER, *_SENTINELS, *_CLUSTER))
    raise ValueError(f"a store's URL starts with one of {schemes}")


def unfit_for_users(url: str) -> str:
    """Say why a URL cannot be given to users of their own with another login; "" if it can."""
    parts = _split(url)
    if _option(parts, "ssl_certfile") is not None:
        return "as it names a certificate that is shown to the store"
    if _option(parts, "sentinel_password") is not None:
        return "as it has a login at the Sentinels: give one that every namespace may know"
    return ""


def with_login(url: str, user: str, password: str, *, authorities: str | None = None) -> str:
    """Return a URL with this login at the data servers, and its file of authorities elsewhere."""
    parts = _split(url)
    _, _, hosts = parts.netloc.rpartition("@")
    query = parse_qs(parts.query, keep_blank_values=True)
    if authorities is not None and "ssl_ca_certs" in query:
        query["ssl_ca_certs"] = [authorities]
    return urlunsplit(
        parts._replace(
            netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{hosts}",
            query=urlencode(query, doseq=True, safe="/"),
        )
    )


def tls_files_of(url: str) -> TlsFiles:
    """Return the files that a URL names; raises ValueError where they cannot be of use."""
    parts = _split(url)
    certificate, key = _option(parts, "ssl_certfile"), _option(parts, "ssl_keyfile")
    if (certificate is None) != (key is None):
        raise ValueError("ssl_certfile and ssl_keyfile of a store's URL belong together")
    files = TlsFiles(_option(parts, "ssl_ca_certs"), certificate, key)
    if files != TlsFiles() and not parts.scheme.startswith("rediss"):
        raise ValueError(f"a store's URL with ssl_… starts with rediss, not {parts.scheme}://")
    return files


def check_files(url: str) -> None:
    """Raise ValueError where a file that a URL names is none; else every connection would fail."""
    files = tls_files_of(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if files.authorities is not None:
        try:
            context.load_verify_locations(files.authorities)
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(
                f"ssl_ca_certs of the store's URL: {files.authorities} is no file of certificates "
                f"({error})"
            ) from error
    if files.certificate is not None:
        try:
            context.load_cert_chain(files.certificate, files.key)
        except OSError as error:
            raise ValueError(
                f"ssl_certfile and ssl_keyfile of the store's URL: {files.certificate} and "
                f"{files.key} are no certificate with its key ({error})"
            ) from error


def _sentinels(parts: SplitResult) -> Sentinels:
    service, _, db = parts.path.strip("/").partition("/")
    username, password, hosts = _netloc(parts)
    if not service or not hosts:
        raise ValueError("a Sentinel URL is …://HOST:PORT,HOST:PORT/SERVICE[/DB]")
    if db and not db.isdecimal():
        raise ValueError("the database in a Sentinel URL is a number")
    return Sentinels(
        hosts=_hosts(hosts, port=_SENTINEL_PORT),
        service=service,
        db=int(db or 0),
        tls=parts.scheme.startswith("rediss"),
        username=username,
        password=password,
        sentinel_username=_option(parts, "sentinel_username"),
        sentinel_password=_option(parts, "sentinel_password"),
    )


def _cluster(parts: SplitResult) -> Cluster:
    username, password, hosts = _netloc(parts)
    if not hosts or parts.path not in ("", "/", "/0"):
        raise ValueError("a Cluster URL is …://HOST:PORT,HOST:PORT; it has one database, 0")
    return Cluster(
        hosts=_hosts(hosts, port=_NODE_PORT),
        tls=parts.scheme.startswith("rediss"),
        username=username,
        password=password,
    )


def _netloc(parts: SplitResult) -> tuple[str | None, str | None, str]:
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    return unquote(username) or None, unquote(password) or None, hosts


def _hosts(text: str, *, port: int) -> tuple[tuple[str, int], ...]:
    return tuple(_host(host, port=port) for host in text.split(","))


def _host(text: str, *, port: int) -> tuple[str, int]:
    parts = _split(f"//{text}")
    if not parts.hostname:
        raise ValueError("a store's URL has an empty host")
    return parts.hostname, _port(parts) or port


def _split(url: str) -> SplitResult:
    # What urllib says of a wrong one shows parts of it.
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError(f"a store's URL has hosts that are none; {_QUOTE}") from None


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        raise ValueError(f"a store's URL has a port that is none; {_QUOTE}") from None


def _option(parts: SplitResult, name: str) -> str | None:
    values = parse_qs(parts.query).get(name)
    return values[-1] if values else None
