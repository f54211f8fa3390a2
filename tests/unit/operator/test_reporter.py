"""Which objects are looked at, and that thousands of them leave the loop to others."""

import asyncio

from fakes.manifests import external, policy
from fakes.virtual_time import eventually
from switchboard_operator.reporter import GRACE_S
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_policy.compiler.world import Name
from unit.operator.bench import Bench, DataPlane, in_virtual_time, new_store
from unit.operator.kube_fakes import Cluster

POLICIES = 200


def key(name: str) -> ObjectKey:
    return ObjectKey(Kind.POLICY, Name("ai", name))


async def started(*policies: str) -> Bench:
    cluster = Cluster()
    cluster.put(Kind.NAMESPACE, {"metadata": {"name": "ai"}})
    cluster.put(Kind.BACKEND, external("a", 1))
    for name in policies:
        cluster.put(Kind.POLICY, policy(name, "a"))
    bench = Bench(cluster, new_store())
    await bench.start()
    await eventually(bench.reconciler.published.is_set)
    return bench


def programmed(bench: Bench, name: str) -> bool:
    return bool(bench.condition(Kind.POLICY, name, "Programmed").get("status") == "True")


def test_an_object_held_back_for_pods_is_not_looked_at_before_the_last_of_them_acked() -> None:
    async def scenario() -> None:
        bench = await started("chat")
        DataPlane(bench.store, "pod-1")
        slow = DataPlane(bench.store, "pod-2")
        await eventually(lambda: programmed(bench, "chat"))
        slow.ignores = True
        bench.apply(Kind.POLICY, policy("chat", "a", rule="renamed"))
        await asyncio.sleep(GRACE_S / 2)
        acked = {seen.pod.name: seen.pod.revision for seen in bench.planes.pods}
        assert acked["pod-1"] > acked["pod-2"]
        assert bench.reporter.waiting() == set()
        # Its status tells who is waited for by now, so every ack is news.
        await asyncio.sleep(2 * GRACE_S)
        assert not programmed(bench, "chat")
        assert bench.reporter.waiting() == {key("chat")}
        slow.ignores = False
        await eventually(lambda: programmed(bench, "chat"))
        assert bench.reporter.waiting() == set()
        await bench.stop()

    in_virtual_time(scenario)


def test_the_last_ack_has_what_was_held_back_written_at_once() -> None:
    async def scenario() -> None:
        bench = await started("chat")
        for name in ("pod-1", "pod-2"):
            DataPlane(bench.store, name)
        await eventually(lambda: programmed(bench, "chat"))
        bench.apply(Kind.POLICY, policy("chat", "a", rule="renamed"))
        await eventually(
            lambda: bench.status(Kind.POLICY, "chat")["conditions"][0]["observedGeneration"] == 2,
            within_s=GRACE_S / 2,
        )
        assert programmed(bench, "chat")
        await bench.stop()

    in_virtual_time(scenario)


def test_a_report_on_many_objects_leaves_the_loop_to_others() -> None:
    async def scenario() -> None:
        bench = await started(*(f"p{number}" for number in range(POLICIES)))
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await bench.reporter.report([key(f"p{number}") for number in range(POLICIES)])
        counting.cancel()
        assert turns > 2
        await bench.stop()

    in_virtual_time(scenario)
