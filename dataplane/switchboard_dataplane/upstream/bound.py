"""How long an attempt may take until its answer can go out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

#: How often times are looked at while there are any; so late may one be noticed, in seconds.
TICK_S: Final = 0.01

T = TypeVar("T")


class Bounds:
    """The times of all attempts that are under way.

    One timer for all: a timer of its own, or ``asyncio.timeout``, costs an attempt more than the
    rest of its bookkeeping. ``clock`` and ``call_later`` are the event loop's.
    """

    __slots__ = ("_call_later", "_clock", "_open", "_ticking")

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._clock = clock
        self._call_later = call_later
        self._open: dict[Bound, float] = {}
        self._ticking = False

    def until(self, time: float) -> "Bound":
        """Return a bound at a time of the event loop; stop it when it is no longer needed."""
        bound = Bound(self._open)
        self._open[bound] = time
        if not self._ticking:
            self._ticking = True
            self._call_later(TICK_S, self._tick)
        return bound

    def _tick(self) -> None:
        now = self._clock()
        try:
            for bound in [bound for bound, time in self._open.items() if time <= now]:
                bound.expire()
        finally:
            # Whatever one of them does, the others' times go on.
            self._ticking = bool(self._open)
            if self._ticking:
                self._call_later(TICK_S, self._tick)


class Bound:
    """A time at which whoever waits for the upstream is told to give up."""

    __slots__ = ("_expire", "_open", "expired")

    def __init__(self, others: "dict[Bound, float]") -> None:
        self.expired = False
        self._open = others
        self._expire: Callable[[], None] | None = None

    def watch(self, expire: Callable[[], None]) -> None:
        """Name who is to be told: the one that waits now, instead of the one before it."""
        self._expire = expire
        if self.expired:
            expire()

    def expire(self) -> None:
        """End the time now."""
        if self.expired:
            return
        self.expired = True
        self._open.pop(self, None)
        if self._expire is not None:
            self._expire()

    def stop(self) -> None:
        """The answer is here, or given up: nobody is told any more."""
        self._open.pop(self, None)
        self._expire = None

    async def over(self, waiting: Awaitable[T]) -> T:
        """Wait for what can only be cancelled; raises TimeoutError at the time."""
        async with asyncio.timeout(None) as scope:
            # Any time that has passed will do.
            self.watch(lambda: scope.reschedule(0.0))
            try:
                return await waiting
            finally:
                self._expire = None
