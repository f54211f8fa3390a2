"""From an event to the store and the status, with all parts but the API server and Redis real."""

import asyncio
from functools import partial
from typing import Any

import pytest

from fakes.manifests import external, policy
from fakes.virtual_time import eventually
from switchboard_operator.reconciler import ACKS_RETRY_S, BACKOFF_MAX_S
from switchboard_operator.resources import Kind
from switchboard_policy.compiler.world import Name
from unit.operator.bench import SCOPE, Bench, DataPlane, in_virtual_time, programmed, started
from unit.operator.kube_fakes import AWAY

BACKEND, POLICY = Kind.BACKEND, Kind.POLICY


def is_stored(bench: Bench, key: str) -> bool:
    return key in bench.in_store()


def test_what_is_there_is_published_and_reported_at_the_start() -> None:
    async def scenario() -> None:
        bench = await started()
        DataPlane(bench.store, "pod-1")
        assert bench.in_store() == {"backend/ai/a", "policy/ai/chat"}
        await eventually(lambda: programmed(bench, "chat"))
        assert bench.condition(POLICY, "chat", "Programmed")["message"].startswith("1/1 pods at")
        assert bench.status(POLICY, "chat")["pods"] == "1/1"
        await bench.stop()

    in_virtual_time(scenario)


def test_an_edit_moves_one_entry_and_one_status() -> None:
    async def scenario() -> None:
        bench = await started()
        DataPlane(bench.store, "pod-1")
        bench.apply(POLICY, policy("other", "a"))
        await eventually(lambda: programmed(bench, "chat") and programmed(bench, "other"))
        before = dict(bench.store.channel(SCOPE, "policy").fields)
        patches = bench.patches_of("other")
        edited = policy("chat", "a", rule="renamed")
        bench.apply(POLICY, edited)
        await eventually(
            lambda: bench.condition(POLICY, "chat", "Ready").get("observedGeneration") == 2
        )
        after = bench.store.channel(SCOPE, "policy").fields
        assert {key for key in after if after[key] != before[key]} == {"policy/ai/chat"}
        assert bench.patches_of("other") == patches
        await bench.stop()

    in_virtual_time(scenario)


def test_a_programmed_object_is_patched_once() -> None:
    async def scenario() -> None:
        bench = await started()
        for name in ("pod-1", "pod-2", "pod-3"):
            DataPlane(bench.store, name)
        await eventually(lambda: programmed(bench, "chat", "NoDataPlanes") or bench.patcher.waiting)
        await asyncio.sleep(30)
        patches = bench.patches_of("chat")
        bench.apply(POLICY, policy("chat", "a", rule="renamed"))
        await asyncio.sleep(30)
        assert bench.patches_of("chat") == patches + 1
        assert bench.status(POLICY, "chat")["pods"] == "3/3"
        await bench.stop()

    in_virtual_time(scenario)


def test_a_pod_that_does_not_ack_is_named_and_counts_once_it_does() -> None:
    async def scenario() -> None:
        bench = await started()
        DataPlane(bench.store, "pod-1")
        slow = DataPlane(bench.store, "pod-2")
        await eventually(lambda: programmed(bench, "chat"))
        slow.ignores = True
        bench.apply(POLICY, policy("chat", "a", rule="renamed"))
        await eventually(lambda: programmed(bench, "chat", "WaitingForPods"))
        message = bench.condition(POLICY, "chat", "Programmed")["message"]
        assert "1/2 pods" in message
        assert "waiting for pod-2" in message
        assert bench.condition(POLICY, "chat", "Reconciling")["status"] == "True"
        slow.ignores = False
        await eventually(lambda: programmed(bench, "chat"))
        assert bench.condition(POLICY, "chat", "Reconciling") == {}
        await bench.stop()

    in_virtual_time(scenario)


def test_a_refusal_is_told_and_taken_back() -> None:
    async def scenario() -> None:
        bench = await started()
        pod = DataPlane(bench.store, "pod-1")
        await eventually(lambda: programmed(bench, "chat"))
        pod.refused = {"policy/ai/chat": "bad signature"}
        await eventually(lambda: programmed(bench, "chat", "RefusedByPod"))
        assert bench.condition(POLICY, "chat", "Stalled")["status"] == "True"
        assert "pod-1: bad signature" in bench.condition(POLICY, "chat", "Programmed")["message"]
        pod.refused = {}
        await eventually(lambda: programmed(bench, "chat"))
        await bench.stop()

    in_virtual_time(scenario)


