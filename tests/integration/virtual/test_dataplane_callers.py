"""Callers of the public port that leave, or read slowly or never."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from fakes import gateway as gateway_form
from fakes.echoing_gateway import serving
from fakes.gateway import STREAM_HEAD, external, failover, gateway, said, until
from fakes.raw_caller import calling, request
from fakes.upstream_phases import AT_ONCE_S, halting, silent
from fakes.upstreams import Conversation, Talk, peer
from fakes.virtual_time import now_s
from switchboard_dataplane.front.routes import Patience
from switchboard_policy import ir

each_front = pytest.mark.usefixtures("each_front")


# --- callers that leave --------------------------------------------------------------------------


async def opening(one: Conversation) -> None:
    """Begin a stream, and say nothing in it."""
    await one.request()
    await one.say(STREAM_HEAD + said(role="assistant"))
    await one.gone()
    one.peer.closed += 1


async def talking(one: Conversation) -> None:
    await one.request()
    await one.say(STREAM_HEAD + said("one"))
    await one.gone()
    one.peer.closed += 1


async def flooding(one: Conversation) -> None:
    await one.request()
    await one.say(STREAM_HEAD)
    while True:
        await one.say(said("x" * 10_000))


@dataclass(frozen=True)
class Phase:
    """Where a request is when its caller leaves; ``heard`` says that its answer has begun.

    ``failures`` is what is known of its attempts afterwards.
    """

    talk: Talk
    stream: bool = False
    heard: bool = False
    failures: tuple[str, ...] = ("cancelled",)
    sent: int = 1
    settle_s: float = 0.03


#: A machine that is busy with something else is asked again.
TRIES = 10
PHASES = {
    "queue": Phase(silent, failures=()),
    "whole, before its head": Phase(silent),
    "whole, before its end": Phase(halting),
    "stream, before its head": Phase(silent, stream=True),
    "stream, before its content": Phase(opening, stream=True),
    "stream": Phase(talking, stream=True, heard=True, failures=("",)),
    "stream that is not read": Phase(
        flooding, stream=True, heard=True, failures=("",), settle_s=0.1
    ),
    "with others behind it": Phase(silent, sent=3),
}


@each_front
@pytest.mark.usefixtures("each_transport")
@pytest.mark.parametrize("leaves", ["abort", "close"])
@pytest.mark.parametrize("name", PHASES)
async def test_a_caller_that_leaves_takes_its_upstream_along_at_once(
    name: str, leaves: str
) -> None:
    phase, took_s = PHASES[name], list[float]()
    timeouts = {"first_token_ms": 5_000, "idle_ms": 5_000}
    async with peer(phase.talk) as model, AsyncExitStack() as held:
        url = model.url.removesuffix("/v1")
        limits = {"max_in_flight": 1, "queue": ir.Queue(10, 10_000)}
        gw = await held.enter_async_context(
            gateway(failover("model"), external("model", url, timeouts=timeouts, **limits))
        )
        signals, before = gw.plane.in_force.signals, 0
        if name == "queue":
            first = await held.enter_async_context(calling(gw))
            await first.write(request())
            await until(lambda: len(model.requests) == 1)
            before = 1
        for number in range(TRIES):
            attempted = before + number + 1 if phase.failures else before
            async with calling(gw) as caller:
                await caller.write(request(stream=phase.stream) * phase.sent)
                if phase.heard:
                    await caller.head()
                await until(lambda: len(gw.plane.live) == before + 1)
                await until(lambda: len(model.requests) == attempted)  # noqa: B023 - awaited here
                await asyncio.sleep(phase.settle_s)
                assert gw.plane.in_force.queued()["ai/model"] == before
                began = now_s()
                if leaves == "abort":
                    caller.writer.transport.abort()
                else:
                    caller.writer.close()
                await until(lambda: model.closed == attempted - before)  # noqa: B023
                outcome = await gw.outcome(number)
                took_s.append(now_s() - began)
            assert (outcome.caller_left, outcome.model) == (True, "chat")
            assert tuple(one.failure for one in outcome.attempts) == phase.failures
            assert len(gw.plane.live) == before
            assert sum(one.in_flight for one in signals.values()) == before
            assert not any(gw.plane.in_force.queued().values())
            await asyncio.sleep(0.02)
            assert (len(model.requests), len(gw.outcomes)) == (attempted, number + 1)
            if took_s[-1] < AT_ONCE_S:
                return
    pytest.fail(f"none of them was quick: {took_s}")


@each_front
async def test_a_caller_that_leaves_with_half_a_body_is_accounted_for() -> None:
    async with serving() as (gw, model), calling(gw) as caller:
        await caller.write(request()[:-3])
        await until(lambda: len(gw.plane.live) == 1)
        caller.writer.transport.abort()
        assert (await gw.outcome()).caller_left
        assert (len(gw.plane.live), len(model.requests)) == (0, 0)


# --- callers that read slowly --------------------------------------------------------------------


@each_front
async def test_a_slow_reader_gets_all_of_a_big_answer_and_holds_up_nobody() -> None:
    async with serving() as (gw, _), calling(gw) as slow, calling(gw) as other:
        text = "x" * 20_000_000
        await slow.write(request(text))
        await asyncio.sleep(0.05)
        await other.write(request("hi"))
        assert (await other.answer()).json == {"said": "hi"}
        head = await slow.head()
        size = int(head.headers["content-length"])
        read = 0
        while read < size:
            read += len(await slow.reader.read(1_000_000))
            await asyncio.sleep(0)
        await slow.write(request("ho"))
        assert (await slow.answer()).json == {"said": "ho"}


@each_front
async def test_a_caller_that_never_reads_is_given_up() -> None:
    hasty = Patience(sweep_s=0.01, stall_s=0.1)
    async with serving(patience=hasty) as (gw, _), calling(gw) as caller:
        public = gw.plane.public
        await caller.write(request("x" * 20_000_000))
        outcome = await gw.outcome()
        # aiohttp sends a whole answer after its request is served.
        assert outcome.caller_left or not gateway_form.LANE
        await until(lambda: not (len(gw.plane.live) or public._all() or public._front.connections))


# --- callers that write slowly -------------------------------------------------------------------


@each_front
async def test_a_body_that_trickles_in_has_no_more_time_than_one_that_stops() -> None:
    async with serving(patience=Patience(body_s=0.3)) as (gw, model), calling(gw) as caller:
        head, _, body = request("x" * 10_000).partition(b"\r\n\r\n")
        await caller.write(head + b"\r\n\r\n")

        async def trickle() -> None:
            for byte in body:
                await caller.write(bytes([byte]))
                await asyncio.sleep(0.01)

        began, trickling = now_s(), asyncio.create_task(trickle())
        answer = await caller.answer()
        assert (answer.status, answer.code) == (408, "body_timeout")
        assert 0.25 < now_s() - began < 1.5
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)
        assert (await gw.outcome()).error == "body_timeout"
        assert (len(gw.plane.live), len(model.requests)) == (0, 0)


@each_front
async def test_500_slow_writers_hold_what_there_is_room_for_and_hold_up_nobody() -> None:
    room, sent, writers = 2_000_000, 20_000, 500
    async with (
        serving(bodies_limit_bytes=room, body_limit_bytes=room) as (gw, model),
        AsyncExitStack() as open_connections,
        calling(gw) as quick,
    ):
        bodies = gw.plane.public._connections.routes.bodies
        slow = [await open_connections.enter_async_context(calling(gw)) for _ in range(writers)]
        most, took_s = 0, [0.0]
        for number, caller in enumerate(slow):
            await caller.write(request("x" * 30_000)[:sent])
            if number % 10 == 0:
                began = now_s()
                await quick.write(request("hi"))
                assert (await quick.answer()).json == {"said": "hi"}
                took_s.append(now_s() - began)
                most = max(most, bodies.held_bytes)
        await until(lambda: len(gw.outcomes) >= writers - room // sent)
        # All that there is room for is waited for, and what came first has given way.
        assert 0.8 * room < bodies.held_bytes <= room
        assert most <= room
        assert max(took_s) < 2.0, took_s
        for caller in slow[:10]:
            told = await caller.answer()
            assert (told.status, told.code) == (408, "body_timeout")
            assert "it again" in told.json["error"]["message"]
            assert told.headers["connection"] == "close"
        # Who is still waited for can go on.
        await slow[-1].write(request("x" * 30_000)[sent:])
        assert (await slow[-1].answer()).status == 200
        for caller in slow:
            caller.writer.transport.abort()
        await until(lambda: not len(gw.plane.live))
        await until(lambda: not len(bodies))
        assert bodies.held_bytes == 0
        assert len(model.requests) == len(took_s)


@each_front
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_that_takes_its_time_is_counted_until_it_is_here(chunked: bool) -> None:
    async with serving() as (gw, _), calling(gw) as caller:
        bodies = gw.plane.public._connections.routes.bodies
        whole = request("x" * 50_000, chunked=chunked)
        for _ in range(2):
            await caller.write(whole[:40_000])
            await until(lambda: 39_000 < bodies.held_bytes <= 40_000)
            await caller.write(whole[40_000:])
            assert (await caller.answer()).status == 200
            assert (len(bodies), bodies.held_bytes) == (0, 0)
