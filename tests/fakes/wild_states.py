"""What is true when a request comes, by lot: who is out, rests, is full, or slow."""

import asyncio
from random import Random
from typing import Final

from switchboard_dataplane.decision.running import Endpoint, Snapshot
from switchboard_dataplane.signals.endpoints import EndpointSignal, SignalTable
from switchboard_dataplane.signals.engine import EngineLoad
from switchboard_dataplane.signals.hedging import ANSWERS_MIN, Hedges, Kind
from switchboard_dataplane.signals.marks import Mark
from switchboard_policy import ir

#: As many failures in a row as a breaker takes, and before how long one that is due had them.
_FAILURES: Final = 5
_DUE_S: Final = 11.0


def draw_states(rng: Random, snapshot: Snapshot, signals: SignalTable, now: float) -> float:
    """Make something true of some endpoints; return how long some of it lasts, in seconds."""
    longest_s = 0.0
    for _, backend in sorted(snapshot.backends.items()):
        if rng.random() < 0.1:
            _rest(rng, signals, Mark(backend.name, "rate_limited", 1.0), now)
        for endpoint in backend.endpoints:
            longest_s = max(longest_s, _draw(rng, endpoint, signals, now))
    return longest_s


def draw_times(rng: Random, spec: ir.Policy, hedges: Hedges, now: float) -> None:
    """Let it be known how long requests take, for hedges that go by that."""
    if spec.hedge is None or spec.hedge.after_ms:
        return
    for rule in spec.rules:
        for tier in rule.tiers:
            for stream in (False, True):
                kind = Kind(spec.name, rule.name, tier.name, "chat", stream, 0)
                for _ in range(ANSWERS_MIN):
                    hedges.took(kind, rng.choice((0.05, 0.6)), now)


def _draw(rng: Random, endpoint: Endpoint, signals: SignalTable, now: float) -> float:
    signal = signals[endpoint.id]
    if rng.random() < 0.1:
        mark = Mark(endpoint.backend.name, "overloaded", 1.0, endpoint=endpoint.id)
        _rest(rng, signals, mark, now)
    if rng.random() < 0.25:
        at = now - rng.choice((0.0, _DUE_S))
        for _ in range(_FAILURES):
            signal.failed("connect", at, since=at)
    if rng.random() < 0.2:
        signal.waited(rng.choice((0.01, 2.0)), now, tokens=10, stream=rng.random() < 0.5)
    if rng.random() < 0.1:
        signal.engine = EngineLoad(rng.randint(0, 3), rng.randint(0, 3), 0.5, now)
    if rng.random() < 0.3:
        return _hold(rng, signal, now)
    return 0.0


def _rest(rng: Random, signals: SignalTable, mark: Mark, now: float) -> None:
    for_s = rng.choice((0.4, 2.0, 30.0))
    announced = not mark.endpoint and rng.random() < 0.5
    signals.marks.put(
        Mark(mark.backend, mark.failure, for_s, endpoint=mark.endpoint, announced=announced), now
    )


def _hold(rng: Random, signal: EndpointSignal, now: float) -> float:
    """Keep an endpoint busy with one or two requests for a while; return how long."""
    loop, for_s = asyncio.get_running_loop(), rng.choice((0.3, 1.0, 4.0))

    def release() -> None:
        signal.heard()
        signal.released(loop.time(), since=now)

    for _ in range(rng.randint(1, 2)):
        signal.dispatched(now)
        loop.call_later(for_s, release)
    return for_s
