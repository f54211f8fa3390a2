"""What ejections mean to a decision: who is let through, and when they are ignored (panic)."""

from collections.abc import Iterator

from switchboard_dataplane.decision.running import Backend, Endpoint
from switchboard_dataplane.decision.verdict import Plan
from switchboard_dataplane.signals.endpoints import SignalTable


def any_standing(plan: Plan, mask: int, signals: SignalTable) -> bool:
    """Say whether any endpoint of the masked backends is not ejected."""
    counts = signals.ejected.counts
    return any(
        len(backend.endpoints) > counts.get(backend.name, 0) for backend in _backends(plan, mask)
    )


def find_due(
    plan: Plan, mask: int, spent: tuple[Endpoint, ...], signals: SignalTable, *, now: float
) -> Endpoint | None:
    """Return an ejected endpoint of the masked backends whose time is over: its next chance.

    One that is spent, or was so busy when it was ejected that it still is at its limit, waits on.
    """
    for backend in _backends(plan, mask):
        due = signals.ejected.due(backend.name, now)
        if not due or any(endpoint.id == due for endpoint in spent):
            continue
        limit = backend.spec.max_in_flight
        if limit is not None and signals[due].in_flight >= -(-limit // plan.snapshot.live_pods):
            continue
        for endpoint in backend.endpoints:
            if endpoint.id == due:
                return endpoint
    return None


def too_many_out(plan: Plan, tier_index: int, eligible: int, signals: SignalTable) -> bool:
    """Say whether a tier has lost more than ``maxEjected`` and no later one can take its load.

    The few that are left would fall under what all of them carried.
    """
    counts = signals.ejected.counts
    tiers = plan.rule.tiers
    total = out = 0
    for backend in _backends(plan, tiers[tier_index].mask & eligible):
        total += len(backend.endpoints)
        out += counts.get(backend.name, 0)
    if not total > out > 0 or out * 1000 <= total * plan.policy.spec.max_ejected_permille:
        return False
    return not any(
        any_standing(plan, tier.mask & eligible, signals) for tier in tiers[tier_index + 1 :]
    )


def _backends(plan: Plan, mask: int) -> Iterator[Backend]:
    names, backends = plan.policy.backends, plan.snapshot.backends
    while mask:
        lowest = mask & -mask
        backend = backends.get(names[lowest.bit_length() - 1])
        if backend is not None:
            yield backend
        mask ^= lowest
