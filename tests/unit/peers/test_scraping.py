"""Each endpoint's engine is read by one pod, and what it says is known to all while it is true."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import msgspec
import pytest

from fakes.followers import FaultyReader
from fakes.policies import backend, endpoints, policy, rule, service, snapshot, tier
from fakes.stores import OURS, MemoryRig
from switchboard_dataplane.peers import targets_of
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.engine import EngineLoad
from switchboard_dataplane.signals.scraping import (
    BACKOFF_MAX,
    TOPIC,
    Scraper,
    Target,
    engines_by_backend,
)
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_policy import ir
from switchboard_policy.store import StoreReader

ADDRESSES = [f"10.0.0.{number}:8000" for number in range(1, 13)]
IDS = [f"ai/llama@{address}" for address in ADDRESSES]
VLLM = ir.Telemetry(engine="vllm")


class Engines:
    """Engines that answer for their pages; ``asked`` counts by pod and endpoint."""

    def __init__(self) -> None:
        self.waiting = 3
        self.asked: Counter[tuple[str, str]] = Counter()
        self.times: dict[str, list[float]] = {}
        self.down: set[str] = set()
        self.silent: set[str] = set()
        self.open = 0
        self.most_open = 0

    async def page(self, pod: str, target: Target) -> bytes:
        self.asked[pod, target.id] += 1
        self.times.setdefault(target.id, []).append(asyncio.get_running_loop().time())
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(2.0 if target.id in self.silent else 0.01)
        finally:
            self.open -= 1
        if target.id in self.down | self.silent:
            raise TimeoutError
        return (
            f"vllm:num_requests_waiting {self.waiting}\nvllm:num_requests_running 4\n"
            "vllm:kv_cache_usage_perc 0.5\n"
        ).encode()

    def pods_of(self, endpoint_id: str) -> set[str]:
        return {pod for pod, asked in self.asked if asked == endpoint_id}


def built(*addresses: str, telemetry: ir.Telemetry | None = VLLM) -> Mapping[str, Target]:
    running = snapshot(
        policy("chat", rule("default", tier("only", "llama", "plain"))),
        service("llama", telemetry=telemetry),
        endpoints("llama", *addresses),
        backend("plain"),
    )
    return targets_of(running)


class Pod:
    """A gateway pod as far as engines go."""

    def __init__(self, name: str, source: StoreReader, engines: Engines, pods: list[str]) -> None:
        loop = asyncio.get_running_loop()
        self.name = name
        self.engines = engines
        self.targets = built(*ADDRESSES)
        self.signals = SignalTable()
        self.sharing = Sharing(
            source, pod=name, keyring=lambda: OURS, clock=loop.time, random=Random(7)
        )
        self.scraper = Scraper(
            me=name,
            signals=self.signals,
            targets=lambda: self.targets,
            pods=lambda: pods,
            fetch=lambda target: engines.page(name, target),
            share=lambda body: self.sharing.tell(TOPIC, body),
            clock=loop.time,
            random=Random(name),
        )
        self.sharing.hear(TOPIC, self.scraper.take)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self.sharing.run()),
            asyncio.create_task(self.scraper.run()),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def known(self) -> dict[str, EngineLoad]:
        """The loads that are believed now."""
        now = asyncio.get_running_loop().time()
        loads = {name: signal.engine for name, signal in self.signals.items()}
        return {name: load for name, load in loads.items() if load and load.is_fresh(now)}


@asynccontextmanager
async def gateway(*pods: Pod) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for pod in pods:
            pod.start()
            stack.push_async_callback(pod.stop)
        yield


def three(rig: MemoryRig, engines: Engines) -> list[Pod]:
    names = ["a", "b", "c"]
    return [Pod(name, FaultyReader(rig.reader()), engines, names) for name in names]


async def test_each_endpoint_is_read_by_one_pod_once_an_interval_and_known_to_all(
    rig: MemoryRig,
) -> None:
    engines = Engines()
    pods = three(rig, engines)
    async with gateway(*pods):
        await asyncio.sleep(2.2)
        assert all(pod.known().keys() == set(IDS) for pod in pods), "within two intervals"
        await asyncio.sleep(60)
        assert all(len(engines.pods_of(one)) == 1 for one in IDS)
        assert {pod for pod, _ in engines.asked} == {"a", "b", "c"}, "the work is shared"
        assert all(54 <= len(engines.times[one]) <= 70 for one in IDS)
        for pod in pods:
            assert {(load.waiting, load.running, load.kv_use) for load in pod.known().values()} == {
                (3, 4, 0.5)
            }
        engines.waiting = 9
        await asyncio.sleep(2.3)
        for pod in pods:
            assert {load.waiting for load in pod.known().values()} == {9}


def test_the_page_is_at_the_endpoints_own_address_whatever_the_api_is_below() -> None:
    said = ir.Telemetry(engine="sglang", path="/engine/metrics", interval_ms=2_000)
    one, six = built("10.0.0.1:8000", "[fd00::7]:8000", telemetry=said).values()
    assert one == Target(
        id="ai/llama@10.0.0.1:8000",
        backend="ai/llama",
        address="10.0.0.1:8000",
        engine="sglang",
        model="upstream-llama",
        url="http://10.0.0.1:8000/engine/metrics",
        host="llama.ai.svc:8000",
        interval_s=2.0,
    )
    assert one.lasts_s == 7.0
    assert six.url == "http://[fd00::7]:8000/engine/metrics"


async def test_a_pod_says_one_word_an_interval(rig: MemoryRig) -> None:
    engines = Engines()
    pods = three(rig, engines)
    async with gateway(*pods):
        await asyncio.sleep(30)
        assert 80 <= rig.store.said <= 103


async def test_another_pod_takes_over_within_seconds_from_one_that_is_gone(rig: MemoryRig) -> None:
    engines = Engines()
    pods = three(rig, engines)
    async with gateway(*pods):
        await asyncio.sleep(5)
        his = [one for one in IDS if engines.pods_of(one) == {"b"}]
        assert his
        await pods[1].stop()
        engines.waiting = 8
        await asyncio.sleep(7)
        for pod in (pods[0], pods[2]):
            assert pod.known().keys() == set(IDS)
            assert {load.waiting for load in pod.known().values()} == {8}
        assert all(engines.pods_of(one) - {"b"} for one in his)
        engines.asked.clear()
        pods[1].start()
        await asyncio.sleep(5)
        engines.asked.clear()
        await asyncio.sleep(5)
        assert all(engines.pods_of(one) == {"b"} for one in his), "and gives it back"


async def test_what_a_pod_that_is_cut_off_knew_goes_stale_and_comes_back(rig: MemoryRig) -> None:
    engines = Engines()
    pods = three(rig, engines)
    source = pods[0].sharing._source
    assert isinstance(source, FaultyReader)
    async with gateway(*pods):
        await asyncio.sleep(5)
        mine = {one for one in IDS if engines.pods_of(one) == {"a"}}
        source.cut = True
        await asyncio.sleep(12)
        assert pods[0].known().keys() == mine, "its own readings, and no others"
        assert pods[1].known().keys() == set(IDS)
        engines.asked.clear()
        source.cut = False
        await asyncio.sleep(8)
        assert pods[0].known().keys() == set(IDS)
        engines.asked.clear()
        await asyncio.sleep(4)
        assert all(len(engines.pods_of(one)) == 1 for one in IDS)


async def test_without_the_store_each_pod_knows_its_own_share_and_asks_no_more(
    rig: MemoryRig,
) -> None:
    engines = Engines()
    pods = three(rig, engines)
    async with gateway(*pods):
        await asyncio.sleep(5)
        for pod in pods:
            assert isinstance(pod.sharing._source, FaultyReader)
            pod.sharing._source.cut = True
        await asyncio.sleep(60)
        assert all(len(engines.pods_of(one)) == 1 for one in IDS)
        known = [set(pod.known()) for pod in pods]
        assert set.union(*known) == set(IDS)
        assert sum(map(len, known)) == len(IDS)


async def test_an_engine_that_fails_or_hangs_is_asked_less_and_holds_up_nobody(
    rig: MemoryRig, caplog: pytest.LogCaptureFixture
) -> None:
    engines = Engines()
    engines.down, engines.silent = {IDS[0]}, {IDS[1]}
    pod = Pod("a", rig.reader(), engines, ["a"])
    async with gateway(pod):
        await asyncio.sleep(60)
        assert pod.known().keys() == set(IDS[2:])
        for bad in IDS[:2]:
            assert 60 / BACKOFF_MAX - 4 <= len(engines.times[bad]) <= 60 / BACKOFF_MAX + 4
        assert len(engines.times[IDS[2]]) >= 54
        assert caplog.text.count("does not tell its load") <= 2, "once a minute a backend"
        engines.down.clear()
        engines.silent.clear()
        await asyncio.sleep(6)
        assert pod.known().keys() == set(IDS)


async def test_readings_at_a_time_are_bounded(rig: MemoryRig) -> None:
    engines = Engines()
    pod = Pod("a", rig.reader(), engines, ["a"])
    many = [f"10.1.{number // 200}.{number % 200}:8000" for number in range(600)]
    pod.targets = built(*many)
    engines.silent = set(pod.targets)
    async with gateway(pod):
        await asyncio.sleep(20)
        assert engines.most_open == 64
        assert len(pod.scraper._reading) <= len(many)
    assert engines.open == 0, "nothing goes on after the end"
    assert not pod.scraper._reading


@pytest.mark.parametrize("interval_s", [1.5, 5, 30])
async def test_an_interval_is_kept_on_the_average(rig: MemoryRig, interval_s: float) -> None:
    engines = Engines()
    pod = Pod("a", rig.reader(), engines, ["a"])
    said = ir.Telemetry(engine="vllm", interval_ms=round(interval_s * 1000))
    pod.targets = built(ADDRESSES[0], telemetry=said)
    async with gateway(pod):
        await asyncio.sleep(20 * interval_s)
        assert abs(len(engines.times[IDS[0]]) - 20) <= 2
        assert pod.known().keys() == {IDS[0]}


async def test_without_telemetry_nobody_asks_or_speaks(rig: MemoryRig) -> None:
    engines = Engines()
    pod = Pod("a", rig.reader(), engines, ["a"])
    pod.targets = built(*ADDRESSES, telemetry=None)
    async with gateway(pod):
        await asyncio.sleep(10)
        assert not engines.asked
        assert rig.store.said == 0
        pod.targets = built(ADDRESSES[0])
        await asyncio.sleep(3)
        assert pod.known().keys() == {IDS[0]}
        pod.targets = {}
        await asyncio.sleep(2)
        said = rig.store.said
        await asyncio.sleep(10)
        assert rig.store.said == said


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b"\xff",
        b'{"ai/llama":7}',
        b'{"ai/llama":{"10.0.0.1:8000":[-1,2,null,0]}}',
        b'{"ai/llama":{"10.0.0.1:8000":[1,2,1.5,0]}}',
        b'{"ai/llama":{"10.0.0.1:8000":[1,2,null,-5]}}',
        b'{"ai/llama":{"10.0.0.1:8000":["x",2,null,0]}}',
        b'{"ai/llama":{"10.0.0.1:8000":[99999999999,2,null,0]}}',
    ],
)
async def test_a_word_that_makes_no_sense_changes_nothing(rig: MemoryRig, body: bytes) -> None:
    pod = Pod("a", rig.reader(), Engines(), ["a"])
    pod.scraper._look()
    pod.scraper.take("b", body, asyncio.get_running_loop().time())
    assert not pod.known()


async def test_only_endpoints_that_are_in_force_are_taken_in(rig: MemoryRig) -> None:
    pod = Pod("a", rig.reader(), Engines(), ["a"])
    pod.scraper._look()
    said = {
        "ai/llama": {ADDRESSES[0]: (1, 2, 0.5, 100), "10.9.9.9:1": (1, 2, None, 0)},
        "ai/plain": {"plain.example:8000": (1, 2, None, 0)},
        "ai/elsewhere": "not even read",
    }
    now = asyncio.get_running_loop().time()
    pod.scraper.take("b", msgspec.json.encode(said), now)
    assert set(pod.signals) == {IDS[0]}
    assert pod.signals[IDS[0]].engine == EngineLoad(1, 2, 0.5, now - 0.1, 4.0)


async def test_an_older_word_never_replaces_a_newer_one(rig: MemoryRig) -> None:
    pod = Pod("a", rig.reader(), Engines(), ["a"])
    pod.scraper._look()
    now = asyncio.get_running_loop().time()
    for waiting, age_ms in ((5, 100), (9, 2_000)):
        said = {"ai/llama": {ADDRESSES[0]: (waiting, 2, 0.5, age_ms)}}
        pod.scraper.take("b", msgspec.json.encode(said), now)
    load = pod.signals[IDS[0]].engine
    assert load is not None
    assert load.waiting == 5


def test_a_backends_engines_are_summed_and_what_is_old_counts_by_its_age_alone() -> None:
    signals = SignalTable()
    signals["ai/a@1"].engine = EngineLoad(1, 10, 0.2, at=99.0)
    signals["ai/a@2"].engine = EngineLoad(2, 20, 0.9, at=98.0)
    signals["ai/a@3"].engine = EngineLoad(4, 40, 1.0, at=90.0)
    signals["ai/b@1"].engine = EngineLoad(1, 1, None, at=100.0)
    signals["ai/c@1"].dispatched(100.0)
    assert engines_by_backend(signals, 100.0) == {
        "ai/a": (3, 30, 0.9, 10.0),
        "ai/b": (1, 1, None, 0.0),
    }
