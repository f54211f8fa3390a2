"""A hedge: a second start before anything is late, for a share of the requests."""

import asyncio
from collections.abc import Sequence

import pytest

from fakes.timed import (
    Play,
    TimedCaller,
    TimedStage,
    answers,
    refuses,
    silent,
    staged_with,
    streams,
)
from switchboard_dataplane.errors import UpstreamReset
from switchboard_dataplane.telemetry.outcome import RaceEnd
from switchboard_policy import ir

TICK_S = 0.02
ALWAYS = ir.Hedge(after_ms=500, budget_permille=1_000)


def hedged(
    *tiers: Sequence[str], hedge: ir.Hedge = ALWAYS, **plays: Play | Sequence[Play]
) -> TimedStage:
    return staged_with({"hedge": hedge}, *(tiers or (["one"], ["two"])), **plays)


def near(seconds: float) -> object:
    return pytest.approx(seconds, abs=3 * TICK_S)


async def test_a_stream_that_is_silent_for_the_time_gets_a_second_start() -> None:
    stage = hedged(one=streams(8.0), two=streams(1.0))
    caller, outcome = await stage.serve()
    assert outcome.ttft_s == near(1.5)
    assert caller.reason == "hedged"
    assert [(one.failure, one.lost) for one in outcome.attempts] == [("lost", True), ("", False)]
    assert outcome.races == (RaceEnd("tier-0", "second"),)


async def test_a_whole_answer_that_takes_longer_gets_a_second_start() -> None:
    stage = hedged(one=answers(8.0, "slow"), two=answers(1.0, "quick"))
    caller, outcome = await stage.serve(TimedCaller({}))
    assert outcome.duration_s == near(1.5)
    assert b"quick" in caller.body
    assert caller.reason == "hedged"


async def test_a_hedge_that_loses_costs_its_prompt_and_counts_against_nobody() -> None:
    stage = hedged(one=answers(0.9), two=answers(5.0))
    caller, outcome = await stage.serve(TimedCaller({}))
    assert (outcome.backend, caller.reason) == ("ai/one", "primary")
    assert [(one.backend, one.failure) for one in outcome.attempts] == [
        ("ai/two", "lost"),
        ("ai/one", ""),
    ]
    assert outcome.attempts[0].cost_microdollars == pytest.approx(1.0)
    now = asyncio.get_running_loop().time()
    assert not any(signal.errors_now(now) for signal in stage.signals.values())


async def test_a_losers_silence_never_makes_it_look_quicker() -> None:
    stage = hedged(one=streams(8.0), two=streams(1.0))
    signal = stage.signals[stage.snapshot.backends["ai/one"].endpoints[0].id]
    signal.waited(6.0, asyncio.get_running_loop().time(), tokens=1, stream=True)
    await stage.serve()
    assert signal.ttft_s[0].value == 6.0


async def test_it_goes_to_another_endpoint_of_the_tier_first() -> None:
    stage = hedged(
        ["one", "other"], ["next"],
        one=streams(5.0), other=streams(5.0), next=streams(0.1),
    )  # fmt: skip
    await stage.serve()
    assert {name for name, _ in stage.upstream.sent} == {"one", "other"}


async def test_it_never_goes_where_a_guardrail_forbids() -> None:
    forbids = ir.Guardrail("no-two", "ai/chat", ("ai/two",))
    stage = staged_with(
        {"hedge": ALWAYS, "guardrails": (forbids,)}, ["one"], ["two"],
        one=streams(25.0), two=streams(0.1),
    )  # fmt: skip
    _, outcome = await stage.serve()
    assert [name for name, _ in stage.upstream.sent] == ["one"]
    assert outcome.races == ()


async def test_it_never_goes_to_what_is_ejected() -> None:
    stage = hedged(one=streams(3.0), two=streams(0.1))
    two_id = stage.snapshot.backends["ai/two"].endpoints[0].id
    breaker = stage.signals[two_id].breaker
    now = asyncio.get_running_loop().time()
    for _ in range(5):
        breaker.failed("reset", now, since=now)
    await stage.serve()
    assert [name for name, _ in stage.upstream.sent] == ["one"]


