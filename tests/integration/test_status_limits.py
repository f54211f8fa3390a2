"""How often statuses are written, with 2,000 policies and 200 pods, as the API server sees it.

Pods are simulated: they register and ack in the real Redis by the store's own client. The rate of
the first pass, which no API server here comes near to, is in tests/unit/operator/test_write_limits.
"""

import asyncio
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.control_plane import ControlPlane
from cluster.line import eventually
from cluster.meters import cpu_s, rss_mb
from cluster.redis_server import RedisServer
from fakes.manifests import endpoint_slice, external, policy, served, service
from fakes.simulated_pods import SimulatedPods, simulated_pods
from integration.operator_bench import OperatorBench
from switchboard_operator.kube import Kube, connect
from switchboard_operator.patcher import COUNTS_EVERY_S, STEADY_PER_S
from switchboard_operator.resources import WATCHED, Kind

POLICIES, PODS = 2_000, 200
EDITS = 800
"""They take 16 s at the steady rate: longer than a machine stands still."""
LATEST_AFTER = 150
"""So many other statuses may be written before that of the latest edit."""
MEMORY_MAX_MB = 250
ALL_PODS = f"{PODS}/{PODS}"
JITTER = 1.2
"""Patches leave at their times; they arrive as the API server has time for them."""
GOING, SILENT, COMING = 40, 20, 60
SILENT_IN_THE_SUMMARY_S = 120.0
ENDPOINTS_MOVE_S, ENDPOINTS_EVERY_S = 12.0, 0.2
COLUMNS = (
    "{.metadata.name} {.metadata.resourceVersion} {.metadata.generation}"
    " {.status.observedGeneration} {.status.pods}"
)


@dataclass(frozen=True, slots=True)
class Write:
    """A status that was written, when the watch showed it (monotonic)."""

    at: float
    name: str
    version: int
    observed: str
    pods: str


