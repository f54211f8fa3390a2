"""A writer's memory of one channel, and the steps that it derives from it. Pure and immutable.

A step says what to write and which head it expects in the store; the store carries it out whole
or not at all. Both forms of the store make their steps here, so they agree on every revision,
line and signature.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

from switchboard_policy.codec import FORMAT, Encoded
from switchboard_policy.seal import Keyring, key_id_of
from switchboard_policy.store.contract import (
    CONTINUES,
    ZERO,
    Channel,
    Field,
    Head,
    Line,
    Manifest,
    Revision,
)
from switchboard_policy.store.signing import (
    combine,
    is_field_genuine,
    is_manifest_genuine,
    sign_field,
    sign_head,
    sign_line,
)

#: A step's lines run inside one script, during which the store serves nobody else (about 5 ms).
BATCH_LINES: Final = 500
#: A step's bodies travel in one command.
BATCH_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a writer knows of a channel.

    ``head`` is None before anything was published. ``fields`` is the manifest. ``total`` is the
    ``combine`` of the fields under the key ``key_id``. ``burned`` is the highest sequence ever
    tried: a step whose answer was lost may have been seen by readers, so it is not used again.
    """

    channel: Channel
    head: Head | None
    fields: Mapping[str, Field]
    total: int
    key_id: str
    burned: int

    @classmethod
    def adopt(cls, keyring: Keyring, channel: Channel, found: Manifest | None) -> Self:
        """Take over what the store holds; fields that no holder of the key wrote are left out."""
        fields: Mapping[str, Field] = {}
        if found is not None:
            fields = {
                key: field
                for key, field in found.fields.items()
                if is_field_genuine(keyring, channel, field)
            }
        return cls(
            channel=channel,
            head=found.head if found else None,
            fields=fields,
            total=combine(keyring, keyring.current, channel, fields.values()),
            key_id=keyring.current,
            burned=found.head.revision.sequence if found else 0,
        )

    @property
    def revision(self) -> Revision:
        """Where the channel stands; ZERO before anything was published."""
        return self.head.revision if self.head else ZERO

    def burn(self, sequence: int) -> "Ledger":
        """Return a ledger that never uses this sequence again."""
        return replace(self, burned=max(self.burned, sequence))


