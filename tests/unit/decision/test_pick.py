"""Golden tables of the balances: state → the endpoints that may be chosen."""

from collections import Counter
from itertools import permutations
from random import Random
from typing import Any

import pytest

from fakes.policies import backend, endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Decision
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.engine import EngineLoad
from switchboard_policy import ir

THREE = ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1")
NOW = 1_000.0
NONE: set[str] = set()


def drawn(
    running: Snapshot, signals: SignalTable, *, draws: int, now: float = NOW, **request: Any
) -> Counter[str]:
    rng = Random(3)
    counts: Counter[str] = Counter()
    for _ in range(draws):
        verdict = decide(running, view(**request), signals, now=now, rng=rng)
        assert isinstance(verdict, Decision)
        counts[verdict.candidate.endpoint.address] += 1
    return counts


def chosen(
    balance: ir.Balance,
    signals: SignalTable,
    *entries: ir.Entry,
    draws: int = 300,
    zone: str = "",
    members: tuple[str | tuple[str, int], ...] = ("a",),
    **request: Any,
) -> Counter[str]:
    running = snapshot(
        policy("chat", rule("default", tier("t", *members, balance=balance))), *entries, zone=zone
    )
    return drawn(running, signals, draws=draws, **request)


def state(**said: dict[str, Any]) -> SignalTable:
    """Signals of a's endpoints by their last number, such as ``e1={"busy": 3, "ttft_s": 0.1}``.

    ``ttft_s`` and ``latency_s`` were seen for small prompts, ``age_s`` ago, as was all else that
    has an age.
    """
    signals = SignalTable()
    for name, facts in said.items():
        signal = signals[f"ai/a@10.0.0.{name[1:]}:1"]
        at = NOW - facts.get("age_s", 0.0)
        for stream, kind in ((True, "ttft_s"), (False, "latency_s")):
            if kind in facts:
                signal.waited(facts[kind], at, tokens=facts.get("tokens", 0), stream=stream)
        if "speed" in facts:
            signal.tokens_per_s.take(facts["speed"], at)
        for _ in range(facts.get("errors", 0)):
            signal.failed("server_error", at, since=at)
        for _ in range(facts.get("busy", 0)):
            signal.dispatched(NOW)
        for _ in range(facts.get("writing", 0)):
            signal.dispatched(NOW)
            signal.heard()
        if "engine" in facts:
            waiting, running, kv_use = facts["engine"]
            signal.engine = EngineLoad(waiting, running, kv_use, at=at, lasts_s=4.0)
    return signals


def only(*numbers: int) -> set[str]:
    return {f"10.0.0.{number}:1" for number in numbers}


QUICK, SLOW = {"latency_s": 0.1}, {"latency_s": 9.0}


