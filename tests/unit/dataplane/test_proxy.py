"""The hot path without sockets: a caller and an upstream that are plain objects."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import orjson
import pytest

from fakes.composers import composer
from fakes.policies import backend, client, policy, rule, snapshot, tier
from fakes.readers import reader
from switchboard_dataplane.access.identify import LETS_ANYBODY_IN, Access, Keys
from switchboard_dataplane.admission import Admission
from switchboard_dataplane.attempts import Attempts
from switchboard_dataplane.decision.running import Endpoint, Snapshot
from switchboard_dataplane.errors import UpstreamReset
from switchboard_dataplane.failover import Failover
from switchboard_dataplane.proxy import Proxy
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.hedging import Hedges
from switchboard_dataplane.signals.retry_budget import RetryBudgets
from switchboard_dataplane.telemetry.outcome import Outcome
from switchboard_dataplane.upstream.bound import Bound, Bounds
from switchboard_dataplane.upstream.transport import UpstreamResponse
from switchboard_dataplane.wire.answers import Answer
from switchboard_policy.ir import Api

CHAT = orjson.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}]})
STREAM = CHAT[:-1] + b',"stream":true}'
USAGE = b'{"usage":{"prompt_tokens":3,"completion_tokens":4}}'


@dataclass
class PlainCaller:
    """A caller that keeps what it is told; ``leaves_at`` is the write at which it is gone."""

    body: bytes = CHAT
    api: Api = "chat"
    headers: MutableMapping[str, str] = field(default_factory=dict)
    peer: str = ""
    leaves_at: int = 0
    answer: Answer | None = None
    status: int = 0
    written: list[bytes] = field(default_factory=list)
    ended: bool = False
    was_read: bool = False

    async def read_body(self) -> bytes:
        self.was_read = True
        return self.body

    async def send(self, answer: Answer) -> None:
        self.answer = answer

    async def begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        self.status = status

    def put(self, data: bytes) -> bool:
        self.written.append(data)
        if len(self.written) == self.leaves_at:
            raise ConnectionResetError("the caller is gone")
        return True

    async def drained(self) -> None:
        return

    async def end(self) -> None:
        self.ended = True

    @property
    def code(self) -> str:
        assert self.answer is not None
        code: str = orjson.loads(self.answer.body)["error"]["code"]
        return code


@dataclass
class PlainResponse:
    pieces: list[bytes]
    media_type: str = "application/json"
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    closed: bool = False

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    async def pour(
        self, take: Callable[[bytes], bool], ready: Callable[[], Awaitable[None]]
    ) -> None:
        while self.pieces:
            if not take(self.pieces.pop(0)):
                await ready()

    def close(self) -> None:
        self.closed = True


@dataclass
class PlainUpstream:
    """Answers with what it is given, in order; an exception is raised."""

    answers: list[PlainResponse | Exception]
    sent: list[tuple[Endpoint, str, Sequence[tuple[str, str]], bytes]] = field(default_factory=list)

    async def send(
        self,
        endpoint: Endpoint,
        path: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        bound: Bound,
    ) -> UpstreamResponse:
        self.sent.append((endpoint, path, headers, body))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        return


def running(**fields: Any) -> Snapshot:
    return snapshot(
        policy("chat", rule("default", tier("first", "one"), tier("second", "two"))),
        backend("one", **fields),
        backend("two", **fields),
    )


@dataclass
class Stage:
    """A proxy with its surroundings."""

    upstream: PlainUpstream
    snapshot: Snapshot | None = field(default_factory=running)
    signals: SignalTable = field(default_factory=SignalTable)
    outcomes: list[Outcome] = field(default_factory=list)
    expired: bool = False
    composer: Any = None
    access: Access = LETS_ANYBODY_IN

    @classmethod
    def answering(cls, *answers: PlainResponse | Exception) -> "Stage":
        return cls(PlainUpstream(list(answers)))

    async def serve(self, caller: PlainCaller) -> Outcome:
        loop = asyncio.get_running_loop()
        today, rng = lambda: datetime(2026, 1, 1, tzinfo=UTC), Random(7)
        admission = Admission(
            reader=reader(),
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
        attempts = Attempts(
            failover=failover,
            hedges=Hedges(),
            upstream=self.upstream,
            bounds=Bounds(clock=loop.time, call_later=loop.call_later),
            clock=loop.time,
            today=today,
        )
        proxy = Proxy(
            access=self.access,
            reader=reader(),
            snapshot=lambda: self.snapshot,
            signals=self.signals,
            failover=failover,
            admission=admission,
            attempts=attempts,
            composer=self.composer or composer(attempts),
            observe=self.outcomes.append,
            shutting_down=lambda: self.expired,
            clock=loop.time,
            rng=rng,
        )
        try:
            await proxy.serve(caller)
        finally:
            assert sum(signal.in_flight for signal in self.signals.values()) == 0
            assert len(self.outcomes) == 1
        return self.outcomes[0]


async def test_an_answer_goes_back_with_its_usage_counted() -> None:
    stage, caller = Stage.answering(PlainResponse([USAGE])), PlainCaller()
    outcome = await stage.serve(caller)
    assert caller.answer is not None
    assert (caller.answer.status, caller.answer.body) == (200, USAGE)
    assert (outcome.input_tokens, outcome.output_tokens, outcome.estimated) == (3, 4, False)
    endpoint, path, _, body = stage.upstream.sent[0]
    assert (endpoint.backend.name, path) == ("ai/one", "/chat/completions")
    assert orjson.loads(body)["model"] == "upstream-one"


async def test_a_reset_is_tried_once_more_at_the_same_endpoint_then_elsewhere() -> None:
    resets = [UpstreamReset("gone"), UpstreamReset("gone")]
    stage = Stage.answering(*resets, PlainResponse([b"{}"]))
    outcome = await stage.serve(PlainCaller())
    assert [one.backend for one in outcome.attempts] == ["ai/one", "ai/one", "ai/two"]
    assert [one.failure for one in outcome.attempts] == ["reset", "reset", ""]


async def test_a_failed_endpoint_costs_more_than_one_that_answered() -> None:
    stage = Stage.answering(UpstreamReset("gone"), UpstreamReset("gone"), PlainResponse([b"{}"]))
    await stage.serve(PlainCaller())
    penalty = {name.partition("@")[0]: one.penalty(0.0) for name, one in stage.signals.items()}
    assert penalty["ai/one"] > penalty["ai/two"] == 1.0
    waiting = {one.waiting for one in stage.signals.values()}
    in_flight = {one.in_flight for one in stage.signals.values()}
    assert waiting == in_flight == {0}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_whole_answers_time_never_feeds_that_of_streams(stream: bool) -> None:
    stage = Stage.answering(PlainResponse([USAGE]))
    await stage.serve(PlainCaller(STREAM if stream else CHAT))
    (signal,) = stage.signals.values()
    assert not any(one.counts(0.0) for one in signal.ttft_s)
    assert [one.counts(0.0) for one in signal.latency_s] == [True, False, False, False]


async def test_a_request_keeps_its_snapshot_to_its_end() -> None:
    stage, caller = Stage.answering(UpstreamReset("gone"), PlainResponse([b"{}"])), PlainCaller()
    first = stage.snapshot

    async def send_and_swap(
        endpoint: Endpoint,
        path: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        bound: Bound,
    ) -> UpstreamResponse:
        stage.snapshot = snapshot()
        return await PlainUpstream.send(
            stage.upstream, endpoint, path, headers=headers, body=body, bound=bound
        )

    stage.upstream.send = send_and_swap  # type: ignore[method-assign]
    outcome = await stage.serve(caller)
    assert first is not None
    assert (outcome.status, outcome.revision) == (200, first.revision)


async def test_a_defect_is_an_error_of_ours_and_not_the_end_of_the_connection() -> None:
    caller = PlainCaller()
    outcome = await Stage.answering(ZeroDivisionError("a defect")).serve(caller)
    assert caller.code == outcome.error == "internal_error"
    assert outcome.status == 500


async def test_without_a_policy_nothing_is_served() -> None:
    stage, caller = Stage.answering(), PlainCaller()
    stage.snapshot = None
    assert (await stage.serve(caller)).error == caller.code == "not_ready"


async def test_a_caller_that_is_gone_between_two_writes_ends_the_upstream() -> None:
    first = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    response = PlainResponse([first] * 5, media_type="text/event-stream")
    stage, caller = Stage.answering(response), PlainCaller(STREAM, leaves_at=2)
    with pytest.raises(ConnectionResetError):
        await stage.serve(caller)
    outcome = stage.outcomes[0]
    assert response.closed
    assert (outcome.caller_left, outcome.estimated, outcome.output_tokens) == (True, True, 2)
    assert not caller.ended


async def test_what_goes_wrong_after_the_first_content_is_never_tried_again() -> None:
    first = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    response = PlainResponse([first], media_type="text/event-stream")
    stage, caller = Stage.answering(response, PlainResponse([USAGE])), PlainCaller(STREAM)
    outcome = await stage.serve(caller)
    assert len(stage.upstream.sent) == 1
    assert (caller.status, outcome.error, caller.ended) == (200, "upstream_reset", True)
    assert caller.written[0] == first
    assert caller.written[-1].startswith(b'data: {"error":')


async def test_a_cancelled_request_raises_and_is_accounted_for() -> None:
    stage = Stage.answering()

    async def never(
        endpoint: Endpoint,
        path: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        bound: Bound,
    ) -> UpstreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    stage.upstream.send = never  # type: ignore[method-assign]
    task = asyncio.create_task(stage.serve(PlainCaller()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    outcome = stage.outcomes[0]
    assert (outcome.caller_left, outcome.status) == (True, 0)
    assert [one.failure for one in outcome.attempts] == ["cancelled"]


class Untouched:
    """A composer that nobody may look at."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"a plain request asks for {name}")


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_a_rule_that_asks_for_one_answer_pays_nothing_for_those_that_ask_for_more(
    body: bytes,
) -> None:
    stage = Stage.answering(PlainResponse([USAGE]))
    stage.composer = Untouched()
    outcome = await stage.serve(PlainCaller(body))
    assert (outcome.status, outcome.error, outcome.asides) == (200, "", ())


