"""A Redis Cluster keeps the store's contract, and a scope is at home in one slot of it."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import redis
from redis.asyncio.cluster import RedisCluster as ClusterClient
from redis.crc import key_slot

from cluster.control_plane import ControlPlane
from cluster.line import PATIENT, Line, Running, eventually
from cluster.processes import LOOPBACK
from cluster.redis_server import RedisCluster
from fakes.followers import FakePlane
from fakes.manifests import external, policy
from fakes.store_contract import StoreContract
from fakes.stores import OURS, SCOPE, RedisRig, contents, entry, key
from fakes.virtual_time import until
from switchboard_policy.store import Revision
from switchboard_policy.store.layout import channel_keys

GATEWAYS = ("default", "b", "c")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("redis-cluster")) as running:
        yield running


@pytest.fixture
async def rig(cluster: RedisCluster) -> AsyncIterator[RedisRig]:
    first = cluster.nodes[0]
    rig = RedisRig(cluster.url, client=ClusterClient(LOOPBACK, first.port, protocol=2))
    await rig.flush()
    yield rig
    await rig.close()


class TestStoreInACluster(StoreContract):
    pass


async def test_a_scope_that_moves_to_another_node_is_written_and_followed_there(
    rig: RedisRig, cluster: RedisCluster
) -> None:
    writer = rig.writer()
    await writer.replace(SCOPE, "endpoints", epoch=1, contents={})
    at = await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1))
    async with FakePlane(rig.reader(), OURS) as plane:
        await plane.at(at)
        cluster.move(key_slot(channel_keys(SCOPE, "policy").head.encode()))

        async def written() -> bool:
            try:
                await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1, 2))
            except ConnectionError:
                return False
            return True

        await until(written)
        await plane.at(Revision(1, at.sequence + 1))
        assert plane.in_force == {key(n): entry(n) for n in (1, 2)}


@pytest.fixture
def line(api: ControlPlane, cluster: RedisCluster, tmp_path: Path) -> Iterator[Line]:
    for node in cluster.nodes:
        with redis.Redis.from_url(node.url) as client:
            client.flushall()
    running = Line(tmp_path, api, cluster.nodes[0], redis_url=cluster.url, gateways=GATEWAYS)
    try:
        yield running
    finally:
        running.close()


def test_each_gateways_scope_lives_in_one_slot_and_is_followed(
    line: Line, cluster: RedisCluster
) -> None:
    line.apply(external("first", line.start_fake("a"), timeouts=PATIENT), policy("chat", "first"))
    line.start_operator()
    planes = [line.start_data_plane(f"pod-{name}", gateway=name) for name in GATEWAYS]
    await_answerer(planes, "a")
    line.apply(external("second", line.start_fake("b"), timeouts=PATIENT), policy("chat", "second"))
    await_answerer(planes, "b")
    told = line.await_condition("rp", "chat", "Programmed", status="True")
    assert "3/3" in told["message"]
    homes = {name: homes_of(cluster, f"sb:{{gw/{name}}}:") for name in GATEWAYS}
    assert all(len(each) == 1 for each in homes.values()), homes
    assert len(set().union(*homes.values())) > 1, "the scopes are spread over the nodes"


def await_answerer(planes: Sequence[Running], wanted: str) -> None:
    """Wait until that fake model answers at every data plane."""
    eventually(
        lambda: {plane.answerer("chat") for plane in planes} == {wanted},
        what=f"{wanted} answers everywhere",
    )


def homes_of(cluster: RedisCluster, start: str) -> set[int]:
    """Return the slots of all keys that begin so, wherever they are."""
    found: set[int] = set()
    for node in cluster.nodes:
        with redis.Redis.from_url(node.url) as client:
            found |= {key_slot(key) for key in client.scan_iter(f"{start}*")}
    return found


def test_a_node_that_restarts_empty_is_filled_and_traffic_goes_on(
    line: Line, cluster: RedisCluster
) -> None:
    line.apply(external("first", line.start_fake("a"), timeouts=PATIENT), policy("chat", "first"))
    line.start_operator()
    plane = line.start_data_plane("pod")
    await_answerer([plane], "a")
    home = next(node for node in cluster.nodes if holds(node.url, "sb:{gw/default}:policy:head"))
    home.kill()
    assert plane.answerer("chat") == "a"
    line.apply(external("second", line.start_fake("b"), timeouts=PATIENT), policy("chat", "second"))
    home.start()
    await_answerer([plane], "b")
    assert holds(home.url, "sb:{gw/default}:policy:head")


def holds(url: str, key: str) -> bool:
    """Say whether a node holds a key: another one would refer to it."""
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.exists(key))
        except redis.ResponseError:
            return False
