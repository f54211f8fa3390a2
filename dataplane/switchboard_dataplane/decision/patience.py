"""What a request waits for before its first attempt, and what it does not: the next tier. Pure.

A request waits for the first endpoint of a backend that is scaled to zero (``wake``), for an
endpoint below its limit where all are full (``capacity.queue``), and it does so although a later
tier is free only where its tier says for how long (``spill.queueWait``).
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from math import inf
from typing import NamedTuple

from switchboard_dataplane.decision.candidates import bits, next_candidate
from switchboard_dataplane.decision.ejection import any_standing
from switchboard_dataplane.decision.resting import leave_resting
from switchboard_dataplane.decision.running import Abilities, Backend, Tier
from switchboard_dataplane.decision.scene import Rng
from switchboard_dataplane.decision.spill import spill_cause
from switchboard_dataplane.decision.verdict import Candidate, Plan, Spilled, Waiting
from switchboard_dataplane.signals.admission import (
    RETRY_AFTER_MAX_S,
    RETRY_AFTER_MIN_S,
    WAKING_MAX,
    BackendQueue,
    Waiter,
    foreseen_s,
)
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.tier_loads import SpillCause
from switchboard_policy import ir


class _Stay(NamedTuple):
    """A tier that a request does not go past before ``until``, where it can wait for it."""

    tier: int
    until: float


def place(
    plan: Plan,
    abilities: Abilities,
    signals: SignalTable,
    waiter: Waiter | None,
    *,
    now: float,
    rng: Rng,
) -> Candidate | Waiting | None:
    """Return where a request goes, or what it waits for; None if there is neither."""
    awake = leave_resting(plan, (), signals, now=now, rng=rng)
    passed, spills, stays = _look(awake, abilities, signals, waiter, now)
    wait = partial(wait_for, plan, abilities, signals, waiter, now=now, rng=rng)
    for stay in stays:
        upto = (2 << stay.tier) - 1
        found = _among(plan, passed | ~upto, signals, now=now, rng=rng)
        waiting = wait(tiers=upto, until=stay.until) if found is None else None
        if found is not None or waiting is not None:
            plan.spills = _left(plan, spills, found)
            return found or waiting
        tier = plan.rule.tiers[stay.tier]
        if any_standing(plan, tier.mask & awake.eligible, signals):
            spills.append((stay.tier, "queueWait"))
    found = _among(plan, passed, signals, now=now, rng=rng)
    if passed and (found is None or found.panic):
        # No later tier can take them.
        found = _among(plan, 0, signals, now=now, rng=rng)
    plan.spills = _left(plan, spills, found)
    return found or wait()


def wait_for(
    plan: Plan,
    abilities: Abilities,
    signals: SignalTable,
    waiter: Waiter | None,
    *,
    now: float,
    rng: Rng,
    tiers: int = -1,
    until: float = inf,
) -> Waiting | None:
    """Return what a request may wait for in these tiers (a mask), until then; None if nothing.

    Who has waited as long as a backend lets it, who finds its queue full, and who is foreseen to
    miss the deadline does not wait there. What the plan leaves alone counts for nothing.
    """
    awake = leave_resting(plan, (), signals, now=now, rng=rng)
    resting = awake.resting | plan.resting
    plan = awake.narrowed(awake.eligible, resting) if plan.resting else awake
    deadline = deadline_of(plan, waiter, now)
    if now >= deadline:
        return None
    ends: list[float] = []
    wakes: list[tuple[str, int]] = []
    for tier in _tiers(plan, tiers):
        for backend, end in _asleep(plan, tier, abilities, waiter, now):
            most = WAKING_MAX if backend.spec.queue is None else backend.spec.queue.max_waiting
            inside = waiter is not None and backend.name in waiter.wakes
            if inside or signals.waking[backend.name].has_room(plan.view.priority, most):
                wakes.append((backend.name, most))
                ends.append(end)
    queues: list[tuple[str, int]] = []
    for backend, queue in _full(plan, abilities, signals, tiers):
        end = (now if waiter is None else min(now, waiter.queued_at)) + queue.max_wait_ms / 1000
        if now < end and (
            (waiter is not None and backend.name in waiter.queues)
            or _may_enter(plan, backend, queue, signals, now=now, deadline=deadline)
        ):
            queues.append((backend.name, queue.max_waiting))
            ends.append(end)
    if not ends:
        return None
    return Waiting(
        plan=plan,
        until=min(until, deadline, *ends),
        deadline=deadline,
        queues=tuple(queues),
        wakes=tuple(wakes),
    )


def deadline_of(plan: Plan, waiter: Waiter | None, now: float) -> float:
    """Return when the request's deadline is over, as of when it came."""
    deadline_ms = plan.policy.spec.deadline_ms
    if plan.view.deadline_ms is not None:
        deadline_ms = min(deadline_ms, plan.view.deadline_ms)
    return (now if waiter is None else waiter.since) + deadline_ms / 1000


