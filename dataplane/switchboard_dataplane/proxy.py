"""The hot path, top to bottom: read, decide, attempt, answer, observe.

It knows neither the server's nor the client's library: a ``Caller`` brings requests in, an
``Upstream`` takes them out. A request binds the snapshot once and keeps it to its end.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from switchboard_dataplane.call import Call
from switchboard_dataplane.decision.decide import decide, next_candidate
from switchboard_dataplane.decision.pick import Rng
from switchboard_dataplane.decision.running import Endpoint, Snapshot
from switchboard_dataplane.decision.verdict import Candidate, Plan, Rejection, Tried
from switchboard_dataplane.errors import (
    Busy,
    DeadlineExceeded,
    InternalError,
    NoCandidate,
    NoRoute,
    NotReady,
    RouterError,
    ShuttingDown,
    UpstreamError,
    UpstreamTimeout,
)
from switchboard_dataplane.signals.endpoints import EndpointSignal, SignalTable
from switchboard_dataplane.telemetry.outcome import Attempt, Outcome
from switchboard_dataplane.telemetry.tracing import Tracing
from switchboard_dataplane.upstream.attempt import (
    Request,
    StreamedAnswer,
    WholeAnswer,
    open_answer,
)
from switchboard_dataplane.upstream.bound import Bound, Bounds
from switchboard_dataplane.upstream.fault_log import FaultLog
from switchboard_dataplane.upstream.relay import relay
from switchboard_dataplane.upstream.transport import Upstream
from switchboard_dataplane.wire.answers import Answer, error_answer, error_event
from switchboard_dataplane.wire.asks import PATHS, Ask, body_for, read_ask
from switchboard_dataplane.wire.headers import to_caller, to_upstream
from switchboard_policy.ir import Api

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
    def headers(self) -> Mapping[str, str]:
        """The request's headers."""
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
    """

    snapshot: Callable[[], Snapshot | None]
    signals: SignalTable
    upstream: Upstream
    observe: Callable[[Outcome], None]
    shutting_down: Callable[[], bool]
    clock: Callable[[], float]
    bounds: Bounds
    today: Callable[[], datetime]
    rng: Rng
    tracing: Tracing | None = None
    detail_headers: bool = True
    faults: FaultLog = field(default_factory=FaultLog)

    async def serve(self, caller: Caller) -> None:
        """Serve a request to its end, whatever that is; its outcome is observed in any case.

        Raises CancelledError or ConnectionError where the caller has left.
        """
        call = Call(caller.api, self.clock())
        if self.tracing is not None:
            call.span = self.tracing.begin(caller.api, caller.headers)
        try:
            await self._answer_or_refuse(caller, call)
        except (asyncio.CancelledError, ConnectionError):
            call.caller_left = True
            raise
        finally:
            self._settle(call)

    async def _answer_or_refuse(self, caller: Caller, call: Call) -> None:
        try:
            await self._answer(caller, call)
        except RouterError as error:
            await self._refuse(caller, call, error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not self.shutting_down():
                raise
            task.uncancel()
            going = ShuttingDown("this gateway is shutting down; send the request again")
            await self._refuse(caller, call, going)
        except ConnectionError:
            raise
        except Exception:
            log.exception("a request failed by a defect of the data plane")
            await self._refuse(caller, call, InternalError("the gateway failed; see its log"))

    async def _answer(self, caller: Caller, call: Call) -> None:
        body = await caller.read_body()
        snapshot = call.snapshot = self.snapshot()
        if snapshot is None:
            raise NotReady("no policy has reached this gateway yet; send the request again")
        ask = call.ask = read_ask(caller.api, body, caller.headers)
        verdict = decide(snapshot, ask.view, self.signals, now=self.clock(), rng=self.rng)
        if isinstance(verdict, Rejection):
            call.rejection = verdict
            raise _rejected(verdict)
        call.plan = verdict.plan
        answer = await self._first_answer(caller, call, ask, verdict.plan, verdict.candidate)
        call.status = answer.status
        headers = [*to_caller(answer.headers), *self._details(call)]
        if isinstance(answer, WholeAnswer):
            await caller.send(Answer(answer.status, headers, answer.body))
        else:
            await self._stream(caller, call, answer, headers)

    async def _first_answer(
        self, caller: Caller, call: Call, ask: Ask, plan: Plan, candidate: Candidate
    ) -> WholeAnswer | StreamedAnswer:
        """Try candidates until one answers; what went wrong last is what the caller hears."""
        deadline_ms = plan.policy.spec.deadline_ms
        if ask.view.deadline_ms is not None:
            deadline_ms = min(deadline_ms, ask.view.deadline_ms)
        until = self.clock() + deadline_ms / 1000
        following: Candidate | None = candidate
        failure: UpstreamError | None = None
        while following is not None:
            call.candidate = candidate = following
            try:
                answer = await self._attempt(caller, call, ask, candidate, until=until)
            except UpstreamError as error:
                failure = error
                call.tried.append(_tried(candidate, error))
            else:
                call.answer = answer
                return answer
            if self.clock() >= until:
                raise DeadlineExceeded(
                    f"no answer within the deadline of {deadline_ms} ms "
                    f"({len(call.attempts)} attempts)"
                ) from failure
            following = self._following(call, plan, call.tried)
        raise _exhausted(failure, len(call.attempts)) from failure

    def _following(self, call: Call, plan: Plan, tried: Sequence[Tried]) -> Candidate | None:
        if len(tried) >= plan.policy.spec.attempts:
            return None
        return next_candidate(plan, tried, self.signals, now=self.clock(), rng=self.rng)

    async def _attempt(
        self, caller: Caller, call: Call, ask: Ask, candidate: Candidate, *, until: float
    ) -> WholeAnswer | StreamedAnswer:
        """Try one endpoint; it counts as in flight until the attempt fails or the call ends."""
        endpoint = candidate.endpoint
        signal = self.signals[endpoint.id]
        request = self._request(caller, call, ask, endpoint)
        call.attempt_at = self.clock()
        signal.in_flight += 1
        failure = "cancelled"
        try:
            answer = await self._bounded(call, ask, candidate, request, until=until, signal=signal)
            failure = ""
        except UpstreamError as error:
            failure = error.failure
            self.faults.note(endpoint, error, now_s=self.clock())
            raise
        finally:
            now = self.clock()
            if failure:
                signal.in_flight -= 1
            else:
                call.holding = signal
            attempt = Attempt(
                endpoint.backend.name,
                endpoint.id,
                candidate.tier.name,
                failure,
                now - call.attempt_at,
            )
            call.attempts.append(attempt)
            if call.span is not None:
                call.span.end_attempt(attempt)
        return answer

    async def _bounded(
        self,
        call: Call,
        ask: Ask,
        candidate: Candidate,
        request: Request,
        *,
        until: float,
        signal: EndpointSignal,
    ) -> WholeAnswer | StreamedAnswer:
        """Open an answer within the attempt's time, and tell the endpoint's signal of it.

        The signal takes the time to the first content of a stream, and to the head of a whole
        answer: each is when that answer's first byte of use is here.
        """
        endpoint = candidate.endpoint
        timeouts = endpoint.backend.spec.timeouts
        bound = self.bounds.until(min(until, call.attempt_at + timeouts.total_ms / 1000))
        patience: Bound | None = None
        if request.stream:
            patience = self._move_on_at(
                call.attempt_at + timeouts.first_token_ms / 1000, call, candidate, bound
            )
        try:
            answer = await open_answer(
                self.upstream, endpoint, request, bound, clock=self.clock, now=self.today
            )
        except TimeoutError as error:
            waited_s = self.clock() - call.attempt_at
            if self.clock() >= until:
                # The caller's haste is no fault of the endpoint: it was at least this slow.
                signal.observe(waited_s, self.clock())
            else:
                signal.observe_error(self.clock())
            raise UpstreamTimeout(f"the upstream gave no answer in {waited_s:.3g} s") from error
        except UpstreamError:
            signal.observe_error(self.clock())
            raise
        finally:
            bound.stop()
            if patience is not None:
                patience.stop()
        if answer.status in _ANY_OK:
            now = self.clock()
            first_at = answer.head_at if isinstance(answer, WholeAnswer) else now
            signal.observe(first_at - call.attempt_at, now)
        return answer

    def _move_on_at(self, at: float, call: Call, candidate: Candidate, bound: Bound) -> Bound:
        """End the attempt at ``at`` if another candidate is left then; else let it run on."""

        def move_on() -> None:
            tried = [*call.tried, Tried(candidate)]
            if call.plan is not None and self._following(call, call.plan, tried) is not None:
                bound.expire()

        patience = self.bounds.until(at)
        patience.watch(move_on)
        return patience

    def _request(self, caller: Caller, call: Call, ask: Ask, endpoint: Endpoint) -> Request:
        backend = endpoint.backend
        headers = to_upstream(caller.headers, api_key=backend.api_key)
        if call.span is not None:
            traced = call.span.begin_attempt(backend.name, endpoint.id)
            headers = [pair for pair in headers if pair[0] not in traced] + [*traced.items()]
        return Request(
            PATHS[caller.api],
            headers,
            body_for(ask, backend.spec.model),
            stream=ask.view.stream,
            hides_usage=ask.adds_usage,
        )

    async def _stream(
        self, caller: Caller, call: Call, answer: StreamedAnswer, headers: list[tuple[str, str]]
    ) -> None:
        call.ttft_s = self.clock() - call.started_at
        timeouts = answer.endpoint.backend.spec.timeouts
        try:
            call.begun = True
            await caller.begin(answer.status, headers)
            await relay(
                answer,
                caller,
                idle_s=timeouts.idle_ms / 1000,
                until=call.attempt_at + timeouts.total_ms / 1000,
            )
            if answer.events.failed:
                # The upstream has told the caller itself, in an event of its own.
                call.error = "upstream_error_event"
            await caller.end()
        finally:
            answer.response.close()

    async def _refuse(self, caller: Caller, call: Call, error: RouterError) -> None:
        """Tell the caller of an error: as the answer, or at the end of a stream that has begun."""
        call.error = error.code
        if call.begun:
            caller.put(error_event(error))
            await caller.end()
            return
        answer = error_answer(error)
        call.status = answer.status
        headers = [*answer.headers, *self._details(call)]
        await caller.send(Answer(answer.status, headers, answer.body))

    def _details(self, call: Call) -> list[tuple[str, str]]:
        return call.details() if self.detail_headers else []

    def _settle(self, call: Call) -> None:
        if call.holding is not None:
            call.holding.in_flight -= 1
        outcome = call.outcome(self.clock())
        self.observe(outcome)
        if call.span is not None:
            call.span.end(outcome)


def _tried(candidate: Candidate, failure: UpstreamError) -> Tried:
    return Tried(candidate, again=failure.again, whole_backend=failure.whole_backend)


def _rejected(rejection: Rejection) -> RouterError:
    match rejection.reason:
        case "model_not_found":
            return NoRoute(rejection.message, param="model")
        case "overloaded":
            return Busy(rejection.message)
        case _:
            return NoCandidate(rejection.message)


def _exhausted(failure: UpstreamError | None, attempts: int) -> RouterError:
    """Return the last failure in the caller's words: nothing of the upstream's own text."""
    if failure is None:
        return NoCandidate("no backend may serve the request")
    tries = "the attempt" if attempts == 1 else f"all {attempts} attempts"
    return type(failure)(
        f"{tries} failed; the last: {failure.message}", retry_after_s=failure.retry_after_s
    )
