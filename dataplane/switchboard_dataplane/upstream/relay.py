"""A stream on its way to the caller, watched for silence."""

import asyncio
from typing import Protocol

from switchboard_dataplane.errors import (
    UpstreamError,
    UpstreamFailed,
    UpstreamReset,
    UpstreamTimeout,
)
from switchboard_dataplane.upstream.attempt import StreamedAnswer
from switchboard_dataplane.upstream.failures import failure_of_event
from switchboard_dataplane.wire.restart import Sent


class _SilenceWatch:
    """Ends a timeout scope when no event with content has come for ``idle_s``.

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


async def relay(
    answer: StreamedAnswer,
    listener: Listener,
    *,
    idle_s: float,
    until: float,
    sent: Sent | None = None,
) -> None:
    """Write a stream from its opening to its end; ``until`` is a time of the event loop.

    ``sent``, if there is one, is told of all that goes out. Raises an UpstreamError where the
    upstream's answer is not complete: it was cut off, fell silent, took too long altogether, was no
    stream of events, or ended with an error of the upstream's; whatever was written ends with a
    whole event. Raises ConnectionError where the caller was too slow to read it in time.
    """
    events = answer.events
    broke: UpstreamError = UpstreamReset(
        "the upstream ended its stream before its answer was whole"
    )
    try:
        await _pour_in_time(answer, listener, idle_s=idle_s, until=until, sent=sent)
    except UpstreamError as error:
        broke = error
    if events.error is None and (rest := events.close()):
        listener.put(rest)
    if events.error is not None:
        failure = failure_of_event(events.error)
        if failure is not None:
            raise type(failure)("the upstream ended its stream with an error") from broke
        # It is about the request: the caller's to read.
        listener.put(events.error_event)
    elif not events.complete:
        raise broke


async def _pour_in_time(
    answer: StreamedAnswer, listener: Listener, *, idle_s: float, until: float, sent: Sent | None
) -> None:
    watch: _SilenceWatch | None = None
    try:
        async with asyncio.timeout_at(until) as bound:
            watch = _SilenceWatch(bound, idle_s)
            await _pour(answer, listener, watch, sent)
    except TimeoutError as error:
        if watch is not None and watch.fell_silent:
            raise UpstreamTimeout(f"the upstream sent no content for {idle_s:g} s") from error
        if watch is not None and not watch.listening and not answer.events.complete:
            raise ConnectionAbortedError("the caller did not read the answer in time") from error
        raise UpstreamTimeout("the upstream did not finish in time") from error
    finally:
        if watch is not None:
            watch.stop()


async def _pour(
    answer: StreamedAnswer, listener: Listener, watch: _SilenceWatch, sent: Sent | None
) -> None:
    events = answer.events
    clock = asyncio.get_running_loop().time

    def take(chunk: bytes) -> bool:
        heard = events.content_events
        data = events.feed(chunk)
        if events.content_events != heard:
            watch.heard_at = clock()
        if sent is not None and not sent.final:
            sent.add(data)
        room = listener.put(data) if data else True
        if events.error is not None:
            raise UpstreamFailed("the upstream ended its stream with an error")
        return room

    async def ready() -> None:
        watch.listening = False
        begun = clock()
        await listener.drained()
        watch.heard_at += clock() - begun
        watch.listening = True

    if sent is not None:
        sent.add(answer.opening)
    if not listener.put(answer.opening):
        await ready()
    watch.listening = True
    await answer.response.pour(take, ready)