def retry_after_s(
    plan: Plan, abilities: Abilities, signals: SignalTable, *, now: float
) -> float | None:
    """Return when who waits now is foreseen to be served, within bounds; None without a queue."""
    names = [backend.name for backend, _ in _full(plan, abilities, signals, -1)]
    if not names:
        return None
    ahead = max(len(signals.queue(name).waiting) for name in names)
    seconds = foreseen_s(_queues(signals, names), ahead + 1, now)
    return min(RETRY_AFTER_MAX_S, max(RETRY_AFTER_MIN_S, seconds or RETRY_AFTER_MIN_S))


def _look(
    plan: Plan, abilities: Abilities, signals: SignalTable, waiter: Waiter | None, now: float
) -> tuple[int, list[tuple[int, SpillCause]], list[_Stay]]:
    """Return the tiers that are too busy (a mask), why, and those that are worth a wait."""
    passed = 0
    spills: list[tuple[int, SpillCause]] = []
    stays: list[_Stay] = []
    queued_at = now if waiter is None else min(now, waiter.queued_at)
    for index, tier in enumerate(plan.rule.tiers):
        mask = tier.mask & plan.eligible
        if not mask:
            continue
        asleep = [end for _, end in _asleep(plan, tier, abilities, waiter, now)]
        if asleep:
            stays.append(_Stay(index, max(asleep)))
            continue
        # Who waits has been told how long; what is foreseen for others does not send it away.
        cause = spill_cause(plan, tier, mask, signals, now=now, waits=queued_at < now)
        if cause is None and tier.spill is not None and tier.spill.queue_wait_ms is not None:
            until = queued_at + tier.spill.queue_wait_ms / 1000
            if now >= until:
                cause = "queueWait"
            elif mask & abilities.queues:
                stays.append(_Stay(index, until))
        if cause is not None:
            passed |= 1 << index
            spills.append((index, cause))
    return passed, spills, stays


def _among(
    plan: Plan, passed: int, signals: SignalTable, *, now: float, rng: Rng
) -> Candidate | None:
    """Return a candidate of the tiers that are not passed over."""
    plan.passed = passed
    found = next_candidate(plan, (), signals, now=now, rng=rng)
    # Later attempts may come back to a tier that was too busy.
    plan.passed = 0
    return found


def _left(
    plan: Plan, spills: Sequence[tuple[int, SpillCause]], found: Candidate | None
) -> tuple[Spilled, ...]:
    """Return the busy tiers before the one that serves."""
    if found is None:
        return ()
    tiers = plan.rule.tiers
    return tuple(
        Spilled(tiers[index].name, cause) for index, cause in spills if index < found.tier_index
    )


def _tiers(plan: Plan, tiers: int) -> Iterator[Tier]:
    return (tier for index, tier in enumerate(plan.rule.tiers) if tiers >> index & 1)


def _backends(plan: Plan, mask: int) -> Iterator[Backend]:
    for number in bits(mask):
        backend = plan.snapshot.backends.get(plan.policy.backends[number])
        if backend is not None:
            yield backend


def _asleep(
    plan: Plan, tier: Tier, abilities: Abilities, waiter: Waiter | None, now: float
) -> list[tuple[Backend, float]]:
    """Return the backends that wake up for a request, and how long it waits for them.

    Only where no backend of the tier has an endpoint: else one of them serves, or is full.
    """
    mask = tier.mask & plan.eligible
    if not mask & abilities.wakes or any(one.endpoints for one in _backends(plan, mask)):
        return []
    since = now if waiter is None else waiter.since
    held = [
        (backend, since + backend.spec.wake_hold_ms / 1000)
        for backend in _backends(plan, mask & abilities.wakes)
    ]
    return [(backend, end) for backend, end in held if now < end]


def _full(
    plan: Plan, abilities: Abilities, signals: SignalTable, tiers: int
) -> Iterator[tuple[Backend, ir.Queue]]:
    """Yield the backends with a queue whose endpoints are full, not out and not at rest."""
    mask = 0
    for tier in _tiers(plan, tiers):
        mask |= tier.mask
    panic = not any_standing(plan, plan.eligible & plan.rule.mask, signals)
    for backend in _backends(plan, mask & plan.eligible & abilities.queues):
        out = 0 if panic else signals.ejected.counts.get(backend.name, 0)
        awake = len(backend.endpoints) > out and (
            not plan.resting or any(one.id not in plan.resting for one in backend.endpoints)
        )
        if awake and backend.spec.queue is not None:
            yield backend, backend.spec.queue


def _may_enter(
    plan: Plan,
    backend: Backend,
    said: ir.Queue,
    signals: SignalTable,
    *,
    now: float,
    deadline: float,
) -> bool:
    """Say whether there is room for a request, and time to be served before its deadline."""
    queue, priority = signals.queue(backend.name), plan.view.priority
    if not queue.has_room(priority, said.max_waiting):
        return False
    wait_s = foreseen_s(_queues(signals, [backend.name]), queue.ahead(priority) + 1, now)
    return wait_s is None or now + wait_s < deadline


def _queues(signals: SignalTable, names: Iterable[str]) -> dict[BackendQueue, int]:
    return {signals.queue(name): signals.backend(name).in_flight for name in names}
