"""How requests spread: many at once, over thousands of endpoints, and over new ones."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from fakes.policies import endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Decision
from switchboard_dataplane.signals.breaker import Ejections
from switchboard_dataplane.signals.endpoints import EndpointSignal, SignalTable
from switchboard_policy import ir

NOW = 1_000.0
EVERY_BALANCE = (
    ir.Balance("Latency"),
    ir.Balance("Load"),
    ir.Balance("Cost"),
    ir.Balance("Locality"),
    ir.Balance("Hash", ir.HashKey("session")),
    ir.Balance("Scorers", scorers=(ir.Scorer("Latency", 3), ir.Scorer("Load"))),
)


def addresses(count: int) -> list[str]:
    return [f"10.0.{number // 250}.{number % 250 + 1}:1" for number in range(count)]


def running(balance: ir.Balance, count: int, **fields: Any) -> Snapshot:
    return snapshot(
        policy("chat", rule("default", tier("t", "a", balance=balance))),
        service("a", **fields),
        endpoints("a", *addresses(count)),
    )


def pick(
    of: Snapshot, signals: SignalTable, rng: Random, *, now: float = NOW, **fields: Any
) -> tuple[str, EndpointSignal]:
    verdict = decide(of, view(stream=True, **fields), signals, now=now, rng=rng)
    assert isinstance(verdict, Decision)
    endpoint = verdict.candidate.endpoint
    return endpoint.address, signals[endpoint.id]


@pytest.mark.parametrize("balance", EVERY_BALANCE, ids=lambda balance: balance.by)
def test_of_1600_requests_at_once_no_endpoint_of_8_gets_1_5_times_its_share(
    balance: ir.Balance,
) -> None:
    of, signals, rng = running(balance, 8), SignalTable(), Random(5)
    counts = Counter[str]()
    for number in range(1_600):
        address, signal = pick(of, signals, rng, session=f"s{number % 40}")
        signal.dispatched(NOW)
        counts[address] += 1
    assert max(counts.values()) <= 1.5 * 200


class CountingTable(SignalTable):
    """A table that counts how often it is asked."""

    asked = 0

    def __getitem__(self, endpoint_id: str) -> EndpointSignal:
        self.asked += 1
        return super().__getitem__(endpoint_id)


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("balance", EVERY_BALANCE, ids=lambda balance: balance.by)
def test_a_decision_looks_at_a_few_of_5000_endpoints(balance: ir.Balance, limited: bool) -> None:
    of = running(balance, 5_000, max_in_flight=4 if limited else None)
    signals, rng = CountingTable(), Random(5)
    for number in range(300):
        before = signals.asked
        _, signal = pick(of, signals, rng, session=f"s{number}")
        assert signals.asked - before <= 120
        signal.dispatched(NOW)
        signal.answered(0.1 + rng.random(), NOW, since=NOW, tokens=5, stream=True)


def test_an_almost_full_tier_of_5000_is_searched_for_who_is_left() -> None:
    of, signals = running(ir.Balance("Latency"), 5_000, max_in_flight=1), SignalTable()
    *full, free = addresses(5_000)
    for address in full:
        signals[f"ai/a@{address}"].dispatched(NOW)
    assert pick(of, signals, Random(5))[0] == free


class CountingEjections(Ejections):
    """Ejections that count how often they are asked for an endpoint."""

    asked = 0

    def __contains__(self, endpoint_id: object) -> bool:
        self.asked += 1
        return super().__contains__(endpoint_id)


@pytest.mark.parametrize("balance", EVERY_BALANCE, ids=lambda balance: balance.by)
def test_where_most_of_5000_are_out_they_are_searched_when_others_are_ejected_alone(
    balance: ir.Balance,
) -> None:
    of = snapshot(
        policy("chat", rule("default", tier("t", "a", balance=balance)), max_ejected_permille=1000),
        service("a"),
        endpoints("a", *addresses(5_000)),
    )
    ejected = CountingEjections()
    signals, rng = SignalTable(ejected), Random(5)
    *out, one, two = [f"ai/a@{address}" for address in addresses(5_000)]
    for endpoint_id in out:
        signals[endpoint_id].breaker.probed(NOW, well=False)
    ejected.asked = 0
    seen = {pick(of, signals, rng, session=f"s{number}")[0] for number in range(300)}
    assert {f"ai/a@{address}" for address in seen} == {one, two}
    assert ejected.asked < 5_000 + 300 * 40
    signals[one].breaker.probed(NOW, well=False)
    signals[out[7]].breaker.probed(NOW, well=True)
    seen = {pick(of, signals, rng, session=f"s{number}", now=NOW + 99)[0] for number in range(300)}
    assert {f"ai/a@{address}" for address in seen} == {two, out[7]}


SLOW_START = ir.Health(slow_start_ms=30_000)
AT_ONCE = ir.Health(slow_start_ms=0)


def share_of_new(balance: ir.Balance, *, age_s: float, health: ir.Health, count: int = 8) -> float:
    """The share of an endpoint that came ``age_s`` ago, of what the others get on average."""
    of, signals, rng = running(balance, count, health=health), SignalTable(), Random(5)
    ids = [f"ai/a@{address}" for address in addresses(count)]
    signals.joined(ids[1:], NOW, new=False)
    signals.joined(ids, NOW - age_s)
    picks = [pick(of, signals, rng, session=f"s{number}")[0] for number in range(4_000)]
    new = picks.count(addresses(count)[0])
    return new / ((len(picks) - new) / (count - 1))


@pytest.mark.parametrize("balance", EVERY_BALANCE, ids=lambda balance: balance.by)
def test_a_new_endpoints_share_ramps_up(balance: ir.Balance) -> None:
    shares = [
        share_of_new(balance, age_s=age_s, health=SLOW_START) for age_s in (0.0, 9.0, 21.0, 30.0)
    ]
    expected = (0.1, 0.3, 0.7, 1.0)
    for share, wanted in zip(shares, expected, strict=True):
        assert abs(share - wanted) < 0.25
    assert shares == sorted(shares)


@pytest.mark.parametrize("balance", EVERY_BALANCE, ids=lambda balance: balance.by)
def test_without_a_slow_start_a_new_endpoint_gets_its_share_at_once(balance: ir.Balance) -> None:
    assert share_of_new(balance, age_s=0.0, health=AT_ONCE) > 0.75


@pytest.mark.parametrize("count", [2, 3])
def test_where_all_are_new_all_are_alike(count: int) -> None:
    of, signals, rng = running(ir.Balance(), count, health=SLOW_START), SignalTable(), Random(5)
    signals.joined([f"ai/a@{address}" for address in addresses(count)], NOW)
    counts = Counter(pick(of, signals, rng)[0] for _ in range(900))
    assert min(counts.values()) > 0.7 * 900 / count


@pytest.mark.parametrize("health", [SLOW_START, AT_ONCE], ids=["slow-start", "at-once"])
def test_a_new_endpoint_is_not_flooded(health: ir.Health) -> None:
    """Eight busy ones, a ninth comes: whatever its start, it never carries more than they do."""
    of, signals, rng = running(ir.Balance(), 9, health=health), SignalTable(), Random(5)
    ids = [f"ai/a@{address}" for address in addresses(9)]
    signals.joined(ids[1:], NOW, new=False)
    for endpoint_id in ids[1:]:
        for _ in range(20):
            signals[endpoint_id].dispatched(NOW)
        signals[endpoint_id].waited(0.4, NOW, tokens=5, stream=True)
    signals.joined(ids, NOW)
    got = 0
    for number in range(200):
        _, signal = pick(of, signals, rng, now=NOW + number / 100)
        signal.dispatched(NOW)
        got += signal is signals[ids[0]]
        # As much ends as begins, anywhere but at the new one.
        ended = signals[ids[1 + number % 8]]
        ended.heard()
        ended.released(NOW, since=NOW)
    assert got <= (12 if health is SLOW_START else 60)
    assert signals[ids[0]].in_flight <= max(signals[one].in_flight for one in ids[1:]) + 10
