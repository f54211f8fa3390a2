"""Through real sockets: the end of a data plane, while it answers."""

import asyncio

import aiohttp
import pytest

from fakes.gateway import (
    STREAM_HEAD,
    chat,
    external,
    failover,
    fakes,
    gateway,
    said,
    scripted,
    until,
)


async def test_draining_fails_readiness_serves_on_and_lets_live_streams_end() -> None:
    async with (
        fakes({"tokens_per_second": 40}) as (model,),
        gateway(failover("model"), external("model", model.url)) as gw,
    ):
        running = asyncio.create_task(gw.send(chat(stream=True)))
        await until(lambda: model.engine.records.seen == 1)
        stopping = asyncio.create_task(gw.plane.stop(grace_s=0.3, drain_s=5))
        await until(lambda: gw.plane.live.closing)
        ready = await gw.admin("/readyz")
        assert (ready.status, ready.json["reason"]) == (503, "shutting down")
        late = await gw.send(chat())
        assert late.status == 200
        reply = await running
        assert reply.events[-1] == "[DONE]"
        await stopping
        with pytest.raises(aiohttp.ClientConnectorError):
            await gw.send(chat())


@pytest.mark.parametrize("stream", [True, False])
async def test_what_outlives_the_drain_deadline_is_told_so(*, stream: bool) -> None:
    script: tuple[bytes | float, ...] = (STREAM_HEAD, said("hi"), 30.0) if stream else (30.0,)
    async with (
        scripted(*script) as model,
        gateway(failover("model"), external("model", model.url)) as gw,
    ):
        running = asyncio.create_task(gw.send(chat(stream=stream)))
        await until(lambda: any(one.in_flight for one in gw.plane.in_force.signals.values()))
        await asyncio.sleep(0.1)
        await gw.plane.stop(drain_s=0.1)
        reply = await running
        error = reply.events[-1]["error"] if stream else reply.error
        assert error["code"] == "shutting_down"
        assert reply.status == (200 if stream else 503)
        assert b"[DONE]" not in reply.body
        assert (await gw.outcome()).error == "shutting_down"
        await until(lambda: model.closed == 1)
