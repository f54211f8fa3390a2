"""What a balance may look at beside the endpoints, and which endpoints it may take at all."""

import math
from collections.abc import Collection
from typing import Final, Protocol

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Endpoint, Snapshot
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir

#: How often a new endpoint is taken at first, as a share of how often the others are.
SLOW_START_SHARE_MIN: Final = 0.1

#: What keeps an endpoint out: it is ejected, it rests or was tried, it is at its limit.
OUT: Final = "out"
SPENT: Final = "spent"
FULL: Final = "full"


class Rng(Protocol):
    """Where chance comes from: ``random.Random`` is one."""

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...


class Scene:
    """The request, the signals, the time (the event loop's) and chance.

    ``out`` and ``spent`` are ids of endpoints that are left out: those that are ejected, and those
    that have failed this request already.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        view: RequestView,
        balance: ir.Balance,
        signals: SignalTable,
        now: float,
        rng: Rng,
        out: Collection[str] = (),
        spent: Collection[str] = (),
    ) -> None:
        self.snapshot: Final = snapshot
        self.view: Final = view
        self.balance: Final = balance
        self.signals: Final = signals
        self.now: Final = now
        self.rng: Final = rng
        self.out: Final = out
        self.spent: Final = spent

    def may_serve(self, endpoint: Endpoint) -> bool:
        """Say whether the endpoint is in, untried and below its limit."""
        return self.barred(endpoint) is None

    def barred(self, endpoint: Endpoint) -> str | None:
        """Return what keeps an endpoint out: OUT, SPENT or FULL; None where it may serve."""
        # By id: a swap between two attempts makes other objects for the same address.
        if endpoint.id in self.out:
            return OUT
        if endpoint.id in self.spent:
            return SPENT
        limit = endpoint.backend.spec.max_in_flight
        if limit is None:
            return None
        share = math.ceil(limit / self.snapshot.live_pods)
        return None if self.signals[endpoint.id].in_flight < share else FULL

    def share_of(self, endpoint: Endpoint) -> float:
        """Return how much of its share an endpoint gets: less than 1 while it is new."""
        slow_start_s = endpoint.backend.spec.health.slow_start_ms / 1000
        age_s = self.now - self.signals[endpoint.id].joined_at
        if age_s >= slow_start_s:
            return 1.0
        return max(SLOW_START_SHARE_MIN, age_s / slow_start_s)
