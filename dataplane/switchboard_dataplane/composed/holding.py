"""A stream that is held back: read to its end, within bounds, before any of it goes out.

What was read becomes the stream's opening, so whoever sends it on sends all of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal, NamedTuple

from switchboard_dataplane.errors import UpstreamError, UpstreamReset, UpstreamTimeout
from switchboard_dataplane.judging.answers import Hearing
from switchboard_dataplane.upstream.attempt import StreamedAnswer
from switchboard_dataplane.upstream.failures import failure_of_event
from switchboard_dataplane.upstream.transport import UpstreamResponse

#: Of one stream, whatever its events say beside their content.
HELD_BYTES_MAX: Final = 16 * 1024 * 1024
#: How long the end of a body is waited for after its last event, in seconds: a connection whose
#: body was read to its end can be used again.
END_S: Final = 0.05

#: It is here to its end; it is longer, or takes longer, than it may be held; it broke.
Held = Literal["whole", "over", "broken"]


class Replay:
    """The rest of a stream that has been read to its end: there is none."""

    def __init__(self, response: UpstreamResponse) -> None:
        self.status: Final = response.status
        self.headers: Final = response.headers
        self.media_type: Final = response.media_type

    async def read(self) -> bytes:
        """See ``UpstreamResponse.read``."""
        return b""

    async def pour(
        self, take: Callable[[bytes], bool], ready: Callable[[], Awaitable[None]]
    ) -> None:
        """See ``UpstreamResponse.pour``."""

    def close(self) -> None:
        """See ``UpstreamResponse.close``."""


class Hold(NamedTuple):
    """How long a stream is held back: so many characters of content, until then."""

    until: float
    chars_max: int = HELD_BYTES_MAX


def replay(answer: StreamedAnswer) -> StreamedAnswer:
    """Return a stream that has been read to its end, without its upstream."""
    answer.response.close()
    return StreamedAnswer(answer.endpoint, Replay(answer.response), answer.events, answer.opening)


async def hold(
    answer: StreamedAnswer, bounds: Hold, *, since: float, clock: Callable[[], float]
) -> Held:
    """Read a stream into its opening until its end, or its bounds; times are the event loop's.

    Raises UpstreamError where it breaks, falls silent, or takes longer than its backend may, whose
    attempt began at ``since``. One that ends with an error of the caller's is whole.
    """
    events, timeouts = answer.events, answer.endpoint.backend.spec.timeouts
    hearing = Hearing("chat" if b'"delta"' in answer.opening else "completions")
    hearing.add(answer.opening)
    pieces, size = [answer.opening], len(answer.opening)
    total_until = since + timeouts.total_ms / 1000
    heard_at = clock()
    held: Held = "over"
    while hearing.chars <= bounds.chars_max and size <= HELD_BYTES_MAX:
        idle_until = heard_at + timeouts.idle_ms / 1000
        until = min(bounds.until, idle_until, total_until)
        chunk = await _read(answer, min(until, clock() + END_S) if events.done else until)
        if chunk is None and clock() >= bounds.until and not events.complete:
            break
        if not chunk:
            pieces.append(_end(answer, silent=chunk is None))
            held = "whole"
            break
        heard = events.content_events
        data = events.feed(chunk)
        if events.content_events != heard:
            heard_at = clock()
        hearing.add(data)
        pieces.append(data)
        size += len(data)
        if events.error is not None:
            _check_error(answer)
            held = "whole"
            break
    answer.opening = b"".join(pieces)
    return held


async def _read(answer: StreamedAnswer, until: float) -> bytes | None:
    """Return the next bytes, b"" at the end, None where the time is over first.

    What breaks a stream that is complete does no harm.
    """
    try:
        async with asyncio.timeout_at(until):
            return await answer.response.read()
    except TimeoutError:
        return None
    except UpstreamError:
        if answer.events.complete:
            return b""
        raise


def _end(answer: StreamedAnswer, *, silent: bool) -> bytes:
    """Return what an upstream that ended, or fell silent, has left to say.

    Raises UpstreamError where that is not all.
    """
    rest = answer.events.close()
    if answer.events.error is not None:
        _check_error(answer)
    elif not answer.events.complete:
        if silent:
            raise UpstreamTimeout("the upstream did not finish its answer in time")
        raise UpstreamReset("the upstream ended its stream before its answer was whole")
    return rest


def _check_error(answer: StreamedAnswer) -> None:
    """Raise the error with which a stream has ended, unless it is the caller's to read."""
    failure = None if answer.events.error is None else failure_of_event(answer.events.error)
    if failure is not None:
        raise failure
