"""Busy tiers hand requests on before anything fails."""

import asyncio

import pytest

from fakes.crowds import (
    ask,
    crowd,
    page,
    pool,
    tiers,
)
from fakes.gateway import external, fakes, gateway, until
from fakes.virtual_time import now_s
from switchboard_dataplane.signals.engine import EngineLoad
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")


async def test_a_busy_tier_spills_before_anything_fails_and_takes_requests_again() -> None:
    spill = ir.Spill(in_flight_permille=500)
    async with (
        fakes({"ttft_ms": 400}, {}) as (near, far),
        gateway(
            tiers("pool", "far", spill=spill),
            *pool([near], max_in_flight=4),
            external("far", far.url),
        ) as gw,
        crowd(gw) as session,
    ):
        held = [asyncio.create_task(ask(gw, session)) for _ in range(2)]
        await until(lambda: gw.plane.in_force.in_flight()["ai/pool"] == 2)
        assert await ask(gw, session) == (200, "ai/far", "spill:inFlight")
        assert {one[1:] for one in await asyncio.gather(*held)} == {("ai/pool", "primary")}
        assert (await ask(gw, session))[1:] == ("ai/pool", "primary")
        where = 'policy="ai/chat",rule="default",tier="near"'
        counted = f'switchboard_spills_total{{cause="inFlight",{where}}} 1.0'
        await until(lambda: any(one.spills for one in gw.outcomes))
        assert counted in await page(gw)
        assert {one.error for one in gw.outcomes} == {""}


async def test_a_request_waits_for_its_own_tier_and_then_spills() -> None:
    spill = ir.Spill(queue_wait_ms=300)
    async with (
        fakes({"ttft_ms": 1_000}, {}) as (near, far),
        gateway(
            tiers("pool", "far", spill=spill),
            *pool([near], queue=ir.Queue(10, 10_000)),
            external("far", far.url),
        ) as gw,
        crowd(gw) as session,
    ):
        holds = asyncio.create_task(ask(gw, session))
        await until(lambda: gw.plane.in_force.in_flight()["ai/pool"] == 1)
        began_at = now_s()
        assert await ask(gw, session) == (200, "ai/far", "spill:queueWait")
        assert 0.25 < now_s() - began_at < 0.9
        assert (await holds)[1] == "ai/pool"


async def test_a_tier_that_is_slow_to_begin_spills() -> None:
    spill = ir.Spill(ttft_ms=200)
    async with (
        fakes({"ttft_ms": 300}, {}) as (near, far),
        gateway(
            tiers("pool", "far", spill=spill),
            *pool([near], max_in_flight=None),
            external("far", far.url),
        ) as gw,
        crowd(gw) as session,
    ):
        assert (await ask(gw, session, stream=True))[1] == "ai/pool"
        await asyncio.sleep(0.12)
        assert await ask(gw, session, stream=True) == (200, "ai/far", "spill:ttft")


async def test_an_engine_that_others_have_filled_spills() -> None:
    async with (
        fakes({}, {}) as (near, far),
        gateway(
            tiers("pool", "far", spill=ir.Spill(in_flight_permille=900)),
            *pool([near], max_in_flight=10),
            external("far", far.url),
        ) as gw,
        crowd(gw) as session,
    ):
        assert (await ask(gw, session))[1] == "ai/pool"
        (signal,) = (one for at, one in gw.plane.in_force.signals.items() if "pool" in at)
        signal.engine = EngineLoad(waiting=1, running=9, kv_use=None, at=now_s())
        await asyncio.sleep(0.12)
        assert await ask(gw, session) == (200, "ai/far", "spill:inFlight")


async def test_a_tier_that_spilled_is_the_last_resort_when_the_next_one_fails() -> None:
    async with (
        fakes({"ttft_ms": 300}, {"faults": [{"kind": "status", "status": 503}]}) as (near, far),
        gateway(
            tiers("pool", "far", spill=ir.Spill(in_flight_permille=500)),
            *pool([near], max_in_flight=2),
            external("far", far.url),
        ) as gw,
        crowd(gw) as session,
    ):
        holds = asyncio.create_task(ask(gw, session))
        await until(lambda: gw.plane.in_force.in_flight()["ai/pool"] == 1)
        assert await ask(gw, session) == (200, "ai/pool", "fallback:overloaded")
        await holds
