"""What is in force: the snapshot, swapped by one assignment, and what has to follow the world."""

import gc
import time
from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field

from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.signals.admission import Queues
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.hedging import Hedges
from switchboard_dataplane.signals.retry_budget import RetryBudgets
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_dataplane.sources.state import Update
from switchboard_policy import ir
from switchboard_policy.seal import Keyring
from switchboard_policy.store import ZERO, Revision


@dataclass(slots=True)
class InForce:
    """The snapshot in force: built aside, swapped by one assignment.

    ``clock`` is the event loop's, for all that runs on what is in force. ``snapshot`` is None until
    the first policy has come, from the store or from disk.
    """

    builder: SnapshotBuilder
    keyring: Callable[[], Keyring]
    live_pods: Callable[[], int]
    signals: SignalTable = field(default_factory=SignalTable)
    budgets: RetryBudgets = field(default_factory=RetryBudgets)
    hedges: Hedges = field(default_factory=Hedges)
    clock: Callable[[], float] = time.monotonic
    snapshot: Snapshot | None = None
    revision: Revision = ZERO
    _keys: Keyring | None = None
    _read: bool = False

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

    def ejected(self) -> Mapping[str, int]:
        """Return how many endpoints are ejected, by backend."""
        snapshot, counts = self.snapshot, self.signals.ejected.counts.copy()
        return {} if snapshot is None else {n: counts.get(n, 0) for n in snapshot.backends}

    def queued(self) -> Mapping[str, int]:
        """Return how many requests wait for an endpoint below its limit, by backend."""
        return self._waiting(self.signals.queues, lambda spec: spec.queue is not None)

    def waking(self) -> Mapping[str, int]:
        """Return how many requests wait for a first endpoint, by backend."""
        return self._waiting(self.signals.waking, lambda spec: spec.wake_hold_ms > 0)

    def _waiting(
        self, queues: Queues, is_asked_for: Callable[[ir.Backend], bool]
    ) -> Mapping[str, int]:
        # Zero where nobody waits: an autoscaler wants a number, and all the time.
        snapshot, counts = self.snapshot, queues.counts()
        if snapshot is None:
            return counts
        asked_for = {
            name: 0 for name, backend in snapshot.backends.items() if is_asked_for(backend.spec)
        }
        return asked_for | {name: number for name, number in counts.items() if number}

    def breaker_rule(self, backend: str) -> ir.Breaker:
        """Return the rule by which the endpoints of a backend are ejected, by its name."""
        known = None if self.snapshot is None else self.snapshot.backends.get(backend)
        return ir.Breaker() if known is None else known.spec.health.breaker

    def is_there(self, endpoint_id: str) -> bool:
        """Say whether an endpoint is one of the snapshot in force, by its id."""
        name = endpoint_id.partition("@")[0]
        known = None if self.snapshot is None else self.snapshot.backends.get(name)
        return known is not None and any(one.id == endpoint_id for one in known.endpoints)

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
        self._greet(update, snapshot)
        self._forget_ejected(snapshot)
        self._rouse({*update.changed, *update.removed})
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
            self._rouse({"policy/"})
        self.budgets.keep_only(snapshot.policies.keys())
        self.hedges.keep_only(snapshot.policies.keys())
        self.signals.queues.keep_only(snapshot.backends.keys())
        self.signals.waking.keep_only(snapshot.backends.keys())
        self.signals.keep_only(
            frozenset(
                endpoint.id
                for backend in snapshot.backends.values()
                for endpoint in backend.endpoints
            )
        )

    def _greet(self, update: Update, snapshot: Snapshot) -> None:
        """Let the endpoints that came with an update start slowly.

        Those that the first readings told of were there before this process was.
        """
        names = {key.partition("/")[2] for key in update.changed if not key.startswith("policy/")}
        came = [snapshot.backends[name] for name in names & snapshot.backends.keys()]
        self.signals.joined(
            (endpoint.id for backend in came for endpoint in backend.endpoints),
            self.clock(),
            new=self._read,
        )
        self._read = all(revision > ZERO for revision in update.revisions.values())

    def _rouse(self, keys: Set[str]) -> None:
        """Let those that wait for a backend be decided anew that has changed: all with a policy."""
        policy = any(key.startswith("policy/") for key in keys)
        names = None if policy else {key.partition("/")[2] for key in keys}
        self.signals.queues.rouse(names)
        self.signals.waking.rouse(names)

    def _forget_ejected(self, snapshot: Snapshot) -> None:
        """Forget that endpoints are ejected that are gone: decisions count those that are out."""
        ejected = self.signals.ejected
        if ejected:
            there = map(snapshot.backends.get, ejected.counts)
            ejected.keep_only({one.id for backend in there if backend for one in backend.endpoints})

    def _rekey(self) -> bool:
        keys = self.keyring()
        if keys is self._keys:
            return False
        self._keys = keys
        self.builder.rekey(keys)
        return True
