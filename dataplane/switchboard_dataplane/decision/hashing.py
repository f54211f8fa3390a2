"""Affinity: the same key goes to the same endpoint, unless that one carries too much.

Rendezvous hashing (Thaler and Ravishankar, 1998) among the few endpoints that follow the key on a
ring: with up to ``WINDOW`` endpoints that is all of them, with thousands it stays as cheap. The
bound is that of Mirrokni, Thorup and Zadimoghaddam (2018).
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

from switchboard_dataplane.decision.request import RequestView, prompt_prefix
from switchboard_dataplane.decision.running import Endpoint, Pool, Ring
from switchboard_dataplane.decision.scene import Scene
from switchboard_policy import ir

#: Affinity yields where an endpoint carries more than this share of the mean load.
HASH_LOAD_FACTOR: Final = 1.25
#: So many endpoints compete for a key; an endpoint's share of the keys varies by its root.
WINDOW: Final = 16
_MASK: Final = (1 << 64) - 1


def pick_by_hash(pool: Pool, key: bytes, scene: Scene, *, standing: Pool) -> Endpoint | None:
    """Return the first endpoint in the key's order that may serve and is below the bound.

    ``standing`` are those of the pool that are not out, or all. One that starts slowly takes over
    its keys little by little. None where all are full.
    """
    signals, place = scene.signals, place_of(key)
    bound = load_bound(pool, scene)
    starting: Endpoint | None = None
    for at, endpoint in in_order(pool, place, standing):
        if signals[endpoint.id].in_flight >= bound or not scene.may_serve(endpoint):
            continue
        share = scene.share_of(endpoint)
        if share == 1.0 or _chance(place, at) < share:
            return endpoint
        starting = starting or endpoint
    return starting


def load_bound(pool: Pool, scene: Scene) -> int:
    """Return how many requests an endpoint may carry: ceil(1.25 * mean of those that are in)."""
    backends = {backend.name for backend in pool.backends}
    total = sum(scene.signals.backend(name).in_flight for name in backends)
    gone = 0
    if scene.out:
        gone = sum(scene.signals.ejected.counts.get(name, 0) for name in backends)
    return math.ceil(HASH_LOAD_FACTOR * (total + 1) / max(1, len(pool.endpoints) - gone))


def hash_key(view: RequestView, balance: ir.Balance) -> bytes:
    """Return what a Hash balance hashes; empty where the request does not have it."""
    key = balance.key
    if key is None:
        return b""
    if key.source == "prompt_prefix":
        return prompt_prefix(view.payload, key.prefix_bytes)
    if key.source == "header":
        text = view.headers.get(key.header, "")
    else:
        text = view.user if key.source == "user" else view.session
    # A header's bytes need not be UTF-8.
    return text.encode(errors="replace")


def place_of(text: bytes) -> int:
    """Return the place of a key or an endpoint's id: the same in every pod."""
    return int.from_bytes(blake2b(text, digest_size=8).digest())


def mixed(both: int) -> int:
    """Return the weight of two places whose xor this is: SplitMix64's finalizer.

    As even as a digest of both, and four times as quick.
    """
    half = (both ^ both >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    whole = (half ^ half >> 27) * 0x94D049BB133111EB & _MASK
    return whole ^ whole >> 31


def _chance(place: int, at: int) -> float:
    """Return a number in [0, 1) that belongs to a key and an endpoint, whatever their weight."""
    digest = blake2b(place.to_bytes(8) + at.to_bytes(8), digest_size=2).digest()
    return int.from_bytes(digest) / 0x10000


def _ring_of(pool: Pool) -> Ring:
    if pool.ring is None:
        endpoints = pool.endpoints
        places: list[int] = []
        for endpoint in endpoints:
            # A digest takes as long as the sorting, and a swap changes few endpoints.
            known = endpoint.backend.places
            place = known.get(endpoint.id)
            if place is None:
                place = known[endpoint.id] = place_of(endpoint.id.encode())
            places.append(place)
        order = sorted(range(len(places)), key=places.__getitem__)
        pool.ring = Ring(
            places=tuple([places[index] for index in order]),
            endpoints=tuple([endpoints[index] for index in order]),
        )
    return pool.ring


def in_order(pool: Pool, place: int, standing: Pool) -> Iterator[tuple[int, Endpoint]]:
    """Yield the key's window by rendezvous weight, then what follows it of those that stand."""
    ring = _ring_of(pool)
    places, count = ring.places, len(ring.places)
    start = bisect_left(places, place)
    window = sorted(
        [(start + step) % count for step in range(min(WINDOW, count))],
        key=lambda index: mixed(places[index] ^ place),
    )
    for index in window:
        yield places[index], ring.endpoints[index]
    if count <= WINDOW:
        return
    rest = _ring_of(standing)
    begin = bisect_right(rest.places, places[(start + WINDOW - 1) % count])
    for step in range(len(rest.places)):
        index = (begin + step) % len(rest.places)
        yield rest.places[index], rest.endpoints[index]
