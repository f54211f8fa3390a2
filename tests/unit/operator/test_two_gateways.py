"""Two gateways of one operator: what is not heard of the one must not hide what is of the other."""

import asyncio
from collections.abc import Sequence

from fakes.virtual_time import eventually
from switchboard_operator.errors import KubeError
from switchboard_policy.compiler.world import Name
from switchboard_policy.store import Pod, PodSeen, Revision
from unit.operator.bench import (
    SCOPE,
    Bench,
    DataPlane,
    FlakyWriter,
    in_virtual_time,
    new_store,
    programmed,
    small_cluster,
)
from unit.operator.kube_fakes import Cluster

SECOND = "gw/second"
REFUSED = {"policy/ai/chat": "format 9"}


class HalfBlind(Cluster):
    """A cluster that does not tell of one Pod."""

    async def pod_uid(self, name: Name) -> str | None:
        if name.name == "pod-2":
            raise KubeError("timed out")
        return await super().pod_uid(name)


class HalfAway(FlakyWriter):
    """A writer that fails to read the pods of the second gateway, as often as it is told."""

    failures = 0

    async def pods(self, scope: str) -> Sequence[PodSeen]:
        if scope == SECOND and self.failures:
            self.failures -= 1
            raise ConnectionError("reset")
        return await super().pods(scope)


async def started() -> tuple[Bench, HalfAway]:
    cluster = HalfBlind()
    cluster.objects.update(small_cluster().objects)
    bench = Bench(cluster, new_store(), gateways=("default", "second"))
    bench.writer = writer = HalfAway(bench.store, keyrings=lambda _: bench.keys.keyring())
    await bench.start()
    await eventually(bench.reconciler.published.is_set)
    return bench, writer


def test_news_of_a_gateway_that_could_not_be_read_are_not_lost_in_those_of_another() -> None:
    async def scenario() -> None:
        bench, writer = await started()
        pod = DataPlane(bench.store, "pod-1")
        await eventually(lambda: programmed(bench, "chat"))
        await pod.stop()
        writer.failures = 1
        await bench.store.reader(SECOND).register(Pod("pod-2", Revision(9, 9), refused=REFUSED))
        at = bench.publication.revision
        for number in range(10):
            # The first gateway has news all the time.
            await bench.store.reader(SCOPE).register(Pod("pod-1", at, zone=str(number)))
            await asyncio.sleep(0.5)
        assert not writer.failures
        assert programmed(bench, "chat", "RefusedByPod")
        await bench.stop()

    in_virtual_time(scenario)


def test_news_of_a_gateway_are_told_although_the_next_one_cannot_be_read() -> None:
    async def scenario() -> None:
        bench, writer = await started()
        pod = DataPlane(bench.store, "pod-1")
        await eventually(lambda: programmed(bench, "chat"))
        await pod.stop()
        writer.failures = 2
        await eventually(lambda: writer.failures == 1)
        at = bench.publication.revision
        await bench.store.reader(SCOPE).register(Pod("pod-1", at, refused=REFUSED))
        await eventually(lambda: not writer.failures)
        await eventually(lambda: programmed(bench, "chat", "RefusedByPod"), within_s=5)
        await bench.stop()

    in_virtual_time(scenario)


def test_a_pod_that_is_gone_is_waited_for_no_more_though_nothing_is_known_of_another() -> None:
    async def scenario() -> None:
        bench, _ = await started()
        at = bench.publication.revision
        await bench.store.reader(SCOPE).register(Pod("pod-1", at, refused=REFUSED, uid="one"))
        await bench.store.reader(SECOND).register(Pod("pod-2", Revision(9, 9), uid="two"))
        await eventually(lambda: programmed(bench, "chat", "RefusedByPod"))
        await eventually(lambda: not bench.planes.pods)
        await eventually(lambda: programmed(bench, "chat"))
        await bench.stop()

    in_virtual_time(scenario)
