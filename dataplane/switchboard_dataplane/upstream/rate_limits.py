"""Reads how long an upstream asks to be left alone: Retry-After and the headers of rate limits."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: Nobody is told to wait for longer, and nothing longer is remembered, in seconds: what a day's
#: quota needs is found out by a request an hour.
RETRY_AFTER_MAX_S: Final = 3_600.0

_RATE_LIMITED: Final = 429
_DURATION: Final = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|d|h|m|s))+")
_PART: Final = re.compile(r"([\d.]+)(ms|d|h|m|s)")
_UNIT_S: Final[Mapping[str, float]] = {"d": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 0.001}
#: A bare number above these is a time of day: seconds, or milliseconds, since 1970.
_EPOCH_S: Final = 1e9
_EPOCH_MS: Final = 1e12


def read_rest(
    status: int, headers: Iterable[tuple[str, str]], *, now: Callable[[], datetime]
) -> float | None:
    """Return how long a refusal asks to wait, in seconds, at most an hour; None if it says nothing.

    ``retry-after-ms``, else Retry-After in either form, else (of a 429) when the limit that is
    used up renews; if it does not say which one that is, the first.
    """
    found = _of_interest(headers)
    if not found:
        return None
    in_ms = _number(found.get("retry-after-ms", ""))
    if in_ms is not None:
        return min(RETRY_AFTER_MAX_S, in_ms / 1000)
    wait_s = _retry_after(found.get("retry-after", ""), now)
    if wait_s is None and status == _RATE_LIMITED:
        wait_s = _used_up(found, now)
        if wait_s is None:
            wait_s = min(_resets(found, now).values(), default=None)
    return None if wait_s is None else min(RETRY_AFTER_MAX_S, wait_s)


def read_announced(
    headers: Iterable[tuple[str, str]], *, now: Callable[[], datetime]
) -> float | None:
    """Return when a limit renews that an answer says is used up now, in seconds; None if none is.

    With several of them the last.
    """
    found = _of_interest(headers)
    wait_s = _used_up(found, now) if found else None
    return None if wait_s is None else min(RETRY_AFTER_MAX_S, wait_s)


def _of_interest(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {
        low: value.strip()
        for name, value in headers
        if "ratelimit" in (low := name.lower()) or "retry" in low
    }


def _retry_after(value: str, now: Callable[[], datetime]) -> float | None:
    in_s = _number(value)
    if in_s is not None or not value:
        return in_s
    try:
        return _until(parsedate_to_datetime(value), now)
    except (ValueError, OverflowError):
        return None


def _used_up(found: Mapping[str, str], now: Callable[[], datetime]) -> float | None:
    resets = _resets(found, now)
    return max(
        (wait_s for name, wait_s in resets.items() if _is_used_up(found, name)), default=None
    )


def _is_used_up(found: Mapping[str, str], reset: str) -> bool:
    # x-ratelimit-reset-requests and x-ratelimit-remaining-requests; anthropic has it at the end.
    return _number(found.get(reset.replace("reset", "remaining"), "")) == 0


def _resets(found: Mapping[str, str], now: Callable[[], datetime]) -> dict[str, float]:
    read = {name: _reset(found[name], now) for name in found if "reset" in name}
    return {name: wait_s for name, wait_s in read.items() if wait_s is not None}


def _reset(value: str, now: Callable[[], datetime]) -> float | None:
    """Read ``6m0s``, seconds from now or since 1970, or a date of RFC 3339."""
    number = _number(value)
    if number is not None:
        if number < _EPOCH_S:
            return number
        since_1970_s = number if number < _EPOCH_MS else number / 1000
        return max(0.0, since_1970_s - now().timestamp())
    if _DURATION.fullmatch(value):
        return sum(float(count) * _UNIT_S[unit] for count, unit in _PART.findall(value))
    try:
        return _until(datetime.fromisoformat(value), now)
    except (ValueError, OverflowError):
        return None


def _until(time: datetime, now: Callable[[], datetime]) -> float:
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return max(0.0, (time - now()).total_seconds())


def _number(text: str) -> float | None:
    # Digits and one point: no sign, no exponent, no "nan".
    return float(text) if text.replace(".", "", 1).isdecimal() and text.isascii() else None
