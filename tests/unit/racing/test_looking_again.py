"""A stream that is late while all others are busy is joined by the first that is free again."""

import asyncio
from collections.abc import Callable

import pytest

from fakes.policies import backend, endpoints, policy, rule, service, snapshot, tier
from fakes.timed import TimedStage, refuses, silent, staged, streams
from switchboard_dataplane.attempts import LOOK_AGAIN
from switchboard_dataplane.telemetry.outcome import RaceEnd
from switchboard_policy import ir

LATE_S = 10.0
TICK_S = 0.02


def two() -> TimedStage:
    """Two backends, the second with room for one request."""
    stage = staged(["one"], ["two"], one=silent(), two=streams(1.0))
    late = ir.Timeouts(first_token_ms=int(LATE_S * 1_000))
    stage.snapshot = snapshot(
        policy("chat", rule("default", tier("tier-0", "one"), tier("tier-1", "two"))),
        backend("one", timeouts=late),
        backend("two", timeouts=late, max_in_flight=1),
    )
    return stage


def later(after_s: float, act: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(after_s, act)


@pytest.mark.parametrize("free_s", [10.5, 13.0, 30.0])
async def test_an_endpoint_that_is_full_joins_soon_after_it_is_free(free_s: float) -> None:
    stage = two()
    full = stage.signals["ai/two@two.example:8000"]
    full.reserve()
    later(free_s, full.unreserve)
    caller, outcome = await stage.serve()
    assert outcome.ttft_s is not None
    assert free_s + 1.0 <= outcome.ttft_s <= free_s * (1 + LOOK_AGAIN) + 1.0 + 2 * TICK_S
    assert (outcome.backend, caller.reason) == ("ai/two", "raced")
    assert outcome.races == (RaceEnd("tier-0", "second"),)


async def test_what_rests_joins_when_its_time_is_over() -> None:
    """Its credential was limited for 12 s shortly before."""
    limited = refuses(0.0, status=429, headers=[("retry-after", "12")])
    stage = staged(
        ["one"], ["two"],
        one=[refuses(0.0, status=503), silent()], two=[limited, streams(1.0)],
    )  # fmt: skip
    _, first = await stage.serve()
    assert first.error == "upstream_rate_limited"
    caller, outcome = await stage.serve()
    assert (outcome.backend, caller.reason) == ("ai/two", "raced")
    assert outcome.ttft_s is not None
    # Its return is spread over half of its rest again.
    assert 13.0 <= outcome.ttft_s <= 18.0 * (1 + LOOK_AGAIN) + 1.1


async def test_where_two_are_late_a_third_joins_when_it_is_free() -> None:
    stage = staged(["one"], ["two"], ["three"], one=silent(), two=silent(), three=streams(1.0))
    late = ir.Timeouts(first_token_ms=int(LATE_S * 1_000))
    stage.snapshot = snapshot(
        policy("chat", rule("default", *(tier(name, name) for name in ("one", "two", "three")))),
        *(backend(name, timeouts=late) for name in ("one", "two")),
        backend("three", timeouts=late, max_in_flight=1),
    )
    full = stage.signals["ai/three@three.example:8000"]
    full.reserve()
    later(25.0, full.unreserve)
    _, outcome = await stage.serve()
    assert outcome.backend == "ai/three"
    assert stage.upstream.most == 2
    assert outcome.ttft_s is not None
    assert 26.0 <= outcome.ttft_s <= 25.0 * (1 + LOOK_AGAIN) + 1.1


async def test_the_first_may_answer_while_another_is_looked_for() -> None:
    stage = two()
    stage.upstream.plays = {**stage.upstream.plays, "one": [streams(22.0)]}
    full = stage.signals["ai/two@two.example:8000"]
    full.reserve()
    later(21.9, full.unreserve)
    caller, outcome = await stage.serve()
    assert (outcome.backend, caller.reason, outcome.races) == ("ai/one", "primary", ())
    await asyncio.sleep(30.0)
    assert [name for name, _ in stage.upstream.sent] == ["one"]


async def test_another_endpoint_of_the_same_backend_is_looked_for_as_well() -> None:
    stage = staged(["one"], one=[silent(), streams(1.0)])
    late = ir.Timeouts(first_token_ms=int(LATE_S * 1_000))
    stage.snapshot = snapshot(
        policy("chat", rule("default", tier("only", "one"))),
        service("one", timeouts=late, max_in_flight=1),
        endpoints("one", "10.0.0.1:80", "10.0.0.2:80"),
    )
    full = stage.signals["ai/one@10.0.0.2:80"]
    full.reserve()
    later(12.0, full.unreserve)
    _, outcome = await stage.serve()
    assert [one.endpoint for one in outcome.attempts][-1] == "ai/one@10.0.0.2:80"
