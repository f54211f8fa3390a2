"""Arms: shares are those of the weights, and a change of weights moves few callers."""

from collections import Counter
from collections.abc import Mapping
from math import sqrt
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchboard_dataplane.decision.arms import arm_at, lower_arms
from switchboard_policy import ir

#: Callers, at places as a digest would have them.
CHANCE = Random(11)
PLACES = [CHANCE.getrandbits(64) for _ in range(2_000)]
#: Five standard deviations of a share that so many callers show.
SLACK = 5 * sqrt(0.25 / len(PLACES))

NAMES = ["control", "cheap", "large", "new", "other", "arm-6", "arm-7", "arm-8"]
WEIGHTS = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 100), min_size=1)


def arms_at(weights: Mapping[str, int]) -> list[str]:
    arms = lower_arms(ir.Arm(name, weight) for name, weight in weights.items())
    return [arm_at(arms, place) for place in PLACES]


def shares_of(weights: Mapping[str, int]) -> dict[str, float]:
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


@settings(max_examples=40)
@given(WEIGHTS)
def test_shares_are_those_of_the_weights(weights: dict[str, int]) -> None:
    found = Counter(arms_at(weights))
    for name, share in shares_of(weights).items():
        assert found[name] / len(PLACES) == pytest.approx(share, abs=SLACK)


@settings(max_examples=40)
@given(WEIGHTS, st.sampled_from(NAMES), st.integers(0, 100))
def test_a_change_of_one_arm_moves_callers_to_it_or_from_it_alone(
    weights: dict[str, int], name: str, weight: int
) -> None:
    changed = weights | {name: weight}
    before, after = arms_at(weights), arms_at(changed)
    if not any(changed.values()):
        assert set(after) == {""}
        return
    moved = {pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]}
    if weight >= weights.get(name, 0):
        assert {target for _, target in moved} <= {name}
    else:
        assert {source for source, _ in moved} <= {name}


@settings(max_examples=40)
@given(WEIGHTS, WEIGHTS)
def test_any_change_moves_as_few_as_can_be_without_a_memory(
    old: dict[str, int], new: dict[str, int]
) -> None:
    before, after = shares_of(old), shares_of(new)
    differ = sum(abs(before.get(name, 0) - after.get(name, 0)) for name in NAMES) / 2
    pairs = zip(arms_at(old), arms_at(new), strict=True)
    moved = sum(one != other for one, other in pairs) / len(PLACES)
    assert moved <= 2 * differ / (1 + differ) + SLACK


@given(WEIGHTS, st.integers(2, 50), st.randoms(use_true_random=False))
def test_neither_the_order_of_the_arms_nor_the_unit_of_the_weights_matters(
    weights: dict[str, int], unit: int, rng: Random
) -> None:
    names = list(weights)
    rng.shuffle(names)
    assert arms_at({name: weights[name] * unit for name in names})[:200] == arms_at(weights)[:200]
