"""A data plane as far as the store goes: a follower, and the entries that it put in force."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

from fakes.virtual_time import eventually
from switchboard_dataplane.sources.disk import DiskSnapshot
from switchboard_dataplane.sources.follow import Follower
from switchboard_dataplane.sources.state import Update
from switchboard_policy.seal import Keyring
from switchboard_policy.store import (
    ZERO,
    Channel,
    Head,
    Heard,
    Line,
    Manifest,
    Pod,
    Record,
    Recorded,
    Registered,
    Retention,
    Revision,
    StoreReader,
    Word,
)

if TYPE_CHECKING:
    from switchboard_policy.ir import Entry


class FakePlane:
    """Follows from ``async with`` to its end.

    ``in_force`` is what requests would see, ``updates`` what led to it; objects in ``refuses`` are
    not put in force.
    """

    def __init__(
        self,
        source: StoreReader,
        ring: Keyring,
        *,
        name: str = "pod-1",
        disk: DiskSnapshot | None = None,
    ) -> None:
        self.in_force: dict[str, Entry] = {}
        self.updates: list[Update] = []
        self.refuses: Mapping[str, str] = {}
        self.ring = ring
        self.on_update: Callable[[], None] = lambda: None
        self.follower = Follower(
            source,
            pod=Pod(name=name, revision=ZERO),
            keyring=lambda: self.ring,
            apply=self._apply,
            clock=asyncio.get_running_loop().time,
            random=Random(7),
            disk=disk,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "FakePlane":
        self._task = asyncio.create_task(self.follower.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        if self._task and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.result()

    def revision(self, channel: Channel = "policy") -> Revision:
        assert self._task is not None
        if self._task.done():
            self._task.result()
        return self.follower.state().revisions[channel]

    async def at(self, revision: Revision, channel: Channel = "policy") -> None:
        """Wait until the follower is there (or beyond)."""
        await eventually(lambda: self.revision(channel) >= revision)

    async def _apply(self, update: Update) -> Mapping[str, str]:
        self.updates.append(update)
        refused = {key: why for key, why in self.refuses.items() if key in update.changed}
        for name in update.removed:
            self.in_force.pop(name, None)
        self.in_force |= {k: v for k, v in update.changed.items() if k not in refused}
        self.on_update()
        return refused


class FaultyReader:
    """A way to the store that may be cut, may lose manifests and deliver other bytes."""

    def __init__(self, reader: StoreReader) -> None:
        self.cut = False
        self.forgetful = False
        self.bodies: dict[str, bytes | None] = {}
        self._reader = reader

    async def head(self, channel: Channel) -> Head | None:
        return await self._through().head(channel)

    async def manifest(self, channel: Channel) -> Manifest | None:
        found = await self._through().manifest(channel)
        return None if self.forgetful else found

    async def entries(self, channel: Channel, digests: Sequence[str]) -> Mapping[str, bytes]:
        found = {**await self._through().entries(channel, digests), **self.bodies}
        return {
            digest: body for digest, body in found.items() if digest in digests and body is not None
        }

    async def lines(
        self, after: Mapping[Channel, Revision], *, timeout_ms: int
    ) -> Mapping[Channel, Sequence[Line]]:
        found = await self._through().lines(after, timeout_ms=timeout_ms)
        self._through()
        return found

    async def register(self, pod: Pod) -> Registered:
        return await self._through().register(pod)

    async def goodbye(self, pod: str) -> None:
        await self._through().goodbye(pod)

    async def share(self, word: Word) -> None:
        await self._through().share(word)

    async def shared(self, after: str, *, timeout_ms: int) -> Heard:
        found = await self._through().shared(after, timeout_ms=timeout_ms)
        self._through()
        return found

    async def record(self, records: Sequence[Record], *, keep: Retention) -> None:
        await self._through().record(records, keep=keep)

    async def recorded(self, after: str, *, limit: int) -> Recorded:
        return await self._through().recorded(after, limit=limit)

    def _through(self) -> StoreReader:
        if self.cut:
            raise ConnectionError("the way to the store is cut")
        return self._reader
