"""Which objects are looked at, and that thousands of them leave the loop to others."""

import asyncio

from fakes.manifests import external, policy
from fakes.virtual_time import eventually
from switchboard_operator.patcher import COUNTS_EVERY_S
from switchboard_operator.reporter import DISTRUST_S, GRACE_S
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_policy.compiler.world import Name
from switchboard_policy.store import POLICY_REFUSED
from unit.operator.bench import Bench, DataPlane, in_virtual_time, new_store
from unit.operator.kube_fakes import Cluster, Json

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
        # Its status tells who is waited for by now; the other acks change only a count.
        await asyncio.sleep(2 * GRACE_S)
        assert not programmed(bench, "chat")
        assert bench.reporter.waiting() == set()
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


def test_a_pod_that_takes_nothing_stalls_what_waits_for_it_and_nothing_else() -> None:
    async def scenario() -> None:
        bench = await started("chat", "edited")
        DataPlane(bench.store, "pod-1")
        lost = DataPlane(bench.store, "pod-2")
        await eventually(lambda: programmed(bench, "chat") and programmed(bench, "edited"))
        lost.ignores, lost.refused = True, {POLICY_REFUSED: "signed by key k2"}
        bench.apply(Kind.POLICY, policy("edited", "a", rule="renamed"))

        def reason() -> str:
            return str(bench.condition(Kind.POLICY, "edited", "Programmed")["reason"])

        await asyncio.sleep(2 * GRACE_S)
        assert reason() == "WaitingForPods"
        await asyncio.sleep(DISTRUST_S + COUNTS_EVERY_S)
        assert reason() == "RefusedByPod"
        assert bench.condition(Kind.POLICY, "edited", "Stalled")["status"] == "True"
        patches = bench.patches_of("edited")
        await asyncio.sleep(2 * DISTRUST_S)
        assert bench.patches_of("edited") == patches
        assert bench.reporter.waiting() == set()
        assert programmed(bench, "chat")
        lost.ignores, lost.refused = False, {}
        await eventually(lambda: programmed(bench, "edited"))
        await bench.stop()

    in_virtual_time(scenario)


def test_a_status_set_by_hand_is_neither_believed_nor_left() -> None:
    async def scenario() -> None:
        bench = await started("chat")
        DataPlane(bench.store, "pod-1").ignores = True
        await eventually(
            lambda: bench.condition(Kind.POLICY, "chat", "Programmed")["reason"] == "WaitingForPods"
        )
        found = bench.cluster.objects[Kind.POLICY][Name("ai", "chat")]
        true = [{**each, "status": "True", "reason": each["type"]} for each in conditions(found)]
        found["status"] = {**found["status"], "conditions": true}
        before = bench.inventory.version(key("chat"))
        bench.inventory.take(Kind.POLICY, bench.cluster.put(Kind.POLICY, found))
        assert bench.inventory.version(key("chat")) > before
        assert programmed(bench, "chat")
        await asyncio.sleep(2 * COUNTS_EVERY_S)
        assert not programmed(bench, "chat")
        await bench.stop()

    in_virtual_time(scenario)


def conditions(found: Json) -> list[Json]:
    return list(found["status"]["conditions"])


def test_an_object_that_is_gone_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        bench = await started("chat", "gone")
        DataPlane(bench.store, "pod-1")
        await eventually(lambda: programmed(bench, "gone"))
        bench.delete(Kind.POLICY, "gone")
        await eventually(lambda: "policy/ai/gone" not in bench.in_store())
        await asyncio.sleep(2)
        assert "policy/ai/gone" not in bench.reporter._dependants
        assert key("gone") not in bench.patcher._said
        await bench.stop()

    in_virtual_time(scenario)
