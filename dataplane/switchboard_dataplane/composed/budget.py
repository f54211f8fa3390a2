"""What may be spent in an hour: on a mirror, on a judge of a sample. Pure but for what it sums."""

from collections import deque
from typing import Final

HOUR_S: Final = 3_600.0
#: What was spent is forgotten by the minute.
SLOT_S: Final = 60.0
#: Who spends under so many names; policies that are gone must not add up.
BUDGETS_MAX: Final = 4_096


class HourBudget:
    """Sums what was spent in the last hour, in picodollars; times are the event loop's.

    What is foreseen is taken first, and put right when it is known.
    """

    def __init__(self) -> None:
        self._slots: Final[deque[list[float]]] = deque()

    def take(self, foreseen: float, most: float, now: float) -> bool:
        """Take an amount if all of the hour stays within ``most``; say whether it does."""
        if self.spent(now) + foreseen > most:
            return False
        self._add(foreseen, now)
        return True

    def correct(self, foreseen: float, actual: float, now: float) -> None:
        """Put right what was taken; what is forgotten by now gives no credit."""
        self._add(max(actual - foreseen, -self.spent(now)), now)

    def spent(self, now: float) -> float:
        """Return what was spent in the last hour."""
        while self._slots and self._slots[0][0] <= now - HOUR_S:
            self._slots.popleft()
        return max(0.0, sum(amount for _, amount in self._slots))

    def _add(self, amount: float, now: float) -> None:
        if self._slots and self._slots[-1][0] > now - SLOT_S:
            self._slots[-1][1] += amount
        else:
            self._slots.append([now, amount])


class HourBudgets(dict[str, HourBudget]):
    """Budgets by the name of who spends; asking for one that is not there makes it."""

    def __missing__(self, name: str) -> HourBudget:
        if len(self) >= BUDGETS_MAX:
            self.clear()
        budget = self[name] = HourBudget()
        return budget
