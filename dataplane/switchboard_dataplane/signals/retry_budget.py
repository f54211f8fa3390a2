"""How many requests may be repeated at a backend that has failed them: a share of all requests.

When every request fails, repeating each of them doubles the load on what is failing. The budget
counts over a sliding window of 10 seconds; a floor lets a gateway with little traffic repeat at
all. The first move to another backend is no repeat.
"""

from collections.abc import Set as AbstractSet
from typing import Final

#: What is counted over, in seconds.
WINDOW_S: Final = 10.0
#: Repeats that are allowed whatever the number of requests, a second.
FLOOR_PER_S: Final = 10.0


class RetryBudget:
    """The budget of one policy; times are the event loop's, in seconds."""

    __slots__ = (
        "_floor",
        "_floor_at",
        "_repeats",
        "_repeats_before",
        "_requests",
        "_requests_before",
        "_window_at",
    )

    def __init__(self) -> None:
        self._window_at = self._floor_at = 0.0
        self._requests = self._requests_before = 0
        self._repeats = self._repeats_before = 0
        self._floor = FLOOR_PER_S

    def count_request(self, now: float) -> None:
        """Take in a request: its first attempt, whatever comes after it."""
        if now - self._window_at >= WINDOW_S:
            self._turn(now)
        self._requests += 1

    def allow_repeat(self, now: float, *, permille: int) -> bool:
        """Say whether a repeat may be made now, and count it if so; 0 ``permille`` allows none."""
        if not permille:
            return False
        if now - self._window_at >= WINDOW_S:
            self._turn(now)
        self._floor = min(FLOOR_PER_S, self._floor + (now - self._floor_at) * FLOOR_PER_S)
        self._floor_at = now
        # The window before counts with the part of it that is less than 10 seconds ago.
        left = 1.0 - (now - self._window_at) / WINDOW_S
        requests = self._requests + self._requests_before * left
        repeats = self._repeats + self._repeats_before * left
        if (repeats + 1) * 1000 > requests * permille and self._floor < 1.0:
            return False
        self._repeats += 1
        # Every repeat draws on the floor: it is a least number of them, not one on top.
        self._floor = max(0.0, self._floor - 1.0)
        return True

    def _turn(self, now: float) -> None:
        recent = now - self._window_at < 2 * WINDOW_S
        self._requests_before = self._requests if recent else 0
        self._repeats_before = self._repeats if recent else 0
        self._requests = self._repeats = 0
        self._window_at = self._window_at + WINDOW_S if recent else now


class RetryBudgets(dict[str, RetryBudget]):
    """Budgets by the name of their policy; asking for one that is not there makes it."""

    def __missing__(self, policy: str) -> RetryBudget:
        budget = self[policy] = RetryBudget()
        return budget

    def keep_only(self, policies: AbstractSet[str]) -> None:
        """Forget policies that are gone."""
        for gone in self.keys() - policies:
            del self[gone]
