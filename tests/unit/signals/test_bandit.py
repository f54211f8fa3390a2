"""A bandit: it takes what pays, tries little, forgets what is not so any more, and is shared."""

from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from switchboard_dataplane.signals.bandit import (
    Bandit,
    Sums,
    SumsRefused,
    Told,
    unpack,
)
from switchboard_dataplane.signals.learned import Offer, Tries

#: A request is a 1, and whether it is of the one kind or the other.
PROSE = (1.0, 1.0, 0.0)
CODE = (1.0, 0.0, 1.0)
GREEDY = Tries(0.0, 0.0)
CURIOUS = Tries(0.05, 0.0)
EQUAL = (Offer(0, "small", 0.5), Offer(1, "large", 0.5))


def told(speaker: Bandit, hearer: Bandit, pod: str = "other") -> None:
    """Let a bandit hear what another has learned, over the wire."""
    for name, said in speaker.told().items():
        sums = unpack(said.sums.pack(), hearer.dimensions)
        hearer.hear(pod, name, Told(said.era, sums))


def taught(ratings: int, quality: Callable[[int], float], *, tier: int = 0) -> Bandit:
    bandit = Bandit(len(PROSE))
    for number in range(ratings):
        bandit.learn(PROSE, EQUAL[tier], quality(number))
    return bandit


def test_without_a_rating_it_takes_what_is_expected_to_be_worth_most() -> None:
    offers = (Offer(0, "small", 0.6), Offer(1, "large", 0.7, cost=0.05))
    assert Bandit(len(PROSE)).pick(PROSE, offers, GREEDY, 0.5) == 1
    dear = (offers[0], offers[1]._replace(cost=0.2))
    assert Bandit(len(PROSE)).pick(PROSE, dear, GREEDY, 0.5) == 0
    assert Bandit(len(PROSE)).estimate(PROSE, offers) == pytest.approx([0.6, 0.7])


def test_ratings_outweigh_what_was_expected() -> None:
    offers = (Offer(0, "small", 0.4), Offer(1, "large", 0.9))
    bandit = Bandit(len(PROSE))
    for _ in range(60):
        bandit.learn(PROSE, offers[0], 0.8)
        bandit.learn(PROSE, offers[1], 0.3)
    assert bandit.pick(PROSE, offers, GREEDY, 0.5) == 0
    assert bandit.estimate(PROSE, offers) == pytest.approx([0.8, 0.3], abs=0.05)


def test_a_tier_may_be_good_at_one_thing_only() -> None:
    bandit = Bandit(len(PROSE))
    for _ in range(400):
        bandit.learn(PROSE, EQUAL[0], 0.9)
        bandit.learn(CODE, EQUAL[0], 0.2)
        bandit.learn(PROSE, EQUAL[1], 0.6)
        bandit.learn(CODE, EQUAL[1], 0.6)
    assert bandit.pick(PROSE, EQUAL, GREEDY, 0.5) == 0
    assert bandit.pick(CODE, EQUAL, GREEDY, 0.5) == 1


@pytest.mark.parametrize("explore", [0.0, 0.02, 0.1])
def test_it_tries_no_more_than_it_may(explore: float) -> None:
    rng, bandit, tried = Random(3), Bandit(len(PROSE)), 0
    offers = (Offer(0, "small", 0.5), Offer(1, "large", 0.55), Offer(2, "new", 0.5))
    for number in range(2_000):
        best = int(np.argmax(bandit.estimate(PROSE, offers)))
        taken = bandit.pick(PROSE, offers, Tries(explore, 0.0), rng.random())
        tried += taken != best
        assert tried <= explore * (number + 1) + 2
        bandit.learn(PROSE, offers[taken], float(rng.random() < 0.5))
    assert (tried > 0) == (explore > 0)


def test_what_is_known_to_be_too_bad_is_not_even_tried() -> None:
    bandit = taught(300, lambda _: 0.2)
    tries = Tries(1.0, 0.5)
    assert {bandit.pick(PROSE, EQUAL, tries, chance / 100) for chance in range(100)} == {1}
    alone = (EQUAL[0],)
    assert bandit.pick(PROSE, alone, tries, 0.0) == 0