def test_a_pod_that_falls_silent_rewrites_no_object_but_the_summary() -> None:
    async def scenario() -> None:
        bench = await started()
        DataPlane(bench.store, "pod-1")
        silent = DataPlane(bench.store, "pod-2", uid="uid-2")
        bench.cluster.pods[Name("system", "pod-2")] = "uid-2"
        await eventually(lambda: programmed(bench, "chat"))
        await asyncio.sleep(15)
        patches = len(bench.cluster.patches)
        await silent.stop()
        summary = Name("system", "switchboard-status-default")
        await eventually(
            lambda: bench.cluster.config_maps.get(summary, {}).get("silent") == "pod-2",
            within_s=60,
        )
        assert bench.cluster.config_maps[summary]["live"] == "1/2"
        assert ("PodSilent", "gw/default: pod-2") in bench.cluster.events
        assert len(bench.cluster.patches) == patches
        assert programmed(bench, "chat")
        # Its Pod is deleted: it is forgotten.
        del bench.cluster.pods[Name("system", "pod-2")]
        await eventually(lambda: bench.cluster.config_maps[summary]["live"] == "1/1", within_s=60)
        assert ("PodGone", "gw/default: pod-2") in bench.cluster.events
        assert "PodSpeaksAgain" not in {reason for reason, _ in bench.cluster.events}
        await bench.stop()

    in_virtual_time(scenario)


def test_a_data_plane_without_a_pod_is_forgotten_after_ten_minutes() -> None:
    async def scenario() -> None:
        bench = await started()
        plane = DataPlane(bench.store, "laptop")
        await eventually(lambda: bool(bench.planes.pods))
        await plane.stop()
        await asyncio.sleep(590)
        assert bench.planes.pods
        await asyncio.sleep(30)
        assert not bench.planes.pods
        await bench.stop()

    in_virtual_time(scenario)


def test_a_deleted_policy_leaves_the_store() -> None:
    async def scenario() -> None:
        bench = await started()
        bench.delete(POLICY, "chat")
        await eventually(lambda: bench.in_store() == set())
        await bench.stop()

    in_virtual_time(scenario)


def test_a_backend_that_no_policy_uses_is_ready_and_says_so() -> None:
    async def scenario() -> None:
        bench = await started()
        bench.apply(BACKEND, external("spare", 2))
        await eventually(lambda: bool(bench.status(BACKEND, "spare")))
        found = bench.condition(BACKEND, "spare", "Programmed")
        assert (found["status"], found["reason"]) == ("False", "NotReferenced")
        assert bench.condition(BACKEND, "spare", "Ready")["status"] == "True"
        await bench.stop()

    in_virtual_time(scenario)


def test_an_away_store_is_told_and_caught_up_with() -> None:
    async def scenario() -> None:
        bench = await started()
        DataPlane(bench.store, "pod-1")
        await eventually(lambda: programmed(bench, "chat"))
        bench.writer.away = True
        bench.apply(POLICY, policy("chat", "a", rule="renamed"))
        await eventually(lambda: programmed(bench, "chat", "StoreUnavailable"))
        message = bench.condition(POLICY, "chat", "Programmed")["message"]
        assert message.startswith("Not in the store yet: the store does not answer (refused)")
        bench.writer.away = False
        await eventually(lambda: programmed(bench, "chat"))
        assert bench.telemetry.store_errors._value.get() > 0
        await bench.stop()

    in_virtual_time(scenario)


def test_a_flushed_store_is_filled_again_within_seconds_and_no_status_moves() -> None:
    async def scenario() -> None:
        bench = await started()
        DataPlane(bench.store, "pod-1")
        await eventually(lambda: programmed(bench, "chat"))
        await asyncio.sleep(15)
        patches, keys = len(bench.cluster.patches), bench.in_store()
        channel = bench.store.channel(SCOPE, "policy")
        channel.fields.clear()
        channel.entries.clear()
        channel.head = None
        await eventually(lambda: bench.in_store() == keys, within_s=6)
        await asyncio.sleep(15)
        assert len(bench.cluster.patches) == patches
        await bench.stop()

    in_virtual_time(scenario)


