"""Learns which tier is worth what it costs: a bandit over a request's features. Pure; numpy.

LinUCB (Li et al., arXiv 1003.0146): each tier's quality is a ridge regression over the features,
over what was expected of the tier before anything was rated, and over ``fourier`` features of what
was expected of all; a tier of which little is known on such a request is given the benefit of the
doubt. What is old fades (discounted as in Russac et al., arXiv 1909.09146), and a tier whose
ratings leave what is known of it (Page's CUSUM test, 1954) is learned anew, in a next *era*.

Pods learn together: each tells the sums of its own ratings, and all sums of an era are added up.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from switchboard_dataplane.signals.fourier import WAVES, Waves
from switchboard_dataplane.signals.learned import Offer, Tries

Doubles = NDArray[np.float64]

#: How much doubt counts for a tier that may be better than it looks.
OPTIMISM: Final = 0.1
#: What is left of a tier's ratings after each further one of its own, and of another tier.
KEPT: Final = 0.9995
KEPT_BESIDE: Final = 0.9998
#: How many ratings it takes to leave what was expected: of the level, of kinds of requests, and of
#: everything else.
LEVEL_WEIGHT: Final = 1.0
KIND_WEIGHT: Final = 20.0
WEIGHT: Final = 100.0
#: The share of the tries that goes to the tier that was expected to be the best one: if it has
#: fallen and has come back, nothing else finds out.
SECOND_CHANCES: Final = 0.1
#: Tries that were not made are not saved up.
TRIES_SAVED_MAX: Final = 2.0
#: How much likelier ratings must be of a tier that is half as good, or fails half as often, than of
#: the known one, as a logarithm: by chance that is so once in exp(10), some 22,000, ratings of a
#: tier at most (Lorden, "Procedures for reacting to a change in distribution", 1971).
DRIFTED: Final = 10.0
#: Tiers that a rule has at most, by a wide margin: what peers tell must stay bounded.
TIERS_MAX: Final = 64
ERA_MAX: Final = 2**31

#: Before a fall no tier was surer to be right, and before a rise none surer to fail: what is known
#: of those that are hardly ever wrong, or right, is not that exact.
_SURE: Final = 0.1
_NEVER: Final = 1e-3
_SUM_MAX: Final = 1e6


class SumsRefused(Exception):
    """The bytes are no sums of ratings over these features; the text says why."""


class Sums:
    """What ratings add up to: products of features (D, D), features by rating (D), and how many."""

    __slots__ = ("products", "rated", "seen")

    def __init__(self, dimensions: int) -> None:
        self.products: Doubles = np.zeros((dimensions, dimensions))
        self.rated: Doubles = np.zeros(dimensions)
        self.seen = 0.0

    def take(self, features: Doubles, quality: float) -> None:
        """Add one rating."""
        self.products += np.outer(features, features)
        self.rated += quality * features
        self.seen += 1.0

    def add(self, other: "Sums", times: float = 1.0) -> None:
        """Add another's so many times over, but not how many there were."""
        self.products += times * other.products
        self.rated += times * other.rated

    def fade(self, kept: float) -> None:
        """Let a share of it be left; how many ratings there were is not forgotten."""
        self.products *= kept
        self.rated *= kept

    def pack(self) -> bytes:
        """Return the sums as bytes: half of the products, for they are symmetric."""
        half = self.products[np.triu_indices(len(self.rated))]
        return np.concatenate([half, self.rated, [self.seen]]).astype("<f4").tobytes()


def unpack(data: bytes, dimensions: int) -> Sums:
    """Read sums that came from elsewhere; raises SumsRefused."""
    half = dimensions * (dimensions + 1) // 2
    if len(data) != 4 * (half + dimensions + 1):
        raise SumsRefused(f"{len(data)} bytes are no sums over {dimensions} features")
    numbers = np.frombuffer(data, "<f4").astype(np.float64)
    if not np.isfinite(numbers).all() or np.abs(numbers[:-1]).max() > _SUM_MAX or numbers[-1] < 0:
        raise SumsRefused("sums: finite numbers")
    sums = Sums(dimensions)
    sums.products[np.triu_indices(dimensions)] = numbers[:half]
    sums.products += np.triu(sums.products, 1).T
    sums.rated = numbers[half:-1]
    sums.seen = float(numbers[-1])
    try:
        np.linalg.cholesky(sums.products + np.eye(dimensions))
    except np.linalg.LinAlgError as error:
        raise SumsRefused("sums: no ratings add up to these") from error
    return sums


class Told(NamedTuple):
    """What one pod has learned of a tier: in which era, and the sums of its ratings."""

    era: int
    sums: Sums


class _Side:
    """Ratings that speak for a fall, or a rise: how much, and those since it might have begun."""

    __slots__ = ("likelier", "since")

    def __init__(self, dimensions: int) -> None:
        self.likelier = 0.0
        self.since = Sums(dimensions)

    def take(self, features: Doubles, quality: float, known: float, other: float) -> bool:
        """Take in a rating where ``known`` or ``other`` is expected; say if it is the other."""
        right, wrong = math.log(other / known), math.log((1.0 - other) / (1.0 - known))
        self.likelier += quality * right + (1.0 - quality) * wrong
        if self.likelier <= 0.0:
            self.likelier, self.since = 0.0, Sums(len(features))
            return False
        self.since.take(features, quality)
        return self.likelier > DRIFTED


