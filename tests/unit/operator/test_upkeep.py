"""The upkeep's steps: one that fails keeps no other from its turn."""

import asyncio
from typing import Any

import pytest

from fakes.manifests import external, policy
from fakes.virtual_time import eventually
from switchboard_operator.errors import ApiAway, Forbidden
from switchboard_operator.resources import Kind
from switchboard_policy.compiler.world import Name
from unit.operator.bench import Bench, DataPlane, in_virtual_time, new_store
from unit.operator.kube_fakes import Cluster

SUMMARY = Name("system", "switchboard-status-default")


async def with_silent_pods() -> Bench:
    """Return a bench whose two pods fall silent; a Pod of that name is known of both."""
    cluster = Cluster()
    cluster.put(Kind.NAMESPACE, {"metadata": {"name": "ai"}})
    cluster.put(Kind.BACKEND, external("a", 1))
    cluster.put(Kind.POLICY, policy("chat", "a"))
    bench = Bench(cluster, new_store())
    await bench.start()
    await eventually(bench.reconciler.published.is_set)
    planes = [DataPlane(bench.store, name, uid=f"uid of {name}") for name in ("pod-1", "pod-2")]
    for name in ("pod-1", "pod-2"):
        cluster.pods[Name("system", name)] = f"uid of {name}"
    await asyncio.sleep(10)
    for plane in planes:
        await plane.stop()
    return bench


def test_pods_that_cannot_be_asked_for_keep_nothing_else_of_the_upkeep() -> None:
    async def scenario() -> None:
        bench = await with_silent_pods()
        turned, turn = list[float](), bench.keys.turn

        async def away(name: Name) -> str | None:
            raise ApiAway("no Pods today")

        async def note(*args: Any) -> bool:
            turned.append(asyncio.get_running_loop().time())
            return await turn(*args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench.cluster, "pod_uid", away)
            patch.setattr(bench.keys, "turn", note)
            told = ("PodSilent", "gw/default: pod-1, pod-2")
            await eventually(lambda: told in bench.cluster.events)
            silent_at = asyncio.get_running_loop().time()
            await asyncio.sleep(20)
            assert turned
            assert turned[-1] > silent_at + 10
        await bench.stop()

    in_virtual_time(scenario)


def test_a_pod_that_may_not_be_read_keeps_no_other_from_being_forgotten() -> None:
    async def scenario() -> None:
        bench = await with_silent_pods()
        bench.cluster.pods.clear()

        async def refuse_one(name: Name) -> str | None:
            if name.name == "pod-1":
                raise Forbidden(403, "cannot get pods")
            return None

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench.cluster, "pod_uid", refuse_one)
            await eventually(lambda: [seen.pod.name for seen in bench.planes.pods] == ["pod-1"])
        await bench.stop()

    in_virtual_time(scenario)


def test_a_summary_that_cannot_be_written_keeps_nothing_else_and_is_tried_again() -> None:
    async def scenario() -> None:
        bench = await with_silent_pods()
        turned, tried, apply = list[int](), list[float](), bench.cluster.apply_config_map

        async def refuse(*_: Any) -> str:
            tried.append(asyncio.get_running_loop().time())
            raise Forbidden(403, "cannot patch configmaps")

        async def note(*_: Any) -> bool:
            turned.append(1)
            return False

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bench.cluster, "apply_config_map", refuse)
            patch.setattr(bench.keys, "turn", note)
            await asyncio.sleep(60)
            assert len(turned) >= 10
            assert 5 <= len(tried) <= 32
            patch.setattr(bench.cluster, "apply_config_map", apply)
            await eventually(lambda: bench.cluster.config_maps[SUMMARY]["live"] == "0/2")
            assert ("PodSilent", "gw/default: pod-1, pod-2") in bench.cluster.events
        await bench.stop()

    in_virtual_time(scenario)
