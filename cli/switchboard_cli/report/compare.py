"""Two arms beside each other: how much they differ, how sure that is, and a verdict in words."""

from collections.abc import Mapping
from math import ceil, isfinite
from typing import Final, Literal, NamedTuple

import numpy as np

from switchboard_cli.report.bootstrap import FIGURES, Estimate, Figure, interval_of

#: How much lower a quality may be and still count as no worse.
MARGIN: Final = 0.02

#: ``no_worse``: not shown to be better, and worse by less than the margin if at all. ``unclear``:
#: both better and worse are possible. ``too_few``: so few callers say nothing.
Judgement = Literal["better", "worse", "no_worse", "unclear", "too_few", "unknown"]
#: ``trades`` one thing for another; ``even`` where no difference is shown that matters.
Verdict = Literal["wins", "loses", "trades", "even", "undecided"]


class Difference(NamedTuple):
    """How a figure of an arm differs from the baseline's: ``low`` to ``high`` hold the truth.

    Of relative figures it is a share of the baseline's: -0.6 is 60 % less.
    """

    value: float
    low: float
    high: float
    judgement: Judgement


class Comparison(NamedTuple):
    """An arm against the baseline. So many ``callers_needed``, with a rating, would decide it.

    That is an estimate, for each arm, as if the difference were what it seems; None where the
    quality is decided, or nothing is rated.
    """

    arm: str
    baseline: str
    differences: Mapping[str, Difference]
    verdict: Verdict
    callers_needed: int | None


def compare(
    arm: tuple[str, Mapping[str, Estimate]],
    baseline: tuple[str, Mapping[str, Estimate]],
    *,
    margin: float = MARGIN,
) -> Comparison:
    """Return how the figures of an arm differ from the baseline's, each given with its name."""
    (name, ours), (other, theirs) = arm, baseline
    differences = {
        figure.name: _difference(figure, ours[figure.name], theirs[figure.name], margin)
        for figure in FIGURES
    }
    rated = min(ours["quality"].callers, theirs["quality"].callers)
    return Comparison(
        name,
        other,
        differences,
        _verdict(differences),
        _callers_needed(differences["quality"], rated, margin),
    )


def _difference(figure: Figure, ours: Estimate, theirs: Estimate, margin: float) -> Difference:
    if figure.relative:
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(np.float64(ours.value) / np.float64(theirs.value)) - 1
            low, high = interval_of(ours.resampled / theirs.resampled - 1)
    else:
        value = ours.value - theirs.value
        low, high = interval_of(ours.resampled - theirs.resampled)
    if not isfinite(value):
        return Difference(np.nan, np.nan, np.nan, "unknown")
    if min(ours.callers, theirs.callers) < figure.callers_min:
        return Difference(value, low, high, "too_few")
    margin = margin if figure.name == "quality" else 0.0
    return Difference(value, low, high, _judge(figure, low, high, margin))


def _judge(figure: Figure, low: float, high: float, margin: float) -> Judgement:
    worst, best = (low, high) if figure.higher_is_better else (-high, -low)
    if worst > 0:
        return "better"
    if best < 0:
        return "worse"
    return "no_worse" if worst > -margin else "unclear"


def _verdict(differences: Mapping[str, Difference]) -> Verdict:
    """Return the verdict; nothing is decided before the quality is."""
    if differences["quality"].judgement not in {"better", "worse", "no_worse"}:
        return "undecided"
    found = {one.judgement for one in differences.values()}
    if "better" in found:
        return "trades" if "worse" in found else "wins"
    return "loses" if "worse" in found else "even"


def _callers_needed(quality: Difference, rated: int, margin: float) -> int | None:
    if quality.judgement not in {"unclear", "too_few"}:
        return None
    # So narrow that it leaves out either a loss beyond the margin, or none.
    narrow = max(quality.value + margin, -quality.value)
    if narrow <= 0:
        return None
    width = (quality.high - quality.low) / 2
    # An interval shrinks with the root of what it is made of.
    needed = ceil(rated * (width / narrow) ** 2)
    return max(needed, rated + 1, FIGURES[0].callers_min)
