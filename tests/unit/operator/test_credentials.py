"""Scope keys are made once, rotated in the Secret, read again, and never shown."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from switchboard_operator.credentials import KEY_FILE, ScopeKeys, gateway_place, secret_name
from switchboard_operator.kept import ROTATE_ANNOTATION, ROTATION_FILE
from switchboard_operator.kube import SecretRecord
from switchboard_operator.rotation import Pace
from switchboard_policy.compiler.world import Name
from switchboard_policy.errors import BadSignature, Malformed
from switchboard_policy.seal import KEY_BYTES, write_key_file
from switchboard_policy.store import Pod, PodSeen, Revision
from unit.operator.kube_fakes import AWAY, Cluster, HeldSecret

NAME = secret_name("system", "default")
START = datetime(2026, 8, 1, tzinfo=UTC)
PACE = Pace(
    rotate_after=timedelta(days=30),
    wait_at_most=timedelta(minutes=15),
    keep_old_for=timedelta(minutes=5),
)


class Days:
    """A clock that somebody moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **what: float) -> None:
        self.now += timedelta(**what)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def clock() -> Days:
    return Days()


async def replica(cluster: Cluster, clock: Days, *, seed: int = 1, pace: Pace = PACE) -> ScopeKeys:
    keys = ScopeKeys(
        cluster,
        gateway_place("system", "default"),
        pace=pace,
        random_bytes=random.Random(seed).randbytes,
        now=clock,
    )
    await keys.load()
    return keys


def signed_by(keys: ScopeKeys) -> dict[str, Revision]:
    """What is published once the current key has signed everything."""
    return {keys.keyring().current: Revision(1, 1)}


def seen(keys: ScopeKeys, *key_ids: str) -> list[PodSeen]:
    """A data plane that runs the newest revision and holds these keys, or all."""
    held = key_ids or keys.keyring().ids
    return [PodSeen(pod=Pod(name="pod-1", revision=Revision(1, 1), key_ids=held), age_ms=0)]


async def turn(keys: ScopeKeys, clock: Days, pods: list[PodSeen] | None = None) -> bool:
    """Look twice, so that what is so has been so for long enough."""
    said = seen(keys) if pods is None else pods
    changed = await keys.turn(said, signed_by(keys).get)
    clock.pass_(seconds=10)
    return await keys.turn(said, signed_by(keys).get) or changed


async def test_a_missing_key_is_made_and_then_read(cluster: Cluster, clock: Days) -> None:
    first = await replica(cluster, clock)
    again = await replica(cluster, clock, seed=2)
    assert first.scope == "gw/default"
    assert first.keyring().sign("a") == again.keyring().sign("a")
    assert first.created == START


async def test_of_two_replicas_that_make_a_key_one_wins(cluster: Cluster, clock: Days) -> None:
    class Late(Cluster):
        async def create_secret(self, name: Name, data: object, **said: Any) -> None:
            await replica(cluster, clock)
            self.secrets = cluster.secrets
            await cluster.create_secret(name, {})

    keys = await replica(Late(), clock, seed=2)
    assert keys.keyring().sign("a") == (await replica(cluster, clock)).keyring().sign("a")


async def test_a_secret_without_a_key_file_is_told_with_the_way_out(
    cluster: Cluster, clock: Days
) -> None:
    cluster.secrets[NAME] = HeldSecret({"other": b""})
    with pytest.raises(Malformed, match=r"switchboard-scope-default has no scope-key.json; put"):
        await replica(cluster, clock)


async def test_a_broken_key_file_is_told_without_the_key(cluster: Cluster, clock: Days) -> None:
    broken = b'{"current": "1", "keys": {"1": "c2VjcmV0"}}'
    cluster.secrets[NAME] = HeldSecret({KEY_FILE: broken})
    with pytest.raises(Malformed, match="has 6 bytes, not 32") as raised:
        await replica(cluster, clock)
    assert "c2VjcmV0" not in str(raised.value)


async def test_a_rotation_goes_from_one_key_over_two_to_one(cluster: Cluster, clock: Days) -> None:
    keys = await replica(cluster, clock)
    (first,) = keys.keyring().ids
    assert not await turn(keys, clock)
    clock.pass_(days=30)
    assert await turn(keys, clock)
    both = keys.keyring()
    assert len(both.ids) == 2
    assert both.current == first, "given out, and not used yet"
    assert not await turn(keys, clock, seen(keys, first))
    assert keys.waiting_for == ("pod-1",)
    assert await turn(keys, clock)
    second = keys.keyring().current
    assert second != first
    assert keys.keyring().ids == both.ids
    keys.keyring().verify(both.sign("a"), "a")
    assert not await turn(keys, clock)
    clock.pass_(minutes=5)
    assert await turn(keys, clock)
    assert keys.keyring().ids == (second,)
    with pytest.raises(BadSignature):
        keys.keyring().verify(both.sign("a"), "a")
    reasons = [reason for reason, _ in cluster.events]
    assert reasons == ["ScopeKeyAdded", "ScopeKeyInUse", "ScopeKeyDropped"]
    assert keys.overruled == 0
    assert not await turn(keys, clock), "nothing more is due"


