"""Where an attempt goes: the tier, then the endpoint, beside those that are out, rest, or failed.

Pure, as the whole of a decision is.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final

from switchboard_dataplane.decision.ejection import any_standing, find_due, too_many_out
from switchboard_dataplane.decision.pick import pick
from switchboard_dataplane.decision.resting import leave_resting
from switchboard_dataplane.decision.running import Endpoint, Pool, Tier
from switchboard_dataplane.decision.scene import Rng, Scene
from switchboard_dataplane.decision.verdict import Candidate, Plan, Tried
from switchboard_dataplane.signals.endpoints import SignalTable

#: A transient failure is tried once more in its tier, then the next tier comes.
TRIES_PER_TIER: Final = 2
#: Where ejections are ignored, nobody is out.
NOBODY: Final[Mapping[str, float]] = MappingProxyType({})


def next_candidate(
    plan: Plan,
    tried: Sequence[Tried],
    signals: SignalTable,
    *,
    now: float,
    rng: Rng,
) -> Candidate | None:
    """Return where the next attempt goes, after those that failed; None if nothing is left.

    Once more in the same tier (another endpoint where there is one, else the same if the failure
    was transient), then the later tiers, then what no attempt has reached yet. Ejected endpoints
    are left out; where nothing else is there, or left to try, ejections are ignored (panic).
    """
    plan = leave_resting(plan, tried, signals, now=now, rng=rng)
    out = signals.ejected
    if not out or any_standing(plan, plan.eligible & plan.rule.mask, signals):
        found = _next_beside(plan, tried, signals, out, now=now, rng=rng)
        if found is not None or not (out and (tried or plan.resting)):
            return found
    found = _next_beside(plan, tried, signals, NOBODY, now=now, rng=rng)
    if found is None:
        return None
    return Candidate(found.endpoint, found.tier, found.tier_index, panic=True)


def _next_beside(
    plan: Plan,
    tried: Sequence[Tried],
    signals: SignalTable,
    out: Mapping[str, float],
    *,
    now: float,
    rng: Rng,
) -> Candidate | None:
    """Return where the next attempt goes beside those that are ``out``."""
    every = range(len(plan.rule.tiers))
    if not tried:
        return _first_in(plan, every, plan.eligible, (), signals, out, now=now, rng=rng)
    eligible = plan.eligible
    for attempt in tried:
        if attempt.whole_backend:
            eligible &= ~(1 << plan.policy.backends.index(attempt.candidate.endpoint.backend.name))
    spent = tuple(attempt.candidate.endpoint for attempt in tried)
    last = tried[-1]
    here = last.candidate.tier_index
    tries_here = sum(1 for attempt in tried if attempt.candidate.tier_index == here)
    first_in = partial(_first_in, plan, now=now, rng=rng)
    if tries_here < TRIES_PER_TIER:
        again = first_in(every[here : here + 1], eligible, spent, signals, out)
        if again is None and last.again and last.candidate.endpoint.id not in out:
            again = last.candidate
        if again is not None:
            return again
    return first_in(every[here + 1 :], eligible, spent, signals, out) or first_in(
        every[: here + 1], eligible, spent, signals, out
    )


def _first_in(
    plan: Plan,
    tier_indexes: range,
    eligible: int,
    spent: tuple[Endpoint, ...],
    signals: SignalTable,
    out: Mapping[str, float],
    *,
    now: float,
    rng: Rng,
) -> Candidate | None:
    tiers = plan.rule.tiers
    for index in tier_indexes:
        if plan.passed >> index & 1:
            continue
        tier = tiers[index]
        mask = tier.mask & eligible
        beside, panic = out, False
        if out:
            due = find_due(plan, mask, spent, signals, now=now)
            if due is not None and due.id not in plan.resting:
                return Candidate(due, tier, index)
            if panic := too_many_out(plan, index, eligible, signals):
                beside = NOBODY
        endpoint = _pick_in(plan, tier, mask, spent, signals, beside, now=now, rng=rng)
        if endpoint is not None:
            return Candidate(endpoint, tier, index, panic=panic)
    return None


def _pick_in(
    plan: Plan,
    tier: Tier,
    mask: int,
    spent: tuple[Endpoint, ...],
    signals: SignalTable,
    out: Mapping[str, float],
    *,
    now: float,
    rng: Rng,
) -> Endpoint | None:
    """Pick among the endpoints of the masked backends that are not ``out``; None without one."""
    if not mask:
        return None
    scene = scene_for(plan, tier, spent, signals, out, now=now, rng=rng)
    if tier.weights:
        return _pick_by_weight(plan, tier, mask, scene)
    return pick(pool_of(plan, tier, mask), scene)


def scene_for(
    plan: Plan,
    tier: Tier,
    spent: tuple[Endpoint, ...],
    signals: SignalTable,
    out: Mapping[str, float],
    *,
    now: float,
    rng: Rng,
) -> Scene:
    """Return what a pick among a tier's endpoints looks at, beside those that are ``out``."""
    return Scene(
        plan.snapshot,
        plan.view,
        tier.balance,
        signals,
        now,
        rng,
        out,
        plan.resting.union(endpoint.id for endpoint in spent) if spent else plan.resting,
    )


def _pick_by_weight(plan: Plan, tier: Tier, mask: int, scene: Scene) -> Endpoint | None:
    """Draw the backend first, in proportion to the weights of those that can serve."""
    shares = [(number, weight) for number, weight in tier.weights if mask >> number & 1 and weight]
    turn = scene.signals.turn((plan.policy.name, plan.rule.name, tier.name), scene.rng.random)
    while shares:
        point = turn * sum(weight for _, weight in shares)
        drawn = shares[-1]
        for share in shares:
            point -= share[1]
            if point < 0:
                drawn = share
                break
        endpoint = pick(pool_of(plan, tier, 1 << drawn[0]), scene)
        if endpoint is not None:
            return endpoint
        shares.remove(drawn)
        turn = scene.rng.random()
    # Only backends of weight zero are left: better they than nobody.
    return pick(pool_of(plan, tier, mask), scene)


def pool_of(plan: Plan, tier: Tier, mask: int) -> Pool:
    """Return the endpoints of a tier's masked backends, remembered by the snapshot."""
    pools = plan.snapshot.pools
    pool = pools.get((tier, mask))
    if pool is None:
        backends = [
            backend
            for number in bits(mask)
            if (backend := plan.snapshot.backends.get(plan.policy.backends[number])) is not None
        ]
        pool = pools[tier, mask] = Pool(
            backends=tuple(backends),
            endpoints=tuple(endpoint for backend in backends for endpoint in backend.endpoints),
            limited=any(backend.spec.max_in_flight is not None for backend in backends),
        )
    return pool


def bits(mask: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set, from the lowest."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
