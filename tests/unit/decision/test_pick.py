"""Golden tables of the balances: state → the endpoints that may be chosen."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from fakes.policies import backend, endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.verdict import Decision
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir

THREE = ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1")


def chosen(
    balance: ir.Balance,
    signals: SignalTable,
    *entries: ir.Entry,
    draws: int = 300,
    zone: str = "",
    members: tuple[str, ...] = ("a",),
    **request: Any,
) -> Counter[str]:
    running = snapshot(
        policy("chat", rule("default", tier("t", *members, balance=balance))), *entries, zone=zone
    )
    rng = Random(3)
    counts: Counter[str] = Counter()
    for _ in range(draws):
        verdict = decide(running, view(**request), signals, now=0.0, rng=rng)
        assert isinstance(verdict, Decision)
        counts[verdict.candidate.endpoint.address] += 1
    return counts


def state(**by_last_byte: tuple[int, float]) -> SignalTable:
    """Signals of a's endpoints: e1=(in flight, latency), …; NaN stands for none."""
    signals = SignalTable()
    for name, (in_flight, latency_s) in by_last_byte.items():
        signal = signals[f"ai/a@10.0.0.{name[1:]}:1"]
        signal.in_flight, signal.latency_s = in_flight, latency_s
    return signals


NAN = float("nan")


@pytest.mark.parametrize(
    ("signals", "never"),
    [
        (state(e1=(0, 9.0), e2=(0, 0.1), e3=(0, 0.1)), {"10.0.0.1:1"}),
        (state(e1=(9, 0.1), e2=(0, 0.1), e3=(0, 0.1)), {"10.0.0.1:1"}),
        (state(e1=(0, 0.1), e2=(0, 0.2), e3=(0, 0.3)), {"10.0.0.3:1"}),
        (state(e1=(0, NAN), e2=(0, 0.2), e3=(0, 0.3)), {"10.0.0.3:1"}),
    ],
    ids=["slow", "busy", "slowest", "new-at-the-median"],
)
def test_latency_avoids_the_worst(signals: SignalTable, never: set[str]) -> None:
    counts = chosen(ir.Balance("Latency"), signals, service("a"), endpoints("a", *THREE))
    assert not never & counts.keys()
    assert len(counts) == 2


def test_equal_endpoints_share_by_chance() -> None:
    counts = chosen(
        ir.Balance("Latency"), SignalTable(), service("a"), endpoints("a", *THREE), draws=900
    )
    assert min(counts.values()) > 200


def test_load_goes_by_requests_in_flight_not_by_latency() -> None:
    signals = state(e1=(5, 0.01), e2=(1, 9.0), e3=(0, 9.0))
    counts = chosen(ir.Balance("Load"), signals, service("a"), endpoints("a", *THREE))
    assert "10.0.0.1:1" not in counts


def test_load_is_a_share_of_the_limit_where_both_have_one() -> None:
    entries = (backend("a", max_in_flight=100), backend("b", max_in_flight=10))
    signals = SignalTable()
    for name, in_flight in (("a", 20), ("b", 5)):
        signals[f"ai/{name}@{name}.example:8000"].in_flight = in_flight
    counts = chosen(ir.Balance("Load"), signals, *entries, members=("a", "b"))
    assert set(counts) == {"a.example:8000"}
    counts = chosen(ir.Balance("Load"), signals, entries[0], backend("b"), members=("a", "b"))
    assert set(counts) == {"b.example:8000"}


def test_cost_takes_the_cheapest_and_the_unpriced_last() -> None:
    cheap = ir.Pricing(input_picodollars=1, output_picodollars=1)
    dear = ir.Pricing(input_picodollars=1, output_picodollars=9)
    entries = (backend("a", pricing=cheap), backend("b", pricing=dear), backend("c"))
    members = ("a", "b", "c")
    counts = chosen(ir.Balance("Cost"), SignalTable(), *entries, members=members)
    assert set(counts) == {"a.example:8000"}
    counts = chosen(ir.Balance("Cost"), SignalTable(), *entries[1:], members=members)
    assert set(counts) == {"b.example:8000"}


