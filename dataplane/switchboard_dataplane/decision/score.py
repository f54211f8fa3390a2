"""Scorers: what each of some endpoints would cost a request, by what is true now; less is better.

A scorer is a function of the endpoints drawn and their signals, of the group that they were drawn
from (its median stands in where nothing is known of one) and of the scene.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median_low
from typing import Final

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Backend, Endpoint
from switchboard_dataplane.decision.scene import Scene
from switchboard_dataplane.signals.average import FRESH_S, Average
from switchboard_dataplane.signals.endpoints import EndpointSignal, prompt_class
from switchboard_policy import ir

#: What an answer is expected to take where the caller set no limit, in tokens.
OUTPUT_TOKENS_EXPECTED: Final = 256
#: So many answers that are being written hold the next one up as much as one that waits.
WRITING_PER_WAITING: Final = 8
#: An endpoint that is so many times slower than another is as bad as one with a request more that
#: waits. With fewer, a busy minute makes it look slow, and its load is put on the others.
SLOWER_PER_WAITING: Final = 4
#: Beyond this an endpoint is not compared any more: it gets what the quick ones have no room for.
SLOWER_MAX: Final = 64.0
#: The same for how fast answers are written, which tells less of who begins soon.
WRITES_SLOWER_MAX: Final = 16.0
#: Nothing answers quicker; what was measured so is 0.
LATENCY_MIN_S: Final = 1e-6
#: A request that waits delays the next by a whole turn, one that runs only slows it down.
WAITING_WEIGHT: Final = 4.0
#: A cache that is all but full is as bad as it gets: the engine begins to evict and recompute.
KV_FREE_MIN: Final = 0.05
#: So many neighbours tell the median for an endpoint of which nothing is known.
MEDIAN_SAMPLE: Final = 16

Scorer = Callable[
    [Sequence[Endpoint], list[EndpointSignal], Sequence[Endpoint], Scene], list[float]
]


def score_latency(
    endpoints: Sequence[Endpoint],
    signals: list[EndpointSignal],
    group: Sequence[Endpoint],
    scene: Scene,
) -> list[float]:
    """Score by what is ahead of a request, by how long such requests take, and by errors.

    "Such" are requests of this kind (streamed or whole) and of this prompt's class. How long they
    take is compared with the quickest of those drawn, and added rather than multiplied: what took
    long had a queue in it, which is counted here again. The speed of writing has no queue in it:
    by it, what waits weighs more where it moves on more slowly.
    """
    now = scene.now
    expected, writes_slower, least = _paces(signals, group, scene)
    costs: list[float] = []
    for at, one in enumerate(signals):
        queue, writing, time = _latency_terms(one, writes_slower[at], expected[at] / least)
        cost = queue + writing + time
        costs.append(cost * one.penalty(now) if one.errors else cost)
    return costs


def latency_terms(
    signals: list[EndpointSignal], group: Sequence[Endpoint], scene: Scene
) -> list[dict[str, float]]:
    """Return what ``score_latency`` adds up for each: the sum times ``errors`` is its score."""
    expected, writes_slower, least = _paces(signals, group, scene)
    found: list[dict[str, float]] = []
    for at, one in enumerate(signals):
        queue, writing, time = _latency_terms(one, writes_slower[at], expected[at] / least)
        errors = one.penalty(scene.now)
        found.append({"queue": queue, "writing": writing, "time": time, "errors": errors})
    return found


def _latency_terms(
    signal: EndpointSignal, writes_slower: float, slower: float
) -> tuple[float, float, float]:
    """Return what weighs on an endpoint: who waits there, who is written to, how slow it is."""
    return (
        signal.waiting * writes_slower,
        (signal.in_flight + 1) / WRITING_PER_WAITING,
        min(slower, SLOWER_MAX) / SLOWER_PER_WAITING,
    )


def _paces(
    signals: list[EndpointSignal], group: Sequence[Endpoint], scene: Scene
) -> tuple[list[float], list[float], float]:
    """Return how long such requests take at each, how much slower each writes, the least time."""
    now, stream, number = scene.now, scene.view.stream, prompt_class(scene.view.tokens)
    averages = [(one.ttft_s if stream else one.latency_s)[number] for one in signals]
    expected = [average.value for average in averages]
    writes_slower = how_slow(signals, group, scene)
    if _oldest_s(averages, now) > FRESH_S:
        # A new endpoint starts at its group's median: at zero it would be flooded. One that writes
        # slowly is not thought to read quickly.
        prior = prior_s(averages, group, scene)
        expected = [
            average.faded(prior * slower, now)
            for average, slower in zip(averages, writes_slower, strict=True)
        ]
    return expected, writes_slower, max(_least(expected), LATENCY_MIN_S)


def how_slow(signals: list[EndpointSignal], group: Sequence[Endpoint], scene: Scene) -> list[float]:
    """Return how many times slower each writes than the fastest of them: 1 or more.

    What was not heard of for a while fades to the group's median; 1 where nothing is known.
    """
    now = scene.now
    averages = [one.tokens_per_s for one in signals]
    speeds = [average.value for average in averages]
    if _oldest_s(averages, now) > FRESH_S:
        if not any(average.counts(now) for average in averages):
            return [1.0] * len(speeds)
        asked = [one.tokens_per_s for one in _sample(group, scene)]
        typical = median_low([one.value for one in asked + averages if one.counts(now)])
        speeds = [average.faded(typical, now) for average in averages]
    fastest = 0.0
    for speed in speeds:
        fastest = max(fastest, speed)
    return [min(fastest / speed, WRITES_SLOWER_MAX) for speed in speeds]


def score_load(
    endpoints: Sequence[Endpoint],
    signals: list[EndpointSignal],
    group: Sequence[Endpoint],
    scene: Scene,
) -> list[float]:
    """Score by the engines' queues and KV caches while all are known, else by requests in flight.

    Either as a share of maxInFlight where all have one, and by errors.
    """
    now = scene.now
    loads = loads_of(endpoints, signals, now)
    return [load * signal.penalty(now) for load, signal in zip(loads, signals, strict=True)]


def loads_of(
    endpoints: Sequence[Endpoint], signals: list[EndpointSignal], now: float
) -> list[float]:
    """Return how loaded each of some endpoints is, before its errors: see ``score_load``."""
    limits = [endpoint.backend.spec.max_in_flight for endpoint in endpoints]
    loads = engine_loads(signals, now) or [signal.in_flight + 1.0 for signal in signals]
    if None not in limits:
        loads = [load / (limit or 1) for load, limit in zip(loads, limits, strict=True)]
    return loads


def engine_loads(signals: list[EndpointSignal], now: float) -> list[float]:
    """Return what the engines say of their load, by the share of KV cache left; or nothing.

    What we sent since their numbers were read is not in them, so it is added.
    """
    loads: list[float] = []
    free: list[float] = []
    for signal in signals:
        engine = signal.engine
        if engine is None or not engine.is_fresh(now):
            return []
        running = max(engine.running + signal.grown, signal.in_flight - engine.waiting, 0)
        loads.append(running + WAITING_WEIGHT * engine.waiting + 1.0)
        if engine.kv_use is not None:
            free.append(max(KV_FREE_MIN, 1.0 - engine.kv_use))
    if len(free) < len(loads):
        return loads
    return [load / share for load, share in zip(loads, free, strict=True)]


def score_cost(
    endpoints: Sequence[Endpoint],
    signals: list[EndpointSignal],
    group: Sequence[Endpoint],
    scene: Scene,
) -> list[float]:
    """Score by the expected price; infinite where none is known."""
    return [expected_picodollars(endpoint.backend, scene.view) for endpoint in endpoints]


def score_locality(
    endpoints: Sequence[Endpoint],
    signals: list[EndpointSignal],
    group: Sequence[Endpoint],
    scene: Scene,
) -> list[float]:
    """Score by nearness: 1 in the data plane's own zone, 2 in its region, 4 beyond."""
    zone = scene.snapshot.zone
    return [float(1 << distance(endpoint, zone)) for endpoint in endpoints]


