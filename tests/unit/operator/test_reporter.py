"""Which objects are looked at, and that thousands of them leave the loop to others."""

import asyncio

from fakes.manifests import external, policy
from fakes.virtual_time import eventually
from switchboard_operator.patcher import COUNTS_EVERY_S
from switchboard_operator.reporter import DISTRUST_S, GRACE_MAX_S, GRACE_S
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_policy.compiler.world import Name
from switchboard_policy.store import MORE_REFUSED, POLICY_REFUSED, Revision
from unit.operator.bench import SCOPE, Bench, DataPlane, in_virtual_time, new_store
from unit.operator.kube_fakes import Cluster, Json

POLICIES = 200
MANY = 1_200


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


def test_many_objects_that_wait_for_slow_pods_get_one_status_each() -> None:
    async def scenario() -> None:
        names = [f"p{number}" for number in range(MANY)]
        bench = await started(*names)
        slow = DataPlane(bench.store, "pod-1")
        await eventually(lambda: all(programmed(bench, name) for name in names), within_s=60)
        slow.ignores = True
        patches = len(bench.cluster.patches)
        for name in names:
            bench.apply(Kind.POLICY, policy(name, "a", rule="renamed"))
        await asyncio.sleep(2.1 * GRACE_S)
        slow.ignores = False
        await eventually(
            lambda: (
                len(bench.cluster.patches) == patches + MANY
                and all(programmed(bench, name) for name in names)
            ),
            within_s=60,
        )
        await asyncio.sleep(GRACE_MAX_S)
        assert len(bench.cluster.patches) == patches + MANY
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


def test_what_a_pod_may_refuse_unnamed_is_not_programmed() -> None:
    async def scenario() -> None:
        bench = await started("named", "unnamed")
        pod = DataPlane(bench.store, "pod-1")
        await eventually(lambda: programmed(bench, "named") and programmed(bench, "unnamed"))
        pod.refused = {"policy/ai/named": "format 9", MORE_REFUSED: "1 more entries are refused"}
        await eventually(lambda: not (programmed(bench, "named") or programmed(bench, "unnamed")))
        found = bench.condition(Kind.POLICY, "unnamed", "Programmed")
        assert found["reason"] == "WaitingForPods"
        assert "it may refuse this one: 1 more entries are refused" in found["message"]
        # As long as it says so, no other ack helps.
        other = DataPlane(bench.store, "pod-2")
        await asyncio.sleep(2)
        assert key("unnamed") not in bench.reporter.waiting()
        await other.stop()
        pod.refused = {"policy/ai/named": "format 9"}
        await eventually(lambda: programmed(bench, "unnamed"), within_s=3 * GRACE_S)
        assert not programmed(bench, "named")
        await bench.stop()

    in_virtual_time(scenario)


def test_a_pod_that_comes_with_a_refusal_refuses_the_entry_as_it_is_once_it_has_seen_it() -> None:
    async def scenario() -> None:
        bench = await started("chat")
        DataPlane(bench.store, "pod-1")
        await eventually(lambda: programmed(bench, "chat"))
        # It started from its disk, where the entry was older.
        late = DataPlane(bench.store, "pod-2", at=Revision(0, 1))
        late.refused = {"policy/ai/chat": "format 9"}
        await asyncio.sleep(2)
        assert programmed(bench, "chat")
        late.ignores = False
        await eventually(lambda: not programmed(bench, "chat"))
        assert bench.condition(Kind.POLICY, "chat", "Programmed")["reason"] == "RefusedByPod"
        await bench.stop()

    in_virtual_time(scenario)


def test_a_pod_that_stays_ahead_of_the_store_ends_what_was_programmed_until_it_is_gone() -> None:
    async def scenario() -> None:
        bench = await started("chat")
        pod = DataPlane(bench.store, "pod-1", at=Revision(7, 123))
        await eventually(lambda: programmed(bench, "chat"))
        pod.refused = {POLICY_REFUSED: "the store went back to 1-4; 7-123 stays in force"}
        await eventually(lambda: not programmed(bench, "chat"))
        await asyncio.sleep(DISTRUST_S + COUNTS_EVERY_S)
        found = bench.condition(Kind.POLICY, "chat", "Ready")
        assert (found["status"], found["reason"]) == ("False", "RefusedByPod")
        assert "pod-1 (at 7-123, delete it: the store went back to 1-4" in found["message"]
        await pod.stop()
        await bench.store.reader(SCOPE).goodbye("pod-1")
        DataPlane(bench.store, "pod-2")
        await eventually(lambda: programmed(bench, "chat"))
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
