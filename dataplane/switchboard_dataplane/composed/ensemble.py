"""An ensemble: several backends answer at once, and one of the answers goes out.

A judge chooses it, or the most common one wins. Where they vote, who is slow is not waited for
longer than most others took twice over; a judge is shown all that come in time.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Final

from switchboard_dataplane.attempts import Attempts
from switchboard_dataplane.call import Call
from switchboard_dataplane.composed.aside import Asides, Question, Reply, composition_of
from switchboard_dataplane.composed.questions import Questions, said_by
from switchboard_dataplane.decision.running import Rule
from switchboard_dataplane.decision.score import expected_picodollars
from switchboard_dataplane.decision.verdict import Candidate, Plan
from switchboard_dataplane.errors import NoCandidate
from switchboard_dataplane.judging.votes import most_common
from switchboard_dataplane.race import Answer
from switchboard_dataplane.wire.asks import Ask
from switchboard_policy import ir

#: When most have answered a vote, the others have until this many times as long as those took.
PATIENCE: Final = 2.0
#: At most this share of a request's time is kept for the judge.
JUDGE_SHARE: Final = 0.5
#: Why nobody was asked: several answers in one are not compared.
NOT_ASKED: Final = "not_asked"


class _Asked:
    """A request and the answers to it so far."""

    def __init__(
        self, call: Call, ask: Ask, plan: Plan, ensemble: ir.Ensemble, headers: Mapping[str, str]
    ) -> None:
        self.call: Final = call
        self.ask: Final = ask
        self.plan: Final = plan
        self.ensemble: Final = ensemble
        self.headers: Final = headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensembles:
    """Answers requests by ensembles. ``clock`` is the event loop's."""

    asides: Asides
    questions: Questions
    attempts: Attempts
    clock: Callable[[], float]

    async def answer(
        self,
        call: Call,
        ask: Ask,
        plan: Plan,
        ensemble: ir.Ensemble,
        headers: Mapping[str, str],
        first: Candidate | None,
    ) -> Answer:
        """Return the answer that goes out; raises what went wrong where there is none.

        ``first`` is the decision's candidate, which answers alone what would cost too much.
        """
        asked = _Asked(call, ask, plan, ensemble, headers)
        steps = self._choose(asked)
        most = ensemble.max_cost_picodollars
        if most is not None and sum(_foreseen(plan, one, ask) for one in steps) > most:
            return await self._plain(asked, plan, first, "max_cost")
        replies = await self._ask_all(asked, steps)
        good = [one for one in replies if one.good]
        if not good:
            return await self._without(asked, steps, replies)
        winner = await self._winner(asked, good, len(steps))
        return self.asides.send(call, winner, goes_on=False)

    def _choose(self, asked: _Asked) -> list[Rule]:
        """Return whom to ask: different backends in their order, those that are well first.

        Where there are too few, some are asked more than once.
        """
        plan = asked.plan
        known: dict[int, Rule] = {}
        for step in plan.rule.steps:
            if step.mask & plan.eligible:
                known.setdefault(step.mask, step)
        found = sorted(known.values(), key=lambda step: not self._is_well(plan, step))
        return [found[number % len(found)] for number in range(asked.ensemble.candidates)]

    def _is_well(self, plan: Plan, step: Rule) -> bool:
        backend = plan.snapshot.backends.get(plan.policy.backends[step.mask.bit_length() - 1])
        ejected = self.attempts.failover.signals.ejected
        return backend is not None and any(
            one.id not in ejected and one.id not in plan.resting for one in backend.endpoints
        )

    async def _ask_all(self, asked: _Asked, steps: Sequence[Rule]) -> list[Reply]:
        """Ask all at once; return the replies that have come when enough have."""
        call, began_at = asked.call, self.clock()
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(
                self.asides.whole(
                    call,
                    asked.plan,
                    Question("candidate", step, asked.ask, asked.headers, call.until),
                )
            )
            for step in steps
        ]
        pending, patient_until = set(tasks), inf
        try:
            while pending:
                patience_s = patient_until - self.clock()
                done, pending = await asyncio.wait(
                    pending,
                    timeout=max(0.0, patience_s) if isfinite(patience_s) else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                replies = [one.result() for one in tasks if one.done()]
                good = [one for one in replies if one.good]
                if not done or (asked.ensemble.judge is None and _decided(good, len(steps))):
                    break
                if patient_until == inf:
                    patient_until = self._patient_until(asked, began_at, len(good), len(steps))
            return [one.result() for one in tasks if one.done()]
        finally:
            for one in pending:
                one.cancel()
            if pending:
                await asyncio.wait(pending)

    def _patient_until(self, asked: _Asked, began_at: float, good: int, candidates: int) -> float:
        """Return how long the others are waited for, by how many answers there are."""
        judge = asked.ensemble.judge
        if judge is not None:
            # The strong model is often the slow one: all are waited for while the judge has time.
            left_s = asked.call.until - began_at
            kept_s = min(judge.timeout_ms / 1000, JUDGE_SHARE * left_s)
            return asked.call.until - kept_s if good else inf
        if 2 * good <= candidates:
            return inf
        return began_at + PATIENCE * (self.clock() - began_at)

    async def _winner(self, asked: _Asked, good: Sequence[Reply], candidates: int) -> Reply:
        composition, judge = composition_of(asked.call), asked.ensemble.judge
        texts = [_text(one) for one in good]
        if judge is not None and len(good) > 1:
            heard = await self.questions.choose(
                asked.call, asked.plan, judge, asked.ask.view, texts
            )
            if heard.value is not None:
                composition.ensemble, composition.reason = "judge", "ensemble:judge"
                return good[heard.value]
        number, votes = most_common(texts)
        composition.ensemble = "vote"
        composition.reason = f"ensemble:vote:{votes}/{candidates}"
        return good[number]

    async def _without(
        self, asked: _Asked, steps: Sequence[Rule], replies: Sequence[Reply]
    ) -> Answer:
        """None has answered: others may; else tell what they said, or what went wrong last."""
        refused = next((one for one in replies if one.answer is not None), None)
        if refused is not None:
            return self.asides.send(asked.call, refused, goes_on=False)
        rest = asked.plan.eligible
        for step in steps:
            rest &= ~step.mask
        if rest:
            return await self._plain(asked, asked.plan.narrowed(rest), None, "unanswered")
        last = replies[-1]
        self.asides.adopt(asked.call, last, goes_on=False)
        raise last.error or NoCandidate("no backend of the ensemble may serve the request")

    async def _plain(self, asked: _Asked, plan: Plan, first: Candidate | None, why: str) -> Answer:
        """Answer as without an ensemble."""
        composition = composition_of(asked.call)
        composition.ensemble, composition.reason = why, f"ensemble:{why}"
        asked.call.plan = plan
        answer = await self.attempts.first_answer(asked.call, asked.ask, plan, asked.headers, first)
        return self.asides.edit(asked.call, answer)


def _text(reply: Reply) -> str:
    said = said_by(reply)
    return "" if said is None else said.shown


def _decided(good: Sequence[Reply], candidates: int) -> bool:
    """Say whether the votes that are out cannot change what wins."""
    return bool(good) and 2 * most_common([_text(one) for one in good])[1] > candidates


def _foreseen(plan: Plan, step: Rule, ask: Ask) -> float:
    """Return what a candidate is foreseen to cost; nothing where no price is known."""
    backend = plan.snapshot.backends.get(plan.policy.backends[step.mask.bit_length() - 1])
    picodollars = 0.0 if backend is None else expected_picodollars(backend, ask.view)
    return picodollars if isfinite(picodollars) else 0.0
