"""What requests cost: recorded tokens at the prices of the backends that would answer them."""

from collections.abc import Mapping
from typing import NamedTuple

from switchboard_cli.review.replay import Outcome
from switchboard_policy import ir

#: A microdollar in picodollars.
_MICRODOLLAR = 1e6


class Cost(NamedTuple):
    """A cost in microdollars, from the least to the most that it may be."""

    least: float
    most: float

    def __add__(self, other: object) -> "Cost":
        """Add a cost to a cost."""
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(self.least + other.least, self.most + other.most)

    def dollars(self) -> str:
        """Return the cost as people read it."""
        low, high = f"${self.least / 1e6:,.4f}", f"${self.most / 1e6:,.4f}"
        return low if low == high else f"{low} to {high}"


NOTHING = Cost(0.0, 0.0)


class Prices:
    """The prices of a set's backends."""

    def __init__(self, backends: Mapping[str, ir.Backend]) -> None:
        self._pricing = {name: one.pricing for name, one in backends.items()}

    def of(self, outcome: Outcome, tokens: tuple[int, int] | None) -> Cost | None:
        """Return what a request would cost, None where nobody knows the tokens or a price.

        A request that is refused costs nothing; of backends that one goes to by load, the cheapest
        and the dearest are told.
        """
        if outcome.untold:
            return None
        if outcome.refused:
            return NOTHING
        if tokens is None:
            return None
        if outcome.either:
            costs = [self.at(name, tokens) for name in outcome.either]
            known = [one for one in costs if one is not None]
            return Cost(min(known), max(known)) if len(known) == len(costs) else None
        total = 0.0
        for name, share in outcome.shares:
            cost = self.at(name, tokens)
            if cost is None:
                return None
            total += share * cost
        return Cost(total, total)

    def at(self, backend: str, tokens: tuple[int, int]) -> float | None:
        """Return what so many tokens cost at a backend, in microdollars; None without a price."""
        pricing = self._pricing.get(backend)
        if pricing is None:
            return None
        given, taken = tokens
        said = given * pricing.input_picodollars + taken * pricing.output_picodollars
        return said / _MICRODOLLAR
