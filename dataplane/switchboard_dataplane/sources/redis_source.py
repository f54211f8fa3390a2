"""The store in Redis, read: one scope's channels, and what the pod says of itself.

Where things are is in ``switchboard_policy.store.layout``. Nothing is checked here: the follower
verifies what it gets, from whichever store.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from switchboard_policy.store import (
    SILENT_MS,
    WORDS_KEPT_MS,
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

#: A store that does not answer within this is away. Nobody waits for it but the follower.
TIMEOUT_S: Final = 3.0
#: Bodies are fetched in portions of this many (some 400 KB).
ENTRIES_AT_ONCE: Final = 250

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


class RedisSource:
    """A StoreReader on Redis or Valkey; ``url`` is what ``parse_address`` reads.

    Nothing connects before the first call. Raises ValueError for a URL that is none.
    """

    def __init__(self, url: str, *, scope: str) -> None:
        self._client = StoreClient(url, timeout_s=TIMEOUT_S)
        self._scope = scope
        self._register_script = self._client.script(_REGISTER)

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
        parts, fields = await self._client.pipeline(
            ("HGETALL", keys.head), ("HGETALL", keys.manifest), atomic=True
        )
        head = read_head(parts)
        return Manifest(head=head, fields=read_fields(fields)) if head else None

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
        found = await self._client.streams(last, timeout_ms=timeout_ms)
        return {
            logs[log]: [read_line(line_id, parts) for line_id, parts in entries]
            for log, entries in found.items()
        }

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
