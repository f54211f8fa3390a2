"""A store that loses data takes nothing out of force."""

import msgspec

from fakes.followers import FakePlane
from fakes.store_contract.steps import publish_all
from fakes.stores import OURS, SCOPE, StoreRig, contents, entry, key
from fakes.virtual_time import eventually
from switchboard_policy.store import Revision


class Losing:
    """A data plane whose store was flushed, or went back in time."""

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
        at = await publish_all(rig, *range(700))
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            await rig.flush()
            again = await publish_all(rig, *range(700), epoch=2)
            await plane.at(again)
            assert len(plane.in_force) == 700
            assert all(not update.removed for update in plane.updates)

    async def test_a_lower_revision_is_refused_for_good(self, rig: StoreRig) -> None:
        at = await publish_all(rig, 1, 2, epoch=5)
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            await rig.flush()
            await publish_all(rig, 1, epoch=4)
            await eventually(lambda: "channel/policy" in plane.follower.state().refused)
            assert "went back to 4-1" in plane.follower.state().refused["channel/policy"]
            assert plane.in_force == {key(n): entry(n) for n in (1, 2)}
            assert plane.revision() == at

    async def test_what_a_damaged_manifest_gave_is_not_lost_to_an_older_one(
        self, rig: StoreRig
    ) -> None:
        await publish_all(rig, 1)
        copy = await rig.copy("policy")
        writer = rig.writer()
        await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, version=1))
        head = await rig.reader().head("policy")
        assert head is not None
        beyond = Revision(head.revision.epoch, head.revision.sequence + 1)
        await rig.set_head("policy", msgspec.structs.replace(head, revision=beyond))
        async with FakePlane(rig.reader(), OURS) as plane:
            await eventually(lambda: plane.in_force == {key(1): entry(1, 1)})
            await rig.go_back("policy", copy)
            await eventually(lambda: "went back" in plane.follower.state().reason)
            assert plane.in_force == {key(1): entry(1, 1)}

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

    async def test_a_failover_and_a_new_leader_at_once_are_mended(self, rig: StoreRig) -> None:
        await publish_all(rig, 1, 2)
        copy = await rig.copy("policy")
        at = await publish_all(rig, 1, 2, epoch=2)
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            await rig.go_back("policy", copy)
            await plane.at(await publish_all(rig, 1, 2, epoch=3))
            assert plane.in_force == {key(n): entry(n) for n in (1, 2)}
