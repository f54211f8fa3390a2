"""Counters and histograms that the event loop fills and any thread reads, without a lock.

A point is found by the values of its labels, a tuple in the order of the instrument's ``labels``.
Readers copy what one step of the interpreter copies, so neither side ever waits for the other.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

#: The values of a point's labels.
Labels = tuple[str, ...]
#: How many observations a bucket holds, and their sum.
_Bucket = tuple[int, float]

#: Points of one instrument. More share one point: a pod may outlive many configurations, and
#: what is gone stays counted until the process ends.
POINTS_MAX: Final = 10_000
#: The value of every label of the point that the rest share.
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a histogram's point holds: observations by bucket (the last is unbounded), their sum."""

    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """The number of observations."""
        return sum(self.counts)

    def since(self, before: "Distribution") -> "Distribution":
        """Return what came after ``before``."""
        counts = (now - then for now, then in zip(self.counts, before.counts, strict=True))
        return Distribution(tuple(counts), self.total - before.total)


@dataclass(frozen=True, slots=True)
class Counter:
    """Sums by label values. One thread adds."""

    name: str
    labels: Sequence[str]
    description: str
    unit: str = ""
    points_max: int = POINTS_MAX
    _sums: dict[Labels, float] = field(default_factory=dict[Labels, float], init=False)

    def add(self, values: Labels, amount: float = 1) -> None:
        """Add to the point of these label values."""
        try:
            self._sums[values] += amount
        except KeyError:
            point = values if len(self._sums) < self.points_max else _rest(values)
            self._sums[point] = self._sums.get(point, 0) + amount

    def read(self) -> Mapping[Labels, float]:
        """Return the sums of this moment."""
        return self._sums.copy()


@dataclass(frozen=True, slots=True)
class Histogram:
    """Distributions by label values. One thread records.

    ``bounds`` are the upper bounds of the buckets, inclusive; one more takes the rest.
    """

    name: str
    labels: Sequence[str]
    description: str
    unit: str
    bounds: Sequence[float]
    points_max: int = POINTS_MAX
    _points: dict[Labels, list[_Bucket]] = field(
        default_factory=dict[Labels, "list[_Bucket]"], init=False
    )

    def record(self, values: Labels, value: float) -> None:
        """Record an observation at the point of these label values."""
        buckets = self._points.get(values)
        if buckets is None:
            buckets = self._begin(values)
        at = bisect_left(self.bounds, value)
        count, total = buckets[at]
        # Count and sum in one assignment: no reader finds the one without the other.
        buckets[at] = (count + 1, total + value)

    def read(self) -> Mapping[Labels, Distribution]:
        """Return the distributions of this moment; a point that has none yet is left out."""
        found = {values: _distribution(one) for values, one in self._points.copy().items()}
        return {values: one for values, one in found.items() if one.count}

    def _begin(self, values: Labels) -> list[_Bucket]:
        empty: list[_Bucket] = [(0, 0)] * (len(self.bounds) + 1)
        point = values if len(self._points) < self.points_max else _rest(values)
        return self._points.setdefault(point, empty)


@dataclass(frozen=True, slots=True)
class Observed:
    """A value that is known elsewhere and asked for by whoever reads, in the reader's thread.

    ``rising`` says that it counts something and never falls.
    """

    name: str
    labels: Sequence[str]
    description: str
    read: Callable[[], Mapping[Labels, float]]
    rising: bool = False
    unit: str = ""


Instrument = Counter | Histogram | Observed


def _rest(values: Labels) -> Labels:
    return (OTHER,) * len(values)


def _distribution(buckets: list[_Bucket]) -> Distribution:
    copy = buckets.copy()
    return Distribution(tuple(count for count, _ in copy), sum(total for _, total in copy))
