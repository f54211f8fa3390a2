"""Which tier a request starts with: by how hard it looks, by predicted quality, or by its task.

Pure but for what it remembers in the signals: sessions, and the scores that a declared share of
strong answers is measured by. Tiers stand from the weakest to the strongest.
"""

from bisect import bisect_right
from collections.abc import Sequence
from math import inf
from typing import Final

from switchboard_dataplane.decision.candidates import bits
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Backend, Policy, Rule, Snapshot, Tier
from switchboard_dataplane.decision.scene import Rng
from switchboard_dataplane.decision.score import expected_picodollars
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir

#: The quality on tasks that a backend does not name.
OTHER_TASKS: Final = "default"


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
        names = [self.policy.backends[number] for number in bits(tier.mask & self.eligible)]
        backends = self.snapshot.backends
        return [found for name in names if (found := backends.get(name)) is not None]


def start_rule(choice: Choice, signals: SignalTable, *, now: float, rng: Rng, first: bool) -> Rule:
    """Return the rule with its tiers in the order for this request.

    Only the ``first`` decision on a request counts where shares are held.
    """
    rule, view, select = choice.rule, choice.view, choice.rule.select
    if select is None:
        return rule
    start = _start_of(choice, select, signals, rng, first=first)
    if view.min_quality > 0.0:
        start = max(start, _good_enough(choice))
    if select.sticky and view.session:
        start = signals.sessions.keep((choice.policy.name, rule.name, view.session), start, now)
    return rule.starts[start]


def _start_of(
    choice: Choice, select: ir.Select, signals: SignalTable, rng: Rng, *, first: bool
) -> int:
    if select.by == "Quality":
        return _cheapest_near_best(choice, select)
    if select.by == "Task":
        task = choice.view.readings["task"]
        return next((number for named, number in select.tasks if named == task), 0)
    complexity = choice.view.readings["complexity"]
    if select.strong_share_permille is not None:
        # What is near a threshold that holds a share is not unsure: the share is what was said.
        share = select.strong_share_permille / 1000
        tracker = signals.shares[choice.policy.name, choice.rule.name, share]
        if first:
            tracker.take(complexity)
        return int(tracker.threshold().is_strong(complexity, rng.random()))
    # Within the margin of a threshold a request is unsure.
    margin = select.margin_permille if select.stronger_when_unsure else -select.margin_permille
    return bisect_right(select.thresholds_permille, complexity * 1000 + margin)


def _cheapest_near_best(choice: Choice, select: ir.Select) -> int:
    """Return the cheapest tier that is predicted to lose little; the stronger one of equals."""
    task = choice.view.readings["task"]
    known = [
        (number, _quality_of(found, task), _least_cost(found, choice.view))
        for number, tier in enumerate(choice.rule.tiers)
        if (found := choice.backends_of(tier))
    ]
    if not known:
        return 0
    least = max(quality for _, quality, _ in known) - select.max_quality_loss_permille / 1000
    good = [one for one in known if one[1] >= least - 1e-9]
    return min(good, key=lambda one: (one[2], -one[1], -one[0]))[0]


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
