"""What a request does next when an attempt fails, and what the next requests learn from it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from switchboard_dataplane.admission import Admission
from switchboard_dataplane.call import Call
from switchboard_dataplane.decision.following import Now, Wait, follow, widen
from switchboard_dataplane.decision.resting import announced_mark, mark_of, next_return
from switchboard_dataplane.decision.running import Backend
from switchboard_dataplane.decision.scene import Rng
from switchboard_dataplane.decision.verdict import Candidate, Plan, Tried
from switchboard_dataplane.errors import (
    NoCandidate,
    RouterError,
    UpstreamContextOverflow,
    UpstreamError,
)
from switchboard_dataplane.race import Answer, Run, tried_so_far
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.retry_budget import RetryBudgets
from switchboard_dataplane.upstream.attempt import StreamedAnswer
from switchboard_dataplane.upstream.failures import read_error, retold, still_resting
from switchboard_dataplane.upstream.overflow import OVERFLOW_STATUSES, find_overflow
from switchboard_dataplane.upstream.rate_limits import read_announced


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """The steps between attempts. ``clock`` is the event loop's, ``today`` the time of day."""

    signals: SignalTable
    budgets: RetryBudgets
    admission: Admission
    clock: Callable[[], float]
    today: Callable[[], datetime]
    rng: Rng

    def following(
        self, call: Call, plan: Plan, tried: Sequence[Tried], *, hedges: bool = False
    ) -> Candidate | Wait | None:
        """Return what comes after these attempts; None if nothing is left.

        What ``hedges`` has a budget of its own.
        """
        now, policy = self.clock(), plan.policy

        def allow_repeat() -> bool:
            if hedges:
                return True
            allowed = self.budgets[policy.name].allow_repeat(
                now, permille=policy.spec.retry_budget_permille
            )
            call.retries_denied += not allowed
            return allowed

        at = Now(now, call.until, self.rng, call.waited_s, allow_repeat)
        return follow(plan, tried, self.signals, at)

    async def ready(
        self, call: Call, plan: Plan, step: Candidate | Wait | None, failure: UpstreamError | None
    ) -> Candidate:
        """Return the candidate of a step, after its wait.

        Raises what the caller hears where nothing is left: the last ``failure``, or, where no
        attempt was made, that everything rests.
        """
        while not isinstance(step, Candidate):
            if step is None and call.tried:
                following = partial(self.following, call, plan, call.tried)
                step = await self.admission.wait_again(call, plan, following)
            if step is None:
                raise self._exhausted(call, plan, failure) from failure
            if isinstance(step, Candidate):
                return step
            call.waited_s += step.asked_s
            await asyncio.sleep(step.until - self.clock())
            step = step.candidate or self.following(call, plan, call.tried)
        return step

    def learn(self, call: Call, candidate: Candidate, failure: UpstreamError) -> None:
        """Remember a failure: for this request, and what it says of those to come."""
        call.tried.append(tried_of(candidate, failure))
        mark = mark_of(candidate.endpoint, failure)
        if mark is not None:
            self.signals.marks.put(mark, self.clock())

    def heed(self, backend: Backend, answer: Answer) -> None:
        """Remember that an answer calls itself the last for a while, as providers' do."""
        # What comes of a gateway tells of one of the accounts behind it.
        of_account = backend.spec.external and backend.spec.provider != "switchboard"
        rest_s = read_announced(answer.headers, now=self.today) if of_account else None
        if rest_s is not None:
            self.signals.marks.put(announced_mark(backend, rest_s), self.clock())

    def pass_overflow_on(self, call: Call, run: Run, answer: Answer) -> None:
        """Raise UpstreamContextOverflow where a model with a larger window takes over."""
        if answer.status not in OVERFLOW_STATUSES or isinstance(answer, StreamedAnswer):
            return
        tokens = find_overflow(read_error(answer.body))
        if tokens is None or call.plan is None or self.clock() >= call.until:
            return
        candidate = run.candidate
        wider = widen(call.plan, candidate.endpoint.backend, tokens)
        if wider is None:
            return
        beside = [] if call.race is None else tried_so_far(call.race.beside(run))
        tried = [*call.tried, *beside, Tried(candidate, whole_backend=True)]
        step = self.following(call, wider, tried)
        if step is not None:
            call.plan, call.next_step = wider, step
            raise UpstreamContextOverflow("the prompt is longer than the model's context window")

    def _exhausted(self, call: Call, plan: Plan, failure: UpstreamError | None) -> RouterError:
        if failure is not None:
            return retold(failure, attempts=len(call.attempts))
        now = self.clock()
        back = next_return(plan, call.tried, self.signals, now=now, rng=self.rng)
        if back is not None:
            return still_resting(back.failure, back.in_s)
        return NoCandidate("no backend may serve the request")


def tried_of(candidate: Candidate, failure: UpstreamError) -> Tried:
    """Return an attempt that failed, as a decision sees it."""
    return Tried(
        candidate,
        again=failure.again,
        whole_backend=failure.whole_backend,
        failure=failure.failure,
        retry_after_s=failure.retry_after_s,
    )
