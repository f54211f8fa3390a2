"""Exchanges with upstreams that are given up: by a cancellation, a bound, or a transport's end."""

import asyncio
import ssl

import pytest

from cluster.tls import Authority
from fakes.gateway import until
from fakes.loopback import GUARD
from fakes.upstream_phases import AT_ONCE_S, PHASES, halting, mute, under_way
from fakes.upstreams import (
    SIZED_HEAD,
    Conversation,
    Talk,
    ask,
    bound_in,
    endpoint_at,
    nothing_left,
    peer,
    post,
)
from fakes.virtual_time import now_s
from switchboard_dataplane.errors import UpstreamReset
from switchboard_dataplane.upstream.http1 import Http1Upstream
from switchboard_dataplane.upstream.transport import Upstream

each_phase = pytest.mark.parametrize(("talk", "body"), PHASES.values(), ids=list(PHASES))


@each_phase
async def test_cancelling_closes_the_connection_at_once(
    upstream: Upstream, talk: Talk, body: bytes
) -> None:
    async with peer(talk) as model:
        if talk is mute:
            model.scheme = "https"
        sending = asyncio.create_task(ask(upstream, model, body))
        await under_way(model, talk)
        begun = now_s()
        sending.cancel()
        model.listens.set()
        await until(lambda: model.closed == 1)
        assert now_s() - begun < AT_ONCE_S
        assert sending.cancelled()


@pytest.mark.parametrize("phase", ["writing", "head", "body"])
async def test_cancelling_closes_the_connection_at_once_under_tls(
    upstream: Upstream, authority: Authority, phase: str
) -> None:
    talk, body = PHASES[phase]
    async with peer(talk, tls=authority.issue("127.0.0.1").context()) as model:
        sending = asyncio.create_task(ask(upstream, model, body))
        await under_way(model, talk)
        begun = now_s()
        sending.cancel()
        model.listens.set()
        await until(lambda: model.closed == 1)
        assert now_s() - begun < AT_ONCE_S


@each_phase
async def test_the_bound_ends_every_phase(upstream: Upstream, talk: Talk, body: bytes) -> None:
    async with peer(talk) as model:
        if talk is mute:
            model.scheme = "https"
        begun = now_s()
        with pytest.raises(TimeoutError):
            await ask(upstream, model, body, bound=bound_in(0.15))
        model.listens.set()
        assert 0.1 < now_s() - begun < 0.15 + AT_ONCE_S + 0.1
        await until(lambda: model.closed == 1)


async def test_an_answer_given_up_halfway_takes_its_connection_along(upstream: Upstream) -> None:
    async def talk(one: Conversation) -> None:
        await one.request()
        await one.say(SIZED_HEAD % 10 + b"half")
        await one.gone()
        one.peer.closed += 1

    async with peer(talk) as model:
        response = await post(upstream, endpoint_at(model.url))
        response.close()
        await until(lambda: model.closed == 1)


async def test_closing_ends_what_is_under_way(
    client_tls: ssl.SSLContext, authority: Authority
) -> None:
    for context in (None, authority.issue("127.0.0.1").context()):
        async with nothing_left():
            ours = Http1Upstream(tls=client_tls, guard=GUARD)
            async with peer(halting, tls=context) as model:
                response = await post(ours, endpoint_at(model.url))
                await ours.close()
                assert await response.read() == b"half"
                with pytest.raises(UpstreamReset):
                    await response.read()
                await until(lambda: model.closed == 1)


async def test_many_requests_at_once_leave_nothing_behind(ours: Upstream) -> None:
    async def talk(one: Conversation) -> None:
        while True:
            await one.request()
            if len(one.peer.requests) % 5 == 0:
                return
            await one.say(SIZED_HEAD % 10)
            await asyncio.sleep(0.001)
            await one.say(b"0123456789")

    async with peer(talk) as model:

        async def one(number: int) -> bool:
            try:
                async with asyncio.timeout(number / 10_000 if number % 3 == 0 else 30.0):
                    return len(await ask(ours, model)) == 10
            except (TimeoutError, UpstreamReset):
                return False

        outcomes = await asyncio.gather(*(one(number) for number in range(300)))
        assert sum(outcomes) > 50
