"""A stream on its way to the caller, watched for silence."""

import asyncio
from collections.abc import Awaitable, Callable

from switchboard_dataplane.errors import UpstreamReset, UpstreamTimeout
from switchboard_dataplane.upstream.attempt import StreamedAnswer


class _SilenceWatch:
    """Ends a timeout scope when no event with data has come for ``idle_s``.

    One timer that looks when the time could be over, instead of one set anew for each event: a
    stream has thousands. Time that the caller takes to read does not count.
    """

    __slots__ = ("_bound", "_idle_s", "_loop", "_timer", "fell_silent", "heard_at", "listening")

    def __init__(self, bound: asyncio.Timeout, idle_s: float) -> None:
        self._bound = bound
        self._idle_s = idle_s
        self._loop = asyncio.get_running_loop()
        self.heard_at = self._loop.time()
        self.listening = False
        self.fell_silent = False
        self._timer = self._loop.call_at(self.heard_at + idle_s, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        due = self.heard_at + self._idle_s if self.listening else now + self._idle_s
        if now < due:
            self._timer = self._loop.call_at(due, self._look)
            return
        self.fell_silent = True
        self._bound.reschedule(now)


async def relay(
    answer: StreamedAnswer,
    write: Callable[[bytes], Awaitable[None]],
    *,
    idle_s: float,
    until: float,
) -> None:
    """Write a stream from its opening to its end; ``until`` is a time of the event loop.

    Raises UpstreamTimeout (silence, or too long altogether) and UpstreamReset where the answer is
    not complete; whatever was written ends with a whole event.
    """
    events = answer.events
    watch: _SilenceWatch | None = None
    try:
        async with asyncio.timeout_at(until) as bound:
            watch = _SilenceWatch(bound, idle_s)
            await _copy(answer, write, watch)
    except TimeoutError as error:
        if not events.complete:
            silent = watch is not None and watch.fell_silent
            what = f"sent nothing for {idle_s:g} s" if silent else "did not finish in time"
            raise UpstreamTimeout(f"the upstream {what}") from error
    except UpstreamReset:
        if not events.complete:
            raise
    finally:
        if watch is not None:
            watch.stop()
    rest = events.close()
    if rest:
        await write(rest)
    if not events.complete and not events.failed:
        raise UpstreamReset("the upstream ended its stream before the answer was complete")


async def _copy(
    answer: StreamedAnswer, write: Callable[[bytes], Awaitable[None]], watch: _SilenceWatch
) -> None:
    events, response = answer.events, answer.response
    clock = asyncio.get_running_loop().time
    data = answer.opening
    while True:
        if data:
            begun = clock()
            await write(data)
            watch.heard_at += clock() - begun
        watch.listening = True
        chunk = await response.read()
        watch.listening = False
        if not chunk:
            return
        heard = events.data_events
        data = events.feed(chunk)
        if events.data_events != heard:
            watch.heard_at = clock()
