"""A mirror: another model gets a share of the requests once more, and nobody sees its answers.

After the caller's answer has gone out, within what all data planes together may spend in an hour.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from switchboard_dataplane.call import Call
from switchboard_dataplane.composed.aside import Asides, Question, composition_of
from switchboard_dataplane.composed.budget import HourBudgets
from switchboard_dataplane.composed.ended import Ended
from switchboard_dataplane.composed.foreseeing import (
    OUTPUT_TIMES,
    again_picodollars,
    judged_picodollars,
)
from switchboard_dataplane.composed.questions import REFUSED, Questions, said_by
from switchboard_dataplane.decision.scene import Rng
from switchboard_dataplane.judging.agreement import agreement
from switchboard_dataplane.telemetry.outcome import Aside
from switchboard_dataplane.wire.asks import unstreamed
from switchboard_policy import ir

#: What became of a request that its mirror was to get, beside why it gave no answer.
COMPARED: Final = "compared"
CANCELLED: Final = "cancelled"
DROPPED: Final = "dropped"
OVER_BUDGET: Final = "over_budget"
#: Several answers in one are not compared.
SEVERAL: Final = "several_answers"


class Mirrored(NamedTuple):
    """What a mirror made of a request.

    ``result`` is ``compared``, or in a word why not. ``agreement`` is in [0, 1]; ``better`` says
    whether the judge prefers the mirror's answer, None where none was asked or it said nothing.
    ``chars`` and ``took_s`` are of both answers, the caller's first.
    """

    ended: Ended
    backend: str
    result: str
    agreement: float | None = None
    better: bool | None = None
    chars: tuple[int, int] = (0, 0)
    took_s: tuple[float, float] = (0.0, 0.0)
    asides: tuple[Aside, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrors:
    """Sends requests to mirrors; ``tell`` hears what came of it. ``clock`` is the event loop's."""

    asides: Asides
    questions: Questions
    clock: Callable[[], float]
    rng: Rng
    tell: Callable[[Mirrored], None]
    budgets: HourBudgets = field(default_factory=HourBudgets)

    def draw(self, mirror: ir.Mirror) -> bool:
        """Say whether a request is in the mirror's sample."""
        return self.rng.random() * 1000 < mirror.sample_permille

    def afford(self, ended: Ended, mirror: ir.Mirror) -> float | None:
        """Take what mirroring a request is foreseen to cost, in picodollars; None for too much.

        A backend that names no prices costs nothing.
        """
        plan, view = ended.plan, ended.ask.view
        foreseen = again_picodollars(plan, mirror.backend, view, ended.outcome)
        if mirror.judge is not None and ended.text:
            # As long as the mirror's answer may be.
            texts = (ended.text, ended.text * OUTPUT_TIMES)
            foreseen += judged_picodollars(plan, mirror.judge, view, texts)
        most = mirror.max_cost_picodollars / plan.snapshot.live_pods
        taken = self.budgets[_spender(ended)].take(foreseen, most, self.clock())
        return foreseen if taken else None

    def give_back(self, ended: Ended, foreseen: float) -> None:
        """Take in that a request was not mirrored after all."""
        self.budgets[_spender(ended)].correct(foreseen, 0.0, self.clock())

    async def mirror(self, ended: Ended, mirror: ir.Mirror, foreseen: float) -> None:
        """Send a request once more, compare the answers, and tell what came of it."""
        plan, began_at = ended.plan, self.clock()
        call = Call(ended.ask.view.api, began_at)
        call.until = began_at + plan.policy.spec.deadline_ms / 1000
        composition = composition_of(call)
        told = Mirrored(ended, mirror.backend, CANCELLED)
        try:
            told = await self._compare(call, ended, mirror)
        finally:
            spent = composition.known_picodollars()
            self.budgets[_spender(ended)].correct(foreseen, spent, self.clock())
            self.tell(told._replace(asides=tuple(composition.asides)))

    async def _compare(self, call: Call, ended: Ended, mirror: ir.Mirror) -> Mirrored:
        plan = ended.plan
        question = Question(
            "mirror",
            plan.policy.alone[mirror.backend],
            unstreamed(ended.ask),
            ended.headers,
            call.until,
        )
        reply = await self.asides.whole(call, plan, question)
        said = said_by(reply)
        if said is None:
            return Mirrored(ended, mirror.backend, reply.failure or REFUSED)
        took_s = self.clock() - call.started_at
        better: bool | None = None
        # An answer that is too long to be kept is compared with nothing.
        if mirror.judge is not None and ended.text:
            texts = [ended.text, said.shown]
            heard = await self.questions.choose(call, plan, mirror.judge, ended.ask.view, texts)
            better = None if heard.value is None else heard.value == 1
        return Mirrored(
            ended,
            mirror.backend,
            COMPARED,
            agreement=agreement(ended.text, said.shown) if ended.text else None,
            better=better,
            chars=(len(ended.text), len(said.shown)),
            took_s=(ended.outcome.duration_s, took_s),
        )


def _spender(ended: Ended) -> str:
    return f"{ended.plan.policy.name} {ended.plan.rule.name}"
