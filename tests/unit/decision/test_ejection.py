"""Ejected endpoints are left out, tried when they are due, and used where nothing else is left."""

from collections import Counter
from random import Random
from typing import Any, Final

import pytest

from fakes.policies import backend, endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane.decision.candidates import next_candidate
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Candidate, Decision, Rejection, Tried
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir

FOUR: Final = ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1")
OPEN_S: Final = 10.0


def eject(signals: SignalTable, *endpoint_ids: str, at: float = 0.0) -> None:
    for endpoint_id in endpoint_ids:
        for _ in range(ir.Breaker().consecutive_failures):
            signals[endpoint_id].breaker.failed("connect", at, since=at)
        assert endpoint_id in signals.ejected


def ids(name: str, *addresses: str) -> list[str]:
    return [f"ai/{name}@{address}" for address in addresses]


def two_tiers(**fields: Any) -> Snapshot:
    """Four endpoints of ``local``, then two of ``spare``."""
    return snapshot(
        policy("chat", rule("default", tier("near", "local"), tier("far", "spare")), **fields),
        service("local"),
        endpoints("local", *FOUR),
        service("spare"),
        endpoints("spare", *FOUR[:2]),
    )


def decided(
    running: Snapshot, signals: SignalTable, *, now: float = 1.0, seed: int = 1
) -> Candidate:
    verdict = decide(running, view(), signals, now=now, rng=Random(seed))
    assert isinstance(verdict, Decision), verdict
    return verdict.candidate


def chosen(running: Snapshot, signals: SignalTable, *, now: float = 1.0) -> Counter[str]:
    return Counter(decided(running, signals, now=now, seed=seed).endpoint.id for seed in range(200))


def test_an_ejected_endpoint_gets_nothing() -> None:
    running, signals = two_tiers(), SignalTable()
    eject(signals, *ids("local", *FOUR[:3]))
    assert chosen(running, signals).keys() == set(ids("local", FOUR[3]))


def test_a_tier_may_be_ejected_whole_while_a_later_one_serves() -> None:
    running, signals = two_tiers(), SignalTable()
    eject(signals, *ids("local", *FOUR))
    assert chosen(running, signals).keys() == set(ids("spare", *FOUR[:2]))
    candidate = decided(running, signals)
    assert (candidate.tier.name, candidate.panic) == ("far", False)


def test_where_nothing_is_left_ejections_are_ignored() -> None:
    running, signals = two_tiers(), SignalTable()
    eject(signals, *ids("local", *FOUR), *ids("spare", *FOUR[:2]))
    assert chosen(running, signals).keys() == set(ids("local", *FOUR))
    assert decided(running, signals).panic


@pytest.mark.parametrize(
    ("max_ejected", "out", "panics"),
    [(500, 2, False), (500, 3, True), (749, 3, True), (750, 3, False), (0, 1, True)],
)
def test_too_many_out_of_the_last_tier_are_ignored(
    max_ejected: int, out: int, *, panics: bool
) -> None:
    running = snapshot(
        policy("chat", rule("default", tier("only", "local")), max_ejected_permille=max_ejected),
        service("local"),
        endpoints("local", *FOUR),
    )
    signals = SignalTable()
    eject(signals, *ids("local", *FOUR[:out]))
    there = FOUR if panics else FOUR[out:]
    assert chosen(running, signals).keys() == set(ids("local", *there))
    assert decided(running, signals).panic == panics


def test_a_tier_above_that_lost_its_later_tier_is_the_last() -> None:
    running, signals = two_tiers(), SignalTable()
    eject(signals, *ids("local", *FOUR[:3]), *ids("spare", *FOUR[:2]))
    assert chosen(running, signals).keys() == set(ids("local", *FOUR))


def test_the_next_decision_takes_the_endpoint_that_is_due_and_the_ones_after_it_do_not() -> None:
    running, signals = two_tiers(), SignalTable()
    (out,) = ids("local", FOUR[0])
    eject(signals, out)
    assert out not in chosen(running, signals, now=OPEN_S - 0.1)
    taken = decided(running, signals, now=OPEN_S)
    assert (taken.endpoint.id, taken.panic) == (out, False)
    signals[out].dispatched(OPEN_S)
    assert out not in chosen(running, signals, now=OPEN_S)
    signals[out].heard()
    signals[out].answered(0.1, OPEN_S + 0.1, since=OPEN_S, tokens=1, stream=False)
    signals[out].released(OPEN_S + 0.1, since=OPEN_S)
    assert not signals.ejected
    assert out in chosen(running, signals, now=OPEN_S + 60.0)


