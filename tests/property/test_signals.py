"""Whatever is true of endpoints: averages stay among what was seen, and nobody full is picked."""

import math
from itertools import pairwise
from random import Random
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from fakes.policies import endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.verdict import Decision, Rejection
from switchboard_dataplane.signals.average import Average
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.engine import EngineLoad
from switchboard_policy import ir

SECONDS = st.floats(0.0, 300.0, allow_nan=False)
SEEN = st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=20)


@given(SEEN, st.booleans())
def test_an_average_stays_among_what_was_seen(seen: list[tuple[float, float]], peak: bool) -> None:
    average, now = Average(), 0.0
    for after_s, value in seen:
        now += after_s
        (average.take_peak if peak else average.take)(value, now)
        if peak:
            assert average.value >= value - 1e-9
    values = [value for _, value in seen]
    assert min(values) - 1e-9 <= average.value <= max(values) + 1e-9


@given(SECONDS, SECONDS, st.lists(SECONDS, min_size=2, max_size=5))
def test_an_average_fades_to_the_prior_and_never_back(
    value: float, prior: float, ages: list[float]
) -> None:
    average = Average()
    average.take(value, 0.0)
    far = [abs(average.faded(prior, age) - prior) for age in sorted(ages)]
    assert all(later <= sooner + 1e-9 for sooner, later in pairwise(far))
    assert average.faded(prior, 1_000.0) == prior
    weights = [average.weight(age) for age in ages]
    assert all(0.0 <= weight <= 1.0 for weight in weights)


COUNT = 6
ADDRESSES = [f"10.0.0.{number}:1" for number in range(COUNT)]
BALANCES = st.sampled_from(
    [
        ir.Balance("Latency"),
        ir.Balance("Load"),
        ir.Balance("Cost"),
        ir.Balance("Locality"),
        ir.Balance("Hash", ir.HashKey("session")),
        ir.Balance("Scorers", scorers=(ir.Scorer("Latency", 3), ir.Scorer("Load"))),
    ]
)


class State(NamedTuple):
    """What is true of an endpoint; ``unwell`` ejects it."""

    in_flight: int
    unwell: bool
    latency_s: float | None
    errors: int
    engine: EngineLoad | None
    joined_at: float


NOW, LIMIT = 1_000.0, 2
STATES = st.builds(
    State,
    in_flight=st.integers(0, 3),
    unwell=st.booleans(),
    latency_s=st.none() | SECONDS,
    errors=st.integers(0, 9),
    engine=st.none()
    | st.builds(
        EngineLoad,
        waiting=st.integers(0, 99),
        running=st.integers(0, 99),
        kv_use=st.none() | st.floats(0, 1),
        at=st.sampled_from([NOW - 60, NOW]),
    ),
    joined_at=st.sampled_from([-math.inf, NOW - 60, NOW - 10, NOW]),
)


def table_of(states: list[State]) -> SignalTable:
    signals = SignalTable()
    for address, state in zip(ADDRESSES, states, strict=True):
        signal = signals[f"ai/a@{address}"]
        signal.engine = state.engine
        for _ in range(state.in_flight):
            signal.dispatched(NOW)
        if state.latency_s is not None:
            signal.waited(state.latency_s, NOW - state.latency_s, tokens=5, stream=False)
        for _ in range(state.errors):
            signal.failed("auth", NOW, since=NOW)
        signal.returned(state.joined_at)
        if state.unwell:
            signal.breaker.probed(NOW, well=False)
    return signals


@given(BALANCES, st.lists(STATES, min_size=COUNT, max_size=COUNT), st.integers(), st.booleans())
def test_whatever_is_true_a_free_endpoint_is_picked_if_there_is_one(
    balance: ir.Balance, states: list[State], seed: int, weighted: bool
) -> None:
    running = snapshot(
        policy("chat", rule("default", tier("t", ("a", 1) if weighted else "a", balance=balance))),
        service("a", max_in_flight=LIMIT),
        endpoints("a", *ADDRESSES),
        zone="eu-west-1a",
    )
    signals = table_of(states)
    request = view(session="s1", tokens=5)
    verdict = decide(running, request, signals, now=NOW, rng=Random(seed))
    free = [state.in_flight < LIMIT for state in states]
    if any(free[at] and not state.unwell for at, state in enumerate(states)):
        assert isinstance(verdict, Decision)
        picked = ADDRESSES.index(verdict.candidate.endpoint.address)
        assert free[picked]
        # Where most are out, those that are out serve too (panic).
        assert verdict.candidate.panic or not states[picked].unwell
    elif not any(free):
        assert isinstance(verdict, Rejection)
