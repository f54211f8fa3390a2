"""Whatever the policy, the state and the faults: what a guardrail forbids is never called.

Worlds are drawn by their number, so one that fails is the same each time. ``make test`` plays a
share of them, ``make test-guardrails`` 10,000.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from fakes.virtual_time import VirtualTimeLoop
from fakes.wild_stage import SECOND, Played, play
from fakes.wild_upstream import Called
from fakes.wild_worlds import Wish, forbidden
from switchboard_dataplane.telemetry.outcome import Aside, Outcome
from switchboard_policy import ir

WORLDS: Final = int(os.environ.get("SWITCHBOARD_WORLDS", "1500"))
#: Each way to a backend is gone in one of so many worlds, at the least.
RARE: Final = 400
#: Less is no wait.
MOMENT_S: Final = 0.001
#: All ways on which a backend is called, with a guardrail in force.
WAYS: Final = frozenset(
    {
        *("primary", "first rule", "arm", "Complexity", "Quality", "Task", "Classifier"),
        *("Neighbours", "Bandit", "retry", "fallback", "hedged", "raced", "restart"),
        *("spill", "waited", "panic", "wider window", "changed while waiting", "nobody may"),
        *("caller left", "error applies", "step", "accepted", "escalated", "agreement", "judge"),
        *("candidate", "classifier", "mirror", "sample", "forbidden aside", "aside's fallback"),
    }
)


def policy_of(played: Played, called: Called) -> ir.Policy:
    """Return the policy by which a call had to be made.

    It is the one that its request is bound to; nobody was bound to another before that came.
    """
    change = played.world.change
    if change is None or called.at < played.began_at + change.at_s:
        return played.world.policy
    bound_to = played.outcomes[called.number].revision
    return change.policy if bound_to == str(SECOND) else played.world.policy


def forbidden_to(played: Played, called: Called) -> frozenset[str]:
    """Return who must not be called on account of the request of a call."""
    traits = played.world.wishes[called.number].traits
    arm = played.outcomes[called.number].arm
    return forbidden(policy_of(played, called), traits | {f"arm {arm}"})


def check(played: Played) -> None:
    """Check each call by itself, and that all were accounted for."""
    calls = {wish.number: Counter[str]() for wish in played.world.wishes}
    for called in played.upstream.called:
        assert called.backend not in forbidden_to(played, called), (
            f"world {played.number}: {called}, {played.world.wishes[called.number]}"
        )
        calls[called.number][called.backend] += 1
    for number, outcome in played.outcomes.items():
        told = Counter(attempt.backend for attempt in played.attempts(number))
        assert calls[number] == told, f"world {played.number}: request {number}"
        assert outcome.error != "internal_error", f"world {played.number}: request {number}"


def ways_of(played: Played) -> Iterator[str]:
    """Yield the ways on which requests were that were kept from some backend."""
    for wish in played.world.wishes:
        calls = [one for one in played.upstream.called if one.number == wish.number]
        outcome = played.outcomes[wish.number]
        if not calls:
            yield "nobody may" if outcome.error == "no_candidate" else ""
        elif forbidden_to(played, calls[0]):
            reason = played.reasons[wish.number]
            yield reason if reason in WAYS else reason.partition(":")[2]
            yield from _way_of_rule(played, outcome)
            yield from _ways_of_attempts(outcome)
            yield from _ways_of_wait(played, wish, calls[0].at)
            for aside in played.asides(wish.number):
                yield from _ways_of_aside(aside)


def _way_of_rule(played: Played, outcome: Outcome) -> Iterator[str]:
    for rule in played.world.policy.rules:
        if rule.name == outcome.rule and rule.select is not None:
            yield rule.select.by
    if outcome.arm:
        yield "arm"


def _ways_of_attempts(outcome: Outcome) -> Iterator[str]:
    attempts = [one for one in outcome.attempts if one.failure]
    if outcome.answered:
        others = {one.backend for one in attempts} - {outcome.backend}
        yield "fallback" if others else "retry" if attempts else "primary"
    for way, gone in {
        "restart": outcome.breaks and outcome.answered and not outcome.error,
        "spill": outcome.spills,
        "panic": outcome.panic,
        "wider window": any(one.failure == "context_overflow" for one in attempts),
        "caller left": outcome.caller_left and attempts,
        "first rule": outcome.rule == "first",
        "error applies": outcome.expression_errors and outcome.guardrails,
        "accepted": any(word == "accepted" for _, word in outcome.judged),
        "escalated": len(outcome.judged) > 1,
        "forbidden aside": any(word.endswith("forbidden") for _, word in outcome.judged),
    }.items():
        if gone:
            yield way


def _ways_of_wait(played: Played, wish: Wish, first_call_at: float) -> Iterator[str]:
    if first_call_at > played.began_at + wish.at_s + MOMENT_S:
        yield "waited"
        change = played.world.change
        bound_to = played.outcomes[wish.number].revision
        if change is not None and bound_to == str(SECOND) and wish.at_s < change.at_s:
            yield "changed while waiting"


def _ways_of_aside(aside: Aside) -> Iterator[str]:
    yield aside.purpose
    if len({one.backend for one in aside.attempts}) > 1:
        yield "aside's fallback"


@pytest.mark.timeout(900)
def test_no_forbidden_backend_is_ever_called(
    caplog: pytest.LogCaptureFixture, record_property: Callable[[str, object], None]
) -> None:
    # Each world is full of failures that are told in the log.
    caplog.set_level(logging.ERROR)
    seen = Counter[str]()
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        for number in range(WORLDS):
            played = runner.run(play(number))
            check(played)
            seen.update(ways_of(played))
    record_property("measured", ", ".join(f"{way} {seen[way]}" for way in sorted(WAYS)))
    missed = {way for way in WAYS if seen[way] * RARE < WORLDS}
    assert not missed, f"hardly any world shows these: {missed}"