def test_a_bad_edit_stays_alone_and_its_last_good_spec_stays_in_force() -> None:
    async def scenario() -> None:
        bench = await started()
        bench.apply(POLICY, policy("other", "a"))
        await eventually(lambda: "policy/ai/other" in bench.in_store())
        before = dict(bench.store.channel(SCOPE, "policy").fields)
        bench.apply(POLICY, policy("chat", "a", when="request.nope == 1"))
        await eventually(
            lambda: bench.condition(POLICY, "chat", "Accepted").get("status") == "False"
        )
        assert bench.condition(POLICY, "chat", "Degraded")["reason"] == "LastGoodInForce"
        assert dict(bench.store.channel(SCOPE, "policy").fields) == before
        await eventually(lambda: len(bench.cluster.kept) == 1)
        bench.apply(POLICY, policy("chat", "a"))
        await eventually(lambda: not bench.cluster.kept)
        await eventually(lambda: not bench.condition(POLICY, "chat", "Degraded"))
        await bench.stop()

    in_virtual_time(scenario)


def test_many_edits_at_once_do_not_make_as_many_passes() -> None:
    async def scenario() -> None:
        bench = await started()
        before = bench.telemetry.compile_seconds._sum.get()
        count = bench.writer.published
        for number in range(200):
            bench.apply(POLICY, policy(f"p{number}", "a"))
        await eventually(lambda: len(bench.in_store()) == 202)
        assert bench.writer.published - count <= 3
        assert bench.telemetry.compile_seconds._sum.get() > before
        await bench.stop()

    in_virtual_time(scenario)


def test_an_away_api_server_delays_statuses_and_loses_none() -> None:
    async def scenario() -> None:
        bench = await started()
        await eventually(lambda: bool(bench.status(POLICY, "chat")))
        bench.apply(POLICY, policy("new", "a"))
        bench.cluster.trouble = AWAY
        await asyncio.sleep(5)
        bench.cluster.trouble = None
        await eventually(lambda: bool(bench.status(POLICY, "new")), within_s=60)
        assert "failed" in bench.outcomes
        await bench.stop()

    in_virtual_time(scenario)


def test_metrics_count_objects_by_condition() -> None:
    async def scenario() -> None:
        bench = await started()
        bench.apply(POLICY, policy("dangling", "nobody"))
        await eventually(lambda: bool(bench.status(POLICY, "dangling")))
        text = bench.telemetry.render(bench.reporter.counts()).decode()
        assert (
            'switchboard_operator_objects{condition="ResolvedRefs",kind="RoutingPolicy",'
            'status="False"} 1.0' in text
        )
        assert "switchboard_operator_leader 1.0" in text
        await bench.stop()

    in_virtual_time(scenario)


def test_a_store_that_was_away_for_long_gets_the_edits_as_soon_as_it_answers() -> None:
    async def scenario() -> None:
        bench = await started()
        wait_for_acks, loop = bench.writer.wait_for_acks, asyncio.get_running_loop()

        async def acks(*args: Any, **fields: Any) -> Any:
            bench.writer._check()
            return await wait_for_acks(*args, **fields)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench.writer, "wait_for_acks", acks)
            for number, away_s in enumerate((60.0, 61.3, 62.9, 64.1)):
                bench.writer.away = True
                bench.apply(POLICY, policy(f"new-{number}", "a"))
                # By then the publisher itself waits for up to 7.5 s between two tries.
                await asyncio.sleep(away_s)
                bench.writer.away, back_at = False, loop.time()
                await eventually(partial(is_stored, bench, f"policy/ai/new-{number}"))
                assert loop.time() - back_at <= ACKS_RETRY_S + 0.1
        await bench.stop()

    in_virtual_time(scenario)


def test_a_store_that_is_away_for_long_is_tried_no_more_often_than_at_first() -> None:
    async def scenario() -> None:
        bench = await started()
        tried, publish = list[float](), bench.writer.publish

        async def note(*args: Any, **fields: Any) -> Any:
            tried.append(asyncio.get_running_loop().time())
            return await publish(*args, **fields)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench.writer, "publish", note)
            bench.writer.away = True
            bench.apply(POLICY, policy("new", "a"))
            away_s = 600
            await asyncio.sleep(away_s)
        assert len(tried) <= away_s / (BACKOFF_MAX_S / 2)
        await bench.stop()

    in_virtual_time(scenario)
