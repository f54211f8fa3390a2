"""Stores for the contract tests: in-process and Redis, with the damage that each may take."""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import msgspec
from redis.asyncio import Redis

from switchboard_dataplane.sources.redis_source import RedisSource
from switchboard_operator.publisher import RedisStore
from switchboard_policy.codec import Encoded, encode
from switchboard_policy.ir import Backend, Entry
from switchboard_policy.names import backend_key
from switchboard_policy.seal import KEY_BYTES, Keyring, read_keyring, write_key_file
from switchboard_policy.store import Channel, Field, Head, Line, StoreReader, StoreWriter
from switchboard_policy.store.layout import channel_keys, pod_keys
from switchboard_policy.store.memory import MemoryStore
from switchboard_policy.store.writer import At

SCOPE = "gw/test"


def keyring(*seeds: int, scope: str = SCOPE) -> Keyring:
    """A keyring with one key a seed; the last one writes."""
    keys = {f"k{seed}": random.Random(seed).randbytes(KEY_BYTES) for seed in seeds}
    return read_keyring(scope, write_key_file(f"k{seeds[-1]}", keys))


OURS = keyring(1)
STRANGER = keyring(666)


def backend(number: int, version: int = 0) -> Encoded:
    """A backend's entry; another version has another digest."""
    return encode(
        Backend(
            name=f"ai/b{number}",
            uid=f"uid-{number}",
            model=f"model-{version}",
            provider="openai",
            external=True,
            url=f"https://b{number}.example/v1",
        )
    )


def key(number: int) -> str:
    """The object key of ``backend(number)``."""
    return backend_key("ai", f"b{number}")


def contents(*numbers: int, version: int = 0) -> dict[str, Encoded]:
    """Backends by object key."""
    return {key(number): backend(number, version) for number in numbers}


def entry(number: int, version: int = 0) -> Entry:
    """The entry that ``backend`` encodes."""
    return backend(number, version).entry


class StoreRig(ABC):
    """A store, its sides, and what may happen to it."""

    @abstractmethod
    def writer(self, ring: Keyring = OURS) -> StoreWriter:
        """An operator's side with no memory, as after its start."""

    @abstractmethod
    def reader(self) -> StoreReader:
        """A data plane's side."""

    @abstractmethod
    async def flush(self) -> None:
        """The store forgets everything."""

    @abstractmethod
    async def advance(self, ms: int) -> None:
        """Time goes by, as far as marks and heartbeats are concerned."""

    @abstractmethod
    async def entries(self, channel: Channel) -> set[str]:
        """The digests that have an entry."""

    @abstractmethod
    async def set_entry(self, channel: Channel, digest: str, body: bytes | None) -> None:
        """Put other bytes in an entry's place, or take it away."""

    @abstractmethod
    async def set_field(self, channel: Channel, name: str, field: Field | None) -> None:
        """Put a field into the manifest, or take one away."""

    @abstractmethod
    async def set_head(self, channel: Channel, head: Head) -> None:
        """Put another head in place."""

    @abstractmethod
    async def add_line(self, channel: Channel, line: Line) -> None:
        """Add a line to the log, as it is."""

    @abstractmethod
    async def trim_log(self, channel: Channel, keep: int) -> None:
        """Forget all but the newest lines."""

    @abstractmethod
    async def log(self, channel: Channel) -> Sequence[Line]:
        """All lines that are left."""

    @abstractmethod
    async def copy(self, channel: Channel) -> Any:
        """What a replica that then falls behind would hold."""

    @abstractmethod
    async def go_back(self, channel: Channel, copy: Any) -> None:
        """Fail over to that replica."""


