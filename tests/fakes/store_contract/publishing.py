"""What a writer publishes is what readers find."""

import asyncio

from fakes.store_contract.steps import manifest_of
from fakes.stores import OURS, SCOPE, StoreRig, backend, contents, key
from switchboard_policy.store import ZERO, Revision
from switchboard_policy.store.ledger import BATCH_LINES
from switchboard_policy.store.signing import check_field, check_line, check_manifest


class Publishing:
    """Writers and readers in peace."""

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

    async def test_a_scope_that_was_let_go_goes_on_should_it_come_again(
        self, rig: StoreRig
    ) -> None:
        writer = rig.writer()
        await writer.publish(SCOPE, "policy", epoch=1, changes=contents(1, 2))
        before = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(3))
        writer.let_go(SCOPE)
        assert writer.fields(SCOPE, "policy") == {}
        assert not await writer.intact(SCOPE, "policy")
        await rig.flush()
        after = await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1))
        assert after > before
        assert set((await manifest_of(rig)).fields) == {key(1)}
        assert await writer.intact(SCOPE, "policy")
