"""Through real sockets: what joins a silent attempt, who wins, and what is left of the other."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from fakes.gateway import (
    STREAM_HEAD,
    Gateway,
    Scripted,
    chat,
    event,
    external,
    failover,
    gateway,
    http,
    said,
    scripted,
    until,
)
from fakes.taking_turns import answered, streamed
from fakes.upstreams import nothing_left
from fakes.virtual_time import now_s
from switchboard_dataplane import app
from switchboard_dataplane.signals.marks import Mark
from switchboard_dataplane.telemetry.outcome import RaceEnd
from switchboard_dataplane.upstream.aiohttp_upstream import AiohttpUpstream
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")

SILENCE = 20.0
LATE_S = 0.4
HEDGE = ir.Hedge(after_ms=100, budget_permille=1_000)


@pytest.fixture(params=["own", "aiohttp"])
def each_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test on both transports to upstreams; the second is that of forward proxies."""
    if request.param == "aiohttp":
        monkeypatch.setattr(
            app, "_upstream", lambda tls, guard: AiohttpUpstream(tls=tls, guard=guard)
        )


@asynccontextmanager
async def racing(
    *scripts: tuple[bytes | float | None, ...], **fields: Any
) -> AsyncGenerator[tuple[Gateway, list[Scripted]]]:
    """A tier for each script, named a, b, c, …; after the block nothing of it is left."""
    names = [chr(ord("a") + number) for number in range(len(scripts))]
    late = {"first_token_ms": int(LATE_S * 1000)}
    async with nothing_left(), AsyncExitStack() as stack:
        models = [await stack.enter_async_context(scripted(*script)) for script in scripts]
        urls = zip(names, (model.url for model in models), strict=True)
        entries = [external(name, url, timeouts=late) for name, url in urls]
        gw = await stack.enter_async_context(gateway(failover(*names, **fields), *entries))
        yield gw, models
        signals = gw.plane.in_force.signals
        await until(lambda: not any(signal.in_flight for signal in signals.values()))
        assert not any(signal.waiting for signal in signals.values())
        await until(lambda: not len(gw.plane.live))


def late(seconds: float, text: str) -> tuple[bytes | float, ...]:
    """A stream whose head comes at once, and its first content after so long."""
    return STREAM_HEAD, seconds, streamed(text).removeprefix(STREAM_HEAD)


@pytest.mark.usefixtures("each_transport")
async def test_a_late_first_token_lets_a_model_that_is_ready_answer_soon() -> None:
    async with racing(late(SILENCE, "late"), (streamed("ready"),)) as (gw, (slow, _)):
        begun = now_s()
        reply = await gw.send(chat(stream=True))
        assert LATE_S <= now_s() - begun < LATE_S + 0.5
        assert reply.text == "ready"
        assert reply.headers["x-switchboard-backend"] == "ai/b"
        assert reply.headers["x-switchboard-attempts"] == "2"
        assert reply.headers["x-switchboard-reason"] == "raced"
        await until(lambda: slow.closed == 1, within_s=0.5)
        outcome = await gw.outcome()
        assert outcome.races == (RaceEnd("tier-0", "second"),)
        assert [one.failure for one in outcome.attempts] == ["timeout", ""]


@pytest.mark.usefixtures("each_transport")
async def test_a_model_that_says_nothing_at_all_is_raced_too() -> None:
    async with racing((SILENCE,), (streamed("ready"),)) as (gw, (silent, _)):
        assert (await gw.send(chat(stream=True))).text == "ready"
        await until(lambda: silent.closed == 1, within_s=0.5)


@pytest.mark.usefixtures("each_transport")
async def test_the_first_wins_where_its_content_comes_first() -> None:
    async with racing(late(0.7, "first"), late(SILENCE, "second")) as (gw, (_, second)):
        reply = await gw.send(chat(stream=True))
        assert reply.text == "first"
        assert reply.headers["x-switchboard-backend"] == "ai/a"
        assert reply.headers["x-switchboard-attempts"] == "2"
        assert reply.headers["x-switchboard-reason"] == "primary"
        await until(lambda: second.closed == 1, within_s=0.5)
        assert (await gw.outcome()).races == (RaceEnd("tier-0", "first"),)
        page = (await gw.admin("/metrics")).body.decode()
        labels = 'policy="ai/chat",rule="default",tier="tier-0",won="first"'
        assert f"switchboard_races_total{{{labels}}} 1" in page
        assert 'switchboard_attempts_total{backend="ai/b",reason="lost"} 1' in page


@pytest.mark.parametrize("busy", ["full", "rests"])
async def test_what_is_busy_when_the_first_is_late_joins_it_when_it_is_free(busy: str) -> None:
    free_s = 0.9
    async with (
        nothing_left(),
        scripted(*late(SILENCE, "late")) as silent,
        scripted(streamed("free")) as other,
        gateway(
            failover("a", "b"),
            external("a", silent.url, timeouts={"first_token_ms": int(LATE_S * 1000)}),
            external("b", other.url, max_in_flight=1),
        ) as gw,
    ):
        signals, loop = gw.plane.in_force.signals, asyncio.get_running_loop()
        (endpoint,) = gw.plane.in_force.snapshot.backends["ai/b"].endpoints  # type: ignore[union-attr]
        if busy == "full":
            signals[endpoint.id].reserve()
            loop.call_later(free_s, signals[endpoint.id].unreserve)
        else:
            signals.marks.put(Mark("ai/b", "rate_limited", free_s * 2 / 3), loop.time())
        begun = now_s()
        reply = await gw.send(chat(stream=True))
        assert LATE_S < now_s() - begun < free_s * 1.1 + 0.5
        assert (reply.text, reply.headers["x-switchboard-reason"]) == ("free", "raced")
        await until(lambda: not any(signal.in_flight for signal in signals.values()))


