"""Which tier a request starts with: by what a stronger one gains, by quality and cost, by its task,
or by what was learned of ratings.

Pure but for what it remembers in the signals: sessions, the scores that a declared share of strong
answers is measured by, and what is tried. Tiers stand from the weakest to the strongest.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Final

from switchboard_dataplane.decision.candidates import bits
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Backend, Policy, Rule, Snapshot, Tier
from switchboard_dataplane.decision.scene import Rng
from switchboard_dataplane.decision.score import expected_picodollars
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.learned import Offer, Place, Tries
from switchboard_policy import ir

#: The quality on tasks that a backend does not name.
OTHER_TASKS: Final = "default"
#: What is expected of a tier of which nobody says how good it is, where ratings will tell.
UNRATED: Final = 0.5
#: A router's readings are called by this and its digest.
ROUTER: Final = "router:"

_NOTHING_PREDICTED: Final[Mapping[str, float]] = {}


class Choice:
    """What a tier is selected for, and from what: ``eligible`` backends may serve at all."""

    def __init__(
        self, snapshot: Snapshot, policy: Policy, rule: Rule, view: RequestView, eligible: int
    ) -> None:
        self.snapshot: Final = snapshot
        self.policy: Final = policy
        self.rule: Final = rule
        self.view: Final = view
        self.eligible: Final = eligible

    def backends_of(self, tier: Tier) -> list[Backend]:
        """Return the backends of a tier that may serve."""
        return backends_of(self.snapshot, self.policy, tier.mask & self.eligible)

    def place(self, select: ir.Select) -> Place:
        """Return where is learned what this rule selects by."""
        return Place(self.policy.name, self.rule.name, select.router)


def backends_of(snapshot: Snapshot, policy: Policy, mask: int) -> list[Backend]:
    """Return some of a policy's backends."""
    names = [policy.backends[number] for number in bits(mask)]
    backends = snapshot.backends
    return [found for name in names if (found := backends.get(name)) is not None]


def start_rule(choice: Choice, signals: SignalTable, *, now: float, rng: Rng, first: bool) -> Rule:
    """Return the rule with its tiers in the order for this request.

    Only the ``first`` decision on a request counts where shares are held, and tries something.
    """
    rule, view, select = choice.rule, choice.view, choice.rule.select
    if select is None:
        return rule
    sticky = select.sticky and bool(view.session)
    key = (choice.policy.name, rule.name, view.conversation if sticky else "")
    held = signals.sessions.held(key, now) if sticky and select.by == "Bandit" else None
    if held is not None and held < len(rule.tiers) and choice.backends_of(rule.tiers[held]):
        # Which tier is worth most changes with every rating, and is no reason to leave one.
        start = held
    else:
        held = None
        start = _start_of(choice, select, signals, rng, first=first)
    if view.min_quality > 0.0:
        start = max(start, _good_enough(choice))
    if sticky:
        if select.by == "Bandit":
            start = signals.sessions.hold(key, start, now)
        elif select.by != "Classifier" or "classified" in view.readings:
            # What is decided before the classifier was asked binds nobody.
            start = signals.sessions.keep(key, start, now)
    return rule.starts[min(start, len(rule.starts) - 1)]


def _start_of(
    choice: Choice, select: ir.Select, signals: SignalTable, rng: Rng, *, first: bool
) -> int:
    by = select.by
    if by == "Quality":
        return _by_quality(offers_of(choice, select), select)
    if by == "Neighbours":
        return _by_quality(near_offers(choice, select, signals), select)
    if by == "Bandit":
        return _by_bandit(choice, select, signals, rng, first=first)
    if by == "Task":
        task = choice.view.readings["task"]
        return next((number for named, number in select.tasks if named == task), 0)
    return _by_complexity(choice, select, signals, rng, first=first)


def _by_complexity(
    choice: Choice, select: ir.Select, signals: SignalTable, rng: Rng, *, first: bool
) -> int:
    said = choice.view.readings.get("classified") if select.by == "Classifier" else None
    if said is not None:
        return min(len(choice.rule.tiers) - 1, max(0, int(said)))
    if select.strong_share_permille is not None or select.target_quality_permille is not None:
        return _strong(choice, select, signals, rng, first=first)
    # Within the margin of a threshold a request is unsure.
    margin = select.margin_permille if select.stronger_when_unsure else -select.margin_permille
    complexity = min(1.0, max(0.0, gain_of(choice, select)))
    return bisect_right(select.thresholds_permille, complexity * 1000 + margin)


def _strong(
    choice: Choice, select: ir.Select, signals: SignalTable, rng: Rng, *, first: bool
) -> int:
    """Return the last of two tiers so often that a share, or a quality, is held.

    What is near such a threshold is not unsure: the share is what was said.
    """
    score, place, chance = gain_of(choice, select), choice.place(select), rng.random()
    if select.strong_share_permille is None:
        wanted = (select.target_quality_permille or 0) / 1000
        return int(signals.targets[place, wanted].is_strong(score, chance, count=first))
    tracker = signals.shares[place, select.strong_share_permille / 1000]
    if first:
        tracker.take(score)
    return int(tracker.threshold().is_strong(score, chance))


