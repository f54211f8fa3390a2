"""How long an edit took to the last pod: by whom it is measured, and from when to when."""

import asyncio

from fakes.manifests import external, policy
from fakes.virtual_time import eventually
from switchboard_operator.propagation import Journeys
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_operator.standing import Standing
from switchboard_policy.compiler.world import Name
from switchboard_policy.store import Revision
from unit.operator.bench import Bench, DataPlane, in_virtual_time, new_store
from unit.operator.kube_fakes import Cluster

KEY = ObjectKey(Kind.POLICY, Name("ai", "chat"))
AT = Revision(3, 17)


class Measuring:
    """One object, looked at now and then by the leader of epoch 3."""

    def __init__(self) -> None:
        self.told: list[float] = []
        self.journeys = Journeys(self.told.append)

    def look(
        self,
        acked: int,
        of: int = 2,
        *,
        now: float,
        seen_at: float | None = None,
        revision: Revision | None = AT,
        pending: str = "",
    ) -> float | None:
        standing = Standing(revision=revision, pods=of, acked=acked, pending=pending)
        seen = now if seen_at is None else seen_at
        return self.journeys.measure(KEY, standing, seen_at=seen, epoch=3, now=now).took_s


def test_it_ends_with_the_last_ack() -> None:
    bench = Measuring()
    assert bench.look(0, now=10.0, seen_at=9.5) is None
    assert bench.look(1, now=10.5) is None
    assert bench.look(2, now=12.5) == 3.0
    assert bench.told == [3.0]


def test_it_is_measured_once_and_stays() -> None:
    bench = Measuring()
    bench.look(2, now=10.0, seen_at=9.75)
    assert bench.look(2, now=99.0) == 0.25
    assert bench.look(3, 3, now=199.0) == 0.25
    assert bench.told == [0.25]


def test_a_pod_that_is_forgotten_does_not_count_as_an_ack() -> None:
    bench = Measuring()
    bench.look(1, now=10.0, seen_at=9.0)
    assert bench.look(1, 1, now=600.0) == 1.0


def test_what_waited_for_the_store_took_as_long_as_it_waited() -> None:
    bench = Measuring()
    assert bench.look(2, now=10.0, revision=Revision(3, 16), pending="the store is away") is None
    assert bench.look(0, now=40.0) is None
    assert bench.look(2, now=40.5) == 30.5


def test_what_another_leader_published_is_not_measured() -> None:
    bench = Measuring()
    assert bench.look(2, now=10.0, revision=Revision(2, 16)) is None
    assert bench.told == []


def test_what_no_pod_was_there_for_is_not_measured() -> None:
    bench = Measuring()
    assert bench.look(0, 0, now=10.0) is None
    assert bench.look(2, now=3600.0) is None
    assert bench.look(2, now=3700.0, seen_at=3699.0, revision=Revision(3, 18)) == 1.0


def test_the_status_has_it_and_the_edits_that_follow_have_their_own() -> None:
    async def scenario() -> None:
        cluster = Cluster()
        cluster.put(Kind.NAMESPACE, {"metadata": {"name": "ai"}})
        cluster.put(Kind.BACKEND, external("a", 1))
        cluster.put(Kind.POLICY, policy("chat", "a"))
        bench = Bench(cluster, new_store())
        slow = DataPlane(bench.store, "pod-1")
        await asyncio.sleep(1)
        await bench.start()
        await eventually(lambda: "propagation" in bench.status(Kind.POLICY, "chat"))
        slow.ignores = True
        bench.apply(Kind.POLICY, policy("chat", "a", rule="renamed"))
        await asyncio.sleep(20)
        assert "propagation" not in bench.status(Kind.POLICY, "chat")
        slow.ignores = False
        await eventually(lambda: "propagation" in bench.status(Kind.POLICY, "chat"))
        said = bench.status(Kind.POLICY, "chat")
        assert said["propagation"].startswith("20s") or said["propagation"].startswith("21s")
        message = bench.condition(Kind.POLICY, "chat", "Programmed")["message"]
        assert message.endswith(f"after {said['propagation']}")
        assert round(bench.took_s[-1]) in {20, 21}
        await bench.stop()

    in_virtual_time(scenario)