class MemoryRig(StoreRig):
    """The in-process store."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.store = MemoryStore(clock_ms=lambda: self.now_ms)

    def writer(self, ring: Keyring = OURS) -> StoreWriter:
        return self.store.writer(keyrings=lambda _: ring)

    def reader(self) -> StoreReader:
        return self.store.reader(SCOPE)

    async def flush(self) -> None:
        self.store.flush()

    async def advance(self, ms: int) -> None:
        self.now_ms += ms

    async def entries(self, channel: Channel) -> set[str]:
        return set(self.store.channel(SCOPE, channel).entries)

    async def set_entry(self, channel: Channel, digest: str, body: bytes | None) -> None:
        entries = self.store.channel(SCOPE, channel).entries
        if body is None:
            entries.pop(digest, None)
        else:
            entries[digest] = body

    async def set_field(self, channel: Channel, name: str, field: Field | None) -> None:
        fields = self.store.channel(SCOPE, channel).fields
        if field is None:
            fields.pop(name, None)
        else:
            fields[name] = field

    async def set_head(self, channel: Channel, head: Head) -> None:
        self.store.channel(SCOPE, channel).head = head

    async def add_line(self, channel: Channel, line: Line) -> None:
        self.store.channel(SCOPE, channel).log.append(line)
        await self.store.announce()

    async def trim_log(self, channel: Channel, keep: int) -> None:
        log = self.store.channel(SCOPE, channel).log
        del log[: len(log) - keep]

    async def log(self, channel: Channel) -> Sequence[Line]:
        return list(self.store.channel(SCOPE, channel).log)

    async def copy(self, channel: Channel) -> Any:
        return deepcopy(self.store.channel(SCOPE, channel))

    async def go_back(self, channel: Channel, copy: Any) -> None:
        self.store.channels[At(SCOPE, channel)] = copy


class RedisRig(StoreRig):
    """A real server, or a Cluster; ``client`` does the damage."""

    def __init__(self, url: str, *, client: Any = None) -> None:
        self.url = url
        self.client: Any = client or Redis.from_url(url, protocol=2)
        self._open: list[Any] = []

    async def close(self) -> None:
        for peer in self._open:
            await peer.close()
        await self.client.aclose()

    def writer(self, ring: Keyring = OURS) -> RedisStore:
        store = RedisStore(self.url, keyrings=lambda _: ring)
        self._open.append(store)
        return store

    def reader(self) -> RedisSource:
        source = RedisSource(self.url, scope=SCOPE)
        self._open.append(source)
        return source

    async def flush(self) -> None:
        await self.client.flushall()

    async def advance(self, ms: int) -> None:
        for channel in ("policy", "endpoints"):
            await self._age(channel_keys(SCOPE, channel).retired, ms)
        await self._age(pod_keys(SCOPE).seen, ms)

    async def entries(self, channel: Channel) -> set[str]:
        start = channel_keys(SCOPE, channel).entries
        found = await self.client.keys("*")
        return {
            name.decode().removeprefix(start) for name in found if name.decode().startswith(start)
        }

    async def set_entry(self, channel: Channel, digest: str, body: bytes | None) -> None:
        name = channel_keys(SCOPE, channel).entry(digest)
        await (self.client.delete(name) if body is None else self.client.set(name, body))

    async def set_field(self, channel: Channel, name: str, field: Field | None) -> None:
        manifest = channel_keys(SCOPE, channel).manifest
        if field is None:
            await self.client.hdel(manifest, name)
        else:
            await self.client.hset(manifest, name, msgspec.json.encode(field))

    async def set_head(self, channel: Channel, head: Head) -> None:
        said: Mapping[str, Any] = {
            "epoch": head.revision.epoch,
            "sequence": head.revision.sequence,
            "format": head.format,
            "mac": head.mac,
        }
        await self.client.hset(channel_keys(SCOPE, channel).head, mapping=said)

    async def add_line(self, channel: Channel, line: Line) -> None:
        said = {"line": msgspec.json.encode(line)}
        await self.client.xadd(channel_keys(SCOPE, channel).log, said, id=str(line.revision))

    async def trim_log(self, channel: Channel, keep: int) -> None:
        await self.client.xtrim(channel_keys(SCOPE, channel).log, maxlen=keep, approximate=False)

    async def log(self, channel: Channel) -> Sequence[Line]:
        found = await self.client.xrange(channel_keys(SCOPE, channel).log)
        return [msgspec.json.decode(parts[b"line"], type=Line) for _, parts in found]

    async def copy(self, channel: Channel) -> Any:
        return {name: await self.client.dump(name) for name in self._parts(channel)}

    async def go_back(self, channel: Channel, copy: Any) -> None:
        for name, raw in copy.items():
            await self.client.delete(name)
            if raw is not None:
                await self.client.restore(name, 0, raw)

    async def _age(self, marks: str, ms: int) -> None:
        for name in await self.client.zrange(marks, 0, -1):
            await self.client.zincrby(marks, -ms, name)

    @staticmethod
    def _parts(channel: Channel) -> Iterator[str]:
        keys = channel_keys(SCOPE, channel)
        yield from (keys.head, keys.manifest, keys.log, keys.retired)
