"""A request waits before its first attempt, and is decided anew whenever something has changed.

It binds the snapshot with the decision that ends its wait: what was deleted or forbidden meanwhile
does not serve it, what came meanwhile does.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf

from switchboard_dataplane.call import Call
from switchboard_dataplane.decision.candidates import next_candidate
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.eligible import abilities_of
from switchboard_dataplane.decision.following import Wait
from switchboard_dataplane.decision.match import find_policy
from switchboard_dataplane.decision.patience import wait_for
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.scene import Rng
from switchboard_dataplane.decision.verdict import (
    Candidate,
    Decision,
    Plan,
    Rejection,
    Resting,
    Tried,
    Waiting,
)
from switchboard_dataplane.errors import DeadlineExceeded, NotReady
from switchboard_dataplane.reader import Reader
from switchboard_dataplane.signals.admission import BackendQueue, Waiter
from switchboard_dataplane.signals.endpoints import SignalTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Lets requests wait. ``clock`` is the event loop's; ``snapshot`` the one in force."""

    snapshot: Callable[[], Snapshot | None]
    reader: Reader
    signals: SignalTable
    clock: Callable[[], float]
    rng: Rng
    _arrivals: "count[int]" = field(default_factory=count)

    async def wait(
        self, call: Call, view: RequestView, verdict: Waiting
    ) -> Decision | Resting | Rejection:
        """Wait until the request can be sent, or need not wait any more; return what is decided.

        Raises DeadlineExceeded. Whatever ends the wait, the request has left all queues and the
        slot that was kept for it has gone to it or to the next when this returns.
        """
        awake = asyncio.Event()
        waiter = self._waiter(call, view.priority, awake)
        try:
            while True:
                # What was asked before the wait is of the same time.
                until = min(call.until or inf, verdict.deadline)
                call.plan, call.until = verdict.plan, until
                self._enter(waiter, verdict)
                await self._sleep(waiter, awake, until=verdict.until)
                decided = self._decide(call, view, waiter)
                if not isinstance(decided, Waiting):
                    return decided
                verdict = decided
        finally:
            self._leave(waiter)

    async def wait_again(
        self,
        call: Call,
        plan: Plan,
        following: Callable[[], Candidate | Wait | None],
        *,
        wakes: bool = False,
    ) -> Candidate | Wait | None:
        """Wait for an endpoint after an attempt that failed, where all others are full.

        Return what is ``following`` then; None where there is nothing to wait for. The request has
        the place in the queues of when it came, and keeps its snapshot. One that ``wakes`` waits
        for the first endpoint of a backend, too.
        """
        plan = _beside(plan, call.tried)
        abilities = abilities_of(plan.snapshot, plan.policy)
        awake = asyncio.Event()
        waiter = self._waiter(call, plan.view.priority, awake)
        try:
            while len(call.tried) < plan.policy.spec.attempts:
                now = self.clock()
                verdict = wait_for(
                    plan,
                    abilities,
                    self.signals,
                    waiter,
                    now=now,
                    rng=self.rng,
                    until=call.until,
                )
                if verdict is None or now >= call.until:
                    return None
                if not wakes:
                    verdict = replace(verdict, wakes=())
                if not (verdict.queues or verdict.wakes):
                    return None
                if next_candidate(plan, call.tried, self.signals, now=now, rng=self.rng):
                    # It is free, and the retry budget does not allow it.
                    return None
                self._enter(waiter, verdict)
                await self._sleep(waiter, awake, until=verdict.until)
                slot, step = waiter.give_back(), following()
                if slot is not None and not (
                    isinstance(step, Candidate) and self.signals[step.endpoint.id] is slot
                ):
                    # What has failed this one may serve the next.
                    slot.offer(after=waiter)
                if step is not None:
                    return step
            return None
        finally:
            self._leave(waiter)

    def _waiter(self, call: Call, priority: int, awake: asyncio.Event) -> Waiter:
        place = (-priority, call.started_at, next(self._arrivals))
        return Waiter(place, self.clock(), awake.set)

    def _leave(self, waiter: Waiter) -> None:
        _move(waiter, waiter.queues, (), self.signals.queue)
        _move(waiter, waiter.wakes, (), self.signals.queue)
        slot = waiter.give_back()
        if slot is not None:
            slot.offer()

    async def _sleep(self, waiter: Waiter, awake: asyncio.Event, *, until: float) -> None:
        awake.clear()
        waiter.alert = False
        try:
            async with asyncio.timeout_at(until):
                await awake.wait()
        except TimeoutError:
            pass
        finally:
            waiter.alert = True

    def _decide(
        self, call: Call, view: RequestView, waiter: Waiter
    ) -> Decision | Waiting | Resting | Rejection:
        snapshot = call.snapshot = self.snapshot()
        if snapshot is None:
            raise NotReady("the policy has left this gateway; send the request again")
        policy = find_policy(snapshot, view.model)
        if policy is not None and policy.readings:
            # Another than the one that it came under may want to know more.
            self.reader.read_now(policy, view)
        slot, now = waiter.give_back(), self.clock()
        decided = decide(snapshot, view, self.signals, now=now, rng=self.rng, waiter=waiter)
        if isinstance(decided, Waiting):
            # The endpoint is out, or rests, or is still full: it is so for the next as well.
            return decided
        if slot is not None and not (
            isinstance(decided, Decision) and self.signals[decided.candidate.endpoint.id] is slot
        ):
            slot.offer()
        if isinstance(decided, Rejection) and now >= call.until:
            raise DeadlineExceeded(
                f"no endpoint was free within the deadline of {call.until - waiter.since:.3g} s"
            )
        return decided

    def _enter(self, waiter: Waiter, verdict: Waiting) -> None:
        """Let it wait in these queues, and in no others."""
        if verdict.queues and waiter.queued_at == inf:
            waiter.queued_at = self.clock()
        _move(waiter, waiter.queues, verdict.queues, self.signals.queue)
        _move(waiter, waiter.wakes, verdict.wakes, self.signals.waking.__getitem__)


def _move(
    waiter: Waiter,
    inside: dict[str, BackendQueue],
    wanted: Sequence[tuple[str, int]],
    queue_of: Callable[[str], BackendQueue],
) -> None:
    names = {name for name, _ in wanted}
    for name in inside.keys() - names:
        inside.pop(name).leave(waiter)
    for name, most in wanted:
        if name not in inside:
            inside[name] = queue_of(name)
            gave_way = inside[name].enter(waiter, most)
            if gave_way is not None:
                # It is told so by the decision that follows.
                gave_way.drop(inside[name])


def _beside(plan: Plan, tried: Sequence[Tried]) -> Plan:
    """Return the plan without what has failed the request."""
    spent = frozenset(one.candidate.endpoint.id for one in tried)
    eligible = plan.eligible
    for one in tried:
        if one.whole_backend:
            eligible &= ~(1 << plan.policy.backends.index(one.candidate.endpoint.backend.name))
    return plan.narrowed(eligible, plan.resting | spent)
