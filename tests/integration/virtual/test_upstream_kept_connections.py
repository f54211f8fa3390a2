"""Connections to upstreams that are kept: used again, made up for, closed, and waited for."""

import asyncio
import ssl

import pytest

from fakes.gateway import until
from fakes.loopback import GUARD
from fakes.upstream_phases import silent
from fakes.upstreams import (
    ANSWER,
    Conversation,
    answering,
    ask,
    bound_in,
    endpoint_at,
    keep_answering,
    leaving_nothing,
    peer,
    post,
)
from switchboard_dataplane.errors import UpstreamConnect, UpstreamReset
from switchboard_dataplane.upstream.http1 import Http1Upstream
from switchboard_dataplane.upstream.pool import PoolLimits
from switchboard_dataplane.upstream.transport import Upstream


async def test_connections_are_kept_and_used_again(upstream: Upstream) -> None:
    async with peer(keep_answering) as model:
        for _ in range(5):
            await ask(upstream, model)
        assert (model.accepted, len(model.requests)) == (1, 5)
        await asyncio.gather(
            *(ask(upstream, model) for _ in range(20)),
        )
        assert model.accepted <= 20
        before = model.accepted
        await asyncio.gather(*(ask(upstream, model) for _ in range(before)))
        assert model.accepted == before


async def test_a_connection_that_went_stale_is_made_up_for_once(ours: Upstream) -> None:
    async def talk(one: Conversation) -> None:
        await one.request()
        await one.say(ANSWER)
        if one.number == 1:
            # It takes the next request, and is closed then without a word.
            await one.request()
        else:
            await one.request()
            await one.say(ANSWER)

    async with peer(talk) as model:
        assert await ask(ours, model) == b"{}"
        assert await ask(ours, model) == b"{}"
        assert (model.accepted, len(model.requests)) == (2, 3)


async def test_a_stale_connection_is_made_up_for_only_once(ours: Upstream) -> None:
    async def talk(one: Conversation) -> None:
        await one.request()
        if one.number == 1:
            await one.say(ANSWER)
            await one.request()

    async with peer(talk) as model:
        await ask(ours, model)
        with pytest.raises(UpstreamReset):
            await ask(ours, model)
        assert (model.accepted, len(model.requests)) == (2, 3)


async def test_what_has_begun_to_answer_is_not_asked_again(ours: Upstream) -> None:
    async def talk(one: Conversation) -> None:
        await one.request()
        await one.say(ANSWER)
        await one.request()
        await one.say(b"H")

    async with peer(talk) as model:
        await ask(ours, model)
        with pytest.raises(UpstreamReset):
            await ask(ours, model)
        assert (model.accepted, len(model.requests)) == (1, 2)


async def test_a_new_connection_that_is_closed_is_not_made_up_for(ours: Upstream) -> None:
    async with peer(answering()) as model:
        with pytest.raises(UpstreamReset):
            await ask(ours, model)
        assert model.accepted == 1


async def test_a_connection_closed_while_it_was_idle_costs_no_request(ours: Upstream) -> None:
    async with peer(answering(ANSWER)) as model:
        for count in range(1, 4):
            await ask(ours, model)
            await asyncio.sleep(0.02)
            assert (model.accepted, len(model.requests)) == (count, count)


async def test_idle_connections_are_closed_and_their_pools_forgotten(
    client_tls: ssl.SSLContext,
) -> None:
    limits = PoolLimits(keepalive_s=0.1, reap_s=0.02, forgotten_s=0.2)
    async with (
        leaving_nothing(lambda: Http1Upstream(tls=client_tls, guard=GUARD, limits=limits)) as ours,
        peer(keep_answering) as model,
    ):
        assert isinstance(ours, Http1Upstream)
        await ask(ours, model)
        await asyncio.sleep(0.05)
        assert model.closed == 0
        await until(lambda: model.closed == 1)
        assert len(ours._pools) == len(ours._routes) == 1
        await until(lambda: not ours._pools and not ours._routes)
        await ask(ours, model)
        assert model.accepted == 2


async def test_requests_beyond_the_cap_stand_in_line(client_tls: ssl.SSLContext) -> None:
    limits = PoolLimits(connections_max=3)
    most = 0

    async def talk(one: Conversation) -> None:
        nonlocal most
        while True:
            await one.request()
            most = max(most, one.peer.accepted - one.peer.closed)
            await asyncio.sleep(0.002)
            await one.say(ANSWER)

    async with (
        leaving_nothing(lambda: Http1Upstream(tls=client_tls, guard=GUARD, limits=limits)) as ours,
        peer(talk) as model,
    ):
        bodies = await asyncio.gather(*(ask(ours, model) for _ in range(30)))
        assert bodies == [b"{}"] * 30
        assert (model.accepted, most) == (3, 3)


async def test_a_place_in_line_is_bounded_and_can_be_left(client_tls: ssl.SSLContext) -> None:
    limits = PoolLimits(connections_max=1)
    async with (
        leaving_nothing(lambda: Http1Upstream(tls=client_tls, guard=GUARD, limits=limits)) as ours,
        peer(silent) as model,
    ):
        first = asyncio.create_task(ask(ours, model))
        await until(lambda: len(model.requests) == 1)
        with pytest.raises(TimeoutError):
            await post(ours, endpoint_at(model.url), bound=bound_in(0.05))
        with pytest.raises(UpstreamConnect):
            await post(ours, endpoint_at(model.url, connect_ms=50))
        third = asyncio.create_task(ask(ours, model))
        await asyncio.sleep(0.02)
        third.cancel()
        last = asyncio.create_task(ask(ours, model))
        await asyncio.sleep(0.02)
        first.cancel()
        await until(lambda: len(model.requests) == 2)
        last.cancel()
        assert model.accepted == 2