def gain_of(choice: Choice, select: ir.Select) -> float:
    """Return what a stronger tier is expected to gain, not held to [0, 1]: limits make ties.

    It is the last tier over the first where the policy's router knows both by their names; else
    what that router does best with on the whole over what it does worst with.
    """
    if not select.router:
        gain: float = choice.view.readings["complexity"]
        return gain
    said: Mapping[str, float] = choice.view.readings[ROUTER + select.router]
    weak, strong = said.get(choice.rule.tiers[0].name), said.get(choice.rule.tiers[-1].name)
    if weak is not None and strong is not None:
        return strong - weak
    scores = list(said.values())
    # One alone gains nothing over another: what it falls short of is what may be gained.
    return scores[-1] - scores[0] if len(scores) > 1 else 1.0 - sum(scores)


def _by_quality(offers: Sequence[Offer], select: ir.Select) -> int:
    """Return the cheapest tier that is expected to lose little; the stronger one of equals.

    Or the best of those that cost no more than is said, or else the cheapest.
    """
    if not offers:
        return 0
    most = select.target_cost_picodollars
    if most is not None:
        good = [offer for offer in offers if offer.cost <= most]
        if good:
            return min(good, key=lambda one: (-one.quality, one.cost, -one.number)).number
        return min(offers, key=lambda one: (one.cost, -one.quality, -one.number)).number
    best = 0.0
    for offer in offers:
        best = max(best, offer.quality)
    least = best - select.max_quality_loss_permille / 1000 - 1e-9
    good = [offer for offer in offers if offer.quality >= least]
    return min(good, key=lambda one: (one.cost, -one.quality, -one.number)).number


def near_offers(choice: Choice, select: ir.Select, signals: SignalTable) -> list[Offer]:
    """Return the tiers that may serve with their quality on requests like this one."""
    offers = offers_of(choice, select)
    near = signals.learner.near(choice.place(select), choice.view.readings["embedding"], offers)
    return [
        Offer(offer.number, offer.tier, quality, offer.cost)
        for offer, quality in zip(offers, near, strict=True)
    ]


def _by_bandit(
    choice: Choice, select: ir.Select, signals: SignalTable, rng: Rng, *, first: bool
) -> int:
    offers = offers_of(choice, select)
    if len(offers) < 2:  # noqa: PLR2004 - nothing to choose from
        return offers[0].number if offers else 0
    said = ir.Bandit() if select.bandit is None else select.bandit
    dearest = 0.0
    for offer in offers:
        if offer.cost < inf:
            dearest = max(dearest, offer.cost)
    weight = said.cost_weight_permille / 1000 / dearest if dearest > 0.0 else 0.0
    # What has no price is taken to cost as much as the dearest.
    weighed = [
        Offer(one.number, one.tier, one.quality, weight * min(one.cost, dearest)) for one in offers
    ]
    explore = said.explore_permille / 1000 if first else 0.0
    picked = signals.learner.pick(
        choice.place(select),
        choice.view.readings["context"],
        weighed,
        Tries(explore, said.min_quality_permille / 1000),
        rng.random(),
    )
    return offers[picked].number


def offers_of(choice: Choice, select: ir.Select) -> list[Offer]:
    """Return the tiers that may serve, with the quality and the cost that are expected of them."""
    offers: list[Offer] = []
    for number, tier in enumerate(choice.rule.tiers):
        found = choice.backends_of(tier)
        if found:
            quality = quality_expected(tier.name, found, select, choice.view.readings)
            offers.append(Offer(number, tier.name, quality, _least_cost(found, choice.view)))
    return offers


def quality_expected(
    tier: str, backends: Sequence[Backend], select: ir.Select, readings: Mapping[str, Any]
) -> float:
    """Return the quality of a tier before any rating: its router's word, or its backends'."""
    predicted: Mapping[str, float] = _NOTHING_PREDICTED
    if select.router:
        predicted = readings.get(ROUTER + select.router, _NOTHING_PREDICTED)
    said = predicted.get(tier)
    if said is not None:
        return min(1.0, max(0.0, said))
    learns = select.by in ("Bandit", "Neighbours")
    if learns and not all(one.spec.quality for one in backends):
        return UNRATED
    return _quality_of(backends, str(readings.get("task", "")))


def _least_cost(backends: Sequence[Backend], view: RequestView) -> float:
    return min(expected_picodollars(one, view) for one in backends)


def _good_enough(choice: Choice) -> int:
    """Return the first tier that reaches what the caller asks for; the best where none does."""
    task = choice.view.readings["task"]
    best, best_quality = 0, -inf
    for number, tier in enumerate(choice.rule.tiers):
        found = choice.backends_of(tier)
        if not found:
            continue
        quality = _quality_of(found, task)
        if quality >= choice.view.min_quality:
            return number
        if quality > best_quality:
            best, best_quality = number, quality
    return best


def _quality_of(backends: Sequence[Backend], task: str) -> float:
    """Return what a tier promises: the quality of the worst of its backends; 0 without a word."""
    return min(quality_of(one, task) for one in backends)


def quality_of(backend: Backend, task: str) -> float:
    """Return the quality of a backend on a task, in [0, 1]."""
    said = dict(backend.spec.quality)
    return said.get(task, said.get(OTHER_TASKS, 0)) / 1000
