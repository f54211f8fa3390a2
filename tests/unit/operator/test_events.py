"""Events: one a transition of a condition, none a pass, at a bounded rate."""

import asyncio
from typing import Any

from fakes.manifests import external, policy
from fakes.virtual_time import eventually
from switchboard_operator.events import (
    EVENTS_PER_S,
    MESSAGE_CHARACTERS_MAX,
    WAITING_MAX,
    Announcer,
    Transition,
    transitions,
)
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_operator.status import Status, Verdict
from switchboard_policy.compiler.world import Name
from unit.operator.bench import Bench, DataPlane, in_virtual_time, loop_clock, new_store
from unit.operator.kube_fakes import AWAY, Cluster

KEY = ObjectKey(Kind.POLICY, Name("ai", "chat"))


def status(**conditions: str) -> Status:
    """A status of ``Type="True/Reason"``, with a message that says both."""
    verdicts = []
    for of, said in conditions.items():
        holds, _, reason = said.partition("/")
        verdicts.append(Verdict(of, holds=holds == "True", reason=reason, message=f"{reason}!"))
    return Status(generation=1, verdicts=tuple(verdicts))


FINE = {
    "Accepted": "True/Accepted",
    "ResolvedRefs": "True/ResolvedRefs",
    "Programmed": "True/Programmed",
    "Ready": "True/Ready",
}
BAD_EDIT = FINE | {
    "Accepted": "False/Invalid",
    "Programmed": "False/LastGoodInForce",
    "Degraded": "True/LastGoodInForce",
    "Stalled": "True/Invalid",
    "Ready": "False/Invalid",
}


def told(before: dict[str, str] | None, after: dict[str, str]) -> list[tuple[str, bool]]:
    was = None if before is None else status(**before)
    return [(each.reason, each.warning) for each in transitions(was, status(**after))]


def test_of_a_new_object_that_is_well_one_thing_is_told() -> None:
    assert told(None, FINE) == [("Programmed", False)]


def test_nothing_is_told_where_no_condition_changed() -> None:
    before = status(**FINE)
    verdicts = tuple(
        Verdict(each.type, holds=each.holds, reason=each.reason, message="other")
        for each in before.verdicts
    )
    assert list(transitions(before, Status(generation=2, verdicts=verdicts))) == []


def test_a_bad_edit_is_told_once_a_reason_and_so_is_its_end() -> None:
    assert told(FINE, BAD_EDIT) == [("Invalid", True), ("LastGoodInForce", False)]
    assert told(BAD_EDIT, FINE) == [
        ("Accepted", False),
        ("Programmed", False),
        ("NotDegraded", False),
    ]


def test_what_needs_somebody_is_a_warning() -> None:
    for changed, warns in (
        ({"ResolvedRefs": "False/BackendNotFound"}, True),
        ({"Programmed": "False/RefusedByPod"}, True),
        ({"Programmed": "False/StoreUnavailable"}, True),
        ({"Programmed": "False/WaitingForPods"}, False),
        ({"Degraded": "True/UnreachableRule"}, True),
    ):
        ((_, warning),) = told(FINE, FINE | changed)
        assert warning is warns, changed


def test_a_message_names_the_condition_and_is_bounded() -> None:
    (one,) = transitions(None, status(Programmed="True/Programmed"))
    assert one == Transition("Programmed", "Programmed=True: Programmed!", warning=False)
    long = Verdict("Accepted", holds=False, reason="Invalid", message="x" * 4000)
    (one,) = transitions(None, Status(generation=1, verdicts=(long,)))
    assert len(one.message) == MESSAGE_CHARACTERS_MAX


class Telling:
    """An announcer that runs."""

    def __init__(self) -> None:
        self.cluster, self.outcomes = Cluster(), list[str]()
        self.leads = True
        self.announcer = Announcer(
            self.cluster,
            clock=loop_clock(),
            leads=lambda: self.leads,
            done=self.outcomes.append,
        )
        self.task = asyncio.create_task(self.announcer.run())

    def tell(self, name: str) -> None:
        key = ObjectKey(Kind.POLICY, Name("ai", name))
        self.announcer.tell(key, "uid", None, status(**FINE))


def test_a_fleet_wide_change_is_told_at_a_bounded_rate_and_the_oldest_are_dropped() -> None:
    async def scenario() -> None:
        bench, many = Telling(), WAITING_MAX + 100
        for number in range(many):
            bench.tell(f"p{number:03}")
        await asyncio.sleep(2)
        assert len(bench.cluster.object_events) <= 2 * EVENTS_PER_S + 1
        await asyncio.sleep(WAITING_MAX / EVENTS_PER_S)
        names = [name for name, _, _ in bench.cluster.object_events]
        assert names == [f"p{number:03}" for number in range(100, many)]
        assert bench.outcomes.count("dropped") == 100
        bench.task.cancel()

    in_virtual_time(scenario)


def test_an_event_that_cannot_be_posted_is_lost_and_the_next_is_not(caplog: Any) -> None:
    async def scenario() -> None:
        bench = Telling()
        bench.cluster.trouble = AWAY
        for name in ("lost", "too"):
            bench.tell(name)
        await asyncio.sleep(1)
        bench.cluster.trouble = None
        bench.tell("posted")
        await asyncio.sleep(1)
        assert bench.outcomes == ["failed", "failed", "posted"]
        assert [name for name, _, _ in bench.cluster.object_events] == ["posted"]
        bench.task.cancel()

    in_virtual_time(scenario)
    assert caplog.text.count("an Event about") == 1


def test_a_leader_that_was_deposed_posts_no_more_of_what_it_had_to_tell() -> None:
    async def scenario() -> None:
        bench = Telling()
        for number in range(EVENTS_PER_S):
            bench.tell(f"p{number}")
        await asyncio.sleep(0.5)
        posted, bench.leads = len(bench.cluster.object_events), False
        await asyncio.sleep(1)
        assert 0 < posted < EVENTS_PER_S
        assert len(bench.cluster.object_events) == posted
        assert bench.outcomes.count("dropped") == EVENTS_PER_S - posted
        bench.leads = True
        bench.tell("new")
        await asyncio.sleep(1)
        assert [name for name, _, _ in bench.cluster.object_events[posted:]] == ["new"]
        bench.task.cancel()

    in_virtual_time(scenario)


async def started(cluster: Cluster, store: Any) -> Bench:
    bench = Bench(cluster, store)
    await bench.start()
    await eventually(bench.reconciler.published.is_set)
    return bench


def test_an_object_is_told_of_on_its_transitions_and_a_restart_tells_nothing() -> None:
    async def scenario() -> None:
        cluster, store = Cluster(), new_store()
        cluster.put(Kind.NAMESPACE, {"metadata": {"name": "ai"}})
        cluster.put(Kind.BACKEND, external("a", 1))
        DataPlane(store, "pod-1")
        await asyncio.sleep(1)
        bench = await started(cluster, store)
        bench.apply(Kind.POLICY, policy("chat", "a"))
        await asyncio.sleep(15)
        bench.apply(Kind.POLICY, policy("chat", "a", rule="renamed"))
        await asyncio.sleep(15)
        bench.apply(Kind.POLICY, policy("chat", "a", when="request.nope == 1"))
        await asyncio.sleep(15)
        reasons = [reason for name, reason, _ in cluster.object_events if name == "chat"]
        assert reasons == ["Programmed", "InvalidExpression", "LastGoodInForce"]
        await bench.stop()
        events, again = len(cluster.object_events), await started(cluster, store)
        await asyncio.sleep(30)
        assert len(cluster.object_events) == events
        await again.stop()

    in_virtual_time(scenario)