def test_where_all_are_too_bad_the_best_of_them_serves_whatever_it_costs() -> None:
    bandit = Bandit(len(PROSE))
    for _ in range(300):
        bandit.learn(PROSE, EQUAL[0], 0.2)
        bandit.learn(PROSE, EQUAL[1], 0.4)
    offers = (EQUAL[0], EQUAL[1]._replace(cost=0.9))
    assert bandit.pick(PROSE, offers, Tries(0.0, 0.5), 0.5) == 1


def test_a_little_is_no_proof_that_a_tier_is_too_bad() -> None:
    bandit = taught(2, lambda _: 0.2)
    assert bandit.pick(PROSE, (EQUAL[0],), Tries(0.0, 0.5), 0.5) == 0
    cheap = (EQUAL[0]._replace(quality=0.9), EQUAL[1]._replace(quality=0.1))
    assert bandit.pick(PROSE, cheap, Tries(0.0, 0.5), 0.5) == 0


def test_a_tier_that_turns_bad_is_left_within_some_ratings_of_its_own() -> None:
    rng = Random(5)
    bandit = taught(2_000, lambda _: float(rng.random() < 0.8))
    assert bandit.pick(PROSE, EQUAL, GREEDY, 0.5) == 0
    for _ in range(25):
        bandit.learn(PROSE, EQUAL[0], 0.0)
    assert bandit.pick(PROSE, EQUAL, GREEDY, 0.5) == 1
    assert bandit.told()["small"].era == 1


def test_what_happens_by_chance_begins_no_era() -> None:
    for seed in range(5):
        rng = Random(seed)
        bandit = taught(4_000, lambda _, rng=rng: float(rng.random() < 0.6))  # type: ignore[misc]
        assert bandit.told()["small"].era == 0


def test_a_tier_that_has_come_back_is_found_out_by_second_chances() -> None:
    offers = (Offer(0, "small", 0.6), Offer(1, "large", 0.9))
    rng, bandit = Random(9), Bandit(len(PROSE))
    chances = {"small": 0.6, "large": 0.0}
    for _ in range(300):
        taken = bandit.pick(PROSE, offers, CURIOUS, rng.random())
        bandit.learn(PROSE, offers[taken], float(rng.random() < chances[offers[taken].tier]))
    assert bandit.pick(PROSE, offers, GREEDY, 0.5) == 0
    chances["large"] = 0.95
    for _ in range(2_000):
        taken = bandit.pick(PROSE, offers, CURIOUS, rng.random())
        bandit.learn(PROSE, offers[taken], float(rng.random() < chances[offers[taken].tier]))
    assert bandit.pick(PROSE, offers, GREEDY, 0.5) == 1


def test_what_was_rated_before_counts_until_enough_is_rated_now() -> None:
    before = Sums(len(PROSE) + 1)
    for _ in range(200):
        before.take(np.array([*PROSE, 0.5]), 0.9)
    bandit = Bandit(len(PROSE), {"small": before})
    assert bandit.estimate(PROSE, EQUAL) == pytest.approx([0.9, 0.5], abs=0.02)
    for _ in range(1_500):
        bandit.learn(PROSE, EQUAL[0], 0.75)
    assert bandit.estimate(PROSE, EQUAL)[0] == pytest.approx(0.75, abs=0.02)


def test_pods_know_what_all_of_them_were_told() -> None:
    whole, one, other = Bandit(len(PROSE)), Bandit(len(PROSE)), Bandit(len(PROSE))
    rng = Random(2)
    for number in range(100):
        quality, tier = rng.random(), EQUAL[rng.randrange(2)]
        whole.learn(PROSE, tier, quality)
        (one, other)[number % 2].learn(PROSE, tier, quality)
    told(other, one)
    told(one, other, "one")
    expected = whole.estimate(PROSE, EQUAL)
    assert one.estimate(PROSE, EQUAL) == pytest.approx(expected, abs=0.03)
    assert other.estimate(PROSE, EQUAL) == pytest.approx(expected, abs=0.03)


