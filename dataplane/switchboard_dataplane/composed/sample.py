"""A judge of a sample: a model says how good some of the answers were, after they have gone out.

Within what all data planes together may spend in an hour. A judge that is slow, gone or cannot be
read rates nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from switchboard_dataplane.call import Call
from switchboard_dataplane.composed.aside import composition_of
from switchboard_dataplane.composed.background import Background
from switchboard_dataplane.composed.budget import HourBudgets
from switchboard_dataplane.composed.foreseeing import judged_picodollars
from switchboard_dataplane.composed.questions import Questions
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.verdict import Plan
from switchboard_dataplane.learning.noting import Noted
from switchboard_dataplane.telemetry.outcome import Aside, Outcome
from switchboard_policy import ir

_ANY_OK: Final = range(200, 300)

#: Why a judge was not asked about an answer that was drawn for it.
DROPPED: Final = "dropped"
OVER_BUDGET: Final = "over_budget"


class Told(Protocol):
    """Who hears what came of it."""

    def scored(self, decision: str, score: float) -> None:
        """Take in the score of a decision, in [0, 1]."""
        ...

    def sampled(self, outcome: Outcome, asides: Sequence[Aside]) -> None:
        """Take in what a judge was asked after an outcome."""
        ...

    def unsampled(self, outcome: Outcome, backend: str, reason: str) -> None:
        """Take in that a judge was not asked, and why in a word."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Has answers rated; ``told`` hears what came of it. ``clock`` is the event loop's."""

    questions: Questions
    background: Background
    clock: Callable[[], float]
    told: Told
    budgets: HourBudgets = field(default_factory=HourBudgets)

    def begin(self, noted: Noted, outcome: Outcome) -> None:
        """Have an answer rated that was drawn for it, if there is one; never waits."""
        view, plan = noted.view, noted.plan
        learning = None if plan is None else plan.policy.spec.learning
        if view is None or plan is None or learning is None or learning.judge is None:
            return
        answered = outcome.status in _ANY_OK and not (outcome.error or outcome.caller_left)
        if not (answered and noted.answer) or view.api == "embeddings":
            return
        foreseen = judged_picodollars(plan, learning.judge, view, (noted.answer,))
        most = learning.judge_max_cost_picodollars / plan.snapshot.live_pods
        budget = self.budgets[plan.policy.name]
        if not budget.take(foreseen, most, self.clock()):
            self.told.unsampled(outcome, learning.judge.backend, OVER_BUDGET)
            return
        job = partial(self._judge, noted, outcome, view, plan, learning.judge, foreseen)
        if not self.background.begin(job):
            budget.correct(foreseen, 0.0, self.clock())
            self.told.unsampled(outcome, learning.judge.backend, DROPPED)

    async def _judge(
        self,
        noted: Noted,
        outcome: Outcome,
        view: RequestView,
        plan: Plan,
        judge: ir.Asked,
        foreseen: float,
    ) -> None:
        now = self.clock()
        call = Call(view.api, now)
        call.until = now + judge.timeout_ms / 1000
        composition = composition_of(call)
        try:
            heard = await self.questions.score(
                call, plan, judge, view, noted.answer, purpose="sample"
            )
            if heard.value is not None:
                self.told.scored(noted.id, heard.value)
        finally:
            spent = composition.known_picodollars()
            self.budgets[plan.policy.name].correct(foreseen, spent, self.clock())
            self.told.sampled(outcome, composition.asides)
