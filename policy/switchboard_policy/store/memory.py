"""The store inside one process, for ``switchboard dev``: the same steps, none of the sockets.

``MemoryStore`` is what a Redis server would hold; it is lost with the process. Its parts are open
to tests, which damage them as a disk or a stranger would. Time is an argument.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec

from switchboard_policy.errors import Deposed
from switchboard_policy.store.contract import (
    SILENT_MS,
    WORDS_KEPT_MS,
    ZERO,
    Channel,
    Field,
    Head,
    Heard,
    Line,
    Manifest,
    Pod,
    PodSeen,
    Record,
    Recorded,
    Registered,
    Retention,
    Revision,
    Word,
)
from switchboard_policy.store.layout import LOG_LINES_MAX
from switchboard_policy.store.ledger import Edit, Rewrite
from switchboard_policy.store.writer import At, Keyrings, LedgerWriter, Tail

#: Who spoke is remembered for this many acks; an operator reads them within milliseconds.
SPOKE_MAX: Final = 1_000


@dataclass(slots=True)
class StoredChannel:
    """What the store holds of a channel; ``retired`` maps digests to store times."""

    fence: int = 0
    head: Head | None = None
    fields: dict[str, Field] = field(default_factory=dict[str, Field])
    log: list[Line] = field(default_factory=list[Line])
    entries: dict[str, bytes] = field(default_factory=dict[str, bytes])
    retired: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def revision(self) -> Revision:
        """The head's, ZERO without one."""
        return self.head.revision if self.head else ZERO

    def manifest(self) -> Manifest | None:
        """Return head and fields; None before the first publication."""
        return Manifest(head=self.head, fields=dict(self.fields)) if self.head else None


@dataclass(slots=True)
class StoredPods:
    """What the store holds of a scope's data planes; ``acks`` counts their news, the last of which
    are of those that ``spoke``.

    ``words`` are what they told each other of late, ``decisions`` what they recorded and when,
    both by their numbers.
    """

    records: dict[str, Pod] = field(default_factory=dict[str, Pod])
    seen_ms: dict[str, int] = field(default_factory=dict[str, int])
    acks: int = 0
    spoke: deque[str] = field(default_factory=lambda: deque[str](maxlen=SPOKE_MAX))
    words: dict[int, Word] = field(default_factory=dict[int, Word])
    decisions: dict[int, tuple[int, Record]] = field(default_factory=dict[int, tuple[int, Record]])


