"""When a tier is busy enough for the next one to take its requests, before anything fails. Pure.

What takes a look at endpoints is done ten times a second for each tier, not for each request.
"""

from collections.abc import Sequence
from statistics import median_low
from typing import Final

from switchboard_dataplane.decision.candidates import pool_of
from switchboard_dataplane.decision.running import Endpoint, Pool, Tier
from switchboard_dataplane.decision.verdict import Plan
from switchboard_dataplane.signals.admission import foreseen_s
from switchboard_dataplane.signals.endpoints import (
    PROMPT_CLASSES,
    EndpointSignal,
    SignalTable,
    prompt_class,
)
from switchboard_dataplane.signals.tier_loads import REFRESH_S, SpillCause, TierLoad
from switchboard_policy import ir

#: So many endpoints stand for all of a tier; they are spread evenly over it.
SAMPLE: Final = 256


def spill_cause(
    plan: Plan, tier: Tier, mask: int, signals: SignalTable, *, now: float, waits: bool
) -> SpillCause | None:
    """Return which of its thresholds a tier has passed, with ``mask`` as its backends.

    How long the tier's queues take is nothing to who ``waits`` in them already.
    """
    spill = tier.spill
    if spill is None:
        return None
    pool = pool_of(plan, tier, mask)
    load = signals.tier_loads[plan.policy.name, plan.rule.name, tier.name, mask]
    if now - load.at >= REFRESH_S:
        _look_at(pool, load, plan, spill, signals, now)
    if spill.queue_wait_ms is not None and not waits:
        wait_s = load.engines_wait_s + _queue_wait_s(pool, plan.view.priority, signals, now)
        if load.passes("queueWait", wait_s, spill.queue_wait_ms / 1000):
            return "queueWait"
    if spill.in_flight_permille is not None and load.capacity:
        # Since the last look this data plane has sent some more, or some have left.
        used = load.used + _in_flight(pool, signals) - load.in_flight
        if load.passes("inFlight", used / load.capacity, spill.in_flight_permille / 1000):
            return "inFlight"
    if spill.ttft_ms is not None:
        ttft_s = load.ttft_s[prompt_class(plan.view.tokens)]
        if load.passes("ttft", ttft_s, spill.ttft_ms / 1000):
            return "ttft"
    return None


def _queue_wait_s(pool: Pool, priority: int, signals: SignalTable, now: float) -> float:
    """Return how long those take who wait for the pool's backends now; 0 where nobody knows."""
    queues = {
        queue: signals.backend(backend.name).in_flight
        for backend in pool.backends
        if (queue := signals.queues.get(backend.name)) is not None
    }
    ahead = max((queue.ahead(priority) for queue in queues), default=0)
    return (foreseen_s(queues, ahead, now) or 0.0) if ahead else 0.0


def _look_at(
    pool: Pool, load: TierLoad, plan: Plan, spill: ir.Spill, signals: SignalTable, now: float
) -> None:
    """Take in what is true of a tier's endpoints; those that are out or rest do not count."""
    step = -(-len(pool.endpoints) // SAMPLE) or 1
    seen = [
        (one, signals[one.id])
        for one in pool.endpoints[::step]
        if one.id not in signals.ejected and one.id not in plan.resting
    ]
    load.at = now
    load.in_flight = _in_flight(pool, signals)
    load.used = load.capacity = 0.0
    for endpoint, signal in seen:
        used, capacity = _use_of(endpoint, signal, plan.snapshot.live_pods, now)
        load.used += used * step
        load.capacity += capacity * step
    if spill.ttft_ms is not None:
        load.ttft_s = tuple(_ttft_s(seen, number, now) for number in range(len(PROMPT_CLASSES) + 1))
    if spill.queue_wait_ms is not None:
        load.engines_wait_s = _engines_wait_s(pool, seen, signals, now)


def _use_of(
    endpoint: Endpoint, signal: EndpointSignal, live_pods: int, now: float
) -> tuple[float, float]:
    """Return this data plane's share of an endpoint's limit, and how much of it is used.

    By the engine's own numbers while they are fresh: they tell of what others send, too.
    """
    limit = endpoint.backend.spec.max_in_flight
    if limit is None:
        return 0.0, 0.0
    share = -(-limit // live_pods)
    engine = signal.engine
    if engine is None or not engine.is_fresh(now):
        return signal.in_flight, share
    in_use = max(engine.running + engine.waiting + signal.grown, signal.in_flight)
    return in_use / limit * share, share


def _ttft_s(seen: Sequence[tuple[Endpoint, EndpointSignal]], number: int, now: float) -> float:
    """Return the median of what is known; old news fade to nothing, so that requests return."""
    known = [
        average.faded(0.0, now)
        for _, signal in seen
        if (average := signal.ttft_s[number]).counts(now)
    ]
    return median_low(known) if known else 0.0


def _engines_wait_s(
    pool: Pool, seen: Sequence[tuple[Endpoint, EndpointSignal]], signals: SignalTable, now: float
) -> float:
    """Return how long what waits in the engines takes; 0 where they, or its times, are unknown."""
    waiting = running = 0
    for _, signal in seen:
        engine = signal.engine
        if engine is not None and engine.is_fresh(now):
            waiting += engine.waiting
            running += engine.running
    if not waiting:
        return 0.0
    took_s = [
        queue.took_s.value
        for backend in pool.backends
        if (queue := signals.queue(backend.name)).took_s.counts(now)
    ]
    return waiting / max(1, running) * median_low(took_s) if took_s else 0.0


def _in_flight(pool: Pool, signals: SignalTable) -> int:
    return sum(signals.backend(backend.name).in_flight for backend in pool.backends)
