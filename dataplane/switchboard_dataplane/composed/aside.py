"""A request that is made on another's account: a call and a plan of its own, the same attempts.

So endpoints, breakers, queues, failover within its backends, deadlines, spans and guardrails are
those of any request. No other path leads to an upstream.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from switchboard_dataplane.admission import Admission
from switchboard_dataplane.attempts import Attempts
from switchboard_dataplane.call import Call
from switchboard_dataplane.composed.holding import Held, Hold, hold, replay
from switchboard_dataplane.composition import Composition
from switchboard_dataplane.decision.eligible import abilities_of, able
from switchboard_dataplane.decision.running import Rule
from switchboard_dataplane.decision.verdict import Candidate, Plan
from switchboard_dataplane.errors import (
    DeadlineExceeded,
    RouterError,
    UpstreamError,
    UpstreamProtocol,
)
from switchboard_dataplane.race import Answer
from switchboard_dataplane.telemetry.outcome import Aside, Purpose
from switchboard_dataplane.upstream.attempt import StreamedAnswer, WholeAnswer
from switchboard_dataplane.wire.asks import Ask
from switchboard_dataplane.wire.edits import Edits

#: Of the caller's headers what goes on to models that the gateway asks for itself.
TRACE_HEADERS: Final = ("traceparent", "tracestate", "x-request-id")

_ANY_OK: Final = range(200, 300)


class Question(NamedTuple):
    """What is asked, and whom: the backends of a rule's one tier, until then.

    ``headers`` are the caller's, or what of them goes on.
    """

    purpose: Purpose
    rule: Rule
    ask: Ask
    headers: Mapping[str, str]
    until: float


class Reply:
    """What came of a question: the answer, or the error in its place.

    ``error`` is None and ``answer`` too where no backend may be asked: ``failure`` says so then.
    ``held`` says that it was held back. ``aside`` is how it is accounted for; None while it is
    under way, or where nobody was asked.
    """

    def __init__(self, question: Question, call: Call) -> None:
        self.question: Final = question
        self.call: Final = call
        self.answer: Answer | None = None
        self.error: RouterError | None = None
        self.failure = ""
        self.held = False
        self.aside: Aside | None = None

    def fail(self, error: RouterError) -> None:
        """Take in that there is no answer."""
        self.answer, self.error, self.failure = None, error, _word_for(error)
        self.call.error = error.code

    @property
    def good(self) -> bool:
        """Whether there is an answer that says something, and not an error of the caller's."""
        answer = self.answer
        if answer is None or answer.status not in _ANY_OK:
            return False
        return not isinstance(answer, StreamedAnswer) or answer.events.error is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asides:
    """Asks on requests' accounts. ``clock`` is the event loop's."""

    attempts: Attempts
    admission: Admission
    clock: Callable[[], float]

    async def ask(
        self, call: Call, plan: Plan, question: Question, first: Candidate | None = None
    ) -> Reply:
        """Ask, and return the answer as soon as it can go out, a stream from its first content on.

        ``plan`` is that of the request on whose account it is, ``first`` the first candidate if it
        is known. What fails is in the reply; a caller that leaves is raised, and accounted for.
        End the reply by ``settle``.
        """
        reply = self._begin(call, plan, question)
        aside = reply.call
        if aside.plan is None:
            return reply
        if self.clock() >= question.until:
            reply.fail(_late())
            return reply
        failover = self.attempts.failover
        failover.budgets[plan.policy.name].count_request(self.clock())
        try:
            step = first or failover.following(aside, aside.plan, aside.tried)
            if step is None:
                following = partial(failover.following, aside, aside.plan, aside.tried)
                step = await self.admission.wait_again(aside, aside.plan, following, wakes=True)
            reply.answer = await self.attempts.first_answer(
                aside, question.ask, aside.plan, question.headers, step
            )
        except RouterError as error:
            reply.fail(error)
        except asyncio.CancelledError:
            self.left(call, reply)
            raise
        return reply

    async def whole(
        self, call: Call, plan: Plan, question: Question, first: Candidate | None = None
    ) -> Reply:
        """Ask, and return the answer when it is here to its end, accounted for."""
        reply = await self.ask(call, plan, question, first)
        held = await self.hold(call, reply, Hold(until=question.until))
        if held == "over":
            late = self.clock() >= question.until
            reply.fail(_late() if late else UpstreamProtocol("the answer is too long to be held"))
        self.settle(call, reply)
        return reply

    async def hold(self, call: Call, reply: Reply, bounds: Hold) -> Held:
        """Read what is left of a streamed answer, up to these bounds; whole answers are whole.

        One that breaks is an error of the reply's.
        """
        answer, aside, began_at = reply.answer, reply.call, self.clock()
        if not isinstance(answer, StreamedAnswer):
            self._release(aside, began_at)
            return "whole"
        reply.held = True
        try:
            held = await hold(answer, bounds, since=aside.attempt_at, clock=self.clock)
        except UpstreamError as error:
            self._break(reply, error)
            return "broken"
        except asyncio.CancelledError:
            self.left(call, reply)
            raise
        if held == "whole":
            reply.answer = aside.answer = replay(answer)
            now, usage = self.clock(), aside.usage_so_far()
            if aside.holding is not None:
                aside.holding.finished(now, since=aside.attempt_at)
                aside.holding.wrote(
                    0 if usage is None else usage.output_tokens, now - began_at, now
                )
            self._release(aside, now)
        return held

    def settle(self, call: Call, reply: Reply, verdict: str = "", *, failure: str = "") -> None:
        """End a reply whose answer does not go out: give back all that it holds, account for it.

        ``verdict`` is what it said, in a word, ``failure`` says that this cannot be used.
        """
        aside = reply.call
        if isinstance(aside.answer, StreamedAnswer):
            aside.answer.response.close()
        now = self.clock()
        self._release(aside, now)
        if aside.plan is None or reply.aside is not None:
            return
        if failure:
            aside.error = failure
        rule = reply.question.rule
        backend = rule.name if rule.spec is None else ""
        reply.aside = aside.aside(reply.question.purpose, backend, verdict, now)
        composition_of(call).asides.append(reply.aside)

    def adopt(self, call: Call, reply: Reply, *, goes_on: bool = True) -> None:
        """Take what came of a reply for the request's own: it is not one of its asides any more.

        Where it ``goes_on``, as a stream that is still on its way does, what breaks it is mended
        among the same backends.
        """
        asides = composition_of(call).asides
        if reply.aside is not None and reply.aside in asides:
            asides.remove(reply.aside)
        call.adopt(reply.call, plan=reply.call.plan if goes_on else None)

    def send(
        self, call: Call, reply: Reply, *, hides_logprobs: bool = False, goes_on: bool = True
    ) -> Answer:
        """Return a reply's answer as the one that goes out, with the usage of all in it."""
        answer = reply.answer
        if answer is None:
            raise ValueError("there is no answer to send")
        self.adopt(call, reply, goes_on=goes_on)
        composition = composition_of(call)
        if call.holding is None:
            # It is here to its end; what it takes to write is the caller's time.
            call.attempt_at = self.clock()
        composition.held = isinstance(answer, StreamedAnswer) and reply.held
        return self.edit(call, answer, hides_logprobs=hides_logprobs)

    def edit(self, call: Call, answer: Answer, *, hides_logprobs: bool = False) -> Answer:
        """Return an answer with the usage of all in it, as all that takes its place will be."""
        composition = composition_of(call)
        wants_usage = call.ask is not None and call.ask.view.stream and call.ask.wants_usage
        edits = composition.edits = Edits(
            composition.usage(),
            hides_logprobs=hides_logprobs,
            known=call.usage_so_far if wants_usage else None,
        )
        return edited(answer, edits)

    def left(self, call: Call, reply: Reply) -> None:
        """Account for a reply whose caller has left."""
        reply.call.caller_left = True
        self.settle(call, reply)

    def _begin(self, call: Call, plan: Plan, question: Question) -> Reply:
        view, rule = question.ask.view, question.rule
        aside = Call(view.api, self.clock())
        aside.span, aside.snapshot, aside.ask = call.span, plan.snapshot, question.ask
        aside.until = question.until
        reply = Reply(question, aside)
        can = able(abilities_of(plan.snapshot, plan.policy), view) & rule.mask
        if not can & ~plan.forbidden:
            reply.failure = "forbidden" if rule.mask & plan.forbidden else "unavailable"
            return reply
        aside.plan = Plan(
            plan.snapshot,
            view,
            plan.policy,
            rule,
            eligible=can & ~plan.forbidden,
            guardrails=plan.guardrails,
            expression_errors=plan.expression_errors,
            forbidden=plan.forbidden,
        )
        return reply

    def _break(self, reply: Reply, broke: UpstreamError) -> None:
        """A stream broke while nobody had seen any of it."""
        aside, now = reply.call, self.clock()
        if aside.holding is not None and aside.candidate is not None:
            aside.holding.failed(broke.failure, now, since=aside.attempt_at)
            self.attempts.failover.learn(aside, aside.candidate, broke)
        if isinstance(reply.answer, StreamedAnswer):
            reply.answer.response.close()
        self._release(aside, now)
        aside.give_up_answer(broke.failure, now)
        reply.fail(broke)

    def _release(self, aside: Call, now: float) -> None:
        if aside.holding is not None:
            aside.holding.released(now, since=aside.attempt_at)
            aside.holding = None


def edited(answer: Answer, edits: Edits) -> Answer:
    """Return an answer as it goes out; an error of the caller's goes out as it came."""
    if not edits.needed:
        return answer
    if isinstance(answer, StreamedAnswer):
        answer.opening = edits.events(answer.opening)
        answer.events.edit = edits.events
        return answer
    if answer.status not in _ANY_OK:
        return answer
    body = edits.whole(answer.body, answer.usage)
    return WholeAnswer(answer.status, answer.headers, body, answer.usage, head_at=answer.head_at)


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("no whole answer within the deadline")


def _word_for(error: RouterError) -> str:
    if isinstance(error, DeadlineExceeded):
        return "timeout"
    return error.failure if isinstance(error, UpstreamError) else error.code


def composition_of(call: Call) -> Composition:
    """Return what is asked beside a request's answer; from now on there is something."""
    if call.composition is None:
        call.composition = Composition()
    return call.composition


def trace_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those of a caller's headers that say which request something belongs to."""
    return {name: headers[name] for name in TRACE_HEADERS if name in headers}
