"""What the store's signatures cover, and how a reader checks them. Pure.

Each field and line is signed by itself, so one that is bad costs one object. The head signs the
set of all fields: a manifest that lacks a field, or holds an old one with its old and genuine
signature, does not fit its head.
"""

from collections.abc import Iterable
from typing import Final

from switchboard_policy.errors import BadSignature
from switchboard_policy.seal import Keyring, fingerprint, key_id_of
from switchboard_policy.store.contract import (
    Channel,
    Field,
    Head,
    Line,
    Manifest,
    Record,
    Revision,
    Word,
)

EMPTY_SET: Final = 0


def sign_field(
    keyring: Keyring, channel: Channel, *, revision: Revision, key: str, digest: str
) -> Field:
    """Return the signed manifest field of the object ``key``."""
    mac = keyring.sign("field", channel, str(revision), key, digest)
    return Field(object=key, digest=digest, revision=revision, mac=mac)


def sign_line(
    keyring: Keyring,
    channel: Channel,
    *,
    revision: Revision,
    previous: Revision,
    key: str,
    digest: str,
) -> Line:
    """Return the signed log line for the object ``key`` ("" for a new manifest)."""
    mac = keyring.sign("line", channel, str(revision), str(previous), key, digest)
    return Line(revision=revision, previous=previous, object=key, digest=digest, mac=mac)


def sign_head(
    keyring: Keyring, channel: Channel, *, revision: Revision, entry_format: int, fields: int
) -> Head:
    """Return the signed head; ``fields`` is the ``combine`` of all fields under the current key."""
    mac = keyring.sign("head", channel, str(revision), str(entry_format), f"{fields:x}")
    return Head(revision=revision, format=entry_format, mac=mac)


def combine(
    keyring: Keyring, key_id: str, channel: Channel, fields: Iterable[Field], start: int = EMPTY_SET
) -> int:
    """Return a number that identifies the set of fields, for the head's signature.

    It is the exclusive-or of secret tags, so adding a field and taking it away are the same
    operation and one edit costs one tag. It must not leave the process: to know it is to forge.
    Raises BadSignature where the key is not in the keyring.
    """
    total = start
    for field in fields:
        total ^= keyring.tag(key_id, channel, str(field.revision), field.object, field.digest)
    return total


def check_field(keyring: Keyring, channel: Channel, field: Field) -> None:
    """Raise BadSignature unless a holder of the scope's key wrote this field."""
    keyring.verify(field.mac, "field", channel, str(field.revision), field.object, field.digest)


def check_line(keyring: Keyring, channel: Channel, line: Line) -> None:
    """Raise BadSignature unless a holder of the scope's key wrote this line."""
    said = (str(line.revision), str(line.previous), line.object, line.digest)
    keyring.verify(line.mac, "line", channel, *said)


def check_manifest(keyring: Keyring, channel: Channel, manifest: Manifest) -> None:
    """Raise BadSignature unless the head signs exactly these fields."""
    head = manifest.head
    fields = combine(keyring, key_id_of(head.mac), channel, manifest.fields.values())
    keyring.verify(head.mac, "head", channel, str(head.revision), str(head.format), f"{fields:x}")


def sign_word(keyring: Keyring, *, topic: str, pod: str, said_ms: int, body: bytes) -> Word:
    """Return the signed word of a pod."""
    mac = keyring.sign("word", topic, pod, str(said_ms), fingerprint(body))
    return Word(topic=topic, pod=pod, said_ms=said_ms, body=body, mac=mac)


def check_word(keyring: Keyring, word: Word) -> None:
    """Raise BadSignature unless a holder of the scope's key said this."""
    said = (word.topic, word.pod, str(word.said_ms), fingerprint(word.body))
    keyring.verify(word.mac, "word", *said)


def sign_record(keyring: Keyring, *, pod: str, body: bytes) -> Record:
    """Return the signed entry of a pod in the log of decisions."""
    return Record(pod=pod, body=body, mac=keyring.sign("decision", pod, fingerprint(body)))


def check_record(keyring: Keyring, record: Record) -> None:
    """Raise BadSignature unless a holder of the scope's key recorded this."""
    keyring.verify(record.mac, "decision", record.pod, fingerprint(record.body))


def is_field_genuine(keyring: Keyring, channel: Channel, field: Field) -> bool:
    """Say whether ``check_field`` passes."""
    try:
        check_field(keyring, channel, field)
    except BadSignature:
        return False
    return True


def is_manifest_genuine(keyring: Keyring, channel: Channel, manifest: Manifest) -> bool:
    """Say whether ``check_manifest`` passes and every field is genuine."""
    try:
        check_manifest(keyring, channel, manifest)
        for field in manifest.fields.values():
            check_field(keyring, channel, field)
    except BadSignature:
        return False
    return True