def test_a_word_takes_the_place_of_the_one_before() -> None:
    one, other = Bandit(len(PROSE)), taught(50, lambda _: 0.9)
    for _ in range(20):
        told(other, one)
    assert one.estimate(PROSE, EQUAL) == pytest.approx(other.estimate(PROSE, EQUAL), abs=1e-3)


def test_an_era_that_one_pod_begins_begins_for_all() -> None:
    one, other = taught(500, lambda _: 0.9), taught(500, lambda _: 0.9)
    told(one, other)
    told(other, one, "one")
    while one.told()["small"].era == 0:
        one.learn(PROSE, EQUAL[0], 0.0)
    for _ in range(20):
        one.learn(PROSE, EQUAL[0], 0.0)
    told(one, other)
    assert other.told()["small"] == (1, other.told()["small"].sums)
    assert other.told()["small"].sums.seen == 0
    assert other.estimate(PROSE, EQUAL)[0] < 0.1


def test_what_a_pod_knew_that_is_gone_is_taken_over_by_one() -> None:
    gone, heir, other = taught(200, lambda _: 0.9), Bandit(len(PROSE)), Bandit(len(PROSE))
    for one in (heir, other):
        told(gone, one, "gone")
    heir.lose("gone", adopt=True)
    other.lose("gone", adopt=False)
    assert heir.estimate(PROSE, EQUAL)[0] == pytest.approx(0.9, abs=0.02)
    assert other.estimate(PROSE, EQUAL)[0] == pytest.approx(0.5)
    told(heir, other, "heir")
    assert other.estimate(PROSE, EQUAL)[0] == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 4,
        Sums(3).pack(),
        np.full(15, np.nan, "<f4").tobytes(),
        np.full(15, 1e7, "<f4").tobytes(),
        np.array([*([-5.0] * 10), *([0.0] * 5)], "<f4").tobytes(),
        np.array([*([0.0] * 14), -1.0], "<f4").tobytes(),
    ],
    ids=["empty", "short", "other features", "nan", "huge", "no sums", "less than none"],
)
def test_what_is_no_sum_of_ratings_is_refused(data: bytes) -> None:
    with pytest.raises(SumsRefused):
        unpack(data, 4)


def test_an_era_begins_with_the_ratings_since_it_might_have() -> None:
    rng = Random(5)
    bandit = taught(2_000, lambda _: float(rng.random() < 0.8))
    ratings = 0
    while bandit.told()["small"].era == 0:
        bandit.learn(PROSE, EQUAL[0], 0.0)
        ratings += 1
    assert ratings <= bandit.told()["small"].sums.seen <= ratings + 10
    assert bandit.estimate(PROSE, EQUAL)[0] < 0.15


def test_a_few_bad_answers_of_a_tier_that_hardly_fails_begin_no_era() -> None:
    for seed in range(5):
        rng = Random(seed)
        bandit = taught(4_000, lambda _, rng=rng: float(rng.random() < 0.93))  # type: ignore[misc]
        assert bandit.told()["small"].era == 0


def test_kinds_of_requests_are_told_apart_by_what_is_expected_of_all_tiers() -> None:
    easy, hard = (0.5, 0.3), (0.5, 0.7)
    rng, bandit = Random(4), Bandit(len(PROSE))
    for _ in range(600):
        said = rng.choice((easy, hard))
        offers = [Offer(0, "small", said[0]), Offer(1, "large", said[1])]
        bandit.learn(PROSE, offers[0], float(said == easy), offers[1:])
    known = [
        bandit.estimate(PROSE, [Offer(0, "small", one[0]), Offer(1, "large", one[1])])[0]
        for one in (easy, hard)
    ]
    assert known[0] > 0.8
    assert known[1] < 0.2
