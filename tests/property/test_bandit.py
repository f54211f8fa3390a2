"""Whatever is asked, rated, told and lost: a bandit takes what it may, and stays finite."""

import math
from random import Random
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard_dataplane.signals.bandit import Bandit, Sums, SumsRefused, Told, unpack
from switchboard_dataplane.signals.learned import Offer, Tries

FEATURES: Final = 3
NAMES: Final = ("a", "b", "c", "d")
SHARE = st.integers(0, 20).map(lambda twentieth: twentieth / 20)
RATINGS = st.lists(st.tuples(st.integers(0, 3), SHARE), max_size=60)


def context(rng: Random) -> tuple[float, ...]:
    return (1.0, float(rng.random() < 0.5), rng.uniform(-2, 2))


@given(st.integers(0, 2**32), RATINGS, SHARE, SHARE)
def test_it_takes_one_of_the_offers_and_tries_no_more_than_it_may(
    seed: int, ratings: list[tuple[int, float]], explore: float, least: float
) -> None:
    rng, bandit, tried = Random(seed), Bandit(FEATURES), 0
    for number, (place, quality) in enumerate(ratings):
        asked = context(rng)
        offers = [
            Offer(at, name, rng.random(), rng.random() / 5)
            for at, name in enumerate(NAMES)
            if at == place or rng.random() < 0.7
        ]
        greedy = bandit.pick(asked, offers, Tries(0.0, least), 0.0)
        taken = bandit.pick(asked, offers, Tries(explore, least), rng.random())
        assert 0 <= taken < len(offers)
        tried += taken != greedy
        assert tried <= explore * (number + 1) + 2
        known = bandit.estimate(asked, offers)
        assert all(0.0 <= one <= 1.0 for one in known)
        bandit.learn(asked, next(one for one in offers if one.number == place), quality)


@given(st.integers(0, 2**32), RATINGS, st.integers(2, 4))
def test_pods_that_heard_of_each_other_agree_and_a_lost_one_is_not_missed(
    seed: int, ratings: list[tuple[int, float]], count: int
) -> None:
    rng = Random(seed)
    pods = {f"pod-{number}": Bandit(FEATURES) for number in range(count)}
    for place, quality in ratings:
        pods[rng.choice(sorted(pods))].learn(context(rng), Offer(place, NAMES[place], 0.5), quality)
    words = {
        pod: [(name, told.era, told.sums.pack()) for name, told in bandit.told().items()]
        for pod, bandit in pods.items()
    }
    speakers = sorted(words)
    rng.shuffle(speakers)
    for _ in range(2):
        for speaker in speakers:
            for hearer, bandit in pods.items():
                for name, era, sums in words[speaker] if hearer != speaker else ():
                    bandit.hear(speaker, name, Told(era, unpack(sums, bandit.dimensions)))
    asked, offers = context(rng), [Offer(at, name, 0.5) for at, name in enumerate(NAMES)]
    known = [bandit.estimate(asked, offers) for bandit in pods.values()]
    for other in known[1:]:
        assert other == pytest.approx(known[0], abs=1e-3)
    heir, gone = sorted(pods)[:2]
    before = pods[heir].estimate(asked, offers)
    pods[heir].lose(gone, adopt=True)
    assert pods[heir].estimate(asked, offers) == pytest.approx(before, abs=1e-3)


@given(st.binary(max_size=80) | st.lists(st.floats(width=32), min_size=15, max_size=15))
def test_any_bytes_are_sums_or_are_refused(said: bytes | list[float]) -> None:
    data = said if isinstance(said, bytes) else np.array(said, "<f4").tobytes()
    try:
        sums = unpack(data, FEATURES + 1)
    except SumsRefused:
        return
    bandit, offers = Bandit(FEATURES, {"a": sums}), [Offer(0, "a", 0.5), Offer(1, "b", 0.5)]
    other = Bandit(FEATURES, {"b": sums})
    other.learn((1.0, 0.0, 1.0), offers[1], 1.0)
    told = unpack(other.told()["b"].sums.pack(), bandit.dimensions)
    bandit.hear("pod", "b", Told(0, told))
    assert all(map(math.isfinite, bandit.estimate((1.0, 0.0, 1.0), offers)))
    bandit.learn((1.0, 0.0, 1.0), offers[0], 1.0)
    assert bandit.pick((1.0, 0.0, 1.0), offers, Tries(0.5, 0.5), 0.1) in (0, 1)


@given(st.lists(st.tuples(st.floats(-2, 2), SHARE), max_size=30))
def test_sums_survive_their_bytes(ratings: list[tuple[float, float]]) -> None:
    sums = Sums(FEATURES)
    for feature, quality in ratings:
        sums.take(np.array([1.0, feature, quality]), quality)
    again = unpack(sums.pack(), FEATURES)
    assert again.products == pytest.approx(sums.products, rel=1e-5, abs=1e-5)
    assert again.rated == pytest.approx(sums.rated, rel=1e-5, abs=1e-5)
    assert again.seen == len(ratings)
