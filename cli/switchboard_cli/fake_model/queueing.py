"""How many requests run at once; the rest wait in line, first come, first served."""

import asyncio
from collections import deque


class Gate:
    """Counts the requests that run and holds back those over the limit (0: no limit)."""

    def __init__(self, limit: int) -> None:
        """Start empty."""
        self._limit = limit
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.running = 0

    @property
    def waiting(self) -> int:
        """The requests in line."""
        return len(self._waiters)

    def set_limit(self, limit: int) -> None:
        """Change the limit; those who now fit get in."""
        self._limit = limit
        self._admit()

    async def enter(self) -> None:
        """Return when the caller runs; every entry needs its `leave`, unless this raises."""
        if not self._waiters and self._has_room():
            self.running += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # let in and cancelled in the same instant: the place is free again
            else:
                self._waiters.remove(turn)
            raise

    def leave(self) -> None:
        """Give the place back."""
        self.running -= 1
        self._admit()

    def _has_room(self) -> bool:
        return self._limit == 0 or self.running < self._limit

    def _admit(self) -> None:
        while self._waiters and self._has_room():
            self.running += 1
            self._waiters.popleft().set_result(None)
