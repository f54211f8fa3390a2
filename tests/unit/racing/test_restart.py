"""A stream that breaks early waits for another that rests shortly, as any attempt does."""

import asyncio

from fakes.gateway import said
from fakes.policies import backend, policy, rule, snapshot, tier
from fakes.timed import Play, TimedStage, staged_with, streams
from switchboard_dataplane.errors import UpstreamProtocol, UpstreamReset
from switchboard_dataplane.signals.marks import Mark
from switchboard_policy import ir

BREAKS_S = 2.0
RESTS_S = 3.0


def resting(broken: Exception, **fields: object) -> TimedStage:
    """The first breaks its stream, the second rests for a second from then on."""
    breaking = Play(0.0, (said("half"), BREAKS_S, broken))
    stage = staged_with(
        {"restart_within_chars": 100, **fields},
        ["one"], ["two"],
        one=breaking, two=streams(0.5, "whole"),
    )  # fmt: skip
    rest(stage, RESTS_S)
    return stage


def rest(stage: TimedStage, for_s: float) -> None:
    mark = Mark("ai/two", "rate_limited", for_s)
    stage.signals.marks.put(mark, asyncio.get_running_loop().time())


async def test_it_waits_for_another_rather_than_ask_the_endpoint_that_broke_it() -> None:
    stage = resting(UpstreamReset("gone"))
    caller, outcome = await stage.serve()
    assert [name for name, _ in stage.upstream.sent] == ["one", "two"]
    assert stage.upstream.sent[1][1] - stage.upstream.sent[0][1] >= RESTS_S
    assert b'"whole"' in caller.body
    assert (outcome.backend, outcome.error) == ("ai/two", "")


async def test_where_what_it_waited_for_does_not_come_the_break_is_told() -> None:
    stage = resting(UpstreamProtocol("garbage"))
    asyncio.get_running_loop().call_later(BREAKS_S + 0.5, rest, stage, 900.0)
    caller, outcome = await stage.serve()
    assert outcome.error == "upstream_protocol"
    assert b"garbage" in caller.body
    assert len(stage.upstream.sent) == 1


async def test_a_larger_window_stays_asked_for_after_a_restart() -> None:
    """Each of them breaks; the second had to give way to the larger windows."""
    overflow = Play(
        0.0,
        (b'{"error": {"message": "maximum context length is 100 tokens"}}',),
        status=400,
        media_type="application/json",
    )
    breaking = Play(0.0, (said("x"), 1.0, UpstreamProtocol("garbage")))
    stage = staged_with({}, ["one"], one=breaking, two=overflow, three=breaking, small=streams(1.0))
    names = ["one", "two", "three", "small"]
    stage.snapshot = snapshot(
        policy(
            "chat",
            rule("default", *(tier(name, name) for name in names)),
            restart_within_chars=100,
            attempts=9,
        ),
        *(
            backend(name, capabilities=ir.Capabilities(context_window_tokens=tokens))
            for name, tokens in zip(names, (50, 100, 1_000, 60), strict=True)
        ),
    )
    _, outcome = await stage.serve()
    assert [name for name, _ in stage.upstream.sent] == ["one", "two", "three"]
    assert outcome.error == "upstream_protocol"
