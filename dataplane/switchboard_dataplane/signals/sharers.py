"""Who reads which endpoint's engine: the pods of a gateway share the endpoints out. Pure.

Each endpoint belongs to one live pod, by rendezvous hashing (Thaler and Ravishankar, 1998): a pod
that comes or goes moves no endpoint but those that it takes or had. Every pod works this out for
itself, so for a moment after a change two may read an endpoint, or none.
"""

import math
from collections.abc import Collection
from hashlib import blake2b
from typing import Final

#: A pod that the others hear nothing of for so long is taken to be gone, in seconds; it speaks
#: once a second.
UNHEARD_S: Final = 3.2
_DIGEST_BYTES: Final = 8


class Sharers:
    """The pods that share the endpoints, by what was heard of them; times are the event loop's.

    The store tells every few seconds who registered, and each pod is heard about once a second.
    One that registered counts from the start; one that should have been heard and was not does not:
    it is gone, stopped, cut off, or of a version that does not share. Silence means something only
    while this pod hears itself: if it does not, the store is away, and all stays as it was.
    """

    def __init__(self, me: str) -> None:
        self._me = me
        #: When each of the others was heard last, or first known of.
        self._known: dict[str, float] = {}
        self._heard_myself = -math.inf
        self._live: frozenset[str] = frozenset({me})
        self._owners: dict[str, str] = {}

    @property
    def live(self) -> frozenset[str]:
        """The pods among which the endpoints are shared out, this one among them."""
        return self._live

    def registered(self, names: Collection[str], now: float) -> None:
        """Take in who registered, as far as the store told."""
        for name in names:
            self._known.setdefault(name, now)
        silent = [name for name in self._known if name not in self._live and name not in names]
        for name in silent:
            del self._known[name]
        self._settle()

    def heard(self, name: str, now: float) -> None:
        """Take in that a pod spoke, this one perhaps."""
        if name == self._me:
            if now - self._heard_myself > UNHEARD_S:
                # Nobody could be heard since then: the others have until now to be heard again.
                self._known = dict.fromkeys(self._known, now)
            self._heard_myself = now
        self._known[name] = now
        self._settle()

    def is_mine(self, endpoint_id: str) -> bool:
        """Say whether this pod is the one to read the endpoint."""
        owner = self._owners.get(endpoint_id)
        if owner is None:
            owner = self._owners[endpoint_id] = owner_of(endpoint_id, self._live)
        return owner == self._me

    def keep_only(self, endpoint_ids: Collection[str]) -> None:
        """Forget endpoints that are gone."""
        for gone in [known for known in self._owners if known not in endpoint_ids]:
            del self._owners[gone]

    def _settle(self) -> None:
        since = self._heard_myself - UNHEARD_S
        live = frozenset({self._me, *(name for name, at in self._known.items() if at >= since)})
        if live != self._live:
            self._live = live
            self._owners.clear()


def owner_of(endpoint_id: str, pods: Collection[str]) -> str:
    """Return the pod that an endpoint belongs to; ``pods`` has one at least."""
    return max(pods, key=lambda pod: _weight(endpoint_id, pod))


def _weight(endpoint_id: str, pod: str) -> tuple[bytes, str]:
    said = f"{len(pod)}:{pod}{endpoint_id}".encode()
    return blake2b(said, digest_size=_DIGEST_BYTES).digest(), pod
