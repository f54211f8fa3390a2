"""Says how good a router is: what share of a gap it recovers, for what share of strong calls.

APGR and CPT are RouteLLM's (arXiv 2406.18665), AIQ is RouterBench's (arXiv 2403.12031).
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

#: RouteLLM looks at the thresholds between so many equal parts of the scores.
QUANTILES: Final = 10
BINS: Final = 10

_LAMBDAS: Final = np.concatenate([[0.0], np.geomspace(1e-3, 1e2, 100)])


class Recovery(NamedTuple):
    """Share of calls that go to the strong model, rising, and share of the gap recovered."""

    shares: Doubles
    recovered: Doubles

    @property
    def apgr(self) -> float:
        """The mean share of the gap recovered over all shares of strong calls."""
        return float(np.trapezoid(self.recovered, self.shares))

    def cpt(self, wanted: float) -> float:
        """Return the least share of strong calls that recovers ``wanted`` in (0, 1]."""
        place = int(np.argmax(self.recovered >= wanted))
        low, high = self.recovered[place - 1], self.recovered[place]
        part = (wanted - low) / (high - low)
        step = self.shares[place] - self.shares[place - 1]
        return float(self.shares[place - 1] + part * step)


def recovery(scores: Doubles, gains: Doubles, *, quantiles: int | None = None) -> Recovery:
    """Send the highest scores to the strong model; ``gains`` are strong minus weak, as measured.

    With ``quantiles`` only the thresholds between so many equal parts of the scores are tried;
    else all. Equal scores go the same way. Raises ValueError where the strong model gains nothing
    on the whole: there is no gap to have a share of.
    """
    if gains.sum() <= 0:
        raise ValueError("the strong model is no better than the weak one")
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    if quantiles is not None:
        cuts = np.quantile(scores, np.linspace(0.0, 1.0, quantiles + 1)[:-1])
        last = np.searchsorted(-scores[order], -cuts, side="right") - 1
        ends = np.unique(last)
    shares = np.concatenate([[0.0], (ends + 1) / len(scores)])
    won = np.cumsum(gains[order])
    return Recovery(shares, np.concatenate([[0.0], won[ends] / won[-1]]))


class Choice(NamedTuple):
    """Points of mean cost and mean quality, one for each price of quality that was tried."""

    costs: Doubles
    qualities: Doubles


def choose_by_price(predicted: Doubles, costs: Doubles, qualities: Doubles) -> Choice:
    """Take for each prompt the model of the highest predicted quality less its cost.

    All are (N, models); the weight of a cost runs from 0 (only quality counts) upwards.
    """
    rows = np.arange(len(predicted))
    unit = costs.mean()
    points: list[tuple[float, float]] = []
    for weight in _LAMBDAS:
        taken = np.argmax(predicted - weight * costs / unit, axis=1)
        points.append((float(costs[rows, taken].mean()), float(qualities[rows, taken].mean())))
    found = np.array(points)
    return Choice(found[:, 0], found[:, 1])


def aiq(choice: Choice, *, cheapest: float, dearest: float) -> float:
    """Return the mean height of the non-decreasing hull over the costs that are possible."""
    hull: list[tuple[float, float]] = []
    for cost, quality in sorted(zip(*choice, strict=True), key=lambda point: (point[0], -point[1])):
        if hull and quality <= hull[-1][1]:
            continue
        while len(hull) > 1 and _below(hull[-2], hull[-1], (cost, quality)):
            hull.pop()
        hull.append((cost, quality))
    costs = np.array([cheapest, *(cost for cost, _ in hull), dearest])
    heights = np.array([hull[0][1], *(quality for _, quality in hull), hull[-1][1]])
    return float(np.trapezoid(heights, costs) / (dearest - cheapest))


def _below(
    first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]
) -> bool:
    run, rise = last[0] - first[0], last[1] - first[1]
    return (middle[1] - first[1]) * run <= rise * (middle[0] - first[0])


def cost_saved(choice: Choice, *, cost: float, quality: float) -> float:
    """Return the share of ``cost`` that is saved at no less than ``quality``; 0 where none is."""
    enough = choice.costs[choice.qualities >= quality]
    return max(0.0, 1.0 - float(enough.min()) / cost) if len(enough) else 0.0


def calibration_error(predicted: Doubles, observed: Doubles) -> float:
    """Return how far predictions are from what came of them, over ten equal parts (ECE)."""
    parts = np.array_split(np.argsort(predicted, kind="stable"), BINS)
    gaps = [abs(predicted[part].mean() - observed[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(predicted))


def task_table(tasks: Sequence[str], gains: Doubles, rows: float = 5.0) -> dict[str, float]:
    """Return each task's mean, drawn to the mean of all as if by ``rows`` rows more."""
    mean = float(gains.mean())
    sums: dict[str, tuple[float, int]] = {}
    for task, gain in zip(tasks, gains.tolist(), strict=True):
        total, count = sums.get(task, (0.0, 0))
        sums[task] = (total + gain, count + 1)
    return {task: (total + rows * mean) / (count + rows) for task, (total, count) in sums.items()}
