"""Figures of a group of requests, and how far they might be off: callers are drawn again.

Requests of one caller resemble each other, so whole callers are drawn (a cluster bootstrap);
drawing requests would make every interval too narrow.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

#: How often callers are drawn again.
RESAMPLES: Final = 1_000
#: What an interval is to hold, of all the times that it is stated.
LEVEL: Final = 0.95
#: The same export gives the same report.
_SEED: Final = 20_260
#: Callers that nobody is, one all good and one all bad: where all callers agree there still is an
#: interval (Agresti and Caffo, 2000).
_NOBODY: Final = 2


class Figure(NamedTuple):
    """What is told of a group: a mean, or the ``quantile`` of the values that are known.

    A ``share`` lies in [0, 1]. ``relative`` differences are told as shares of the other's.
    ``callers_min`` must have a value before anything is said of a difference.
    """

    name: str
    quantile: float | None = None
    share: bool = False
    relative: bool = False
    higher_is_better: bool = False
    callers_min: int = 30


#: In the order in which they are told.
FIGURES: Final = (
    Figure("quality", share=True, higher_is_better=True),
    Figure("asked_again", share=True),
    Figure("errors", share=True),
    Figure("cost", relative=True),
    Figure("p50", quantile=0.5, relative=True),
    # A quantile near the end hangs on the few that are beyond it.
    Figure("p95", quantile=0.95, relative=True, callers_min=200),
    Figure("first_token", quantile=0.5, relative=True),
)


class Group(NamedTuple):
    """Requests that are told together. ``callers`` are numbers from 0 without a gap, by request.

    ``values`` are by figure, by request, NaN where not known.
    """

    name: str
    callers: Numbers
    values: Mapping[str, Floats]


class Estimate(NamedTuple):
    """A figure of a group, what it came to when callers were drawn again, and of how many callers.

    NaN where nothing is known.
    """

    value: float
    callers: int
    resampled: Floats

    @property
    def interval(self) -> tuple[float, float]:
        """The bounds that hold the true figure, LEVEL of the times."""
        return interval_of(self.resampled)


def interval_of(resampled: Floats) -> tuple[float, float]:
    """Return the bounds between which LEVEL of the figures lie; NaN without any."""
    known = resampled[np.isfinite(resampled)]
    if not known.size:
        return np.nan, np.nan
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def estimate(
    group: Group, *, figures: Sequence[Figure] = FIGURES, resamples: int = RESAMPLES
) -> Mapping[str, Estimate]:
    """Return the figures of a group, each with what ``resamples`` draws of its callers give."""
    count = int(group.callers.max(initial=-1)) + 1
    measures = [_measure(one, group, count) for one in figures]
    values = [one.of(np.ones(count + _NOBODY), smoothed=False) for one in measures]
    resampled = np.full((len(figures), resamples), np.nan)
    for draw, weights in enumerate(_draws(group.name, count, resamples)):
        for row, one in enumerate(measures):
            resampled[row, draw] = one.of(weights, smoothed=True)
    return {
        figure.name: Estimate(value, one.callers, found)
        for figure, one, value, found in zip(figures, measures, values, resampled, strict=True)
    }


def _draws(name: str, callers: int, resamples: int) -> Iterator[Floats]:
    """Yield how often each caller is drawn. Groups of other names are drawn independently."""
    chance = np.random.default_rng([_SEED, *name.encode("utf-8", "replace")])
    count = callers + _NOBODY
    for _ in range(resamples if callers else 0):
        yield np.bincount(chance.integers(count, size=count), minlength=count).astype(np.float64)


class _Mean:
    """A mean as a sum over callers; the last of them are nobody, and count only if ``smoothed``."""

    def __init__(self, figure: Figure, callers: Numbers, values: Floats, count: int) -> None:
        sums = np.bincount(callers, weights=values, minlength=count)
        counts = np.bincount(callers, minlength=count).astype(np.float64)
        self.callers: Final = int(np.count_nonzero(counts))
        size = counts.sum() / self.callers if figure.share and self.callers else 0.0
        self._sums: Final = np.append(sums, [0.0, size])
        self._counts: Final = np.append(counts, [size, size])

    def of(self, weights: Floats, *, smoothed: bool) -> float:
        """Return the mean where each caller counts so often; NaN without any."""
        end = None if smoothed else -_NOBODY
        total = _product(weights[:end], self._counts[:end])
        return _product(weights[:end], self._sums[:end]) / total if total else np.nan


class _Quantile:
    """A quantile: the least value that the share of the requests does not exceed."""

    def __init__(self, quantile: float, callers: Numbers, values: Floats) -> None:
        order = np.argsort(values, kind="stable")
        self.callers: Final = int(np.unique(callers).size)
        self._quantile: Final = quantile
        self._values: Final = values[order]
        self._callers: Final = callers[order]

    def of(self, weights: Floats, *, smoothed: bool) -> float:
        """Return the quantile where each caller counts so often; NaN without any."""
        del smoothed
        reached = np.cumsum(weights[self._callers])
        if not reached.size or not reached[-1]:
            return np.nan
        return float(self._values[np.searchsorted(reached, self._quantile * reached[-1])])


def _product(left: Floats, right: Floats) -> float:
    # Not BLAS: its threads would spend more on waiting for each other than on so short a sum.
    return float(np.einsum("i,i->", left, right))


def _measure(figure: Figure, group: Group, count: int) -> _Mean | _Quantile:
    values = group.values[figure.name]
    known = np.isfinite(values)
    callers, values = group.callers[known], values[known]
    if figure.quantile is None:
        return _Mean(figure, callers, values, count)
    return _Quantile(figure.quantile, callers, values)
