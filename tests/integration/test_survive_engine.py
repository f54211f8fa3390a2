"""What engines say of their load: read by one gateway pod, known to all, believed while it is new.

The first half runs a data plane in this process; the second runs an operator, three data planes, a
Redis and engines as processes, and stops them one by one.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx2
import pytest

from cluster.control_plane import ControlPlane
from cluster.line import NOBODY, Line, Running, eventually
from cluster.redis_server import RedisServer
from fakes.gateway import Gateway, chat, external, failover, fakes, gateway, http, scripted, until
from fakes.manifests import external as external_manifest
from fakes.manifests import policy
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


# --- one data plane ---------------------------------------------------------------------------


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
            now = gw.plane.admin.clock
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
            await asyncio.sleep(1.5)
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
            await asyncio.sleep(1.2)
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


@asynccontextmanager
async def busy(url: str, requests: int, *, key: str = "") -> AsyncIterator[None]:
    """Keep a model busy with so many requests, past any gateway."""
    body = {"model": "fake-model", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession() as session:
        asking = [
            asyncio.create_task(ask(session, f"{url}/v1/chat/completions", body, headers))
            for _ in range(requests)
        ]
        try:
            yield
        finally:
            for one in asking:
                one.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


async def ask(
    session: aiohttp.ClientSession, url: str, body: Mapping[str, Any], headers: Mapping[str, str]
) -> None:
    async with session.post(url, json=body, headers=headers) as response:
        await response.read()


# --- three data planes ------------------------------------------------------------------------

ENGINES = ("e0", "e1", "e2", "e3", "e4", "e5")
PODS = ("pod-1", "pod-2", "pod-3")
INTERVAL_S = 1.0


class Shared:
    """A line with three data planes and six engines; the first one's load can be raised."""

    def __init__(self, line: Line) -> None:
        self.line = line
        slow = ("--max-running", "1", "--ttft-ms", "60000")
        self.ports = {
            name: line.start_fake(name, *(slow if name == "e0" else ())) for name in ENGINES
        }
        line.apply(
            *(
                external_manifest(name, port, telemetry={"engine": "vllm"})
                for name, port in self.ports.items()
            ),
            policy("chat", *ENGINES[1:]),
            policy("slow", "e0"),
        )
        line.start_operator()
        self.planes = {name: line.start_data_plane(name) for name in PODS}

    def readers(self, seconds: float = 0.0) -> dict[str, Counter[str]]:
        """Return how often each pod has read each engine's page, within these seconds or ever."""
        before = {name: self._read(name) for name in ENGINES} if seconds else {}
        time.sleep(seconds)
        return {name: self._read(name) - before.get(name, Counter()) for name in ENGINES}

    def _read(self, name: str) -> Counter[str]:
        url = f"http://127.0.0.1:{self.ports[name]}/control"
        counters = httpx2.get(url, verify=NOBODY).json()["counters"]
        return Counter(
            {who.partition("/")[2]: n for who, n in counters["metrics_by_reader"].items()}
        )

    def engines(self, plane: Running) -> dict[str, Any]:
        """Return what a data plane believes of each engine now."""
        backends = httpx2.get(f"{plane.admin}/backends", verify=NOBODY).json()["backends"]
        said = {name: backends[f"{self.line.namespace}/{name}"]["endpoints"] for name in ENGINES}
        engines = {name: one[0]["engine"] for name, one in said.items() if one}
        return {name: one for name, one in engines.items() if one and one["believed"]}

    def await_known(self, *planes: str, of: tuple[str, ...] = ENGINES, within_s: float) -> None:
        """Wait until these data planes believe something of all these engines."""
        eventually(
            lambda: all(set(of) <= set(self.engines(self.planes[plane])) for plane in planes),
            what=f"{planes} know {of}",
            timeout_s=within_s,
        )

    def await_one_reader_each(self, *among: str) -> dict[str, str]:
        """Wait until each engine is read by one pod, of these; return which."""

        def each() -> dict[str, str] | None:
            found = self.readers(2.5 * INTERVAL_S)
            one_each = all(len(who) == 1 and set(who) <= set(among) for who in found.values())
            return {name: next(iter(who)) for name, who in found.items()} if one_each else None

        return eventually(each, what=f"one reader each among {among}")


