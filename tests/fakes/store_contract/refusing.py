"""An entry that cannot be taken is refused by name; its last good stays in force."""

import pytest

from fakes.followers import FakePlane, FaultyReader
from fakes.store_contract.steps import publish_all, reported
from fakes.stores import OURS, SCOPE, StoreRig, backend, contents, entry, key
from fakes.virtual_time import eventually
from switchboard_policy.codec import Encoded
from switchboard_policy.seal import fingerprint


class Refusing:
    """A data plane that meets entries which it cannot run."""

    @pytest.mark.parametrize("damage", ["missing", "cut", "other"])
    async def test_a_bad_entry_keeps_its_last_good_until_it_is_mended(
        self, rig: StoreRig, damage: str
    ) -> None:
        at = await publish_all(rig, 1, 2)
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
        at = await publish_all(rig, 1, 2)
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
        at = await publish_all(rig, 1)
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
