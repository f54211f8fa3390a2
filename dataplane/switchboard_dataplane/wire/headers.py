"""Which headers go on: to the upstream, and back to the caller. Names are in lower case."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from switchboard_dataplane.decision.request import PROOFS
from switchboard_dataplane.signals.engine import LOAD_REPORT
from switchboard_policy.names import (
    HEADER_DEADLINE_MS,
    HEADER_LABELS,
    HEADER_LATENCY_CLASS,
    HEADER_MIN_QUALITY,
    HEADER_PREFIX,
    HEADER_PRIORITY,
    HEADER_ROLE,
    HEADER_SESSION,
    HEADER_STAGE,
    HEADER_TAGS,
)

Headers = tuple[tuple[str, str], ...]

#: RFC 9110, 7.6.1 and the names that older software still sends; one connection only.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)
#: What identifies the caller to us must not reach a model's owner; OpenAI's two account headers
#: would not go with another account's key.
_CALLERS_OWN: Final = PROOFS | {"openai-organization", "openai-project"}
#: Set anew for each upstream: they speak of the caller's connection and of the caller's bytes.
_SET_ANEW: Final = frozenset(
    {
        "accept-encoding",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
    }
)
_NOT_UPSTREAM: Final = _HOP_BY_HOP | _CALLERS_OWN | _SET_ANEW
#: What a caller asks of a router: it goes on to a gateway, which routes the request once more.
_HINTS: Final = frozenset(
    {
        HEADER_DEADLINE_MS,
        HEADER_LABELS,
        HEADER_LATENCY_CLASS,
        HEADER_MIN_QUALITY,
        HEADER_PRIORITY,
        HEADER_ROLE,
        HEADER_SESSION,
        HEADER_STAGE,
        HEADER_TAGS,
    }
)
#: What a gateway says of its routing is told under these names: beside what is said here of ours.
_GATEWAYS_PREFIX: Final = f"{HEADER_PREFIX}gateway-"
#: The upstream's cookies and transport promises are about its own origin, not about ours; what it
#: says of its load is for us.
_NOT_BACK: Final = _HOP_BY_HOP | frozenset(
    {
        "alt-svc",
        "content-encoding",
        "content-length",
        "date",
        LOAD_REPORT,
        "server",
        "set-cookie",
        "strict-transport-security",
    }
)


def join_headers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by lower-case name; what came several times is joined by commas.

    Bytes that are no UTF-8 are replaced, so that every value can be sent on and matched.
    """
    joined: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        text = value if value.isascii() else _valid(value)
        joined[key] = f"{joined[key]}, {text}" if key in joined else text
    return joined


def to_upstream(
    headers: Mapping[str, str], *, api_key: str, hints: bool = False
) -> list[tuple[str, str]]:
    """Return what goes to a backend with its own key, "" for none.

    An answer that is not compressed can be read on its way: identity is asked for. ``hints`` says
    that it is a gateway, which is told what the caller asks of a router, too.
    """
    kept = [pair for pair in headers.items() if _goes_upstream(pair[0])]
    if hints:
        kept += [pair for pair in headers.items() if pair[0] in _HINTS]
    if "connection" in headers:
        kept = _without_named(kept, headers["connection"])
    kept += (("content-type", "application/json"), ("accept-encoding", "identity"))
    if api_key:
        kept.append(("authorization", f"Bearer {api_key}"))
    return kept


def to_caller(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return what of an upstream's headers, named in lower case, goes back to the caller."""
    kept = [pair for pair in pairs if _goes_back(pair[0])]
    named = ",".join([value for name, value in pairs if name == "connection"])
    return _without_named(kept, named) if named else kept


def told_by_gateway(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return what a gateway says of its routing: ``x-switchboard-gateway-backend`` and so on."""
    return [
        (_GATEWAYS_PREFIX + name[len(HEADER_PREFIX) :], value)
        for name, value in pairs
        if name.startswith(HEADER_PREFIX)
    ]


def header_lines(headers: Sequence[tuple[str, str]]) -> str:
    """Return headers as they go over the wire; raises ValueError where one has a line break.

    A line break in a value would begin a header, or a message, of somebody else's making.
    """
    text = "".join([f"{name}: {value}\r\n" for name, value in headers])
    lines = len(headers)
    if text.count("\n") != lines or text.count("\r") != lines:
        raise ValueError("a header has a line break")
    return text


def _goes_upstream(name: str) -> bool:
    return name not in _NOT_UPSTREAM and not name.startswith(HEADER_PREFIX)


def _goes_back(name: str) -> bool:
    return name not in _NOT_BACK and not name.startswith(HEADER_PREFIX)


def _without_named(pairs: Iterable[tuple[str, str]], connection: str) -> list[tuple[str, str]]:
    """Drop the headers that a Connection header names: they are meant for one connection."""
    named = {part.strip().lower() for part in connection.split(",")}
    return [pair for pair in pairs if pair[0] not in named]


def _valid(value: str) -> str:
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
