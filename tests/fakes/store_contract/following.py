"""A follower has in force what was published, by as few reads as that takes."""

import asyncio

import pytest

from fakes.followers import FakePlane, FaultyReader
from fakes.store_contract.steps import publish_all
from fakes.stores import OURS, SCOPE, StoreRig, contents, entry, key, keyring
from fakes.virtual_time import eventually, until

FIRST_LOOKS = 12
"""At an empty store; from here on the next one is at least a second away."""
AT_ONCE_S = 0.5
LOOKS_IN_2_S_MAX = 20


class Following:
    """A data plane that follows a store that is well, or away."""

    async def test_a_full_sync_and_then_lines_one_by_one(self, rig: StoreRig) -> None:
        at = await publish_all(rig, 1, 2)
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

    async def test_the_first_publication_is_in_force_at_once(self, rig: StoreRig) -> None:
        async with FakePlane(rig.reader(), OURS) as plane:
            # Long enough for the looks at an empty store to have become rare.
            await eventually(lambda: plane.follower.state().full_syncs >= FIRST_LOOKS, within_s=60)
            at = await publish_all(rig, 1)
            await eventually(lambda: plane.revision() == at, within_s=AT_ONCE_S)

    async def test_lines_without_a_manifest_do_not_make_a_busy_loop(self, rig: StoreRig) -> None:
        await publish_all(rig, 1)
        source = FaultyReader(rig.reader())
        source.forgetful = True
        async with FakePlane(source, OURS) as plane:
            await eventually(lambda: plane.follower.state().connected)
            await asyncio.sleep(2)
            assert plane.follower.state().full_syncs <= LOOKS_IN_2_S_MAX

    async def test_lines_that_were_trimmed_mean_a_full_sync(self, rig: StoreRig) -> None:
        at = await publish_all(rig, 1)
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            async with FakePlane(rig.reader(), OURS, name="pod-2") as other:
                await other.at(at)
            writer = rig.writer()
            end = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(*range(2, 9)))
            await rig.trim_log("policy", 1)
            await plane.at(end)
            assert plane.in_force == {key(n): entry(n) for n in range(1, 9)}

    async def test_a_new_leader_costs_a_follower_one_line(self, rig: StoreRig) -> None:
        at = await publish_all(rig, 1, 2)
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            await eventually(lambda: plane.follower.state().synced)
            syncs = plane.follower.state().full_syncs
            await plane.at(await publish_all(rig, 1, 2, epoch=2))
            assert plane.follower.state().full_syncs == syncs
            assert not plane.updates[-1].changed
            assert plane.revision().epoch == 2

    async def test_a_rotation_passes_unnoticed(self, rig: StoreRig) -> None:
        at = await publish_all(rig, 1, 2)
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
        at = await publish_all(rig, 1)
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
        at = await publish_all(rig, 1)
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
        at = await publish_all(rig, 1)
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
