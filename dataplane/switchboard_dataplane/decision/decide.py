"""The decision: which rule answers a request, and which endpoint gets each attempt.

Pure: the snapshot, the request, the signals, the time and chance are arguments. In order: the
policy by model name, guardrails and rules, the mask of eligible backends, a tier, an endpoint.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final

from switchboard_dataplane.decision.eligible import abilities_of, able, guardrails_in_force
from switchboard_dataplane.decision.explain import reject
from switchboard_dataplane.decision.match import Conditions, find_policy, find_rule
from switchboard_dataplane.decision.pick import PICKERS, Rng, Scene, Signals
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Endpoint, Pool, Snapshot, Tier
from switchboard_dataplane.decision.verdict import Candidate, Decision, Plan, Rejection, Tried

#: A transient failure is tried once more in its tier, then the next tier comes.
TRIES_PER_TIER: Final = 2


def decide(
    snapshot: Snapshot, view: RequestView, signals: Signals, *, now: float, rng: Rng
) -> Decision | Rejection:
    """Decide where a request goes first; a rejection says why every candidate fell."""
    policy = find_policy(snapshot, view.model)
    if policy is None:
        return Rejection(
            reason="model_not_found",
            message=f"no policy answers for the model {view.model!r}; GET /v1/models lists names",
        )
    conditions = Conditions(snapshot, policy, view)
    guardrails = guardrails_in_force(policy, conditions)
    rule = find_rule(policy, view, conditions)
    if rule is None:
        return Rejection(
            reason="no_rule",
            message=f"no rule of policy {policy.name} matches, and it has no default rule",
            policy=policy.name,
        )
    eligible = able(abilities_of(snapshot, policy), view) & rule.mask
    for guardrail in guardrails:
        eligible &= ~guardrail.forbids
    plan = Plan(
        snapshot,
        view,
        policy,
        rule,
        eligible=eligible,
        guardrails=tuple(guardrail.name for guardrail in guardrails),
        expression_errors=conditions.errors,
    )
    candidate = next_candidate(plan, (), signals, now=now, rng=rng)
    if candidate is None:
        return reject(plan, guardrails, signals)
    return Decision(plan, candidate)


def next_candidate(
    plan: Plan,
    tried: Sequence[Tried],
    signals: Signals,
    *,
    now: float,
    rng: Rng,
) -> Candidate | None:
    """Return where the next attempt goes, after those that failed; None if nothing is left.

    Once more in the same tier (another endpoint where there is one, else the same if the failure
    was transient), then the later tiers, then what no attempt has reached yet.
    """
    if not tried:
        return _first_in(plan, range(len(plan.rule.tiers)), plan.eligible, (), signals, rng)
    eligible = plan.eligible
    for attempt in tried:
        if attempt.whole_backend:
            eligible &= ~(1 << plan.policy.backends.index(attempt.candidate.endpoint.backend.name))
    spent = tuple(attempt.candidate.endpoint for attempt in tried)
    last = tried[-1]
    here = last.candidate.tier_index
    tries_here = sum(1 for attempt in tried if attempt.candidate.tier_index == here)
    if tries_here < TRIES_PER_TIER:
        again = _first_in(plan, range(here, here + 1), eligible, spent, signals, rng)
        if again is None and last.again:
            again = last.candidate
        if again is not None:
            return again
    later = range(here + 1, len(plan.rule.tiers))
    return _first_in(plan, later, eligible, spent, signals, rng) or _first_in(
        plan, range(here + 1), eligible, spent, signals, rng
    )


def _first_in(
    plan: Plan,
    tier_indexes: range,
    eligible: int,
    spent: tuple[Endpoint, ...],
    signals: Signals,
    rng: Rng,
) -> Candidate | None:
    tiers = plan.rule.tiers
    for index in tier_indexes:
        tier = tiers[index]
        endpoint = _pick_in(plan, tier, tier.mask & eligible, spent, signals, rng)
        if endpoint is not None:
            return Candidate(endpoint, tier, index)
    return None


def _pick_in(
    plan: Plan,
    tier: Tier,
    mask: int,
    spent: tuple[Endpoint, ...],
    signals: Signals,
    rng: Rng,
) -> Endpoint | None:
    endpoints = free_endpoints(plan, tier, mask, spent, signals)
    if not endpoints:
        return None
    if tier.weights:
        endpoints = _of_one_backend(plan, tier, endpoints, rng)
    if len(endpoints) == 1:
        return endpoints[0]
    scene = Scene(plan.snapshot, plan.view, tier.balance, signals, rng)
    return PICKERS[tier.balance.by](endpoints, scene)


def free_endpoints(
    plan: Plan, tier: Tier, mask: int, spent: tuple[Endpoint, ...], signals: Signals
) -> Sequence[Endpoint]:
    """Return the endpoints of the masked backends that are below their limit and not spent."""
    if not mask:
        return ()
    pool = _pool(plan, tier, mask)
    endpoints: Sequence[Endpoint] = pool.endpoints
    if spent:
        # By id: a swap between two attempts makes other objects for the same address.
        gone = {endpoint.id for endpoint in spent}
        endpoints = [endpoint for endpoint in endpoints if endpoint.id not in gone]
    if pool.limited:
        pods = plan.snapshot.live_pods
        endpoints = [
            endpoint
            for endpoint in endpoints
            if (limit := endpoint.backend.spec.max_in_flight) is None
            or signals[endpoint.id].in_flight < math.ceil(limit / pods)
        ]
    return endpoints


def _pool(plan: Plan, tier: Tier, mask: int) -> Pool:
    pools = plan.snapshot.pools
    pool = pools.get((tier, mask))
    if pool is None:
        backends = [
            backend
            for number in bits(mask)
            if (backend := plan.snapshot.backends.get(plan.policy.backends[number])) is not None
        ]
        pool = pools[tier, mask] = Pool(
            endpoints=tuple(endpoint for backend in backends for endpoint in backend.endpoints),
            limited=any(backend.spec.max_in_flight is not None for backend in backends),
        )
    return pool


def _of_one_backend(
    plan: Plan, tier: Tier, endpoints: Sequence[Endpoint], rng: Rng
) -> Sequence[Endpoint]:
    """Draw the backend first, in proportion to the weights of those that can serve."""
    there = {endpoint.backend.name for endpoint in endpoints}
    shares = [
        (name, weight)
        for number, weight in tier.weights
        if (name := plan.policy.backends[number]) in there
    ]
    total = sum(weight for _, weight in shares)
    if total == 0:
        # Only backends of weight zero are left: better they than nobody.
        return endpoints
    point = rng.random() * total
    drawn = shares[-1][0]
    for name, weight in shares:
        point -= weight
        if point < 0:
            drawn = name
            break
    return [endpoint for endpoint in endpoints if endpoint.backend.name == drawn]


def bits(mask: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set, from the lowest."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
