"""What a restart and another leader keep: nothing is written twice, nothing good is lost."""

import asyncio
from typing import Any

import pytest

from fakes.manifests import policy
from fakes.virtual_time import eventually
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_policy.compiler.world import Name
from switchboard_policy.store import Channel
from unit.operator.bench import (
    SCOPE,
    Bench,
    DataPlane,
    in_virtual_time,
    new_store,
    programmed,
    small_cluster,
    started,
)

BACKEND, POLICY = Kind.BACKEND, Kind.POLICY


def test_the_last_good_spec_survives_a_restart_and_a_flush() -> None:
    async def scenario() -> None:
        first = await started()
        first.apply(POLICY, policy("chat", "a", when="request.nope == 1"))
        await eventually(lambda: len(first.cluster.kept) == 1)
        await first.stop()
        second = await started(first.cluster)
        assert "policy/ai/chat" in second.in_store()
        assert second.condition(POLICY, "chat", "Degraded")["reason"] == "LastGoodInForce"
        await second.stop()

    in_virtual_time(scenario)


def test_an_object_that_healed_while_no_operator_ran_keeps_nothing() -> None:
    async def scenario() -> None:
        first = await started()
        first.apply(POLICY, policy("chat", "a", when="request.nope == 1"))
        await eventually(lambda: len(first.cluster.kept) == 1)
        await first.stop()
        first.cluster.put(POLICY, policy("chat", "a"))
        second = await started(first.cluster)
        await eventually(lambda: not second.cluster.kept)
        await second.stop()

    in_virtual_time(scenario)


def test_a_restart_writes_nothing_that_is_there_and_raises_the_epoch() -> None:
    async def scenario() -> None:
        cluster, store = small_cluster(), new_store()
        first = Bench(cluster, store)
        await first.start()
        DataPlane(store, "pod-1")
        await eventually(lambda: programmed(first, "chat"))
        await eventually(lambda: bool(first.condition(BACKEND, "a", "Ready")))
        await asyncio.sleep(15)
        await first.stop()
        fields, patches = dict(store.channel(SCOPE, "policy").fields), len(cluster.patches)
        revision = store.channel(SCOPE, "policy").revision
        second = Bench(cluster, store, name="second")
        await second.start()
        await eventually(second.reconciler.published.is_set)
        await asyncio.sleep(30)
        assert second.leadership.epoch == 2
        assert dict(store.channel(SCOPE, "policy").fields) == fields
        # One line says that a new leader took over; no object moved.
        assert store.channel(SCOPE, "policy").revision == (2, revision.sequence + 1)
        assert len(cluster.patches) == patches
        await second.stop()

    in_virtual_time(scenario)


def test_objects_that_were_published_together_keep_their_revisions_over_a_restart() -> None:
    async def scenario() -> None:
        cluster, store = small_cluster(), new_store()
        first = Bench(cluster, store)
        await first.start()
        DataPlane(store, "pod-1")
        await eventually(first.reconciler.published.is_set)
        first.apply(POLICY, *(policy(f"p{number}", "a") for number in range(5)))
        await asyncio.sleep(15)
        said = {f"p{number}": first.status(POLICY, f"p{number}") for number in range(5)}
        fields = store.channel(SCOPE, "policy").fields
        for name, status in said.items():
            assert status["revision"] == str(fields[f"policy/ai/{name}"].revision)
        await first.stop()
        second = Bench(cluster, store, name="second")
        await second.start()
        await asyncio.sleep(30)
        assert {name: second.status(POLICY, name) for name in said} == said
        await second.stop()

    in_virtual_time(scenario)


def test_a_standby_compiles_and_writes_nothing_until_it_leads() -> None:
    async def scenario() -> None:
        cluster, store = small_cluster(), new_store()
        leader, standby = Bench(cluster, store, name="one"), Bench(cluster, store, name="two")
        await leader.start()
        await eventually(leader.reconciler.published.is_set)
        await standby.start()
        await asyncio.sleep(20)
        assert standby.leadership.epoch is None
        assert standby.outcomes == []
        assert set(standby.publication.compilation.policy) == leader.in_store()
        await leader.stop()
        await eventually(lambda: standby.leadership.epoch == 2)
        standby.apply(POLICY, policy("new", "a"))
        await eventually(lambda: "policy/ai/new" in standby.in_store())
        await standby.stop()

    in_virtual_time(scenario)