@pytest.mark.parametrize(
    ("signals", "allowed"),
    [
        pytest.param(state(e1=SLOW, e2=QUICK, e3=QUICK), only(2, 3), id="slow"),
        pytest.param(state(e1=QUICK | {"busy": 9}, e2=QUICK, e3=QUICK), only(2, 3), id="many-wait"),
        pytest.param(
            state(e1=QUICK | {"writing": 9}, e2=QUICK, e3=QUICK), only(2, 3), id="many-write"
        ),
        pytest.param(
            state(e1=QUICK | {"busy": 2}, e2=QUICK | {"writing": 9}, e3=QUICK),
            only(2, 3),
            id="waiting-weighs-more-than-writing",
        ),
        pytest.param(
            state(e1={"latency_s": 0.1}, e2={"latency_s": 0.2}, e3={"latency_s": 0.3}),
            only(1, 2),
            id="slowest",
        ),
        pytest.param(
            state(e2={"latency_s": 0.2}, e3={"latency_s": 0.3}), only(1, 2), id="new-at-the-median"
        ),
        pytest.param(
            state(e1=SLOW | {"age_s": 60.0}, e2=QUICK, e3={"latency_s": 0.2}),
            only(1, 2),
            id="stale-is-the-median",
        ),
        pytest.param(
            state(e1=QUICK | {"errors": 3}, e2={"latency_s": 0.3}, e3={"latency_s": 0.3}),
            only(2, 3),
            id="fast-failing",
        ),
        pytest.param(
            state(e1=QUICK | {"errors": 3, "age_s": 90.0}, e2={"latency_s": 0.1}, e3=QUICK),
            only(1, 2, 3),
            id="errors-fade",
        ),
        pytest.param(
            state(e1=SLOW | {"ttft_s": 0.1}, e2=QUICK, e3=QUICK), only(2, 3), id="ttft-is-another"
        ),
        pytest.param(
            state(e1=SLOW | {"tokens": 9_000}, e2=QUICK, e3=QUICK),
            only(1, 2, 3),
            id="other-class-of-prompts",
        ),
        pytest.param(
            state(
                e1=QUICK | {"busy": 2, "speed": 10},
                e2=QUICK | {"busy": 4, "speed": 100},
                e3=QUICK | {"busy": 4, "speed": 100},
            ),
            only(2, 3),
            id="what-waits-weighs-more-at-a-slow-writer",
        ),
        pytest.param(
            state(e1={"speed": 10}, e2=QUICK | {"speed": 100}, e3=QUICK | {"speed": 100}),
            only(2, 3),
            id="a-slow-writer-is-not-thought-to-read-quickly",
        ),
        pytest.param(
            state(
                e1=QUICK | {"busy": 1, "speed": 0.001},
                e2=QUICK | {"busy": 20, "speed": 100},
                e3=QUICK | {"busy": 30, "speed": 100},
            ),
            only(1, 2),
            id="speeds-are-compared-within-a-bound",
        ),
        pytest.param(
            state(
                e1=QUICK | {"busy": 2},
                e2=QUICK | {"busy": 3, "speed": 50},
                e3=QUICK | {"busy": 1, "speed": 100},
            ),
            only(1, 3),
            id="an-unknown-speed-is-the-median",
        ),
    ],
)
def test_latency_avoids_the_worst(signals: SignalTable, allowed: set[str]) -> None:
    counts = chosen(ir.Balance("Latency"), signals, service("a"), endpoints("a", *THREE))
    assert set(counts) == allowed


@pytest.mark.parametrize(
    ("by", "bad", "good", "stream"),
    [
        ("Latency", {"ttft_s": 9.0}, {"ttft_s": 0.1}, True),
        ("Latency", {"latency_s": 9.0}, {"latency_s": 0.1}, False),
        ("Latency", {"speed": 1, "busy": 1}, {"speed": 100, "busy": 1}, True),
        ("Latency", {"errors": 3}, {}, True),
        ("Load", {"errors": 3}, {}, False),
        ("Load", {"engine": (9, 9, 0.9)}, {"engine": (0, 9, 0.1)}, False),
    ],
    ids=["ttft", "latency", "speed", "errors", "errors-by-load", "engine"],
)
def test_a_signal_moves_the_choice_while_it_is_fresh_and_not_when_it_is_old(
    by: ir.BalanceBy, bad: dict[str, Any], good: dict[str, Any], *, stream: bool
) -> None:
    entries = (service("a"), endpoints("a", *THREE))
    for age_s, allowed in ((0.0, only(2, 3)), (90.0, only(1, 2, 3))):
        signals = state(e1=bad | {"age_s": age_s}, e2=good, e3=good)
        assert set(chosen(ir.Balance(by), signals, *entries, stream=stream)) == allowed


def test_a_new_endpoint_is_taken_as_often_as_one_at_the_median() -> None:
    signals = state(e2={"latency_s": 0.1}, e3={"latency_s": 0.2}, e4={"latency_s": 0.3})
    entries = service("a"), endpoints("a", *THREE, "10.0.0.4:1")
    counts = chosen(ir.Balance("Latency"), signals, *entries, draws=600)
    # Of six pairs it loses one, wins one, and draws one.
    assert 110 < counts["10.0.0.1:1"] < 190
    assert counts["10.0.0.2:1"] > 250


def test_a_stream_goes_by_the_time_to_its_first_content() -> None:
    signals = state(e1={"ttft_s": 9.0}, e2={"ttft_s": 0.1}, e3={"ttft_s": 0.1, "latency_s": 9.0})
    entries = service("a"), endpoints("a", *THREE)
    assert set(chosen(ir.Balance("Latency"), signals, *entries, stream=True)) == only(2, 3)