SCORERS: Final[Mapping[ir.ScoreBy, Scorer]] = {
    "Latency": score_latency,
    "Load": score_load,
    "Cost": score_cost,
    "Locality": score_locality,
}


def score_weighted(
    endpoints: Sequence[Endpoint],
    signals: list[EndpointSignal],
    group: Sequence[Endpoint],
    scene: Scene,
) -> list[float]:
    """Score by the policy's weighted list; each scorer counts by how near to the best one is."""
    merits = [0.0] * len(endpoints)
    for scorer in scene.balance.scorers:
        weighed = merits_of(scorer, endpoints, signals, group, scene)
        for index, merit in enumerate(weighed):
            merits[index] -= merit
    return merits


def merits_of(
    scorer: ir.Scorer,
    endpoints: Sequence[Endpoint],
    signals: list[EndpointSignal],
    group: Sequence[Endpoint],
    scene: Scene,
) -> list[float]:
    """Return what one scorer of a list takes off each score: its weight for the best one."""
    costs = SCORERS[scorer.by](endpoints, signals, group, scene)
    least = min(costs)
    return [scorer.weight * _merit(cost, least) for cost in costs]


def _merit(cost: float, least: float) -> float:
    """Return 1 for the best, less for what costs more, 0 where there is nothing to compare."""
    if cost == least:
        return 1.0
    return 0.0 if math.isinf(cost) else least / cost


