"""Ratings that came before their decisions were taken in: a caller may rate at once.

Which pod decided is not known of such a decision, so every pod keeps them, for some seconds.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from switchboard_dataplane.learning.ratings import Rating

#: Longer than outcomes take to be folded and words to go round, in seconds.
EARLY_S: Final = 5.0
#: Ratings that are kept, of all decisions together; those of the oldest decision go first.
EARLY_MAX: Final = 2_000


@dataclass(slots=True)
class _Waiting:
    since: float
    ratings: list[Rating] = field(default_factory=list[Rating])


class Early:
    """Ratings by their decisions, in the order in which they came; times are the event loop's."""

    def __init__(self, *, most: int = EARLY_MAX) -> None:
        self._most: Final = most
        self._known: OrderedDict[str, _Waiting] = OrderedDict()
        self._number = 0

    def __len__(self) -> int:
        """Return how many ratings wait."""
        return self._number

    def keep(self, rating: Rating, now: float) -> None:
        """Keep a rating until its decision is taken in, but not for long."""
        self._known.setdefault(rating.decision, _Waiting(now)).ratings.append(rating)
        self._number += 1
        while self._known:
            oldest, waiting = next(iter(self._known.items()))
            if self._number <= self._most and now - waiting.since <= EARLY_S:
                return
            self.take(oldest)

    def take(self, decision: str) -> list[Rating]:
        """Return the ratings of a decision, the first first, and forget them."""
        waiting = self._known.pop(decision, None)
        if waiting is None:
            return []
        self._number -= len(waiting.ratings)
        return waiting.ratings
