"""One leader at a time, whatever fails; and an epoch that only rises."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from switchboard_operator.kube import LeaseRecord
from switchboard_operator.lease import (
    DURATION_S,
    RENEW_DEADLINE_S,
    RETRY_S,
    SILENCE_S,
    Clock,
    Identity,
    Leadership,
    Terms,
)
from switchboard_operator.settings import LeaseSettings, read_settings
from switchboard_policy.compiler.world import Name
from unit.operator.kube_fakes import AWAY, Cluster

NAME = Name("system", "switchboard-operator")
HASTY = Terms(duration_s=4, renew_deadline_s=0.06, retry_s=0.01)
"""Calls are given up after 20 ms."""


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

    def __init__(
        self,
        cluster: Cluster,
        time: Time,
        name: str,
        *,
        floor: int = 0,
        terms: Terms | None = None,
    ) -> None:
        self.floor = floor
        self.changes = 0
        pod, _, token = name.rpartition("_")
        self.leadership = Leadership(
            cluster,
            NAME,
            Identity(pod, token),
            clock=time.clock(),
            floor=self._floor,
            terms=terms,
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


async def test_a_leader_that_stood_still_past_its_term_leads_anew_and_says_so() -> None:
    cluster, time = Cluster(), Time()
    leader = Replica(cluster, time, "a")
    assert await leader.look() == 1
    time.now_s += DURATION_S + 0.5
    assert leader.epoch is None
    # Nobody took the Lease: a renewal would be taken as if nothing had been.
    assert await leader.look() == 2
    assert leader.changes == 3


async def test_a_renewal_that_comes_after_the_term_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster, time = Cluster(), Time()
    leader = Replica(cluster, time, "a")
    await leader.look()
    time.now_s += RENEW_DEADLINE_S - 0.1
    update_lease = cluster.update_lease

    async def slow(name: Name, record: LeaseRecord) -> LeaseRecord:
        time.now_s += 0.2
        return await update_lease(name, record)

    with monkeypatch.context() as patch:
        patch.setattr(cluster, "update_lease", slow)
        assert await leader.look() is None
    assert leader.changes == 2
    assert await leader.look() == 2


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


async def for_ever() -> int:
    await asyncio.Event().wait()
    return 0


async def test_a_call_that_hangs_leaves_time_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, time = Cluster(), Time()
    leader = Replica(cluster, time, "a", terms=HASTY)
    await leader.look()
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "update_lease", lambda *_: for_ever())
        assert await leader.look() == 1
    time.now_s += 0.05
    assert await leader.look() == 1
    time.now_s += 0.05
    # The renewal in between counted.
    assert leader.epoch == 1


async def test_a_store_that_hangs_does_not_keep_a_replica_from_leading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster, time = Cluster(), Time()
    replica = Replica(cluster, time, "a", terms=HASTY)
    monkeypatch.setattr(replica.leadership, "_floor", for_ever)
    assert await replica.look() == 1


async def test_what_a_slow_store_takes_is_not_taken_off_the_first_term() -> None:
    cluster, time = Cluster(), Time()
    replica = Replica(cluster, time, "a")

    async def slow() -> int:
        time.now_s += RENEW_DEADLINE_S
        return 0

    replica.leadership._floor = slow
    assert await replica.look() == 1


async def test_a_lease_that_changed_under_its_leader_is_released_all_the_same() -> None:
    cluster, time = Cluster(), Time()
    leader, standby = Replica(cluster, time, "a"), Replica(cluster, time, "b")
    await leader.look()
    assert cluster.lease is not None
    # A renewal whose answer was lost, as where the leader is stopped amid it.
    cluster.lease = replace(cluster.lease, version="9999")
    await leader.leadership._release()
    assert cluster.lease.holder == ""
    assert await standby.look() == 2


async def test_a_lease_of_another_is_not_released() -> None:
    cluster, time = Cluster(), Time()
    leader, standby = Replica(cluster, time, "a"), Replica(cluster, time, "b")
    await leader.look()
    await standby.look()
    time.now_s += DURATION_S
    assert await standby.look() == 2
    leader.leadership._epoch = 1
    await leader.leadership._release()
    assert cluster.lease is not None
    assert cluster.lease.holder == "b"


async def test_a_standby_looks_twice_as_often_as_a_leader_renews_and_when_the_lease_ends() -> None:
    cluster, time = Cluster(), Time()
    leader, standby = Replica(cluster, time, "a"), Replica(cluster, time, "b")
    await leader.look()
    await standby.look()
    for _ in range(10):
        assert RETRY_S <= leader.leadership._wait_s() <= RETRY_S * 1.2
        assert RETRY_S / 2 <= standby.leadership._wait_s() <= RETRY_S * 0.6
    time.now_s += DURATION_S - 0.125
    assert await standby.look() is None
    assert standby.leadership._wait_s() == 0.125
    time.now_s += 0.125
    assert await standby.look() == 2


async def test_the_holder_says_how_long_its_word_counts() -> None:
    cluster, time = Cluster(), Time()
    slow = Terms(duration_s=15, renew_deadline_s=10, retry_s=2)
    leader, standby = Replica(cluster, time, "a", terms=slow), Replica(cluster, time, "b")
    await leader.look()
    await standby.look()
    time.now_s += 14
    assert await standby.look() is None
    time.now_s += 1
    assert await standby.look() == 2


def test_the_settings_have_the_same_terms() -> None:
    said, known = LeaseSettings(), Terms()
    assert said.duration.total_seconds() == known.duration_s
    assert said.renew_deadline.total_seconds() == known.renew_deadline_s
    assert said.retry.total_seconds() == known.retry_s


def test_a_slow_api_server_gets_longer_terms_by_the_environment() -> None:
    environ = {
        "SWITCHBOARD_LEASE_DURATION": "15s",
        "SWITCHBOARD_LEASE_RENEW_DEADLINE": "10s",
        "SWITCHBOARD_LEASE_RETRY": "2s",
    }
    said = read_settings(["--namespace", "system"], environ).lease
    assert said == LeaseSettings.model_validate(
        {"duration": "15s", "renewDeadline": "10s", "retry": "2s"}
    )


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"duration": "3s"}, "renewDeadline"),
        ({"duration": "4500ms"}, "whole seconds"),
        ({"retry": "1100ms"}, "a third"),
        ({"retry": "0s"}, "a third"),
    ],
)
def test_terms_that_no_leader_can_keep_are_refused(said: dict[str, str], wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        LeaseSettings.model_validate(said)
