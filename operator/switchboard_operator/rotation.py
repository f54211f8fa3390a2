"""The next step of a scope key's rotation: add a new key, put it to use, drop the old one. Pure.

Data planes get keys as a mounted Secret's file, up to two minutes late. So a new key is first
given out and not used; it signs and seals once every live data plane says that it holds it; the
old one goes once all of them run what the new one signed. What must survive a restart is in the
Secret (``Keys``); the rest is seen anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from switchboard_policy.store import SILENT_MS, PodSeen, Revision

AGREED_FOR: Final = timedelta(seconds=10)
"""Two heartbeats: after a flush of the store not all data planes are back with the first one."""
CHANNEL: Final = "channel/"
"""A data plane's refusal of a whole channel, and not of one object, begins with this."""


@dataclass(frozen=True, slots=True)
class Keys:
    """A scope's keys without the keys themselves.

    ``current`` signs and seals, since ``in_use_since``; ``created`` has every id. ``request`` is
    the demand that was met last.
    """

    current: str
    created: Mapping[str, datetime]
    in_use_since: datetime
    request: str = ""

    @property
    def coming(self) -> str:
        """The id of the key that is given out and not used yet; "" if there is none."""
        newest = max(self.created, key=lambda key_id: (self.created[key_id], key_id))
        return newest if self.created[newest] > self.created[self.current] else ""

    @property
    def going(self) -> frozenset[str]:
        """The ids of the keys that were used before the current one."""
        return frozenset(self.created.keys() - {self.current, self.coming})


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a rotation goes.

    A key is replaced at the age of ``rotate_after`` (zero: on demand alone). The longest wait for
    data planes is ``wait_at_most``, at each of the two waits. An old key stays for ``keep_old_for``
    at least.
    """

    rotate_after: timedelta
    wait_at_most: timedelta
    keep_old_for: timedelta


@dataclass(frozen=True, slots=True)
class Add:
    """Make a key and give it out; ``request`` is the demand that this meets."""

    request: str


@dataclass(frozen=True, slots=True)
class Use:
    """Sign and seal with a key from now on, although data planes ``without`` it are left."""

    key_id: str
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Drop:
    """Delete keys, although data planes are left that run what these signed (``without``)."""

    key_ids: frozenset[str]
    without: tuple[str, ...] = ()


Step = Add | Use | Drop


def holding_back(keys: Keys, pods: Sequence[PodSeen], signed: Revision | None) -> tuple[str, ...]:
    """Return the names of the live data planes that the rotation's next step has to wait for.

    ``signed`` is the first revision that the current key signed as a whole; None: none is yet.
    """
    live = [seen.pod for seen in pods if seen.age_ms < SILENT_MS]
    if coming := keys.coming:
        return tuple(sorted(pod.name for pod in live if coming not in pod.key_ids))
    if not keys.going:
        return ()
    return tuple(
        sorted(
            pod.name
            for pod in live
            if keys.current not in pod.key_ids
            or signed is None
            # The sequence goes on across epochs.
            or pod.revision.sequence < signed.sequence
            or any(name.startswith(CHANNEL) for name in pod.refused)
        )
    )


def next_step(
    keys: Keys,
    pace: Pace,
    *,
    now: datetime,
    request: str,
    waiting_for: tuple[str, ...],
    agreed: timedelta,
) -> Step | None:
    """Return what is due; None if nothing is.

    ``request`` is what a person demands ("" for nothing), ``waiting_for`` what ``holding_back``
    says, and ``agreed`` for how long it has said that nobody does.
    """
    ready = not waiting_for and agreed >= AGREED_FOR
    if coming := keys.coming:
        late = now - keys.created[coming] >= pace.wait_at_most
        return Use(coming, waiting_for) if ready or late else None
    if keys.going:
        kept = now - keys.in_use_since
        late = kept >= pace.keep_old_for + pace.wait_at_most
        due = late or (ready and kept >= pace.keep_old_for)
        return Drop(keys.going, waiting_for) if due else None
    old = pace.rotate_after and now - keys.created[keys.current] >= pace.rotate_after
    demanded = request not in ("", keys.request)
    return Add(request) if old or demanded else None


def take(keys: Keys, step: Step, *, now: datetime, key_id: str) -> Keys:
    """Return the keys after a step; ``key_id`` is the id of a key that is added."""
    match step:
        case Add(request):
            # Newer than all others, even if another replica's clock was ahead of this one.
            newest = max(keys.created.values()) + timedelta(microseconds=1)
            created = {**keys.created, key_id: max(now, newest)}
            return replace(keys, created=created, request=request)
        case Use(used):
            return replace(keys, current=used, in_use_since=now)
        case Drop(gone):
            left = {name: at for name, at in keys.created.items() if name not in gone}
            return replace(keys, created=left)
