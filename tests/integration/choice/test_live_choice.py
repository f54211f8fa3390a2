"""Choices over real sockets come to what was foreseen; models answer by made-up outcomes."""

from random import Random

import pytest
from live_choice.bandits import learn
from live_choice.pairs import CHECK, STRONG, WEAK, Landed, by_agreement, by_share, by_threshold
from live_choice.routers import trained
from live_choice.shares import held_shares

from fakes.outcome_tables import Table
from switchboard_dataplane.choosing.predict import shipped_router

EASY = ("the capital of", "the colour of", "a word for")
HARD = ("the integral over", "a proof about", "the eigenvalue of")
PROMPTS = 400
TRAINED = 100
#: Points: what is asked twice over real sockets is still the same.
EXACT = 0.01
OFF_MAX = 2.0


def made_up(*, wrong_agree: bool = False) -> Table:
    """Outcomes in which hard prompts need the strong model, mostly."""
    rng = Random(1)
    prompts: list[str] = []
    qualities: dict[str, list[float]] = {WEAK: [], CHECK: [], STRONG: []}
    for number in range(PROMPTS):
        hard = rng.random() < 0.4
        length = " and why" * rng.randint(0, 9)
        prompts.append(f"What is {rng.choice(HARD if hard else EASY)} case {number}{length}?")
        for model, said in qualities.items():
            right = 0.95 if model == STRONG else 0.2 if hard else 0.9
            said.append(float(rng.random() < right))
    return Table(prompts, qualities, {WEAK: 0.1, CHECK: 0.1, STRONG: 5.0}, wrong_agree)


def pair() -> Table:
    whole = made_up()
    qualities = {name: whole.qualities[name] for name in (WEAK, STRONG)}
    return Table(whole.prompts, qualities, whole.prices)


async def test_a_declared_share_lands_on_the_curve() -> None:
    table = pair()
    with trained(table, range(TRAINED)) as learned:
        landed = await by_share(table, range(TRAINED, PROMPTS), learned, 0.4)
    figures = landed.figures()
    assert figures["quality_off_curve"] <= OFF_MAX
    # The first requests of a share that nobody knows yet count too.
    assert figures["cost_off"] <= 2 * OFF_MAX
    assert landed.live.quality > at_random(landed) + 0.05, "the router is worth something"


async def test_a_threshold_sends_just_those_that_look_hard() -> None:
    landed = await by_threshold(pair(), range(PROMPTS), shipped_router(), 0.4)
    assert_exact(landed)


@pytest.mark.parametrize("wrong_agree", [False, True])
async def test_a_cascade_escalates_just_what_two_models_disagree_on(wrong_agree: bool) -> None:
    landed = await by_agreement(made_up(wrong_agree=wrong_agree), range(PROMPTS))
    assert_exact(landed)
    assert landed.live.quality > at_random(landed)


async def test_a_share_is_held_when_the_traffic_shifts() -> None:
    prompts = made_up().prompts
    easy = [one for one in prompts if any(words in one for words in EASY)]
    found = await held_shares(prompts, easy, runs=1)
    assert found["settled_off_worst"] <= 2 * OFF_MAX
    assert found["after_a_shift_off_worst"] <= 2 * OFF_MAX


async def test_a_bandit_keeps_up_with_the_best_model_and_leaves_one_that_turns_bad() -> None:
    found = await learn(made_up(), runs=1, labelled=TRAINED, back=PROMPTS)
    assert found["quality"] > found["best_single"] - 2 * OFF_MAX
    assert found["cost"] <= 100.0
    assert found["turned_quality"] > found["turned_best_single"] - 2 * OFF_MAX


def at_random(landed: Landed) -> float:
    """Return the quality that the same share of strong answers, drawn by lot, comes to."""
    weak, strong = landed.curve.qualities[0], landed.curve.qualities[-1]
    cheap, dear = landed.curve.costs[0], landed.curve.costs[-1]
    return float(weak + (strong - weak) * (landed.live.cost - cheap) / (dear - cheap))


def assert_exact(landed: Landed) -> None:
    figures = landed.figures()
    assert figures["cost_off"] <= EXACT
    assert figures["quality_off_curve"] <= EXACT