@pytest.mark.parametrize(
    ("zone", "allowed"),
    [
        ("eu-west-1a", {"10.0.0.1:1"}),
        ("eu-west-1c", {"10.0.0.1:1", "10.0.0.2:1"}),
        ("us-east-1a", {"10.0.0.1:1", "10.0.0.2:1", "b.example:8000"}),
        ("", {"10.0.0.1:1", "10.0.0.2:1", "b.example:8000"}),
    ],
    ids=["own-zone", "own-region", "anywhere", "unknown"],
)
def test_locality_prefers_the_near(zone: str, allowed: set[str]) -> None:
    counts = chosen(
        ir.Balance("Locality"),
        SignalTable(),
        service("a", region="eu-west-1"),
        endpoints("a", ("10.0.0.1:1", "eu-west-1a"), ("10.0.0.2:1", "eu-west-1b")),
        backend("b", region="ap-south-1"),
        zone=zone,
        members=("a", "b"),
    )
    assert set(counts) == allowed


BY_SESSION = ir.Balance("Hash", ir.HashKey("session"))


def test_hash_keeps_a_session_on_one_endpoint_and_spreads_sessions() -> None:
    entries = (service("a"), endpoints("a", *THREE))
    homes = [
        chosen(BY_SESSION, SignalTable(), *entries, draws=5, session=f"s{number}")
        for number in range(60)
    ]
    assert all(len(home) == 1 for home in homes)
    assert len({next(iter(home)) for home in homes}) == 3


def test_long_sessions_that_differ_at_their_ends_spread_too() -> None:
    entries = (service("a"), endpoints("a", *THREE))
    homes = {
        next(iter(chosen(BY_SESSION, SignalTable(), *entries, draws=1, session="s" * 80 + tail)))
        for tail in "0123456789"
    }
    assert len(homes) > 1


def test_hash_moves_only_the_sessions_of_an_endpoint_that_left() -> None:
    def home(addresses: tuple[str, ...], number: int) -> str:
        entries = (service("a"), endpoints("a", *addresses))
        counts = chosen(BY_SESSION, SignalTable(), *entries, draws=1, session=f"s{number}")
        return next(iter(counts))

    before = [home(THREE, number) for number in range(60)]
    after = [home(THREE[:2], number) for number in range(60)]
    stayed = [old == new for old, new in zip(before, after, strict=True) if old != THREE[2]]
    assert all(stayed)


def test_hash_yields_where_the_home_is_overloaded() -> None:
    entries = (service("a"), endpoints("a", *THREE))
    (home,) = chosen(BY_SESSION, SignalTable(), *entries, draws=1, session="s")
    signals = SignalTable()
    signals[f"ai/a@{home}"].in_flight = 10
    (other,) = chosen(BY_SESSION, signals, *entries, draws=5, session="s")
    assert other != home


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        (ir.HashKey("user"), {"user": "u1"}),
        (ir.HashKey("header", "x-team"), {"headers": {"x-team": "blue"}}),
    ],
    ids=["user", "header"],
)
def test_hash_goes_by_what_it_names(key: ir.HashKey, fields: dict[str, Any]) -> None:
    balance, entries = ir.Balance("Hash", key), (service("a"), endpoints("a", *THREE))
    assert len(chosen(balance, SignalTable(), *entries, draws=30, **fields)) == 1
    assert len(chosen(balance, SignalTable(), *entries, draws=30, session="s1")) > 1


def test_hash_without_its_key_goes_by_latency() -> None:
    signals = state(e1=(0, 9.0), e2=(0, 0.1), e3=(0, 0.1))
    counts = chosen(BY_SESSION, signals, service("a"), endpoints("a", *THREE))
    assert "10.0.0.1:1" not in counts
