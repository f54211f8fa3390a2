"""2,000 policies and 500 backends: how long a start takes, what an edit costs, how much memory.

The limits here are several times what a quiet machine with two cores shows (the run's summary
tells), so that they fail where something is wrong and not where a neighbour is busy.
"""

import asyncio
import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from cluster.control_plane import ControlPlane
from cluster.line import NOBODY, Running, eventually
from cluster.redis_server import RedisServer
from fakes.manifests import external, policy
from integration.operator_bench import OperatorBench
from switchboard_operator.kube import Kube, connect
from switchboard_operator.resources import WATCHED, Kind

BACKENDS, POLICIES = 500, 2_000
EDITS = 40
START_TO_PUBLISHED_MAX_S = 20.0
START_TO_ACKED_MAX_S = 30.0
START_TO_STATUSES_MAX_S = 60.0
MEMORY_MAX_MB = 250
EDIT_TO_STORE_P50_MAX_MS = 80.0


class Objects:
    """The objects of this test, written through the API server as a person's tools would."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube, self._namespace = kube, namespace
        self._gate = asyncio.Semaphore(8)

    async def create_all(self) -> None:
        backends = [external(f"b{number}", number + 1) for number in range(BACKENDS)]
        await asyncio.gather(*(self._create(Kind.BACKEND, each) for each in backends))
        policies = [
            policy(f"p{number}", f"b{number % BACKENDS}", f"b{(number + 7) % BACKENDS}")
            for number in range(POLICIES)
        ]
        await asyncio.gather(*(self._create(Kind.POLICY, each) for each in policies))

    async def edit(self, number: int) -> None:
        path = WATCHED[Kind.POLICY].path(self._namespace, f"p{number}")
        body = {"spec": {"priority": number + 1}}
        await self._kube._call(
            "PATCH", path, body=body, content_type="application/merge-patch+json"
        )

    async def _create(self, kind: Kind, manifest: dict[str, Any]) -> None:
        async with self._gate:
            await self._kube._call("POST", WATCHED[kind].path(self._namespace), body=manifest)


@pytest.fixture
def bench(api: ControlPlane, redis_server: RedisServer, tmp_path: Path) -> Iterator[OperatorBench]:
    # What is forked counts the memory of what it is forked off, too.
    made = OperatorBench(tmp_path, api, redis_server, forked=False)
    try:
        yield made
    finally:
        made.close()
        for kind in (Kind.POLICY, Kind.BACKEND):
            api.kubectl("delete", "--raw", WATCHED[kind].path(made.namespace))


def memory_mb(operator: Running) -> int:
    text = Path(f"/proc/{operator.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", text)
    assert found
    return int(found[1]) // 1024


def metric(operator: Running, name: str) -> float:
    found = re.search(
        rf"^{re.escape(name)} (\S+)$",
        httpx2.get(f"{operator.admin}/metrics", verify=NOBODY).text,
        re.M,
    )
    return float(found[1]) if found else 0.0


def passed_until(began: float, ask: Any, *, what: str, limit_s: float) -> float:
    eventually(ask, what=what, timeout_s=limit_s)
    return time.monotonic() - began


def all_acked(operator: Running) -> bool:
    programmed = (
        'switchboard_operator_objects{condition="Programmed",kind="RoutingPolicy",status="True"}'
    )
    return metric(operator, programmed) >= POLICIES


async def edit_to_store_ms(objects: Objects, store: RedisServer) -> list[float]:
    """Edit one policy after another; return how long each took to be in the store's log."""
    took: list[float] = []
    log = "sb:{gw/default}:policy:log"
    async with redis.asyncio.Redis.from_url(store.url) as connection:
        client: Any = connection
        for number in range(EDITS):
            last = (await client.xinfo_stream(log))["last-generated-id"]
            began = time.perf_counter()
            written, _ = await asyncio.gather(
                client.xread({log: last}, block=4000), objects.edit(number)
            )
            assert written
            took.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.05)
    return took


@pytest.mark.timeout(400)
async def test_two_and_a_half_thousand_objects(
    bench: OperatorBench,
    redis_server: RedisServer,
    record_property: Callable[[str, object], None],
) -> None:
    first = bench.start()
    planes = [bench.start_data_plane(f"pod-{number}") for number in (1, 2)]
    first.process.stop()
    kube = connect(str(bench.plane.kubeconfig()))
    objects = Objects(kube, bench.namespace)
    await objects.create_all()

    began = time.monotonic()
    operator = bench.start(wait=False)
    operator.process.wait_for_http(f"{operator.admin}/livez")
    published_s = passed_until(
        began,
        lambda: len(bench.digests()) == BACKENDS + POLICIES,
        what="everything in the store",
        limit_s=START_TO_PUBLISHED_MAX_S,
    )
    acked_s = passed_until(
        began, lambda: all_acked(operator), what="acks", limit_s=START_TO_ACKED_MAX_S
    )
    written = 'switchboard_operator_status_patches_total{outcome="written"}'
    statuses_s = passed_until(
        began,
        lambda: metric(operator, written) >= BACKENDS + POLICIES,
        what="all statuses",
        limit_s=START_TO_STATUSES_MAX_S,
    )
    # The echoes of the patches are still on their way.
    await asyncio.sleep(3)
    took_ms = sorted(await edit_to_store_ms(objects, redis_server))
    await kube.close()
    memory = memory_mb(operator)
    told = (
        f"start to published {published_s:.1f} s, acked {acked_s:.1f} s, "
        f"statuses {statuses_s:.1f} s; edit to store p50 {statistics.median(took_ms):.1f} ms, "
        f"p95 {took_ms[int(EDITS * 0.95) - 1]:.1f} ms; {memory} MB"
    )
    record_property("measured", told)
    assert all(plane.process.running for plane in planes)
    assert memory <= MEMORY_MAX_MB
    assert statistics.median(took_ms) <= EDIT_TO_STORE_P50_MAX_MS
