"""What ratings have taught: which tier pays, how requests like this did, how many need the strong.

Kept by place (a rule of a policy, and its router), for the selects that learn. Decisions ask here;
nothing of a request is kept but its place among others, and nothing at all on disk: what is lost is
learned again, from where ``spec.quality`` and the router's own ratings begin.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from switchboard_dataplane.choosing.context import CONTEXT
from switchboard_dataplane.choosing.routers import Routers
from switchboard_dataplane.decision.running import Policy, Rule, Snapshot
from switchboard_dataplane.decision.select import backends_of, quality_expected
from switchboard_dataplane.learning.decisions import Decided
from switchboard_dataplane.learning.ratings import Rating
from switchboard_dataplane.signals.learned import Offer, Place, Tries
from switchboard_dataplane.signals.thresholds import QualityTargets
from switchboard_policy import ir

if TYPE_CHECKING:
    from switchboard_dataplane.choosing.knn import Neighbours
    from switchboard_dataplane.signals.bandit import Bandit

# ruff: noqa: PLC0415 - numpy is loaded with the first policy that learns

#: Outcomes that are remembered of a rule's requests, some 300 bytes each.
OUTCOMES_MAX: Final = 8_192
#: Outcomes that wait to be told to the other pods.
UNTOLD_MAX: Final = 200


class Lesson(NamedTuple):
    """An outcome to be told: how good the answer of a tier was on a request of that embedding."""

    place: Place
    tier: str
    quality: float
    embedding: Any


@dataclass(slots=True)
class Lessons:
    """All that was learned in this pod; a ``signals.learned.Learner``, and who hears of ratings.

    ``snapshot`` returns the one in force; ``targets`` are those of the signals.
    """

    snapshot: Callable[[], Snapshot | None]
    targets: QualityTargets
    routers: Routers
    changed: set[Place] = field(default_factory=set[Place])
    untold: list[Lesson] = field(default_factory=list[Lesson])
    _bandits: "dict[Place, Bandit]" = field(default_factory=dict)
    _neighbours: "dict[Place, Neighbours]" = field(default_factory=dict)

    # --- decisions --------------------------------------------------------------------------

    def pick(
        self, place: Place, context: Any, offers: Sequence[Offer], tries: Tries, chance: float
    ) -> int:
        """Return the place of the offer to take; ``chance`` is in [0, 1)."""
        return self.bandit(place).pick(context, offers, tries, chance)

    def near(self, place: Place, embedding: Any, offers: Sequence[Offer]) -> list[float]:
        """Return the quality of each offer on requests like this, in [0, 1]."""
        known = self._neighbours.get(place)
        priors = {offer.tier: offer.quality for offer in offers}
        if known is None:
            return list(priors.values())
        near = known.qualities(embedding, priors)
        return [near.get(tier, prior) for tier, prior in priors.items()]

    # --- ratings ----------------------------------------------------------------------------

    def learn(self, decided: Decided, rating: Rating, readings: Mapping[str, Any]) -> None:
        """Take in how a decision of this pod was rated; others' backends are no tier's."""
        tier = rating.tier or ("" if rating.backend else decided.tier)
        snapshot = self.snapshot()
        if snapshot is None or not tier:
            return
        found = selecting(snapshot, decided.policy, decided.rule)
        if found is None:
            return
        policy, rule, select = found
        place = Place(policy.name, rule.name, select.router)
        if select.target_quality_permille is not None:
            self.targets[place, select.target_quality_permille / 1000].take(rating.value)
            self.changed.add(place)
        elif select.by == "Neighbours":
            self._learn_near(Lesson(place, tier, rating.value, readings.get("embedding")), rule)
        elif select.by == "Bandit" and len(decided.context) == len(CONTEXT):
            offers = _offers(snapshot, policy, rule, readings)
            offer = offers.pop(tier, None)
            if offer is not None:
                beside = tuple(offers.values())
                self.bandit(place).learn(decided.context, offer, rating.value, beside)
                self.changed.add(place)

    def _learn_near(self, lesson: Lesson, rule: Rule) -> None:
        known = self._neighbours.get(lesson.place)
        size = 0 if lesson.embedding is None else len(lesson.embedding)
        if known is not None and size not in (0, known.dimensions):
            # Another pod, of another version, was first.
            del self._neighbours[lesson.place]
        if self.take_near(lesson, rule) and len(self.untold) < UNTOLD_MAX:
            self.untold.append(lesson)

    def take_near(self, lesson: Lesson, rule: Rule) -> bool:
        """Remember an outcome, of this pod or of another; say whether it is one of the rule's.

        Raises ValueError for an embedding that cannot be compared with the others.
        """
        if lesson.embedding is None or all(one.name != lesson.tier for one in rule.tiers):
            return False
        known = self._neighbours.get(lesson.place)
        tiers = tuple(one.name for one in rule.tiers)
        if known is None or known.targets != tiers:
            from switchboard_dataplane.choosing.knn import Neighbours

            size = len(lesson.embedding)
            known = Neighbours(tiers, dimensions=size, most=OUTCOMES_MAX)
            self._neighbours[lesson.place] = known
        known.take(lesson.embedding, {lesson.tier: lesson.quality})
        return True

    # --- what there is ----------------------------------------------------------------------

    def bandit(self, place: Place) -> "Bandit":
        """Return the bandit of a place; one that is not there begins with the router's ratings."""
        known = self._bandits.get(place)
        if known is None:
            from switchboard_dataplane.signals.bandit import Bandit

            known = Bandit(len(CONTEXT), self.routers.rated_before(place.router))
            self._bandits[place] = known
        return known

    def bandits(self) -> "Mapping[Place, Bandit]":
        """Return the bandits that there are."""
        return self._bandits

    def keep_only(self, places: AbstractSet[Place]) -> None:
        """Forget what was learned for rules that are gone."""
        for place in self._bandits.keys() - places:
            del self._bandits[place]
        for place in self._neighbours.keys() - places:
            del self._neighbours[place]
        for key in [key for key in self.targets if key[0] not in places]:
            del self.targets[key]
        self.changed &= places


def selecting(snapshot: Snapshot, policy: str, rule: str) -> tuple[Policy, Rule, ir.Select] | None:
    """Return a rule in force that selects among its tiers, by names; None where there is none."""
    known = snapshot.policies.get(policy)
    if known is None:
        return None
    for one in known.rules:
        if one.name == rule and one.select is not None:
            return known, one, one.select
    return None


def places_of(snapshot: Snapshot) -> set[Place]:
    """Return all places of a snapshot where something may be learned."""
    return {
        Place(policy.name, rule.name, rule.select.router)
        for policy in snapshot.policies.values()
        for rule in policy.rules
        if rule.select is not None
    }


def _offers(
    snapshot: Snapshot, policy: Policy, rule: Rule, readings: Mapping[str, Any]
) -> dict[str, Offer]:
    """Return the tiers of a rule as they were offered, by name."""
    offers: dict[str, Offer] = {}
    for number, tier in enumerate(rule.tiers):
        backends = backends_of(snapshot, policy, tier.mask)
        if backends and rule.select is not None:
            quality = quality_expected(tier.name, backends, rule.select, readings)
            offers[tier.name] = Offer(number, tier.name, quality)
    return offers
