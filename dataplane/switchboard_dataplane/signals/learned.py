"""What a decision may ask of those who learn: which tier pays, and how requests like this did.

Whoever learns needs numpy and is loaded where a policy asks for it; decisions know this much.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol


class Place(NamedTuple):
    """Where something is learned: a rule of a policy, and the digest of its router ("" if none)."""

    policy: str
    rule: str
    router: str = ""


class Offer(NamedTuple):
    """A tier that may serve: its number, the quality expected of it, what it costs.

    ``quality`` is in [0, 1]: what its backends' ``spec.quality`` or a router says. ``cost`` is what
    it takes off that.
    """

    number: int
    tier: str
    quality: float
    cost: float = 0.0


class Tries(NamedTuple):
    """How far a select may try what it does not know: a share of requests, and the least quality.

    ``explore`` and ``min_quality`` are in [0, 1].
    """

    explore: float
    min_quality: float


class Learner(Protocol):
    """What was learned of ratings; each call takes well below a millisecond and never fails."""

    def pick(
        self, place: Place, context: Any, offers: Sequence[Offer], tries: Tries, chance: float
    ) -> int:
        """Return the place of the offer to take; ``chance`` is in [0, 1)."""
        ...

    def near(self, place: Place, embedding: Any, offers: Sequence[Offer]) -> list[float]:
        """Return the quality of each offer on requests like this, in [0, 1]."""
        ...


class Untaught:
    """Whoever has learned nothing: the best by what was expected."""

    def pick(
        self, place: Place, context: Any, offers: Sequence[Offer], tries: Tries, chance: float
    ) -> int:
        """Return the place of the offer that is expected to be worth most."""
        worth = [offer.quality - offer.cost for offer in offers]
        return worth.index(max(worth))

    def near(self, place: Place, embedding: Any, offers: Sequence[Offer]) -> list[float]:
        """Return what was expected of each."""
        return [offer.quality for offer in offers]


NOBODY: Final = Untaught()
