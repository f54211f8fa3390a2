"""The follower: keeps the snapshot at what the store says, and tells the store what is in force.

It reads the log and applies contiguous lines. Where they do not fit, it reads the manifest and
fetches what differs. What is bad is refused, object by object, and the last good stays, but for
clients: the key that a client had before may be one that was taken away. Nothing here is on a
request's path, and a store that is away changes nothing but the age of the policy.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import Final

import msgspec

from switchboard_dataplane.process import collected_later
from switchboard_dataplane.sources.disk import DiskSnapshot
from switchboard_dataplane.sources.following import Following, backoff_s
from switchboard_dataplane.sources.reading import (
    Contents,
    Held,
    Plan,
    Target,
    decode_body,
    plan_contents,
    plan_lines,
    plan_manifest,
)
from switchboard_dataplane.sources.state import Apply, SourceState, Update
from switchboard_policy.codec import FORMATS
from switchboard_policy.ir import Entry
from switchboard_policy.seal import Keyring
from switchboard_policy.store import (
    CHANNELS,
    MORE_REFUSED,
    SILENT_MS,
    Channel,
    Head,
    Pod,
    Revision,
    StoreReader,
)

logger = logging.getLogger(__name__)

HEARTBEAT_S: Final = SILENT_MS / 3000
#: How often the heads are compared, for losses that leave no line.
LOOK_S: Final = 5.0
#: How long one reading of the log may wait.
LINES_MS: Final = 2_000
#: Between writes of a channel to disk.
PERSIST_S: Final = 1.0
AWAY_BACKOFF_MAX_S: Final = 2.0
_GOODBYE_S: Final = 1.0
#: More lines than these are checked in a thread (5 microseconds each).
_LINES_AT_ONCE: Final = 100
#: Decoding gives way to requests after this many entries (about 1 ms).
_DECODE_AT_ONCE: Final = 50
#: A pod's record stays small, whatever goes wrong.
_REFUSED_MAX: Final = 100
_REASON_MAX: Final = 200

_Fetch = Callable[[Channel, Sequence[str]], Awaitable[Mapping[str, bytes]]]


class Follower:
    """Follows one scope until cancelled.

    ``pod`` says who follows; its revision and refusals are filled in. ``keyring`` returns the
    scope's keys of this moment. ``clock`` is monotonic, in seconds. ``propagated`` is told each
    change's way from the store's write to the ack, in milliseconds.
    """

    def __init__(
        self,
        source: StoreReader,
        *,
        pod: Pod,
        keyring: Callable[[], Keyring],
        apply: Apply,
        clock: Callable[[], float],
        random: Random,
        disk: DiskSnapshot | None = None,
        propagated: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._pod = pod
        self._keyring = keyring
        self._apply = apply
        self._clock = clock
        self._random = random
        self._disk = disk
        self._propagated = propagated
        self._channels: dict[Channel, Following] = {
            channel: Following(channel, random) for channel in CHANNELS
        }
        self._away = "the store was not reached yet"
        self._contact_s: float | None = None
        self._failures = 0
        self._look_at_s = 0.0
        self._full_syncs = 0
        self._pods: tuple[str, ...] = (pod.name,)
        self._propagation_ms: int | None = None
        self._unacked_at_ms = 0
        self._unsaved: set[Channel] = set()
        self._saved_with = ""
        self._to_say = asyncio.Event()
        self._to_save = asyncio.Event()

    def state(self) -> SourceState:
        """Return what the follower knows at this moment."""
        return SourceState(
            synced=all(following.complete for following in self._channels.values()),
            connected=not self._away,
            reason=self._reason(),
            revisions=self._revisions(),
            refused=self._refused(),
            age_s=None if self._contact_s is None else self._clock() - self._contact_s,
            full_syncs=self._full_syncs,
            pods=self._pods,
            propagation_ms=self._propagation_ms,
        )

    async def run(self) -> None:
        """Follow until cancelled, then say goodbye to the store."""
        await self._start_from_disk()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow())
                tasks.create_task(self._report())
                tasks.create_task(self._save())
        finally:
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(_GOODBYE_S):
                    await self._source.goodbye(self._pod.name)

    async def _follow(self) -> None:
        while True:
            try:
                await self._turn()
            except ConnectionError as error:
                if not self._away or not self._failures:
                    logger.warning("the store is away, the policy in force stays: %s", error)
                self._away = str(error)
                self._failures += 1
                wait_s = backoff_s(self._failures, limit_s=AWAY_BACKOFF_MAX_S, random=self._random)
                await asyncio.sleep(wait_s)

    async def _turn(self) -> None:
        now_s = self._clock()
        due = [
            following
            for following in self._channels.values()
            if following.sync_at_s is not None and following.sync_at_s <= now_s
        ]
        if due:
            await self._sync(due)
            return
        before = self._revisions()
        heads = await self._look()
        await self._read_lines()
        for channel, head in heads.items():
            self._channels[channel].compare(head, before=before[channel], now_s=self._clock())

    async def _sync(self, due: list[Following]) -> None:
        plans: dict[Channel, Plan] = {}
        for following in due:
            channel = following.channel
            manifest = await self._source.manifest(channel)
            self._reached()
            # Thousands of signatures: requests are not kept waiting for them.
            plans[channel] = await asyncio.to_thread(
                plan_manifest,
                following.contents,
                manifest,
                keyring=self._keyring(),
                channel=channel,
            )
            self._full_syncs += 1
        await self._take(plans, self._source.entries, full=True)

    async def _look(self) -> Mapping[Channel, Head | None]:
        if self._clock() < self._look_at_s:
            return {}
        heads: dict[Channel, Head | None] = {
            channel: await self._source.head(channel) for channel in CHANNELS
        }
        self._reached()
        self._look_at_s = self._clock() + LOOK_S
        return heads

    async def _read_lines(self) -> None:
        now_s = self._clock()
        due_s = [f.sync_at_s - now_s for f in self._channels.values() if f.sync_at_s is not None]
        wait_ms = max(1, round(1000 * min([LINES_MS / 1000, *due_s])))
        after: dict[Channel, Revision] = {
            channel: following.contents.revision
            for channel, following in self._channels.items()
            if not following.broken or following.awaits_first
        }
        if not after:
            await asyncio.sleep(wait_ms / 1000)
            return
        found = await self._source.lines(after, timeout_ms=wait_ms)
        self._reached()
        plans: dict[Channel, Plan] = {}
        for channel, lines in found.items():
            following = self._channels[channel]
            if following.awaits_first:
                following.begin(now_s=self._clock())
                continue
            check = partial(
                plan_lines, following.contents, lines, keyring=self._keyring(), channel=channel
            )
            many = len(lines) > _LINES_AT_ONCE
            plans[channel] = await asyncio.to_thread(check) if many else check()
        if plans:
            await self._take(plans, self._source.entries, full=False)

    async def _take(self, plans: Mapping[Channel, Plan], fetch: _Fetch, *, full: bool) -> None:
        # A collection amid thousands of new objects takes longer than any step of making them.
        with collected_later():
            await self._carry_out(plans, fetch, full=full)

    async def _carry_out(self, plans: Mapping[Channel, Plan], fetch: _Fetch, *, full: bool) -> None:
        taken: dict[Channel, dict[str, Held]] = {}
        refused: dict[Channel, dict[str, str]] = {}
        changed: dict[str, Entry] = {}
        for channel, plan in plans.items():
            digests = [target.digest for target in plan.wanted.values()]
            bodies = await fetch(channel, digests)
            taken[channel], refused[channel] = await _decode(plan.wanted, bodies, changed)
        removed: set[str] = set()
        revisions = dict(self._revisions())
        for channel, plan in plans.items():
            removed |= self._channels[channel].gone_by(plan, refused[channel])
            revisions[channel] = plan.revision
        update = Update(changed=changed, removed=frozenset(removed), revisions=revisions, full=full)
        reasons = await self._put_in_force(update)
        for channel, plan in plans.items():
            for key in taken[channel].keys() & reasons.keys():
                del taken[channel][key]
                refused[channel][key] = reasons[key]
            self._settle(plan, channel, taken=taken[channel], refused=refused[channel], full=full)
        newest_ms = max((plan.at_ms for plan in plans.values()), default=0)
        self._unacked_at_ms = max(self._unacked_at_ms, newest_ms)
        self._to_say.set()

    async def _put_in_force(self, update: Update) -> Mapping[str, str]:
        if not (update.changed or update.removed) and update.revisions == self._revisions():
            return {}
        return await self._apply(update)

    def _settle(
        self,
        plan: Plan,
        channel: Channel,
        *,
        taken: Mapping[str, Held],
        refused: Mapping[str, str],
        full: bool,
    ) -> None:
        following = self._channels[channel]
        moved = plan.revision != following.contents.revision
        following.settle(plan, taken=taken, refused=refused, full=full, now_s=self._clock())
        for key, reason in refused.items():
            logger.warning("refused %s: %s", key, reason)
        if following.complete and (moved or taken):
            self._unsaved.add(channel)
            self._to_save.set()

    def _reached(self) -> None:
        if self._away:
            logger.info("the store answers")
            self._to_say.set()
        self._away, self._failures, self._contact_s = "", 0, self._clock()

    async def _report(self) -> None:
        while True:
            self._to_say.clear()
            self._save_with_other_keys()
            at_ms, self._unacked_at_ms = self._unacked_at_ms, 0
            # A store that is away is the other task's to say; the next word is not lost.
            with suppress(ConnectionError):
                answer = await self._source.register(self._record())
                self._pods = answer.pods or (self._pod.name,)
                if at_ms:
                    self._propagation_ms = max(0, answer.at_ms - at_ms)
                    self._propagated(self._propagation_ms)
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._to_say.wait()

    def _save_with_other_keys(self) -> None:
        """Have the disk signed by the key in use: the one before it will be dropped."""
        if self._keyring().current != self._saved_with:
            self._saved_with = self._keyring().current
            self._unsaved |= {each.channel for each in self._channels.values() if each.complete}
            self._to_save.set()

    async def _save(self) -> None:
        while self._disk:
            await self._to_save.wait()
            self._to_save.clear()
            while self._unsaved:
                channel = self._unsaved.pop()
                contents = self._channels[channel].contents
                try:
                    await asyncio.to_thread(
                        self._disk.write, channel, contents, keyring=self._keyring()
                    )
                except OSError as error:
                    logger.warning("no snapshot of %s on disk: %s", channel, error)
            await asyncio.sleep(PERSIST_S)

    async def _start_from_disk(self) -> None:
        if self._disk is None:
            return
        keyring = self._keyring()
        loaded: dict[Channel, Contents] = {}
        for channel in CHANNELS:
            contents = await asyncio.to_thread(self._disk.load, channel, keyring=keyring)
            if contents is not None:
                loaded[channel] = contents

        async def bodies(channel: Channel, _: Sequence[str]) -> Mapping[str, bytes]:
            return {held.digest: held.body for held in loaded[channel].held.values()}

        plans: dict[Channel, Plan] = {
            channel: plan_contents(contents) for channel, contents in loaded.items()
        }
        if plans:
            await self._take(plans, bodies, full=True)
            self._unsaved.clear()
            logger.info("started from the snapshot on disk: %s", self._revisions())
        for following in self._channels.values():
            following.sync_at_s = self._clock()

    def _revisions(self) -> Mapping[Channel, Revision]:
        return {channel: f.contents.revision for channel, f in self._channels.items()}

    def _refused(self) -> Mapping[str, str]:
        refused: dict[str, str] = {}
        for channel, following in self._channels.items():
            if following.trouble:
                refused[f"channel/{channel}"] = following.trouble
            refused |= following.refused
        return refused

    def _reason(self) -> str:
        said = [self._away] if self._away else []
        for channel, following in self._channels.items():
            trouble = following.trouble or ("" if following.complete else following.broken)
            if trouble and not (self._away and following.complete):
                said.append(f"channel {channel}: {trouble}")
        return "; ".join(said)

    def _record(self) -> Pod:
        refused = list(self._refused().items())
        if (more := len(refused) - _REFUSED_MAX) > 0:
            refused[_REFUSED_MAX:] = [(MORE_REFUSED, f"{more} more entries are refused")]
        return msgspec.structs.replace(
            self._pod,
            revision=self._channels["policy"].contents.revision,
            refused={key: reason[:_REASON_MAX] for key, reason in refused},
            formats=FORMATS,
            key_ids=self._keyring().ids,
        )


async def _decode(
    wanted: Mapping[str, Target], bodies: Mapping[str, bytes], changed: dict[str, Entry]
) -> tuple[dict[str, Held], dict[str, str]]:
    taken: dict[str, Held] = {}
    refused: dict[str, str] = {}
    for count, (key, target) in enumerate(wanted.items(), start=1):
        body = bodies.get(target.digest)
        entry = decode_body(body, target)
        if isinstance(entry, str) or body is None:
            refused[key] = str(entry)
        else:
            taken[key] = Held(target.digest, target.revision, body)
            changed[key] = entry
        if count % _DECODE_AT_ONCE == 0:
            await asyncio.sleep(0)
    return taken, refused
