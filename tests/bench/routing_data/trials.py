"""Trains on some questions and routes the others: one way for the router and its baselines."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from routing_data.tables import Doubles, Outcomes
from switchboard_cli.train.evaluate import QUANTILES, recovery, task_table
from switchboard_cli.train.ridge import PARTS, fit_router, predict_all
from switchboard_cli.train.rows import fold_of, stem_number
from switchboard_dataplane.reading.lexical import Lexical

Rows = NDArray[np.int64]
#: Predicts (N, models) qualities of the second from the outcomes of the first.
Method = Callable[[Outcomes, Outcomes], Doubles]


class Split(NamedTuple):
    """Rows that are learned from and rows that are routed; no question is in both."""

    train: Rows
    test: Rows


def folds(outcomes: Outcomes, count: int, repeat: int = 0) -> Iterator[Split]:
    """Yield ``count`` splits by a hash of the question; another repeat cuts otherwise."""
    fold = np.array([fold_of(prompt, count, f"repeat-{repeat}") for prompt in outcomes.prompts])
    for part in range(count):
        yield Split(np.flatnonzero(fold != part), np.flatnonzero(fold == part))


def labels(outcomes: Outcomes, count: int, repeat: int) -> Split:
    """Return about ``count`` rows by a hash of the question, and all others."""
    drawn = np.array([stem_number(prompt, f"draw-{repeat}") for prompt in outcomes.prompts])
    least = np.sort(drawn)[count]
    return Split(np.flatnonzero(drawn < least), np.flatnonzero(drawn >= least))


def learned(train: Outcomes, test: Outcomes) -> Doubles:
    """Predict with the router that ``switchboard train`` fits."""
    return _ridge(train.reads, train, test.reads)


def lexical(train: Outcomes, test: Outcomes) -> Doubles:
    """Predict from the lexical features alone, without any word."""
    return _ridge(list(map(_wordless, train.reads)), train, list(map(_wordless, test.reads)))


def task_known(train: Outcomes, test: Outcomes) -> Doubles:
    """Predict each task's mean: what one knows who is told the task."""
    columns = []
    for column in range(len(train.models)):
        table = task_table(train.tasks, train.qualities[:, column])
        mean = float(train.qualities[:, column].mean())
        columns.append([table.get(task, mean) for task in test.tasks])
    return np.array(columns).T


def by_length(train: Outcomes, test: Outcomes) -> Doubles:
    """Predict the mean of the training prompts of the same tenth of length."""
    train_length, test_length = length(train), length(test)
    cuts = np.quantile(train_length, np.linspace(0, 1, 11)[1:-1])
    train_bin, test_bin = np.searchsorted(cuts, train_length), np.searchsorted(cuts, test_length)
    means = np.tile(train.qualities.mean(axis=0), (10, 1))
    for part in np.unique(train_bin):
        means[part] = train.qualities[train_bin == part].mean(axis=0)
    return means[test_bin]


def at_random(_train: Outcomes, test: Outcomes) -> Doubles:
    """Predict noise."""
    return np.random.default_rng(1).random(test.qualities.shape)


def length(outcomes: Outcomes) -> Doubles:
    """Return the logarithm of each prompt's length: the baseline that needs no training."""
    return np.array([math.log(1 + len(prompt)) for prompt in outcomes.prompts])


def _ridge(train_reads: list[Lexical], train: Outcomes, reads: list[Lexical]) -> Doubles:
    parts = [fold_of(prompt, PARTS, "penalty") for prompt in train.prompts]
    fitted = fit_router(train_reads, train.qualities, train.models, parts)
    return predict_all(fitted.fit, reads).astype(np.float64)


def _wordless(read: Lexical) -> Lexical:
    return Lexical([], read.features)


class Figures(NamedTuple):
    """How well a gap was recovered; shares in [0, 1]."""

    apgr: float
    cpt50: float
    cpt80: float

    def rounded(self) -> dict[str, float]:
        """Return them for a report; CPT in percent of calls."""
        return {
            "apgr": round(self.apgr, 4),
            "cpt50": round(100 * self.cpt50, 2),
            "cpt80": round(100 * self.cpt80, 2),
        }


def figures(scores: Doubles, gains: Doubles, quantiles: int | None = QUANTILES) -> Figures:
    """Return the figures of one ranking of prompts."""
    found = recovery(scores, gains, quantiles=quantiles)
    return Figures(found.apgr, found.cpt(0.5), found.cpt(0.8))


def mean_figures(many: list[Figures]) -> Figures:
    """Return the means."""
    return Figures(*np.mean(many, axis=0).tolist())
