"""Whatever the world: an explanation says what the decision does, and leaves no trace of itself."""

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, Final

import msgspec
import orjson
import pytest

from fakes import policies as made
from fakes import wild_stage
from fakes.virtual_time import VirtualTimeLoop
from fakes.wild_states import draw_states
from fakes.wild_worlds import CREDENTIAL, EMAIL, HARD, MARK, Wish, draw_world
from switchboard_dataplane.decision.candidates import bits
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.explain import CAPABILITY, GUARDRAIL, UNPUBLISHED, UNUSABLE
from switchboard_dataplane.decision.match import find_policy
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Decision, Plan, Rejection, Resting, Waiting
from switchboard_dataplane.explaining import form
from switchboard_dataplane.explaining.explainer import _SEED, Explainer
from switchboard_dataplane.explaining.rules import claims_of
from switchboard_dataplane.reader import Reader
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.learned import NOBODY
from switchboard_dataplane.wire.asks import read_ask

WORLDS: Final = int(os.environ.get("SWITCHBOARD_EXPLAINED_WORLDS", "400"))
#: What no endpoint can change: a backend that falls by one of these is not eligible.
HARD_FILTERS: Final = frozenset({GUARDRAIL, UNPUBLISHED, UNUSABLE, CAPABILITY})
#: Each of these comes in one of so many worlds, at the least.
RARE: Final = 100


def view_of(wish: Wish) -> RequestView:
    return read_ask(wish.api, orjson.dumps(wish.body), dict(wish.headers)).view


def trace_of(signals: SignalTable) -> object:
    """What a decision may leave in the signals."""
    return (
        dict(signals.turns),
        dict(signals.sessions._known),
        {key: len(one) for key, one in signals.shares.items()},
        {key: one.share for key, one in signals.targets.items()},
        {key: repr(one) for key, one in signals.tier_loads.items()},
        {name: (one.in_flight, one.waiting) for name, one in signals.items()},
        {name: len(one.waiting) for name, one in signals.queues.items()},
    )


async def explained(
    snapshot: Snapshot, signals: SignalTable, reader: Reader, wish: Wish
) -> tuple[form.Explanation, Decision | Waiting | Resting | Rejection]:
    """Explain a request, and decide it at the same time with the same luck."""
    clock = asyncio.get_running_loop().time
    view, same = view_of(wish), view_of(wish)
    policy = find_policy(snapshot, view.model)
    assert policy is not None
    # Readings of learned parts differ from time to time here: they are made once.
    await reader.read(policy, view)
    same.readings = view.readings
    explainer = Explainer(reader=reader, signals=signals, clock=clock)
    before = trace_of(signals)
    found = await explainer.explain(snapshot, view)
    assert trace_of(signals) == before
    return found, decide(snapshot, same, signals, now=clock(), rng=Random(_SEED))


def check_plan(found: form.Explanation, plan: Plan, *, awake: bool = False) -> None:
    """Check what holds for all attempts: guardrails, rule, who may serve at all.

    The plan of a request that waits has only those that are ``awake``.
    """
    names = plan.policy.backends
    assert found.rule == plan.rule.name
    assert tuple(one.name for one in found.guardrails if one.applies) == plan.guardrails
    eligible = tuple(names[number] for number in bits(plan.eligible))
    assert set(found.eligible) >= set(eligible) if awake else found.eligible == eligible
    assert [one.name for one in found.tiers] == [one.name for one in plan.rule.tiers]
    assert (found.arm.name if found.arm else "") == plan.view.arm
    if found.select is not None:
        assert found.select.tier == plan.rule.tiers[0].name


def check_candidates(found: form.Explanation) -> None:
    """Check that a hard limit dropped exactly those that are not eligible, and that words agree."""
    for tier in found.tiers:
        for one in tier.candidates:
            assert (one.filter in HARD_FILTERS) == (one.backend not in found.eligible), one
            assert one.why != "cannot do what the request asks for", one
            assert (one.state == "dropped") == bool(one.filter), one
            assert one.why or one.state != "dropped", one
    winners = [one for one in found.rules if one.won]
    assert [one.name for one in winners] == ([found.rule] if found.rule else [])
    assert all(not one.matches for one in found.rules if one.reached and not one.won)
    assert all(one.matches for one in winners)


