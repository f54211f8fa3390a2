"""The hot path, top to bottom: read, decide, attempt, answer, observe.

It knows neither the server's nor the client's library: a ``Caller`` brings requests in, an
``Upstream`` takes them out. A request binds the snapshot with its
decision (one that waits, with the decision that ends the wait) and keeps it to its end.
"""

import asyncio
import logging
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from switchboard_dataplane.access.identify import LETS_ANYBODY_IN, Access, check_model
from switchboard_dataplane.admission import Admission
from switchboard_dataplane.attempts import Attempts
from switchboard_dataplane.call import Call
from switchboard_dataplane.composed.aside import edited
from switchboard_dataplane.composed.composer import Composer
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.match import find_policy
from switchboard_dataplane.decision.running import Policy, Snapshot
from switchboard_dataplane.decision.scene import Rng
from switchboard_dataplane.decision.verdict import (
    Candidate,
    Decision,
    Plan,
    Rejection,
    Waiting,
)
from switchboard_dataplane.errors import (
    Busy,
    InternalError,
    NoCandidate,
    NoRoute,
    NotReady,
    RouterError,
    ShuttingDown,
    UpstreamError,
)
from switchboard_dataplane.failover import Failover
from switchboard_dataplane.learning.noting import Notes
from switchboard_dataplane.reader import Reader
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.telemetry.outcome import Outcome
from switchboard_dataplane.telemetry.tracing import Tracing
from switchboard_dataplane.upstream.attempt import (
    StreamedAnswer,
    WholeAnswer,
)
from switchboard_dataplane.upstream.relay import relay
from switchboard_dataplane.wire.answers import Answer, error_answer, error_event
from switchboard_dataplane.wire.asks import Ask, read_ask
from switchboard_dataplane.wire.headers import to_caller, told_by_gateway
from switchboard_dataplane.wire.restart import Sent, joined
from switchboard_policy.ir import Api
from switchboard_policy.names import HEADER_DECISION, HEADER_REVIEW

log = logging.getLogger(__name__)

_ANY_OK: Final = range(200, 300)


