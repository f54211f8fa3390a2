"""One leader at a time, whatever fails; and an epoch that only rises."""

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from switchboard_operator.lease import (
    DURATION_S,
    RENEW_DEADLINE_S,
    RETRY_S,
    SILENCE_S,
    Clock,
    Identity,
    Leadership,
)
from switchboard_policy.compiler.world import Name
from unit.operator.kube_fakes import AWAY, Cluster

NAME = Name("system", "switchboard-operator")


class Time:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def clock(self) -> Clock:
        async def sleep(seconds: float) -> None:
            self.now_s += seconds

        return Clock(
            monotonic=lambda: self.now_s,
            now=lambda: datetime.fromtimestamp(self.now_s, UTC),
            sleep=sleep,
            random=random.Random(1),
        )


class Replica:
    """A replica whose rounds a test calls."""

    def __init__(self, cluster: Cluster, time: Time, name: str, *, floor: int = 0) -> None:
        self.floor = floor
        self.changes = 0
        pod, _, token = name.rpartition("_")
        self.leadership = Leadership(
            cluster, NAME, Identity(pod, token), clock=time.clock(), floor=self._floor
        )
        self.leadership.listen(self._count)

    @property
    def epoch(self) -> int | None:
        return self.leadership.epoch

    async def look(self) -> int | None:
        await self.leadership._round()
        return self.epoch

    async def _floor(self) -> int:
        return self.floor

    def _count(self) -> None:
        self.changes += 1


async def test_the_first_replica_leads_and_the_second_waits() -> None:
    cluster, time = Cluster(), Time()
    first, second = Replica(cluster, time, "a"), Replica(cluster, time, "b")
    assert await first.look() == 1
    assert await second.look() is None
    assert second.leadership.holder == "a"
    assert (first.changes, second.changes) == (1, 0)


async def test_a_released_lease_is_taken_at_once_with_a_higher_epoch() -> None:
    cluster, time = Cluster(), Time()
    first, second = Replica(cluster, time, "a"), Replica(cluster, time, "b")
    await first.look()
    await first.leadership._release()
    assert first.epoch is None
    assert await second.look() == 2


async def test_a_leader_that_renews_is_never_replaced() -> None:
    cluster, time = Cluster(), Time()
    first, second = Replica(cluster, time, "a"), Replica(cluster, time, "b")
    for _ in range(30):
        assert await first.look() == 1
        assert await second.look() is None
        time.now_s += RETRY_S


async def test_a_silent_leader_is_replaced_after_the_duration_by_the_others_clock() -> None:
    cluster, time = Cluster(), Time()
    first, second = Replica(cluster, time, "a"), Replica(cluster, time, "b")
    await first.look()
    await second.look()
    time.now_s += DURATION_S - 1
    assert await second.look() is None
    time.now_s += 2
    assert await second.look() == 2
    # It stopped before that, without being told.
    assert first.epoch is None
    assert await first.look() is None


async def test_a_leader_that_cannot_renew_stops_before_another_may_start() -> None:
    cluster, time = Cluster(), Time()
    leader = Replica(cluster, time, "a")
    await leader.look()
    cluster.trouble = AWAY
    time.now_s += RENEW_DEADLINE_S - 1
    assert await leader.look() == 1
    time.now_s += 1
    assert leader.epoch is None
    assert await leader.look() is None
    assert leader.changes == 2
    assert RENEW_DEADLINE_S < DURATION_S


async def test_the_epoch_rises_above_what_the_store_holds() -> None:
    cluster, time = Cluster(), Time()
    assert await Replica(cluster, time, "a", floor=41).look() == 42


async def test_the_epoch_rises_above_what_the_lease_holds_after_a_flush_of_the_store() -> None:
    cluster, time = Cluster(), Time()
    first = Replica(cluster, time, "a", floor=41)
    await first.look()
    await first.leadership._release()
    assert await Replica(cluster, time, "b", floor=0).look() == 43


async def test_a_deposed_leader_stops_and_comes_back_with_a_higher_epoch() -> None:
    cluster, time = Cluster(), Time()
    leader = Replica(cluster, time, "a")
    await leader.look()
    leader.floor = 7
    leader.leadership.step_down("the store holds epoch 7")
    assert leader.epoch is None
    assert await leader.look() == 8


async def test_a_restarted_container_takes_the_lease_of_its_own_pod_at_once() -> None:
    cluster, time = Cluster(), Time()
    assert await Replica(cluster, time, "pod-1_before").look() == 1
    assert await Replica(cluster, time, "pod-2_other").look() is None
    assert await Replica(cluster, time, "pod-1_after").look() == 2


async def test_two_that_write_at_once_do_not_both_lead() -> None:
    cluster, time = Cluster(), Time()
    first, second = Replica(cluster, time, "a"), Replica(cluster, time, "b")
    await first.look()
    await first.leadership._release()
    held = cluster.lease
    assert held is not None
    third = Replica(cluster, time, "c")

    async def meanwhile() -> int:
        await third.look()
        return 0

    second._floor = meanwhile  # type: ignore[method-assign]
    second.leadership._floor = meanwhile
    assert await second.look() is None
    assert third.epoch == 2


async def test_a_lost_lease_object_is_noticed() -> None:
    cluster, time = Cluster(), Time()
    leader = Replica(cluster, time, "a")
    await leader.look()
    cluster.lease = None
    assert await leader.look() is None
    assert await leader.look() is not None


async def test_somebody_elses_annotation_does_not_stop_a_renewal() -> None:
    cluster, time = Cluster(), Time()
    leader = Replica(cluster, time, "a")
    await leader.look()
    assert cluster.lease is not None
    cluster.lease = replace(cluster.lease, version="9999")
    assert await leader.look() == 1
    assert await leader.look() == 1


async def test_an_api_server_that_is_away_is_warned_of_once_a_minute_and_its_return_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    cluster, time = Cluster(), Time()
    follower = Replica(cluster, time, "b")
    await Replica(cluster, time, "a").look()
    caplog.clear()

    async def look_for(seconds: float) -> list[str]:
        for _ in range(int(seconds / RETRY_S)):
            await follower.look()
            time.now_s += RETRY_S
        said = [one.levelname for one in caplog.records if "the Lease" in one.message]
        caplog.clear()
        return said

    cluster.trouble = AWAY
    assert await look_for(SILENCE_S) == ["WARNING"]
    assert await look_for(SILENCE_S) == ["WARNING"]
    cluster.trouble = None
    assert await look_for(DURATION_S - RETRY_S) == ["INFO"]
    cluster.trouble = AWAY
    assert await look_for(RETRY_S) == ["WARNING"]
