"""What a large installation asks of a real Redis: counted, not timed.

The operator's publication on the one side, the data planes' followers on the other.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import median

import redis

from cluster.meters import StoreTraffic
from cluster.redis_server import RedisServer
from fakes import worlds
from fakes.followers import FakePlane
from fakes.stores import OURS, RedisRig, contents
from fakes.stores import SCOPE as RIG_SCOPE
from fakes.virtual_time import eventually
from switchboard_dataplane.sources.redis_source import LINES_AT_ONCE, RedisSource
from switchboard_operator.publication import Publication
from switchboard_operator.publisher import RedisStore
from switchboard_policy.compiler.world import Gateway, PolicyObject
from switchboard_policy.names import gateway_scope
from switchboard_policy.seal import Keyring
from switchboard_policy.store import ZERO, Pod, Registered, Revision

GATEWAY = Gateway(name="default", namespace="switchboard", admit="All")
SCOPE = gateway_scope(GATEWAY.name)
PODS = 3
EDITS = 7
FEW, MANY = 20, 400
#: A heartbeat, or the end of a wait for lines, may come in between.
CHANCE = 1.1


def numbered(number: int, *, generation: int = 1) -> PolicyObject:
    """A policy whose text is as long as the others', whatever its number and generation."""
    return worlds.policy(
        f"p{number:04}",
        models=[f"m{number:04}"],
        priority=100 + generation,
        rules=[worlds.rule("default", ["b"])],
        generation=generation,
    )


class Acking(RedisSource):
    """Remembers what it has acknowledged: to ask the store would be traffic, too."""

    acked: Revision = ZERO

    async def register(self, pod: Pod) -> Registered:
        answer = await super().register(pod)
        self.acked = pod.revision
        return answer


async def costs_of_an_edit(server: RedisServer, ring: Keyring, policies: int) -> list[float]:
    """Return the medians of commands, bytes in and bytes out of an edit among so many policies."""
    store = RedisStore(server.url, keyrings=lambda _: ring)
    publication = Publication(GATEWAY, lambda: ring, store)
    others = [worlds.backend("b"), *map(numbered, range(policies))]
    publication.compile(worlds.world(*others))
    await publication.publish(1)
    counts = list[tuple[int, int, int]]()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        client = redis.Redis.from_url(server.url)
        stack.callback(client.close)
        planes, sources = list[FakePlane](), list[Acking]()
        for pod in range(PODS):
            source = Acking(server.url, scope=SCOPE)
            sources.append(source)
            stack.push_async_callback(source.close)
            plane = FakePlane(source, ring, name=f"pod-{pod}")
            planes.append(await stack.enter_async_context(plane))
        for plane in planes:
            await plane.at(publication.revision)
        for edit in range(EDITS):
            await asyncio.sleep(0.1)
            before = StoreTraffic.read(client)
            assert publication.compile(
                worlds.world(*others[:-1], numbered(policies - 1, generation=2 + edit))
            )
            assert await publication.publish(1) == {f"policy/ai/p{policies - 1:04}"}
            for plane in planes:
                await plane.at(publication.revision)
            await acknowledged(sources, publication.revision)
            counts.append(StoreTraffic.read(client).since(before))
            acks = [seen.pod.revision for seen in await store.pods(SCOPE)]
            assert acks == [publication.revision] * PODS
    return [float(median(each)) for each in zip(*counts, strict=True)]


async def acknowledged(sources: Sequence[Acking], revision: Revision) -> None:
    """Wait until all have acknowledged a revision, and the last one's answer has come."""
    await eventually(lambda: all(each.acked == revision for each in sources))


async def test_an_edit_among_many_policies_costs_the_store_what_it_costs_among_few(
    redis_server: RedisServer,
) -> None:
    ring = worlds.keyring(SCOPE)
    few = await costs_of_an_edit(redis_server, ring, FEW)
    redis_server.restart(keep_data=False)
    many = await costs_of_an_edit(redis_server, ring, MANY)
    commands, bytes_in, bytes_out = few
    assert min(few) > 0
    assert many[0] <= commands * CHANCE + 2
    assert many[1] <= bytes_in * CHANCE
    assert many[2] <= bytes_out * CHANCE


async def test_lines_that_were_written_together_are_taken_in_together(
    redis_server: RedisServer,
) -> None:
    rig = RedisRig(redis_server.url)
    try:
        writer = rig.writer()
        at = await writer.replace(RIG_SCOPE, "policy", epoch=3, contents=contents(0))
        await writer.replace(RIG_SCOPE, "endpoints", epoch=3, contents={})
        async with FakePlane(rig.reader(), OURS) as plane:
            await plane.at(at)
            plane.updates.clear()
            many = contents(*range(1, 3 * LINES_AT_ONCE + 1))
            await plane.at(await writer.publish(RIG_SCOPE, "policy", epoch=3, changes=many))
            assert [len(each.changed) for each in plane.updates] == [3 * LINES_AT_ONCE]
            assert not plane.updates[0].full
            assert len(plane.in_force) == 3 * LINES_AT_ONCE + 1
    finally:
        await rig.close()
