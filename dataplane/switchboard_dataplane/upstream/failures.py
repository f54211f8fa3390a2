"""Names what an upstream's answer says went wrong: the closed taxonomy of ``errors.py``.

What the caller did wrong is not a failure: 400, 409, 413, 415, 422 and other 4xx, and what a
content filter refuses, pass through unchanged, for no other backend would answer better. 404, 405
and 410 are ours: the model name and the path upstream come from the ModelBackend. A prompt that is
too long is the caller's too, unless a model with a larger window is left; ``overflow.py`` knows it.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, cast

import orjson

from switchboard_dataplane.errors import (
    AccessUnavailable,
    Failure,
    InternalError,
    NotReady,
    ShuttingDown,
    Unauthenticated,
    UnknownPath,
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamMisconfigured,
    UpstreamOverloaded,
    UpstreamProtocol,
    UpstreamRateLimited,
    UpstreamTimeout,
    WrongMethod,
)
from switchboard_dataplane.upstream.overflow import find_overflow
from switchboard_dataplane.upstream.rate_limits import read_rest
from switchboard_dataplane.upstream.transport import UpstreamResponse

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
_FORBIDDEN: Final = 403
_TOO_MANY: Final = 429
_OK: Final = range(200, 300)
_REDIRECTS: Final = range(300, 400)
_CALLERS: Final = range(400, 500)
_SERVERS: Final = range(500, 600)

#: What a request hears that came while everything rests, by why it does.
_RESTING: Final[Mapping[str, type[UpstreamError]]] = {
    "auth": UpstreamAuth,
    "rate_limited": UpstreamRateLimited,
}

#: How long the body of a refusal is waited for, in seconds: the next candidate is waiting.
REFUSAL_READ_S: Final = 0.5
#: More than this is no error message.
REFUSAL_BYTES_MAX: Final = 64 * 1024
#: Of these the body says whose fault it is.
TOLD_BY_BODY: Final = frozenset({_FORBIDDEN, _TOO_MANY})
#: The words for a prompt, or an answer, that a filter refuses.
_FILTERED: Final = frozenset({"content_filter", "content_policy_violation", "moderation_blocked"})
_FILTER_SAYS: Final = re.compile(
    r"content (?:filter|policy|management)|moderation|flagged|safety", re.IGNORECASE
)
#: The words of an account without money: a 429 that no waiting helps.
_NO_QUOTA: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
#: What a gateway says where it does not take a sidecar's token.
_GATEWAY_REFUSES: Final = frozenset({Unauthenticated.code, "missing_api_key"})
#: What a gateway says of itself, and not of a request: another one of it may serve.
_GATEWAY_FAILS: Final = frozenset(
    {
        AccessUnavailable.code,
        InternalError.code,
        NotReady.code,
        ShuttingDown.code,
        UnknownPath.code,
        WrongMethod.code,
    }
)
#: What errors without a number call themselves.
_STATUS_BY_WORD: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
    **dict.fromkeys(_FILTERED, 400),
    **dict.fromkeys(_NO_QUOTA, 429),
}


def failure_of(
    status: int,
    headers: Iterable[tuple[str, str]] = (),
    *,
    now: Callable[[], datetime],
    body: bytes = b"",
) -> UpstreamError | None:
    """Return the failure that a status stands for; None for success and for the caller's errors.

    ``now`` tells the time of day, for a Retry-After that is a date. ``body`` is wanted for the
    statuses of ``TOLD_BY_BODY``; what came of it will do.
    """
    if status in _OK:
        return None
    fields = read_error(body)
    kind = _kind(status, fields)
    if kind is None:
        return None
    message = f"the upstream answered {status}"
    failure = kind(message, retry_after_s=read_rest(status, headers, now=now))
    if isinstance(failure, UpstreamAuth) and status == _FORBIDDEN and not fields:
        # Not the API's own words: a firewall on the way may have disliked this request alone.
        failure.lasting = False
    return failure


def failure_of_gateway(failure: UpstreamError, body: bytes) -> UpstreamError | None:
    """Return the failure of a gateway itself; None where it tells the caller of a request's end.

    A gateway has tried what there is to try. What it then says is the answer: if it counted against
    the gateway, one model that is away would take all others along.
    """
    code = read_error(body).get("code")
    if not isinstance(code, str):
        return failure
    if isinstance(failure, UpstreamAuth) and code in _GATEWAY_REFUSES:
        # Another token comes before long, and this one is good for all that goes there.
        failure.lasting = False
        return failure
    return failure if code in _GATEWAY_FAILS else None


async def read_refusal(response: UpstreamResponse, *, told_by_body: bool = False) -> bytes:
    """Return the body of an answer whose status leaves open whose fault it is; else b"".

    What does not come soon, or is long, is not waited for: then the status alone counts.
    ``told_by_body`` says that the body is wanted whatever the status.
    """
    if not told_by_body and response.status not in TOLD_BY_BODY:
        return b""
    body = b""
    try:
        async with asyncio.timeout(REFUSAL_READ_S):
            while len(body) <= REFUSAL_BYTES_MAX and (piece := await response.read()):
                body += piece
    except (TimeoutError, UpstreamError):
        return b""
    return body if len(body) <= REFUSAL_BYTES_MAX else b""


def failure_of_event(data: Mapping[str, Any]) -> UpstreamError | None:
    """Return the failure that an error under a status of success stands for: an event, or a body.

    Engines put the status that they would have answered into ``code``; others say it in words;
    without either it is theirs. None says that it is the caller's error.
    """
    fields = error_fields(data)
    status = event_status(fields)
    kind = _kind(status, fields)
    return None if kind is None else kind(f"the upstream's answer says {status}")


def event_status(fields: Mapping[str, Any]) -> int:
    """Return the status that an error object names or stands for, 500 if it says none."""
    for key in ("code", "status"):
        code = fields.get(key)
        if isinstance(code, str) and code.isdecimal():
            code = int(code[:3])
        if isinstance(code, int) and (code in _CALLERS or code in _SERVERS):
            return code
    for word in _words(fields):
        if word in _STATUS_BY_WORD:
            return _STATUS_BY_WORD[word]
    return 500 if find_overflow(fields) is None else 400


def read_error(body: bytes) -> Mapping[str, Any]:
    """Return the error object of a body: nested as OpenAI's, or flat; empty where it has none."""
    if not body or len(body) > REFUSAL_BYTES_MAX:
        return {}
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return error_fields(cast("Mapping[str, Any]", parsed)) if isinstance(parsed, dict) else {}


