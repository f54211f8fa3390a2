"""Verdicts: what is said of two arms, and when nothing is."""

from collections.abc import Mapping

import numpy as np
import pytest

from switchboard_cli.report.bootstrap import FIGURES, Estimate
from switchboard_cli.report.compare import Comparison, Judgement, Verdict, compare

FIRST = {"quality": 0.8, "asked_again": 0.02, "errors": 0.01, "cost": 1_000.0, "p50": 1.0}
OFF = {"quality": 0.004, "asked_again": 0.001, "errors": 0.001, "cost": 10.0, "p50": 0.01}


def estimates(
    values: Mapping[str, float],
    callers: int = 1_000,
    *,
    seed: int = 1,
    off: Mapping[str, float] = OFF,
) -> Mapping[str, Estimate]:
    """Figures whose standard errors are ``off``; those that are not given are not known."""
    chance = np.random.default_rng(seed)
    return {
        figure.name: Estimate(
            values.get(figure.name, np.nan),
            callers,
            chance.normal(values.get(figure.name, np.nan), off.get(figure.name, 0.1), 2_000),
        )
        for figure in FIGURES
    }


def against(
    callers: int = 1_000,
    *,
    margin: float = 0.02,
    off: Mapping[str, float] = OFF,
    **changes: float,
) -> Comparison:
    """An arm that differs by these changes from a baseline of the first figures."""
    return differing(changes, callers, margin=margin, off=off)


def differing(
    changes: Mapping[str, float],
    callers: int = 1_000,
    *,
    margin: float = 0.02,
    off: Mapping[str, float] = OFF,
) -> Comparison:
    """The same, where the changes are at hand."""
    ours = {name: value + changes.get(name, 0.0) for name, value in FIRST.items()}
    return compare(
        ("cheap", estimates(ours, callers, seed=2, off=off)),
        ("control", estimates(FIRST, off=off)),
        margin=margin,
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (0.05, "better"),
        (0.0, "no_worse"),
        (-0.005, "no_worse"),
        (-0.0195, "worse"),
        (-0.05, "worse"),
    ],
)
def test_quality_is_judged_by_what_the_interval_leaves_possible(
    change: float, expected: Judgement
) -> None:
    assert against(quality=change).differences["quality"].judgement == expected


def test_without_a_margin_no_worse_is_not_enough() -> None:
    assert against(margin=0.0).differences["quality"].judgement == "unclear"


@pytest.mark.parametrize("name", ["asked_again", "errors", "cost", "p50"])
def test_of_the_other_figures_less_is_better(name: str) -> None:
    step = 10 * OFF[name]
    assert differing({name: -step}).differences[name].judgement == "better"
    assert differing({name: step}).differences[name].judgement == "worse"
    assert against().differences[name].judgement == "unclear"


def test_costs_and_times_differ_by_a_share_and_shares_by_points() -> None:
    found = against(cost=-600.0, p50=0.5, errors=0.01, quality=0.1).differences
    assert found["cost"].value == pytest.approx(-0.6)
    assert found["cost"].low < -0.6 < found["cost"].high
    assert found["p50"].value == pytest.approx(0.5)
    assert found["errors"].value == pytest.approx(0.01)
    assert found["quality"].value == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cost": -600.0}, "wins"),
        ({"quality": 0.05}, "wins"),
        ({"quality": -0.05, "cost": -600.0}, "trades"),
        ({"quality": 0.05, "p50": 1.0}, "trades"),
        ({"quality": -0.05}, "loses"),
        ({"errors": 0.05}, "loses"),
        ({}, "even"),
    ],
)
def test_a_verdict_weighs_the_figures(changes: dict[str, float], expected: Verdict) -> None:
    assert differing(changes).verdict == expected


def test_nothing_is_decided_while_the_quality_is_not() -> None:
    wide = OFF | {"quality": 0.02}
    found = against(cost=-600.0, off=wide)
    assert (found.differences["quality"].judgement, found.verdict) == ("unclear", "undecided")
    assert found.differences["cost"].judgement == "better"
    # Twice the standard error of a difference, against what is left of the margin.
    off = found.differences["quality"]
    narrow = max(0.02 + off.value, -off.value)
    width = (off.high - off.low) / 2
    assert found.callers_needed is not None
    assert found.callers_needed > 5_000
    assert found.callers_needed == pytest.approx(1_000 * (width / narrow) ** 2, abs=1)


def test_few_callers_say_nothing() -> None:
    found = against(29, quality=0.1, cost=-600.0)
    assert {one.judgement for one in found.differences.values()} == {"too_few", "unknown"}
    assert found.verdict == "undecided"
    assert found.callers_needed == 30


def test_what_nobody_rated_is_not_known() -> None:
    known = {name: value for name, value in FIRST.items() if name != "quality"}
    found = compare(("cheap", estimates(known, seed=2)), ("control", estimates(known)))
    assert found.differences["quality"].judgement == "unknown"
    assert (found.verdict, found.callers_needed) == ("undecided", None)


def test_a_share_of_nothing_is_not_known() -> None:
    free = estimates(FIRST | {"cost": 0.0}, off=OFF | {"cost": 0.0})
    found = compare(("cheap", estimates(FIRST, seed=2)), ("control", free))
    assert found.differences["cost"].judgement == "unknown"