class _Tier:
    """A tier: what the artifact knew of it, what this pod learned, what others told.

    ``start_kept`` is what is left of the artifact's.
    """

    __slots__ = ("era", "fall", "heard", "own", "rise", "start", "start_kept")

    def __init__(self, start: Sums) -> None:
        self.start: Final = start
        self.start_kept = 1.0
        self.heard: dict[str, Told] = {}
        self.begin_era(0, Sums(len(start.rated)))

    def begin_era(self, era: int, own: Sums) -> None:
        """Forget all that this pod learned but what is so now."""
        self.era = era
        self.own = own
        self.fall = _Side(len(own.rated))
        self.rise = _Side(len(own.rated))

    def take(self, features: Doubles, quality: float, known: float) -> None:
        """Take in a rating, where ``known`` was expected; what is no chance begins an era.

        The era begins with the ratings since it might have.
        """
        before = min(1.0 - _SURE, max(_NEVER, known))
        fell = self.fall.take(features, quality, before, before / 2.0)
        before = max(_SURE, min(1.0 - _NEVER, known))
        rose = self.rise.take(features, quality, before, (1.0 + before) / 2.0)
        if fell or rose:
            self.begin_era(self.era + 1, (self.fall if fell else self.rise).since)
        else:
            self.own.take(features, quality)

    def total(self) -> Sums:
        """Return all that is known of the tier in this era."""
        sums, seen = Sums(len(self.own.rated)), self.own.seen
        sums.add(self.own)
        for told in self.heard.values():
            if told.era == self.era:
                sums.add(told.sums)
                seen += told.sums.seen
        if self.era == 0:
            # What was rated before fades like all that is old; what a pod has seen goes with it.
            self.start_kept = min(self.start_kept, KEPT**seen)
            sums.add(self.start, self.start_kept)
        return sums