def test_equal_endpoints_share_by_chance() -> None:
    for by in ("Latency", "Load", "Cost", "Locality", "Hash"):
        key = ir.HashKey("session") if by == "Hash" else None
        balance, entries = ir.Balance(by, key), (service("a"), endpoints("a", *THREE))
        counts = chosen(balance, SignalTable(), *entries, draws=900)
        assert min(counts.values()) > 200


BUSY = {"busy": 3}


def engine(waiting: int, running: int, kv_use: float | None) -> dict[str, Any]:
    return {"engine": (waiting, running, kv_use)}


@pytest.mark.parametrize(
    ("signals", "allowed"),
    [
        pytest.param(
            state(e1=QUICK | {"busy": 5}, e2=SLOW | {"busy": 1}, e3=SLOW),
            only(2, 3),
            id="in-flight",
        ),
        pytest.param(
            state(e1=engine(9, 9, 0.1), e2=engine(0, 9, 0.1), e3=engine(0, 9, 0.1)),
            only(2, 3),
            id="the-engines-queue",
        ),
        pytest.param(
            state(e1=engine(3, 9, 0.1), e2=engine(0, 16, 0.1), e3=engine(0, 9, 0.1)),
            only(2, 3),
            id="waiting-weighs-more-than-running",
        ),
        pytest.param(
            state(e1=engine(0, 9, 0.97), e2=engine(0, 9, 0.1), e3=engine(0, 9, 0.2)),
            only(2, 3),
            id="the-cache",
        ),
        pytest.param(
            state(e1=engine(0, 9, 0.97), e2=engine(0, 9, None), e3=engine(0, 9, None)),
            only(1, 2, 3),
            id="no-cache-told-no-cache-compared",
        ),
        pytest.param(
            state(
                e1=BUSY | {"engine": (0, 0, 0.1), "age_s": 9.0},
                e2={"engine": (50, 50, 0.9), "age_s": 9.0},
                e3={"engine": (50, 50, 0.9), "age_s": 9.0},
            ),
            only(2, 3),
            id="old-numbers-do-not-count",
        ),
        pytest.param(
            state(e1=BUSY | {"engine": (0, 0, 0.1)}, e2={"busy": 1}, e3={"busy": 1}),
            only(2, 3),
            id="one-engine-that-tells-is-not-compared-with-another-that-does-not",
        ),
        pytest.param(
            state(e1={"busy": 9} | engine(0, 0, 0.0), e2=engine(0, 3, 0.0), e3=engine(0, 3, 0.0)),
            only(2, 3),
            id="an-engine-has-at-least-what-was-sent-to-it",
        ),
        pytest.param(
            state(e1={"errors": 3}, e2={"busy": 2}, e3={"busy": 2}), only(2, 3), id="fast-failing"
        ),
    ],
)
def test_load_avoids_the_worst(signals: SignalTable, allowed: set[str]) -> None:
    counts = chosen(ir.Balance("Load"), signals, service("a"), endpoints("a", *THREE))
    assert set(counts) == allowed


def test_what_was_sent_since_the_engines_numbers_were_read_counts_too() -> None:
    signals = state(e1={"engine": (0, 9, None)}, e2={"engine": (0, 9, None)})
    for _ in range(3):
        signals["ai/a@10.0.0.1:1"].dispatched(NOW)
    entries = service("a"), endpoints("a", *THREE[:2])
    assert set(chosen(ir.Balance("Load"), signals, *entries)) == only(2)
    signals["ai/a@10.0.0.1:1"].engine = EngineLoad(0, 9, None, at=NOW)
    assert set(chosen(ir.Balance("Load"), signals, *entries)) == only(1, 2)


def test_load_is_a_share_of_the_limit_where_both_have_one() -> None:
    entries = (backend("a", max_in_flight=100), backend("b", max_in_flight=10))
    signals = SignalTable()
    for name, in_flight in (("a", 20), ("b", 5)):
        signals[f"ai/{name}@{name}.example:8000"].in_flight = in_flight
    counts = chosen(ir.Balance("Load"), signals, *entries, members=("a", "b"))
    assert set(counts) == {"a.example:8000"}
    counts = chosen(ir.Balance("Load"), signals, entries[0], backend("b"), members=("a", "b"))
    assert set(counts) == {"b.example:8000"}