async def test_it_is_an_attempt() -> None:
    stage = staged_with(
        {"hedge": ALWAYS, "attempts": 2}, ["one"], ["two"], ["three"],
        one=silent(), two=silent(), three=streams(0.1),
    )  # fmt: skip
    _, outcome = await stage.serve()
    assert len(outcome.attempts) == len(stage.upstream.sent) == 2


async def test_where_it_stays_silent_too_the_late_race_goes_on() -> None:
    stage = hedged(["one"], ["two"], ["three"], one=silent(), two=silent(), three=streams(1.0))
    caller, outcome = await stage.serve()
    # The hedge's own firstToken is over at 10.5 s.
    assert outcome.ttft_s == near(11.5)
    assert caller.reason == "raced"
    assert stage.upstream.most == 2


async def test_where_it_fails_nothing_else_begins_before_the_first_is_late() -> None:
    stage = hedged(
        ["one"], ["two"], ["three"],
        one=silent(), two=Play(0.0, (0.1, UpstreamReset("gone"))), three=streams(1.0),
    )  # fmt: skip
    _, outcome = await stage.serve()
    assert outcome.ttft_s == near(11.0)
    assert [name for name, _ in stage.upstream.sent] == ["one", "two", "three"]


async def test_nothing_is_begun_when_the_deadline_is_over() -> None:
    # Both are late, and end, in the tick in which the deadline does.
    stage = staged_with(
        {"hedge": ALWAYS, "deadline_ms": 10_500}, ["one"], ["two"], ["three"],
        one=silent(), two=silent(), three=streams(0.1),
    )  # fmt: skip
    _, outcome = await stage.serve()
    assert outcome.error == "deadline_exceeded"
    assert len(stage.upstream.sent) == 2


async def test_what_refuses_the_request_does_not_win_over_what_answers_it() -> None:
    stage = hedged(one=answers(3.0, "fine"), two=refuses(0.1))
    caller, _ = await stage.serve(TimedCaller({}))
    assert (caller.status, caller.reason) == (200, "primary")


async def test_the_budget_is_a_share_of_the_requests() -> None:
    stage = hedged(
        one=streams(2.0), two=streams(0.1), hedge=ir.Hedge(after_ms=500, budget_permille=100)
    )
    for _ in range(50):
        await stage.serve()
    assert sum(len(outcome.attempts) - 1 for outcome in stage.outcomes) == 5


async def test_without_a_hedge_there_is_none() -> None:
    stage = staged_with({}, ["one"], ["two"], one=streams(8.0), two=streams(1.0))
    _, outcome = await stage.serve()
    assert outcome.races == ()


async def test_p95_is_what_the_tiers_own_streams_took() -> None:
    quick, slow = streams(0.4), streams(5.0)
    stage = hedged(
        one=[*[quick] * 60, slow, quick], two=streams(1.0),
        hedge=ir.Hedge(budget_permille=1_000),
    )  # fmt: skip
    for _ in range(60):
        await stage.serve()
    assert not any(outcome.races for outcome in stage.outcomes)
    _, outcome = await stage.serve()
    assert outcome.ttft_s == near(1.4)
    assert outcome.races == (RaceEnd("tier-0", "second"),)


async def test_before_enough_is_known_p95_hedges_nothing() -> None:
    stage = hedged(one=streams(4.0), two=streams(1.0), hedge=ir.Hedge(budget_permille=1_000))
    for _ in range(10):
        await stage.serve()
    assert not any(outcome.races for outcome in stage.outcomes)


async def test_a_caller_that_leaves_ends_both() -> None:
    stage = hedged(one=answers(20.0), two=answers(20.0))
    _, outcome = await stage.serve(TimedCaller({}), leaves_after_s=1.0)
    assert [one.failure for one in outcome.attempts] == ["cancelled", "cancelled"]
    assert outcome.input_tokens == 1
