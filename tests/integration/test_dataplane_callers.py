"""Callers of the public port that leave, or read slowly or never."""

import asyncio
import time

import pytest

from fakes.echoing_gateway import serving
from fakes.gateway import STREAM_HEAD, external, failover, gateway, said, until
from fakes.raw_caller import calling, request
from fakes.upstream_phases import AT_ONCE_S, silent
from fakes.upstreams import Conversation, peer
from switchboard_dataplane.front.routes import Patience

each_front = pytest.mark.usefixtures("each_front")


# --- callers that leave --------------------------------------------------------------------------


async def halting(one: Conversation) -> None:
    await one.request()
    await one.say(STREAM_HEAD + said("one"))
    await one.gone()
    one.peer.closed += 1


async def flooding(one: Conversation) -> None:
    await one.request()
    await one.say(STREAM_HEAD)
    while True:
        await one.say(said("x" * 10_000))


@each_front
@pytest.mark.parametrize("leaves", ["abort", "close"])
@pytest.mark.parametrize("phase", ["head", "stream", "slow", "ahead"])
async def test_a_caller_that_leaves_takes_its_upstream_along_at_once(
    phase: str, leaves: str
) -> None:
    talk = {"head": silent, "stream": halting, "slow": flooding, "ahead": silent}[phase]
    stream = talk is not silent
    timeouts = {"first_token_ms": 5_000, "idle_ms": 5_000}
    async with (
        peer(talk) as model,
        gateway(
            failover("model"), external("model", model.url.removesuffix("/v1"), timeouts=timeouts)
        ) as gw,
        calling(gw) as caller,
    ):
        await caller.write(request(stream=stream) * (3 if phase == "ahead" else 1))
        if stream:
            await caller.head()
        await until(lambda: len(model.requests) == 1)
        await asyncio.sleep(0.1 if phase == "slow" else 0.03)
        began = time.monotonic()
        if leaves == "abort":
            caller.writer.transport.abort()
        else:
            caller.writer.close()
        await until(lambda: model.closed == 1)
        outcome = await gw.outcome()
        assert time.monotonic() - began < AT_ONCE_S + 0.1
        assert (outcome.caller_left, outcome.model) == (True, "chat")
        assert [one.failure for one in outcome.attempts] == (["cancelled"] if not stream else [""])
        assert len(gw.plane.live) == 0
        assert sum(one.in_flight for one in gw.plane.in_force.signals.values()) == 0
        await asyncio.sleep(0.02)
        assert (len(model.requests), len(gw.outcomes)) == (1, 1)


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


async def test_a_caller_that_never_reads_is_given_up() -> None:
    hasty = Patience(sweep_s=0.01, stall_s=0.1)
    async with serving(patience=hasty) as (gw, _), calling(gw) as caller:
        await caller.write(request("x" * 20_000_000))
        outcome = await gw.outcome()
        assert outcome.caller_left
        await until(lambda: len(gw.plane.live) == 0 and not gw.plane.public._all())