class MemoryStore:
    """The place where the parts are kept; ``clock_ms`` is the store's clock."""

    def __init__(self, *, clock_ms: Callable[[], int], log_lines: int = LOG_LINES_MAX) -> None:
        self.clock_ms = clock_ms
        self.log_lines = log_lines
        self.channels: dict[At, StoredChannel] = {}
        self.scopes: dict[str, StoredPods] = {}
        self.news = asyncio.Condition()
        #: How many words were said and records made; no flush gives a number to another one.
        self.said = 0

    def channel(self, scope: str, channel: Channel) -> StoredChannel:
        """Return the parts of a channel, empty ones if nothing is there."""
        return self.channels.setdefault(At(scope, channel), StoredChannel())

    def pods(self, scope: str) -> StoredPods:
        """Return the data planes of a scope."""
        return self.scopes.setdefault(scope, StoredPods())

    def writer(self, *, keyrings: Keyrings) -> "MemoryWriter":
        """Return a StoreWriter on this store."""
        return MemoryWriter(self, keyrings=keyrings)

    def reader(self, scope: str) -> "MemoryReader":
        """Return a StoreReader of one scope of this store."""
        return MemoryReader(self, scope=scope)

    def flush(self) -> None:
        """Lose everything."""
        self.channels.clear()
        self.scopes.clear()

    async def announce(self) -> None:
        """Wake who waits for lines or acks."""
        async with self.news:
            self.news.notify_all()

    async def wait_until(self, there: Callable[[], bool], *, timeout_ms: int) -> None:
        """Wait until ``there`` holds or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_ms / 1000), self.news:
                await self.news.wait_for(there)


class MemoryWriter(LedgerWriter):
    """A StoreWriter on a MemoryStore."""

    def __init__(self, store: MemoryStore, *, keyrings: Keyrings) -> None:
        super().__init__(keyrings=keyrings)
        self._store = store
        self._acks_read: dict[str, int] = {}

    async def epoch(self, scopes: Sequence[str]) -> int:
        """See ``StoreWriter.epoch``."""
        held = [parts for at, parts in self._store.channels.items() if at.scope in scopes]
        return max((max(parts.fence, parts.revision.epoch) for parts in held), default=0)

    async def head(self, scope: str, channel: Channel) -> Head | None:
        """See ``StoreWriter.head``."""
        return self._store.channel(scope, channel).head

    async def manifest(self, scope: str, channel: Channel) -> Manifest | None:
        """See ``StoreWriter.manifest``."""
        return self._store.channel(scope, channel).manifest()

    async def tail(self, at: At) -> Tail:
        """See ``LedgerWriter.tail``."""
        parts = self._store.channel(*at)
        line = parts.log[-1].revision if parts.log else ZERO
        return Tail(head=parts.head, fields=len(parts.fields), line=line)

    async def claim(self, at: At, *, epoch: int) -> Manifest | None:
        """See ``LedgerWriter.claim``."""
        return self._fenced(at, epoch).manifest()

    async def carry_out(self, at: At, step: Edit | Rewrite, *, epoch: int) -> bool:
        """See ``LedgerWriter.carry_out``."""
        parts = self._fenced(at, epoch)
        if parts.revision != step.expected:
            return False
        lines = step.lines if isinstance(step, Edit) else (step.line,)
        now_ms = self._store.clock_ms()
        if isinstance(step, Edit):
            if parts.log and parts.log[-1].revision >= lines[0].revision:
                return False
            parts.entries.update(step.bodies)
            for key in step.removed:
                parts.fields.pop(key, None)
        else:
            parts.fields.clear()
            parts.log.clear()
        parts.log.extend(msgspec.structs.replace(line, at_ms=now_ms) for line in lines)
        del parts.log[: -self._store.log_lines]
        for digest in step.retired:
            parts.retired.setdefault(digest, now_ms)
        for field_ in step.fields:
            parts.fields[field_.object] = field_
            parts.retired.pop(field_.digest, None)
        parts.head = step.head
        await self._store.announce()
        return True

    async def bodies(self, at: At, digests: Sequence[str]) -> Mapping[str, bytes]:
        """See ``LedgerWriter.bodies``."""
        entries = self._store.channel(*at).entries
        return {digest: entries[digest] for digest in digests if digest in entries}

    async def put(self, at: At, bodies: Mapping[str, bytes]) -> None:
        """See ``LedgerWriter.put``."""
        parts = self._store.channel(*at)
        for digest, body in bodies.items():
            parts.entries[digest] = body
            parts.retired.setdefault(digest, self._store.clock_ms())

    async def unreferenced(self, at: At, *, for_ms: int) -> Sequence[str]:
        """See ``LedgerWriter.unreferenced``."""
        until_ms = self._store.clock_ms() - for_ms
        retired = self._store.channel(*at).retired
        return [digest for digest, at_ms in retired.items() if at_ms <= until_ms]

    async def drop(self, at: At, *, epoch: int, delete: Sequence[str], keep: Sequence[str]) -> None:
        """See ``LedgerWriter.drop``."""
        parts = self._fenced(at, epoch)
        for digest in (*delete, *keep):
            parts.retired.pop(digest, None)
        for digest in delete:
            parts.entries.pop(digest, None)

    async def pods(self, scope: str) -> Sequence[PodSeen]:
        """See ``StoreWriter.pods``."""
        held, now_ms = self._store.pods(scope), self._store.clock_ms()
        return [
            PodSeen(pod=pod, age_ms=now_ms - held.seen_ms[name])
            for name, pod in held.records.items()
        ]

    async def forget(self, scope: str, pod: str) -> None:
        """See ``StoreWriter.forget``."""
        await self._store.reader(scope).goodbye(pod)

    async def wait_for_acks(
        self, scopes: Sequence[str], *, timeout_ms: int
    ) -> Mapping[str, Set[str]]:
        """See ``StoreWriter.wait_for_acks``."""

        def news() -> dict[str, int]:
            held = {scope: self._store.pods(scope).acks for scope in scopes}
            return {
                scope: acks - read
                for scope, acks in held.items()
                if (read := self._acks_read.get(scope, 0)) != acks
            }

        await self._store.wait_until(lambda: bool(news()), timeout_ms=timeout_ms)
        found = news()
        self._acks_read.update({scope: self._store.pods(scope).acks for scope in found})
        # After a flush the count begins anew: all that is there is news.
        return {
            scope: set(list(self._store.pods(scope).spoke)[-count if count > 0 else 0 :])
            for scope, count in found.items()
        }

    def _fenced(self, at: At, epoch: int) -> StoredChannel:
        parts = self._store.channel(*at)
        held = max(parts.fence, parts.revision.epoch)
        if held > epoch:
            raise Deposed(held)
        parts.fence = epoch
        return parts


class MemoryReader:
    """A StoreReader of one scope of a MemoryStore."""

    def __init__(self, store: MemoryStore, *, scope: str) -> None:
        self._store = store
        self._scope = scope

    async def head(self, channel: Channel) -> Head | None:
        """See ``StoreReader.head``."""
        return self._store.channel(self._scope, channel).head

    async def manifest(self, channel: Channel) -> Manifest | None:
        """See ``StoreReader.manifest``."""
        return self._store.channel(self._scope, channel).manifest()

    async def entries(self, channel: Channel, digests: Sequence[str]) -> Mapping[str, bytes]:
        """See ``StoreReader.entries``."""
        entries = self._store.channel(self._scope, channel).entries
        return {digest: entries[digest] for digest in digests if digest in entries}

    async def lines(
        self, after: Mapping[Channel, Revision], *, timeout_ms: int
    ) -> Mapping[Channel, Sequence[Line]]:
        """See ``StoreReader.lines``."""
        await self._store.wait_until(lambda: bool(self._lines(after)), timeout_ms=timeout_ms)
        return self._lines(after)

    async def register(self, pod: Pod) -> Registered:
        """See ``StoreReader.register``."""
        held, now_ms = self._store.pods(self._scope), self._store.clock_ms()
        held.seen_ms[pod.name] = now_ms
        if held.records.get(pod.name) != pod:
            held.records[pod.name] = pod
            held.acks += 1
            held.spoke.append(pod.name)
            await self._store.announce()
        live = [name for name, seen_ms in held.seen_ms.items() if now_ms - seen_ms < SILENT_MS]
        return Registered(pods=tuple(sorted(live)), at_ms=now_ms)

    async def goodbye(self, pod: str) -> None:
        """See ``StoreReader.goodbye``."""
        held = self._store.pods(self._scope)
        held.seen_ms.pop(pod, None)
        if held.records.pop(pod, None) is not None:
            held.acks += 1
            held.spoke.append(pod)
            await self._store.announce()

    async def share(self, word: Word) -> None:
        """See ``StoreReader.share``."""
        held, oldest_ms = self._store.pods(self._scope), word.said_ms - WORDS_KEPT_MS
        self._store.said += 1
        kept = {number: one for number, one in held.words.items() if one.said_ms >= oldest_ms}
        held.words = {**kept, self._store.said: word}
        await self._store.announce()

    async def shared(self, after: str, *, timeout_ms: int) -> Heard:
        """See ``StoreReader.shared``."""
        last = int(after or 0)

        def news() -> Mapping[int, Word]:
            words = self._store.pods(self._scope).words
            return {number: word for number, word in words.items() if number > last}

        await self._store.wait_until(lambda: bool(news()), timeout_ms=timeout_ms)
        found = news()
        return Heard(
            words=tuple(found.values()),
            after=str(max(found, default=last)),
            at_ms=self._store.clock_ms(),
        )

    async def record(self, records: Sequence[Record], *, keep: Retention) -> None:
        """See ``StoreReader.record``."""
        decisions, now_ms = self._store.pods(self._scope).decisions, self._store.clock_ms()
        for one in records:
            self._store.said += 1
            decisions[self._store.said] = now_ms, one
        for number, (at_ms, _) in list(decisions.items()):
            if len(decisions) <= keep.entries and at_ms >= now_ms - keep.age_ms:
                break
            del decisions[number]

    async def recorded(self, after: str, *, limit: int) -> Recorded:
        """See ``StoreReader.recorded``."""
        last, decisions = int(after or 0), self._store.pods(self._scope).decisions
        found = [number for number in decisions if number > last][:limit]
        return Recorded(
            records=[decisions[number][1] for number in found],
            after=str(found[-1] if found else last),
        )

    def _lines(self, after: Mapping[Channel, Revision]) -> Mapping[Channel, Sequence[Line]]:
        found: dict[Channel, Sequence[Line]] = {}
        for channel, revision in after.items():
            log = self._store.channel(self._scope, channel).log
            if lines := [line for line in log if line.revision > revision]:
                found[channel] = lines
        return found
