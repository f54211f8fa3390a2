"""When the first token is late another candidate joins in, and the first content wins."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fakes.gateway import said
from fakes.policies import backend, policy, rule, snapshot, tier
from fakes.timed import (
    Play,
    TimedCaller,
    TimedStage,
    answers,
    errs,
    refuses,
    silent,
    staged,
    staged_with,
    streams,
)
from switchboard_dataplane.errors import UpstreamConnect, UpstreamReset
from switchboard_dataplane.telemetry.outcome import Outcome, RaceEnd
from switchboard_dataplane.telemetry.tracing import Tracing

#: As late as the tick may notice a time, and a little.
TICK_S = 0.02


def two(**plays: Play) -> TimedStage:
    return staged(["one"], ["two"], **plays)


def said_of(outcome: Outcome) -> list[tuple[str, str, bool]]:
    return [(one.backend, one.failure, one.lost) for one in outcome.attempts]


def near(seconds: float) -> object:
    return pytest.approx(seconds, abs=3 * TICK_S)


async def test_the_second_wins_where_the_first_stays_silent() -> None:
    stage = two(one=silent(), two=streams(1.0))
    caller, outcome = await stage.serve()
    assert outcome.ttft_s == near(11.0)
    assert said_of(outcome) == [("ai/one", "timeout", True), ("ai/two", "", False)]
    assert outcome.races == (RaceEnd("tier-0", "second"),)
    assert caller.told["x-switchboard-attempts"] == "2"
    assert caller.told["x-switchboard-backend"] == "ai/two"
    assert caller.told["x-switchboard-tier"] == "tier-1"
    assert caller.reason == "raced"


async def test_the_first_wins_where_it_answers_before_the_second() -> None:
    stage = two(one=streams(11.0, "first"), two=streams(5.0, "second"))
    caller, outcome = await stage.serve()
    assert b"first" in caller.body
    assert b"second" not in caller.body
    assert outcome.ttft_s == near(11.0)
    assert said_of(outcome) == [("ai/two", "lost", True), ("ai/one", "", False)]
    assert outcome.races == (RaceEnd("tier-0", "first"),)
    assert (caller.reason, caller.told["x-switchboard-attempts"]) == ("primary", "2")
    assert (outcome.backend, outcome.tier, outcome.answered) == ("ai/one", "tier-0", True)


async def test_the_losers_prompt_is_paid_for_and_the_winners_tokens_are_its_own() -> None:
    _, outcome = await two(one=silent(), two=streams(1.0)).serve()
    lost, won = outcome.attempts
    assert lost.input_tokens == outcome.input_tokens == 1
    assert lost.cost_microdollars == pytest.approx(1.0)
    assert (won.input_tokens, won.cost_microdollars) == (0, None)
    # A token of the prompt, and one that was written.
    assert outcome.cost_microdollars == pytest.approx(2.0)


async def test_each_attempt_of_a_race_has_a_span_of_its_own_that_ends() -> None:
    spans = InMemorySpanExporter()
    stage = two(one=silent(), two=streams(1.0))
    stage.tracing = Tracing(SimpleSpanProcessor(spans), resource=Resource.create())
    await stage.serve()
    one, other, request = spans.get_finished_spans()
    assert (one.name, other.name) == ("attempt ai/one", "attempt ai/two")
    assert (one.attributes or {})["error.type"] == "timeout"
    assert "error.type" not in (other.attributes or {})
    assert (request.attributes or {})["switchboard.attempts"] == 2
    assert one.context is not None
    sent = [dict(headers) for headers in stage.upstream.headers]
    assert sent[0]["traceparent"].split("-")[2] == f"{one.context.span_id:016x}"
    assert sent[0]["traceparent"] != sent[1]["traceparent"]


async def test_a_losers_silence_is_known_of_it_and_counts_against_it() -> None:
    stage = two(one=silent(), two=streams(1.0))
    await stage.serve()
    now = asyncio.get_running_loop().time()
    signals = {name.partition("@")[0]: signal for name, signal in stage.signals.items()}
    assert signals["ai/one"].ttft_s[0].value == near(11.0)
    assert signals["ai/two"].ttft_s[0].value == near(1.0)
    assert signals["ai/one"].errors_now(now) == pytest.approx(1.0, abs=0.1)
    assert signals["ai/two"].errors_now(now) == 0.0


async def test_a_second_that_lost_before_it_was_late_has_not_failed() -> None:
    stage = two(one=streams(11.0), two=silent())
    await stage.serve()
    now = asyncio.get_running_loop().time()
    assert not any(signal.errors_now(now) for signal in stage.signals.values())


async def test_endpoints_that_always_lose_for_they_hang_are_left_out() -> None:
    stage = two(one=silent(), two=streams(1.0))
    for _ in range(5):
        await stage.serve()
    assert [name.partition("@")[0] for name in stage.signals.ejected] == ["ai/one"]


async def test_with_nothing_else_left_the_first_is_waited_for() -> None:
    _, outcome = await staged(["one"], one=streams(25.0)).serve()
    assert outcome.ttft_s == near(25.0)
    assert outcome.races == ()


async def test_both_slow_the_quicker_one_wins_although_both_are_late() -> None:
    caller, outcome = await two(one=streams(35.0, "a"), two=streams(28.0, "b")).serve()
    assert outcome.ttft_s == near(35.0)
    assert b"a" in caller.body
    assert said_of(outcome) == [("ai/two", "timeout", True), ("ai/one", "", False)]
    assert caller.reason == "primary"


async def test_both_silent_end_with_the_deadline() -> None:
    stage = staged_with({"deadline_ms": 40_000}, ["one"], ["two"], one=silent(), two=silent(1.0))
    caller, outcome = await stage.serve()
    assert (caller.status, outcome.error) == (504, "deadline_exceeded")
    assert outcome.duration_s == near(40.0)
    assert [one.failure for one in outcome.attempts] == ["timeout", "timeout"]
    assert outcome.races == (RaceEnd("tier-0", "none"),)


async def test_never_more_than_two_are_under_way_and_the_oldest_gives_way() -> None:
    stage = staged(["one"], ["two"], ["three"], one=silent(), two=silent(), three=streams(1.0))
    caller, outcome = await stage.serve()
    assert outcome.ttft_s == near(21.0)
    assert stage.upstream.most == 2
    assert [one.backend for one in outcome.attempts] == ["ai/one", "ai/two", "ai/three"]
    assert said_of(outcome)[0] == ("ai/one", "timeout", False)
    assert said_of(outcome)[1] == ("ai/two", "timeout", True)
    assert caller.reason == "raced"


async def test_attempts_bound_a_race() -> None:
    stage = staged_with({"attempts": 1}, ["one"], ["two"], one=streams(20.0), two=streams(1.0))
    _, outcome = await stage.serve()
    assert len(outcome.attempts) == 1
    assert outcome.ttft_s == near(20.0)


async def test_races_that_begin_in_the_same_tick_keep_to_the_limits_of_endpoints() -> None:
    stage = staged(["one"], ["two"], ["three"], one=silent(), two=streams(1.0), three=streams(1.0))
    stage.snapshot = snapshot(
        policy("chat", rule("default", *(tier(name, name) for name in ("one", "two", "three")))),
        backend("one"),
        backend("two", max_in_flight=3),
        backend("three"),
    )
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, stage.signals["ai/two@two.example:8000"].in_flight)
            await asyncio.sleep(0.001)

    watching = asyncio.create_task(watch())
    proxy = stage.proxy()
    await asyncio.gather(*(proxy.serve(TimedCaller()) for _ in range(10)))
    watching.cancel()
    assert most == 3
    won = [outcome.backend for outcome in stage.outcomes]
    assert (won.count("ai/two"), won.count("ai/three")) == (3, 7)


async def test_a_second_that_fails_leaves_the_first_and_the_next_joins() -> None:
    stage = staged(
        ["one"],
        ["two"],
        ["three"],
        one=streams(14.0, "first"),
        two=Play(UpstreamConnect("refused")),
        three=streams(9.0),
    )
    caller, outcome = await stage.serve()
    assert [name for name, _ in stage.upstream.sent] == ["one", "two", "three"]
    assert stage.upstream.sent[2][1] - stage.upstream.sent[1][1] < 0.1
    assert b"first" in caller.body
    assert [one.failure for one in outcome.attempts] == ["connect", "lost", ""]


async def test_a_first_that_fails_leaves_the_second_to_answer() -> None:
    stage = staged(
        ["one"], ["two"], ["three"],
        one=Play(0.0, (12.0, UpstreamReset("gone"))), two=streams(5.0), three=streams(0.1),
    )  # fmt: skip
    caller, outcome = await stage.serve()
    assert outcome.ttft_s == near(15.0)
    assert said_of(outcome) == [("ai/one", "reset", False), ("ai/two", "", False)]
    assert caller.reason == "raced"


@pytest.mark.parametrize(
    ("first_s", "failures"),
    [(11.0, ["reset", "connect"]), (13.0, ["connect", "reset"])],
)
async def test_where_both_fail_the_last_failure_is_told(
    first_s: float, failures: list[str]
) -> None:
    stage = staged_with(
        {"attempts": 2},
        ["one"],
        ["two"],
        one=Play(0.0, (first_s, UpstreamReset("gone"))),
        two=Play(0.0, (2.0, UpstreamConnect("refused"))),
    )
    caller, outcome = await stage.serve()
    assert [one.failure for one in outcome.attempts] == failures
    assert (caller.status, outcome.error) == (502, f"upstream_{failures[-1]}")
    assert outcome.races == (RaceEnd("tier-0", "none"),)
    assert outcome.duration_s == near(max(first_s, 12.0))


async def test_an_error_in_the_first_events_does_not_win() -> None:
    stage = two(one=streams(13.0, "first"), two=errs(0.5, code=500))
    caller, outcome = await stage.serve()
    assert b"first" in caller.body
    assert outcome.attempts[-1].backend == "ai/one"
    assert {one.failure for one in outcome.attempts[:-1]} == {"server_error"}


@pytest.mark.parametrize("play", [refuses(0.5), errs(0.5, code=400)])
async def test_the_callers_own_error_does_not_win_while_content_may_come(play: Play) -> None:
    caller, outcome = await two(one=streams(13.0, "first"), two=play).serve()
    assert caller.status == 200
    assert b"first" in caller.body
    assert said_of(outcome) == [("ai/two", "lost", True), ("ai/one", "", False)]


async def test_the_callers_own_error_is_told_where_the_other_fails() -> None:
    stage = two(one=Play(0.0, (13.0, UpstreamReset("gone"))), two=refuses(0.5))
    caller, outcome = await stage.serve()
    assert (caller.status, caller.reason) == (400, "raced")
    assert orjson.loads(caller.body)["error"]["message"] == "no"
    assert said_of(outcome) == [("ai/one", "reset", False), ("ai/two", "", False)]
    assert outcome.duration_s == near(13.0)


async def test_the_callers_own_error_is_held_back_for_another_first_token_at_most() -> None:
    caller, outcome = await two(one=silent(), two=refuses(0.5)).serve()
    assert caller.status == 400
    assert outcome.duration_s == near(20.5)
    assert said_of(outcome) == [("ai/one", "timeout", True), ("ai/two", "", False)]


async def test_of_two_that_answer_in_the_same_turn_one_is_sent_and_the_other_closed() -> None:
    now = asyncio.Event()
    plays = [Play(0.0, (now, said(text), said(finish_reason="stop"))) for text in ("a", "b")]
    stage = two(one=plays[0], two=plays[1])
    asyncio.get_running_loop().call_later(12.0, now.set)
    caller, outcome = await stage.serve()
    assert (b'"a"' in caller.body) != (b'"b"' in caller.body)
    assert sorted(one.lost for one in outcome.attempts) == [False, True]
    assert [response.closed for response in stage.upstream.responses] == [1, 1]


async def test_a_whole_answer_to_a_stream_wins_too() -> None:
    caller, outcome = await two(one=silent(), two=answers(2.0)).serve()
    assert (caller.status, outcome.backend, caller.reason) == (200, "ai/two", "raced")
    assert outcome.output_tokens == 4


@pytest.mark.parametrize("after_s", [10.5, 11.9, 12.0, 12.01])
async def test_a_caller_that_leaves_ends_both(after_s: float) -> None:
    stage = two(one=silent(1.0), two=silent())
    _, outcome = await stage.serve(leaves_after_s=after_s)
    assert outcome.caller_left
    assert sorted(one.failure for one in outcome.attempts) == ["cancelled", "cancelled"]
    assert outcome.races == (RaceEnd("tier-0", "none"),)
    # Both have read the prompt: one's is the attempt's, the last one's the outcome's.
    first, last = outcome.attempts
    assert (first.input_tokens, last.input_tokens, outcome.input_tokens) == (1, 0, 1)
    assert outcome.duration_s == pytest.approx(after_s, abs=0.05)


def _leave(serving: asyncio.Task[None]) -> None:
    serving.cancel()


async def just_before_the_race(
    stage: TimedStage, act: Callable[[asyncio.Task[None]], None]
) -> tuple[TimedCaller, Outcome]:
    """Serve a request; do something in the tick in which its first token is late, before that."""
    caller, proxy = TimedCaller(), stage.proxy()
    async with stage.settled():
        serving = asyncio.create_task(proxy.serve(caller))
        bound = proxy.attempts.bounds.until(asyncio.get_running_loop().time() + 10.0)
        bound.watch(lambda: act(serving))
        await asyncio.wait({serving})
    return caller, stage.outcomes[0]


async def test_a_caller_that_leaves_in_the_turn_in_which_the_race_begins_leaves_nothing() -> None:
    stage = two(one=silent(), two=silent())
    _, outcome = await just_before_the_race(stage, _leave)
    assert outcome.caller_left
    assert (len(stage.upstream.sent), len(outcome.attempts)) == (1, 1)
    assert (outcome.input_tokens, outcome.attempts[0].input_tokens) == (1, 0)


async def test_content_that_comes_in_the_turn_in_which_the_race_begins_wins_it() -> None:
    now = asyncio.Event()
    first = Play(0.0, (now, said("first"), said(finish_reason="stop")))
    stage = two(one=first, two=streams(1.0))
    caller, outcome = await just_before_the_race(stage, lambda _: now.set())
    assert b"first" in caller.body
    assert (len(stage.upstream.sent), len(outcome.attempts)) == (1, 1)
    assert caller.told["x-switchboard-attempts"] == "1"


async def test_the_drain_deadline_ends_both_and_tells_the_caller() -> None:
    stage = two(one=silent(), two=silent())
    stage.left = True
    caller, outcome = await stage.serve(leaves_after_s=12.0)
    assert (caller.status, outcome.error) == (503, "shutting_down")


async def test_a_winner_that_breaks_after_content_ends_with_an_error_event() -> None:
    broken = Play(0.0, (1.0, said("half"), 1.0, UpstreamReset("gone")))
    caller, outcome = await two(one=silent(), two=broken).serve()
    assert (caller.status, outcome.error) == (200, "upstream_reset")
    assert caller.body.endswith(b"}}\n\n")
    assert outcome.backend == "ai/two"


async def test_a_winner_that_breaks_is_restarted_by_what_has_not_failed() -> None:
    broken = Play(0.0, (1.0, said("half"), 1.0, UpstreamReset("gone")))
    stage = staged_with(
        {"restart_within_chars": 100, "attempts": 4},
        ["one"], ["two"], ["three"],
        one=silent(), two=broken, three=streams(0.5, "whole"),
    )  # fmt: skip
    caller, outcome = await stage.serve()
    assert b"whole" in caller.body
    assert [one.backend for one in outcome.attempts] == ["ai/one", "ai/two", "ai/three"]
    assert outcome.races == (RaceEnd("tier-0", "second"),)
    assert outcome.breaks == ("ai/two",)


async def test_what_refused_in_a_race_counts_as_an_attempt_and_is_not_asked_again() -> None:
    broken = Play(0.0, (12.0, said("half"), 1.0, UpstreamConnect("gone")))
    stage = staged_with(
        {"restart_within_chars": 100, "attempts": 3},
        ["one"], ["two"], ["three"], ["four"],
        one=broken, two=refuses(0.5), three=errs(0.5, code=503), four=streams(0.5),
    )  # fmt: skip
    await stage.serve()
    assert [name for name, _ in stage.upstream.sent] == ["one", "two", "three"]


async def test_a_race_in_a_restart_is_one_of_its_own() -> None:
    broken = Play(0.0, (1.0, said("half"), 1.0, UpstreamReset("gone")))
    stage = staged_with(
        {"restart_within_chars": 100, "attempts": 5},
        ["one"], ["two"], ["three"],
        one=broken, two=silent(), three=streams(0.5, "whole"),
    )  # fmt: skip
    caller, outcome = await stage.serve()
    assert b"whole" in caller.body
    assert outcome.races == (RaceEnd("tier-1", "second"),)


async def test_a_defect_in_the_second_is_told_only_where_nobody_answers() -> None:
    defect = Play(ZeroDivisionError("a defect"))
    caller, _ = await two(one=streams(13.0, "first"), two=defect).serve()
    assert caller.status == 200
    caller, outcome = await two(one=Play(0.0, (13.0, UpstreamReset("x"))), two=defect).serve()
    assert (caller.status, outcome.error) == (500, "internal_error")


async def test_what_is_not_streamed_is_never_late() -> None:
    stage = staged(["one"], ["two"], one=answers(30.0), two=answers(1.0))
    _, outcome = await stage.serve(TimedCaller({}))
    assert [one.backend for one in outcome.attempts] == ["ai/one"]


async def test_without_a_race_a_request_makes_no_task_of_its_own() -> None:
    loop = asyncio.get_running_loop()
    made: list[object] = []

    def make(
        loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **named: Any
    ) -> asyncio.Task[Any]:
        made.append(work)
        return asyncio.Task(work, loop=loop, **named)

    loop.set_task_factory(make)  # type: ignore[arg-type]
    try:
        _, outcome = await two(one=streams(1.0), two=streams(1.0)).serve()
    finally:
        loop.set_task_factory(None)
    assert len(made) == 1, "the one that serves the request"
    assert outcome.races == ()
