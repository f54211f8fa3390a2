"""Finds the score from which requests go to the strong model, so that a declared share of them do.

A threshold from a sample drifts with the traffic: a tracker follows the last requests instead.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

#: So many requests are remembered: within 4 points of the share, and over a shift in as many.
WINDOW: Final = 200


class Threshold(NamedTuple):
    """Scores above ``score`` are strong; of those equal to it, the share ``of_equals``."""

    score: float
    of_equals: float

    def is_strong(self, score: float, chance: float) -> bool:
        """Decide by a score; ``chance`` in [0, 1) decides between equals."""
        return score > self.score or (score == self.score and chance < self.of_equals)


def threshold_for(scores: Sequence[float], share: float) -> Threshold:
    """Return the threshold that makes ``share`` in [0, 1] of these scores strong.

    Without scores all that is positive is strong. Raises ValueError for another share.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share {share}: not in [0, 1]")
    return _of_sorted(sorted(scores), share)


def _of_sorted(ranked: Sequence[float], share: float) -> Threshold:
    if not ranked:
        return Threshold(0.0, 0.0)
    wanted = share * len(ranked)
    # The wanted-th score from the top; where it stands between two, the lower is cut in part.
    score = ranked[max(0, min(len(ranked) - 1, len(ranked) - 1 - int(wanted)))]
    first = bisect_left(ranked, score)
    after = first
    while after < len(ranked) and ranked[after] == score:
        after += 1
    above = len(ranked) - after
    return Threshold(score, min(1.0, max(0.0, (wanted - above) / (after - first))))


class ShareTracker:
    """Keeps the share of strong requests as declared while traffic changes.

    It remembers the last ``window`` scores, and nothing else of a request; before the first there
    is ``start``, from the artifact or the last run.
    """

    def __init__(self, share: float, *, start: Sequence[float] = (), window: int = WINDOW) -> None:
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"share {share}: not in [0, 1]")
        if window < 1:
            raise ValueError(f"window {window}: at least 1")
        self._share: Final = share
        self._window: Final = window
        self._order: Final = deque[float]()
        self._ranked: Final[list[float]] = []
        for score in start:
            self.take(score)

    def take(self, score: float) -> None:
        """Remember the score of a request; NaN is refused with ValueError."""
        if score != score:  # noqa: PLR0124 - only NaN differs from itself
            raise ValueError("a score that is no number")
        if len(self._order) == self._window:
            del self._ranked[bisect_left(self._ranked, self._order.popleft())]
        self._order.append(score)
        insort(self._ranked, score)

    def threshold(self) -> Threshold:
        """Return the threshold that the remembered scores come to."""
        return _of_sorted(self._ranked, self._share)

    def __len__(self) -> int:
        """Return how many scores are remembered."""
        return len(self._order)


class ShareTrackers(dict[tuple[str, str, float], ShareTracker]):
    """Trackers by policy, rule and share; asking for one that is not there makes it."""

    def __missing__(self, key: tuple[str, str, float]) -> ShareTracker:
        tracker = self[key] = ShareTracker(key[2])
        return tracker
