"""What others write into the store changes nothing."""

import asyncio

import msgspec
import pytest

from fakes.followers import FakePlane
from fakes.store_contract.steps import manifest_of, publish_all
from fakes.stores import OURS, SCOPE, STRANGER, StoreRig, contents, entry, key
from fakes.virtual_time import eventually
from switchboard_policy.store import ZERO, Head, Revision
from switchboard_policy.store.signing import sign_field, sign_line


class Distrusting:
    """A data plane whose store somebody else can write to."""

    async def test_a_line_of_a_stranger_changes_nothing(self, rig: StoreRig) -> None:
        at = await publish_all(rig, 1, 2)
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
        await publish_all(rig, 1)
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
        await publish_all(rig, 1, 2)
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
        await publish_all(rig, 1, 2)
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
        await publish_all(rig, 1, 2)
        await rig.set_field("policy", key(2), None)
        async with FakePlane(rig.reader(), OURS) as plane:
            await eventually(lambda: "channel/policy" in plane.follower.state().refused)
            assert not plane.follower.state().synced
            assert "does not fit its head" in plane.follower.state().reason

    async def test_a_pod_with_another_key_takes_nothing(self, rig: StoreRig) -> None:
        await publish_all(rig, 1)
        async with FakePlane(rig.reader(), STRANGER) as plane:
            await eventually(lambda: "channel/policy" in plane.follower.state().refused)
            assert plane.in_force == {}
            # The key file was exchanged meanwhile: no restart is needed.
            plane.ring = OURS
            await eventually(lambda: plane.follower.state().synced)
            assert plane.in_force == {key(1): entry(1)}
