"""Endpoints that terminate, and still serve, are asked where nothing else of the rule is left."""

from random import Random
from typing import Any

import msgspec
import pytest

from fakes.policies import endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane.decision.candidates import next_candidate
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Decision, Rejection, Tried, Waiting
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir


def leaving(name: str, *addresses: str) -> ir.Endpoints:
    return msgspec.structs.replace(endpoints(name, *addresses), terminating=True)


def world(*tiers: ir.Tier, ends: tuple[ir.Endpoints, ...], **fields: Any) -> Snapshot:
    names = sorted({member.backend.partition("/")[2] for one in tiers for member in one.members})
    chat = policy("chat", rule("default", *tiers))
    return snapshot(chat, *(service(name, **fields) for name in names), *ends)


def decided(running: Snapshot, signals: SignalTable, seed: int = 1) -> Decision:
    verdict = decide(running, view(), signals, now=1.0, rng=Random(seed))
    assert isinstance(verdict, Decision), verdict
    return verdict


def who(running: Snapshot, signals: SignalTable | None = None) -> set[str]:
    signals = SignalTable() if signals is None else signals
    return {decided(running, signals, seed).candidate.endpoint.id for seed in range(40)}


LEAVING, READY = leaving("a", "10.0.0.1:1", "10.0.0.2:1"), endpoints("b", "10.0.0.3:1")


def test_where_nothing_else_is_left_they_serve() -> None:
    alone = world(tier("t", "a"), ends=(LEAVING,))
    assert who(alone) == {"ai/a@10.0.0.1:1", "ai/a@10.0.0.2:1"}
    assert alone.terminating == {"ai/a"}


@pytest.mark.parametrize(
    "tiers",
    [
        (tier("t", "a", "b"),),
        (tier("first", "a"), tier("second", "b")),
        (tier("t", ("a", 99), ("b", 1)),),
    ],
    ids=["one-tier", "next-tier", "weights"],
)
def test_whatever_is_ready_serves_before_them(tiers: tuple[ir.Tier, ...]) -> None:
    assert who(world(*tiers, ends=(LEAVING, READY))) == {"ai/b@10.0.0.3:1"}


def test_what_is_ready_and_fails_is_followed_by_them() -> None:
    running = world(tier("first", "a"), tier("second", "b"), ends=(LEAVING, READY))
    signals = SignalTable()
    first = decided(running, signals)
    after = next_candidate(first.plan, [Tried(first.candidate)], signals, now=1.0, rng=Random(1))
    assert after is not None
    assert after.endpoint.backend.name == "ai/a"


def test_while_what_is_ready_is_full_requests_wait_for_it() -> None:
    running = world(
        tier("t", "a", "b"),
        ends=(LEAVING, READY),
        max_in_flight=1,
        queue=ir.Queue(max_waiting=5, max_wait_ms=1_000),
    )
    signals = SignalTable()
    signals["ai/b@10.0.0.3:1"].dispatched(0.5)
    assert isinstance(decide(running, view(), signals, now=1.0, rng=Random(1)), Waiting)


def test_a_rejection_says_so() -> None:
    running = world(tier("t", "a", "b"), ends=(LEAVING, READY), max_in_flight=1)
    signals = SignalTable()
    signals["ai/b@10.0.0.3:1"].dispatched(0.5)
    verdict = decide(running, view(), signals, now=1.0, rng=Random(1))
    assert isinstance(verdict, Rejection)
    assert "t/ai/a: has no endpoint but those that terminate" in verdict.message
