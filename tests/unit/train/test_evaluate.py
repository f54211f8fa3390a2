"""The figures that say how good a router is, on cases that can be worked out by hand."""

import numpy as np
import pytest

from switchboard_cli.train.evaluate import (
    Choice,
    aiq,
    calibration_error,
    choose_by_price,
    cost_saved,
    recovery,
    task_table,
)


def test_a_perfect_router_sends_only_what_gains() -> None:
    gains = np.array([1.0, 0.0, 0.0, 0.0])
    found = recovery(gains, gains)
    assert found.shares.tolist() == [0.0, 0.25, 1.0]
    assert found.recovered.tolist() == [0.0, 1.0, 1.0]
    assert found.apgr == pytest.approx(0.875)
    assert found.cpt(0.5) == pytest.approx(0.125)


def test_a_router_that_says_nothing_recovers_as_much_as_it_sends() -> None:
    gains = np.array([1.0, 0.0, 1.0, 0.0])
    for quantiles in (None, 10):
        found = recovery(np.zeros(4), gains, quantiles=quantiles)
        assert found.apgr == pytest.approx(0.5)
        assert found.cpt(0.8) == pytest.approx(0.8)


def test_the_order_of_equal_scores_does_not_matter() -> None:
    scores, gains = np.array([1.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.5])
    one, other = recovery(scores, gains), recovery(scores[[1, 0, 2]], gains[[1, 0, 2]])
    assert one.recovered.tolist() == other.recovered.tolist()


def test_ten_quantiles_look_at_tenths_of_the_calls() -> None:
    rng = np.random.default_rng(1)
    found = recovery(rng.random(1_000), rng.random(1_000), quantiles=10)
    assert found.shares == pytest.approx(np.linspace(0, 1, 11), abs=0.002)


def test_a_loss_on_the_way_does_not_hide_the_first_time_a_share_is_recovered() -> None:
    found = recovery(np.array([4.0, 3.0, 2.0, 1.0]), np.array([1.0, -1.0, 1.0, 1.0]))
    assert found.cpt(0.5) == pytest.approx(0.25)


@pytest.mark.parametrize("gains", [[0.0, 0.0], [1.0, -2.0]])
def test_without_a_gap_there_is_no_share_of_it(gains: list[float]) -> None:
    with pytest.raises(ValueError, match="no better"):
        recovery(np.array([1.0, 2.0]), np.array(gains))


def test_the_hull_is_flat_to_the_dearest_and_spans_dominated_points() -> None:
    choice = Choice(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.1, 1.0]))
    assert aiq(choice, cheapest=1.0, dearest=5.0) == pytest.approx((2 * 0.5 + 2 * 1.0) / 4)


def test_a_dear_bad_point_is_no_part_of_the_hull() -> None:
    choice = Choice(np.array([1.0, 2.0]), np.array([0.6, 0.2]))
    assert aiq(choice, cheapest=1.0, dearest=2.0) == pytest.approx(0.6)


def test_the_cheap_model_is_taken_where_it_is_as_good() -> None:
    qualities = np.array([[1.0, 1.0], [0.0, 1.0]])
    choice = choose_by_price(qualities, np.array([[1.0, 9.0]] * 2), qualities)
    assert cost_saved(choice, cost=9.0, quality=1.0) == pytest.approx(4 / 9)
    assert choice.qualities[-1] == 0.5


def test_nothing_is_saved_where_the_quality_is_not_reached() -> None:
    assert cost_saved(Choice(np.array([1.0]), np.array([0.4])), cost=9.0, quality=0.5) == 0.0


def test_calibration_error_is_how_far_predictions_are_off() -> None:
    observed = np.array([0.0, 1.0] * 50)
    assert calibration_error(np.full(100, 0.5), observed) == pytest.approx(0.0, abs=0.01)
    assert calibration_error(np.full(100, 0.8), observed) == pytest.approx(0.3, abs=0.01)


def test_a_task_that_was_seen_rarely_is_drawn_to_the_mean() -> None:
    table = task_table(["a"] * 95 + ["b"], np.array([0.0] * 95 + [1.0]))
    assert table["a"] < 0.01
    assert table["b"] < 0.2
