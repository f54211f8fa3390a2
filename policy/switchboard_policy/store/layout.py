"""Where the store's parts are in Redis and how they are written there; both planes read this.

Every key is ``sb:{SCOPE}:…``: the braces make a scope one hash slot, and the prefix one ACL
pattern. A channel has ``head`` (hash), ``manifest`` (hash: object → field), ``log`` (stream, its
ids are the revisions), ``entry:DIGEST`` (strings) and ``retired`` (sorted set: digest → when it
lost its last reference). A scope has ``pods`` (hash: name → record), ``seen`` (sorted set: name →
when), ``acks`` (stream: names), ``words`` (stream: what pods tell each other, of the last seconds)
and ``decisions`` (stream: what they decided, and its ratings). Times are the store's, in
milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from switchboard_policy.store.contract import (
    ZERO,
    Channel,
    Field,
    Head,
    Line,
    Pod,
    Record,
    Revision,
    Word,
)

#: A reader that was away for longer than this many lines does a full resync.
LOG_LINES_MAX: Final = 10_000
#: The operator only needs to know that something came; it then reads the records.
ACKS_MAX: Final = 1_000

#: The name of a log entry's part that holds the line, and of the one with the time of writing.
LINE_PART: Final = b"line"
TIME_PART: Final = b"at"
#: Those of a word: who said what about what and when, and its body.
WORD_PART: Final = b"word"
BODY_PART: Final = b"body"
#: Those of an entry of the log of decisions: what it says, and who signed it.
DECISION_PART: Final = b"decision"
SIGNED_PART: Final = b"signed"

#: What decoding raises: msgspec's errors and UnicodeDecodeError are ValueErrors.
_UNREADABLE: Final = (ValueError, RecursionError)

_line_decoder = msgspec.json.Decoder(Line)
_field_decoder = msgspec.json.Decoder(Field)
_pod_decoder = msgspec.json.Decoder(Pod)
_word_decoder = msgspec.json.Decoder(tuple[str, str, int, str])
_signed_decoder = msgspec.json.Decoder(tuple[str, str])


@dataclass(frozen=True, slots=True)
class ChannelKeys:
    """The keys of one channel."""

    head: str
    manifest: str
    log: str
    retired: str
    entries: str

    def entry(self, digest: str) -> str:
        """Return the key of an entry."""
        return self.entries + digest


@dataclass(frozen=True, slots=True)
class PodKeys:
    """The keys of a scope's data planes."""

    pods: str
    seen: str
    acks: str
    words: str
    decisions: str


def channel_keys(scope: str, channel: Channel) -> ChannelKeys:
    """Return the keys of a channel."""
    start = f"sb:{{{scope}}}:{channel}:"
    return ChannelKeys(
        head=start + "head",
        manifest=start + "manifest",
        log=start + "log",
        retired=start + "retired",
        entries=start + "entry:",
    )


def pod_keys(scope: str) -> PodKeys:
    """Return the keys of a scope's data planes."""
    start = f"sb:{{{scope}}}:"
    return PodKeys(
        pods=start + "pods",
        seen=start + "seen",
        acks=start + "acks",
        words=start + "words",
        decisions=start + "decisions",
    )


def head_parts(head: Head) -> tuple[int, int, int, str]:
    """Return the values of the head's hash: epoch, sequence, format, mac."""
    return head.revision.epoch, head.revision.sequence, head.format, head.mac


def read_head(parts: Mapping[bytes, bytes]) -> Head | None:
    """Read the head's hash; None where no manifest was published."""
    if b"sequence" not in parts:
        return None
    try:
        revision = Revision(int(parts[b"epoch"]), int(parts[b"sequence"]))
        return Head(revision=revision, format=int(parts[b"format"]), mac=parts[b"mac"].decode())
    except (KeyError, ValueError):
        return Head(revision=ZERO, format=0, mac="")


def read_fields(parts: Mapping[bytes, bytes]) -> Mapping[str, Field]:
    """Read the manifest's hash; a field that cannot be read has no signature."""
    return {field.object: field for key, raw in parts.items() for field in (_field(key, raw),)}


def read_line(line_id: bytes, parts: Mapping[bytes, bytes]) -> Line:
    """Read an entry of the log; one that cannot be read has no signature."""
    revision = Revision.parse(line_id.decode())
    try:
        line = _line_decoder.decode(parts.get(LINE_PART, b""))
        at_ms = int(parts.get(TIME_PART, b"0"))
    except _UNREADABLE:
        return Line(revision=revision, previous=ZERO, object="", digest="", mac="")
    if line.revision != revision:
        return Line(revision=revision, previous=ZERO, object="", digest="", mac="")
    return msgspec.structs.replace(line, at_ms=at_ms)


def read_pod(raw: bytes) -> Pod | None:
    """Read a data plane's record; None if it cannot be read."""
    try:
        return _pod_decoder.decode(raw)
    except _UNREADABLE:
        return None


def word_parts(word: Word) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the names and values of a word's entry."""
    said = msgspec.json.encode((word.topic, word.pod, word.said_ms, word.mac))
    return WORD_PART, said, BODY_PART, word.body


def read_word(parts: Mapping[bytes, bytes]) -> Word:
    """Read the entry of a word; one that cannot be read has no signature."""
    try:
        topic, pod, said_ms, mac = _word_decoder.decode(parts.get(WORD_PART, b""))
    except _UNREADABLE:
        return Word(topic="", pod="", said_ms=0, body=b"", mac="")
    return Word(topic=topic, pod=pod, said_ms=said_ms, body=parts.get(BODY_PART, b""), mac=mac)


def record_parts(record: Record) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the names and values of an entry of the log of decisions."""
    signed = msgspec.json.encode((record.pod, record.mac))
    return DECISION_PART, record.body, SIGNED_PART, signed


def read_record(parts: Mapping[bytes, bytes]) -> Record:
    """Read an entry of the log of decisions; one that cannot be read has no signature."""
    body = parts.get(DECISION_PART, b"")
    try:
        pod, mac = _signed_decoder.decode(parts.get(SIGNED_PART, b""))
    except _UNREADABLE:
        return Record(pod="", body=body, mac="")
    return Record(pod=pod, body=body, mac=mac)


def _field(key: bytes, raw: bytes) -> Field:
    name = key.decode(errors="replace")
    try:
        field = _field_decoder.decode(raw)
    except _UNREADABLE:
        return Field(object=name, digest="", revision=ZERO, mac="")
    if field.object != name:
        return Field(object=name, digest="", revision=ZERO, mac="")
    return field