CHEAP = ir.Pricing(input_picodollars=1, output_picodollars=1)
DEAR = ir.Pricing(input_picodollars=1, output_picodollars=9)
DEAREST = ir.Pricing(input_picodollars=1, output_picodollars=31)


@pytest.mark.parametrize("prices", list(permutations((CHEAP, DEAR, DEAREST, None))), ids=str)
def test_cost_takes_the_cheapest_and_the_unpriced_last(
    prices: tuple[ir.Pricing | None, ...],
) -> None:
    names = dict(zip(prices, "abcd", strict=True))
    members = tuple(names.values())
    for cheapest in (CHEAP, DEAR, DEAREST, None):
        entries = [backend(name, pricing=price) for price, name in names.items()]
        counts = chosen(ir.Balance("Cost"), SignalTable(), *entries, members=members, draws=20)
        assert set(counts) == {f"{names.pop(cheapest)}.example:8000"}


def test_cost_takes_the_next_cheapest_where_the_cheapest_is_full() -> None:
    entries = backend("a", pricing=CHEAP, max_in_flight=1), backend("b", pricing=DEAR), backend("c")
    signals = SignalTable()
    signals["ai/a@a.example:8000"].dispatched(NOW)
    counts = chosen(ir.Balance("Cost"), signals, *entries, members=("a", "b", "c"))
    assert set(counts) == {"b.example:8000"}


def test_what_costs_the_same_goes_by_latency() -> None:
    entries = backend("a", pricing=CHEAP), backend("b", pricing=CHEAP), backend("c", pricing=DEAR)
    signals = SignalTable()
    signals["ai/a@a.example:8000"].waited(9.0, NOW, tokens=0, stream=False)
    signals["ai/b@b.example:8000"].waited(0.1, NOW, tokens=0, stream=False)
    counts = chosen(ir.Balance("Cost"), signals, *entries, members=("a", "b", "c"))
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


@pytest.mark.parametrize(
    ("full", "allowed"),
    [(1, {"10.0.0.2:1"}), (2, {"b.example:8000"})],
    ids=["zone-full", "region-full"],
)
def test_locality_goes_on_where_the_near_are_full(full: int, allowed: set[str]) -> None:
    signals = SignalTable()
    for number in range(1, full + 1):
        signals[f"ai/a@10.0.0.{number}:1"].dispatched(NOW)
    counts = chosen(
        ir.Balance("Locality"),
        signals,
        service("a", region="eu-west-1", max_in_flight=1),
        endpoints("a", ("10.0.0.1:1", "eu-west-1a"), ("10.0.0.2:1", "eu-west-1b")),
        backend("b", region="ap-south-1"),
        zone="eu-west-1a",
        members=("a", "b"),
    )
    assert set(counts) == allowed


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    "shares",
    [(60, 30, 10), (97, 2, 1), (50, 50), (1, 1, 1), (30, 1, 1, 60, 8), (5,) * 20],
    ids=str,
)
def test_weights_hold_over_a_thousand_requests_within_one_point(
    shares: tuple[int, ...], seed: int
) -> None:
    weights = {f"b{number}": share for number, share in enumerate(shares)}
    running = snapshot(
        policy("chat", rule("default", tier("t", *weights.items()))),
        *(backend(name) for name in weights),
    )
    rng, counts, signals = Random(seed), Counter[str](), SignalTable()
    for _ in range(1_000):
        verdict = decide(running, view(), signals, now=NOW, rng=rng)
        assert isinstance(verdict, Decision)
        counts[verdict.candidate.endpoint.backend.name] += 1
    for name, weight in weights.items():
        assert abs(counts[f"ai/{name}"] - 1_000 * weight / sum(shares)) <= 10


def test_the_share_of_a_full_backend_goes_to_the_others_by_their_weights() -> None:
    members = (("a", 50), ("b", 40), ("c", 10), ("d", 0))
    signals = SignalTable()
    signals["ai/a@a.example:8000"].dispatched(NOW)
    entries = [backend(name, max_in_flight=1 if name == "a" else None) for name in "abcd"]
    counts = chosen(ir.Balance(), signals, *entries, members=members, draws=1_000)
    assert set(counts) == {"b.example:8000", "c.example:8000"}
    assert abs(counts["b.example:8000"] - 800) <= 10


