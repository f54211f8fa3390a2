"""Whatever is ejected: a decision never returns an ejected endpoint while a healthy one is there.

Save for the one request that a breaker lets through when it is due, and for panics: those are
checked against what they mean, said in another way.
"""

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fakes.policies import endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane.decision.candidates import next_candidate
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Decision, Tried
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir

BALANCES: list[ir.BalanceBy] = ["Latency", "Load", "Cost", "Locality", "Hash"]
DUE_AT = 10.0


@st.composite
def worlds(draw: Any) -> tuple[Snapshot, SignalTable, list[list[str]], float]:
    """Up to three tiers of up to two backends of up to four endpoints, some of them ejected.

    Also the ids by tier, and the share that may be ejected.
    """
    tiers: list[ir.Tier] = []
    entries: list[ir.Entry] = []
    by_tier: list[list[str]] = []
    for index in range(draw(st.integers(1, 3))):
        names = [f"b{index}{number}" for number in range(draw(st.integers(1, 2)))]
        weighted = draw(st.booleans())
        members = [(name, draw(st.integers(0, 3))) for name in names] if weighted else names
        balance = ir.Balance(draw(st.sampled_from(BALANCES)), ir.HashKey("session"))
        tiers.append(tier(f"t{index}", *members, balance=balance))
        by_tier.append([])
        for name in names:
            addresses = [f"10.0.0.{one}:1" for one in range(draw(st.integers(1, 4)))]
            entries += [service(name), endpoints(name, *addresses)]
            by_tier[-1] += [f"ai/{name}@{address}" for address in addresses]
    permille = draw(st.sampled_from([0, 250, 500, 1000]))
    running = snapshot(
        policy("chat", rule("default", *tiers), max_ejected_permille=permille), *entries
    )
    signals = SignalTable()
    for endpoint_id in draw(st.sets(st.sampled_from([one for ids in by_tier for one in ids]))):
        if draw(st.booleans()):
            signals[endpoint_id].breaker.probed(0.0, well=False)
        else:
            for _ in range(5):
                signals[endpoint_id].breaker.failed("connect", 0.0, since=0.0)
    return running, signals, by_tier, permille / 1000


@given(worlds(), st.integers(0, 2**32), st.sampled_from([1.0, DUE_AT]))
def test_ejected_endpoints_are_left_out(
    world: tuple[Snapshot, SignalTable, list[list[str]], float], seed: int, now: float
) -> None:
    running, signals, by_tier, most_out = world
    asked = view(session=f"s{seed % 7}")
    verdict = decide(running, asked, signals, now=now, rng=Random(seed))
    assert isinstance(verdict, Decision), "somebody always serves"
    candidate = verdict.candidate
    assert candidate.endpoint.id in by_tier[candidate.tier_index]
    standing = [[one for one in ids if one not in signals.ejected] for ids in by_tier]
    if not any(standing):
        assert candidate.panic
        return
    backend = candidate.endpoint.backend.name
    is_due = now >= DUE_AT and signals.ejected.due(backend, now) == candidate.endpoint.id
    if candidate.panic:
        ids, left = by_tier[candidate.tier_index], standing[candidate.tier_index]
        assert left
        assert (len(ids) - len(left)) / len(ids) > most_out
        assert not any(standing[candidate.tier_index + 1 :])
    elif not is_due:
        assert candidate.endpoint.id not in signals.ejected
    # Nothing that stood in an earlier tier was passed over.
    assert not any(standing[: candidate.tier_index])


@given(worlds(), st.integers(0, 2**32))
def test_no_attempt_goes_to_an_ejected_endpoint_before_every_healthy_one(
    world: tuple[Snapshot, SignalTable, list[list[str]], float], seed: int
) -> None:
    running, signals, by_tier, _ = world
    rng = Random(seed)
    verdict = decide(running, view(), signals, now=1.0, rng=rng)
    assert isinstance(verdict, Decision)
    tried = [Tried(verdict.candidate)]
    while candidate := next_candidate(verdict.plan, tried, signals, now=1.0, rng=rng):
        tried.append(Tried(candidate))
        assert len(tried) <= sum(map(len, by_tier))
    ids = [one.candidate.endpoint.id for one in tried]
    assert len(set(ids)) == len(ids)
    first_out = next(
        (
            number
            for number, one in enumerate(tried)
            if one.candidate.endpoint.id in signals.ejected and not one.candidate.panic
        ),
        None,
    )
    assert first_out is None, "only a panic ignores an ejection"
