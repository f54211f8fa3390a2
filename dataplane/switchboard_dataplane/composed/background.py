"""What is done after a request's answer has gone out: bounded, dropped when there is too much."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

log = logging.getLogger(__name__)

#: Tasks that may be under way; what comes beyond that is dropped.
TASKS_MAX: Final = 256
#: The same for reviews, whose places are taken when an answer begins: a stream may take minutes.
REVIEWS_MAX: Final = 1_024

Make = Callable[[], Coroutine[Any, Any, None]]


class Background:
    """Runs tasks that nobody waits for, until it is closed.

    ``dropped`` counts those that found no room.
    """

    def __init__(self, *, tasks_max: int = TASKS_MAX) -> None:
        self.dropped = 0
        self._tasks_max: Final = tasks_max
        self._closed = False
        self._reserved = 0
        self._tasks: Final[set[asyncio.Task[None]]] = set()

    def __len__(self) -> int:
        """Return how many are under way."""
        return len(self._tasks)

    def reserve(self) -> "Place | None":
        """Take a place for a task that is to begin later; None where there is no room."""
        if self._closed or len(self._tasks) + self._reserved >= self._tasks_max:
            self.dropped += 1
            return None
        self._reserved += 1
        return Place(self)

    def begin(self, make: Make) -> bool:
        """Begin a task; say whether there was room for it."""
        place = self.reserve()
        return place is not None and place.begin(make)

    def leave(self) -> None:
        """Give back a place that was reserved."""
        self._reserved -= 1

    def start(self, make: Make) -> bool:
        """Begin a task in a place that was given back; it is dropped where all is over."""
        if self._closed:
            self.dropped += 1
            return False
        task = asyncio.get_running_loop().create_task(make())
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return True

    async def close(self, within_s: float) -> None:
        """Wait for what is under way, and then for no more."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        self._closed = True
        # One that is over may have begun another.
        left = tuple(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        defect = None if task.cancelled() else task.exception()
        if defect is not None:
            log.error("what follows a request failed", exc_info=defect)


class Place:
    """Room for one task: it begins once, or the place is given back."""

    def __init__(self, background: Background) -> None:
        self._background: Final = background
        self._taken = True

    def begin(self, make: Make) -> bool:
        """Begin the task; say whether there is still somebody to run it."""
        self.leave()
        return self._background.start(make)

    def leave(self) -> None:
        """Give the place back, if that has not been done."""
        if self._taken:
            self._taken = False
            self._background.leave()


@dataclass(frozen=True, slots=True)
class Backgrounds:
    """Room for each kind of what follows an answer: one that hangs does not stop the others."""

    reviews: Background = field(default_factory=lambda: Background(tasks_max=REVIEWS_MAX))
    mirrors: Background = field(default_factory=Background)
    samples: Background = field(default_factory=Background)

    def __len__(self) -> int:
        """Return how many tasks of all kinds are under way."""
        return len(self.reviews) + len(self.mirrors) + len(self.samples)

    async def close(self, within_s: float) -> None:
        """Wait for what is under way, and then for no more."""
        await asyncio.gather(
            *(one.close(within_s) for one in (self.reviews, self.mirrors, self.samples))
        )
