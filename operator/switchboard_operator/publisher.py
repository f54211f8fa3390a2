"""The store in Redis, written: one script a step, fenced by the leader's epoch.

Every step is one script, so it is done whole or not at all, and a leader that was deposed writes
nothing. Where things are is in ``switchboard_policy.store.layout``; why, in
docs/adr/0004-store-layout.md.
"""

from collections.abc import Mapping, Sequence, Set
from math import isfinite
from typing import Any, Final

import msgspec

from switchboard_policy.errors import Deposed
from switchboard_policy.store import (
    CHANNELS,
    WORDS_KEPT_MS,
    ZERO,
    Channel,
    Head,
    Heard,
    Line,
    Manifest,
    PodSeen,
    Revision,
    StoreRefused,
    Word,
)
from switchboard_policy.store.connect import Script, StoreClient
from switchboard_policy.store.layout import (
    LOG_LINES_MAX,
    channel_keys,
    head_parts,
    pod_keys,
    read_fields,
    read_head,
    read_pod,
    read_word,
    word_parts,
)
from switchboard_policy.store.ledger import Edit, Rewrite
from switchboard_policy.store.url_file import UrlFile
from switchboard_policy.store.writer import At, Keyrings, LedgerWriter, Tail

#: A store that does not answer within this is away; the reconciler tries again.
TIMEOUT_S: Final = 5.0
#: Fields of a new manifest go out in portions of this many (some 150 KB).
_STAGED_FIELDS: Final = 500
#: Time enough for a rewrite; what an interrupted one leaves behind is gone after that.
_STAGED_MS: Final = 600_000
_COLLECT_ENTRIES: Final = 500
#: Part of the server's answer to a line that is not newer than the log's last.
_LOG_IS_AHEAD: Final = "equal or smaller"

# Ends the script where the store holds a newer epoch, and shuts out the older ones.
_FENCE: Final = """
local held = redis.call('HMGET', KEYS[1], 'fence', 'epoch', 'sequence')
local fence, epoch = tonumber(held[1]) or 0, tonumber(ARGV[1])
local newest = math.max(fence, tonumber(held[2]) or 0)
if newest > epoch then return {'deposed', newest} end
if fence < epoch then redis.call('HSET', KEYS[1], 'fence', ARGV[1]) end
"""

_CLAIM: Final = (
    _FENCE + "return {'done', redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}"
)

# KEYS: head, manifest, log, retired; then the staged manifest of a rewrite, or the edit's entries.
# ARGV: epoch, expected revision, the new head's values; then lists, each after its length.
_STEP: Final = (
    _FENCE
    + """
if (held[2] or '0') .. '-' .. (held[3] or '0') ~= ARGV[2] then return {'moved'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local place = 6
local function take() place = place + 1; return ARGV[place] end
local function add_lines()
  for _ = 1, tonumber(take()) do
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', take(), take(), 'line', take(), 'at', now)
  end
end
local function finish()
  for _ = 1, tonumber(take()) do redis.call('ZADD', KEYS[4], 'NX', now, take()) end
  for _ = 1, tonumber(take()) do redis.call('ZREM', KEYS[4], take()) end
  redis.call('HSET', KEYS[1],
    'epoch', ARGV[3], 'sequence', ARGV[4], 'format', ARGV[5], 'mac', ARGV[6])
  return {'done'}
end
"""
)

# The lines come first: a log that ends beyond them refuses the first, with nothing written yet.
_EDIT: Final = (
    _STEP
    + """
add_lines()
for entry = 1, tonumber(take()) do redis.call('SET', KEYS[4 + entry], take()) end
for _ = 1, tonumber(take()) do redis.call('HSET', KEYS[2], take(), take()) end
for _ = 1, tonumber(take()) do redis.call('HDEL', KEYS[2], take()) end
return finish()
"""
)

_REWRITE: Final = (
    _STEP
    + """
local fields = tonumber(take())
if redis.call('HLEN', KEYS[5]) ~= fields then return {'moved'} end
redis.call('DEL', KEYS[2], KEYS[3])
if fields > 0 then
  redis.call('RENAME', KEYS[5], KEYS[2])
  redis.call('PERSIST', KEYS[2])
end
add_lines()
return finish()
"""
)

_DROP: Final = (
    _FENCE
    + """
for entry = 3, #KEYS do redis.call('UNLINK', KEYS[entry]) end
for mark = 2, #ARGV do redis.call('ZREM', KEYS[2], ARGV[mark]) end
return {'done'}
"""
)


