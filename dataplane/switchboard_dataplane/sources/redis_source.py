"""The store in Redis, read: one scope's channels, and what the pod says of itself.

Where things are is in ``switchboard_policy.store.layout``. Nothing is checked here: the follower
verifies what it gets, from whichever store.
"""

import asyncio
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from switchboard_policy.store import (
    SILENT_MS,
    Channel,
    Head,
    Line,
    Manifest,
    Pod,
    Registered,
    Revision,
)
from switchboard_policy.store.address import parse_address
from switchboard_policy.store.layout import (
    ACKS_MAX,
    channel_keys,
    pod_keys,
    read_fields,
    read_head,
    read_line,
)

#: A store that does not answer within this is away. Nobody waits for it but the follower.
TIMEOUT_S: Final = 3.0
#: Blocking reads end within this, whatever the caller asked for: less than the socket's limit.
BLOCK_MS_MAX: Final = 2_000
#: Bodies are fetched in portions of this many (some 400 KB).
ENTRIES_AT_ONCE: Final = 250

# The operator is told only of news; a heartbeat is the time of the last word alone.
_REGISTER: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'pod', ARGV[1])
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
return {redis.call('ZCOUNT', KEYS[2], '(' .. (now - ARGV[3]), '+inf'), now}
"""


class RedisSource:
    """A StoreReader on Redis or Valkey; ``url`` is what ``parse_address`` reads.

    Nothing connects before the first call. Raises ValueError for a URL that is none.
    """

    def __init__(self, url: str, *, scope: str) -> None:
        self._redis, self._sentinels = _connect(url)
        self._scope = scope
        self._register_script: Any = self._redis.register_script(_REGISTER)

    async def close(self) -> None:
        """Close the connections."""
        with _reaching_the_store():
            for client in (self._redis, *self._sentinels):
                await client.aclose()

    async def head(self, channel: Channel) -> Head | None:
        """See ``StoreReader.head``."""
        (parts,) = await self._pipeline(("HGETALL", channel_keys(self._scope, channel).head))
        return read_head(parts)

    async def manifest(self, channel: Channel) -> Manifest | None:
        """See ``StoreReader.manifest``."""
        keys = channel_keys(self._scope, channel)
        parts, fields = await self._pipeline(
            ("HGETALL", keys.head), ("HGETALL", keys.manifest), atomic=True
        )
        head = read_head(parts)
        return Manifest(head=head, fields=read_fields(fields)) if head else None

    async def entries(self, channel: Channel, digests: Sequence[str]) -> Mapping[str, bytes]:
        """See ``StoreReader.entries``."""
        keys, found = channel_keys(self._scope, channel), dict[str, bytes]()
        for start in range(0, len(digests), ENTRIES_AT_ONCE):
            portion = digests[start : start + ENTRIES_AT_ONCE]
            (bodies,) = await self._pipeline(("MGET", *map(keys.entry, portion)))
            pairs = zip(portion, bodies, strict=True)
            found |= {digest: body for digest, body in pairs if body is not None}
        return found

    async def lines(
        self, after: Mapping[Channel, Revision], *, timeout_ms: int
    ) -> Mapping[Channel, Sequence[Line]]:
        """See ``StoreReader.lines``."""
        logs: dict[bytes, Channel] = {
            channel_keys(self._scope, channel).log.encode(): channel for channel in after
        }
        ids = map(str, after.values())
        # BLOCK 0 would be for ever.
        block_ms = max(1, min(timeout_ms, BLOCK_MS_MAX))
        (found,) = await self._pipeline(("XREAD", "BLOCK", block_ms, "STREAMS", *logs, *ids))
        lines: dict[Channel, Sequence[Line]] = {}
        for log, entries in found or ():
            lines[logs[log]] = [read_line(line_id, parts) for line_id, parts in entries]
        return lines

    async def register(self, pod: Pod) -> Registered:
        """See ``StoreReader.register``."""
        keys = pod_keys(self._scope)
        record = msgspec.json.encode(pod, order="deterministic")
        with _reaching_the_store():
            live_pods, at_ms = await self._register_script(
                keys=[keys.pods, keys.seen, keys.acks],
                args=[pod.name, record, SILENT_MS, ACKS_MAX],
            )
        return Registered(live_pods=live_pods, at_ms=at_ms)

    async def goodbye(self, pod: str) -> None:
        """See ``StoreReader.goodbye``."""
        keys = pod_keys(self._scope)
        await self._pipeline(
            ("HDEL", keys.pods, pod),
            ("ZREM", keys.seen, pod),
            ("XADD", keys.acks, "MAXLEN", "~", ACKS_MAX, "*", "pod", pod),
            atomic=True,
        )

    async def _pipeline(self, *commands: tuple[Any, ...], atomic: bool = False) -> Sequence[Any]:
        with _reaching_the_store():
            pipe: Any = self._redis.pipeline(transaction=atomic)
            async with pipe:
                for command in commands:
                    pipe.execute_command(*command)
                answers: Sequence[Any] = await pipe.execute()
                return answers


@contextmanager
def _reaching_the_store() -> Generator[None]:
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    try:
        yield
    except (RedisError, OSError) as error:
        raise ConnectionError(f"the store is away: {error}") from error
    finally:
        # The client can lose a cancellation that comes together with an answer.
        if task and task.cancelling() > cancelled:
            raise asyncio.CancelledError


def _connect(url: str) -> tuple[Redis, Sequence[Redis]]:
    address = parse_address(url)
    # The client's constructors are not fully typed.
    server: Any = Redis
    sentinel: Any = Sentinel
    options: dict[str, Any] = {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": TIMEOUT_S,
        "socket_keepalive": True,
        "socket_timeout": TIMEOUT_S,
    }
    if isinstance(address, str):
        client: Redis = server.from_url(address, **options)
        return client, ()
    if address.tls:
        options |= {"ssl": True, "ssl_ca_certs": address.ca_file}
    login = {"username": address.sentinel_username, "password": address.sentinel_password}
    watchers = sentinel(
        address.hosts,
        sentinel_kwargs={**options, **login},
        db=address.db,
        username=address.username,
        password=address.password,
        **options,
    )
    return watchers.master_for(address.service), watchers.sentinels
