"""The way to a store in Redis: the client, its limits, and one kind of error for both planes.

The only module of the project that imports redis. Nothing connects before the first call.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, NewType

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    AuthenticationError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from switchboard_policy.store.address import (
    Cluster,
    Sentinels,
    check_files,
    parse_address,
    tls_files_of,
)
from switchboard_policy.store.contract import StoreRefused
from switchboard_policy.store.url_file import UrlFile, url_of

#: Blocking reads end within this, whatever the caller asked for: less than any socket's limit.
BLOCK_MS_MAX: Final = 2_000
#: More than any stream of ours has.
ENTRIES_MAX: Final = 1_000_000
#: Between two looks at streams that no single server of a Cluster can wait for, in seconds.
POLL_S: Final = 0.1

#: Part of what the client says → what a person can do about it.
_ADVICE: Final = (
    ("mismatch, certificate", "name the host in {setting} as the certificate does"),
    ("CERTIFICATE_REQUIRED", "give a certificate in {setting}: …&ssl_certfile=…&ssl_keyfile=…"),
    ("CERTIFICATE_VERIFY_FAILED", "name its authority in {setting}: …?ssl_ca_certs=FILE"),
    ("username-password", "correct the user and the password in {setting}"),
    ("Authentication required", "give a user and a password in {setting}"),
)

#: A script of the server, by ``StoreClient.script``.
Script = NewType("Script", object)

log = logging.getLogger(__name__)


class StoreClient:
    """Connections to a Redis or Valkey; ``store`` is a URL, as ``parse_address`` reads it.

    Or it is the file of one: when that says something else, calls go by connections of their own
    from then on, to whichever server and as whichever user. Those under way end as they began.

    A call that takes longer than ``timeout_s`` ends; nothing is tried again here. Raises ValueError
    for a URL that is none, or whose file of authorities is none. Every call may raise
    ConnectionError (the store is away), and StoreRefused, which is one.
    """

    def __init__(self, store: str | UrlFile, *, timeout_s: float) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._setting = (
            f"--redis-url-file {store.path}" if isinstance(store, UrlFile) else "--redis-url"
        )
        self._way = self._make(url_of(store))
        self._left: list[_Way] = []
        self._unfit: str = ""
        self._time_script = self.script("return redis.call('TIME')")

    @property
    def sharded(self) -> bool:
        """Whether the store is a Cluster now."""
        return self._look().sharded

    async def close(self) -> None:
        """Close the connections."""
        with _reaching_the_store(self._setting):
            for way in (self._way, *self._left):
                await way.close()

    def script(self, source: str) -> Script:
        """Return a script in Lua for ``run``, without a call."""
        return Script(self._way.client.register_script(source))

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script: all of it or nothing, while the store serves nobody else."""
        registered: Any = script
        async with self._reaching() as way:
            return await registered(keys=keys, args=args, client=way.client)

    async def pipeline(self, *commands: tuple[Any, ...], atomic: bool = False) -> Sequence[Any]:
        """Send commands together; return their answers. ``atomic``: nothing comes in between."""
        async with self._reaching() as way:
            pipe: Any = way.client.pipeline(transaction=atomic)
            async with pipe:
                for command in commands:
                    pipe.execute_command(*command)
                answers: Sequence[Any] = await pipe.execute()
                return answers

    async def streams(
        self, after: Mapping[str, str], *, timeout_ms: int, limit: int = ENTRIES_MAX
    ) -> Mapping[str, Sequence[tuple[bytes, Mapping[bytes, bytes]]]]:
        """Return what came in streams after the given ids: id and parts of each entry.

        Waits for the first for ``timeout_ms``, but not for longer than ``BLOCK_MS_MAX``. Of each
        stream come the first ``limit`` entries.
        """
        # BLOCK 0 would be for ever.
        wait_ms = max(1, min(timeout_ms, BLOCK_MS_MAX))
        if not self.sharded or len({key_slot(key.encode()) for key in after}) == 1:
            return _entries(await self.pipeline(_xread(after, limit, "BLOCK", wait_ms)))
        until = asyncio.get_running_loop().time() + wait_ms / 1000
        while True:
            each = (_xread({key: last}, limit) for key, last in after.items())
            found = _entries(await self.pipeline(*each))
            if found or asyncio.get_running_loop().time() >= until:
                return found
            await asyncio.sleep(POLL_S)

    async def everywhere(self, *command: Any) -> Sequence[Any]:
        """Send a command to every server that may be the one to answer; return their answers.

        In a Cluster these are all nodes; else it is the server, or the primary of the moment.
        """
        if not self.sharded:
            return await self.pipeline(command)
        async with self._reaching() as way:
            nodes: Any = (await way.client.initialize()).get_nodes()
            found: dict[str, Any] = await way.client.execute_command(*command, target_nodes=nodes)
            return list(found.values())

    async def now_ms(self, key: str) -> int:
        """Return the time by the clock of the server that has a key, in milliseconds."""
        seconds, microseconds = await self.run(self._time_script, [key], [])
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def eviction_policies(self) -> set[str]:
        """Return the ``maxmemory-policy`` of the server, or of each primary of a Cluster."""
        if not self.sharded:
            (memory,) = await self.pipeline(("INFO", "memory"))
            return {memory.get("maxmemory_policy", "unknown")}
        async with self._reaching() as way:
            nodes: Any = RedisCluster.PRIMARIES
            found = await way.client.execute_command("INFO", "memory", target_nodes=nodes)
            return {memory.get("maxmemory_policy", "unknown") for memory in found.values()}

    @asynccontextmanager
    async def _reaching(self) -> AsyncGenerator["_Way"]:
        way = self._look()
        way.calls += 1
        try:
            with _reaching_the_store(self._setting):
                idle = [each for each in self._left if not each.calls]
                # Before anything is awaited: another call would close them, too.
                self._left = [each for each in self._left if each.calls]
                for old in idle:
                    await old.close()
                yield way
        finally:
            way.calls -= 1

    def _look(self) -> "_Way":
        """Return the way of this moment: another one when the URL is another."""
        url = url_of(self._store)
        if url not in (self._way.url, self._unfit):
            try:
                made = self._make(url)
            except ValueError as error:
                self._unfit = url
                log.warning("the way to the store stays as it was: %s", error)
            else:
                self._left.append(self._way)
                self._way = made
        return self._way

    def _make(self, url: str) -> "_Way":
        try:
            return _Way(url, self._timeout_s)
        except ValueError as error:
            where = f"{self._store.path}: " if isinstance(self._store, UrlFile) else ""
            raise ValueError(f"{where}{error}") from error


