"""Balance: which endpoint of a tier gets an attempt, by what is true now.

A picker is a function of the endpoints that may serve (two or more) and the signals. Chance
breaks ties, so that no two pods herd onto the same endpoint.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median_low
from typing import Final, Protocol

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Backend, Endpoint, Snapshot
from switchboard_dataplane.signals.endpoints import EndpointSignal
from switchboard_policy import ir

#: Affinity yields where an endpoint carries more than this share of the mean load.
HASH_LOAD_FACTOR: Final = 1.25
#: What an answer is expected to take where the caller set no limit, in tokens.
OUTPUT_TOKENS_EXPECTED: Final = 256
#: How many neighbours tell the median for an endpoint that has no latency yet.
MEDIAN_SAMPLE: Final = 16

Signals = Mapping[str, EndpointSignal]


class Rng(Protocol):
    """Where chance comes from: ``random.Random`` is one."""

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...


class Scene:
    """What a picker may look at beside the endpoints."""

    def __init__(
        self,
        snapshot: Snapshot,
        view: RequestView,
        balance: ir.Balance,
        signals: Signals,
        rng: Rng,
    ) -> None:
        self.snapshot: Final = snapshot
        self.view: Final = view
        self.balance: Final = balance
        self.signals: Final = signals
        self.rng: Final = rng


Picker = Callable[[Sequence[Endpoint], Scene], Endpoint]


def pick_by_latency(endpoints: Sequence[Endpoint], scene: Scene) -> Endpoint:
    """Power of two choices by peak EWMA latency times (requests in flight + 1)."""
    one, other = _two(endpoints, scene.rng)
    one_signal, other_signal = scene.signals[one.id], scene.signals[other.id]
    one_latency, other_latency = one_signal.latency_s, other_signal.latency_s
    if math.isnan(one_latency) or math.isnan(other_latency):
        # A new endpoint starts at its group's median: at zero it would be flooded.
        prior = _median_latency(endpoints, scene.signals)
        one_latency = prior if math.isnan(one_latency) else one_latency
        other_latency = prior if math.isnan(other_latency) else other_latency
    one_cost = one_latency * (one_signal.in_flight + 1)
    other_cost = other_latency * (other_signal.in_flight + 1)
    return one if one_cost <= other_cost else other


def pick_by_load(endpoints: Sequence[Endpoint], scene: Scene) -> Endpoint:
    """Power of two choices by requests in flight, as a share of maxInFlight where both have it."""
    one, other = _two(endpoints, scene.rng)
    one_limit = one.backend.spec.max_in_flight
    other_limit = other.backend.spec.max_in_flight
    one_load = float(scene.signals[one.id].in_flight)
    other_load = float(scene.signals[other.id].in_flight)
    if one_limit is not None and other_limit is not None:
        one_load, other_load = one_load / one_limit, other_load / other_limit
    return one if one_load <= other_load else other


def pick_by_cost(endpoints: Sequence[Endpoint], scene: Scene) -> Endpoint:
    """Pick the backend with the lowest expected price; one without prices comes last."""
    prices = {
        backend: expected_picodollars(backend, scene.view)
        for backend in {endpoint.backend for endpoint in endpoints}
    }
    lowest = min(prices.values())
    cheapest = [endpoint for endpoint in endpoints if prices[endpoint.backend] == lowest]
    return _best_of(cheapest, scene)


def pick_by_locality(endpoints: Sequence[Endpoint], scene: Scene) -> Endpoint:
    """Pick in the data plane's own zone, else in its region, else anywhere."""
    zone = scene.snapshot.zone
    nearest: Sequence[Endpoint] = ()
    if zone:
        nearest = [endpoint for endpoint in endpoints if endpoint.zone == zone] or [
            # Every cloud names a zone after its region: eu-west-1a, europe-west4-b.
            endpoint
            for endpoint in endpoints
            if endpoint.backend.spec.region and zone.startswith(endpoint.backend.spec.region)
        ]
    return _best_of(nearest or endpoints, scene)


def pick_by_hash(endpoints: Sequence[Endpoint], scene: Scene) -> Endpoint:
    """Rendezvous hashing with bounded load; a request without the key goes by latency.

    Thaler and Ravishankar (1998) for the hashing; Mirrokni, Thorup and Zadimoghaddam (2018) for
    the bound: an endpoint may carry ceil(1.25 * mean) requests.
    """
    key = hash_key(scene.view, scene.balance)
    if not key:
        return pick_by_latency(endpoints, scene)
    # Sessions may be long and differ only at their ends; a BLAKE2 key holds 64 bytes.
    seed = hashlib.blake2b(key.encode()).digest()
    total = sum(scene.signals[endpoint.id].in_flight for endpoint in endpoints)
    bound = math.ceil(HASH_LOAD_FACTOR * (total + 1) / len(endpoints))
    ranked = sorted(endpoints, key=lambda endpoint: _rendezvous(seed, endpoint.id), reverse=True)
    # The bound is above the mean, so one endpoint at least is below it.
    return next(endpoint for endpoint in ranked if scene.signals[endpoint.id].in_flight < bound)


PICKERS: Final[Mapping[ir.BalanceBy, Picker]] = {
    "Latency": pick_by_latency,
    "Load": pick_by_load,
    "Cost": pick_by_cost,
    "Locality": pick_by_locality,
    "Hash": pick_by_hash,
}


def expected_picodollars(backend: Backend, view: RequestView) -> float:
    """Return what the request is expected to cost there; infinite where no price is known."""
    pricing = backend.spec.pricing
    if pricing is None:
        return math.inf
    output_tokens = view.max_tokens or OUTPUT_TOKENS_EXPECTED
    return view.tokens * pricing.input_picodollars + output_tokens * pricing.output_picodollars


def hash_key(view: RequestView, balance: ir.Balance) -> str:
    """Return what a Hash balance hashes; "" where the request does not have it."""
    key = balance.key
    if key is None:
        return ""
    if key.source == "header":
        return view.headers.get(key.header, "")
    return view.user if key.source == "user" else view.session


def _best_of(endpoints: Sequence[Endpoint], scene: Scene) -> Endpoint:
    if len(endpoints) == 1:
        return endpoints[0]
    return pick_by_latency(endpoints, scene)


def _two(endpoints: Sequence[Endpoint], rng: Rng) -> tuple[Endpoint, Endpoint]:
    count = len(endpoints)
    one = int(rng.random() * count)
    other = int(rng.random() * (count - 1))
    return endpoints[one], endpoints[other if other < one else other + 1]


def _median_latency(endpoints: Sequence[Endpoint], signals: Signals) -> float:
    known = [
        signal.latency_s
        for endpoint in endpoints[:MEDIAN_SAMPLE]
        if not math.isnan((signal := signals[endpoint.id]).latency_s)
    ]
    return median_low(known) if known else 1.0


def _rendezvous(seed: bytes, endpoint_id: str) -> bytes:
    return hashlib.blake2b(endpoint_id.encode(), key=seed, digest_size=8).digest()