def test_a_deposed_leader_stops_publishing_and_returns_above_the_other() -> None:
    async def scenario() -> None:
        bench = await started()
        other = bench.store.writer(keyrings=bench.writer._keyrings)
        await other.replace(SCOPE, "policy", epoch=9, contents=bench.publication.compilation.policy)
        bench.apply(POLICY, policy("new", "a"))
        await eventually(lambda: "policy/ai/new" in bench.in_store())
        assert bench.leadership.epoch == 10
        await bench.stop()

    in_virtual_time(scenario)


def test_a_leader_that_slept_amid_its_upkeep_says_nothing_old() -> None:
    async def scenario() -> None:
        bench = await started()
        said_in, slept = list[int | None](), list[str]()
        intact, report = bench.writer.intact, bench.planes.report

        async def sleep_and_wake(scope: str, channel: Channel) -> bool:
            # Whoever sleeps for long has lost the Lease by the time it wakes.
            bench.leadership.step_down("slept")
            slept.append(channel)
            return await intact(scope, channel)

        async def note(*args: Any, **fields: Any) -> bool:
            said_in.append(bench.leadership.epoch)
            return await report(*args, **fields)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench.planes, "report", note)
            patch.setattr(bench.writer, "intact", sleep_and_wake)
            await eventually(lambda: len(slept) > 3)
            assert None not in said_in
            patch.setattr(bench.writer, "intact", intact)
            said_in.clear()
            await eventually(lambda: len(said_in) > 1)
            assert None not in said_in
        await bench.stop()

    in_virtual_time(scenario)


def test_last_good_specs_are_kept_and_dropped_by_a_leader_alone() -> None:
    async def scenario() -> None:
        bench = await started()
        bench.apply(POLICY, policy("chat", "a", when="request.nope == 1"))
        await eventually(lambda: bool(bench.cluster.kept))
        bench.inventory.take(POLICY, bench.cluster.put(POLICY, policy("chat", "a")))
        bench.quarantine.touch([ObjectKey(POLICY, Name("ai", "chat"))])
        await bench.quarantine.settle(lambda: False)
        assert bench.cluster.kept
        await bench.quarantine.settle(lambda: True)
        assert not bench.cluster.kept
        await bench.stop()

    in_virtual_time(scenario)


def test_a_standby_forgets_what_is_gone() -> None:
    async def scenario() -> None:
        leader = await started()
        standby = Bench(leader.cluster, leader.store, name="standby")
        await standby.start()
        await asyncio.sleep(10)
        for number in range(20):
            name = f"p{number}"
            standby.apply(POLICY, policy(name, "a"))
            await asyncio.sleep(0.5)
            assert ObjectKey(POLICY, Name("ai", name)) in standby.reconciler._unreported
            standby.delete(POLICY, name)
            await asyncio.sleep(0.5)
        assert standby.leadership.epoch is None
        assert standby.reconciler._unreported == {
            ObjectKey(BACKEND, Name("ai", "a")),
            ObjectKey(POLICY, Name("ai", "chat")),
        }
        await leader.stop()
        await eventually(lambda: standby.leadership.epoch == 2)
        await eventually(lambda: bool(standby.condition(POLICY, "chat", "Ready")))
        await standby.stop()

    in_virtual_time(scenario)


def test_a_standby_still_drops_the_kept_spec_of_what_is_gone() -> None:
    async def scenario() -> None:
        bench = await started()
        bench.apply(POLICY, policy("chat", "a", when="request.nope == 1"))
        await eventually(lambda: bool(bench.cluster.kept))
        bench.leadership.step_down("a test")
        bench.delete(POLICY, "chat")
        await eventually(lambda: bench.leadership.epoch == 2)
        await eventually(lambda: not bench.cluster.kept)
        await bench.stop()

    in_virtual_time(scenario)


def test_keys_that_cannot_be_read_are_tried_again_once_at_a_time() -> None:
    async def scenario() -> None:
        bench = await started()
        kept = bench.cluster.secrets[Name("system", "switchboard-scope-default")]
        good, kept.data = kept.data, {"scope-key.json": b"{}"}
        reads, get_secret = list[Name](), bench.cluster.get_secret

        async def count(name: Name) -> Any:
            reads.append(name)
            return await get_secret(name)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench.cluster, "get_secret", count)
            bench.leadership.step_down("a test")
            await eventually(lambda: bool(reads))
            for number in range(50):
                bench.apply(POLICY, policy("chat", "a", rule=f"r{number}"))
                await asyncio.sleep(0.5)
            reads.clear()
            await asyncio.sleep(60)
            assert 10 <= len(reads) <= 13
        kept.data = good
        await eventually(lambda: bench.reconciler._reported_epoch == bench.leadership.epoch)
        await bench.stop()

    in_virtual_time(scenario)
