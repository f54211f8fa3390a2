"""Redis keeps the store's contract, and survives what happens to servers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.processes import LOOPBACK, ChildProcess, free_port
from cluster.redis_server import RedisServer, redis_binary
from fakes.followers import FakePlane
from fakes.store_contract import FollowerContract, StoreContract
from fakes.stores import OURS, SCOPE, RedisRig, contents, entry, key
from fakes.virtual_time import eventually, until
from switchboard_dataplane.sources import follow, redis_source
from switchboard_dataplane.sources.redis_source import RedisSource
from switchboard_operator import publisher
from switchboard_operator.publisher import RedisStore
from switchboard_policy.store import ZERO, Pod, Revision
from switchboard_policy.store.writer import At


@pytest.fixture
async def rig(redis_server: RedisServer) -> AsyncIterator[RedisRig]:
    rig = RedisRig(redis_server.url)
    yield rig
    await rig.close()


class TestRedisStore(StoreContract):
    pass


class TestFollowingRedisStore(FollowerContract):
    @pytest.fixture(autouse=True)
    def looks_often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Time is real here; on the store in memory the interval is."""
        monkeypatch.setattr(follow, "LOOK_S", 1.0)


async def test_an_eviction_policy_that_may_drop_policy_is_told(rig: RedisRig) -> None:
    writer = rig.writer()
    assert await writer.check_eviction() is None
    await rig.client.config_set("maxmemory-policy", "allkeys-lru")
    said = await writer.check_eviction()
    assert said is not None
    assert "allkeys-lru" in said
    assert "noeviction" in said


async def test_a_restart_without_data_is_mended_by_the_same_writer(
    rig: RedisRig, redis_server: RedisServer
) -> None:
    writer = rig.writer()
    await writer.replace(SCOPE, "endpoints", epoch=3, contents={})
    at = await writer.replace(SCOPE, "policy", epoch=3, contents=contents(1, 2))
    async with FakePlane(rig.reader(), OURS) as plane:
        await plane.at(at)
        redis_server.restart(keep_data=False)

        async def mended() -> bool:
            try:
                await writer.replace(SCOPE, "endpoints", epoch=3, contents={})
                await writer.replace(SCOPE, "policy", epoch=3, contents=contents(1, 2))
            except ConnectionError:
                return False
            return await writer.intact(SCOPE, "policy")

        await until(mended)
        await plane.at(Revision(3, at.sequence + 1))
        assert plane.in_force == {key(n): entry(n) for n in (1, 2)}
        assert all(not update.removed for update in plane.updates)
        await eventually(lambda: plane.follower.state().connected)


async def test_a_store_that_hangs_blocks_nobody_for_long(
    rig: RedisRig, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (publisher, redis_source):
        monkeypatch.setattr(module, "TIMEOUT_S", 3.0)
    writer = rig.writer()
    await writer.replace(SCOPE, "endpoints", epoch=1, contents={})
    at = await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1))
    async with FakePlane(rig.reader(), OURS) as plane:
        await plane.at(at)
        redis_server.pause()
        try:
            await eventually(lambda: not plane.follower.state().connected)
            with pytest.raises(ConnectionError):
                await writer.publish(SCOPE, "policy", epoch=1, changes=contents(2))
            assert plane.follower.state().synced
        finally:
            redis_server.resume()

        async def published() -> bool:
            try:
                await writer.publish(SCOPE, "policy", epoch=1, changes=contents(2))
            except ConnectionError:
                return False
            return True

        await until(published)
        await eventually(lambda: set(plane.in_force) == {key(1), key(2)})


async def test_a_lost_answer_does_not_write_twice(rig: RedisRig) -> None:
    writer = rig.writer()
    await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1))
    ledger = writer._known[At(SCOPE, "policy")]
    at = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(2))
    # The writer's memory as it is when the connection ends before the answer.
    burned = ledger.ledger.burn(at.sequence)
    writer._known[At(SCOPE, "policy")] = ledger._replace(ledger=burned)
    assert await writer.publish(SCOPE, "policy", epoch=1, changes=contents(2)) == at
    assert [line.object for line in await rig.log("policy")] == ["", key(2)]
    after = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(3))
    assert after == Revision(1, at.sequence + 1)


async def test_a_revision_whose_answer_was_lost_is_never_used_for_something_else(
    rig: RedisRig,
) -> None:
    writer = rig.writer()
    at = await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1))
    known = writer._known[At(SCOPE, "policy")]
    copy = await rig.copy("policy")
    lost = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(2))
    # The primary died with the write, and its replica never had it.
    writer._known[At(SCOPE, "policy")] = known._replace(ledger=known.ledger.burn(lost.sequence))
    await rig.go_back("policy", copy)
    again = await writer.publish(SCOPE, "policy", epoch=1, changes=contents(3))
    assert at < lost < again


async def test_a_scope_is_one_slot_and_one_pattern(rig: RedisRig) -> None:
    await rig.writer().publish(SCOPE, "policy", epoch=1, changes=contents(1))
    await rig.writer().publish(SCOPE, "policy", epoch=1, changes=contents(1, version=1))
    await rig.reader().register(Pod(name="a", revision=ZERO))
    names = [name.decode() for name in await rig.client.keys("*")]
    assert len(names) == 9
    assert all(name.startswith("sb:{gw/test}:") for name in names)


async def test_sentinels_lead_to_the_primary(
    rig: RedisRig, redis_server: RedisServer, tmp_path: Path
) -> None:
    port, config = free_port(), tmp_path / "sentinel.conf"
    primary = f"{LOOPBACK} {redis_server.port}"
    config.write_text(f"port {port}\nbind {LOOPBACK}\nsentinel monitor main {primary} 1\n")
    command = [redis_binary(), str(config), "--sentinel"]
    with ChildProcess(command, log=tmp_path / "sentinel.log") as sentinel:
        sentinel.wait_for_port(port)
        url = f"redis+sentinel://{LOOPBACK}:{port}/main/0"
        writer, reader = RedisStore(url, keyrings=lambda _: OURS), RedisSource(url, scope=SCOPE)
        try:
            at = await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1))
            found = await reader.head("policy")
        finally:
            await writer.close()
            await reader.close()
    assert found is not None
    assert found.revision == at
