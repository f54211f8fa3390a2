"""The address of a Redis: one server, or the Sentinels that know which one is the primary.

``redis://`` and ``rediss://`` (TLS) name a server. ``redis+sentinel://`` and
``rediss+sentinel://`` name Sentinels and a service:
``redis+sentinel://USER:PASSWORD@HOST:26379,HOST:26379/SERVICE/DB``. USER and PASSWORD are those
of the data servers; ``?sentinel_username=…&sentinel_password=…`` are for the Sentinels, and
``ssl_ca_certs=FILE`` (as with ``rediss://``) is for both.
"""

from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

_SENTINEL_PORT = 26379


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
    ca_file: str | None


def parse_address(url: str) -> str | Sentinels:
    """Return a server's URL as it is, or what a Sentinel URL says; raises ValueError.

    The message names what is wrong and never the URL, which may hold a password.
    """
    parts = urlsplit(url)
    if parts.scheme in ("redis", "rediss"):
        return url
    if parts.scheme not in ("redis+sentinel", "rediss+sentinel"):
        raise ValueError(
            "a store's URL starts with redis://, rediss://, redis+sentinel:// or rediss+sentinel://"
        )
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    service, _, db = parts.path.strip("/").partition("/")
    if not service or not hosts:
        raise ValueError("a Sentinel URL is …://HOST:PORT,HOST:PORT/SERVICE[/DB]")
    if db and not db.isdecimal():
        raise ValueError(f"the database in a Sentinel URL is a number, not {db!r}")
    return Sentinels(
        hosts=tuple(_host(host) for host in hosts.split(",")),
        service=service,
        db=int(db or 0),
        tls=parts.scheme == "rediss+sentinel",
        username=unquote(username) or None,
        password=unquote(password) or None,
        sentinel_username=_option(parts, "sentinel_username"),
        sentinel_password=_option(parts, "sentinel_password"),
        ca_file=_option(parts, "ssl_ca_certs"),
    )


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a Sentinel URL has an empty host")
    return parts.hostname, parts.port or _SENTINEL_PORT


def _option(parts: SplitResult, name: str) -> str | None:
    values = parse_qs(parts.query).get(name)
    return values[-1] if values else None
