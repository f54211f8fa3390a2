"""What a reading of the store means for what is in force. Pure.

A plan says which objects to fetch, which to drop, and what must not be believed. It never goes
back: a lower revision is refused, and so is every absence that the head does not sign.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from switchboard_policy.codec import decode
from switchboard_policy.errors import BadSignature, EntryRefused
from switchboard_policy.ir import Entry
from switchboard_policy.seal import Keyring
from switchboard_policy.store import CONTINUES, ZERO, Channel, Line, Manifest, Revision
from switchboard_policy.store.signing import check_line, check_manifest, is_field_genuine


class Held(msgspec.Struct, frozen=True, gc=False):
    """An object's entry in force: its bytes, their digest, and since which revision."""

    digest: str
    revision: Revision
    body: bytes


class Contents(msgspec.Struct, frozen=True):
    """What is in force of a channel, by object."""

    revision: Revision
    held: Mapping[str, Held]


EMPTY = Contents(revision=ZERO, held={})

#: Why there is no plan where nothing was published yet.
NOTHING_THERE: Final = "the store holds nothing of it"


@dataclass(frozen=True, slots=True)
class Target:
    """The digest that the store says is in force since a revision."""

    digest: str
    revision: Revision


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about a reading.

    ``wanted`` are the objects to fetch, ``removed`` those that are gone. ``unchanged`` have the
    digest that is held, since another revision. ``broken`` says why the lines that follow cannot
    be applied, so that the manifest must be read; ``distrusted`` says what is wrong with what was
    read. ``complete``: it was a whole and genuine manifest. ``at_ms`` is the newest line's time.
    """

    revision: Revision
    wanted: Mapping[str, Target] = field(default_factory=dict[str, Target])
    removed: frozenset[str] = frozenset()
    unchanged: Mapping[str, Target] = field(default_factory=dict[str, Target])
    broken: str = ""
    distrusted: str = ""
    complete: bool = False
    at_ms: int = 0


def plan_lines(
    contents: Contents, lines: Sequence[Line], *, keyring: Keyring, channel: Channel
) -> Plan:
    """Plan contiguous lines up to the first that is none."""
    revision, at_ms, broken, distrusted = contents.revision, 0, "", ""
    targets: dict[str, Target] = {}
    for line in lines:
        if line.revision <= revision:
            continue
        try:
            check_line(keyring, channel, line)
        except BadSignature as error:
            broken = distrusted = f"line {line.revision}: {error}"
            break
        continues = not line.object and line.digest == CONTINUES
        if line.previous != revision or not (line.object or continues):
            broken = f"line {line.revision} follows {line.previous}, and {revision} is in force"
            break
        revision, at_ms = line.revision, max(at_ms, line.at_ms)
        if not continues:
            targets[line.object] = Target(line.digest, line.revision)
    return Plan(
        revision=revision,
        wanted={key: target for key, target in targets.items() if target.digest},
        removed=frozenset(key for key, target in targets.items() if not target.digest),
        broken=broken,
        distrusted=distrusted,
        at_ms=at_ms,
    )


def plan_manifest(
    contents: Contents, manifest: Manifest | None, *, keyring: Keyring, channel: Channel
) -> Plan:
    """Plan a full resync. Only a manifest that fits its head's signature moves the revision."""
    if manifest is None:
        return _nothing(contents, NOTHING_THERE)
    try:
        check_manifest(keyring, channel, manifest)
    except BadSignature as error:
        return _plan_forged(contents, manifest, str(error), keyring=keyring, channel=channel)
    found, newest = manifest.head.revision, _newest(contents)
    if found < newest:
        return _nothing(contents, f"the store went back to {found}; {newest} stays in force")
    wanted, unchanged = _compare(contents, manifest)
    return Plan(
        revision=found,
        wanted=wanted,
        removed=frozenset(contents.held.keys() - manifest.fields.keys()),
        unchanged=unchanged,
        complete=True,
    )


def plan_contents(contents: Contents) -> Plan:
    """Plan to put in force what was kept on disk."""
    wanted = {key: Target(held.digest, held.revision) for key, held in contents.held.items()}
    return Plan(revision=contents.revision, wanted=wanted, complete=True)


def decode_body(body: bytes | None, target: Target) -> Entry | str:
    """Return the entry, or the reason why it must not be used."""
    if body is None:
        return f"the store has no entry {target.digest[:12]}"
    try:
        return decode(body, digest=target.digest)
    except EntryRefused as error:
        return f"{type(error).__name__}: {error}"


def _plan_forged(
    contents: Contents, manifest: Manifest, reason: str, *, keyring: Keyring, channel: Channel
) -> Plan:
    wanted, _ = _compare(contents, manifest)
    newer = {
        key: target
        for key, target in wanted.items()
        if target.revision > _known_since(contents, key)
        and is_field_genuine(keyring, channel, manifest.fields[key])
    }
    said = f"the manifest does not fit its head: {reason}"
    return Plan(revision=contents.revision, wanted=newer, broken=said, distrusted=said)


def _newest(contents: Contents) -> Revision:
    # What was taken from a manifest that did not fit its head is newer than the revision in force.
    return max([contents.revision, *(held.revision for held in contents.held.values())])


def _known_since(contents: Contents, key: str) -> Revision:
    # Up to the revision in force all is known: an object that is not held was removed, and its
    # old field, genuine as it is, must not bring it back.
    held = contents.held.get(key)
    return max(contents.revision, held.revision) if held else contents.revision


def _compare(
    contents: Contents, manifest: Manifest
) -> tuple[Mapping[str, Target], Mapping[str, Target]]:
    wanted: dict[str, Target] = {}
    unchanged: dict[str, Target] = {}
    for key, said in manifest.fields.items():
        held = contents.held.get(key)
        if held is None or held.digest != said.digest:
            wanted[key] = Target(said.digest, said.revision)
        elif held.revision != said.revision:
            unchanged[key] = Target(said.digest, said.revision)
    return wanted, unchanged


def _nothing(contents: Contents, reason: str) -> Plan:
    return Plan(revision=contents.revision, broken=reason, distrusted=reason)
