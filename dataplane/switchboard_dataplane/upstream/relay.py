"""A stream on its way to the caller, watched for silence."""

import asyncio
from typing import Protocol

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


class Listener(Protocol):
    """Who a stream goes to; see ``proxy.Caller``."""

    def put(self, data: bytes) -> bool:
        """Write a piece; say whether there is room for more."""
        ...

    async def drained(self) -> None:
        """Wait until there is."""
        ...


async def relay(answer: StreamedAnswer, listener: Listener, *, idle_s: float, until: float) -> None:
    """Write a stream from its opening to its end; ``until`` is a time of the event loop.

    Raises UpstreamTimeout (silence, or too long altogether) and UpstreamReset where the answer is
    not complete; whatever was written ends with a whole event.
    """
    events = answer.events
    watch: _SilenceWatch | None = None
    try:
        async with asyncio.timeout_at(until) as bound:
            watch = _SilenceWatch(bound, idle_s)
            await _pour(answer, listener, watch)
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
        listener.put(rest)
    if not events.complete and not events.failed:
        raise UpstreamReset("the upstream ended its stream before the answer was complete")


async def _pour(answer: StreamedAnswer, listener: Listener, watch: _SilenceWatch) -> None:
    events = answer.events
    clock = asyncio.get_running_loop().time

    def take(chunk: bytes) -> bool:
        heard = events.data_events
        data = events.feed(chunk)
        if events.data_events != heard:
            watch.heard_at = clock()
        return listener.put(data) if data else True

    async def ready() -> None:
        watch.listening = False
        begun = clock()
        await listener.drained()
        watch.heard_at += clock() - begun
        watch.listening = True

    if not listener.put(answer.opening):
        await ready()
    watch.listening = True
    await answer.response.pour(take, ready)
