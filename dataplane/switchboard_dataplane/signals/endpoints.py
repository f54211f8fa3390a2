"""What is true now of each endpoint, by endpoint id: requests in flight and latency.

Latency is a peak-sensitive, time-decayed average (Finagle's peak EWMA): a slow answer counts at
once, a fast one only as the old value fades. Time is an argument everywhere.
"""

import math
from dataclasses import dataclass
from typing import Final

#: After this time without news an observation has lost 63 % of its weight.
DECAY_S: Final = 10.0
#: Failures weigh as a slow answer would, so that a fast-failing endpoint attracts nothing.
ERROR_LATENCY_S: Final = 5.0


@dataclass(slots=True)
class EndpointSignal:
    """One endpoint's signals; ``latency_s`` is NaN until the first observation."""

    in_flight: int = 0
    latency_s: float = math.nan
    observed_at: float = 0.0

    def observe(self, latency_s: float, now: float) -> None:
        """Take in the time of an answer (to the first content, or whole), seen at ``now``."""
        if math.isnan(self.latency_s) or latency_s > self.latency_s:
            self.latency_s = latency_s
        else:
            weight = math.exp(-max(0.0, now - self.observed_at) / DECAY_S)
            self.latency_s = self.latency_s * weight + latency_s * (1.0 - weight)
        self.observed_at = now

    def observe_error(self, now: float) -> None:
        """Take in a failed attempt."""
        self.observe(max(ERROR_LATENCY_S, self.latency_s), now)


class SignalTable(dict[str, EndpointSignal]):
    """Signals by endpoint id; asking for an endpoint that has none makes them."""

    def __missing__(self, endpoint_id: str) -> EndpointSignal:
        signal = self[endpoint_id] = EndpointSignal()
        return signal

    def keep_only(self, endpoint_ids: frozenset[str]) -> None:
        """Forget endpoints that are gone and have nothing in flight."""
        for gone in [
            name for name in self if name not in endpoint_ids and not self[name].in_flight
        ]:
            del self[gone]
