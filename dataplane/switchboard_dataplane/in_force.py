"""What is in force: the snapshot, swapped by one assignment, and what has to follow the world."""

import gc
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_dataplane.sources.state import Update
from switchboard_policy.seal import Keyring
from switchboard_policy.store import ZERO, Revision


@dataclass(slots=True)
class InForce:
    """The snapshot in force: built aside, swapped by one assignment.

    ``snapshot`` is None until the first policy has come, from the store or from disk.
    """

    builder: SnapshotBuilder
    keyring: Callable[[], Keyring]
    live_pods: Callable[[], int]
    signals: SignalTable = field(default_factory=SignalTable)
    snapshot: Snapshot | None = None
    revision: Revision = ZERO
    _keys: Keyring | None = None

    def current(self) -> Snapshot | None:
        """Return the snapshot of this moment: what a request binds."""
        return self.snapshot

    def running_revision(self) -> tuple[int, int] | None:
        """Return the policy's (epoch, sequence), None before the first."""
        return self.revision if self.snapshot else None

    def in_flight(self) -> Mapping[str, int]:
        """Return the requests in flight, by backend."""
        by_backend: Counter[str] = Counter()
        # A copy: metrics are read in a thread of their own while endpoints come and go.
        for endpoint_id, signal in self.signals.copy().items():
            by_backend[endpoint_id.partition("@")[0]] += signal.in_flight
        return by_backend

    def apply(self, update: Update) -> Mapping[str, str]:
        """Put an update in force; return what is refused and why."""
        self.revision = update.revisions["policy"]
        self._rekey()
        # Never "full": a whole reading, too, tells what differs and what is gone.
        snapshot, refused = self.builder.apply(
            update.changed,
            update.removed,
            revision=str(self.revision),
            live_pods=self.live_pods(),
        )
        if self.revision > ZERO:
            self.snapshot = snapshot
        if update.full:
            # What was read as a whole stays: without it in view, a collection takes no time.
            gc.freeze()
        # Not all refusals that stand, but those of this update: the rest has been told before.
        return {key: refused[key] for key in update.changed.keys() & refused.keys()}

    def refresh(self) -> None:
        """Take in another number of pods, other keys; forget endpoints that are gone."""
        snapshot = self.snapshot
        if snapshot is None:
            return
        if self._rekey() or snapshot.live_pods != self.live_pods():
            self.snapshot, _ = self.builder.apply(
                {}, (), revision=str(self.revision), live_pods=self.live_pods()
            )
        self.signals.keep_only(
            frozenset(
                endpoint.id
                for backend in snapshot.backends.values()
                for endpoint in backend.endpoints
            )
        )

    def _rekey(self) -> bool:
        keys = self.keyring()
        if keys is self._keys:
            return False
        self._keys = keys
        self.builder.rekey(keys)
        return True
