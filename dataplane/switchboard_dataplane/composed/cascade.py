"""A cascade: the tiers are asked one after another until an answer is good enough.

What the last tier says goes out as it comes. What the others say is held back until it is judged,
within bounds. Where no stronger tier answers, the best answer that there is goes out after all.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from switchboard_dataplane.call import Call
from switchboard_dataplane.composed.aside import Asides, Question, Reply, composition_of
from switchboard_dataplane.composed.holding import Hold
from switchboard_dataplane.composed.questions import REFUSED, Heard, Questions, said_by
from switchboard_dataplane.decision.running import Rule
from switchboard_dataplane.decision.verdict import Candidate, Plan
from switchboard_dataplane.errors import NoCandidate
from switchboard_dataplane.judging.agreement import same
from switchboard_dataplane.judging.answers import Said
from switchboard_dataplane.judging.checks import (
    ACCEPTED,
    DISAGREEMENT,
    LOW_SCORE,
    NO_LOGPROBS,
    failing_check,
)
from switchboard_dataplane.race import Answer
from switchboard_dataplane.upstream.attempt import WholeAnswer
from switchboard_dataplane.upstream.failures import read_error
from switchboard_dataplane.upstream.overflow import OVERFLOW_STATUSES, find_overflow
from switchboard_dataplane.wire.asks import Ask, wants_logprobs, with_logprobs
from switchboard_policy import ir

#: What becomes of an answer that nobody could judge; a ``REFUSED`` one is the caller's error.
UNJUDGED: Final = "unjudged"
#: Why an answer goes out that nothing was checked of, though its tier is not the rule's last.
NOT_CHECKED: Final = "cascade:not_checked"
#: Why the next tier is asked, beside what rules say and what went wrong.
HELD_TOO_LONG: Final = "held_too_long"
OVERFLOW: Final = "context_overflow"

_GOES_OUT: Final = frozenset({ACCEPTED, UNJUDGED, REFUSED})


class _Climb:
    """A request on its way up. ``why`` says what the last tier's answer failed, "" at the first.

    ``kept`` is the last answer that did not pass, ``second`` the second opinion on its way.
    """

    def __init__(
        self, call: Call, ask: Ask, plan: Plan, cascade: ir.Cascade, headers: Mapping[str, str]
    ) -> None:
        self.call: Final = call
        self.ask: Final = ask
        self.plan: Final = plan
        self.cascade: Final = cascade
        self.headers: Final = headers
        confident = cascade.confidence_permille is not None
        # The caller's own, unless probabilities are wanted that it did not ask for.
        self.checked_ask: Final = (
            with_logprobs(ask) if confident and not wants_logprobs(ask) else ask
        )
        self.why = ""
        self.kept: Reply | None = None
        self.second: asyncio.Task[Heard[Said]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascades:
    """Answers requests by cascades. ``clock`` is the event loop's."""

    asides: Asides
    questions: Questions
    clock: Callable[[], float]

    async def answer(
        self,
        call: Call,
        ask: Ask,
        plan: Plan,
        cascade: ir.Cascade,
        headers: Mapping[str, str],
        first: Candidate | None,
    ) -> Answer:
        """Return the answer that goes out; raises what the last tier failed with, if all have.

        ``first`` is the decision's candidate: the tiers before its own are busy, or out.
        """
        climb = _Climb(call, ask, plan, cascade, headers)
        start = 0 if first is None else first.tier_index
        steps = [one for one in plan.rule.steps[start:] if one.mask & plan.eligible]
        try:
            return await self._climb(climb, steps, first)
        finally:
            if climb.second is not None and not climb.second.done():
                climb.second.cancel()
                await asyncio.wait([climb.second])

    async def _climb(self, climb: _Climb, steps: list[Rule], first: Candidate | None) -> Answer:
        reply: Reply | None = None
        for number, step in enumerate(steps):
            last = step is steps[-1]
            question = Question(
                "step",
                step,
                climb.ask if last else climb.checked_ask,
                climb.headers,
                climb.call.until,
            )
            if number == 0 and not last:
                self._begin_second(climb)
            reply = await self.asides.ask(
                climb.call, climb.plan, question, None if number else first
            )
            verdict = await self._verdict(climb, reply, last=last)
            if verdict != REFUSED:
                judged = composition_of(climb.call).judged
                judged.append((step.tiers[0].name, verdict))
            if verdict in _GOES_OUT:
                return self._send(climb, reply, verdict, last=last)
            climb.why = verdict
            if not last or climb.kept is not None:
                self._set_aside(climb, reply, verdict)
        if climb.kept is not None:
            composition_of(climb.call).reason = f"cascade:kept:{climb.why}"
            return self.asides.send(
                climb.call, climb.kept, hides_logprobs=_hides(climb, climb.kept)
            )
        if reply is None or reply.error is None:
            raise NoCandidate("no backend of the cascade may serve the request")
        self.asides.adopt(climb.call, reply)
        raise reply.error

    async def _verdict(self, climb: _Climb, reply: Reply, *, last: bool) -> str:
        """Return what becomes of a tier's answer, or why the next one is asked."""
        if reply.answer is None:
            return reply.failure
        if last:
            return UNJUDGED
        cascade = climb.cascade
        bounds = Hold(self.clock() + cascade.hold_ms / 1000, cascade.hold_chars)
        held = await self.asides.hold(climb.call, reply, bounds)
        if held == "broken":
            return reply.failure
        if held == "over":
            return UNJUDGED if cascade.send_unjudged else HELD_TOO_LONG
        said = said_by(reply)
        if said is None:
            return _refused(climb, reply)
        try:
            return await self._judge(climb, said) or ACCEPTED
        except asyncio.CancelledError:
            # This answer was made all the same.
            self.asides.left(climb.call, reply)
            raise

    async def _judge(self, climb: _Climb, said: Said) -> str:
        """Return "" for an answer that passes all checks, the cheap ones first; else why not."""
        plan, cascade = climb.plan, climb.cascade
        why = failing_check(plan.rule, plan.snapshot, said)
        if why:
            return why
        if climb.second is not None:
            # Kept for the next tier's answer, whoever is cancelled here.
            heard = await asyncio.shield(climb.second)
            if heard.value is None:
                return f"agreement_{heard.failure}"
            if not same(said.shown, heard.value.shown):
                return DISAGREEMENT
        if cascade.judge is None:
            return ""
        scored = await self.questions.score(
            climb.call, plan, cascade.judge.asked, climb.ask.view, said.shown
        )
        if scored.value is None:
            return f"judge_{scored.failure}"
        return LOW_SCORE if scored.value * 1000 < cascade.judge.min_permille else ""

    def _begin_second(self, climb: _Climb) -> None:
        """Ask for the second opinion at the same time, so that it costs no time."""
        if climb.cascade.agreement is not None:
            climb.second = asyncio.get_running_loop().create_task(
                self.questions.second(
                    climb.call, climb.plan, climb.cascade.agreement, climb.ask, climb.headers
                )
            )

    def _set_aside(self, climb: _Climb, reply: Reply, verdict: str) -> None:
        """Account for an answer that does not go out, for now."""
        self.asides.settle(climb.call, reply, verdict)
        if reply.good and verdict != HELD_TOO_LONG:
            climb.kept = reply

    def _send(self, climb: _Climb, reply: Reply, verdict: str, *, last: bool) -> Answer:
        composition = composition_of(climb.call)
        if verdict == UNJUDGED and not last:
            composition.reason = "cascade:unjudged"
        elif climb.why:
            composition.reason = f"cascade:escalated:{climb.why}"
        elif verdict == ACCEPTED:
            composition.reason = "cascade:accepted"
        elif verdict == UNJUDGED and reply.question.rule is not climb.plan.rule.steps[-1]:
            # Guardrails, or filters, have left no other tier to escalate to.
            composition.reason = NOT_CHECKED
        return self.asides.send(climb.call, reply, hides_logprobs=_hides(climb, reply))


def _hides(climb: _Climb, reply: Reply) -> bool:
    return reply.question.ask is not climb.ask


def _refused(climb: _Climb, reply: Reply) -> str:
    """An error of the caller's is told, unless it may be none for a stronger tier."""
    answer = reply.answer
    if isinstance(answer, WholeAnswer) and answer.status in OVERFLOW_STATUSES:
        if find_overflow(read_error(answer.body)) is not None:
            return OVERFLOW
        if _hides(climb, reply):
            # Maybe it is the probabilities that it refuses, which nobody but us asks for.
            return NO_LOGPROBS
    return REFUSED
