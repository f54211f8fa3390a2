"""Names what an upstream's answer says went wrong: the closed taxonomy of ``errors.py``.

What the caller did wrong is not a failure: 400, 409, 413, 415, 422 and other 4xx, content filters
among them, pass through unchanged, for no other backend would answer better. 404, 405 and 410 are
ours: the model name and the path upstream come from the ModelBackend.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast

from switchboard_dataplane.errors import (
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamMisconfigured,
    UpstreamOverloaded,
    UpstreamProtocol,
    UpstreamRateLimited,
    UpstreamTimeout,
)

_BY_STATUS: Final[Mapping[int, type[UpstreamError]]] = {
    401: UpstreamAuth,
    402: UpstreamAuth,
    403: UpstreamAuth,
    404: UpstreamMisconfigured,
    405: UpstreamMisconfigured,
    408: UpstreamTimeout,
    410: UpstreamMisconfigured,
    429: UpstreamRateLimited,
    503: UpstreamOverloaded,
    529: UpstreamOverloaded,
}
_OK: Final = range(200, 300)
_REDIRECTS: Final = range(300, 400)
_CALLERS: Final = range(400, 500)
_SERVERS: Final = range(500, 600)


def failure_of(
    status: int, headers: Iterable[tuple[str, str]] = (), *, now: Callable[[], datetime]
) -> UpstreamError | None:
    """Return the failure that a status stands for; None for success and for the caller's errors.

    ``now`` tells the time of day, for a Retry-After that is a date.
    """
    if status in _OK:
        return None
    kind = _BY_STATUS.get(status)
    if kind is None:
        if status in _CALLERS:
            return None
        kind = UpstreamFailed if status in _SERVERS else UpstreamProtocol
    message = f"the upstream answered {status}"
    return kind(message, retry_after_s=read_retry_after(headers, now=now))


def failure_of_event(data: Mapping[str, Any]) -> UpstreamError | None:
    """Return the failure that an error event before the content stands for.

    Engines put the status that they would have answered into ``code``; without one it is theirs.
    None says that it is the caller's error.
    """
    error = data.get("error")
    fields = cast("Mapping[str, Any]", error) if isinstance(error, dict) else data
    return failure_of(event_status(fields), now=_never)


def event_status(fields: Mapping[str, Any]) -> int:
    """Return the status that an error object names, 500 if it names none."""
    for key in ("code", "status"):
        code = fields.get(key)
        if isinstance(code, str) and code.isdecimal():
            code = int(code[:3])
        if isinstance(code, int) and (code in _CALLERS or code in _SERVERS):
            return code
    return 500


def read_retry_after(
    headers: Iterable[tuple[str, str]], *, now: Callable[[], datetime]
) -> float | None:
    """Return how long to wait, in seconds: ``retry-after-ms``, else Retry-After in either form."""
    found = {name.lower(): value.strip() for name, value in headers if "retry" in name.lower()}
    in_ms = _number(found.get("retry-after-ms", ""))
    if in_ms is not None:
        return in_ms / 1000
    value = found.get("retry-after", "")
    in_s = _number(value)
    if in_s is not None or not value:
        return in_s
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - now()).total_seconds())


def _number(text: str) -> float | None:
    # Digits and one point: no sign, no exponent, no "nan".
    return float(text) if text.replace(".", "", 1).isdecimal() and text.isascii() else None


def _never() -> datetime:
    raise AssertionError("an event has no Retry-After")