def check(found: form.Explanation, verdict: Decision | Waiting | Resting | Rejection) -> None:
    assert found.claims[0].policy == found.policy
    check_candidates(found)
    match verdict:
        case Decision():
            check_plan(found, verdict.plan)
            assert found.outcome == "served"
            assert (found.status, found.reason) == (200, "")
            check_pick(found, verdict)
        case Waiting():
            check_plan(found, verdict.plan, awake=True)
            assert found.outcome == "waits"
        case Resting():
            check_plan(found, verdict.plan)
            assert found.outcome == "waits" or found.reason == "resting"
        case Rejection():
            assert found.outcome == "rejected"
            assert (found.reason, found.message) == (verdict.reason, verdict.message)
            assert found.rule == verdict.rule
            fell = {(one.tier, one.backend) for one in verdict.fallen}
            told = {(tier.name, one.backend) for tier in found.tiers for one in tier.candidates}
            assert told == fell


def check_pick(found: form.Explanation, decision: Decision) -> None:
    assert found.pick is not None
    picked = {
        (tier.name, f"{one.backend}@{one.address}"): one
        for tier in found.tiers
        for one in tier.candidates
    }
    one = picked[found.pick.tier, found.pick.endpoint]
    assert one.state == "candidate"
    assert found.pick.draws == 0 or one.share == found.pick.share > 0
    decided = picked[decision.candidate.tier.name, decision.candidate.endpoint.id]
    # What a request picks is no candidate that was dropped.
    assert decided.state != "dropped"
    if found.pick.share == 1.0 and found.pick.draws:
        assert decided is one


def check_secrecy(found: form.Explanation, wish: Wish) -> None:
    said = msgspec.json.encode(found).decode()
    for text in (EMAIL, CREDENTIAL, HARD, MARK % wish.number, "and so on"):
        assert text not in said


async def play(number: int) -> list[str]:
    rng = Random(number)
    world = draw_world(rng)
    in_force = await wild_stage._in_force(world, rng)
    signals = in_force.signals
    # Whoever has learned anything may say something else each time.
    signals.learner = NOBODY
    assert in_force.snapshot is not None
    lasts_s = draw_states(rng, in_force.snapshot, signals, asyncio.get_running_loop().time())
    reader = replace(wild_stage._reader(rng))
    outcomes: list[str] = []
    for wish in world.wishes:
        found, verdict = await explained(in_force.snapshot, signals, reader, wish)
        try:
            check(found, verdict)
            check_secrecy(found, wish)
        except AssertionError as error:
            raise AssertionError(f"world {number}, request {wish.number}: {found}") from error
        outcomes += [found.reason or found.outcome, *ways_of(found)]
    await asyncio.sleep(lasts_s + 0.1)
    return outcomes


def ways_of(found: form.Explanation) -> list[str]:
    dropped = [one.filter for tier in found.tiers for one in tier.candidates if one.filter]
    flags: dict[str, Any] = {
        "panic": any(tier.panic for tier in found.tiers),
        "spilled": any(tier.spilled for tier in found.tiers),
        "failed guardrail": any(one.failed for one in found.guardrails),
        "select": found.select,
        "chance": found.pick is not None and found.pick.share < 1.0,
    }
    return [*dropped, *(name for name, there in flags.items() if there)]


@pytest.mark.timeout(600)
def test_an_explanation_says_what_the_decision_does(
    caplog: pytest.LogCaptureFixture, record_property: Callable[[str, object], None]
) -> None:
    caplog.set_level(logging.ERROR)
    seen: list[str] = []
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        for number in range(WORLDS):
            seen += runner.run(play(number))
    counts = {way: seen.count(way) for way in sorted(set(seen))}
    record_property("measured", counts)
    wanted = {"served", "waits", "no_candidate", "overloaded", "panic", "spilled", "select"}
    wanted |= {"chance", "guardrail", "capability", "ejected", "resting", "at_limit"}
    missed = {way for way in wanted if counts.get(way, 0) * RARE < WORLDS}
    assert not missed, f"hardly any world shows these: {missed} of {counts}"


def test_the_first_of_the_claims_is_who_answers() -> None:
    rng = Random(7)
    patterns = ("a", "ab", "abc", "a*", "ab*", "*", "b", "b*")
    answered = 0
    for _ in range(400):
        claiming = [
            made.policy(
                f"p{number}",
                made.rule("default", made.tier("t", "x")),
                models=tuple(rng.sample(patterns, rng.randint(1, 3))),
                namespace_rank=rng.randrange(2),
                priority=rng.randrange(2),
            )
            for number in range(rng.randint(1, 5))
        ]
        running = made.snapshot(*claiming)
        for model in ("a", "ab", "abc", "abcd", "b", "c"):
            found, answers = claims_of(running, model), find_policy(running, model)
            assert [one.policy for one in found[:1]] == ([answers.name] if answers else [])
            assert len({one.policy for one in found}) == len(found)
            assert [bool(one.lost_by) for one in found] == [
                number > 0 for number in range(len(found))
            ]
            answered += answers is not None
    assert answered > 1_000
