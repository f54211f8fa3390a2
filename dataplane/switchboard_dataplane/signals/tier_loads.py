"""How busy tiers are, looked at ten times a second, and which thresholds they have passed. Pure."""

from dataclasses import dataclass, field
from typing import Final, Literal

#: What makes a tier hand its requests on; a metric label.
SpillCause = Literal["queueWait", "inFlight", "ttft"]

#: How long what was seen of a tier's endpoints is good for, in seconds.
REFRESH_S: Final = 0.1
#: A tier takes requests again below this share of the threshold that it had passed.
BACK_BELOW: Final = 0.8
#: More tiers than this were in force once and are gone: they may begin anew.
TIERS_MAX: Final = 10_000


@dataclass(slots=True)
class TierLoad:
    """What was seen of one tier at ``at`` (the event loop's time).

    ``used`` of ``capacity`` requests are in flight, when this data plane had ``in_flight`` of them;
    ``ttft_s`` is by prompt class, ``engines_wait_s`` the time to get through the engines' queues.
    """

    at: float = float("-inf")
    used: float = 0.0
    capacity: float = 0.0
    in_flight: int = 0
    ttft_s: tuple[float, ...] = ()
    engines_wait_s: float = 0.0
    passed: set[SpillCause] = field(default_factory=set["SpillCause"])

    def passes(self, cause: SpillCause, value: float, threshold: float) -> bool:
        """Say whether a threshold is passed, and remember it: the way back is lower."""
        if cause in self.passed:
            if value < BACK_BELOW * threshold:
                self.passed.discard(cause)
        elif value >= threshold:
            self.passed.add(cause)
        return cause in self.passed


class TierLoads(dict[tuple[str, str, str, int], TierLoad]):
    """Loads by policy, rule, tier and the mask of its backends that may serve."""

    def __missing__(self, tier: tuple[str, str, str, int]) -> TierLoad:
        if len(self) >= TIERS_MAX:
            self.clear()
        made = self[tier] = TierLoad()
        return made
