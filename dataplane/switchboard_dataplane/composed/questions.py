"""What the gateway asks models of its own: how good an answer is, which is best, what is needed.

A model that is slow, gone, or says what cannot be read, has said nothing: a word says why.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

import orjson

from switchboard_dataplane.call import Call
from switchboard_dataplane.composed.aside import Asides, Question, Reply, trace_of
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.scene import Rng
from switchboard_dataplane.decision.verdict import Plan
from switchboard_dataplane.judging.answers import Said, said_in, said_in_stream
from switchboard_dataplane.judging.prompts import (
    choice_payload,
    class_payload,
    read_choice,
    read_name,
    read_score,
    score_payload,
)
from switchboard_dataplane.race import Answer
from switchboard_dataplane.telemetry.outcome import Purpose
from switchboard_dataplane.upstream.attempt import StreamedAnswer
from switchboard_dataplane.wire.asks import Ask, read_ask, unstreamed
from switchboard_policy import ir
from switchboard_policy.ir import Api
from switchboard_policy.names import HEADER_PRIORITY

#: A model's reply that cannot be read.
UNREADABLE: Final = "unreadable"
#: An error in the place of an answer, which the upstream says is the request's.
REFUSED: Final = "refused"

T = TypeVar("T")


class Heard(NamedTuple, Generic[T]):
    """What a model said; None where it said nothing: ``failure`` is why, in a word."""

    value: T | None
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Asks judges, classifiers and second opinions. ``clock`` is the event loop's.

    Each question is on the account of a call with its plan, and over when the call's deadline is.
    ``view`` is the request that it is about.
    """

    asides: Asides
    clock: Callable[[], float]
    rng: Rng

    async def score(
        self,
        call: Call,
        plan: Plan,
        asked: ir.Asked,
        view: RequestView,
        answer: str,
        *,
        purpose: Purpose = "judge",
    ) -> Heard[float]:
        """Ask how good an answer is; return a score in [0, 1]."""
        payload = score_payload(view, answer, model=asked.backend, instructions=asked.instructions)
        return await self._ask(call, plan, asked, payload, view, purpose, read_score)

    async def choose(
        self, call: Call, plan: Plan, asked: ir.Asked, view: RequestView, answers: Sequence[str]
    ) -> Heard[int]:
        """Ask which of some answers is best; return its number."""
        # Drawn anew each time: a judge prefers places.
        order = sorted(range(len(answers)), key=lambda _: self.rng.random())
        payload = choice_payload(
            view, answers, order=order, model=asked.backend, instructions=asked.instructions
        )
        heard = await self._ask(
            call, plan, asked, payload, view, "judge", lambda text: read_choice(text, len(order))
        )
        return heard if heard.value is None else Heard(order[heard.value])

    async def classify(
        self, call: Call, plan: Plan, asked: ir.Asked, view: RequestView, names: Sequence[str]
    ) -> Heard[int]:
        """Ask which tier a request needs; return its number among the names."""
        payload = class_payload(view, names, model=asked.backend, instructions=asked.instructions)
        return await self._ask(
            call, plan, asked, payload, view, "classifier", lambda text: read_name(text, names)
        )

    async def second(
        self, call: Call, plan: Plan, backend: str, ask: Ask, headers: Mapping[str, str]
    ) -> Heard[Said]:
        """Ask another backend the same; return what it says."""
        question = Question(
            "agreement", plan.policy.alone[backend], unstreamed(ask), headers, call.until
        )
        reply = await self.asides.whole(call, plan, question)
        said = said_by(reply)
        return Heard(said, "" if said is not None else reply.failure or REFUSED)

    async def _ask(
        self,
        call: Call,
        plan: Plan,
        asked: ir.Asked,
        payload: Mapping[str, Any],
        view: RequestView,
        purpose: Purpose,
        read: Callable[[str], T | None],
    ) -> Heard[T]:
        until = min(call.until, self.clock() + asked.timeout_ms / 1000)
        hints = trace_of(view.headers)
        if HEADER_PRIORITY in view.headers:
            hints[HEADER_PRIORITY] = view.headers[HEADER_PRIORITY]
        ask = read_ask("chat", orjson.dumps({**payload, "model": asked.backend or purpose}), hints)
        question = Question(purpose, plan.policy.alone[asked.backend], ask, hints, until)
        reply = await self.asides.ask(call, plan, question)
        said = said_by(reply)
        if said is None:
            failure = reply.failure or REFUSED
            self.asides.settle(call, reply, failure="" if reply.failure else REFUSED)
            return Heard(None, failure)
        value = read(said.text)
        if value is None:
            self.asides.settle(call, reply, failure=UNREADABLE)
            return Heard(None, UNREADABLE)
        self.asides.settle(call, reply, f"{value:.2f}" if isinstance(value, float) else str(value))
        return Heard(value)


def said_by(reply: Reply) -> Said | None:
    """Return what a whole reply says; None where it says nothing, or an error."""
    return said_in_answer(reply.answer, reply.call.api) if reply.good else None


def said_in_answer(answer: Answer | None, api: Api) -> Said | None:
    """Return what an answer says that is here to its end."""
    if answer is None:
        return None
    if isinstance(answer, StreamedAnswer):
        return said_in_stream(answer.opening, api)
    return said_in(answer.body, api)