async def test_where_both_are_slow_the_quicker_one_answers() -> None:
    async with racing(late(3.0, "first"), late(0.9, "second")) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert reply.text == "second"
        ttft_s = (await gw.outcome()).ttft_s
        assert ttft_s is not None
        assert 1.25 < ttft_s < 1.8


async def test_where_both_stay_silent_the_deadline_ends_both() -> None:
    async with racing(late(SILENCE, "a"), (SILENCE,), deadline_ms=1_500) as (gw, models):
        reply = await gw.send(chat(stream=True))
        assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
        assert reply.headers["x-switchboard-attempts"] == "2"
        await until(lambda: [model.closed for model in models] == [1, 1], within_s=0.5)


async def test_of_three_that_are_silent_two_are_open_at_a_time() -> None:
    async with racing((SILENCE,), (SILENCE,), (streamed("third"),)) as (gw, (first, second, _)):
        reply = await gw.send(chat(stream=True))
        assert reply.text == "third"
        assert reply.headers["x-switchboard-attempts"] == "3"
        await until(lambda: first.closed == second.closed == 1, within_s=0.5)


@pytest.mark.usefixtures("each_transport")
async def test_a_caller_that_leaves_during_a_race_ends_both_within_a_tenth_of_a_second() -> None:
    async with racing(late(SILENCE, "a"), (SILENCE,)) as (gw, models):
        sent = asyncio.create_task(gw.send(chat(stream=True)))
        await until(lambda: bool(models[1].seen))
        sent.cancel()
        left_at = now_s()
        await until(lambda: [model.closed for model in models] == [1, 1])
        assert now_s() - left_at < 0.1
        await asyncio.gather(sent, return_exceptions=True)
        outcome = await gw.outcome()
        assert outcome.caller_left
        assert [one.failure for one in outcome.attempts] == ["cancelled", "cancelled"]
        assert outcome.races == (RaceEnd("tier-0", "none"),)


@pytest.mark.parametrize(
    "refusal",
    [
        STREAM_HEAD + event(error={"message": "boom"}),
        STREAM_HEAD + event(error={"message": "too long", "code": 400}),
        http(400, b'{"error": {"message": "no"}}'),
        http(503, b"{}"),
    ],
    ids=["error-event", "callers-event", "400", "503"],
)
async def test_an_error_of_the_second_does_not_win(refusal: bytes) -> None:
    async with racing(late(0.7, "first"), (refusal,)) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert (reply.status, reply.text) == (200, "first")
        assert reply.headers["x-switchboard-backend"] == "ai/a"


async def test_a_winner_that_breaks_later_ends_with_an_error_event() -> None:
    broken = (STREAM_HEAD + said("half"),)
    async with racing((SILENCE,), broken) as (gw, _):
        reply = await gw.send(chat(stream=True))
        assert reply.text == "half"
        assert reply.events[-1]["error"]["code"] == "upstream_reset"
        # What was used is told: two prompts were read, one of them by the one that lost.
        assert reply.events[-1]["error"]["usage"]["prompt_tokens"] >= 2


@pytest.mark.usefixtures("each_transport")
@pytest.mark.parametrize("stream", [True, False])
async def test_a_hedge_answers_what_takes_longer_than_most(stream: bool) -> None:
    slow = late(SILENCE, "slow") if stream else (SILENCE,)
    quick = streamed("quick") if stream else answered("quick")
    async with racing(slow, (quick,), hedge=HEDGE) as (gw, (first, _)):
        begun = now_s()
        reply = await gw.send(chat(stream=stream))
        assert now_s() - begun < LATE_S
        assert b"quick" in reply.body
        assert reply.headers["x-switchboard-reason"] == "hedged"
        assert reply.headers["x-switchboard-attempts"] == "2"
        await until(lambda: first.closed == 1, within_s=0.5)
        assert (await gw.outcome()).attempts[0].failure == "lost"


async def test_many_races_at_once_leave_nothing() -> None:
    async with racing(late(0.45, "first"), (0.05, streamed("second"))) as (gw, models):
        replies = await asyncio.gather(*(gw.send(chat(stream=True)) for _ in range(40)))
        assert {reply.status for reply in replies} == {200}
        assert {reply.text for reply in replies} <= {"first", "second"}
        await until(lambda: len(gw.outcomes) == 40)
        for outcome in gw.outcomes:
            assert len([one for one in outcome.attempts if not one.failure]) == 1
        asked = sum(len(model.seen) for model in models)
        assert asked == sum(len(outcome.attempts) for outcome in gw.outcomes)
