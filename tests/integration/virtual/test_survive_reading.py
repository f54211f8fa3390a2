"""One data plane and what engines say of their load: known, shown, and believed while it is new.

Several data planes are in ``test_survive_engine.py``, as processes.
"""

import asyncio
import re
from typing import Any

import pytest

from fakes.gateway import Gateway, chat, external, failover, fakes, gateway, http, scripted, until
from fakes.models import busy
from switchboard_policy import ir

VLLM = ir.Telemetry(engine="vllm")
ANSWER = b'{"choices": []}'
REPORT = "endpoint-load-metrics: TEXT named_metrics.num_requests_waiting=7, num_requests_running=9"


async def engine_of(gw: Gateway, name: str = "model") -> Any:
    backends = (await gw.admin("/backends")).json["backends"]
    (endpoint,) = backends[f"ai/{name}"]["endpoints"]
    return endpoint["engine"]


def signal_of(gw: Gateway, name: str = "model") -> Any:
    (endpoint,) = gw.plane.in_force.snapshot.backends[f"ai/{name}"].endpoints  # type: ignore[union-attr]
    return gw.plane.in_force.signals[endpoint.id]


async def test_a_data_plane_knows_what_the_engine_says_and_shows_it() -> None:
    async with fakes({"max_running": 1, "ttft_ms": 60_000, "api_key": "sk"}) as (model,):
        entry = external("model", model.url, telemetry=VLLM)
        async with gateway(failover("model"), entry) as gw, busy(model.url, 3, key="sk"):
            await until(lambda: signal_of(gw).engine is not None)
            await until(lambda: signal_of(gw).engine.waiting == 2)
            said = await engine_of(gw)
            assert (said["waiting"], said["running"], said["believed"]) == (2, 1, True)
            page = (await gw.admin("/metrics")).body.decode()
            assert 'switchboard_engine_waiting{backend="ai/model"} 2.0' in page
            assert 'switchboard_engine_running{backend="ai/model"} 1.0' in page
            assert 'switchboard_engine_kv_use{backend="ai/model"}' in page
            age = re.search(r'switchboard_signal_age_seconds{backend="ai/model"} (\S+)', page)
            assert age is not None
            assert 0 <= float(age[1]) < 2


async def test_an_engine_that_goes_silent_is_believed_for_seconds_and_requests_go_on() -> None:
    async with fakes({}) as (model,):
        silent = ir.Telemetry(engine="vllm", path="/nowhere")
        async with gateway(
            failover(["model", "other"]),
            external("model", model.url, telemetry=VLLM),
            external("other", model.url, telemetry=silent),
        ) as gw:
            await until(lambda: signal_of(gw).engine is not None)
            assert await engine_of(gw, "other") is None
            await gw.publish(
                failover(["model", "other"]),
                external("model", model.url, telemetry=silent),
                external("other", model.url, telemetry=silent),
            )
            now = asyncio.get_running_loop().time
            await until(lambda: not signal_of(gw).engine.is_fresh(now()), within_s=8)
            assert (await engine_of(gw))["believed"] is False
            assert (await gw.send(chat())).status == 200


async def test_without_telemetry_and_in_a_sidecar_no_engine_is_asked() -> None:
    async with fakes({}, {}) as (asked, plain):
        entries = (
            failover(["asked", "plain"]),
            external("asked", asked.url, telemetry=VLLM),
            external("plain", plain.url),
        )
        async with gateway(*entries) as gw:
            await until(lambda: signal_of(gw, "asked").engine is not None)
            assert not plain.engine.metrics_readers
        asked.engine.reset()
        async with gateway(*entries, scope="ns/ai") as sidecar:
            await asyncio.sleep(10)
            assert (await sidecar.send(chat())).status == 200
            assert signal_of(sidecar, "asked").engine is None
        assert not asked.engine.metrics_readers


@pytest.mark.usefixtures("each_front")
async def test_a_load_report_is_taken_in_and_not_handed_on() -> None:
    async with scripted(http(200, ANSWER, REPORT)) as upstream:
        mute = ir.Telemetry(engine="sglang", interval_ms=3_600_000)
        async with gateway(
            failover("model"), external("model", upstream.url, telemetry=mute)
        ) as gw:
            await asyncio.sleep(10)
            assert signal_of(gw).engine is None, "it has no metrics"
            reply = await gw.send(chat())
            assert reply.status == 200
            assert "endpoint-load-metrics" not in reply.headers
            said = await engine_of(gw)
            assert (said["waiting"], said["running"], said["kv_use"]) == (7, 9, None)


async def test_a_load_report_of_a_backend_without_telemetry_is_not_read() -> None:
    async with (
        scripted(http(200, ANSWER, REPORT)) as upstream,
        gateway(failover("model"), external("model", upstream.url)) as gw,
    ):
        reply = await gw.send(chat())
        assert reply.status == 200
        assert "endpoint-load-metrics" not in reply.headers
        assert await engine_of(gw) is None


@pytest.mark.parametrize(
    "page",
    [
        http(500, b"no"),
        http(200, b"<html>"),
        http(200, b"vllm:num_requests_waiting NaN\n"),
        http(200, b"#" * (2 * 1024 * 1024)),
        b"not http at all",
        None,
    ],
    ids=["status", "html", "nan", "large", "garbage", "reset"],
)
async def test_a_page_that_is_none_harms_nobody(page: bytes | None) -> None:
    async with scripted(page) as bad, fakes({}) as (model,):
        async with gateway(
            failover("good", "bad"),
            external("bad", bad.url, telemetry=VLLM),
            external("good", model.url, telemetry=VLLM),
        ) as gw:
            await until(lambda: len(bad.seen) >= 2)
            await until(lambda: signal_of(gw, "good").engine is not None)
            assert signal_of(gw, "bad").engine is None
            assert (await gw.send(chat())).status == 200
        assert all(request.startswith(b"GET /metrics HTTP/1.1\r\n") for request in bad.seen)
