"""The summary of a scope: its words, its age, and what Events tell of it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from fakes.manifests import external, policy
from fakes.virtual_time import eventually
from switchboard_operator.dataplanes import SUMMARY_EVERY_S, SUMMARY_MOVED_EVERY_S
from switchboard_operator.errors import Forbidden
from switchboard_operator.resources import Kind
from switchboard_operator.summary import (
    NAMED_PODS_MAX,
    ClientCount,
    Told,
    changes,
    read_told,
    summarise,
    tell,
)
from switchboard_policy.compiler.world import Name
from switchboard_policy.store import Pod, PodSeen, Revision
from unit.operator.bench import SCOPE, Bench, DataPlane, in_virtual_time, new_store
from unit.operator.kube_fakes import Cluster

AT = Revision(3, 17)
SUMMARY = Name("system", "switchboard-status-default")


def pod(name: str, sequence: int = 17, *, age_s: int = 1, refused: str = "") -> PodSeen:
    refusals = {"policy/ai/chat": refused} if refused else {}
    return PodSeen(
        Pod(name=name, revision=Revision(3, sequence), refused=refusals), age_ms=age_s * 1000
    )


def test_what_lacks_is_said_in_a_line_and_named_below() -> None:
    pods = [pod("a"), pod("b", 16), pod("c", age_s=60), pod("d", refused="unknown format 9")]
    data = summarise(pods, AT, clients=ClientCount(3, 1)).data(written="2026-05-01T12:00:00Z")
    assert data == {
        "revision": "3-17",
        "pods": "4",
        "live": "3/4",
        "inForce": "1/4",
        "lacks": "1 silent, 1 behind, 1 refused",
        "behind": "b at 3-16",
        "silent": "c",
        "refusals": "d: policy/ai/chat: unknown format 9",
        "store": "",
        "clients": "3",
        "clientsRefused": "1",
        "written": "2026-05-01T12:00:00Z",
    }
    assert summarise([pod("a")], AT).lacks == "nothing"
    assert summarise([pod("a")], AT, store="refused").lacks == "the store"


def told(before: Told, pods: list[PodSeen], *, store: str = "") -> list[tuple[str, str]]:
    summary = summarise(pods, AT, store=store)
    there = {seen.pod.name for seen in pods}
    return [(each.reason, each.message) for each in changes(before, summary, there)]


def test_events_tell_of_transitions_and_a_pod_that_left_does_not_speak_again() -> None:
    silent = [pod("a"), pod("b", age_s=60), pod("c", age_s=60)]
    assert told(Told(), silent) == [("PodSilent", "b, c")]
    before = tell(summarise(silent, AT))
    assert told(before, silent) == []
    assert told(before, [pod("a"), pod("b")]) == [("PodSpeaksAgain", "b"), ("PodGone", "c")]


def test_events_tell_of_refusals_and_of_the_store() -> None:
    refusing = [pod("a", refused="bad seal")]
    assert told(Told(), refusing, store="refused") == [
        ("PodRefuses", "a: policy/ai/chat: bad seal"),
        ("StoreUnavailable", "refused"),
    ]
    before = tell(summarise(refusing, AT, store="refused"))
    assert told(before, [pod("a")]) == [
        ("PodRefusesNoMore", "a: policy/ai/chat: bad seal"),
        ("StoreAvailable", "the store answers again"),
    ]


def test_what_an_earlier_leader_told_is_read_from_the_summary_that_it_left() -> None:
    summary = summarise([pod("a", age_s=60), pod("b", refused="bad seal")], AT, store="refused")
    assert read_told(summary.data(written="")) == tell(summary)
    assert read_told(None) == Told()
    many = [pod(f"p{number:02}", age_s=60) for number in range(NAMED_PODS_MAX + 5)]
    # Not all names were kept: who is new among them cannot be known.
    left = read_told(summarise(many, AT).data(written=""))
    assert told(left, many) == []


def test_a_refusal_of_many_lines_is_one_line_of_the_summary_and_told_once() -> None:
    refusing = [pod("a", refused="bad seal:\n  line two\x0b\u2028three")]
    summary = summarise(refusing, AT)
    assert summary.refusals == ("a: policy/ai/chat: bad seal: line two three",)
    assert read_told(summary.data(written="")) == tell(summary)
    assert told(read_told(summary.data(written="")), refusing) == []


async def started(cluster: Cluster, store: object) -> Bench:
    bench = Bench(cluster, store)  # type: ignore[arg-type]
    await bench.start()
    await eventually(bench.reconciler.published.is_set)
    return bench


def small() -> Cluster:
    cluster = Cluster()
    cluster.put(Kind.NAMESPACE, {"metadata": {"name": "ai"}})
    cluster.put(Kind.BACKEND, external("a", 1))
    cluster.put(Kind.POLICY, policy("chat", "a"))
    return cluster


def test_a_refusal_is_in_the_summary_within_seconds_while_edits_move_it_all_the_time() -> None:
    async def scenario() -> None:
        cluster, written_at = small(), list[float]()
        bench, apply = await started(cluster, new_store()), cluster.apply_config_map
        loop = asyncio.get_running_loop()

        async def note(name: Name, data: Mapping[str, str]) -> str:
            written_at.append(loop.time())
            return await apply(name, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster, "apply_config_map", note)
            plane, refusal = DataPlane(bench.store, "pod-1"), "policy/ai/chat: bad seal"
            for number in range(20):
                bench.apply(Kind.POLICY, policy("chat", "a", rule=f"r{number}"))
                await asyncio.sleep(1)
            # One a start, one for the pod that came, and then by time alone.
            assert len(written_at) <= 2 + 20 / SUMMARY_EVERY_S
            await eventually(lambda: loop.time() - written_at[-1] >= SUMMARY_MOVED_EVERY_S)
            plane.refused = {"policy/ai/chat": "bad seal"}
            bench.apply(Kind.POLICY, policy("chat", "a", rule="refused"))
            told = ("PodRefuses", f"gw/default: pod-1: {refusal}")
            await eventually(lambda: told in cluster.events, within_s=3)
        await bench.stop()

    in_virtual_time(scenario)


def test_an_event_that_cannot_be_posted_takes_no_other_with_it() -> None:
    async def scenario() -> None:
        cluster = small()
        bench, post = await started(cluster, new_store()), cluster.record_event

        async def refuse_one(about: Name, *, reason: str, **fields: Any) -> None:
            if reason == "PodSilent":
                raise Forbidden(403, "no such Event today")
            await post(about, reason=reason, **fields)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster, "record_event", refuse_one)
            await asyncio.sleep(10)
            pods = [pod("b", age_s=60), pod("c", refused="bad seal")]
            bench.planes.pods = pods
            # The store knows nothing of these.
            patch.setattr(bench.planes, "refresh", never)
            patch.setattr(bench.planes, "forget_gone", never)
            told = ("PodRefuses", "gw/default: c: policy/ai/chat: bad seal")
            await eventually(lambda: told in cluster.events, within_s=20)
        await bench.stop()

    in_virtual_time(scenario)


async def never(*_: object) -> int:
    return 0


def test_a_new_leader_tells_nothing_again() -> None:
    async def scenario() -> None:
        cluster, store = small(), new_store()
        first = await started(cluster, store)
        DataPlane(store, "pod-1")
        silent = DataPlane(store, "pod-2", uid="uid-2")
        cluster.pods[Name("system", "pod-2")] = "uid-2"
        await asyncio.sleep(10)
        await silent.stop()
        await eventually(lambda: ("PodSilent", "gw/default: pod-2") in cluster.events, within_s=60)
        await first.stop()
        second = await started(cluster, store)
        await asyncio.sleep(60)
        assert cluster.events.count(("PodSilent", "gw/default: pod-2")) == 1
        await second.stop()

    in_virtual_time(scenario)


def test_the_summary_is_never_older_than_two_minutes_while_an_operator_runs() -> None:
    async def scenario() -> None:
        bench = await started(small(), new_store())
        await eventually(lambda: SUMMARY in bench.cluster.config_maps)
        written = set()
        for _ in range(10):
            await asyncio.sleep(60)
            written.add(bench.cluster.config_maps[SUMMARY]["written"])
        assert len(written) >= 9
        assert bench.cluster.events == []
        await bench.stop()

    in_virtual_time(scenario)


def test_an_away_store_is_told_in_the_summary_and_no_object_is_touched() -> None:
    async def scenario() -> None:
        bench = await started(small(), new_store())
        DataPlane(bench.store, "pod-1")
        await asyncio.sleep(30)
        patches = len(bench.cluster.patches)
        bench.writer.away = True
        await eventually(
            lambda: bench.cluster.config_maps[SUMMARY]["store"] == "refused", within_s=20
        )
        assert bench.cluster.config_maps[SUMMARY]["lacks"] == "the store"
        assert len(bench.cluster.patches) == patches
        bench.writer.away = False
        await eventually(
            lambda: (
                ("StoreAvailable", "gw/default: the store answers again") in bench.cluster.events
            ),
            within_s=30,
        )
        await bench.stop()

    in_virtual_time(scenario)


def test_an_object_waits_no_more_for_a_pod_that_is_forgotten() -> None:
    async def scenario() -> None:
        bench = await started(small(), new_store())
        DataPlane(bench.store, "pod-1")
        gone = DataPlane(bench.store, "pod-2", uid="uid-2")
        bench.cluster.pods[Name("system", "pod-2")] = "uid-2"
        await eventually(
            lambda: bench.condition(Kind.POLICY, "chat", "Programmed").get("status") == "True"
        )
        await gone.stop()
        bench.apply(Kind.POLICY, policy("chat", "a", rule="renamed"))
        await asyncio.sleep(30)
        assert bench.condition(Kind.POLICY, "chat", "Programmed")["reason"] == "WaitingForPods"
        del bench.cluster.pods[Name("system", "pod-2")]
        await eventually(
            lambda: bench.condition(Kind.POLICY, "chat", "Programmed")["status"] == "True",
            within_s=12,
        )
        assert bench.status(Kind.POLICY, "chat")["pods"] == "1/1"
        await bench.stop()

    in_virtual_time(scenario)


def test_a_replica_that_does_not_lead_counts_nothing() -> None:
    async def scenario() -> None:
        bench = await started(small(), new_store())
        DataPlane(bench.store, "pod-1")
        await asyncio.sleep(20)
        assert bench.reporter.counts()
        assert b'dataplanes{scope="gw/default",state="live"} 1.0' in bench.telemetry.render({})
        bench.leadership.step_down("a test says so")
        assert bench.reporter.counts() == {}
        await bench.stop()

    in_virtual_time(scenario)


async def with_two_pods() -> tuple[Bench, DataPlane]:
    """Return a bench where both pods have the policy, and the second of them."""
    bench = await started(small(), new_store())
    DataPlane(bench.store, "pod-1")
    second = DataPlane(bench.store, "pod-2")
    await asyncio.sleep(10)
    bench.apply(Kind.POLICY, policy("chat", "a", rule="first"))
    await eventually(lambda: bench.status(Kind.POLICY, "chat").get("pods") == "2/2")
    await second.stop()
    return bench, second


def test_a_live_pod_that_the_store_lost_is_waited_for_until_it_is_silent() -> None:
    async def scenario() -> None:
        bench, _ = await with_two_pods()
        held = bench.store.pods(SCOPE)
        lost = held.records.pop("pod-2")
        held.seen_ms.pop("pod-2")
        bench.apply(Kind.POLICY, policy("chat", "a", rule="renamed"))
        await asyncio.sleep(5)
        said = bench.condition(Kind.POLICY, "chat", "Programmed")
        assert said["reason"] == "WaitingForPods"
        assert said["message"].startswith("1/2 pods at")
        assert f"pod-2 (at {lost.revision}" in said["message"]
        # It never registered again: like any other pod that is silent without a Pod, it is gone.
        await eventually(lambda: bench.status(Kind.POLICY, "chat")["pods"] == "1/1", within_s=30)
        await bench.stop()

    in_virtual_time(scenario)


def test_a_pod_that_said_goodbye_is_not_waited_for() -> None:
    async def scenario() -> None:
        bench, _ = await with_two_pods()
        await bench.store.reader(SCOPE).goodbye("pod-2")
        await asyncio.sleep(0.1)
        assert [seen.pod.name for seen in bench.planes.pods] == ["pod-1"]
        bench.apply(Kind.POLICY, policy("chat", "a", rule="renamed"))
        await eventually(
            lambda: bench.status(Kind.POLICY, "chat").get("pods") == "1/1", within_s=0.5
        )
        await bench.stop()

    in_virtual_time(scenario)