class Caller(Protocol):
    """A caller with its request; what is written raises ConnectionError if the caller has left.

    ``headers`` have lower-case names. A caller that leaves cancels the task that serves it.
    """

    @property
    def api(self) -> Api:
        """The API that is called."""
        ...

    @property
    def headers(self) -> MutableMapping[str, str]:
        """The request's headers."""
        ...

    @property
    def peer(self) -> str:
        """The address of the other end of the connection, "" where it is not known."""
        ...

    async def read_body(self) -> bytes:
        """Return the whole body; raises RequestError (too large, too slow)."""
        ...

    async def send(self, answer: Answer) -> None:
        """Answer at once, with everything."""
        ...

    async def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        """Begin a streamed answer."""
        ...

    def put(self, data: bytes) -> bool:
        """Write a piece of it; say whether the caller keeps up."""
        ...

    async def drained(self) -> None:
        """Wait while the caller does not."""
        ...

    async def end(self) -> None:
        """End it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Serves requests. ``clock`` is the event loop's, ``today`` the time of day.

    ``snapshot`` returns the one in force, None before the first. ``shutting_down`` says that the
    drain deadline is over: a cancelled request then ends with an error instead of silence.
    ``composer`` answers what takes more than one answer; ``notes`` are taken of requests whose
    policy learns. ``access`` says who calls, before anything of a body is read.
    """

    snapshot: Callable[[], Snapshot | None]
    signals: SignalTable
    failover: Failover
    reader: Reader
    admission: Admission
    attempts: Attempts
    observe: Callable[[Outcome], None]
    shutting_down: Callable[[], bool]
    clock: Callable[[], float]
    rng: Rng
    composer: Composer
    notes: Notes | None = None
    tracing: Tracing | None = None
    detail_headers: bool = True
    access: Access = LETS_ANYBODY_IN

    async def serve(self, caller: Caller) -> None:
        """Serve a request to its end, whatever that is; its outcome is observed in any case.

        Raises CancelledError or ConnectionError where the caller has left.
        """
        call = Call(caller.api, self.clock())
        if self.tracing is not None:
            call.span = self.tracing.begin(caller.api, caller.headers)
        try:
            error = await self._answer_or_fail(caller, call)
            if error is not None:
                await self._refuse(caller, call, error)
        except (asyncio.CancelledError, ConnectionError):
            call.caller_left = True
            raise
        finally:
            self._settle(call)

    async def _answer_or_fail(self, caller: Caller, call: Call) -> RouterError | None:
        """Answer; return what the caller is to hear instead, None if it was answered."""
        try:
            await self._answer(caller, call)
        except RouterError as error:
            return error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not self.shutting_down():
                raise
            task.uncancel()
            return ShuttingDown("this gateway is shutting down; send the request again")
        except ConnectionError:
            raise
        except Exception:
            log.exception("a request failed by a defect of the data plane")
            return InternalError("the gateway failed; see its log")
        return None

    async def _answer(self, caller: Caller, call: Call) -> None:
        client = call.client = self.access.everyone or await self.access.admit(caller)
        body = await caller.read_body()
        snapshot = call.snapshot = self.snapshot()
        if snapshot is None:
            raise NotReady("no policy has reached this gateway yet; send the request again")
        ask = call.ask = read_ask(caller.api, body, caller.headers)
        check_model(client, ask.view.model)
        ask.view.client = client
        if snapshot.reads:
            policy = find_policy(snapshot, ask.view.model)
            if policy is not None and policy.readings:
                await self.reader.read(policy, ask.view)
        verdict = decide(snapshot, ask.view, self.signals, now=self.clock(), rng=self.rng)
        if not isinstance(verdict, Rejection) and verdict.plan.rule.classifies:
            call.plan = verdict.plan
            await self.composer.classify(call, ask, verdict.plan)
            verdict = decide(snapshot, ask.view, self.signals, now=self.clock(), rng=self.rng)
        if isinstance(verdict, Waiting):
            verdict = await self.admission.wait(call, ask.view, verdict)
        if isinstance(verdict, Rejection):
            self._note_rejection(caller, call, snapshot, verdict)
            raise _rejected(verdict)
        call.plan = verdict.plan
        if verdict.plan.policy.spec.learning is not None:
            caller = self._note(caller, call, verdict.plan.policy)
        first = verdict.candidate if isinstance(verdict, Decision) else None
        self.failover.budgets[verdict.plan.policy.name].count_request(self.clock())
        if verdict.plan.rule.composed or call.composition is not None:
            await self._compose(caller, call, ask, verdict.plan, first)
            return
        answer = await self.attempts.first_answer(call, ask, verdict.plan, caller.headers, first)
        call.status = answer.status
        if isinstance(answer, WholeAnswer):
            await caller.send(Answer(answer.status, self._headers(call, answer), answer.body))
        else:
            await self._stream(caller, call, ask, call.plan, answer)

    async def _compose(
        self, caller: Caller, call: Call, ask: Ask, plan: Plan, first: Candidate | None
    ) -> None:
        """Answer a request of a rule that has more done with it than to send it to a backend."""
        sequel = self.composer.begin(call, plan)
        listener = sequel.listen(caller)
        try:
            answer = await self.composer.answer(call, ask, plan, caller.headers, first)
            call.status = answer.status
            self.composer.mark(sequel, call, answer.status)
            if isinstance(answer, WholeAnswer):
                await listener.send(Answer(answer.status, self._headers(call, answer), answer.body))
            else:
                await self._stream(listener, call, ask, call.plan or plan, answer)
            self.composer.end(sequel, call, ask, plan, caller.headers)
        finally:
            sequel.leave()

    def _note_rejection(
        self, caller: Caller, call: Call, snapshot: Snapshot, rejection: Rejection
    ) -> None:
        call.rejection = rejection
        policy = snapshot.policies.get(rejection.policy)
        if policy is not None and policy.spec.learning is not None:
            self._note(caller, call, policy)

    def _note(self, caller: Caller, call: Call, policy: Policy) -> Caller:
        """Begin to note what the policy learns by; return the caller, overheard if need be."""
        learning = policy.spec.learning
        if self.notes is None or learning is None:
            return caller
        noted = call.noted = self.notes.begin(learning, policy)
        return noted.listen(caller, self.notes.room)

    async def _stream(
        self, caller: Caller, call: Call, ask: Ask, plan: Plan, answer: StreamedAnswer
    ) -> None:
        """Send a stream to its end; where it breaks early another may go on in its place."""
        call.ttft_s = self.clock() - call.started_at
        within = plan.policy.spec.restart_within_chars
        sent = Sent(within) if within and ask.choices == 1 else None
        while (broke := await self._relay(caller, call, answer, sent)) is not None:
            self._count_break(call, broke)
            if sent is None or sent.final or self.clock() >= call.until:
                raise broke
            answer = await self._another(caller, call, ask, plan, broke)
        if answer.events.error is not None:
            # The upstream has told the caller itself, in an event of its own.
            call.error = "upstream_error_event"
        if call.holding is not None:
            call.holding.finished(self.clock(), since=call.attempt_at)
        await caller.end()

    async def _relay(
        self, caller: Caller, call: Call, answer: StreamedAnswer, sent: Sent | None
    ) -> UpstreamError | None:
        """Pass a stream on; return what broke it, None at its end."""
        timeouts = answer.endpoint.backend.spec.timeouts
        try:
            if not call.begun:
                call.begun = True
                await caller.begin(answer.status, self._headers(call, answer))
            await relay(
                answer,
                caller,
                idle_s=timeouts.idle_ms / 1000,
                until=call.attempt_at + timeouts.total_ms / 1000,
                sent=sent,
            )
        except UpstreamError as error:
            return error
        finally:
            answer.response.close()
        return None

    def _count_break(self, call: Call, broke: UpstreamError) -> None:
        """A stream broke after its first content: that counts against the endpoint."""
        now, signal, candidate = self.clock(), call.holding, call.candidate
        if signal is not None and candidate is not None:
            call.holding = None
            signal.failed(broke.failure, now, since=call.attempt_at)
            signal.released(now, since=call.attempt_at)
            self.failover.learn(call, candidate, broke)
            call.breaks.append(candidate.endpoint.backend.name)

    async def _another(
        self, caller: Caller, call: Call, ask: Ask, plan: Plan, broke: UpstreamError
    ) -> StreamedAnswer:
        """Begin another stream in the place of one that broke, by the rules of any next attempt.

        The endpoint that broke it comes last. Raises ``broke`` where nothing can take its place.
        """
        plan, broken = call.plan or plan, call.tried[-1]
        call.tried[-1] = replace(broken, again=False)
        step = self.failover.following(call, plan, call.tried)
        if step is None and broken.again:
            call.tried[-1] = broken
            step = self.failover.following(call, plan, call.tried)
        if step is None:
            raise broke
        call.give_up_answer(broke.failure, self.clock())
        # Told if what it waits for does not come.
        call.failure = broke
        answer = await self.attempts.first_answer(call, ask, plan, caller.headers, step)
        if isinstance(answer, WholeAnswer):
            # Nothing of it can stand in a stream.
            raise broke
        answer.opening = joined(answer.opening, self._details(call))
        if call.composition is not None and call.composition.edits is not None:
            edited(answer, call.composition.edits)
        return answer

    async def _refuse(self, caller: Caller, call: Call, error: RouterError) -> None:
        """Tell the caller of an error: as the answer, or at the end of a stream that has begun."""
        call.error = error.code
        if call.begun:
            caller.put(error_event(error, call.usage_so_far()))
            await caller.end()
            return
        answer = error_answer(error)
        call.status = answer.status
        headers = [*answer.headers, *self._details(call)]
        await caller.send(Answer(answer.status, headers, answer.body))

    def _headers(self, call: Call, answer: WholeAnswer | StreamedAnswer) -> list[tuple[str, str]]:
        headers = [*to_caller(answer.headers), *self._details(call)]
        by = call.candidate
        if self.detail_headers and by and by.endpoint.backend.spec.provider == "switchboard":
            headers += told_by_gateway(answer.headers)
        if call.composition is not None and call.composition.review and answer.status in _ANY_OK:
            headers.append((HEADER_REVIEW, call.composition.review))
        return headers

    def _details(self, call: Call) -> list[tuple[str, str]]:
        details = call.details() if self.detail_headers else []
        if call.noted is not None:
            details.append((HEADER_DECISION, call.noted.id))
        return details

    def _settle(self, call: Call) -> None:
        now, signal = self.clock(), call.holding
        if signal is not None:
            signal.released(now, since=call.attempt_at)
        if self.notes is not None and call.noted is not None and call.ask is not None:
            self.notes.end(call.noted, call.ask.view, call.plan, call.reason())
        outcome = call.outcome(now)
        if signal is not None and call.wrote_whole_stream:
            signal.wrote(outcome.output_tokens or 0, outcome.duration_s - (call.ttft_s or 0.0), now)
        plan = call.plan
        if plan is not None and plan.policy.recalls and plan.view.session:
            self.signals.histories.take(
                plan.policy.name,
                plan.view.conversation,
                outcome.spent_microdollars / 1e6,
                outcome.backend if outcome.answered else "",
                now,
            )
        self.observe(outcome)
        if call.span is not None:
            call.span.end(outcome)


def _rejected(rejection: Rejection) -> RouterError:
    match rejection.reason:
        case "model_not_found":
            return NoRoute(rejection.message, param="model")
        case "overloaded":
            return Busy(rejection.message, retry_after_s=rejection.retry_after_s)
        case _:
            return NoCandidate(rejection.message)
