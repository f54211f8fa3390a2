"""One leader writes, and an earlier one is fenced off."""

import pytest

from fakes.store_contract.steps import manifest_of
from fakes.stores import OURS, SCOPE, StoreRig, contents, key
from switchboard_policy.errors import Deposed
from switchboard_policy.store import CONTINUES, Revision
from switchboard_policy.store.signing import check_manifest


class Leading:
    """Epochs and the fence."""

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
