"""One attempt, until its answer can go out: whole, or from its first content on."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

import orjson

from switchboard_dataplane.decision.running import Endpoint
from switchboard_dataplane.errors import UpstreamProtocol, UpstreamReset
from switchboard_dataplane.upstream.bound import Bound
from switchboard_dataplane.upstream.failures import (
    event_status,
    failure_of,
    failure_of_event,
    failure_of_gateway,
    read_refusal,
)
from switchboard_dataplane.upstream.transport import Upstream, UpstreamResponse
from switchboard_dataplane.wire.events import EventReader, opens
from switchboard_dataplane.wire.usage import Usage, find_usage

#: Bounds a whole answer in memory; a full batch of embeddings has some 80 MB.
ANSWER_BYTES_MAX: Final = 128 * 1024 * 1024
#: Bounds what is held back before the first content.
OPENING_BYTES_MAX: Final = 1024 * 1024
#: How far an error is looked for in an answer under a status of success, in bytes.
ERROR_WITHIN_BYTES: Final = 4096

#: Codings that are named in errors; anything else there would be the upstream's own text.
_CODINGS: Final = frozenset({"br", "compress", "deflate", "gzip", "x-compress", "x-gzip", "zstd"})
#: May stand before a stream's first event, and means nothing.
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})
_EVENT_STREAM: Final = "text/event-stream"
_UNCODED: Final = frozenset({"", "identity"})
_PLAIN_OK: Final = 200
_ANY_OK: Final = range(200, 300)


class WholeAnswer:
    """An answer that is here to its last byte; the caller's errors are among them.

    ``head_at`` is when its head came, by the clock that the opening was given.
    """

    def __init__(
        self,
        status: int,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        usage: Usage | None,
        *,
        head_at: float = 0.0,
    ) -> None:
        self.status: Final = status
        self.headers: Final = headers
        self.body: Final = body
        self.usage: Final = usage
        self.head_at: Final = head_at


class StreamedAnswer:
    """A stream whose first content has come: ``opening`` holds all events until then."""

    def __init__(
        self,
        endpoint: Endpoint,
        response: UpstreamResponse,
        events: EventReader,
        opening: bytes,
    ) -> None:
        self.endpoint: Final = endpoint
        self.status: Final = response.status
        self.headers: Final = response.headers
        self.response: Final = response
        self.events: Final = events
        self.opening = opening


class Request:
    """What is sent: the path below the base URL, headers and body, and what is expected.

    ``choices`` is how many answers are asked for in one.
    """

    def __init__(
        self,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        stream: bool,
        hides_usage: bool,
        choices: int = 1,
    ) -> None:
        self.path: Final = path
        self.headers: Final = headers
        self.body: Final = body
        self.stream: Final = stream
        self.hides_usage: Final = hides_usage
        self.choices: Final = choices


async def open_answer(
    upstream: Upstream,
    endpoint: Endpoint,
    request: Request,
    bound: Bound,
    *,
    clock: Callable[[], float],
    now: Callable[[], datetime],
) -> WholeAnswer | StreamedAnswer:
    """Send the request and wait for an answer that can go out.

    Raises UpstreamError for everything that another candidate may do better, and TimeoutError at
    the bound.
    """
    response = await upstream.send(
        endpoint, request.path, headers=request.headers, body=request.body, bound=bound
    )
    streams = False
    try:
        head_at = clock()
        told = b""
        if response.status != _PLAIN_OK:
            told = await read_refusal(response)
            failure = failure_of(response.status, response.headers, now=now, body=told)
            if failure is not None and endpoint.backend.spec.provider == "switchboard":
                told = told or await read_refusal(response, told_by_body=True)
                failure = failure_of_gateway(failure, told)
            if failure is not None:
                raise failure
        _check_coding(endpoint, response.headers)
        if told:
            return WholeAnswer(response.status, response.headers, told, None, head_at=head_at)
        if response.media_type == _EVENT_STREAM and response.status in _ANY_OK:
            if not request.stream:
                raise UpstreamProtocol("the upstream streams an answer that was asked for whole")
            events = EventReader(hides_usage=request.hides_usage, choices=request.choices)
            answer = await _open_stream(endpoint, response, events)
            streams = isinstance(answer, StreamedAnswer)
            return answer
        return await _read_whole(response, head_at)
    finally:
        if not streams:
            response.close()


def _check_coding(endpoint: Endpoint, headers: Sequence[tuple[str, str]]) -> None:
    """Refuse an answer that is compressed: nobody here, and maybe not the caller, can read it."""
    for name, value in headers:
        if name == "content-encoding" and (coding := value.strip().lower()) not in _UNCODED:
            said = coding if coding in _CODINGS else "of another kind"
            raise UpstreamProtocol(
                f"backend {endpoint.backend.name} sent content-encoding {said} though identity "
                "was asked for"
            )


async def _read_whole(response: UpstreamResponse, head_at: float) -> WholeAnswer:
    pieces: list[bytes] = []
    size = 0
    while piece := await response.read():
        size += len(piece)
        if size > ANSWER_BYTES_MAX:
            raise UpstreamProtocol(f"the answer exceeds {ANSWER_BYTES_MAX} bytes")
        pieces.append(piece)
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if response.status not in _ANY_OK:
        return WholeAnswer(response.status, response.headers, body, None, head_at=head_at)
    _check_object(body)
    if body.find(b'"error"', 0, ERROR_WITHIN_BYTES) >= 0 or not _is_framed(response.headers):
        parsed = _parse(body)
        if parsed.get("error"):
            return _refused(response, parsed)
    return WholeAnswer(response.status, response.headers, body, find_usage(body), head_at=head_at)


def _check_object(body: bytes) -> None:
    """Check that a success is a JSON object, by its ends."""
    if not body[:64].lstrip().startswith(b"{") or not body[-64:].rstrip().endswith(b"}"):
        raise UpstreamProtocol("the upstream's answer is no JSON object")


def _is_framed(headers: Sequence[tuple[str, str]]) -> bool:
    """Say whether the end of the body was told; else any end of the connection looks like it."""
    return any(name in _FRAMING for name, _ in headers)


async def _open_stream(
    endpoint: Endpoint, response: UpstreamResponse, events: EventReader
) -> StreamedAnswer | WholeAnswer:
    opening = b""
    chunk = await response.read()
    if chunk.startswith(_BYTE_ORDER_MARK):
        chunk = chunk[len(_BYTE_ORDER_MARK) :] or await response.read()
    while True:
        whole = events.feed(chunk) if chunk else events.close()
        if events.error is not None:
            # Whatever came before it, nothing has gone out yet.
            return _refused(response, events.error)
        opening += whole
        if opens(whole):
            return StreamedAnswer(endpoint, response, events, opening)
        if not chunk:
            raise UpstreamReset("the upstream's stream ended before any content")
        if len(opening) > OPENING_BYTES_MAX:
            raise UpstreamProtocol(f"no content within {OPENING_BYTES_MAX} bytes of events")
        chunk = await response.read()


def _refused(response: UpstreamResponse, data: Mapping[str, Any]) -> WholeAnswer:
    """Return the caller's error as the answer it would have been; raise what is the upstream's.

    ``data`` holds an error under a status of success: an event, or a whole answer.
    """
    failure = failure_of_event(data)
    if failure is not None:
        raise failure
    error: Mapping[str, Any] = data["error"] if isinstance(data.get("error"), dict) else data
    headers = [pair for pair in response.headers if pair[0].lower() != "content-type"]
    headers.append(("content-type", "application/json"))
    return WholeAnswer(event_status(error), headers, orjson.dumps({"error": error}), None)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UpstreamProtocol("the upstream's answer is no JSON") from error
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}
