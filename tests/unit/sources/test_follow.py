"""The follower by itself: disk, heartbeats, backoff and what it says of itself."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from fakes.followers import FakePlane, FaultyReader
from fakes.policies import client, key_of
from fakes.stores import OURS, SCOPE, STRANGER, MemoryRig, backend, contents, entry, key, keyring
from fakes.virtual_time import eventually, until
from switchboard_dataplane.sources.disk import DiskSnapshot
from switchboard_dataplane.sources.following import backoff_s
from switchboard_dataplane.sources.reading import Contents, Held
from switchboard_policy.codec import Encoded, encode
from switchboard_policy.seal import Keyring
from switchboard_policy.store import CHANNELS, MORE_REFUSED, Channel, Revision


class HalfChance:
    """A die that always shows the same."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.fixture
def rig() -> MemoryRig:
    return MemoryRig()


async def publish(rig: MemoryRig, *numbers: int) -> Revision:
    writer = rig.writer()
    await writer.replace(SCOPE, "endpoints", epoch=1, contents={})
    return await writer.replace(SCOPE, "policy", epoch=1, contents=contents(*numbers))


async def written(rig: MemoryRig, disk: DiskSnapshot, *numbers: int) -> Revision:
    at = await publish(rig, *numbers)
    async with FakePlane(rig.reader(), OURS, disk=disk) as plane:
        await plane.at(at)
        await eventually(lambda: disk.path("policy").exists() and disk.path("endpoints").exists())
    return at


async def test_a_pod_starts_from_disk_while_the_store_is_away(
    rig: MemoryRig, tmp_path: Path
) -> None:
    disk = DiskSnapshot(tmp_path)
    at = await written(rig, disk, 1, 2)
    source = FaultyReader(rig.reader())
    source.cut = True
    async with FakePlane(source, OURS, disk=disk) as plane:
        await eventually(lambda: plane.follower.state().synced)
        assert plane.in_force == {key(n): entry(n) for n in (1, 2)}
        state = plane.follower.state()
        assert (state.connected, state.age_s, state.revisions["policy"]) == (False, None, at)
        end = await rig.writer().publish(SCOPE, "policy", epoch=1, changes={key(1): None})
        source.cut = False
        await plane.at(end)
        assert plane.in_force == {key(2): entry(2)}


async def test_a_pod_that_started_from_disk_does_not_go_back(
    rig: MemoryRig, tmp_path: Path
) -> None:
    disk = DiskSnapshot(tmp_path)
    at = await written(rig, disk, 1, 2)
    rig.store.flush()
    writer = rig.writer()
    await writer.replace(SCOPE, "policy", epoch=0, contents=contents(1))
    async with FakePlane(rig.reader(), OURS, disk=disk) as plane:
        await eventually(lambda: "channel/policy" in plane.follower.state().refused)
        assert "went back" in plane.follower.state().reason
        assert plane.revision() == at
        assert set(plane.in_force) == {key(1), key(2)}


async def test_with_neither_store_nor_disk_a_pod_says_why_it_is_not_ready(
    rig: MemoryRig, tmp_path: Path
) -> None:
    source = FaultyReader(rig.reader())
    source.cut = True
    async with FakePlane(source, OURS, disk=DiskSnapshot(tmp_path)) as plane:
        await asyncio.sleep(5)
        state = plane.follower.state()
        assert not state.synced
        assert "the way to the store is cut" in state.reason
        assert "channel policy: nothing was read yet" in state.reason


async def test_the_disk_follows_what_is_in_force(rig: MemoryRig, tmp_path: Path) -> None:
    disk = DiskSnapshot(tmp_path)
    at = await publish(rig, 1)
    async with FakePlane(rig.reader(), OURS, disk=disk) as plane:
        await plane.at(at)
        writer = rig.writer()
        for version in range(1, 30):
            changes = contents(1, version=version)
            at = await writer.publish(SCOPE, "policy", epoch=1, changes=changes)

        def saved() -> bool:
            found = disk.load("policy", keyring=OURS)
            return found is not None and found.revision == at

        await eventually(saved)
    found = disk.load("policy", keyring=OURS)
    assert found is not None
    assert found.held[key(1)].body == backend(1, 29).body