class StatusWatch:
    """What a watch of one kind shows: a change without a new generation is a status."""

    def __init__(self, plane: ControlPlane, kind: str, namespace: str) -> None:
        self.writes: list[Write] = []
        self.seen: set[str] = set()
        self._generations: dict[str, int] = {}
        output = f'jsonpath={COLUMNS}{{"\\n"}}'
        self._process = subprocess.Popen(
            [
                *(plane.origin.kubectl, f"--kubeconfig={plane.kubeconfig()}"),
                *("get", kind, "-n", namespace, "--watch", "--chunk-size=0", "-o", output),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._process.terminate()
        self._thread.join()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def since(self, number: int) -> Sequence[Write]:
        return self.writes[number:]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            name, version, generation, *rest = line.rstrip("\n").split(" ")
            before = self._generations.get(name, 1)
            self._generations[name] = int(generation)
            if int(generation) == before and rest[0]:
                self.writes.append(Write(time.monotonic(), name, int(version), *rest))
            self.seen.add(name)


def busiest_second(writes: Sequence[Write]) -> int:
    """Return how many came in the fullest second of all."""
    times = [write.at for write in writes]
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def check_patches(writes: Sequence[Write], *, objects: int) -> None:
    """Fail unless each object was told once that all pods have it.

    One more patch is right where pods took longer than a second: it says who is waited for.
    """
    by_name = defaultdict[str, list[str]](list)
    for write in writes:
        by_name[write.name].append(write.pods)
    assert len(by_name) == objects
    assert all(pods[-1] == ALL_PODS for pods in by_name.values())
    assert all(ALL_PODS not in pods[:-1] for pods in by_name.values())
    assert max(map(len, by_name.values())) <= 2


class Objects:
    """Policies, made and edited as a person's tools would."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube, self._namespace = kube, namespace
        self._gate = asyncio.Semaphore(8)

    async def create(self) -> None:
        await asyncio.gather(*(self._create(f"p{number:04}") for number in range(POLICIES)))

    async def edit(self, *numbers: int) -> list[int]:
        return await asyncio.gather(*(self._edit(number) for number in numbers))

    async def _create(self, name: str) -> None:
        async with self._gate:
            body = policy(name, "a")
            await self._kube._call("POST", WATCHED[Kind.POLICY].path(self._namespace), body=body)

    async def _edit(self, number: int) -> int:
        """Edit one; return its version with that."""
        async with self._gate:
            path = WATCHED[Kind.POLICY].path(self._namespace, f"p{number:04}")
            body = {"spec": {"priority": number + 1}}
            kind = "application/merge-patch+json"
            made = await self._kube._call("PATCH", path, body=body, content_type=kind)
            return int(made["metadata"]["resourceVersion"])


@pytest.fixture
def bench(api: ControlPlane, redis_server: RedisServer, tmp_path: Path) -> Iterator[OperatorBench]:
    # What is forked counts the memory of what it is forked off, too.
    made = OperatorBench(tmp_path, api, redis_server, forked=False)
    try:
        yield made
    finally:
        made.close()
        api.kubectl("delete", "--raw", WATCHED[Kind.POLICY].path(made.namespace))


@pytest.mark.timeout(900)
async def test_the_write_limits_hold_with_200_pods_and_2000_policies(
    bench: OperatorBench,
    redis_server: RedisServer,
    record_property: Callable[[str, object], None],
) -> None:
    kube = connect(str(bench.plane.kubeconfig()))
    objects = Objects(kube, bench.namespace)
    bench.apply(external("a", 1))
    await objects.create()
    names = [f"pod-{number:03}" for number in range(PODS)]
    watch = StatusWatch(bench.plane, "routingpolicies", bench.namespace)
    try:
        await asyncio.to_thread(
            eventually, lambda: len(watch.seen) == POLICIES, what="a watch of all policies"
        )
        with simulated_pods(redis_server.url, *names) as (pods, thread):
            operator = await asyncio.to_thread(bench.start)
            told = [first_pass(watch)]
            told.append(await edits(watch, objects))
            told.append(await asyncio.to_thread(pods_that_come_and_go, bench, watch, pods, thread))
            told.append(await asyncio.to_thread(endpoints_that_move, bench))
            took_s, memory_mb = cpu_s(operator.process.pid), rss_mb(operator.process.pid, peak=True)
    finally:
        watch.close()
        await kube.close()
    told.append(f"operator {took_s:.0f} s of a core, {memory_mb:.0f} MB")
    record_property("measured", "; ".join(told))
    assert memory_mb <= MEMORY_MAX_MB


def first_pass(watch: StatusWatch) -> str:
    """Every object once, as fast as the API server takes them (which is not as fast as allowed)."""
    eventually(
        lambda: sum(each.pods == ALL_PODS for each in watch.writes) >= POLICIES,
        what="all statuses",
        timeout_s=300,
    )
    time.sleep(2)
    writes = watch.writes[:]
    check_patches(writes, objects=POLICIES)
    passed_s, most = writes[-1].at - writes[0].at, busiest_second(writes)
    return f"first pass: {len(writes)} in {passed_s:.1f} s, at most {most} in a second"


async def edits(watch: StatusWatch, objects: Objects) -> str:
    """Many edits at once: one patch each, at the steady rate, and the latest edit first."""
    before, began = len(watch.writes), time.monotonic()
    await objects.edit(*range(EDITS))
    # They are under way.
    await asyncio.to_thread(eventually, lambda: len(watch.writes) > before, what="an edit")
    edited_at = time.monotonic()
    (edited,) = await objects.edit(POLICIES - 1)
    last = f"p{POLICIES - 1:04}"

    def told() -> Write | None:
        found = (each for each in watch.since(before) if each.name == last)
        return next(found, None)

    first = await asyncio.to_thread(eventually, told, what="the latest edit")
    assert first is not None
    there = sum(each.version < edited for each in watch.since(before))
    assert there < EDITS - LATEST_AFTER, "nearly done before: this says nothing of who goes first"
    await asyncio.to_thread(
        eventually,
        lambda: sum(each.pods == ALL_PODS for each in watch.since(before)) > EDITS,
        what="all edits",
        timeout_s=300,
    )
    await asyncio.sleep(2)
    writes = watch.since(before)
    check_patches(writes, objects=EDITS + 1)
    assert {write.observed for write in writes} == {"2"}
    # Since the first edit, not since the first patch: that may be seen late.
    rate = len(writes) / (writes[-1].at - began)
    assert rate <= STEADY_PER_S * JITTER
    waited_ms = (first.at - edited_at) * 1000
    assert sum(edited < each.version < first.version for each in writes) <= LATEST_AFTER
    most = busiest_second(writes)
    return (
        f"{EDITS} edits: {len(writes)} patches at {rate:.0f}/s, at most {most} in a second; "
        f"the latest edit of them told after {waited_ms:.0f} ms"
    )


def pods_that_come_and_go(
    bench: OperatorBench, watch: StatusWatch, pods: SimulatedPods, thread: Any
) -> str:
    """A third of the pods move: the summary tells, no object does."""
    before = len(watch.writes)
    thread.run(pods.leave(*(f"pod-{number:03}" for number in range(GOING))))
    pods.silence(*(f"pod-{number:03}" for number in range(GOING, GOING + SILENT)))
    thread.run(pods.join(*(f"new-{number:03}" for number in range(COMING))))
    total = PODS - GOING + COMING
    live = f"{total - SILENT}/{total}"

    def summary() -> dict[str, str] | None:
        name = "switchboard-status-default"
        found: dict[str, str] = bench.plane.get("cm", name, namespace=bench.system)["data"]
        return found if (found["live"], found["inForce"]) == (live, live) else None

    said = eventually(summary, what=f"{live} in the summary", timeout_s=SILENT_IN_THE_SUMMARY_S)
    assert said["lacks"] == f"{SILENT} silent"
    assert watch.since(before) == []
    return f"{GOING} pods went, {SILENT} fell silent, {COMING} came: no patch"


def endpoints_that_move(bench: OperatorBench) -> str:
    """Endpoints that change all the time: their number is written every ten seconds at most."""
    watch = StatusWatch(bench.plane, "modelbackends", bench.namespace)
    try:
        bench.apply(
            service("engine", 8000),
            endpoint_slice("engine-1", "engine", 8000, "10.1.0.1"),
            served("engine", "engine"),
        )
        bench.await_condition("modelbackend", "engine", "Ready", status="True")
        eventually(lambda: "engine" in watch.seen, what="a watch of the backends")
        before, number, began = len(watch.writes), 0, time.monotonic()
        while time.monotonic() < began + ENDPOINTS_MOVE_S:
            number += 1
            addresses = [f"10.1.0.{each + 1}" for each in range(number % 50 + 1)]
            bench.apply(endpoint_slice("engine-1", "engine", 8000, *addresses))
            time.sleep(ENDPOINTS_EVERY_S)
        eventually(lambda: watch.since(before), what="another count")
        took_s, writes = time.monotonic() - began, watch.since(before)
    finally:
        watch.close()
    assert len(writes) <= took_s / COUNTS_EVERY_S + 1
    return f"{number} changes of endpoints in {took_s:.0f} s: {len(writes)} patches"
