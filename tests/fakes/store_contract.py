"""What every form of the store keeps to, as tests: a subclass gives the fixture ``rig``."""

import asyncio

import msgspec
import pytest

from fakes.followers import FakePlane, FaultyReader
from fakes.stores import OURS, SCOPE, STRANGER, StoreRig, backend, contents, entry, key, keyring
from fakes.virtual_time import eventually, until
from switchboard_policy.codec import Encoded
from switchboard_policy.errors import BadSignature, Deposed
from switchboard_policy.seal import fingerprint
from switchboard_policy.store import (
    CONTINUES,
    ZERO,
    Field,
    Head,
    Line,
    Manifest,
    Pod,
    Revision,
    StoreWriter,
)
from switchboard_policy.store.ledger import BATCH_LINES
from switchboard_policy.store.signing import (
    check_field,
    check_line,
    check_manifest,
    sign_field,
    sign_line,
)


async def manifest_of(rig: StoreRig) -> Manifest:
    found = await rig.reader().manifest("policy")
    assert found is not None
    return found


class StoreContract:
    """Writers and readers."""

    async def test_what_is_published_is_in_manifest_log_and_entries(self, rig: StoreRig) -> None:
        writer, reader = rig.writer(), rig.reader()
        await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1))
        at = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(2))
        assert at == Revision(1, 2)
        manifest = await manifest_of(rig)
        assert manifest.head.revision == at
        assert {k: f.digest for k, f in manifest.fields.items()} == {
            key(1): backend(1).digest,
            key(2): backend(2).digest,
        }
        assert manifest.fields[key(1)].revision == Revision(1, 1)
        (line,) = (await reader.lines({"policy": Revision(1, 1)}, timeout_ms=100))["policy"]
        assert (line.revision, line.previous, line.object) == (at, Revision(1, 1), key(2))
        bodies = await reader.entries("policy", [line.digest, "0" * 64])
        assert bodies == {line.digest: backend(2).body}
        check_line(OURS, "policy", line)
        check_manifest(OURS, "policy", manifest)
        for field in manifest.fields.values():
            check_field(OURS, "policy", field)

    async def test_channels_are_apart(self, rig: StoreRig) -> None:
        await rig.writer().publish(SCOPE, "endpoints", epoch=1, changes=contents(1))
        assert await rig.reader().manifest("policy") is None
        assert await rig.reader().head("policy") is None
        assert await rig.reader().manifest("endpoints") is not None

    async def test_an_unchanged_digest_is_not_written(self, rig: StoreRig) -> None:
        writer = rig.writer()
        at = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, 2))
        assert await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, 2)) == at
        assert await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1, 2)) == at
        assert len(await rig.log("policy")) == 1

    async def test_a_new_leader_takes_an_unchanged_manifest_into_its_epoch(
        self, rig: StoreRig
    ) -> None:
        at = await rig.writer().replace(SCOPE, "policy", epoch=1, contents=contents(1, 2))
        fields = (await manifest_of(rig)).fields
        writer = rig.writer()
        after = await writer.replace(SCOPE, "policy", epoch=2, contents=contents(1, 2))
        assert after == Revision(2, at.sequence + 1)
        assert await writer.replace(SCOPE, "policy", epoch=2, contents=contents(1, 2)) == after
        (line,) = (await rig.reader().lines({"policy": at}, timeout_ms=100))["policy"]
        assert (line.object, line.digest, line.previous) == ("", CONTINUES, at)
        assert (await manifest_of(rig)).fields == fields

    async def test_a_removed_object_leaves_with_a_line(self, rig: StoreRig) -> None:
        writer = rig.writer()
        at = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, 2))
        await writer.publish(SCOPE, "policy", epoch=1, changes={key(1): None, key(9): None})
        assert set((await manifest_of(rig)).fields) == {key(2)}
        (line,) = (await rig.reader().lines({"policy": at}, timeout_ms=100))["policy"]
        assert (line.object, line.digest) == (key(1), "")

    async def test_replace_publishes_the_differences_alone(self, rig: StoreRig) -> None:
        writer = rig.writer()
        at = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, 2, 3))
        wanted = contents(1, 4) | contents(2, version=1)
        await rig.writer().replace(SCOPE, "policy", epoch=2, contents=wanted)
        lines = (await rig.reader().lines({"policy": at}, timeout_ms=100))["policy"]
        assert [line.object for line in lines] == [key(4), key(2), key(3)]
        assert lines[0].previous == at
        assert [line.revision for line in lines] == [Revision(2, n) for n in (2, 3, 4)]
        assert (await manifest_of(rig)).fields[key(1)].revision == Revision(1, 1)

    async def test_an_empty_channel_has_a_head(self, rig: StoreRig) -> None:
        await rig.writer().replace(SCOPE, "policy", epoch=1, contents={})
        manifest = await manifest_of(rig)
        assert manifest.fields == {}
        check_manifest(OURS, "policy", manifest)

    async def test_many_changes_go_out_in_steps_that_follow_each_other(self, rig: StoreRig) -> None:
        writer = rig.writer()
        start = await writer.replace(SCOPE, "policy", epoch=1, contents={})
        many = contents(*range(2 * BATCH_LINES + 1))
        end = await writer.publish(SCOPE, "policy", epoch=1, changes=many)
        assert end == Revision(1, start.sequence + len(many))
        lines = (await rig.reader().lines({"policy": start}, timeout_ms=100))["policy"]
        assert [line.previous for line in lines[1:]] == [line.revision for line in lines[:-1]]
        check_manifest(OURS, "policy", await manifest_of(rig))

    async def test_two_tasks_of_one_writer_do_not_disturb_each_other(self, rig: StoreRig) -> None:
        writer = rig.writer()
        await writer.replace(SCOPE, "policy", epoch=1, contents={})
        async with asyncio.TaskGroup() as tasks:
            for number in range(20):
                tasks.create_task(
                    writer.publish(SCOPE, "policy", epoch=1, changes=contents(number))
                )
        assert len((await manifest_of(rig)).fields) == 20
        assert await writer.intact(SCOPE, "policy")

    async def test_lines_wait_for_what_comes(self, rig: StoreRig) -> None:
        writer, reader = rig.writer(), rig.reader()
        at = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1))
        assert await reader.lines({"policy": at, "endpoints": ZERO}, timeout_ms=20) == {}
        waiting = asyncio.create_task(
            reader.lines({"policy": at, "endpoints": ZERO}, timeout_ms=1500)
        )
        await asyncio.sleep(0.05)
        await writer.publish(SCOPE, "policy", epoch=1, changes=contents(2))
        found = await waiting
        assert [line.object for line in found["policy"]] == [key(2)]
        assert found["policy"][0].at_ms > 0

    async def test_a_deposed_leader_writes_nothing(self, rig: StoreRig) -> None:
        old, new = rig.writer(), rig.writer()
        await old.publish(SCOPE, "policy", epoch=1, changes=contents(1))
        await new.publish(SCOPE, "policy", epoch=2, changes=contents(2))
        before = await manifest_of(rig), await rig.log("policy"), await rig.entries("policy")
        with pytest.raises(Deposed) as deposed:
            await old.publish(SCOPE, "policy", epoch=1, changes=contents(3))
        assert deposed.value.epoch == 2
        with pytest.raises(Deposed):
            await old.replace(SCOPE, "policy", epoch=1, contents={})
        with pytest.raises(Deposed):
            await rig.writer().collect(SCOPE, "policy", epoch=1, unreferenced_ms=0)
        after = await manifest_of(rig), await rig.log("policy"), await rig.entries("policy")
        assert after == before

    async def test_a_new_leader_shuts_the_old_one_out_before_it_changes_anything(
        self, rig: StoreRig
    ) -> None:
        old, new = rig.writer(), rig.writer()
        await old.replace(SCOPE, "policy", epoch=1, contents=contents(1))
        await new.replace(SCOPE, "policy", epoch=2, contents=contents(1))
        with pytest.raises(Deposed):
            await old.publish(SCOPE, "policy", epoch=1, changes=contents(2))
        assert await rig.writer().epoch([SCOPE, "gw/other"]) == 2

    async def test_a_leader_of_an_earlier_term_goes_on_from_the_store(self, rig: StoreRig) -> None:
        first, second = rig.writer(), rig.writer()
        await first.publish(SCOPE, "policy", epoch=1, changes=contents(1))
        await second.publish(SCOPE, "policy", epoch=2, changes=contents(2))
        at = await first.publish(SCOPE, "policy", epoch=3, changes=contents(3))
        assert at == Revision(3, 3)
        assert set((await manifest_of(rig)).fields) == {key(1), key(2), key(3)}
        check_manifest(OURS, "policy", await manifest_of(rig))

    async def test_no_epoch_is_known_of_an_empty_store(self, rig: StoreRig) -> None:
        assert await rig.writer().epoch([SCOPE]) == 0

    async def test_intact_notices_every_loss(self, rig: StoreRig) -> None:
        writer = rig.writer()
        assert not await writer.intact(SCOPE, "policy")
        all_of_it = contents(1, 2)

        async def mended() -> bool:
            await writer.replace(SCOPE, "policy", epoch=1, contents=all_of_it)
            return await writer.intact(SCOPE, "policy")

        assert await mended()
        copy = await rig.copy("policy")
        await rig.set_field("policy", key(1), None)
        assert not await writer.intact(SCOPE, "policy")
        assert await mended()
        await rig.trim_log("policy", 0)
        assert not await writer.intact(SCOPE, "policy")
        assert await mended()
        await rig.go_back("policy", copy)
        assert not await writer.intact(SCOPE, "policy")
        assert await mended()
        await rig.flush()
        assert not await writer.intact(SCOPE, "policy")
        assert await mended()

    async def test_after_a_flush_the_writer_goes_on_from_its_memory(self, rig: StoreRig) -> None:
        writer = rig.writer()
        await writer.publish(SCOPE, "policy", epoch=4, changes=contents(1))
        at = await writer.publish(SCOPE, "policy", epoch=4, changes=contents(2))
        await rig.flush()
        again = await writer.replace(SCOPE, "policy", epoch=4, contents=contents(1, 2))
        assert again == Revision(4, at.sequence + 1)
        fields = (await manifest_of(rig)).fields
        assert {k: f.revision for k, f in fields.items()} == {
            key(1): Revision(4, 1),
            key(2): Revision(4, 2),
        }
        assert await rig.entries("policy") == {backend(1).digest, backend(2).digest}

    async def test_an_edit_after_a_flush_never_passes_for_the_whole(self, rig: StoreRig) -> None:
        writer = rig.writer()
        await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, 2, 3))
        await rig.flush()
        await writer.publish(SCOPE, "policy", epoch=1, changes=contents(4))
        manifest = await manifest_of(rig)
        assert set(manifest.fields) == {key(1), key(2), key(3), key(4)}
        check_manifest(OURS, "policy", manifest)
        assert not await writer.intact(SCOPE, "policy")

    async def test_replace_writes_lost_and_damaged_entries_again(self, rig: StoreRig) -> None:
        writer = rig.writer()
        at = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, 2, 3))
        await rig.set_entry("policy", backend(1).digest, None)
        await rig.set_entry("policy", backend(2).digest, backend(2).body[:-5])
        assert await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1, 2, 3)) == at
        bodies = await rig.reader().entries("policy", [backend(n).digest for n in (1, 2, 3)])
        assert list(bodies.values()) == [backend(n).body for n in (1, 2, 3)]

    @pytest.mark.parametrize("damage", ["stranger", "old", "missing", "extra"])
    async def test_replace_mends_a_manifest_that_others_wrote_in(
        self, rig: StoreRig, damage: str
    ) -> None:
        writer = rig.writer()
        await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, 2))
        old = (await manifest_of(rig)).fields[key(1)]
        await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, version=1))
        mac = STRANGER.sign("field", "policy", "1-9", key(3), "ff")
        forged = Field(object=key(3), digest="ff", revision=Revision(1, 9), mac=mac)
        written = {
            "stranger": (key(3), forged),
            "old": (key(1), old),
            "missing": (key(2), None),
            "extra": (key(3), Field(object=key(3), digest="", revision=ZERO, mac="")),
        }
        await rig.set_field("policy", *written[damage])
        with pytest.raises(BadSignature):
            check_manifest(OURS, "policy", await manifest_of(rig))
        wanted = contents(1, version=1) | contents(2)
        at = await writer.replace(SCOPE, "policy", epoch=1, contents=wanted)
        manifest = await manifest_of(rig)
        check_manifest(OURS, "policy", manifest)
        assert manifest.head.revision == at
        assert set(manifest.fields) == {key(1), key(2)}

    async def test_a_forged_line_is_swept_away(self, rig: StoreRig) -> None:
        writer = rig.writer()
        at = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1))
        forged = Line(revision=Revision(1, 99), previous=at, object=key(1), digest="", mac="x:y")
        await rig.add_line("policy", forged)
        assert not await writer.intact(SCOPE, "policy")
        after = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(2))
        lines = (await rig.reader().lines({"policy": at}, timeout_ms=100))["policy"]
        assert all(line.mac != "x:y" for line in lines)
        assert (await manifest_of(rig)).head.revision == after
        assert not await writer.intact(SCOPE, "policy")
        await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1, 2))
        assert await writer.intact(SCOPE, "policy")

    async def test_a_rotation_signs_everything_anew(self, rig: StoreRig) -> None:
        old, both, new = keyring(1), keyring(1, 2), keyring(2)
        await rig.writer(old).publish(SCOPE, "policy", epoch=1, changes=contents(1, 2))
        writer = rig.writer(both)
        await writer.publish(SCOPE, "policy", epoch=2, changes=contents(3))
        check_manifest(both, "policy", await manifest_of(rig))
        with pytest.raises(BadSignature):
            check_field(new, "policy", (await manifest_of(rig)).fields[key(1)])
        await writer.replace(SCOPE, "policy", epoch=2, contents=contents(1, 2, 3))
        manifest = await manifest_of(rig)
        check_manifest(new, "policy", manifest)
        for field in manifest.fields.values():
            check_field(new, "policy", field)
        assert manifest.fields[key(1)].revision == Revision(1, 1)

    async def test_entries_are_deleted_only_when_nothing_needs_them_for_long(
        self, rig: StoreRig
    ) -> None:
        writer = rig.writer()
        await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, 2))
        await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, version=1))
        await rig.advance(59_000)
        await writer.publish(SCOPE, "policy", epoch=1, changes={key(2): None})
        assert await writer.collect(SCOPE, "policy", epoch=1, unreferenced_ms=60_000) == 0
        await rig.advance(1_000)
        assert await writer.collect(SCOPE, "policy", epoch=1, unreferenced_ms=60_000) == 1
        assert await rig.entries("policy") == {backend(1, 1).digest, backend(2).digest}
        await rig.advance(59_000)
        assert await writer.collect(SCOPE, "policy", epoch=1, unreferenced_ms=60_000) == 1
        assert await rig.entries("policy") == {backend(1, 1).digest}

    async def test_an_entry_that_returns_is_not_deleted(self, rig: StoreRig) -> None:
        writer = rig.writer()
        for version in (0, 1, 0):
            await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, version=version))
        await rig.flush()
        await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1))
        await rig.set_entry("policy", backend(1).digest, None)
        await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1))
        await rig.advance(60_000)
        await writer.collect(SCOPE, "policy", epoch=1, unreferenced_ms=0)
        assert backend(1).digest in await rig.entries("policy")

    async def test_pods_register_age_and_leave(self, rig: StoreRig) -> None:
        writer, reader = rig.writer(), rig.reader()
        one = Pod(name="a", revision=Revision(1, 2), refused={key(1): "why"}, uid="u", zone="z")
        assert (await reader.register(one)).live_pods == 1
        await rig.advance(10_000)
        assert (await reader.register(Pod(name="b", revision=ZERO))).live_pods == 2
        await rig.advance(6_000)
        assert (await reader.register(Pod(name="b", revision=ZERO))).live_pods == 1
        seen = {pod.pod.name: pod for pod in await writer.pods(SCOPE)}
        assert seen["a"].pod == one
        assert 16_000 <= seen["a"].age_ms < 18_000
        assert seen["b"].age_ms < 2_000
        await reader.goodbye("b")
        assert {pod.pod.name for pod in await writer.pods(SCOPE)} == {"a"}
        await writer.forget(SCOPE, "a")
        assert await writer.pods(SCOPE) == []

    async def test_acks_wake_the_writer_and_heartbeats_do_not(self, rig: StoreRig) -> None:
        writer, reader = rig.writer(), rig.reader()
        scopes = [SCOPE, "gw/other"]
        assert await writer.wait_for_acks(scopes, timeout_ms=20) == set()
        await reader.register(Pod(name="a", revision=ZERO))
        assert await writer.wait_for_acks(scopes, timeout_ms=1000) == {SCOPE}
        await reader.register(Pod(name="a", revision=ZERO))
        assert await writer.wait_for_acks(scopes, timeout_ms=20) == set()
        waiting = asyncio.create_task(writer.wait_for_acks(scopes, timeout_ms=1500))
        await asyncio.sleep(0.05)
        await reader.register(Pod(name="a", revision=Revision(1, 1)))
        assert await waiting == {SCOPE}
        await reader.goodbye("a")
        assert await writer.wait_for_acks(scopes, timeout_ms=1000) == {SCOPE}