async def test_a_disk_that_cannot_be_written_stops_nothing(
    rig: MemoryRig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    at = await publish(rig, 1)
    async with FakePlane(rig.reader(), OURS, disk=DiskSnapshot(tmp_path / "none")) as plane:
        await plane.at(at)
        await eventually(lambda: "no snapshot of policy on disk" in caplog.text)
        await plane.at(await rig.writer().publish(SCOPE, "policy", epoch=1, changes=contents(2)))


HELD = Contents(
    revision=Revision(3, 4),
    held={key(1): Held(backend(1).digest, Revision(3, 4), backend(1).body)},
)


def test_a_snapshot_comes_back_from_disk_for_nobody_else_to_read(tmp_path: Path) -> None:
    disk = DiskSnapshot(tmp_path)
    disk.write("policy", HELD, keyring=OURS)
    disk.write("policy", HELD, keyring=OURS)
    assert disk.load("policy", keyring=OURS) == HELD
    assert disk.path("policy").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [disk.path("policy")]


def test_a_snapshot_that_was_cut_or_altered_or_is_of_others_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = DiskSnapshot(tmp_path)
    disk.write("policy", HELD, keyring=OURS)
    raw = disk.path("policy").read_bytes()
    altered = bytearray(raw)
    altered[-40] ^= 1
    others = (STRANGER, keyring(1, scope="gw/other"))
    for ring in others:
        assert disk.load("policy", keyring=ring) is None
    damaged = [raw[:-1], raw[: len(raw) // 2], b"", bytes(altered), b"\xff" * 100]
    damaged.append(msgspec.msgpack.encode({"scope": SCOPE, "channel": "policy", "mac": ""}))
    for wrong in damaged:
        disk.path("policy").write_bytes(wrong)
        assert disk.load("policy", keyring=OURS) is None
    disk.path("endpoints").write_bytes(raw)
    assert disk.load("endpoints", keyring=OURS) is None
    assert caplog.text.count("ignored the snapshot") == len(others) + len(damaged) + 1


def test_a_snapshot_that_is_not_there_is_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert DiskSnapshot(tmp_path).load("policy", keyring=OURS) is None
    assert caplog.text == ""


async def test_a_pod_is_heard_every_five_seconds_and_counts_the_live_ones(rig: MemoryRig) -> None:
    await publish(rig, 1)
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    rig.store.clock_ms = lambda: round((loop.time() - start_s) * 1000) + 1
    async with FakePlane(rig.reader(), OURS, name="a") as plane:
        async with FakePlane(rig.reader(), OURS, name="b"):
            await asyncio.sleep(30)
            seen = await rig.writer().pods(SCOPE)
            assert {pod.pod.name for pod in seen} == {"a", "b"}
            assert all(pod.age_ms <= 5_100 for pod in seen)
            assert plane.follower.state().live_pods == 2
        await asyncio.sleep(6)
        assert plane.follower.state().live_pods == 1


async def test_a_pod_that_cannot_say_goodbye_still_ends(rig: MemoryRig) -> None:
    source = FaultyReader(rig.reader())
    at = await publish(rig, 1)
    async with FakePlane(source, OURS) as plane:
        await plane.at(at)
        source.cut = True
    assert [pod.pod.name for pod in await rig.writer().pods(SCOPE)] == ["pod-1"]


async def test_a_record_stays_small_whatever_is_refused(rig: MemoryRig) -> None:
    at = await publish(rig)
    async with FakePlane(rig.reader(), OURS) as plane:
        await plane.at(at)
        plane.refuses = {key(n): "why " * 1000 for n in range(300)}
        writer = rig.writer()
        at = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(*range(300)))
        await plane.at(at)
        await asyncio.sleep(1)
        (seen,) = await writer.pods(SCOPE)
        assert len(plane.follower.state().refused) == 300
        assert len(msgspec.json.encode(seen.pod)) < 30_000
        # What is not named is not silently fine.
        assert seen.pod.refused[MORE_REFUSED] == "200 more entries are refused"


def of_client(key: str) -> tuple[str, Encoded]:
    made = client("web", key, ring=OURS, key_id=OURS.current)
    return key_of(made), encode(made)


async def test_a_client_whose_news_cannot_be_read_has_not_its_old_key(
    rig: MemoryRig, tmp_path: Path
) -> None:
    disk, source, writer = DiskSnapshot(tmp_path), FaultyReader(rig.reader()), rig.writer()
    (name, before), (_, after) = of_client("sk-sb-before"), of_client("sk-sb-after")
    old = {**contents(1), name: before}
    await writer.replace(SCOPE, "endpoints", epoch=1, contents={})
    at = await writer.replace(SCOPE, "policy", epoch=1, contents=old)
    source.bodies = {after.digest: b"{", backend(1, 1).digest: b"{"}
    async with FakePlane(source, OURS, disk=disk) as plane:
        await plane.at(at)
        assert plane.in_force == {name: before.entry, key(1): entry(1)}
        news = {name: after, key(1): backend(1, 1)}
        await plane.at(await writer.publish(SCOPE, "policy", epoch=1, changes=news))
        assert plane.in_force == {key(1): entry(1)}
        assert plane.follower.state().refused.keys() == {name, key(1)}
        await asyncio.sleep(5)
        kept = disk.load("policy", keyring=OURS)
        assert kept is not None
        assert kept.held.keys() == {key(1)}
        source.bodies = {}
        await eventually(lambda: plane.in_force == {name: after.entry, key(1): entry(1, 1)})


@pytest.mark.parametrize("whole", [True, False])
async def test_what_waits_to_be_put_in_force_is_told_that_it_is_gone(
    rig: MemoryRig, *, whole: bool
) -> None:
    """It may wait for a key of the scope, and must not come into force once it is revoked."""
    writer, (name, made) = rig.writer(), of_client("sk-sb-waiting")
    at = await publish(rig, 1)
    async with FakePlane(rig.reader(), OURS) as plane:
        await plane.at(at)
        plane.refuses = {name: "its scope key is not here"}
        await plane.at(await writer.publish(SCOPE, "policy", epoch=1, changes={name: made}))
        if whole:
            rig.store.flush()
            await writer.replace(SCOPE, "endpoints", epoch=2, contents={})
            at = await writer.replace(SCOPE, "policy", epoch=2, contents=contents(1))
        else:
            at = await writer.publish(SCOPE, "policy", epoch=1, changes={name: None})
        await plane.at(at)
        assert any(name in update.removed for update in plane.updates)
        assert not plane.follower.state().refused


async def test_waiting_for_a_bad_log_grows_up_to_two_seconds(rig: MemoryRig) -> None:
    async with FakePlane(rig.reader(), OURS) as plane:
        await asyncio.sleep(60)
        syncs = plane.follower.state().full_syncs
        await asyncio.sleep(60)
        assert 60 <= plane.follower.state().full_syncs - syncs <= 130


def test_backoff_doubles_to_its_limit_and_is_half_chance() -> None:
    low, high = HalfChance(0.0), HalfChance(1.0)
    waits = [backoff_s(tries, limit_s=2.0, random=high) for tries in range(7)]  # type: ignore[arg-type]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert backoff_s(3, limit_s=2.0, random=low) == 0.4  # type: ignore[arg-type]
    assert backoff_s(10**6, limit_s=2.0, random=high) == 2.0  # type: ignore[arg-type]


async def test_a_pod_says_which_keys_it_holds(rig: MemoryRig) -> None:
    await publish(rig, 1)
    writer = rig.writer()
    async with FakePlane(rig.reader(), OURS) as plane:

        async def said() -> tuple[str, ...]:
            pods = await writer.pods(SCOPE)
            return pods[0].pod.key_ids if pods else ()

        await until(lambda: _is(said, ("k1",)))
        plane.ring = keyring(1, 2)
        await until(lambda: _is(said, ("k1", "k2")))


async def _is(ask: Callable[[], Awaitable[object]], wanted: object) -> bool:
    return await ask() == wanted


async def test_a_pod_without_the_new_key_keeps_its_policy_says_so_and_recovers(
    rig: MemoryRig,
) -> None:
    at = await publish(rig, 1)
    async with FakePlane(rig.reader(), OURS) as plane:
        await plane.at(at)
        writer = rig.writer(keyring(1, 2))
        await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1))
        end = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(2))
        await eventually(lambda: "channel/policy" in plane.follower.state().refused)
        said = plane.follower.state().refused["channel/policy"]
        assert "scope gw/test has no key 'k2' here" in said
        assert plane.in_force == {key(1): entry(1)}
        plane.ring = keyring(1, 2)
        await plane.at(end)
        await eventually(lambda: plane.follower.state().refused == {})
        assert plane.in_force == {key(n): entry(n) for n in (1, 2)}


async def test_the_disk_is_signed_anew_when_another_key_is_in_use(
    rig: MemoryRig, tmp_path: Path
) -> None:
    disk = DiskSnapshot(tmp_path)
    at = await publish(rig, 1)
    async with FakePlane(rig.reader(), OURS, disk=disk) as plane:
        await plane.at(at)
        await eventually(lambda: disk.load("policy", keyring=OURS) is not None)
        plane.ring = keyring(1, 2)
        alone = keyring(2)
        for channel in CHANNELS:
            await eventually(partial(_is_signed, disk, channel, alone))


def _is_signed(disk: DiskSnapshot, channel: Channel, ring: Keyring) -> bool:
    return disk.load(channel, keyring=ring) is not None