def test_an_endpoint_of_a_tier_that_is_not_reached_waits() -> None:
    running, signals = two_tiers(), SignalTable()
    eject(signals, *ids("spare", FOUR[0]))
    assert chosen(running, signals, now=OPEN_S).keys() == set(ids("local", *FOUR))


def test_an_endpoint_that_is_due_but_still_full_waits() -> None:
    running = snapshot(
        policy("chat", rule("default", tier("only", "local"))),
        service("local", max_in_flight=2),
        endpoints("local", *FOUR[:2]),
    )
    signals = SignalTable()
    (out, other) = ids("local", *FOUR[:2])
    signals[out].in_flight = 2
    eject(signals, out)
    assert chosen(running, signals, now=OPEN_S).keys() == {other}


def test_an_endpoint_that_is_due_but_was_tried_gets_no_second_attempt() -> None:
    running, signals = two_tiers(), SignalTable()
    (out,) = ids("local", FOUR[0])
    eject(signals, out)
    verdict = decide(running, view(), signals, now=OPEN_S, rng=Random(1))
    assert isinstance(verdict, Decision)
    tried = (Tried(verdict.candidate),)
    following = next_candidate(verdict.plan, tried, signals, now=OPEN_S, rng=Random(1))
    assert following is not None
    assert following.endpoint.id != out


def test_an_ejected_backend_never_draws_by_its_weight() -> None:
    running = snapshot(
        policy("chat", rule("default", tier("only", ("old", 90), ("new", 10)))),
        backend("old"),
        backend("new"),
    )
    signals = SignalTable()
    eject(signals, "ai/old@old.example:8000")
    assert chosen(running, signals).keys() == {"ai/new@new.example:8000"}


def test_the_endpoint_that_a_failure_has_just_ejected_is_not_tried_again() -> None:
    running = snapshot(
        policy("chat", rule("default", tier("near", "one"), tier("far", "two"))),
        backend("one"),
        backend("two"),
    )
    signals = SignalTable()
    verdict = decide(running, view(), signals, now=0.0, rng=Random(1))
    assert isinstance(verdict, Decision)
    tried = (Tried(verdict.candidate, again=True),)
    again = next_candidate(verdict.plan, tried, signals, now=0.0, rng=Random(1))
    assert again is not None
    assert again.endpoint is verdict.candidate.endpoint
    eject(signals, verdict.candidate.endpoint.id)
    elsewhere = next_candidate(verdict.plan, tried, signals, now=1.0, rng=Random(1))
    assert elsewhere is not None
    assert elsewhere.tier.name == "far"


def test_when_all_others_have_failed_the_request_an_ejected_one_is_better_than_nothing() -> None:
    running = snapshot(
        policy("chat", rule("default", tier("only", "local"))),
        service("local"),
        endpoints("local", *FOUR[:2]),
    )
    signals = SignalTable()
    (out, _) = ids("local", *FOUR[:2])
    eject(signals, out)
    verdict = decide(running, view(), signals, now=1.0, rng=Random(1))
    assert isinstance(verdict, Decision)
    last = next_candidate(
        verdict.plan, (Tried(verdict.candidate),), signals, now=1.0, rng=Random(1)
    )
    assert last is not None
    assert (last.endpoint.id, last.panic) == (out, True)


def test_an_endpoint_that_is_gone_does_not_count_as_out() -> None:
    running, signals = two_tiers(), SignalTable()
    eject(signals, "ai/gone@10.0.0.9:1")
    assert chosen(running, signals, now=OPEN_S).keys() == set(ids("local", *FOUR))
    assert not decided(running, signals).panic


@pytest.mark.parametrize("by", ["breaker", "probe"])
def test_a_rejection_says_who_was_ejected_by_what_and_for_how_long(by: str) -> None:
    running = snapshot(
        policy("chat", rule("default", tier("near", "dead"), tier("far", "busy"))),
        service("dead"),
        endpoints("dead", *FOUR[:2]),
        service("busy", max_in_flight=1),
        endpoints("busy", *FOUR[:1]),
    )
    signals = SignalTable()
    for out in ids("dead", *FOUR[:2]):
        if by == "breaker":
            eject(signals, out)
        else:
            signals[out].breaker.probed(0.0, well=False)
    signals[ids("busy", FOUR[0])[0]].in_flight = 1
    verdict = decide(running, view(), signals, now=7.2, rng=Random(1))
    assert isinstance(verdict, Rejection)
    assert verdict.reason == "overloaded"
    assert (
        f"near/ai/dead: ejected by its {by} for 7 s, and 1 more of its endpoints are ejected"
        in verdict.message
    )