def error_fields(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the error object of a parsed body or event, which may be that object itself."""
    error = data.get("error")
    return cast("Mapping[str, Any]", error) if isinstance(error, dict) else data


def retold(failure: UpstreamError, *, attempts: int) -> UpstreamError:
    """Return the last failure as the caller hears it: nothing of the upstream's own text."""
    tries = "the attempt" if attempts == 1 else f"all {attempts} attempts"
    return type(failure)(
        f"{tries} failed; the last: {failure.message}", retry_after_s=failure.retry_after_s
    )


def still_resting(failure: Failure, in_s: float) -> UpstreamError:
    """Return the refusal of a request that nothing was asked for: all asked to be left alone."""
    kind = _RESTING.get(failure, UpstreamOverloaded)
    return kind(
        f"every backend that may serve has refused earlier requests; the first is asked again "
        f"in {in_s:.3g} s",
        retry_after_s=in_s,
    )


def _kind(status: int, fields: Mapping[str, Any]) -> type[UpstreamError] | None:
    """Return the kind of failure; None for the caller's errors."""
    if status == _FORBIDDEN and _is_filtered(fields):
        return None
    if status == _TOO_MANY and not _NO_QUOTA.isdisjoint(_words(fields)):
        return UpstreamAuth
    kind = _BY_STATUS.get(status)
    if kind is not None or status in _CALLERS:
        return kind
    return UpstreamFailed if status in _SERVERS else UpstreamProtocol


def _is_filtered(fields: Mapping[str, Any]) -> bool:
    if not _FILTERED.isdisjoint(_words(fields)):
        return True
    message = fields.get("message")
    if isinstance(message, str) and _FILTER_SAYS.search(message):
        return True
    metadata = fields.get("metadata")
    # OpenRouter's way of saying it.
    return isinstance(metadata, dict) and "flagged_input" in metadata


def _words(fields: Mapping[str, Any]) -> list[str]:
    """Return what an error object calls itself, in lower case."""
    said = (fields.get("code"), fields.get("type"))
    return [word.lower() for word in said if isinstance(word, str)]