@dataclass(frozen=True, slots=True)
class Edit:
    """A step that changes some objects of a manifest whose head is ``expected``."""

    expected: Revision
    head: Head
    lines: tuple[Line, ...]
    fields: tuple[Field, ...]
    removed: tuple[str, ...]
    bodies: Mapping[str, bytes]
    retired: tuple[str, ...]
    after: Ledger


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A step that puts a whole manifest in the place of the one whose head is ``expected``.

    The log begins anew with ``line``, which tells readers to read the manifest.
    """

    expected: Revision
    head: Head
    line: Line
    fields: tuple[Field, ...]
    retired: tuple[str, ...]
    after: Ledger


def plan_edit(
    ledger: Ledger, keyring: Keyring, *, epoch: int, changes: Mapping[str, Encoded | None]
) -> Edit | None:
    """Return the step for these changes; None if all of them are in force already."""
    revision, lines, changed, bodies = (
        ledger.revision,
        list[Line](),
        list[Field](),
        dict[str, bytes](),
    )
    fields, removed, retired, dropped = dict(ledger.fields), list[str](), list[str](), list[Field]()
    sequence = max(revision.sequence, ledger.burned)
    for key, encoded in _differences(ledger, changes):
        previous, sequence = revision, sequence + 1
        revision = Revision(epoch, sequence)
        digest = encoded.digest if encoded else ""
        lines.append(
            sign_line(
                keyring, ledger.channel,
                revision=revision, previous=previous, key=key, digest=digest,
            )
        )  # fmt: skip
        if (old := fields.pop(key, None)) is not None:
            dropped.append(old)
            retired.append(old.digest)
        if encoded is None:
            removed.append(key)
            continue
        fields[key] = sign_field(keyring, ledger.channel, revision=revision, key=key, digest=digest)
        changed.append(fields[key])
        bodies[digest] = encoded.body
    if not lines:
        return None
    total = _total(ledger, keyring)
    total = combine(keyring, keyring.current, ledger.channel, (*dropped, *changed), total)
    head, after = _sealed(ledger, keyring, revision=revision, fields=fields, total=total)
    return Edit(
        expected=ledger.revision,
        head=head,
        lines=tuple(lines),
        fields=tuple(changed),
        removed=tuple(removed),
        bodies=bodies,
        retired=tuple(digest for digest in retired if digest not in bodies),
        after=after,
    )


def plan_continuation(ledger: Ledger, keyring: Keyring, *, epoch: int) -> Edit:
    """Return the step that takes the manifest over as it is into a new leader's epoch.

    The store may have gone back to it unseen: then readers are ahead of its revision, and would
    refuse it until the next change.
    """
    sequence = max(ledger.revision.sequence, ledger.burned) + 1
    revision = Revision(epoch, sequence)
    line = sign_line(
        keyring,
        ledger.channel,
        revision=revision,
        previous=ledger.revision,
        key="",
        digest=CONTINUES,
    )
    total = _total(ledger, keyring)
    head, after = _sealed(ledger, keyring, revision=revision, fields=ledger.fields, total=total)
    return Edit(
        expected=ledger.revision,
        head=head,
        lines=(line,),
        fields=(),
        removed=(),
        bodies={},
        retired=(),
        after=after,
    )


def plan_rewrite(
    ledger: Ledger,
    keyring: Keyring,
    *,
    epoch: int,
    digests: Mapping[str, str],
    found: Manifest | None,
) -> Rewrite:
    """Return the step that makes the manifest say ``digests`` (object → digest) and no more.

    An object keeps the revision of the ledger's field while its digest is the same, whatever the
    store says. ``found`` is what the store holds now.
    """
    floor = found.head.revision if found else ZERO
    sequence = max(ledger.revision.sequence, ledger.burned, floor.sequence) + 1
    revision = Revision(epoch, sequence)
    fields: dict[str, Field] = {}
    for key, digest in digests.items():
        known = ledger.fields.get(key)
        since = known.revision if known is not None and known.digest == digest else revision
        fields[key] = sign_field(keyring, ledger.channel, revision=since, key=key, digest=digest)
    total = combine(keyring, keyring.current, ledger.channel, fields.values())
    head, after = _sealed(ledger, keyring, revision=revision, fields=fields, total=total)
    kept = set(digests.values())
    old = (field.digest for field in found.fields.values()) if found else ()
    return Rewrite(
        expected=floor,
        head=head,
        line=sign_line(
            keyring, ledger.channel, revision=revision, previous=ledger.revision, key="", digest=""
        ),
        fields=tuple(fields.values()),
        retired=tuple(digest for digest in old if digest and digest not in kept),
        after=after,
    )


def catch_up(ledger: Ledger, keyring: Keyring, found: Manifest | None) -> Ledger:
    """Return the newer of the ledger and what the store holds, if that is genuine.

    The store is ahead of its writer where the answer to a step was lost on the way.
    """
    if found is None or found.head.revision <= ledger.revision:
        return ledger
    if not is_manifest_genuine(keyring, ledger.channel, found):
        return ledger
    return Ledger.adopt(keyring, ledger.channel, found).burn(ledger.burned)


def must_rewrite(ledger: Ledger, keyring: Keyring, found: Manifest | None) -> bool:
    """Say whether the store's manifest cannot be edited: lost, forged, or under a retired key."""
    if found is None or ledger.head is None or found.head != ledger.head:
        return True
    if found.fields != ledger.fields or not is_manifest_genuine(keyring, ledger.channel, found):
        return True
    macs = (found.head.mac, *(field.mac for field in found.fields.values()))
    return any(key_id_of(mac) != keyring.current for mac in macs)


def batches(changes: Mapping[str, Encoded | None]) -> Iterator[Mapping[str, Encoded | None]]:
    """Cut changes into steps of at most BATCH_LINES lines and about BATCH_BYTES bytes."""
    batch: dict[str, Encoded | None] = {}
    size_bytes = 0
    for key, encoded in changes.items():
        length = len(encoded.body) if encoded else 0
        if batch and (len(batch) == BATCH_LINES or size_bytes + length > BATCH_BYTES):
            yield batch
            batch, size_bytes = {}, 0
        batch[key] = encoded
        size_bytes += length
    if batch:
        yield batch


def differences(ledger: Ledger, contents: Mapping[str, Encoded]) -> Mapping[str, Encoded | None]:
    """Return the changes that make the ledger's fields say ``contents``."""
    gone: dict[str, Encoded | None] = {key: None for key in ledger.fields if key not in contents}
    # What is gone comes last: an object that another one replaces is there until then.
    return dict(_differences(ledger, {**contents, **gone}))


def _differences(
    ledger: Ledger, changes: Mapping[str, Encoded | None]
) -> Iterator[tuple[str, Encoded | None]]:
    for key, encoded in changes.items():
        known = ledger.fields.get(key)
        if (encoded.digest if encoded else None) != (known.digest if known else None):
            yield key, encoded


def _total(ledger: Ledger, keyring: Keyring) -> int:
    if ledger.key_id == keyring.current:
        return ledger.total
    return combine(keyring, keyring.current, ledger.channel, ledger.fields.values())


def _sealed(
    ledger: Ledger, keyring: Keyring, *, revision: Revision, fields: Mapping[str, Field], total: int
) -> tuple[Head, Ledger]:
    head = sign_head(keyring, ledger.channel, revision=revision, entry_format=FORMAT, fields=total)
    return head, Ledger(
        channel=ledger.channel,
        head=head,
        fields=fields,
        total=total,
        key_id=keyring.current,
        burned=revision.sequence,
    )
