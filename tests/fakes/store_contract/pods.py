"""Pods tell the writer that they live, and what they have in force."""

import asyncio

from fakes.stores import SCOPE, StoreRig, key
from switchboard_policy.store import ZERO, Pod, Revision


class Pods:
    """Registrations and acks."""

    async def test_pods_register_age_and_leave(self, rig: StoreRig) -> None:
        writer, reader = rig.writer(), rig.reader()
        one = Pod(name="a", revision=Revision(1, 2), refused={key(1): "why"}, uid="u", zone="z")
        assert (await reader.register(one)).pods == ("a",)
        await rig.advance(10_000)
        assert (await reader.register(Pod(name="b", revision=ZERO))).pods == ("a", "b")
        await rig.advance(6_000)
        assert (await reader.register(Pod(name="b", revision=ZERO))).pods == ("b",)
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
        assert await writer.wait_for_acks(scopes, timeout_ms=20) == {}
        await reader.register(Pod(name="a", revision=ZERO))
        assert await writer.wait_for_acks(scopes, timeout_ms=1000) == {SCOPE: {"a"}}
        await reader.register(Pod(name="a", revision=ZERO))
        assert await writer.wait_for_acks(scopes, timeout_ms=20) == {}
        waiting = asyncio.create_task(writer.wait_for_acks(scopes, timeout_ms=1500))
        await asyncio.sleep(0.05)
        await reader.register(Pod(name="a", revision=Revision(1, 1)))
        assert await waiting == {SCOPE: {"a"}}
        await reader.goodbye("a")
        assert await writer.wait_for_acks(scopes, timeout_ms=1000) == {SCOPE: {"a"}}
