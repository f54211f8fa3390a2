"""Requests that hold endpoints for a time, around the admission of a data plane; no sockets."""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fakes.policies import endpoints, service, snapshot, view
from fakes.readers import reader
from switchboard_dataplane.admission import Admission
from switchboard_dataplane.call import Call
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Decision, Rejection, Resting, Waiting
from switchboard_dataplane.errors import DeadlineExceeded
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir

QUEUE = ir.Queue(max_waiting=3, max_wait_ms=10_000)


def pool(name: str, count: int = 1, **fields: Any) -> tuple[ir.Backend, ir.Endpoints]:
    """A service with so many endpoints of one slot each and a queue."""
    said = {"max_in_flight": 1, "queue": QUEUE} | fields
    at = endpoints(name, *(f"10.0.{ord(name[0])}.{number}:80" for number in range(count)))
    return service(name, **said), at


@dataclass
class Bench:
    """Requests that hold an endpoint for a time; ``log`` tells who was sent where, in order."""

    snapshot: Snapshot | None
    signals: SignalTable = field(default_factory=SignalTable)
    log: list[tuple[str, str]] = field(default_factory=list)
    calls: dict[str, Call] = field(default_factory=dict)
    admission: Admission = field(init=False)

    def __post_init__(self) -> None:
        self.admission = Admission(
            reader=reader(),
            snapshot=lambda: self.snapshot,
            signals=self.signals,
            clock=self.now,
            rng=Random(1),
        )

    @staticmethod
    def now() -> float:
        return asyncio.get_running_loop().time()

    async def ask(self, name: str, *, takes_s: float = 1.0, **fields: Any) -> str:
        """Send a request; return what became of it: where it went, or why it did not."""
        asked, call = view(**fields), Call("chat", self.now())
        self.calls[name] = call
        assert self.snapshot is not None
        verdict: Decision | Waiting | Resting | Rejection = decide(
            self.snapshot, asked, self.signals, now=self.now(), rng=Random(1)
        )
        try:
            if isinstance(verdict, Waiting):
                verdict = await self.admission.wait(call, asked, verdict)
        except DeadlineExceeded:
            return "deadline"
        if not isinstance(verdict, Decision):
            return verdict.reason if isinstance(verdict, Rejection) else "resting"
        call.plan, call.candidate = verdict.plan, verdict.candidate
        endpoint = verdict.candidate.endpoint
        signal, since = self.signals[endpoint.id], self.now()
        signal.dispatched(since)
        limit = endpoint.backend.spec.max_in_flight or 1_000
        assert signal.in_flight <= limit, "more than the endpoint takes"
        self.log.append((name, endpoint.backend.name.removeprefix("ai/")))
        try:
            await asyncio.sleep(takes_s)
        finally:
            signal.heard()
            signal.released(self.now(), since=since)
        return self.log[-1][1] and endpoint.backend.name.removeprefix("ai/")

    def start(self, name: str, **fields: Any) -> "asyncio.Task[str]":
        return asyncio.create_task(self.ask(name, **fields))

    def swap(self, *entries: ir.Entry, changed: set[str] | None = None) -> None:
        self.snapshot = snapshot(*entries)
        self.signals.queues.rouse(changed)
        self.signals.waking.rouse(changed)

    @property
    def waiting(self) -> int:
        both = *self.signals.queues.values(), *self.signals.waking.values()
        return sum(len(queue.waiting) for queue in both)

    def assert_idle(self) -> None:
        assert self.waiting == 0
        assert {one.in_flight for one in self.signals.values()} <= {0}
        for queue in (*self.signals.queues, *self.signals.waking):
            assert self.signals.backend(queue).in_flight == 0