def distance(endpoint: Endpoint, zone: str) -> int:
    """Return how far an endpoint is: 0 in the zone, 1 in the zone's region, 2 beyond or unknown."""
    if not zone:
        return 2
    if endpoint.zone == zone:
        return 0
    region = endpoint.backend.spec.region
    # Every cloud names a zone after its region: eu-west-1a, europe-west4-b.
    return 1 if region and zone.startswith(region) else 2


def expected_picodollars(backend: Backend, view: RequestView) -> float:
    """Return what the request is expected to cost there; infinite where no price is known."""
    pricing = backend.spec.pricing
    if pricing is None:
        return math.inf
    output_tokens = view.max_tokens or OUTPUT_TOKENS_EXPECTED
    return view.tokens * pricing.input_picodollars + output_tokens * pricing.output_picodollars


def prior_s(averages: list[Average], group: Sequence[Endpoint], scene: Scene) -> float:
    """Return what is expected of one of which nothing is known: the median of a few neighbours.

    They are spread evenly over the group. Where nothing is known of any of those drawn it makes no
    difference, and nobody is asked.
    """
    now, stream, number = scene.now, scene.view.stream, prompt_class(scene.view.tokens)
    if not any(average.counts(now) for average in averages):
        return 1.0
    known = [
        average.value
        for one in _sample(group, scene)
        if (average := (one.ttft_s if stream else one.latency_s)[number]).counts(now)
    ]
    return median_low(known) if known else 1.0


# Compiled, a loop over floats costs a fifth of what ``min`` of a list does.


def _least(values: list[float]) -> float:
    least = math.inf
    for value in values:
        least = min(least, value)
    return least


def _oldest_s(averages: list[Average], now: float) -> float:
    """Return how long ago that one was heard of of which nothing was heard for the longest time."""
    oldest_s = 0.0
    for average in averages:
        oldest_s = max(oldest_s, now - average.at)
    return oldest_s


def _sample(group: Sequence[Endpoint], scene: Scene) -> list[EndpointSignal]:
    """Return the signals of a few endpoints, spread evenly over the group."""
    step = -(-len(group) // MEDIAN_SAMPLE)
    return [scene.signals[endpoint.id] for endpoint in group[::step]]
