"""From which score on a request goes to the strong model."""

from random import Random

import pytest

from switchboard_dataplane.signals.thresholds import (
    WINDOW,
    QualityTarget,
    ShareTracker,
    Threshold,
    threshold_for,
)


def strong_share(threshold: Threshold, scores: list[float], rng: Random) -> float:
    return sum(threshold.is_strong(score, rng.random()) for score in scores) / len(scores)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_a_threshold_splits_its_scores_as_declared(share: float) -> None:
    scores = [number / 10 for number in range(100)]
    assert strong_share(threshold_for(scores, share), scores, Random(1)) == pytest.approx(share)


def test_equal_scores_are_split_by_chance() -> None:
    scores = [0.5] * 10_000
    share = strong_share(threshold_for(scores, 0.3), scores, Random(1))
    assert share == pytest.approx(0.3, abs=0.02)


def test_a_share_between_two_scores_cuts_one_in_part() -> None:
    threshold = threshold_for([1.0, 2.0, 3.0], 0.5)
    assert threshold == Threshold(2.0, 0.5)


def test_without_scores_only_a_positive_one_is_strong() -> None:
    threshold = threshold_for([], 0.3)
    assert threshold.is_strong(0.1, 0.0)
    assert not threshold.is_strong(0.0, 0.0)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_between_none_and_all(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        threshold_for([1.0], share)
    with pytest.raises(ValueError, match="share"):
        ShareTracker(share)


def test_a_tracker_needs_a_window_and_numbers() -> None:
    with pytest.raises(ValueError, match="window"):
        ShareTracker(0.3, window=0)
    with pytest.raises(ValueError, match="number"):
        ShareTracker(0.3).take(float("nan"))


def held_share(seed: int, *, shift: float) -> tuple[float, float]:
    """Return the strong shares of the 500 requests, and of those from 600 on after a shift."""
    rng = Random(seed)
    tracker = ShareTracker(0.3)
    went: list[bool] = []
    for number in range(1_600):
        score = rng.gauss(0.0 if number < 500 else shift, 1.0)
        went.append(tracker.threshold().is_strong(score, rng.random()))
        tracker.take(score)
    return sum(went[:500]) / 500, sum(went[1_100:]) / 500


@pytest.mark.parametrize("shift", [-2.0, 2.0])
def test_a_declared_share_is_held_and_held_again_after_the_traffic_shifts(shift: float) -> None:
    found = [held_share(seed, shift=shift) for seed in range(100)]
    for place in (0, 1):
        misses = sorted(abs(one[place] - 0.3) for one in found)
        assert misses[94] <= 0.04


def test_a_tracker_forgets_what_is_older_than_its_window() -> None:
    tracker = ShareTracker(0.5, start=[0.0] * WINDOW)
    for _ in range(WINDOW):
        tracker.take(10.0)
    assert len(tracker) == WINDOW
    assert tracker.threshold().score == 10.0


def test_a_quality_is_reached_where_both_models_reach_it_together() -> None:
    rng, target, got = Random(4), QualityTarget(0.8), list[float]()
    for _ in range(3_000):
        score = rng.random()
        strong = target.is_strong(score, rng.random(), count=True)
        quality = float(rng.random() < (0.95 if strong else 0.95 - 0.6 * score))
        target.take(quality)
        got.append(quality)
    assert sum(got[1_000:]) / 2_000 == pytest.approx(0.8, abs=0.02)
    assert 0.0 < target.share < 0.6


@pytest.mark.parametrize(("quality", "share"), [(1.0, 0.0), (0.0, 1.0)])
def test_at_an_end_nothing_is_saved_up(quality: float, share: float) -> None:
    target = QualityTarget(0.5)
    for _ in range(1_000):
        target.take(quality)
    assert target.share == share
    for _ in range(20):
        target.take(1.0 - quality)
    assert target.share == pytest.approx(abs(share - 0.2))


def test_the_share_is_moved_by_what_other_pods_were_told() -> None:
    target = QualityTarget(0.5)
    target.heard["other"] = 0.3
    assert target.share == pytest.approx(0.8)
    target.heard["other"] = 3.0
    target.take(1.0)
    assert target.share == pytest.approx(0.99)


def test_a_quality_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not in"):
        QualityTarget(1.1)
