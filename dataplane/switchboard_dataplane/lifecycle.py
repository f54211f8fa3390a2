"""The end of a data plane: not ready, still listening, then drained, then gone."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

#: What requests cut off at the drain deadline have to say their last words, in seconds.
LAST_WORDS_S: Final = 2.0
#: The grace goes by in steps of so many seconds at most.
GRACE_STEP_S: Final = 0.25


@dataclass(slots=True)
class LiveRequests:
    """The requests that are being served.

    ``closing`` says that this process is going away: not ready, connections are not kept.
    ``expired`` says that the drain deadline is over: a cancelled request is told so.
    """

    closing: bool = False
    expired: bool = False
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])
    _none_left: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def enter(self, task: asyncio.Task[Any] | None) -> None:
        """Count a task as a live request."""
        if task is not None:
            self._tasks.add(task)

    def leave(self, task: asyncio.Task[Any] | None) -> None:
        """A task's request has ended."""
        if task is not None:
            self._tasks.discard(task)
        if self._none_left is not None and not self._tasks:
            self._none_left.set()

    async def drain(self, within_s: float) -> int:
        """Wait for the live requests to end; cut off those that do not; return how many."""
        if await self._ended(within_s):
            return 0
        self.expired = True
        left = tuple(self._tasks)
        for task in left:
            task.cancel()
        await self._ended(LAST_WORDS_S)
        return len(left)

    async def _ended(self, within_s: float) -> bool:
        if not self._tasks:
            return True
        self._none_left = asyncio.Event()
        try:
            async with asyncio.timeout(within_s):
                await self._none_left.wait()
        except TimeoutError:
            return False
        return True


async def shut_down(
    live: LiveRequests,
    *,
    stop_listening: Callable[[], Awaitable[None]],
    grace_s: float,
    drain_s: float,
) -> int:
    """Go away in order; return how many requests had to be cut off.

    Readiness fails first, and the port stays open while the endpoints move: a caller that still
    comes is served. Then live requests have until the drain deadline.
    """
    live.closing = True
    # While the machine stands still nobody hears that this pod goes: that is one step of many.
    steps = ceil(grace_s / GRACE_STEP_S)
    for _ in range(steps):
        await asyncio.sleep(grace_s / steps)
    await stop_listening()
    return await live.drain(drain_s)
