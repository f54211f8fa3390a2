"""Finds the score from which requests go to the strong model, so that a declared share of them do.

A threshold from a sample drifts with the traffic: a tracker follows the last requests instead.
Where a quality is declared the share follows the ratings.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from switchboard_dataplane.signals.learned import Place

#: So many requests are remembered: within 4 points of the share, and over a shift in as many.
WINDOW: Final = 200
#: By how much the share moves for a rating that is 1 off the declared quality: the sum of what
#: answers were off it is at most 50 until the share is at one of its ends.
STEP: Final = 0.02
#: The share of strong requests before the first rating.
FIRST_SHARE: Final = 0.5


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
        self.share: Final = share
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

    def threshold(self, share: float | None = None) -> Threshold:
        """Return the threshold that the remembered scores come to, for another share if said."""
        return _of_sorted(self._ranked, self.share if share is None else share)

    def __len__(self) -> int:
        """Return how many scores are remembered."""
        return len(self._order)


class ShareTrackers(dict[tuple[Place, float], ShareTracker]):
    """Trackers by place and share; asking for one that is not there makes it."""

    def __missing__(self, key: tuple[Place, float]) -> ShareTracker:
        tracker = self[key] = ShareTracker(key[1])
        return tracker


class QualityTarget:
    """Moves the share of strong requests until the mean rating of all is the one declared.

    ``moved`` is by how much this pod's ratings have moved the share; ``heard`` is the same of each
    other pod. Raises ValueError for a target outside [0, 1].
    """

    def __init__(self, target: float) -> None:
        if not 0.0 <= target <= 1.0:
            raise ValueError(f"target {target}: not in [0, 1]")
        self._target: Final = target
        self._tracker: Final = ShareTracker(1.0)
        self.moved = 0.0
        self.heard: dict[str, float] = {}

    @property
    def share(self) -> float:
        """The share of requests that goes to the strong model now."""
        return min(1.0, max(0.0, FIRST_SHARE + self.moved + sum(self.heard.values())))

    def is_strong(self, score: float, chance: float, *, count: bool) -> bool:
        """Decide by a score, which is remembered where it counts."""
        if count:
            self._tracker.take(score)
        return self._tracker.threshold(self.share).is_strong(score, chance)

    def take(self, quality: float) -> None:
        """Take in the rating of an answer, in [0, 1]; at an end nothing is saved up."""
        share = min(1.0, max(0.0, self.share + STEP * (self._target - quality)))
        self.moved = share - FIRST_SHARE - sum(self.heard.values())


class QualityTargets(dict[tuple[Place, float], QualityTarget]):
    """Targets by place and quality; asking for one that is not there makes it."""

    def __missing__(self, key: tuple[Place, float]) -> QualityTarget:
        target = self[key] = QualityTarget(key[1])
        return target
