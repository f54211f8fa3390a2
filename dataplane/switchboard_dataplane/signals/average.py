"""A time-decayed average that knows its age: old news fades to what the neighbours say."""

import math
from dataclasses import dataclass
from typing import Final

from switchboard_dataplane.acyclic import mypyc_attr

#: After this time without news an observation has lost 63 % of its weight.
DECAY_S: Final = 10.0
#: An observation is taken at its word for so long; then it fades to the prior.
FRESH_S: Final = 10.0
#: It has faded to a twentieth then, and counts no more.
FORGOTTEN_S: Final = 3 * DECAY_S


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class Average:
    """A value seen at ``at`` (loop time, seconds); NaN and minus infinity before the first."""

    value: float = math.nan
    at: float = -math.inf

    def take(self, value: float, now: float) -> None:
        """Take in a value seen at ``now``."""
        if math.isnan(self.value):
            self.value = value
        else:
            kept = math.exp(-max(0.0, now - self.at) / DECAY_S)
            self.value += (value - self.value) * (1.0 - kept)
        self.at = now

    def take_peak(self, value: float, now: float) -> None:
        """Take in a value, a larger one at once (Finagle's peak EWMA): bad news do not wait."""
        if value > self.value:
            self.value = value
            self.at = now
        else:
            self.take(value, now)

    def counts(self, now: float) -> bool:
        """Say whether the value counts at all."""
        return now - self.at < FRESH_S + FORGOTTEN_S

    def weight(self, now: float) -> float:
        """Return how much the value counts, in [0, 1]; the prior counts for the rest."""
        old_s = now - self.at - FRESH_S
        if old_s <= 0.0:
            return 1.0
        return math.exp(-old_s / DECAY_S) if old_s < FORGOTTEN_S else 0.0

    def faded(self, prior: float, now: float) -> float:
        """Return the value as far as it still counts, and ``prior`` for the rest."""
        weight = self.weight(now)
        # Before the first observation the value is NaN, which no weight takes away.
        return prior + (self.value - prior) * weight if weight > 0.0 else prior
