"""Streams that are held back, on a clock of their own: how long, and what ends it."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fakes.gateway import DONE, event, said
from fakes.policies import backend, policy, rule, snapshot, tier
from fakes.timed import EVER, PRICED, Play, Step, TimedCaller, TimedStage, TimedUpstream, streams
from switchboard_dataplane.errors import UpstreamReset
from switchboard_policy import ir

if TYPE_CHECKING:
    from collections.abc import Sequence

END = said(finish_reason="stop")
#: As late as a time may be noticed.
TICK_S = 0.02
#: Passes nothing, so a stream is always held, and judged.
NEVER = ir.Cascade(when="false")
ALWAYS = ir.Cascade(when="true")


def stage(small: Play, cascade: ir.Cascade, large: Play | None = None, **fields: Any) -> TimedStage:
    """A cascade from a model that plays this to one that answers after a second."""
    plays = {"small": [small], "large": [large or streams(1.0, "large")]}
    entries = [
        backend(name, pricing=PRICED, timeouts=ir.Timeouts(idle_ms=15_000, total_ms=total_ms))
        for name, total_ms in (("small", 60_000), ("large", 300_000))
    ]
    tiers = tier("small", "small"), tier("large", "large")
    said_of = policy("chat", rule("default", *tiers, cascade=cascade), **fields)
    return TimedStage(TimedUpstream(plays), snapshot(said_of, *entries))


def stream(*steps: Step) -> Play:
    return Play(0.0, steps)


def near(seconds: float) -> object:
    return pytest.approx(seconds, abs=3 * TICK_S)


async def test_a_stream_is_judged_as_soon_as_it_says_that_it_is_done() -> None:
    # The connection stays open: nobody waits for its end.
    play = stream(1.0, said("hello"), 1.0, END, DONE, EVER)
    caller, outcome = await stage(play, ALWAYS).serve()
    assert caller.reason == "cascade:accepted"
    assert outcome.ttft_s == near(2.05)
    assert caller.body == said("hello") + END + DONE


async def test_a_stream_whose_end_is_told_but_for_its_mark_is_whole_when_it_falls_silent() -> None:
    caller, outcome = await stage(stream(1.0, said("hello"), END, EVER), ALWAYS).serve()
    assert caller.reason == "cascade:accepted"
    assert outcome.ttft_s == near(16.0)


async def test_a_stream_that_falls_silent_is_given_up_after_its_idle_time() -> None:
    caller, outcome = await stage(stream(1.0, said("hello"), EVER), NEVER).serve()
    assert caller.reason == "cascade:escalated:timeout"
    assert outcome.ttft_s == near(17.0)


async def test_what_keeps_a_connection_alive_is_no_progress() -> None:
    beats: list[Step] = [5.0, b": alive\n\n"] * 10
    caller, outcome = await stage(stream(said("hello"), *beats), NEVER).serve()
    assert caller.reason == "cascade:escalated:timeout"
    assert outcome.ttft_s == near(16.0)


async def test_a_stream_that_drips_is_sent_when_it_was_held_as_long_as_it_may() -> None:
    drips: list[Step] = [2.0, said("x")] * 20
    cascade = ir.Cascade(when="false", hold_ms=10_000)
    caller, outcome = await stage(stream(said("x"), *drips, END, DONE), cascade).serve()
    assert caller.reason == "cascade:unjudged"
    assert outcome.ttft_s == near(10.0)
    # None is lost, and none comes twice, where the hand is changed.
    assert caller.body.count(b'"x"') == 21
    assert outcome.duration_s == near(40.0)


async def test_a_backends_total_time_holds_for_what_is_held() -> None:
    drips: list[Step] = [5.0, said("x")] * 20
    cascade = ir.Cascade(when="false", hold_ms=600_000)
    caller, outcome = await stage(stream(said("x"), *drips), cascade).serve()
    assert caller.reason == "cascade:escalated:timeout"
    assert outcome.ttft_s == near(61.0)


async def test_a_break_after_the_end_of_an_answer_does_no_harm() -> None:
    play = stream(said("hello"), END, 0.1, UpstreamReset("gone"))
    caller, _ = await stage(play, ALWAYS).serve()
    assert (caller.reason, caller.body) == ("cascade:accepted", said("hello") + END)


async def test_what_is_held_is_sent_however_long_it_was_thought_about() -> None:
    """When the judge has spoken the backend's total time is over: its stream was here before."""
    judge = ir.Judge(ir.Asked("ai/large", timeout_ms=100_000))
    cascade = ir.Cascade(judge=judge)
    verdict = Play(
        80.0, (b'{"choices":[{"message":{"content":"9"}}]}',), media_type="application/json"
    )
    caller, _ = await stage(
        stream(said("hello"), END, DONE), cascade, verdict, deadline_ms=200_000
    ).serve()
    assert caller.reason == "cascade:accepted"
    assert caller.begun_at == near(1_080.0)