@pytest.fixture(scope="module")
def shared(api: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("engines")
    with RedisServer(folder / "redis") as redis:
        line = Line(folder, api, redis)
        try:
            yield Shared(line)
        finally:
            line.close()


def requests_seen(port: int) -> int:
    """Return how many requests a fake model has had."""
    said = httpx2.get(f"http://127.0.0.1:{port}/control", verify=NOBODY).json()
    seen: int = said["counters"]["seen"]
    return seen


def serves(plane: Running, model: str) -> bool:
    """Say whether a data plane has a policy for this model."""
    models = httpx2.get(f"{plane.url}/v1/models", verify=NOBODY).json()["data"]
    return model in {one["id"] for one in models}


async def test_each_engine_is_read_by_one_pod_once_an_interval_and_known_to_all(
    shared: Shared, record_property: Callable[[str, object], None]
) -> None:
    shared.await_known(*PODS, within_s=10)
    readers = shared.await_one_reader_each(*PODS)
    assert len(set(readers.values())) > 1, "the work is shared"
    for name, who in shared.readers(6 * INTERVAL_S).items():
        assert set(who) == {readers[name]}
        assert 4 <= who.total() <= 8
    async with busy(f"http://127.0.0.1:{shared.ports['e0']}", 4):
        began = time.monotonic()
        waits: dict[str, float] = {}
        while len(waits) < len(PODS):
            await asyncio.sleep(0.02)
            for name in PODS:
                said = shared.engines(shared.planes[name]).get("e0")
                if name not in waits and said and (said["waiting"], said["running"]) == (3, 1):
                    waits[name] = time.monotonic() - began
            assert time.monotonic() - began < 10, waits
    slowest = max(waits.values())
    record_property("measured", f"load of an engine known to all three pods after {slowest:.2f} s")
    # Two intervals, and what a busy machine adds.
    assert slowest <= 2 * INTERVAL_S + 1.0


def test_what_one_pod_is_told_to_let_rest_the_others_let_rest_too(shared: Shared) -> None:
    line = shared.line
    port = line.start_fake("limited", "--fault", "status:status=429,retry_after_s=30,count=1")
    line.apply(external_manifest("limited", port), policy("limited", "limited"))
    first, *others = shared.planes.values()
    eventually(
        lambda: all(serves(plane, "limited") for plane in shared.planes.values()),
        what="the policy is in force",
    )
    assert first.answerer("limited") == "429"
    eventually(
        lambda: {plane.answerer("limited") for plane in others} == {"429"}, what="it rests there"
    )
    before = requests_seen(port)
    for plane in others * 5:
        assert int(plane.chat("limited").headers["retry-after"]) in range(20, 41)
    assert requests_seen(port) == before


def test_another_pod_reads_on_when_the_reader_is_killed(
    shared: Shared, record_property: Callable[[str, object], None]
) -> None:
    readers = shared.await_one_reader_each(*PODS)
    killed = readers["e0"]
    left = [name for name in PODS if name != killed]
    began = time.monotonic()
    shared.planes[killed].process.kill()
    before = shared.readers()["e0"]
    eventually(
        lambda: (shared.readers()["e0"] - before).keys() & set(left), what="e0 is read by another"
    )
    took_s = time.monotonic() - began
    record_property("measured", f"another pod reads an engine {took_s:.1f} s after a kill")
    assert took_s < 8
    shared.await_known(*left, within_s=5)
    assert set(shared.await_one_reader_each(*left).values()) <= set(left)
    assert shared.planes[left[0]].chat("chat").status_code == 200
    shared.planes[killed] = shared.line.start_data_plane(killed)
    shared.await_known(*PODS, within_s=10)
    assert shared.await_one_reader_each(*PODS) == readers, "it has its own again"


def test_a_stopped_pods_readings_go_stale_and_are_not_taken_for_new_when_it_goes_on(
    shared: Shared,
) -> None:
    readers = shared.await_one_reader_each(*PODS)
    stopped = readers["e0"]
    left = [name for name in PODS if name != stopped]
    shared.planes[stopped].process.pause()
    try:
        shared.await_one_reader_each(*left)
        shared.await_known(*left, within_s=5)
    finally:
        shared.planes[stopped].process.resume()
    # What it knew before is older than it was stopped.
    for said in shared.engines(shared.planes[stopped]).values():
        assert said["age_s"] < 5
    shared.await_known(*PODS, within_s=8)
    assert shared.await_one_reader_each(*PODS) == readers


def test_while_redis_hangs_traffic_goes_on_and_each_pod_has_its_own_readings(
    shared: Shared,
) -> None:
    readers = shared.await_one_reader_each(*PODS)
    shared.line.redis.pause()
    try:
        time.sleep(6)
        for name in PODS:
            mine = {engine for engine, who in readers.items() if who == name}
            assert set(shared.engines(shared.planes[name])) == mine
            assert shared.planes[name].chat("chat").status_code == 200
        assert shared.await_one_reader_each(*PODS) == readers, "nobody asks more than before"
    finally:
        shared.line.redis.resume()
    shared.await_known(*PODS, within_s=12)
    assert shared.await_one_reader_each(*PODS) == readers


def test_a_redis_that_comes_back_empty_is_spoken_through_again(shared: Shared) -> None:
    shared.line.redis.restart(keep_data=False)
    time.sleep(5)
    shared.await_known(*PODS, within_s=15)
    shared.await_one_reader_each(*PODS)
