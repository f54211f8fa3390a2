"""How often statuses are written at most, with many objects and pods, by a clock of the test's."""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from fakes.manifests import external, policy
from fakes.virtual_time import eventually
from switchboard_operator.patcher import CATCH_UP_PER_S, COUNTS_EVERY_S, STEADY_PER_S, WORKERS
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_policy.store import SILENT_MS
from unit.operator.bench import Bench, DataPlane, in_virtual_time, programmed, started
from unit.operator.kube_fakes import Cluster, Json

MANY = 1_500
PODS, POLICIES = 200, 40
REFUSING = 50
REFUSALS_EVERY_S = 0.1
SILENT_S = 60.0


class TimedCluster(Cluster):
    """An API server that answers at once, and remembers which object was written when."""

    def __init__(self, policies: int) -> None:
        super().__init__()
        self.written: list[tuple[float, str]] = []
        self.put(Kind.NAMESPACE, {"metadata": {"name": "ai"}})
        self.put(Kind.BACKEND, external("a", 1))
        for number in range(policies):
            self.put(Kind.POLICY, policy(f"p{number}", "a"))

    async def patch_status(self, key: ObjectKey, *, uid: str, status: Json) -> Json:
        self.written.append((asyncio.get_running_loop().time(), key.name.name))
        return await super().patch_status(key, uid=uid, status=status)


def busiest_second(written: Sequence[tuple[float, str]]) -> int:
    """Return how many came in the fullest second of all."""
    times = [at for at, _ in written]
    return max(bisect_left(times, at + 1) - first for first, at in enumerate(times))


def most_of_one(written: Sequence[tuple[float, str]]) -> int:
    """Return how many the object got that got the most."""
    return max(Counter(name for _, name in written).values(), default=0)


def edit(bench: Bench, count: int, rule: str) -> None:
    bench.apply(Kind.POLICY, *(policy(f"p{each}", "a", rule=rule) for each in range(count)))


def test_the_first_pass_is_written_at_500_a_second_and_edits_at_50() -> None:
    async def scenario() -> None:
        cluster = TimedCluster(MANY)
        bench = await started(cluster)
        await eventually(lambda: len(cluster.written) == MANY + 1)
        busiest = busiest_second(cluster.written)
        assert CATCH_UP_PER_S - WORKERS <= busiest <= CATCH_UP_PER_S + WORKERS
        await asyncio.sleep(COUNTS_EVERY_S)
        edit(bench, 200, "renamed")
        await eventually(lambda: len(cluster.written) == MANY + 1 + 200)
        busiest = busiest_second(cluster.written[MANY + 1 :])
        assert STEADY_PER_S - WORKERS <= busiest <= STEADY_PER_S + WORKERS
        await bench.stop()

    in_virtual_time(scenario)


async def with_pods(cluster: TimedCluster) -> tuple[Bench, list[DataPlane]]:
    bench = await started(cluster)
    pods = [DataPlane(bench.store, f"pod-{number:03}") for number in range(PODS)]
    await eventually(lambda: all(programmed(bench, f"p{each}") for each in range(POLICIES)))
    await asyncio.sleep(COUNTS_EVERY_S)
    return bench, pods


def test_pods_that_refuse_one_after_another_are_told_of_in_two_writes() -> None:
    async def scenario() -> None:
        cluster = TimedCluster(POLICIES)
        bench, pods = await with_pods(cluster)
        before = len(cluster.written)
        edit(bench, POLICIES, "renamed")
        for pod in pods[:REFUSING]:
            pod.refused = {"policy/ai/p0": "unknown format 9"}
            await asyncio.sleep(REFUSALS_EVERY_S)
        await eventually(lambda: programmed(bench, "p0", "RefusedByPod"))
        await asyncio.sleep(3 * COUNTS_EVERY_S)
        assert bench.status(Kind.POLICY, "p0")["pods"] == f"{PODS - REFUSING}/{PODS}"
        # The first refusal at once; the others move numbers, and wait for their time.
        assert most_of_one(cluster.written[before:]) == 2
        await bench.stop()

    in_virtual_time(scenario)


def test_edits_that_wait_for_a_silent_pod_are_written_once_each() -> None:
    async def scenario() -> None:
        cluster = TimedCluster(POLICIES)
        bench, pods = await with_pods(cluster)
        before = len(cluster.written)
        await pods[0].stop()
        await asyncio.sleep(2 * SILENT_MS / 1000)
        assert cluster.written[before:] == []
        edit(bench, POLICIES, "renamed")
        await asyncio.sleep(SILENT_S)
        assert programmed(bench, "p0", "WaitingForPods")
        assert len(cluster.written[before:]) == POLICIES
        assert most_of_one(cluster.written[before:]) == 1
        await bench.stop()

    in_virtual_time(scenario)
