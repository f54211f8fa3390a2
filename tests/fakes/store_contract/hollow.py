"""An edit that meets a store which lost its entries brings all of them back, in the same call."""

from typing import TYPE_CHECKING

import pytest

from fakes.followers import FakePlane
from fakes.store_contract.steps import manifest_of
from fakes.stores import OURS, SCOPE, StoreRig, backend, contents, entry, key
from fakes.virtual_time import eventually

if TYPE_CHECKING:
    from switchboard_policy.codec import Encoded


class Hollow:
    """A manifest must not name entries that the store does not hold."""

    @pytest.mark.parametrize("edit", ["added", "changed", "removed"])
    async def test_an_edit_that_meets_a_flush_writes_all_entries_again(
        self, rig: StoreRig, edit: str
    ) -> None:
        writer = rig.writer()
        await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1, 2))
        await writer.publish(SCOPE, "policy", epoch=1, changes=contents(2, version=1) | contents(3))
        await rig.flush()
        changes: dict[str, dict[str, Encoded | None]] = {
            "added": {key(4): backend(4)},
            "changed": {key(1): backend(1, 1)},
            "removed": {key(1): None},
        }
        await writer.publish(SCOPE, "policy", epoch=1, changes=changes[edit])
        named = {field.digest for field in (await manifest_of(rig)).fields.values()}
        assert named <= await rig.entries("policy")
        assert {backend(2, 1).digest, backend(3).digest} <= named
        assert await writer.intact(SCOPE, "policy")

    async def test_a_new_data_plane_after_such_an_edit_refuses_nothing(self, rig: StoreRig) -> None:
        writer = rig.writer()
        await writer.replace(SCOPE, "endpoints", epoch=1, contents={})
        await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1, 2))
        await rig.flush()
        await writer.publish(SCOPE, "endpoints", epoch=1, changes=contents(9))
        at = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(3))
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            await eventually(lambda: plane.follower.state().synced)
            assert plane.follower.state().refused == {}
            assert plane.in_force == {key(n): entry(n) for n in (1, 2, 3, 9)}

    async def test_entries_brought_back_are_not_collected(self, rig: StoreRig) -> None:
        writer = rig.writer()
        await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1, 2))
        await rig.flush()
        await writer.publish(SCOPE, "policy", epoch=1, changes=contents(3))
        await rig.advance(60_000)
        await writer.collect(SCOPE, "policy", epoch=1, unreferenced_ms=0)
        assert await rig.entries("policy") == {backend(n).digest for n in (1, 2, 3)}

    async def test_entries_that_another_writer_wrote_are_for_replace_to_find(
        self, rig: StoreRig
    ) -> None:
        await rig.writer().replace(SCOPE, "policy", epoch=1, contents=contents(1, 2))
        writer = rig.writer()
        await writer.publish(SCOPE, "policy", epoch=2, changes=contents(3))
        await rig.flush()
        await writer.publish(SCOPE, "policy", epoch=2, changes=contents(4))
        assert not await writer.intact(SCOPE, "policy")
        await writer.replace(SCOPE, "policy", epoch=2, contents=contents(1, 2, 3, 4))
        assert await rig.entries("policy") == {backend(n).digest for n in (1, 2, 3, 4)}
        assert await writer.intact(SCOPE, "policy")
