"""A proxy without sockets whose upstreams take their time, for a loop of virtual time."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import orjson

from fakes.composers import Told, composer
from fakes.gateway import event, said
from fakes.policies import backend, policy, rule, snapshot, tier
from fakes.readers import reader as constant_reader
from switchboard_dataplane.admission import Admission
from switchboard_dataplane.attempts import Attempts
from switchboard_dataplane.decision.running import Endpoint, Snapshot
from switchboard_dataplane.failover import Failover
from switchboard_dataplane.proxy import Proxy
from switchboard_dataplane.reader import Reader
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.hedging import Hedges
from switchboard_dataplane.signals.retry_budget import RetryBudgets
from switchboard_dataplane.telemetry.outcome import Outcome
from switchboard_dataplane.telemetry.tracing import Tracing
from switchboard_dataplane.upstream.bound import Bound, Bounds
from switchboard_dataplane.upstream.transport import UpstreamResponse
from switchboard_dataplane.wire.answers import Answer
from switchboard_policy import ir
from switchboard_policy.ir import Api

ASKED: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
EVER = 3_600.0
PRICED = ir.Pricing(input_picodollars=1_000_000, output_picodollars=1_000_000)


Step = float | bytes | Exception | asyncio.Event


@dataclass
class Play:
    """What a backend does with a request: the head after ``head_s``, then steps.

    A number among the steps passes time, an event is waited for, bytes are said, an exception is
    raised. ``head_s`` may be an exception, too.
    """

    head_s: float | Exception = 0.0
    steps: Sequence[Step] = ()
    status: int = 200
    media_type: str = "text/event-stream"
    headers: Sequence[tuple[str, str]] = ()


def streams(after_s: float, text: str = "hello", *, head_s: float = 0.0) -> Play:
    """A whole stream, its first content after so long."""
    end = (said(finish_reason="stop"), b"data: [DONE]\n\n")
    return Play(head_s, (after_s - head_s, said(text), *end))


def answers(after_s: float, text: str = "hello") -> Play:
    """A whole answer after so long."""
    body = orjson.dumps({"model": text, "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
    return Play(after_s, (body,), media_type="application/json")


def silent(head_s: float = EVER) -> Play:
    return Play(head_s, (EVER,))


def refuses(after_s: float, status: int = 400, headers: Sequence[tuple[str, str]] = ()) -> Play:
    """An error answer after so long."""
    body = orjson.dumps({"error": {"message": "no", "type": "x"}})
    return Play(after_s, (body,), status, "application/json", headers)


def errs(after_s: float, **error: Any) -> Play:
    """A stream that begins with an error event."""
    return Play(0.0, (after_s, event(error={"message": "no", **error})))


@dataclass
class TimedResponse:
    """An UpstreamResponse; ``closed`` counts how often it was."""

    upstream: "TimedUpstream"
    endpoint: Endpoint
    bound: Bound
    steps: list[Step]
    status: int
    media_type: str
    headers: Sequence[tuple[str, str]] = ()
    closed: int = 0

    async def read(self) -> bytes:
        return await self.bound.over(self._read())

    async def _read(self) -> bytes:
        while self.steps:
            step = self.steps.pop(0)
            if isinstance(step, bytes):
                return step
            if isinstance(step, Exception):
                raise step
            await (step.wait() if isinstance(step, asyncio.Event) else asyncio.sleep(step))
        return b""

    async def pour(
        self, take: Callable[[bytes], bool], ready: Callable[[], Awaitable[None]]
    ) -> None:
        while piece := await self.read():
            if not take(piece):
                await ready()

    def close(self) -> None:
        self.closed += 1
        self.upstream.open.discard(self)

    def __hash__(self) -> int:
        return id(self)


@dataclass
class TimedUpstream:
    """Plays what each backend has, in turn, the last for ever.

    ``sent`` are the backends that were asked, and when; ``open`` what is not given back,
    ``most`` how many were open at a time, at most.
    """

    plays: Mapping[str, Sequence[Play]]
    sent: list[tuple[str, float]] = field(default_factory=list)
    headers: list[Sequence[tuple[str, str]]] = field(default_factory=list)
    responses: list[TimedResponse] = field(default_factory=list)
    open: set[object] = field(default_factory=set)
    most: int = 0

    async def send(
        self,
        endpoint: Endpoint,
        path: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        bound: Bound,
    ) -> UpstreamResponse:
        name = endpoint.backend.name.partition("/")[2]
        plays = self.plays[name]
        play = plays[min(sum(one == name for one, _ in self.sent), len(plays) - 1)]
        self.sent.append((name, asyncio.get_running_loop().time()))
        self.headers.append(headers)
        exchange = object()
        self.open.add(exchange)
        self.most = max(self.most, len(self.open))
        try:
            if isinstance(play.head_s, Exception):
                raise play.head_s
            await bound.over(asyncio.sleep(play.head_s))
        finally:
            self.open.discard(exchange)
        response = TimedResponse(
            self, endpoint, bound, [*play.steps], play.status, play.media_type, play.headers
        )
        self.open.add(response)
        self.responses.append(response)
        return response

    async def close(self) -> None:
        return


@dataclass
class TimedCaller:
    """A caller that keeps what it is told, and when its answer began."""

    fields: Mapping[str, Any] = field(default_factory=lambda: {"stream": True})
    api: Api = "chat"
    headers: MutableMapping[str, str] = field(default_factory=dict)
    peer: str = ""
    told: dict[str, str] = field(default_factory=dict)
    status: int = 0
    body: bytes = b""
    begun_at: float = 0.0
    ended: bool = False

    async def read_body(self) -> bytes:
        return orjson.dumps(ASKED | dict(self.fields))

    async def send(self, answer: Answer) -> None:
        await self.begin(answer.status, answer.headers)
        self.body, self.ended = answer.body, True

    async def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        assert not self.status, "an answer begins once"
        self.status, self.told = status, {name.lower(): value for name, value in headers}
        self.begun_at = asyncio.get_running_loop().time()

    def put(self, data: bytes) -> bool:
        assert not self.ended
        self.body += data
        return True

    async def drained(self) -> None:
        return

    async def end(self) -> None:
        self.ended = True

    @property
    def reason(self) -> str:
        return self.told["x-switchboard-reason"]


@dataclass
class TimedStage:
    """A proxy with its surroundings: backends by name, what they do, and one rule."""

    upstream: TimedUpstream
    snapshot: Snapshot
    signals: SignalTable = field(default_factory=SignalTable)
    hedges: Hedges = field(default_factory=Hedges)
    outcomes: list[Outcome] = field(default_factory=list)
    bounds: list[Bounds] = field(default_factory=list)
    left: bool = False
    tracing: Tracing | None = None
    reader: Reader = field(default_factory=constant_reader)
    told: Told = field(default_factory=Told)

    def proxy(self) -> Proxy:
        loop = asyncio.get_running_loop()
        today, rng = lambda: datetime(2026, 1, 1, tzinfo=UTC), Random(7)
        admission = Admission(
            reader=self.reader,
            snapshot=lambda: self.snapshot,
            signals=self.signals,
            clock=loop.time,
            rng=rng,
        )
        failover = Failover(
            signals=self.signals,
            admission=admission,
            budgets=RetryBudgets(),
            clock=loop.time,
            today=today,
            rng=rng,
        )
        self.bounds.append(Bounds(clock=loop.time, call_later=loop.call_later))
        attempts = Attempts(
            failover=failover,
            hedges=self.hedges,
            upstream=self.upstream,
            bounds=self.bounds[-1],
            clock=loop.time,
            today=today,
        )
        return Proxy(
            reader=self.reader,
            snapshot=lambda: self.snapshot,
            signals=self.signals,
            failover=failover,
            admission=admission,
            attempts=attempts,
            composer=composer(attempts, self.told),
            observe=self.outcomes.append,
            shutting_down=lambda: self.left,
            clock=loop.time,
            rng=rng,
            tracing=self.tracing,
        )

    async def serve(
        self, caller: TimedCaller | None = None, *, leaves_after_s: float | None = None
    ) -> tuple[TimedCaller, Outcome]:
        """Serve a caller, who may leave; afterwards nothing of the request is left."""
        caller = caller or TimedCaller()
        number = len(self.outcomes)
        async with self.settled():
            serving = asyncio.create_task(self.proxy().serve(caller))
            await asyncio.wait({serving}, timeout=leaves_after_s)
            if not serving.done():
                serving.cancel()
                # Within a tenth of a second.
                await asyncio.wait({serving}, timeout=0.1)
            assert serving.done()
            if not serving.cancelled():
                serving.result()
        return caller, self.outcomes[number]

    @asynccontextmanager
    async def settled(self) -> AsyncGenerator[None]:
        """Check that the block leaves no task, no time, nothing in flight, and no exchange open."""
        tasks = asyncio.all_tasks()
        yield
        assert asyncio.all_tasks() <= tasks
        assert not self.upstream.open
        assert not any(bounds._open for bounds in self.bounds)
        assert {response.closed for response in self.upstream.responses} <= {1}
        for signal in self.signals.values():
            assert (signal.in_flight, signal.waiting, signal.backend.in_flight) == (0, 0, 0)


def staged(*tiers: Sequence[str], **plays: Play | Sequence[Play]) -> TimedStage:
    """A stage with a tier for each sequence of names."""
    return staged_with({}, *tiers, **plays)


def staged_with(
    fields: Mapping[str, Any], *tiers: Sequence[str], **plays: Play | Sequence[Play]
) -> TimedStage:
    """A stage whose policy has these fields; a first token is late after ten seconds."""
    built = [tier(f"tier-{number}", *names) for number, names in enumerate(tiers)]
    entries = [
        backend(name, timeouts=ir.Timeouts(first_token_ms=10_000), pricing=PRICED)
        for names in tiers
        for name in names
    ]
    said_by = {name: [one] if isinstance(one, Play) else one for name, one in plays.items()}
    return TimedStage(
        TimedUpstream(said_by),
        snapshot(policy("chat", rule("default", *built), **fields), *entries),
    )
