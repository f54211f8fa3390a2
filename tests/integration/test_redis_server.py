"""The Redis under the integration tests fails the way a real one does."""

from pathlib import Path

import pytest
import redis

from cluster.redis_server import RedisServer


def fill(client: redis.Redis) -> None:
    for number in range(100):
        client.set(f"key-{number}", "x" * 100_000)


def test_a_restart_loses_what_was_not_kept(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.set("a", "1")
    redis_server.restart()
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.get("a") is None


def test_a_durable_server_keeps_what_it_acknowledged(durable_redis_server: RedisServer) -> None:
    with redis.Redis.from_url(durable_redis_server.url) as client:
        client.set("a", "1")
    durable_redis_server.restart()
    with redis.Redis.from_url(durable_redis_server.url) as client:
        assert client.get("a") == b"1"
    durable_redis_server.restart(keep_data=False)
    with redis.Redis.from_url(durable_redis_server.url) as client:
        assert client.get("a") is None


def test_a_paused_server_hangs_and_a_killed_one_refuses(redis_server: RedisServer) -> None:
    with (
        redis.Redis.from_url(redis_server.url, socket_timeout=0.2, retry=None) as hurried,
        redis.Redis.from_url(redis_server.url, socket_timeout=60, retry=None) as client,
    ):
        redis_server.pause()
        with pytest.raises(redis.TimeoutError):
            hurried.ping()
        redis_server.resume()
        assert client.ping()
        redis_server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()


def test_a_full_server_refuses_and_never_evicts(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path, options=("--maxmemory", "2mb")) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            fill(client)
        assert client.exists("key-0")
