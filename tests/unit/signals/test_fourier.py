"""Features of what is expected of all tiers: alike where it is, whoever is asked, in any order."""

import numpy as np
import pytest

from switchboard_dataplane.signals.fourier import NEAR, WAVES, Waves

SMALL, LARGE, NEW = 0, 1, 2
FIRST = (-0.2452938, -0.08278149, 0.14657371)


def waves(*names: str) -> Waves:
    made = Waves()
    for name in names:
        made.add(name)
    return made


def alike(one: Waves, first: list[float], second: list[float]) -> float:
    places = range(len(first))
    return float(one.of(places, np.array(first)) @ one.of(places, np.array(second)))


def test_requests_are_alike_of_which_alike_is_expected() -> None:
    one = waves("small", "large")
    same = alike(one, [0.4, 0.8], [0.4, 0.8])
    near = alike(one, [0.4, 0.8], [0.4 + NEAR / 4, 0.8])
    far = alike(one, [0.4, 0.8], [0.9, 0.2])
    assert same == pytest.approx(1.0, abs=0.3)
    assert same > near > far
    assert abs(far) < 0.4


def test_features_are_the_same_in_every_pod_and_in_any_order_of_tiers() -> None:
    one, other = waves("small", "large"), waves("large", "small")
    first = one.of([SMALL, LARGE], np.array([0.3, 0.7]))
    assert other.of([1, 0], np.array([0.3, 0.7])) == pytest.approx(first)
    assert first.shape == (WAVES,)
    # Other versions must draw the same.
    assert waves("small").of([SMALL], np.array([0.9]))[:3] == pytest.approx(FIRST, abs=1e-6)


def test_a_tier_that_is_not_on_offer_is_taken_to_be_as_it_mostly_is() -> None:
    one, asked = waves("small", "large"), np.array([0.3, 0.7])
    for _ in range(50):
        one.take([SMALL, LARGE], asked)
    assert one.of([SMALL], asked[:1]) == pytest.approx(one.of([SMALL, LARGE], asked))


def test_a_tier_that_nobody_has_said_anything_of_makes_no_difference() -> None:
    one = waves("small", "large")
    before = one.of([SMALL, LARGE], np.array([0.3, 0.7]))
    one.add("new")
    assert one.of([SMALL, LARGE], np.array([0.3, 0.7])) == pytest.approx(before)
    assert one.of([SMALL, LARGE, NEW], np.array([0.3, 0.7, 0.9])) != pytest.approx(before)
