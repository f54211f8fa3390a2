"""The store in Redis, read: one scope's channels, and what the pod says of itself.

Where things are is in ``switchboard_policy.store.layout``. Nothing is checked here: the follower
verifies what it gets, from whichever store.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from switchboard_policy.store import (
    SILENT_MS,
    WORDS_KEPT_MS,
    Channel,
    Field,
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
    Word,
)
from switchboard_policy.store.connect import StoreClient
from switchboard_policy.store.layout import (
    ACKS_MAX,
    channel_keys,
    pod_keys,
    read_fields,
    read_head,
    read_line,
    read_record,
    read_word,
    record_parts,
    word_parts,
)
from switchboard_policy.store.url_file import UrlFile

#: A store that does not answer within this is away. Nobody waits for it but the follower.
TIMEOUT_S: Final = 3.0
#: Bodies are fetched in portions of this many (some 160 KB): one is read without a pause.
ENTRIES_AT_ONCE: Final = 100
#: Lines are read in portions of this many: one takes the event loop 20 microseconds.
LINES_AT_ONCE: Final = 100

#: Before every entry of a stream.
_BEGINNING: Final = "0-0"

# The operator is told only of news; a heartbeat is the time of the last word alone.
_REGISTER: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'pod', ARGV[1])
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
return {redis.call('ZRANGE', KEYS[2], '(' .. (now - ARGV[3]), '+inf', 'BYSCORE'), now}
"""

# The manifest as one string: to receive thousands of them holds the event loop up for 10 ms. The
# key only says which server: whoever names a manifest as one must have the right to write it.
_MANIFEST: Final = """
local parts, lengths = redis.call('HGETALL', ARGV[2]), {}
for place, part in ipairs(parts) do lengths[place] = #part end
return {redis.call('HGETALL', ARGV[1]), table.concat(lengths, ' '), table.concat(parts)}
"""


class RedisSource:
    """A StoreReader on Redis or Valkey; ``store`` is as for ``StoreClient``.

    Nothing connects before the first call. Raises ValueError for a URL that is none.
    """

    def __init__(self, store: str | UrlFile, *, scope: str) -> None:
        self._client = StoreClient(store, timeout_s=TIMEOUT_S)
        self._scope = scope
        self._register_script = self._client.script(_REGISTER)
        self._manifest_script = self._client.script(_MANIFEST)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def head(self, channel: Channel) -> Head | None:
        """See ``StoreReader.head``."""
        (parts,) = await self._client.pipeline(("HGETALL", channel_keys(self._scope, channel).head))
        return read_head(parts)

    async def manifest(self, channel: Channel) -> Manifest | None:
        """See ``StoreReader.manifest``."""
        keys = channel_keys(self._scope, channel)
        parts, lengths, joined = await self._client.run(
            self._manifest_script, [pod_keys(self._scope).pods], [keys.head, keys.manifest]
        )
        head = read_head(dict(zip(parts[::2], parts[1::2], strict=True)))
        if head is None:
            return None
        return Manifest(head=head, fields=await asyncio.to_thread(_fields, lengths, joined))

    async def entries(self, channel: Channel, digests: Sequence[str]) -> Mapping[str, bytes]:
        """See ``StoreReader.entries``."""
        keys, found = channel_keys(self._scope, channel), dict[str, bytes]()
        for start in range(0, len(digests), ENTRIES_AT_ONCE):
            portion = digests[start : start + ENTRIES_AT_ONCE]
            (bodies,) = await self._client.pipeline(("MGET", *map(keys.entry, portion)))
            pairs = zip(portion, bodies, strict=True)
            found |= {digest: body for digest, body in pairs if body is not None}
        return found

    async def lines(
        self, after: Mapping[Channel, Revision], *, timeout_ms: int
    ) -> Mapping[Channel, Sequence[Line]]:
        """See ``StoreReader.lines``."""
        logs: dict[str, Channel] = {
            channel_keys(self._scope, channel).log: channel for channel in after
        }
        last = {log: str(after[channel]) for log, channel in logs.items()}
        found: dict[Channel, list[Line]] = {}
        wait_ms = timeout_ms
        while True:
            portion = await self._client.streams(last, timeout_ms=wait_ms, limit=LINES_AT_ONCE)
            for log, entries in portion.items():
                lines = found.setdefault(logs[log], [])
                lines.extend(read_line(line_id, parts) for line_id, parts in entries)
                last[log] = entries[-1][0].decode()
            if all(len(entries) < LINES_AT_ONCE for entries in portion.values()):
                return found
            # What was written together is taken in together.
            wait_ms = 1

    async def register(self, pod: Pod) -> Registered:
        """See ``StoreReader.register``."""
        keys = pod_keys(self._scope)
        record = msgspec.json.encode(pod, order="deterministic")
        names, at_ms = await self._client.run(
            self._register_script,
            [keys.pods, keys.seen, keys.acks],
            [pod.name, record, SILENT_MS, ACKS_MAX],
        )
        live = sorted(name.decode(errors="replace") for name in names)
        return Registered(pods=tuple(live), at_ms=at_ms)

    async def goodbye(self, pod: str) -> None:
        """See ``StoreReader.goodbye``."""
        keys = pod_keys(self._scope)
        await self._client.pipeline(
            ("HDEL", keys.pods, pod),
            ("ZREM", keys.seen, pod),
            ("XADD", keys.acks, "MAXLEN", "~", ACKS_MAX, "*", "pod", pod),
            atomic=True,
        )

    async def share(self, word: Word) -> None:
        """See ``StoreReader.share``."""
        words, oldest_ms = pod_keys(self._scope).words, word.said_ms - WORDS_KEPT_MS
        await self._client.pipeline(("XADD", words, "MINID", oldest_ms, "*", *word_parts(word)))

    async def shared(self, after: str, *, timeout_ms: int) -> Heard:
        """See ``StoreReader.shared``."""
        words, last = pod_keys(self._scope).words, after or _BEGINNING
        found = (await self._client.streams({words: last}, timeout_ms=timeout_ms)).get(words, ())
        return Heard(
            words=[read_word(parts) for _, parts in found],
            after=found[-1][0].decode() if found else last,
            at_ms=await self._client.now_ms(words),
        )

    async def record(self, records: Sequence[Record], *, keep: Retention) -> None:
        """See ``StoreReader.record``."""
        log = pod_keys(self._scope).decisions
        added = await self._client.pipeline(
            *(("XADD", log, "*", *record_parts(record)) for record in records)
        )
        # An entry's id begins with the store's time. Cut once a portion: that is exact, and cheap.
        now_ms = int(added[-1].partition(b"-")[0])
        await self._client.pipeline(
            ("XTRIM", log, "MAXLEN", keep.entries),
            ("XTRIM", log, "MINID", max(0, now_ms - keep.age_ms)),
        )

    async def recorded(self, after: str, *, limit: int) -> Recorded:
        """See ``StoreReader.recorded``."""
        log, last = pod_keys(self._scope).decisions, after or _BEGINNING
        (found,) = await self._client.pipeline(("XREAD", "COUNT", limit, "STREAMS", log, last))
        entries = found[0][1] if found else ()
        return Recorded(
            records=[read_record(parts) for _, parts in entries],
            after=entries[-1][0].decode() if entries else last,
        )


def _fields(lengths: bytes, joined: bytes) -> Mapping[str, Field]:
    parts, end = list[bytes](), 0
    for length in map(int, lengths.split()):
        parts.append(joined[end : end + length])
        end += length
    return read_fields(dict(zip(parts[::2], parts[1::2], strict=True)))