class FollowerContract:
    """A data plane that follows, whatever happens to the store."""

    async def publish_all(self, rig: StoreRig, *numbers: int, epoch: int = 1) -> Revision:
        writer = rig.writer()
        await writer.replace(SCOPE, "endpoints", epoch=epoch, contents={})
        return await writer.replace(SCOPE, "policy", epoch=epoch, contents=contents(*numbers))

    async def test_a_full_sync_and_then_lines_one_by_one(self, rig: StoreRig) -> None:
        at = await self.publish_all(rig, 1, 2)
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            assert plane.in_force == {key(n): entry(n) for n in (1, 2)}
            await eventually(lambda: plane.follower.state().synced)
            syncs = plane.follower.state().full_syncs
            writer = rig.writer()
            changes = contents(1, version=1) | {key(2): None} | contents(3)
            await plane.at(await writer.publish(SCOPE, "policy", epoch=1, changes=changes))
            assert plane.in_force == {key(1): entry(1, 1), key(3): entry(3)}
            assert not plane.updates[-1].full
            assert set(plane.updates[-1].changed) == {key(1), key(3)}
            assert plane.follower.state().full_syncs == syncs

            async def acked() -> bool:
                (pod,) = await writer.pods(SCOPE)
                return pod.pod.revision == plane.revision()

            await until(acked)
            await eventually(lambda: plane.follower.state().propagation_ms is not None)
        assert await writer.pods(SCOPE) == []

    async def test_a_pod_is_not_synced_before_both_channels_were_read(self, rig: StoreRig) -> None:
        async with FakePlane(rig.reader(), OURS) as plane:
            await eventually(lambda: plane.follower.state().connected)
            await rig.writer().replace(SCOPE, "policy", epoch=1, contents=contents(1))
            await eventually(lambda: key(1) in plane.in_force)
            state = plane.follower.state()
            assert not state.synced
            assert "channel endpoints: the store holds nothing of it" in state.reason
            await rig.writer().replace(SCOPE, "endpoints", epoch=1, contents={})
            await eventually(lambda: plane.follower.state().synced)
            assert plane.follower.state().reason == ""

    async def test_lines_that_were_trimmed_mean_a_full_sync(self, rig: StoreRig) -> None:
        at = await self.publish_all(rig, 1)
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            async with FakePlane(rig.reader(), OURS, name="pod-2") as other:
                await other.at(at)
            writer = rig.writer()
            end = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(*range(2, 9)))
            await rig.trim_log("policy", 1)
            await plane.at(end)
            assert plane.in_force == {key(n): entry(n) for n in range(1, 9)}

    async def test_a_flush_takes_nothing_out_of_force_and_the_writer_repairs_it(
        self, rig: StoreRig
    ) -> None:
        writer = rig.writer()
        await writer.replace(SCOPE, "endpoints", epoch=1, contents={})
        at = await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1, 2))
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            await eventually(lambda: plane.follower.state().synced)
            updates = len(plane.updates)
            await rig.flush()
            await eventually(lambda: "channel/policy" in plane.follower.state().refused)
            assert len(plane.updates) == updates
            await writer.replace(SCOPE, "endpoints", epoch=1, contents={})
            wanted = contents(1) | contents(2, version=1)
            await plane.at(await writer.replace(SCOPE, "policy", epoch=1, contents=wanted))
            assert plane.in_force == {key(1): entry(1), key(2): entry(2, 1)}
            assert set(plane.updates[-1].changed) == {key(2)}
            assert all(not update.removed for update in plane.updates)
            await eventually(lambda: plane.follower.state().refused == {})

    async def test_a_new_leader_on_an_empty_store_takes_nothing_out_of_force(
        self, rig: StoreRig
    ) -> None:
        at = await self.publish_all(rig, *range(700))
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            await rig.flush()
            again = await self.publish_all(rig, *range(700), epoch=2)
            await plane.at(again)
            assert len(plane.in_force) == 700
            assert all(not update.removed for update in plane.updates)

    async def test_a_lower_revision_is_refused_for_good(self, rig: StoreRig) -> None:
        at = await self.publish_all(rig, 1, 2, epoch=5)
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            await rig.flush()
            await self.publish_all(rig, 1, epoch=4)
            await eventually(lambda: "channel/policy" in plane.follower.state().refused)
            assert "went back to 4-1" in plane.follower.state().refused["channel/policy"]
            assert plane.in_force == {key(n): entry(n) for n in (1, 2)}
            assert plane.revision() == at

    async def test_a_failover_that_lost_the_last_write_is_refused_until_it_is_repaired(
        self, rig: StoreRig
    ) -> None:
        writer = rig.writer()
        await writer.replace(SCOPE, "endpoints", epoch=1, contents={})
        await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1, 2))
        copy = await rig.copy("policy")
        at = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, version=1))
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            await rig.go_back("policy", copy)
            await eventually(lambda: "channel/policy" in plane.follower.state().refused)
            assert plane.in_force[key(1)] == entry(1, 1)
            wanted = contents(1, version=1) | contents(2)
            after = await writer.replace(SCOPE, "policy", epoch=1, contents=wanted)
            assert after > at
            await plane.at(after)
            assert plane.in_force == {key(1): entry(1, 1), key(2): entry(2)}

    async def test_a_new_leader_costs_a_follower_one_line(self, rig: StoreRig) -> None:
        at = await self.publish_all(rig, 1, 2)
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            await eventually(lambda: plane.follower.state().synced)
            syncs = plane.follower.state().full_syncs
            await plane.at(await self.publish_all(rig, 1, 2, epoch=2))
            assert plane.follower.state().full_syncs == syncs
            assert not plane.updates[-1].changed
            assert plane.revision().epoch == 2

    async def test_a_failover_and_a_new_leader_at_once_are_mended(self, rig: StoreRig) -> None:
        await self.publish_all(rig, 1, 2)
        copy = await rig.copy("policy")
        at = await self.publish_all(rig, 1, 2, epoch=2)
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            await rig.go_back("policy", copy)
            await plane.at(await self.publish_all(rig, 1, 2, epoch=3))
            assert plane.in_force == {key(n): entry(n) for n in (1, 2)}

    @pytest.mark.parametrize("damage", ["missing", "cut", "other"])
    async def test_a_bad_entry_keeps_its_last_good_until_it_is_mended(
        self, rig: StoreRig, damage: str
    ) -> None:
        at = await self.publish_all(rig, 1, 2)
        writer, source = rig.writer(), FaultyReader(rig.reader())
        good, bad = backend(1, 1), backend(2, 1)
        async with FakePlane(source, OURS) as plane:
            await plane.at(at)
            delivered = {"missing": None, "cut": bad.body[:-3], "other": good.body}
            source.bodies[bad.digest] = delivered[damage]
            changes = contents(1, 2, version=1)
            end = await writer.publish(SCOPE, "policy", epoch=1, changes=changes)
            await plane.at(end)
            assert plane.in_force == {key(1): entry(1, 1), key(2): entry(2)}
            assert bad.digest[:12] in plane.follower.state().refused[key(2)]
            await reported(writer, {key(2)})
            source.bodies.clear()
            await eventually(lambda: plane.in_force[key(2)] == entry(2, 1))
            assert plane.follower.state().refused == {}
            await reported(writer, set())

    @pytest.mark.parametrize(
        "body", [b'{"format":99,"entry":{}}', b'{"format":1,"entry":{"type":"policy"}}', b"\xff"]
    )
    async def test_an_entry_that_cannot_be_read_is_refused(
        self, rig: StoreRig, body: bytes
    ) -> None:
        at = await self.publish_all(rig, 1, 2)
        writer = rig.writer()
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            odd = Encoded(entry=entry(2), body=body, digest=fingerprint(body))
            changes = {key(2): odd, key(3): backend(3)}
            await plane.at(await writer.publish(SCOPE, "policy", epoch=1, changes=changes))
            assert plane.in_force == {key(n): entry(n) for n in (1, 2, 3)}
            assert set(plane.follower.state().refused) == {key(2)}
            changes = {key(2): backend(2, 1)}
            await plane.at(await writer.publish(SCOPE, "policy", epoch=1, changes=changes))
            assert plane.in_force[key(2)] == entry(2, 1)
            assert plane.follower.state().refused == {}

    async def test_what_the_snapshot_refuses_keeps_its_last_good(self, rig: StoreRig) -> None:
        at = await self.publish_all(rig, 1)
        writer = rig.writer()
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            plane.refuses = {key(1): "no such thing"}
            changes = contents(1, version=1) | contents(2)
            await plane.at(await writer.publish(SCOPE, "policy", epoch=1, changes=changes))
            assert plane.follower.state().refused == {key(1): "no such thing"}
            assert plane.in_force == {key(1): entry(1), key(2): entry(2)}
            await reported(writer, {key(1)})
            plane.refuses = {}
            await eventually(lambda: plane.in_force[key(1)] == entry(1, 1))

    async def test_a_line_of_a_stranger_changes_nothing(self, rig: StoreRig) -> None:
        at = await self.publish_all(rig, 1, 2)
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            await eventually(lambda: plane.follower.state().synced)
            after = Revision(at.epoch, at.sequence + 1)
            forged = sign_line(
                STRANGER, "policy", revision=after, previous=at, key=key(1), digest=""
            )
            syncs = plane.follower.state().full_syncs
            await rig.add_line("policy", forged)
            await eventually(lambda: plane.follower.state().full_syncs > syncs + 1)
            assert plane.in_force == {key(n): entry(n) for n in (1, 2)}
            assert plane.revision() == at
            await asyncio.sleep(1)
            assert plane.follower.state().full_syncs < syncs + 12
            writer = rig.writer()
            end = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(3))
            await plane.at(end)
            assert set(plane.in_force) == {key(1), key(2), key(3)}
            await eventually(lambda: plane.follower.state().refused == {})

    async def test_an_old_line_that_is_played_again_changes_nothing(self, rig: StoreRig) -> None:
        await self.publish_all(rig, 1)
        writer = rig.writer()
        removal = await writer.publish(SCOPE, "policy", epoch=1, changes={key(1): None})
        old = (await rig.log("policy"))[-1]
        at = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1))
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            assert old.revision == removal
            moved = msgspec.structs.replace(
                old, revision=Revision(at.epoch, at.sequence + 1), previous=at
            )
            await rig.add_line("policy", moved)
            syncs = plane.follower.state().full_syncs
            await eventually(lambda: plane.follower.state().full_syncs > syncs + 2)
            assert plane.in_force == {key(1): entry(1)}
            assert plane.revision() == at

    @pytest.mark.parametrize("damage", ["dropped", "old", "swapped", "stranger", "head"])
    async def test_a_manifest_that_others_wrote_in_takes_nothing_out_of_force(
        self, rig: StoreRig, damage: str
    ) -> None:
        await self.publish_all(rig, 1, 2)
        old = (await manifest_of(rig)).fields
        writer = rig.writer()
        at = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, version=1))
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            found = await manifest_of(rig)
            one, two = found.fields[key(1)], found.fields[key(2)]
            forged = sign_field(
                STRANGER, "policy", revision=Revision(9, 9), key=key(1), digest=two.digest
            )
            written = {
                "dropped": (key(1), None),
                "old": (key(1), old[key(1)]),
                "swapped": (key(1), msgspec.structs.replace(one, digest=two.digest)),
                "stranger": (key(1), forged),
                "head": (key(2), None),
            }
            await rig.set_field("policy", *written[damage])
            further = Revision(at.epoch, at.sequence + 5)
            if damage == "head":
                mac = STRANGER.sign("head", "policy", str(further), "1", "0")
                await rig.set_head("policy", Head(revision=further, format=1, mac=mac))
            # Something that makes a reader look at the manifest: a line after a gap.
            gap = sign_line(OURS, "policy", revision=further, previous=ZERO, key="", digest="")
            await rig.add_line("policy", gap)
            await eventually(lambda: "channel/policy" in plane.follower.state().refused)
            assert plane.in_force == {key(1): entry(1, 1), key(2): entry(2)}
            assert plane.revision() == at
            wanted = contents(1, version=1) | contents(2)
            mender = rig.writer()
            await plane.at(await mender.replace(SCOPE, "policy", epoch=1, contents=wanted))
            await eventually(lambda: plane.follower.state().refused == {})
            assert plane.in_force == {key(1): entry(1, 1), key(2): entry(2)}

    async def test_an_old_field_does_not_bring_a_removed_object_back(self, rig: StoreRig) -> None:
        await self.publish_all(rig, 1, 2)
        old = (await manifest_of(rig)).fields[key(2)]
        writer = rig.writer()
        at = await writer.publish(SCOPE, "policy", epoch=1, changes={key(2): None})
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            await rig.set_field("policy", key(2), old)
            further = Revision(at.epoch, at.sequence + 5)
            gap = sign_line(OURS, "policy", revision=further, previous=ZERO, key="", digest="")
            await rig.add_line("policy", gap)
            await eventually(lambda: "channel/policy" in plane.follower.state().refused)
            assert set(plane.in_force) == {key(1)}

    async def test_a_new_pod_is_not_ready_from_a_manifest_that_others_wrote_in(
        self, rig: StoreRig
    ) -> None:
        await self.publish_all(rig, 1, 2)
        await rig.set_field("policy", key(2), None)
        async with FakePlane(rig.reader(), OURS) as plane:
            await eventually(lambda: "channel/policy" in plane.follower.state().refused)
            assert not plane.follower.state().synced
            assert "does not fit its head" in plane.follower.state().reason

    async def test_a_pod_with_another_key_takes_nothing(self, rig: StoreRig) -> None:
        await self.publish_all(rig, 1)
        async with FakePlane(rig.reader(), STRANGER) as plane:
            await eventually(lambda: "channel/policy" in plane.follower.state().refused)
            assert plane.in_force == {}
            # The key file was exchanged meanwhile: no restart is needed.
            plane.ring = OURS
            await eventually(lambda: plane.follower.state().synced)
            assert plane.in_force == {key(1): entry(1)}

    async def test_a_rotation_passes_unnoticed(self, rig: StoreRig) -> None:
        at = await self.publish_all(rig, 1, 2)
        both, new = keyring(1, 2), keyring(2)
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            plane.ring = both
            writer = rig.writer(both)
            await writer.replace(SCOPE, "endpoints", epoch=1, contents={})
            await plane.at(await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1, 2)))
            assert plane.revision() > at
            plane.ring = new
            end = await rig.writer(new).publish(SCOPE, "policy", epoch=1, changes=contents(3))
            await plane.at(end)
            assert plane.follower.state().refused == {}
            assert all(not update.changed for update in plane.updates[1:-1])
        async with FakePlane(rig.reader(), new, name="pod-2") as fresh:
            await eventually(lambda: fresh.follower.state().synced)

    async def test_a_lost_log_is_noticed_without_a_line(self, rig: StoreRig) -> None:
        at = await self.publish_all(rig, 1)
        source = FaultyReader(rig.reader())
        async with FakePlane(source, OURS) as plane:
            await plane.at(at)
            source.cut = True
            await eventually(lambda: not plane.follower.state().connected)
            end = await rig.writer().publish(SCOPE, "policy", epoch=1, changes=contents(2))
            await rig.trim_log("policy", 0)
            source.cut = False
            await plane.at(end)
            assert set(plane.in_force) == {key(1), key(2)}

    async def test_a_store_that_is_away_changes_nothing_but_the_age(self, rig: StoreRig) -> None:
        at = await self.publish_all(rig, 1)
        source = FaultyReader(rig.reader())
        async with FakePlane(source, OURS) as plane:
            await plane.at(at)
            await eventually(lambda: plane.follower.state().synced)
            source.cut = True
            await eventually(lambda: not plane.follower.state().connected)
            await eventually(lambda: (plane.follower.state().age_s or 0) > 1)
            assert plane.follower.state().synced
            assert plane.in_force == {key(1): entry(1)}
            end = await rig.writer().publish(SCOPE, "policy", epoch=1, changes=contents(2))
            source.cut = False
            await plane.at(end)
            assert plane.follower.state().connected
            assert plane.follower.state().age_s == pytest.approx(0, abs=2.1)

    async def test_batches_that_wait_are_applied_as_one_update(self, rig: StoreRig) -> None:
        at = await self.publish_all(rig, 1)
        source = FaultyReader(rig.reader())
        async with FakePlane(source, OURS) as plane:
            await plane.at(at)
            await eventually(lambda: plane.follower.state().synced)
            source.cut = True
            await eventually(lambda: not plane.follower.state().connected)
            updates, writer = len(plane.updates), rig.writer()
            for version in range(1, 6):
                await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, version=version))
            end = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(2))
            source.cut = False
            await plane.at(end)
            assert len(plane.updates) == updates + 1
            assert plane.updates[-1].changed == {key(1): entry(1, 5), key(2): entry(2)}


async def reported(writer: StoreWriter, refused: set[str]) -> None:
    """Wait until the one pod's record says that it refuses these objects."""

    async def said() -> bool:
        return {name for pod in await writer.pods(SCOPE) for name in pod.pod.refused} == refused

    await until(said)
