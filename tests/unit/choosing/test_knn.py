"""How models did on the most similar prompts."""

import numpy as np
import pytest

from switchboard_dataplane.choosing.knn import Neighbours

MATHS = np.array([1.0, 0.0, 0.0], np.float32)
CODE = np.array([0.0, 1.0, 0.0], np.float32)
PRIORS = {"small": 0.5, "large": 0.8}


def neighbours(most: int = 100) -> Neighbours:
    return Neighbours(("small", "large"), dimensions=3, most=most)


def test_nothing_seen_leaves_the_priors() -> None:
    assert neighbours().qualities(MATHS, PRIORS) == PRIORS


def test_a_target_without_a_prior_may_be_good_or_bad() -> None:
    assert neighbours().qualities(MATHS, {}) == {"small": 0.5, "large": 0.5}


def test_what_was_seen_nearby_moves_the_estimate() -> None:
    seen = neighbours()
    for _ in range(50):
        seen.take(MATHS, {"small": 0.0, "large": 1.0})
    said = seen.qualities(MATHS, PRIORS)
    assert said["small"] < 0.1
    assert said["large"] > 0.95


def test_what_was_seen_far_away_says_nothing() -> None:
    seen = neighbours()
    for _ in range(50):
        seen.take(CODE, {"small": 0.0})
    assert seen.qualities(MATHS, PRIORS) == pytest.approx(PRIORS)


def test_a_target_that_was_not_asked_keeps_its_prior() -> None:
    seen = neighbours()
    for _ in range(50):
        seen.take(MATHS, {"small": 0.0, "unknown": 1.0})
    assert seen.qualities(MATHS, PRIORS)["large"] == pytest.approx(0.8)


def test_the_oldest_outcomes_give_way() -> None:
    seen = neighbours(most=30)
    for _ in range(30):
        seen.take(MATHS, {"small": 0.0})
    for _ in range(30):
        seen.take(MATHS, {"small": 1.0})
    assert len(seen) == 30
    assert seen.qualities(MATHS, PRIORS)["small"] > 0.9


def test_the_length_of_a_vector_does_not_count() -> None:
    seen = neighbours()
    for _ in range(5):
        seen.take(MATHS * 7, {"small": 0.0})
    assert seen.qualities(MATHS, PRIORS) == pytest.approx(seen.qualities(MATHS * 3, PRIORS))


@pytest.mark.parametrize("vector", [[1.0, 0.0], [1.0, 0.0, float("nan")]])
def test_a_vector_of_another_kind_is_refused(vector: list[float]) -> None:
    with pytest.raises(ValueError, match="3 finite numbers"):
        neighbours().take(np.array(vector, np.float32), {})


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0)])
def test_there_must_be_room(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Neighbours(("small",), dimensions=sizes[0], most=sizes[1])