async def test_how_fast_a_held_stream_was_written_is_known_of_its_endpoint() -> None:
    words: list[Step] = [0.1, said("x")] * 100
    one = stage(stream(said("x"), *words, END, DONE), ir.Cascade(when="true", hold_ms=60_000))
    await one.serve()
    (signal,) = (one.signals[name] for name in one.signals if name.startswith("ai/small"))
    assert signal.tokens_per_s.value == pytest.approx(10.0, rel=0.1)


@pytest.mark.parametrize("leaves_after_s", [0.5, 1.5, 2.5])
async def test_a_caller_that_leaves_while_a_stream_is_held_leaves_nothing(
    leaves_after_s: float,
) -> None:
    play = stream(1.0, said("a"), 1.0, said("b"), 1.0, END, DONE)
    _, outcome = await stage(play, ALWAYS).serve(leaves_after_s=leaves_after_s)
    assert outcome.caller_left
    (step,) = outcome.asides
    assert (step.purpose, step.failure) == ("step", "cancelled")
    # So many events had come.
    assert step.output_tokens == int(leaves_after_s)


async def test_a_tool_call_is_content_that_is_held() -> None:
    call = {"index": 0, "function": {"name": "f", "arguments": "x" * 200}}
    tool = event(choices=[{"index": 0, "delta": {"tool_calls": [call]}}])
    cascade = ir.Cascade(when="false", hold_chars=100)
    caller, _ = await stage(stream(said("a"), tool, END, DONE), cascade).serve()
    assert caller.reason == "cascade:unjudged"


async def test_a_stream_without_content_is_not_held_for_ever() -> None:
    noise: Sequence[Step] = [b": " + b"x" * 1_048_000 + b"\n\n"] * 20
    caller, _ = await stage(stream(said("a"), *noise, END, DONE), NEVER).serve()
    assert caller.reason == "cascade:unjudged"


async def test_two_callers_hold_their_streams_apart() -> None:
    one = stage(streams(1.0, "hello"), ALWAYS)
    callers = [TimedCaller(), TimedCaller()]
    async with one.settled():
        await asyncio.gather(*(one.proxy().serve(caller) for caller in callers))
    assert [caller.reason for caller in callers] == ["cascade:accepted"] * 2


async def test_candidates_that_are_not_whole_within_the_deadline_are_no_answers() -> None:
    drips: list[Step] = [2.0, said("x")] * 20
    plays = {name: [stream(said("x"), *drips, END, DONE)] for name in ("a", "b")}
    made = rule("default", tier("both", "a", "b"), ensemble=ir.Ensemble(2))
    one = TimedStage(
        TimedUpstream(plays),
        snapshot(policy("chat", made, deadline_ms=10_000), *map(backend, plays)),
    )
    caller, outcome = await one.serve()
    assert (caller.status, outcome.error) == (504, "deadline_exceeded")
    assert outcome.duration_s == near(10.0)
    assert [aside.failure for aside in outcome.asides] == ["deadline_exceeded"]
