"""Users for single scopes: on a server, and on every node of a Cluster."""

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from cluster.processes import LOOPBACK
from cluster.redis_server import RedisCluster, RedisServer
from fakes.stores import OURS, SCOPE, contents
from switchboard_dataplane.sources.redis_source import RedisSource
from switchboard_operator.publisher import RedisStore
from switchboard_operator.store_users import StoreUsers
from switchboard_policy.store import CHANNELS, StoreRefused
from switchboard_policy.store.address import with_login

USER, PASSWORD = "switchboard-ns-app", "p@ss"


@pytest.fixture(scope="module", params=["server", "cluster"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer | RedisCluster]:
    folder = tmp_path_factory.mktemp(f"users-{request.param}")
    with RedisServer(folder) if request.param == "server" else RedisCluster(folder) as made:
        yield made


@pytest.fixture
async def users(running: RedisServer | RedisCluster) -> AsyncIterator[StoreUsers]:
    made = StoreUsers(running.url)
    yield made
    await made.close()


def logs_in(node: RedisServer, password: str) -> bool:
    with redis.Redis(LOOPBACK, node.port, username=USER, password=password) as client:
        try:
            client.time()
        except redis.exceptions.AuthenticationError:
            return False
        return True


async def test_a_user_follows_its_scope_until_it_is_dropped(
    running: RedisServer | RedisCluster, users: StoreUsers
) -> None:
    await users.put(USER, SCOPE, PASSWORD)
    assert USER in await users.names()
    # With a cluster no node is without it.
    nodes = running.nodes if isinstance(running, RedisCluster) else [running]
    for node in nodes:
        with redis.Redis(LOOPBACK, node.port) as client:
            assert USER in client.acl_users()
    writer = RedisStore(running.url, keyrings=lambda _: OURS)
    for channel in CHANNELS:
        await writer.replace(SCOPE, channel, epoch=1, contents=contents(1, 2))
    mine = RedisSource(with_login(running.url, USER, PASSWORD), scope=SCOPE)
    other = RedisSource(with_login(running.url, USER, PASSWORD), scope="ns/other")
    found = await mine.manifest("policy")
    assert found is not None
    assert len(found.fields) == len(contents(1, 2))
    with pytest.raises(StoreRefused, match="permissions"):
        await other.manifest("policy")
    for each in (mine, other):
        await each.close()
    await users.drop(USER)
    assert USER not in await users.names()
    for node in nodes:
        assert not logs_in(node, PASSWORD)
    await users.erase(SCOPE)
    for node in nodes:
        with redis.Redis(LOOPBACK, node.port) as client:
            assert client.dbsize() == 0
    await writer.close()


async def test_a_user_that_is_made_anew_has_the_new_password_alone(
    running: RedisServer | RedisCluster, users: StoreUsers
) -> None:
    await users.put(USER, SCOPE, "old")
    await users.put(USER, SCOPE, PASSWORD)
    for node in running.nodes if isinstance(running, RedisCluster) else [running]:
        assert logs_in(node, PASSWORD)
        assert not logs_in(node, "old")