KEY = "sk-sb-0123456789abcdef"


def asking_for_keys(*answers: PlainResponse | Exception, **fields: Any) -> Stage:
    """A stage that lets in the client ``apps/web``."""
    stage = Stage.answering(*answers)
    served = policy("chat", rule("default", tier("first", "one")))
    stage.snapshot = snapshot(served, backend("one"), client("web", KEY, **fields))
    now = datetime(2026, 1, 1, tzinfo=UTC)
    stage.access = Access(keys=Keys(snapshot=lambda: stage.snapshot, today=lambda: now))
    return stage


async def test_the_body_of_a_stranger_is_not_read() -> None:
    stage, caller = asking_for_keys(), PlainCaller(b"never read")
    outcome = await stage.serve(caller)
    assert caller.code == outcome.error == "missing_api_key"
    assert not caller.was_read
    assert (outcome.status, outcome.client, outcome.attempts) == (401, "", ())
    assert caller.answer is not None
    assert ("www-authenticate", "Bearer") in caller.answer.headers


async def test_a_client_is_served_and_its_request_is_decided_by_who_it_is() -> None:
    stage = asking_for_keys(PlainResponse([USAGE]))
    caller = PlainCaller(headers={"x-api-key": KEY})
    outcome = await stage.serve(caller)
    assert (outcome.status, outcome.client) == (200, "apps/web")
    (_, _, headers, _) = stage.upstream.sent[0]
    assert KEY not in dict(headers).values()


async def test_a_model_that_is_not_for_a_client_is_refused_before_anything_is_decided() -> None:
    stage = asking_for_keys(models=("other",))
    caller = PlainCaller(headers={"x-api-key": KEY})
    outcome = await stage.serve(caller)
    assert caller.code == outcome.error == "model_not_allowed"
    assert (outcome.status, outcome.client, outcome.policy) == (403, "apps/web", "")
    assert stage.upstream.sent == []