def test_a_weight_of_zero_serves_where_nobody_else_can() -> None:
    signals = SignalTable()
    signals["ai/a@a.example:8000"].dispatched(NOW)
    entries = backend("a", max_in_flight=1), backend("b")
    counts = chosen(ir.Balance(), signals, *entries, members=(("a", 9), ("b", 0)))
    assert set(counts) == {"b.example:8000"}
    members = ("a", 9), ("b", 0), ("c", 0)
    counts = chosen(ir.Balance(), signals, *entries, backend("c"), members=members)
    assert set(counts) == {"b.example:8000", "c.example:8000"}


def scorers(**weights: int) -> ir.Balance:
    return ir.Balance("Scorers", scorers=tuple(ir.Scorer(by, w) for by, w in weights.items()))  # type: ignore[arg-type]


SCORED = (
    service("a", region="eu-west-1", pricing=DEAR),
    endpoints("a", ("10.0.0.1:1", "eu-west-1a"), ("10.0.0.2:1", "eu-west-1b")),
    backend("b", region="ap-south-1", pricing=CHEAP),
    backend("c", region="ap-south-1"),
)


@pytest.mark.parametrize(
    ("balance", "allowed"),
    [
        pytest.param(scorers(Latency=1), {"10.0.0.2:1"}, id="latency-alone"),
        pytest.param(scorers(Cost=1), {"b.example:8000"}, id="cost-alone"),
        pytest.param(scorers(Locality=1), {"10.0.0.1:1"}, id="locality-alone"),
        pytest.param(scorers(Latency=100, Cost=1), {"10.0.0.2:1"}, id="latency-above-all"),
        pytest.param(scorers(Latency=1, Cost=100), {"b.example:8000"}, id="cost-above-all"),
        pytest.param(scorers(Locality=9, Latency=10), {"10.0.0.2:1"}, id="near-and-quick"),
        pytest.param(scorers(Load=1), {"10.0.0.1:1", "10.0.0.2:1", "c.example:8000"}, id="load"),
    ],
)
def test_scorers_weigh_what_they_are_told_to(balance: ir.Balance, allowed: set[str]) -> None:
    signals = SignalTable()
    for name, latency_s in (
        ("a@10.0.0.1:1", 0.9),
        ("a@10.0.0.2:1", 0.01),
        ("b@b.example:8000", 0.9),
        ("c@c.example:8000", 0.9),
    ):
        signals[f"ai/{name}"].waited(latency_s, NOW, tokens=0, stream=False)
    signals["ai/b@b.example:8000"].dispatched(NOW)
    counts = chosen(balance, signals, *SCORED, zone="eu-west-1a", members=("a", "b", "c"))
    assert set(counts) == allowed


def test_scorers_need_no_price_and_no_zone() -> None:
    entries = (service("a"), endpoints("a", *THREE))
    counts = chosen(scorers(Cost=3, Locality=2), SignalTable(), *entries)
    assert set(counts) == only(1, 2, 3)
    free = backend("a", pricing=ir.Pricing(input_picodollars=0, output_picodollars=0))
    cheap = backend("b", pricing=CHEAP)
    counts = chosen(scorers(Cost=1), SignalTable(), free, cheap, members=("a", "b"))
    assert set(counts) == {"a.example:8000"}


@pytest.mark.parametrize("by", ["Latency", "Load", "Cost", "Locality", "Hash", "Scorers"])
def test_no_balance_takes_an_endpoint_that_is_full_or_out(by: ir.BalanceBy) -> None:
    balance = {"Hash": ir.Balance("Hash", ir.HashKey("session")), "Scorers": scorers(Cost=1)}.get(
        by, ir.Balance(by)
    )
    addresses = [f"10.0.0.{number}:1" for number in range(1, 31)]
    signals = SignalTable()
    for number, address in enumerate(addresses[:-1]):
        signal = signals[f"ai/a@{address}"]
        if number % 2:
            signal.dispatched(NOW)
        else:
            signal.breaker.probed(NOW, well=False)
    entries = service("a", max_in_flight=1), endpoints("a", *addresses), backend("b")
    running = snapshot(
        policy("chat", rule("default", tier("t", "a", balance=balance), tier("later", "b"))),
        *entries,
        zone="eu-west-1a",
    )
    counts = drawn(running, signals, draws=50, session="s1")
    assert set(counts) == {addresses[-1]}