class _Way:
    """The client of one URL, and how many calls are under way by it."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url = url
        self.client, self._sentinels = _connect(url, timeout_s)
        self.sharded = isinstance(self.client, RedisCluster)
        self.calls = 0

    async def close(self) -> None:
        for client in (self.client, *self._sentinels):
            await client.aclose()


def _xread(after: Mapping[str, str], limit: int, *options: Any) -> tuple[Any, ...]:
    return ("XREAD", "COUNT", limit, *options, "STREAMS", *after, *after.values())


def _entries(answers: Sequence[Any]) -> dict[str, Any]:
    return {key.decode(): entries for answer in answers for key, entries in answer or ()}


@contextmanager
def _reaching_the_store(setting: str) -> Generator[None]:
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    try:
        yield
    except (ResponseError, AuthenticationError) as error:
        raise StoreRefused(f"the store refuses: {_explained(error, setting)}") from error
    except (RedisError, RedisClusterException, OSError) as error:
        raise ConnectionError(f"the store is away: {_explained(error, setting)}") from error
    finally:
        # The client can lose a cancellation that comes together with an answer.
        if task and task.cancelling() > cancelled:
            raise asyncio.CancelledError


def _explained(error: Exception, setting: str) -> str:
    said = str(error)
    found = (advice.format(setting=setting) for part, advice in _ADVICE if part in said)
    return next((f"{said.rstrip('.')}; {advice}" for advice in found), said)


def _connect(url: str, timeout_s: float) -> tuple[Any, Sequence[Redis]]:
    address = parse_address(url)
    files = tls_files_of(url)
    check_files(url)
    options: dict[str, Any] = {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": timeout_s,
        "socket_keepalive": True,
        "socket_timeout": timeout_s,
    }
    # The client's constructors are not fully typed.
    server: Any = Redis
    cluster: Any = RedisCluster
    if isinstance(address, str):
        client = server.from_url(address, **options)
        try:
            client.connection_pool.make_connection()
        except (RedisError, TypeError):
            # What the client says names it, and it may be a part of a password.
            raise ValueError("a store's URL has an option that no store has") from None
        return client, ()
    if address.tls:
        options |= {
            "ssl": True,
            "ssl_ca_certs": files.authorities,
            "ssl_certfile": files.certificate,
            "ssl_keyfile": files.key,
        }
    login = {"username": address.username, "password": address.password}
    if isinstance(address, Cluster):
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        return cluster(startup_nodes=nodes, **login, **options), ()
    return _connect_by_sentinels(address, {**options, **login})


def _connect_by_sentinels(
    address: Sentinels, options: Mapping[str, Any]
) -> tuple[Any, Sequence[Redis]]:
    sentinel: Any = Sentinel
    login = {"username": address.sentinel_username, "password": address.sentinel_password}
    watchers = sentinel(
        address.hosts, sentinel_kwargs={**options, **login}, db=address.db, **options
    )
    return watchers.master_for(address.service), watchers.sentinels
