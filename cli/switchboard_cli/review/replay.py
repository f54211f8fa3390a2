"""Recorded requests, decided anew by the real decision against a set of policies.

Everything is taken to be well: nothing is busy, resting or ejected. Of a tier with weights each
backend gets its share of a request; of one without, who answers goes by load, and that nobody
recorded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from switchboard_cli.review.records import Recorded, view_of
from switchboard_cli.review.telling import (
    Known,
    Untold,
    know,
    rails_of,
    rule_of,
    select_needs,
)
from switchboard_dataplane.decision.candidates import bits
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.match import Conditions, find_policy
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Rule, Snapshot, Tier
from switchboard_dataplane.decision.verdict import Decision, Rejection
from switchboard_dataplane.signals.endpoints import SignalTable

_NUMBERS: Final = re.compile(r"the \d+ asked for")


@dataclass(frozen=True, slots=True)
class Held:
    """A guardrail that holds for a request; ``took`` says that it takes backends of its rule."""

    owner: str
    name: str
    took: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What would become of a request.

    ``shares`` are the backends and their parts of it; one that goes by load is told as a whole, as
    ``either``. ``refused`` says why nothing may serve it. ``untold`` says what would have to be
    known for the rule, or, where that is there, for the backend.
    """

    policy: str = ""
    rule: str = ""
    tier: str = ""
    shares: tuple[tuple[str, float], ...] = ()
    either: tuple[str, ...] = ()
    refused: str = ""
    untold: str = ""
    held: tuple[Held, ...] = ()
    composed: bool = False


class Replay:
    """Decides recorded requests; ``moved`` are facts that no record has, by policy."""

    def __init__(
        self, snapshot: Snapshot, *, seed: int, moved: Mapping[str, frozenset[str]] | None = None
    ) -> None:
        self._snapshot: Final = snapshot
        self._rng: Final = Random(seed)  # noqa: S311 - what is drawn is to be drawn again
        self._signals: Final = SignalTable()
        self._moved: Final = moved or {}
        self._known: Final[dict[str, Known]] = {}

    def decide(self, record: Recorded) -> Outcome:
        """Return what would become of a recorded request."""
        policy = find_policy(self._snapshot, record.model)
        if policy is None:
            return Outcome(refused="no policy answers for the model name")
        known = self._known.get(policy.name)
        if known is None:
            known = know(policy, self._moved.get(policy.name, frozenset()))
            self._known[policy.name] = known
        view = view_of(record, known.unread, arms=bool(policy.arms))
        conditions = Conditions(self._snapshot, policy, view)
        try:
            rule = rule_of(known, record, view, conditions)
        except Untold as error:
            return Outcome(policy=policy.name, untold=str(error))
        except LookupError:
            return Outcome(policy=policy.name, refused="no rule matches")
        return self._by_rule(known, record, view, rule, conditions)

    def _by_rule(
        self,
        known: Known,
        record: Recorded,
        view: RequestView,
        rule: Rule,
        conditions: Conditions,
    ) -> Outcome:
        held: list[Held] = []
        needs = select_needs(known, rule, record)
        for rail, missing in rails_of(known, record, rule, conditions):
            if missing:
                needs = needs or f'guardrail "{rail.name}" of {rail.policy} needs {missing}'
            else:
                held.append(Held(rail.policy, rail.name, bool(rail.forbids & rule.mask)))
        found = _Found(known.policy.name, rule, tuple(held))
        if needs:
            return found.outcome(untold=needs)
        verdict = decide(
            self._snapshot, view, self._signals, now=record.at.timestamp(), rng=self._rng
        )
        if isinstance(verdict, Rejection):
            return found.outcome(refused=_why(verdict))
        if not isinstance(verdict, Decision):
            return found.outcome(untold="how long it waits")
        tier = verdict.candidate.tier
        names = known.policy.backends
        left = [names[number] for number in bits(tier.mask & verdict.plan.eligible)]
        weights = {names[number]: weight for number, weight in tier.weights}
        return found.placed(tier, left, weights)


@dataclass(frozen=True, slots=True)
class _Found:
    """What is known of a request once its rule is."""

    policy: str
    rule: Rule
    held: tuple[Held, ...]

    def outcome(self, *, refused: str = "", untold: str = "") -> Outcome:
        return Outcome(
            policy=self.policy, rule=self.rule.name, held=self.held, refused=refused, untold=untold
        )

    def placed(self, tier: Tier, left: list[str], weights: Mapping[str, int]) -> Outcome:
        whole = sum(weights.get(name, 0) for name in left)
        shares: tuple[tuple[str, float], ...] = ()
        either: tuple[str, ...] = ()
        if len(left) == 1:
            shares = ((left[0], 1.0),)
        elif whole:
            shares = tuple((name, weights[name] / whole) for name in left if weights.get(name))
        else:
            either = tuple(left)
        spec = self.rule.spec
        composed = spec is not None and (spec.cascade is not None or spec.ensemble is not None)
        return Outcome(
            policy=self.policy,
            rule=self.rule.name,
            tier=tier.name,
            shares=shares,
            either=either,
            held=self.held,
            composed=composed,
        )


def _why(rejection: Rejection) -> str:
    """Return why a request is refused, in words that many requests share."""
    if not rejection.fallen:
        return "none of the rule's tiers names a backend that may be used"
    reasons = dict.fromkeys(
        _NUMBERS.sub("what was asked for", one.reason) for one in rejection.fallen
    )
    return "; ".join(sorted(reasons))
