"""From a candidate to an answer: one attempt after another, or two at a time, until one has it.

An attempt runs in the request's own task. Where it stays silent for too long another begins beside
it, in a task of its own: the first content wins, and the other is ended at once. Nothing is paid
for that by a request whose first attempt answers in time.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from switchboard_dataplane.call import Call
from switchboard_dataplane.decision.following import Wait, others_left
from switchboard_dataplane.decision.verdict import Candidate, Plan, Tried
from switchboard_dataplane.errors import DeadlineExceeded, UpstreamError, UpstreamTimeout
from switchboard_dataplane.failover import Failover
from switchboard_dataplane.race import (
    RUNS_MAX,
    Answer,
    BegunBy,
    Lost,
    Race,
    Run,
    tried_so_far,
)
from switchboard_dataplane.signals.endpoints import prompt_class
from switchboard_dataplane.signals.engine import reported
from switchboard_dataplane.signals.hedging import Hedges, Kind
from switchboard_dataplane.upstream.attempt import (
    Request,
    StreamedAnswer,
    WholeAnswer,
    open_answer,
)
from switchboard_dataplane.upstream.bound import Bound, Bounds
from switchboard_dataplane.upstream.fault_log import FaultLog
from switchboard_dataplane.upstream.gateway_token import GatewayToken
from switchboard_dataplane.upstream.transport import Upstream
from switchboard_dataplane.wire.asks import PATHS, Ask, body_for
from switchboard_dataplane.wire.headers import to_upstream
from switchboard_policy import ir

_ANY_OK: Final = range(200, 300)
#: After what share of its silence so far another candidate is looked for anew, where all were busy.
LOOK_AGAIN: Final = 0.1


class _Asked:
    """What all attempts of a request have in common."""

    def __init__(self, call: Call, ask: Ask, plan: Plan, headers: Mapping[str, str]) -> None:
        self.call: Final = call
        self.ask: Final = ask
        self.plan: Final = plan
        self.headers: Final = headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """Makes the attempts of requests. ``clock`` is the event loop's, ``today`` the time of day.

    ``gateway_token`` is what a sidecar shows to its gateway.
    """

    failover: Failover
    hedges: Hedges
    upstream: Upstream
    bounds: Bounds
    clock: Callable[[], float]
    today: Callable[[], datetime]
    faults: FaultLog = field(default_factory=FaultLog)
    gateway_token: GatewayToken = field(default_factory=GatewayToken)

    async def first_answer(
        self,
        call: Call,
        ask: Ask,
        plan: Plan,
        headers: Mapping[str, str],
        step: Candidate | Wait | None,
    ) -> Answer:
        """Try candidates until one answers; what went wrong last is what the caller hears.

        ``headers`` are the caller's, ``step`` the first one if it is known.
        """
        policy = plan.policy.spec
        deadline_ms = policy.deadline_ms
        if ask.view.deadline_ms is not None:
            deadline_ms = min(deadline_ms, ask.view.deadline_ms)
        if not call.until:
            # A restart of a stream has what is left of it.
            call.until = self.clock() + deadline_ms / 1000
        if policy.hedge is not None and not call.attempts:
            self.hedges.count_request(policy.name, permille=policy.hedge.budget_permille)
        call.begin_anew()
        asked = _Asked(call, ask, plan, headers)
        try:
            return await self._until_answered(asked, step, deadline_ms=deadline_ms)
        except BaseException as error:  # noqa: BLE001 - whatever ends it, it is raised again
            ended = error
        # Not in a finally: compiled, one that waits loses what it was to raise.
        if call.race is not None:
            await self._abandon(call, call.race)
        raise ended

    async def _until_answered(
        self, asked: _Asked, step: Candidate | Wait | None, *, deadline_ms: int
    ) -> Answer:
        call = asked.call
        while True:
            plan = call.plan or asked.plan
            step = step or self.failover.following(call, plan, call.tried)
            if not isinstance(step, Candidate):
                step = await self.failover.ready(call, plan, step, call.failure)
            run = self._begin(step)
            answer = await self._attempt(asked, run)
            if call.race is not None:
                run, answer = await self._settle(call, call.race, run)
            if answer is not None:
                call.take(run, answer, self.clock())
                self.failover.heed(run.candidate.endpoint.backend, answer)
                return answer
            if self.clock() >= call.until:
                raise DeadlineExceeded(
                    f"no answer within the deadline of {deadline_ms} ms "
                    f"({len(call.attempts)} attempts)"
                ) from call.failure
            step = call.take_next_step()

    async def _attempt(self, asked: _Asked, run: Run) -> Answer | None:
        """Try one endpoint; None if that fails."""
        call, candidate = asked.call, run.candidate
        if run.lost:
            self._forget(call, run)
            return None
        if call.race is None:
            call.candidate, call.attempt_at = candidate, run.began_at
        answer: Answer | None = None
        failure = "cancelled"
        try:
            answer = await self._bounded(asked, run, self._request(asked, run))
            self.failover.pass_overflow_on(call, run, answer)
            if call.race is not None:
                self._finish(call.race, run, answer)
            failure = ""
        except Lost:
            answer, failure = None, "timeout" if run.late else "lost"
            call.tried.append(Tried(candidate, failure=failure))
        except UpstreamError as error:
            answer, failure = None, error.failure
            call.failure = error
            self.faults.note(candidate.endpoint, error, now_s=self.clock())
            self.failover.learn(call, candidate, error)
        finally:
            run.stop()
            run.signal.heard()
            if failure:
                self._end(call, run, failure)
        if answer is None and call.race is not None:
            self._go_on(asked, call.race.runs)
        return answer

    async def _bounded(self, asked: _Asked, run: Run, request: Request) -> Answer:
        """Open an answer within the attempt's time, and tell the endpoint's signal of it.

        The signal takes the time to the first content of a stream, and to the head of a whole
        answer: each is when that answer's first byte of use is here.
        """
        call, tokens, signal, began_at = asked.call, asked.ask.view.tokens, run.signal, run.began_at
        endpoint = run.candidate.endpoint
        total_at = began_at + endpoint.backend.spec.timeouts.total_ms / 1000
        bound = run.bound = self.bounds.until(min(call.until, total_at))
        self._be_patient(asked, run)
        try:
            answer = await open_answer(
                self.upstream, endpoint, request, bound, clock=self.clock, now=self.today
            )
        except TimeoutError as error:
            now = self.clock()
            waited_s = now - began_at
            signal.silent(waited_s, now, tokens=tokens, stream=request.stream)
            self._note_time(asked, run, waited_s, now)
            if now < call.until and (run.late or not run.lost):
                # Else it was the caller's haste, or ours, which is no fault of the endpoint.
                signal.failed("timeout", now, since=began_at)
            if run.lost:
                raise Lost from error
            raise UpstreamTimeout(f"the upstream gave no answer in {waited_s:.3g} s") from error
        except UpstreamError as error:
            signal.failed(error.failure, self.clock(), since=began_at)
            raise
        now = self.clock()
        if endpoint.backend.spec.telemetry is not None:
            signal.engine = reported(answer.headers, now, signal.engine)
        if answer.status in _ANY_OK:
            first_at = answer.head_at if isinstance(answer, WholeAnswer) else now
            stream = isinstance(answer, StreamedAnswer)
            signal.answered(first_at - began_at, now, since=began_at, tokens=tokens, stream=stream)
            if asked.plan.policy.spec.hedge is not None:
                self._note_time(asked, run, now - began_at, now)
        else:
            signal.refused(now, since=began_at)
        return answer

    def _request(self, asked: _Asked, run: Run) -> Request:
        endpoint, ask, call = run.candidate.endpoint, asked.ask, asked.call
        backend = endpoint.backend
        if backend.spec.provider == "switchboard":
            headers = to_upstream(asked.headers, api_key=self.gateway_token.value, hints=True)
        else:
            headers = to_upstream(asked.headers, api_key=backend.api_key)
        if call.span is not None:
            run.span = call.span.begin_attempt(backend.name, endpoint.id)
            traced = run.span.headers
            headers = [pair for pair in headers if pair[0] not in traced] + [*traced.items()]
        return Request(
            PATHS[call.api],
            headers,
            body_for(ask, backend.spec.model),
            stream=ask.view.stream,
            hides_usage=ask.adds_usage,
            choices=ask.choices,
        )

    def _begin(self, candidate: Candidate, begun_by: BegunBy = "") -> Run:
        """Begin an attempt: it counts as in flight until it fails or the call ends."""
        run = Run(candidate, self.failover.signals[candidate.endpoint.id], self.clock(), begun_by)
        run.signal.dispatched(run.began_at)
        return run

    def _end(self, call: Call, run: Run, failure: str) -> None:
        now = self.clock()
        run.signal.released(now, since=run.began_at)
        call.record(run, failure, now)

    # --- more than one at a time ------------------------------------------------------------

    def _be_patient(self, asked: _Asked, run: Run) -> None:
        """Arrange for what is done if a run stays silent: a hedge first, then a late race."""
        stream, hedge = asked.ask.view.stream, asked.plan.policy.spec.hedge
        if hedge is None and not stream:
            return
        timeouts = run.candidate.endpoint.backend.spec.timeouts
        late_at = run.began_at + timeouts.first_token_ms / 1000 if stream else math.inf
        hedge_at = math.inf if hedge is None else self._hedge_at(asked, run, hedge)

        def late() -> None:
            run.late = True
            self._go_on(asked, asked.call.race.runs if asked.call.race is not None else [run])

        def silent() -> None:
            if stream:
                run.patience = self._at(late_at, late)
            self._hedge(asked, run)

        if hedge_at < late_at:
            run.patience = self._at(hedge_at, silent)
        elif stream:
            run.patience = self._at(late_at, late)

    def _at(self, time: float, act: Callable[[], None]) -> Bound:
        bound = self.bounds.until(time)
        bound.watch(act)
        return bound

    def _go_on(self, asked: _Asked, runs: list[Run]) -> None:
        """Begin another attempt where all that are under way are late, and a candidate is left.

        The oldest of two gives way to it.
        """
        call, race = asked.call, asked.call.race
        if race is not None and (race.won is not None or race.held is not None):
            return
        if not runs or not all(run.late for run in runs) or self.clock() >= call.until:
            return
        plan = call.plan or asked.plan
        tried = [*call.tried, *tried_so_far(runs)]
        denied = call.retries_denied
        step = call.next_step
        if not isinstance(step, Candidate):
            step = self.failover.following(call, plan, tried)
        if not isinstance(step, Candidate):
            if call.retries_denied == denied and others_left(plan, tried):
                # They are full, or rest: for now.
                self._look_again(asked, runs)
            return
        if len(runs) >= RUNS_MAX:
            # Its end leads here again.
            call.next_step = step
            runs[0].give_up()
            return
        call.next_step = None
        self._begin_beside(asked, runs[0], step, "raced")

    def _look_again(self, asked: _Asked, runs: list[Run]) -> None:
        oldest, call = runs[0], asked.call

        def again() -> None:
            self._go_on(asked, runs if call.race is None else call.race.runs)

        if oldest.patience is not None:
            oldest.patience.stop()
        now = self.clock()
        oldest.patience = self._at(now + LOOK_AGAIN * (now - oldest.began_at), again)

    def _hedge_at(self, asked: _Asked, run: Run, hedge: ir.Hedge) -> float:
        """Return when a run is worth a second start; infinity where it never is."""
        if asked.call.race is not None:
            return math.inf
        if hedge.after_ms:
            return run.began_at + hedge.after_ms / 1000
        p95_s = self.hedges.p95_s(_kind(asked, run), run.began_at)
        return math.inf if p95_s is None else run.began_at + p95_s

    def _hedge(self, asked: _Asked, run: Run) -> None:
        call, policy = asked.call, asked.plan.policy.name
        if call.race is not None or not self.hedges.may_start(policy):
            return
        plan = call.plan or asked.plan
        tried = [*call.tried, *tried_so_far([run])]
        step = self.failover.following(call, plan, tried, hedges=True)
        if isinstance(step, Candidate) and not step.panic:
            self.hedges.started(policy)
            self._begin_beside(asked, run, step, "hedged")

    def _begin_beside(
        self, asked: _Asked, first: Run, candidate: Candidate, begun_by: BegunBy
    ) -> None:
        call = asked.call
        race = call.race = call.race or Race(first)
        run = self._begin(candidate, begun_by)
        race.join(run, asyncio.get_running_loop().create_task(self._attempt(asked, run)))

    def _finish(self, race: Race, run: Run, answer: Answer) -> None:
        """Take in an answer that can go out; raise Lost where another's content came first."""
        if not race.finish(run, answer):
            run.lost = True
            _close(answer)
            raise Lost
        if race.won is None:
            # The other may still do better; it need not take for ever.
            for other in race.beside(run):
                timeouts = other.candidate.endpoint.backend.spec.timeouts
                if other.patience is not None:
                    other.patience.stop()
                last_call = self.clock() + timeouts.first_token_ms / 1000
                other.patience = self._at(last_call, race.concede)

    async def _settle(self, call: Call, race: Race, run: Run) -> tuple[Run, Answer | None]:
        """Wait for the end of a race; return who won, with its answer."""
        won = await race.settled()
        if race.held is not None and (won is None or race.held[0] is not won[0]):
            refused = race.held[0]
            refused.lost = True
            call.tried.append(Tried(refused.candidate, whole_backend=True))
            self._end(call, refused, "lost")
        call.end_race(race, None if won is None else won[0])
        return (run, None) if won is None else won

    async def _abandon(self, call: Call, race: Race) -> None:
        """End what is left of a race whose request is over, for its caller has left."""
        await race.cancel()
        unheard = [race.won, None if race.held is race.won else race.held]
        for run, answer in filter(None, unheard):
            _close(answer)
            self._end(call, run, "cancelled")
        for run in [*race.runs]:
            self._forget(call, run)
        call.end_race(race, None)

    def _forget(self, call: Call, run: Run) -> None:
        """Count an attempt out that was ended in the turn in which it began: nothing was sent."""
        run.signal.heard()
        run.signal.released(self.clock(), since=run.began_at)
        if call.race is not None:
            call.race.leave(run)

    def _note_time(self, asked: _Asked, run: Run, seconds: float, now: float) -> None:
        """Remember how long such a request takes, where a hedge goes by that."""
        hedge = asked.plan.policy.spec.hedge
        if hedge is not None and not hedge.after_ms:
            self.hedges.took(_kind(asked, run), seconds, now)


def _kind(asked: _Asked, run: Run) -> Kind:
    plan, view = asked.plan, asked.ask.view
    return Kind(
        plan.policy.name,
        plan.rule.name,
        run.candidate.tier.name,
        asked.call.api,
        view.stream,
        prompt_class(view.tokens),
    )


def _close(answer: Answer) -> None:
    if isinstance(answer, StreamedAnswer):
        answer.response.close()
