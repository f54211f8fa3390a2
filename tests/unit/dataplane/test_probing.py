"""Who is probed, how often and how many at a time, and what a row of probes says."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from fakes.policies import endpoints, policy, rule, service, snapshot, tier
from fakes.virtual_time import VirtualTimeLoop, eventually
from switchboard_dataplane.decision.running import Endpoint, Snapshot
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.upstream.getting import Got
from switchboard_dataplane.upstream.probing import JITTER, PROBES_MAX, TICK_S, Prober, asking
from switchboard_policy import ir

PROBE = ir.Probe("/health", interval_ms=5_000, unhealthy_after=3, healthy_after=2)


def pods(*addresses: str, probe: ir.Probe | None = PROBE, name: str = "a") -> Snapshot:
    return snapshot(
        policy("chat", rule("default", tier("only", name))),
        service(name, health=ir.Health(probe=probe)),
        endpoints(name, *addresses),
    )


def run(test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(test)


@dataclass
class Pods:
    """What is in force and how its endpoints answer; ``asked`` are the times of the probes."""

    snapshot: Snapshot | None
    sick: set[str] = field(default_factory=set)
    slow_s: float = 0.0
    asked: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    at_a_time: Counter[str] = field(default_factory=Counter)
    most: int = 0
    signals: SignalTable = field(default_factory=SignalTable)

    async def ask(self, endpoint: Endpoint, probe: ir.Probe) -> bool:
        self.asked[endpoint.address].append(asyncio.get_running_loop().time())
        self.at_a_time["all"] += 1
        self.most = max(self.most, self.at_a_time["all"])
        await asyncio.sleep(self.slow_s)
        self.at_a_time["all"] -= 1
        return endpoint.address not in self.sick

    async def probe_for(self, *spans_s: float) -> None:
        task = self.start()
        for span_s in spans_s:
            await asyncio.sleep(span_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def start(self) -> asyncio.Task[None]:
        clock = asyncio.get_running_loop().time
        prober = Prober(
            snapshot=lambda: self.snapshot,
            signals=self.signals,
            ask=self.ask,
            clock=clock,
            chance=Random(1).random,
        )
        return asyncio.create_task(prober.run())

    @property
    def out(self) -> set[str]:
        return {endpoint_id.partition("@")[2] for endpoint_id in self.signals.ejected}


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_each_endpoint_is_asked_once_an_interval_and_not_in_step() -> None:
    async def check() -> None:
        world = Pods(pods("a:1", "b:1", "c:1"))
        await world.probe_for(100.0)
        for times in world.asked.values():
            gaps = [later - earlier for earlier, later in pairwise(times)]
            assert 5 * (1 - JITTER) <= min(gaps) <= max(gaps) <= 5 * (1 + JITTER) + 2 * TICK_S
            assert 18 <= len(times) <= 23
        assert len({times[0] for times in world.asked.values()}) == 3

    run(check())


def test_an_endpoint_without_a_probe_is_not_asked() -> None:
    async def check() -> None:
        world = Pods(pods("a:1", probe=None))
        await world.probe_for(60.0)
        assert not world.asked

    run(check())


def test_a_row_of_failures_ejects_and_a_row_of_successes_lets_in() -> None:
    async def check() -> None:
        world = Pods(pods("a:1", "b:1"), sick={"a:1"})
        task = world.start()
        await eventually(lambda: len(world.asked["a:1"]) == 2)
        assert not world.out
        await eventually(lambda: len(world.asked["a:1"]) == 4)
        assert world.out == {"a:1"}
        world.sick.clear()
        before = len(world.asked["a:1"])
        await eventually(lambda: len(world.asked["a:1"]) == before + 1)
        await asyncio.sleep(1)
        assert world.out == {"a:1"}, "one success is not two"
        await asyncio.sleep(7)
        assert not world.out
        await stop(task)

    run(check())


def test_endpoints_come_and_go_with_the_snapshot() -> None:
    async def check() -> None:
        world = Pods(None)
        task = world.start()
        await asyncio.sleep(1)
        world.snapshot = pods("a:1", "b:1")
        await asyncio.sleep(20)
        assert world.asked.keys() == {"a:1", "b:1"}
        world.snapshot = pods("b:1", "c:1")
        await asyncio.sleep(TICK_S)
        asked = len(world.asked["a:1"])
        await asyncio.sleep(20)
        assert len(world.asked["a:1"]) == asked
        assert len(world.asked["c:1"]) >= 3
        assert len(world.asked["b:1"]) <= 40 / 5 + 2, "a new snapshot does not hasten a probe"
        await stop(task)

    run(check())


@pytest.mark.parametrize("then", [pods("a:1", probe=None), pods("b:1")], ids=["probe", "pod"])
def test_what_is_probed_no_longer_is_not_held_out_by_a_probe(then: Snapshot) -> None:
    async def check() -> None:
        world = Pods(pods("a:1"), sick={"a:1"})
        task = world.start()
        await asyncio.sleep(20)
        assert world.out == {"a:1"}
        world.snapshot = then
        await asyncio.sleep(1)
        assert not world.out
        await stop(task)

    run(check())


def test_probes_under_way_are_bounded_and_all_get_their_turn() -> None:
    async def check() -> None:
        addresses = [f"10.0.{number // 250}.{number % 250}:1" for number in range(1_000)]
        world = Pods(pods(*addresses), slow_s=0.4)
        await world.probe_for(40.0)
        assert world.most == PROBES_MAX
        assert len(world.asked) == 1_000
        assert min(len(times) for times in world.asked.values()) >= 4

    run(check())


def test_no_probe_outlives_the_prober() -> None:
    async def check() -> None:
        world = Pods(pods("a:1"), slow_s=1_000)
        await world.probe_for(20.0)
        assert len(asyncio.all_tasks()) == 1

    run(check())


@dataclass
class SaidGetter:
    """Answers by URL with a status, or fails."""

    answers: Mapping[str, int | OSError]

    async def get(self, url: str, *, host: str, timeout_s: float, bytes_max: int) -> Got:
        assert (host, timeout_s) == ("a.ai.svc:8000", 2.0)
        answer = self.answers[url]
        if isinstance(answer, OSError):
            raise answer
        return Got(answer, b"")


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        (200, True),
        (204, True),
        (302, True),
        (401, True),
        (403, True),
        (429, True),
        (404, False),
        (500, False),
        (503, False),
        (TimeoutError(), False),
        (ConnectionRefusedError(), False),
    ],
    ids=str,
)
async def test_what_an_answer_says(answer: int | OSError, *, well: bool) -> None:
    running = pods("10.0.0.1:8000", probe=ir.Probe("/health"))
    (endpoint,) = running.backends["ai/a"].endpoints
    getter: Any = SaidGetter({"http://10.0.0.1:8000/health": answer})
    assert await asking(getter)(endpoint, ir.Probe("/health")) is well