class Bandit:
    """The tiers of one rule, learned over so many ``features`` of a request.

    A request's features begin with a 1. ``start`` are the sums of ratings that were there before,
    by tier, over these and what was expected of the tier. It holds nothing of a request.
    """

    def __init__(self, features: int, start: Mapping[str, Sums] | None = None) -> None:
        self._features: Final = features
        self._dimensions: Final = features + WAVES + 1
        self._start: Final = {} if start is None else dict(start)
        self._places: Final[dict[str, int]] = {}
        self._tiers: Final[list[_Tier]] = []
        self._waves: Final = Waves()
        size = self._dimensions
        self._ridge: Final = np.full(size, WEIGHT)
        self._ridge[0] = LEVEL_WEIGHT
        self._ridge[features:-1] = KIND_WEIGHT
        # What was expected is believed as it is until ratings say otherwise.
        self._expected: Final = np.zeros(size)
        self._expected[-1] = WEIGHT
        self._inverses: Doubles = np.zeros((0, size, size))
        self._weights: Doubles = np.zeros((0, size))
        self._first: Doubles = np.zeros((0, size))
        self._tries = 0.0
        self._turn = 0

    @property
    def dimensions(self) -> int:
        """How many features ratings are summed over: a request's, and what was expected."""
        return self._dimensions

    # --- decisions --------------------------------------------------------------------------

    def pick(
        self, features: Sequence[float], offers: Sequence[Offer], tries: Tries, chance: float
    ) -> int:
        """Return the place of the offer to take; ``chance`` is in [0, 1).

        Over any number of requests at most the share ``tries.explore`` of them (and two) take
        another than the one that is known to be the best.
        """
        rows, seen, expected = self._seen(features, offers)
        known, doubts = self._known(rows, seen, expected), self._doubts(rows, seen, expected)
        costs = np.array([offer.cost for offer in offers])
        # Twice the standard deviation of a mean: a single rating's is a half at most.
        allowed = known + doubts >= tries.min_quality
        if not allowed.any():
            return int(known.argmax())
        worth = np.where(allowed, known - costs, -np.inf)
        best = int(worth.argmax())
        self._tries = min(TRIES_SAVED_MAX, self._tries + tries.explore)
        if not tries.explore or self._tries < 1.0:
            return best
        if chance < SECOND_CHANCES * tries.explore:
            hoped = _values(self._first, rows, seen, expected) - costs
        else:
            hoped = worth + OPTIMISM * doubts
        other = int(np.where(allowed, hoped, -np.inf).argmax())
        if other != best:
            self._tries -= 1.0
        return other

    def estimate(self, features: Sequence[float], offers: Sequence[Offer]) -> list[float]:
        """Return the quality that is expected of each offer now, in [0, 1]."""
        known: list[float] = self._known(*self._seen(features, offers)).tolist()
        return known

    def _known(self, rows: list[int], seen: Doubles, expected: Doubles) -> Doubles:
        """Return the quality that is known of each."""
        return np.clip(_values(self._weights, rows, seen, expected), 0.0, 1.0)

    def _doubts(self, rows: list[int], seen: Doubles, expected: Doubles) -> Doubles:
        """Return how far what is known of each may be off."""
        # All of them at once, for offers differ in their last feature alone.
        turned = (self._inverses.reshape(-1, self._dimensions) @ seen).reshape(len(self._tiers), -1)
        spread = (turned @ seen)[rows] + expected * (
            2.0 * turned[rows, -1] + expected * self._inverses[rows, -1, -1]
        )
        doubts: Doubles = np.sqrt(np.maximum(0.0, spread))
        return doubts

    def _seen(
        self, features: Sequence[float], offers: Sequence[Offer]
    ) -> tuple[list[int], Doubles, Doubles]:
        """Return the places of offers, all features but the last, a 0, and the last of each."""
        rows = [self._place(offer.tier) for offer in offers]
        expected = np.array([offer.quality for offer in offers])
        seen = np.zeros(self._dimensions)
        seen[: self._features] = features
        seen[self._features : -1] = self._waves.of(rows, expected)
        return rows, seen, expected

    # --- learning ---------------------------------------------------------------------------

    def learn(
        self,
        features: Sequence[float],
        offer: Offer,
        quality: float,
        beside: Sequence[Offer] = (),
    ) -> None:
        """Take in how good the answer of a tier was, in [0, 1]: one that this pod had asked.

        ``beside`` are the other tiers as they might have been offered.
        """
        rows, seen, expected = self._seen(features, (offer, *beside))
        self._waves.take(rows, expected)
        place = rows[0]
        tier = self._tiers[place]
        seen[-1] = offer.quality
        self._fade(tier, 1.0)
        tier.take(seen, quality, float(self._weights[place] @ seen))
        self._settle(place)
        self._settle_next()

    # --- between pods -----------------------------------------------------------------------

    def told(self) -> dict[str, Told]:
        """Return what this pod has learned itself, by tier."""
        known = ((name, self._tiers[place]) for name, place in self._places.items())
        return {name: Told(tier.era, tier.own) for name, tier in known}

    def hear(self, pod: str, name: str, told: Told) -> None:
        """Take in what another pod has learned of a tier, in place of what it told before."""
        if len(self._tiers) >= TIERS_MAX and name not in self._places:
            return
        place = self._place(name)
        tier = self._tiers[place]
        before = tier.heard.get(pod)
        tier.heard[pod] = told
        if told.era > tier.era:
            tier.begin_era(told.era, Sums(self._dimensions))
        elif before is not None and before.era == told.era == tier.era:
            # As if this pod had seen them: all ratings make all that are older fade.
            self._fade(tier, max(0.0, told.sums.seen - before.sums.seen))
        self._settle(place)
        self._settle_next()

    def lose(self, pod: str, *, adopt: bool) -> None:
        """Take in that a pod is gone: its ratings become this one's own, or another's."""
        for place, tier in enumerate(self._tiers):
            told = tier.heard.pop(pod, None)
            if told is None:
                continue
            if adopt and told.era == tier.era:
                tier.own.add(told.sums)
            self._settle(place)

    def _fade(self, tier: _Tier, ratings: float) -> None:
        """Let fade what this pod has learned, for so many ratings of a tier."""
        for one in self._tiers:
            one.own.fade(KEPT_BESIDE**ratings)
        tier.own.fade(KEPT**ratings)

    def _place(self, name: str) -> int:
        place = self._places.get(name)
        if place is not None:
            return place
        place = self._places[name] = len(self._tiers)
        size = self._dimensions
        self._tiers.append(_Tier(self._before(name)))
        self._waves.add(name)
        self._inverses = np.concatenate([self._inverses, np.zeros((1, size, size))])
        self._weights = np.concatenate([self._weights, np.zeros((1, size))])
        self._settle(place)
        self._first = np.concatenate([self._first, self._weights[-1:]])
        return place

    def _before(self, name: str) -> Sums:
        """Return what was rated before of a tier; nobody knows of which kind requests were."""
        sums, before = Sums(self._dimensions), self._start.get(name)
        if before is not None:
            at = [*range(self._features), self._dimensions - 1]
            sums.products[np.ix_(at, at)] = before.products
            sums.rated[at] = before.rated
        return sums

    def _settle_next(self) -> None:
        """Settle one tier after the other: what nobody rates fades, too, and is doubted more."""
        self._turn = (self._turn + 1) % len(self._tiers)
        self._settle(self._turn)

    def _settle(self, place: int) -> None:
        total = self._tiers[place].total()
        inverse = np.linalg.inv(total.products + np.diag(self._ridge))
        self._inverses[place] = inverse
        self._weights[place] = inverse @ (total.rated + self._expected)


def _values(weights: Doubles, rows: list[int], seen: Doubles, expected: Doubles) -> Doubles:
    values: Doubles = (weights @ seen)[rows] + weights[rows, -1] * expected
    return values
