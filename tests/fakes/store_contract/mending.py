"""What is lost, damaged or forged in a store is noticed and mended by its writer."""

import pytest

from fakes.store_contract.steps import manifest_of
from fakes.stores import OURS, SCOPE, STRANGER, StoreRig, backend, contents, key, keyring
from switchboard_policy.errors import BadSignature
from switchboard_policy.store import ZERO, Field, Line, Revision
from switchboard_policy.store.signing import check_field, check_manifest


class Mending:
    """A writer whose store was harmed, or whose keys change."""

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
