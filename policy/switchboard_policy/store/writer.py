"""What every form of the writer does alike: remember, plan a step, try it, catch up, repair.

A form of the store carries out single steps, each whole or not at all; this class decides which.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from switchboard_policy.codec import Encoded
from switchboard_policy.errors import Deposed
from switchboard_policy.seal import Keyring
from switchboard_policy.store.contract import CHANNELS, Channel, Field, Head, Manifest, Revision
from switchboard_policy.store.ledger import (
    Edit,
    Ledger,
    Rewrite,
    batches,
    catch_up,
    differences,
    must_rewrite,
    plan_continuation,
    plan_edit,
    plan_rewrite,
)

Keyrings = Callable[[str], Keyring]

#: Bodies are compared in portions of this many (some 400 KB).
AUDIT_ENTRIES: Final = 250
#: One try meets a lost answer, the next a store that went back in time; more means a second writer.
_TRIES: Final = 4


class At(NamedTuple):
    """Which channel of which scope."""

    scope: str
    channel: Channel


class Tail(NamedTuple):
    """What is cheap to compare: the head, how many fields, the newest line's revision."""

    head: Head | None
    fields: int
    line: Revision


class _Known(NamedTuple):
    epoch: int
    ledger: Ledger


class LedgerWriter(ABC):
    """The publishing part of a StoreWriter; ``keyrings`` returns a scope's keys of this moment."""

    def __init__(self, *, keyrings: Keyrings) -> None:
        self._keyrings = keyrings
        self._known: dict[At, _Known] = {}
        self._locks: defaultdict[At, asyncio.Lock] = defaultdict(asyncio.Lock)
        #: What this writer published, by object: a store that lost it is filled from here.
        self._published: defaultdict[At, dict[str, Encoded]] = defaultdict(dict)
        #: Channels whose manifest was written again although not all entries were known.
        self._hollow: set[At] = set()
        #: The highest sequence of any scope that was let go: one that comes again goes on there.
        self._burned = 0

    @abstractmethod
    async def tail(self, at: At) -> Tail:
        """Read what ``intact`` compares."""

    @abstractmethod
    async def claim(self, at: At, *, epoch: int) -> Manifest | None:
        """Shut out older epochs, and return what the store holds; raises Deposed."""

    @abstractmethod
    async def carry_out(self, at: At, step: Edit | Rewrite, *, epoch: int) -> bool:
        """Do all of the step; False and nothing if the head is not the expected one.

        Raises Deposed.
        """

    @abstractmethod
    async def bodies(self, at: At, digests: Sequence[str]) -> Mapping[str, bytes]:
        """Return the bodies that the store holds of these digests."""

    @abstractmethod
    async def put(self, at: At, bodies: Mapping[str, bytes]) -> None:
        """Write entries ahead of the step that refers to them, marked as not referenced."""

    @abstractmethod
    async def unreferenced(self, at: At, *, for_ms: int) -> Sequence[str]:
        """Return some of the digests that were marked at least that long ago."""

    @abstractmethod
    async def drop(self, at: At, *, epoch: int, delete: Sequence[str], keep: Sequence[str]) -> None:
        """Delete entries, and take the marks off all these digests; raises Deposed."""

    async def intact(self, scope: str, channel: Channel) -> bool:
        """See ``StoreWriter.intact``."""
        known = self._known.get(At(scope, channel))
        if known is None or known.ledger.head is None or At(scope, channel) in self._hollow:
            return False
        ledger = known.ledger
        expected = Tail(head=ledger.head, fields=len(ledger.fields), line=ledger.revision)
        return await self.tail(At(scope, channel)) == expected

    def fields(self, scope: str, channel: Channel) -> Mapping[str, Field]:
        """See ``StoreWriter.fields``."""
        known = self._known.get(At(scope, channel))
        return known.ledger.fields if known else {}

    async def publish(
        self, scope: str, channel: Channel, *, epoch: int, changes: Mapping[str, Encoded | None]
    ) -> Revision:
        """See ``StoreWriter.publish``."""
        at = At(scope, channel)
        async with self._locks[at]:
            ledger = await self._ledger(at, epoch)
            if ledger.head is None:
                contents = {key: said for key, said in changes.items() if said is not None}
                return await self._replace(at, epoch, contents)
            return await self._publish(at, epoch, changes)

    async def replace(
        self, scope: str, channel: Channel, *, epoch: int, contents: Mapping[str, Encoded]
    ) -> Revision:
        """See ``StoreWriter.replace``."""
        at = At(scope, channel)
        async with self._locks[at]:
            return await self._replace(at, epoch, contents)

    async def collect(
        self, scope: str, channel: Channel, *, epoch: int, unreferenced_ms: int
    ) -> int:
        """See ``StoreWriter.collect``."""
        at, deleted = At(scope, channel), 0
        async with self._locks[at]:
            ledger = await self._ledger(at, epoch)
            # The mark alone is no proof: a lost entry that was put again has one, too.
            referenced = {field.digest for field in ledger.fields.values()}
            while due := await self.unreferenced(at, for_ms=unreferenced_ms):
                delete = [digest for digest in due if digest not in referenced]
                keep = [digest for digest in due if digest in referenced]
                await self.drop(at, epoch=epoch, delete=delete, keep=keep)
                deleted += len(delete)
        return deleted

    def let_go(self, scope: str) -> None:
        """See ``StoreWriter.let_go``."""
        for channel in CHANNELS:
            at = At(scope, channel)
            known = self._known.pop(at, None)
            self._burned = max(self._burned, known.ledger.burned if known else 0)
            self._published.pop(at, None)
            self._hollow.discard(at)
            self._locks.pop(at, None)

    async def _ledger(self, at: At, epoch: int) -> Ledger:
        known = self._known.get(at)
        if known is not None and known.epoch > epoch:
            raise Deposed(known.epoch)
        if known is None or known.epoch < epoch:
            # What an earlier term remembers is not what the leaders since then wrote.
            found = await self.claim(at, epoch=epoch)
            ledger = Ledger.adopt(self._keyring(at), at.channel, found).burn(self._burned)
            return self._remember(at, epoch, ledger)
        return known.ledger

    async def _publish(self, at: At, epoch: int, changes: Mapping[str, Encoded | None]) -> Revision:
        for batch in batches(changes):
            for _ in range(_TRIES):
                ledger = await self._ledger(at, epoch)
                edit = plan_edit(ledger, self._keyring(at), epoch=epoch, changes=batch)
                if edit is None or await self._try(at, epoch, ledger, edit):
                    break
                await self._recover(at, epoch, ledger, batch)
            else:
                raise _contended(at)
            _update(self._published[at], batch)
        return (await self._ledger(at, epoch)).revision

    async def _replace(self, at: At, epoch: int, contents: Mapping[str, Encoded]) -> Revision:
        keyring = self._keyring(at)
        for _ in range(_TRIES):
            known = await self._ledger(at, epoch)
            found = await self.claim(at, epoch=epoch)
            ledger = self._remember(at, epoch, catch_up(known, keyring, found))
            line = (await self.tail(at)).line
            if line == ledger.revision and not must_rewrite(ledger, keyring, found):
                changes = differences(ledger, contents)
                kept = {key: said for key, said in contents.items() if key not in changes}
                await self._mend(at, kept.values())
                self._published[at] |= kept
                self._hollow.discard(at)
                if changes or ledger.revision.epoch == epoch:
                    return await self._publish(at, epoch, changes)
                step: Edit | Rewrite = plan_continuation(ledger, keyring, epoch=epoch)
            else:
                await self._mend(at, contents.values())
                digests = {key: said.digest for key, said in contents.items()}
                step = plan_rewrite(ledger, keyring, epoch=epoch, digests=digests, found=found)
            if await self._try(at, epoch, ledger, step):
                self._published[at] = dict(contents)
                self._hollow.discard(at)
                return step.head.revision
        raise _contended(at)

    async def _recover(
        self, at: At, epoch: int, ledger: Ledger, batch: Mapping[str, Encoded | None]
    ) -> None:
        keyring = self._keyring(at)
        found = await self.claim(at, epoch=epoch)
        newer = self._remember(at, epoch, catch_up(ledger, keyring, found))
        if newer is ledger or must_rewrite(newer, keyring, found):
            # The store lost lines: no edit fits it, and an edit alone would pass off as the whole.
            digests = {key: field.digest for key, field in newer.fields.items()}
            rewrite = plan_rewrite(newer, keyring, epoch=epoch, digests=digests, found=found)
            referenced = set(digests.values())
            # The batch, too: it may be in the store already, if only its answer was lost.
            known = {
                said.digest: said
                for said in (*self._published[at].values(), *batch.values())
                if said is not None and said.digest in referenced
            }
            await self._mend(at, known.values())
            if len(known) < len(referenced):
                self._hollow.add(at)
            await self._try(at, epoch, newer, rewrite)

    async def _try(self, at: At, epoch: int, ledger: Ledger, step: Edit | Rewrite) -> bool:
        # Before the step: if its answer is lost, readers may have seen the revision.
        self._remember(at, epoch, ledger.burn(step.head.revision.sequence))
        done = await self.carry_out(at, step, epoch=epoch)
        if done:
            self._remember(at, epoch, step.after)
        return done

    async def _mend(self, at: At, contents: Iterable[Encoded]) -> None:
        for portion in _portions({said.digest: said.body for said in contents}):
            stored = await self.bodies(at, list(portion))
            lost = {digest: body for digest, body in portion.items() if stored.get(digest) != body}
            if lost:
                await self.put(at, lost)

    def _keyring(self, at: At) -> Keyring:
        return self._keyrings(at.scope)

    def _remember(self, at: At, epoch: int, ledger: Ledger) -> Ledger:
        self._known[at] = _Known(epoch, ledger)
        return ledger


def _update(held: dict[str, Encoded], changes: Mapping[str, Encoded | None]) -> None:
    for key, said in changes.items():
        if said is None:
            held.pop(key, None)
        else:
            held[key] = said


def _portions(bodies: Mapping[str, bytes]) -> Iterator[Mapping[str, bytes]]:
    pairs = list(bodies.items())
    for start in range(0, len(pairs), AUDIT_ENTRIES):
        yield dict(pairs[start : start + AUDIT_ENTRIES])


def _contended(at: At) -> ConnectionError:
    return ConnectionError(f"channel {at.channel} of {at.scope} keeps changing under its writer")