async def test_another_replica_goes_on_after_every_step(cluster: Cluster, clock: Days) -> None:
    await replica(cluster, clock)
    clock.pass_(days=30)
    ids: list[tuple[str, ...]] = []
    for number in range(3):
        keys = await replica(cluster, clock, seed=number + 2)
        assert await turn(keys, clock)
        ids.append((keys.keyring().current, *keys.keyring().ids))
        clock.pass_(minutes=5)
    (old, *_), (new, *_), (left, *alone) = ids
    assert ids[0][1:] == ids[1][1:] == (old, new)
    assert (left, alone) == (new, [new])


async def test_a_replica_that_stood_by_reads_what_the_leader_did(
    cluster: Cluster, clock: Days
) -> None:
    leader, standby = await replica(cluster, clock), await replica(cluster, clock, seed=2)
    before = standby.keyring()
    assert not await standby.load()
    assert standby.keyring() is before
    clock.pass_(days=30)
    assert await turn(leader, clock)
    assert await standby.load()
    assert standby.keyring().ids == leader.keyring().ids


async def test_an_annotation_demands_a_rotation_once(cluster: Cluster, clock: Days) -> None:
    keys = await replica(cluster, clock)
    cluster.secrets[NAME].annotations[ROTATE_ANNOTATION] = "leaked"
    assert await turn(keys, clock)
    assert await turn(keys, clock)
    clock.pass_(minutes=5)
    assert await turn(keys, clock)
    assert not await turn(keys, clock)
    cluster.secrets[NAME].annotations[ROTATE_ANNOTATION] = "again"
    assert await turn(keys, clock)


async def test_a_step_without_a_data_plane_is_told_and_counted(
    cluster: Cluster, clock: Days
) -> None:
    keys = await replica(cluster, clock)
    (first,) = keys.keyring().ids
    clock.pass_(days=30)
    assert await turn(keys, clock)
    clock.pass_(minutes=15)
    assert await keys.turn(seen(keys, first), signed_by(keys).get)
    assert keys.keyring().current != first
    assert keys.overruled == 1
    reason, message = cluster.events[-1]
    assert reason == "ScopeKeyInUse"
    assert "without waiting any longer for pod-1" in message


async def test_a_flush_that_hides_data_planes_for_a_moment_does_not_hasten_a_rotation(
    cluster: Cluster, clock: Days
) -> None:
    keys = await replica(cluster, clock)
    (first,) = keys.keyring().ids
    clock.pass_(days=30)
    assert await turn(keys, clock)
    for said in (seen(keys, first), [], seen(keys, first), [], []):
        assert not await keys.turn(said, signed_by(keys).get)
        clock.pass_(seconds=5)


async def test_a_secret_that_somebody_changed_meanwhile_is_left_alone(clock: Days) -> None:
    class Busy(Cluster):
        async def get_secret(self, name: Name) -> SecretRecord | None:
            found = await super().get_secret(name)
            return None if found is None else replace(found, version="older")

    cluster = Busy()
    keys = await replica(cluster, clock)
    before = dict(cluster.secrets[NAME].data)
    clock.pass_(days=30)
    assert not await turn(keys, clock)
    assert cluster.secrets[NAME].data == before
    assert cluster.events == []


async def test_a_secret_that_was_deleted_is_made_anew_with_another_id(
    cluster: Cluster, clock: Days
) -> None:
    keys = await replica(cluster, clock)
    (first,) = keys.keyring().ids
    del cluster.secrets[NAME]
    assert await keys.turn([], signed_by(keys).get)
    assert keys.keyring().ids != (first,)


async def test_a_secret_that_was_damaged_while_it_ran_leaves_the_keys_as_they_were(
    cluster: Cluster, clock: Days
) -> None:
    keys = await replica(cluster, clock)
    before = keys.keyring()
    for name, raw in ((KEY_FILE, b"{"), (ROTATION_FILE, b"[]")):
        good = dict(cluster.secrets[NAME].data)
        cluster.secrets[NAME].data[name] = raw
        assert not await keys.turn([], signed_by(keys).get)
        with pytest.raises(Malformed):
            await keys.load()
        assert keys.keyring() is before
        cluster.secrets[NAME].data = good


async def test_a_key_that_somebody_put_there_is_as_old_as_the_secret(
    cluster: Cluster, clock: Days
) -> None:
    by_hand = write_key_file("mine", {"mine": bytes(KEY_BYTES)})
    cluster.secrets[NAME] = HeldSecret({KEY_FILE: by_hand}, created=START - timedelta(days=31))
    keys = await replica(cluster, clock)
    assert await turn(keys, clock)
    assert len(keys.keyring().ids) == 2
    assert keys.keyring().current == "mine"


async def test_neither_events_nor_the_rotation_s_file_hold_a_key(
    cluster: Cluster, clock: Days, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    keys = await replica(cluster, clock)
    clock.pass_(days=30)
    await turn(keys, clock)
    data = cluster.secrets[NAME].data
    said = msgspec.json.decode(data[KEY_FILE])
    shown = f"{cluster.events}{data[ROTATION_FILE]!r}{caplog.text}{keys.keyring()!r}"
    assert len(said["keys"]) == 2
    assert not any(key in shown for key in said["keys"].values())


async def test_an_event_that_cannot_be_posted_does_not_stop_a_rotation(clock: Days) -> None:
    class Quiet(Cluster):
        async def record_event(self, *_: object, **__: object) -> None:
            raise AWAY

    keys = await replica(Quiet(), clock)
    clock.pass_(days=30)
    assert await turn(keys, clock)
