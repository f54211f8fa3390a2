"""Figures and their intervals: what they are, and that they hold what they say they hold."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchboard_cli.report.bootstrap import Estimate, Figure, Group, estimate, interval_of

MEAN = Figure("cost", relative=True)
SHARE = Figure("quality", share=True, higher_is_better=True)
MEDIAN = Figure("p50", quantile=0.5)
P95 = Figure("p95", quantile=0.95)


def of(
    figure: Figure,
    values: Sequence[float],
    callers: Sequence[int] | None = None,
    *,
    name: str = "arm",
    resamples: int = 200,
) -> Estimate:
    """The figure of these requests, of a caller each unless said."""
    numbers = range(len(values)) if callers is None else callers
    group = Group(name, np.array(numbers, dtype=np.int64), {figure.name: np.array(values, float)})
    return estimate(group, figures=[figure], resamples=resamples)[figure.name]


def test_a_mean_is_over_the_requests_that_are_known() -> None:
    found = of(MEAN, [1.0, np.nan, 4.0, 4.0], [0, 0, 1, 2])
    assert (found.value, found.callers) == (3.0, 3)


@pytest.mark.parametrize(
    ("figure", "expected"), [(MEDIAN, 10.0), (P95, 19.0)], ids=["median", "p95"]
)
def test_a_quantile_is_the_least_value_that_the_share_does_not_exceed(
    figure: Figure, expected: float
) -> None:
    assert of(figure, [float(number) for number in range(20, 0, -1)]).value == expected


def test_nothing_is_said_of_nothing() -> None:
    for values in ([], [np.nan, np.nan]):
        for figure in (MEAN, SHARE, MEDIAN):
            found = of(figure, values)
            assert np.isnan([found.value, *found.interval]).all()
            assert found.callers == 0


def test_the_same_requests_give_the_same_interval_and_other_groups_other_draws() -> None:
    values = [float(number % 7) for number in range(90)]
    assert of(MEAN, values).interval == of(MEAN, values).interval
    other = of(MEAN, values, name="other").resampled
    assert not np.array_equal(of(MEAN, values).resampled, other)


def test_where_all_callers_agree_there_is_an_interval_all_the_same() -> None:
    low, high = of(SHARE, [1.0] * 40).interval
    assert 0.85 < low < 0.99
    assert high == 1.0
    # However often each of them was asked.
    low, high = of(SHARE, [1.0] * 400, [number % 40 for number in range(400)]).interval
    assert 0.85 < low < 0.99


def test_an_interval_shrinks_with_the_callers_and_not_with_their_requests() -> None:
    chance = np.random.default_rng(1)
    likes = (chance.random(100) < 0.5).astype(float)
    few = of(SHARE, list(likes)).interval
    each = [caller for caller in range(100) for _ in range(20)]
    again = of(SHARE, list(np.repeat(likes, 20)), each).interval
    many = of(SHARE, list((chance.random(2_000) < 0.5).astype(float))).interval
    width, again_width, many_width = (high - low for low, high in (few, again, many))
    assert again_width == pytest.approx(width, rel=0.25)
    assert many_width < width / 3


@pytest.mark.parametrize(
    ("share", "callers", "each"),
    [(0.5, 60, 1), (0.9, 60, 1), (0.97, 60, 1), (0.8, 40, 10)],
    ids=["even", "mostly", "nearly-all", "callers-of-many-requests"],
)
def test_an_interval_of_a_difference_holds_the_truth_as_often_as_it_says(
    share: float, callers: int, each: int
) -> None:
    """Each caller always says the same: its requests tell no more than one would."""
    chance, held, trials = np.random.default_rng(7), 0, 150
    for _ in range(trials):
        arms: list[Estimate] = []
        for name in ("one", "other"):
            said = (chance.random(callers) < share).astype(float)
            numbers = [caller for caller in range(callers) for _ in range(each)]
            arms.append(of(SHARE, list(np.repeat(said, each)), numbers, name=name))
        low, high = interval_of(arms[0].resampled - arms[1].resampled)
        held += low <= 0.0 <= high
    # Three standard deviations below 95 % of so many trials.
    assert held / trials >= 0.95 - 3 * (0.95 * 0.05 / trials) ** 0.5


def test_an_interval_of_a_quantile_holds_the_truth_as_often_as_it_says() -> None:
    chance, held, trials = np.random.default_rng(7), 0, 100
    for _ in range(trials):
        low, high = of(P95, list(chance.exponential(size=300))).interval
        held += low <= -np.log(0.05) <= high
    assert held / trials >= 0.88


ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([0.0, 0.25, 1.0, np.nan])), min_size=1, max_size=30
)


@settings(max_examples=50)
@given(ROWS)
def test_neither_order_nor_unit_nor_who_a_caller_is_changes_a_figure(
    rows: list[tuple[int, float]],
) -> None:
    callers, values = [caller for caller, _ in rows], [value for _, value in rows]
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    shuffled = [values[place] for place in order]
    renamed = [5 - callers[place] for place in order]
    for figure in (MEAN, MEDIAN):
        plain = of(figure, values, callers).value
        assert of(figure, shuffled, renamed).value == pytest.approx(plain, nan_ok=True)
        thousandfold = of(figure, [value * 1_000 for value in values], callers).value
        assert thousandfold == pytest.approx(plain * 1_000, nan_ok=True)


@settings(max_examples=50)
@given(ROWS)
def test_a_share_and_its_interval_lie_within_0_and_1(rows: list[tuple[int, float]]) -> None:
    found = of(SHARE, [value for _, value in rows], [caller for caller, _ in rows])
    for number in (found.value, *found.interval):
        assert np.isnan(number) or 0.0 <= number <= 1.0
