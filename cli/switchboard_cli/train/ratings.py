"""Adds up the ratings of rows over the features that a bandit learns by: what it begins with."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from switchboard_cli.train.rows import Row
from switchboard_dataplane.choosing.artifact import Rated
from switchboard_dataplane.choosing.context import CONTEXT, context_of
from switchboard_dataplane.choosing.features import Floats
from switchboard_dataplane.reading.tasks import read_task
from switchboard_dataplane.reading.turns import Turn
from switchboard_dataplane.signals.bandit import Sums


def add_up(
    rows: Sequence[Row], qualities: NDArray[np.float64], targets: Sequence[str], unseen: Floats
) -> tuple[Rated, ...]:
    """Return the sums for each target; ``unseen`` are predictions by fits without the row.

    ``qualities`` and ``unseen`` are (N, T); NaN was not rated.
    """
    contexts = [_context(row) for row in rows]
    expected = np.clip(unseen, 0.0, 1.0)
    rated: list[Rated] = []
    for place, target in enumerate(targets):
        sums = Sums(len(CONTEXT) + 1)
        for row in np.flatnonzero(np.isfinite(qualities[:, place])).tolist():
            features = np.array([*contexts[row], expected[row, place]])
            sums.take(features, float(qualities[row, place]))
        rated.append(Rated(target, sums.pack()))
    return tuple(rated)


def _context(row: Row) -> tuple[float, ...]:
    if len(row.context) == len(CONTEXT):
        return row.context
    return context_of(read_task(Turn(row.prompt)), len(row.prompt))