class RedisStore(LedgerWriter):
    """A StoreWriter on Redis or Valkey; ``store`` is as for ``StoreClient``.

    Nothing connects before the first call. Raises ValueError for a URL that is none.
    """

    def __init__(self, store: str | UrlFile, *, keyrings: Keyrings) -> None:
        super().__init__(keyrings=keyrings)
        self._client = StoreClient(store, timeout_s=TIMEOUT_S)
        self._claim_script = self._client.script(_CLAIM)
        self._edit_script = self._client.script(_EDIT)
        self._rewrite_script = self._client.script(_REWRITE)
        self._drop_script = self._client.script(_DROP)
        self._acks_read: dict[str, str] = {}

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def check_eviction(self) -> str | None:
        """Return what is wrong with the server's eviction policy; None if nothing is."""
        wrong = await self._client.eviction_policies() - {"noeviction"}
        if not wrong:
            return None
        return (
            f"the store's maxmemory-policy is {', '.join(sorted(wrong))}: it may drop policy that "
            "is in force; set it to noeviction"
        )

    async def epoch(self, scopes: Sequence[str]) -> int:
        """See ``StoreWriter.epoch``."""
        heads = [channel_keys(scope, channel).head for scope in scopes for channel in CHANNELS]
        found = await self._client.pipeline(*(("HMGET", head, "fence", "epoch") for head in heads))
        return max((int(value) for pair in found for value in pair if value), default=0)

    async def head(self, scope: str, channel: Channel) -> Head | None:
        """See ``StoreWriter.head``."""
        (parts,) = await self._client.pipeline(("HGETALL", channel_keys(scope, channel).head))
        return read_head(parts)

    async def manifest(self, scope: str, channel: Channel) -> Manifest | None:
        """See ``StoreWriter.manifest``."""
        keys = channel_keys(scope, channel)
        found = await self._client.pipeline(
            ("HGETALL", keys.head), ("HGETALL", keys.manifest), atomic=True
        )
        return _manifest(*found)

    async def tail(self, at: At) -> Tail:
        """See ``LedgerWriter.tail``."""
        keys = channel_keys(*at)
        parts, fields, lines = await self._client.pipeline(
            ("HGETALL", keys.head),
            ("HLEN", keys.manifest),
            ("XREVRANGE", keys.log, "+", "-", "COUNT", 1),
            atomic=True,
        )
        line = Revision.parse(lines[0][0].decode()) if lines else ZERO
        return Tail(head=read_head(parts), fields=fields, line=line)

    async def claim(self, at: At, *, epoch: int) -> Manifest | None:
        """See ``LedgerWriter.claim``."""
        keys = channel_keys(*at)
        _, head, fields = await self._run(self._claim_script, [keys.head, keys.manifest], [epoch])
        return _manifest(_pairs(head), _pairs(fields))

    async def carry_out(self, at: At, step: Edit | Rewrite, *, epoch: int) -> bool:
        """See ``LedgerWriter.carry_out``."""
        keys = channel_keys(*at)
        channel = [keys.head, keys.manifest, keys.log, keys.retired]
        start = [epoch, str(step.expected), *head_parts(step.head)]
        end = [
            *_counted([[digest] for digest in step.retired]),
            *_counted([[field.digest] for field in step.fields]),
        ]
        if isinstance(step, Rewrite):
            staged = f"{keys.manifest}:{epoch}"
            await self._stage(staged, step)
            lines = _counted([_line(step.line)])
            args = [*start, len(step.fields), *lines, *end]
            return await self._step(self._rewrite_script, [*channel, staged], args)
        args = [
            *start,
            *_counted([_line(line) for line in step.lines]),
            *_counted([[body] for body in step.bodies.values()]),
            *_counted([[field.object, msgspec.json.encode(field)] for field in step.fields]),
            *_counted([[key] for key in step.removed]),
            *end,
        ]
        entries = [keys.entry(digest) for digest in step.bodies]
        return await self._step(self._edit_script, [*channel, *entries], args)

    async def bodies(self, at: At, digests: Sequence[str]) -> Mapping[str, bytes]:
        """See ``LedgerWriter.bodies``."""
        if not digests:
            return {}
        keys = channel_keys(*at)
        (found,) = await self._client.pipeline(
            ("MGET", *(keys.entry(digest) for digest in digests))
        )
        return {
            digest: body for digest, body in zip(digests, found, strict=True) if body is not None
        }

    async def put(self, at: At, bodies: Mapping[str, bytes]) -> None:
        """See ``LedgerWriter.put``."""
        keys = channel_keys(*at)
        now_ms = await self._client.now_ms(keys.retired)
        marks = [part for digest in bodies for part in (now_ms, digest)]
        await self._client.pipeline(
            ("ZADD", keys.retired, "NX", *marks),
            *(("SET", keys.entry(digest), body) for digest, body in bodies.items()),
        )

    async def unreferenced(self, at: At, *, for_ms: int) -> Sequence[str]:
        """See ``LedgerWriter.unreferenced``."""
        retired = channel_keys(*at).retired
        until_ms = await self._client.now_ms(retired) - for_ms
        limit = ("LIMIT", 0, _COLLECT_ENTRIES)
        (due,) = await self._client.pipeline(("ZRANGEBYSCORE", retired, "-inf", until_ms, *limit))
        return [digest.decode(errors="replace") for digest in due]

    async def drop(self, at: At, *, epoch: int, delete: Sequence[str], keep: Sequence[str]) -> None:
        """See ``LedgerWriter.drop``."""
        keys = channel_keys(*at)
        entries = [keys.entry(digest) for digest in delete]
        args = [epoch, *delete, *keep]
        await self._run(self._drop_script, [keys.head, keys.retired, *entries], args)

    async def pods(self, scope: str) -> Sequence[PodSeen]:
        """See ``StoreWriter.pods``."""
        keys = pod_keys(scope)
        records, seen = await self._client.pipeline(
            ("HGETALL", keys.pods), ("ZRANGE", keys.seen, 0, -1, "WITHSCORES"), atomic=True
        )
        now_ms = await self._client.now_ms(keys.seen)
        # Pods write the scores, and an infinite one is no integer.
        ages_ms = {
            name: now_ms - int(float(at_ms))
            for name, at_ms in _pairs(seen).items()
            if isfinite(float(at_ms))
        }
        return [
            PodSeen(pod=pod, age_ms=ages_ms.get(name, now_ms))
            for name, raw in records.items()
            if (pod := read_pod(raw)) is not None
        ]

    async def forget(self, scope: str, pod: str) -> None:
        """See ``StoreWriter.forget``."""
        keys = pod_keys(scope)
        await self._client.pipeline(("HDEL", keys.pods, pod), ("ZREM", keys.seen, pod), atomic=True)

    async def wait_for_acks(
        self, scopes: Sequence[str], *, timeout_ms: int
    ) -> Mapping[str, Set[str]]:
        """See ``StoreWriter.wait_for_acks``."""
        streams = {pod_keys(scope).acks: scope for scope in scopes}
        after = {key: self._acks_read.get(scope, "0-0") for key, scope in streams.items()}
        found = await self._client.streams(after, timeout_ms=timeout_ms)
        self._acks_read |= {streams[key]: acks[-1][0].decode() for key, acks in found.items()}
        return {
            streams[key]: {parts.get(b"pod", b"").decode(errors="replace") for _, parts in acks}
            for key, acks in found.items()
        }

    async def share(self, scope: str, word: Word) -> None:
        """Tell all pods of a scope: see ``StoreReader.share``."""
        words, oldest_ms = pod_keys(scope).words, word.said_ms - WORDS_KEPT_MS
        await self._client.pipeline(("XADD", words, "MINID", oldest_ms, "*", *word_parts(word)))

    async def shared(self, scope: str, after: str, *, timeout_ms: int) -> Heard:
        """Wait for what the pods of a scope tell: see ``StoreReader.shared``."""
        words, last = pod_keys(scope).words, after or "0-0"
        found = (await self._client.streams({words: last}, timeout_ms=timeout_ms)).get(words, ())
        return Heard(
            words=[read_word(parts) for _, parts in found],
            after=found[-1][0].decode() if found else last,
            at_ms=await self._client.now_ms(words),
        )

    async def _stage(self, staged: str, step: Rewrite) -> None:
        await self._client.pipeline(("DEL", staged))
        for start in range(0, len(step.fields), _STAGED_FIELDS):
            portion = step.fields[start : start + _STAGED_FIELDS]
            pairs = [
                part for field in portion for part in (field.object, msgspec.json.encode(field))
            ]
            await self._client.pipeline(("HSET", staged, *pairs), ("PEXPIRE", staged, _STAGED_MS))

    async def _step(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> bool:
        try:
            (answer,) = await self._run(script, keys, args)
        except StoreRefused as error:
            if _LOG_IS_AHEAD in str(error):
                return False
            raise
        return bool(answer == b"done")

    async def _run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        answer = await self._client.run(script, keys, args)
        if answer[0] == b"deposed":
            raise Deposed(answer[1])
        return answer


def _manifest(head: Mapping[bytes, bytes], fields: Mapping[bytes, bytes]) -> Manifest | None:
    found = read_head(head)
    return Manifest(head=found, fields=read_fields(fields)) if found else None


def _pairs(flat: Sequence[bytes]) -> Mapping[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _line(line: Line) -> Sequence[Any]:
    return LOG_LINES_MAX, str(line.revision), msgspec.json.encode(line)


def _counted(rows: Sequence[Sequence[Any]]) -> list[Any]:
    return [len(rows), *(part for row in rows for part in row)]
