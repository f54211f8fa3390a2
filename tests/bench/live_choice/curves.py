"""What was foreseen offline: quality over cost, as requests go to the strong model by a score."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fakes.outcome_tables import Served, Table

Doubles = NDArray[np.float64]


class Point(NamedTuple):
    """A mean quality, and a cost as a share of what the dearest model costs for all."""

    cost: float
    quality: float


class Curve(NamedTuple):
    """Points by the number of strong calls, from none to all."""

    costs: Doubles
    qualities: Doubles

    def quality_at(self, cost: float) -> float:
        """Return the quality that a cost buys."""
        return float(np.interp(cost, self.costs, self.qualities))

    def at_share(self, share: float) -> Point:
        """Return the point at which this share of the requests goes to the strong model."""
        place = round(share * (len(self.costs) - 1))
        return Point(float(self.costs[place]), float(self.qualities[place]))


def curve_of(
    table: Table,
    places: Sequence[int],
    scores: Doubles,
    *,
    weak: str,
    strong: str,
    always: Sequence[str] = (),
) -> Curve:
    """Return the curve of requests (places in the table) of these scores, the highest first.

    Of a cascade ``always`` are asked for each, and their cost is paid for strong answers, too.
    """
    order = np.argsort(-scores, kind="stable")
    base = sum((costs_of(table, places, one) for one in always), np.zeros(len(places)))
    low, high = costs_of(table, places, weak), costs_of(table, places, strong)
    kept = np.zeros(len(places)) if weak in always else low
    total = high.sum()
    return Curve(
        _moved(base + kept, base + high, order) / total,
        _moved(qualities_of(table, places, weak), qualities_of(table, places, strong), order)
        / len(places),
    )


def _moved(before: Doubles, after: Doubles, order: NDArray[np.int64]) -> Doubles:
    """Return the sum as one request after another goes from the one to the other."""
    start = float(before.sum())
    return np.concatenate([[start], start + np.cumsum((after - before)[order])])


def costs_of(table: Table, places: Sequence[int], model: str) -> Doubles:
    """Return what a model costs for each request, in dollars."""
    return np.array([table.cost(model, place) for place in places])


def qualities_of(table: Table, places: Sequence[int], model: str) -> Doubles:
    """Return how well a model answers each request."""
    return np.array([table.qualities[model][place] for place in places])


def point_of(table: Table, served: Sequence[Served], dearest: str) -> Point:
    """Return what was measured."""
    all_dearest = costs_of(table, [one.place for one in served], dearest).sum()
    return Point(
        sum(one.cost for one in served) / float(all_dearest),
        sum(one.quality for one in served) / len(served),
    )
