"""What is in force: the snapshot, swapped by one assignment, and what has to follow the world."""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Final

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

#: What is built gives way to requests after so long, in seconds: thousands of objects at once
#: would hold them up for a good part of a second.
SLICE_S: Final = 0.001
#: An update of as many objects is what stays. After small ones, the endpoints that were replaced
#: since the last would be kept from the garbage collection.
FREEZE_OBJECTS_MIN: Final = 250


@dataclass(slots=True)
class InForce:
    """The snapshot in force: built aside, in slices, and swapped by one assignment.

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
    _slice_began: float = 0.0
    _building: asyncio.Lock = field(default_factory=asyncio.Lock)

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

    async def apply(self, update: Update) -> Mapping[str, str]:
        """Put an update in force; return what is refused and why."""
        async with self._building:
            self._slice_began = self.clock()
            await self._in_slices(self._rekey())
            # Never "full": a whole reading, too, tells what differs and what is gone.
            await self._in_slices(self.builder.build(update.changed, update.removed))
            revision = update.revisions["policy"]
            snapshot, refused = self.builder.finish(
                revision=str(revision), live_pods=self.live_pods()
            )
            await self._in_slices(self._greet(update, snapshot))
            replaced = _replaced(self.snapshot, snapshot, update)
            self.revision = revision
            if revision > ZERO:
                self.snapshot = snapshot
            await self._in_slices(_let_go(replaced))
        self._forget_ejected(snapshot)
        self._rouse({*update.changed, *update.removed})
        if len(update.changed) >= FREEZE_OBJECTS_MIN:
            # Without it in view, a collection takes no time.
            gc.freeze()
        # Not all refusals that stand, but those of this update: the rest has been told before.
        return {key: refused[key] for key in update.changed.keys() & refused.keys()}

    async def refresh(self) -> None:
        """Take in another number of pods, other keys; forget endpoints that are gone."""
        async with self._building:
            if self.snapshot is not None:
                self._slice_began = self.clock()
                await self._refresh(self.snapshot)

    async def _refresh(self, snapshot: Snapshot) -> None:
        keys = self._keys
        await self._in_slices(self._rekey())
        if keys is not self._keys or snapshot.live_pods != self.live_pods():
            self.snapshot, _ = self.builder.finish(
                revision=str(self.revision), live_pods=self.live_pods()
            )
            self._rouse({"policy/"})
        self.budgets.keep_only(snapshot.policies.keys())
        self.hedges.keep_only(snapshot.policies.keys())
        self.signals.queues.keep_only(snapshot.backends.keys())
        self.signals.waking.keep_only(snapshot.backends.keys())
        there = set[str]()
        await self._in_slices(_collect_endpoints(snapshot, there))
        self.signals.keep_only(there)

    async def _in_slices(self, steps: Iterable[None]) -> None:
        for _ in steps:
            await self._give_way()
        await self._give_way()

    async def _give_way(self) -> None:
        if self.clock() - self._slice_began >= SLICE_S:
            await asyncio.sleep(0)
            self._slice_began = self.clock()

    def _greet(self, update: Update, snapshot: Snapshot) -> Iterator[None]:
        """Let the endpoints that come with an update start slowly, one backend a step.

        Those that the first readings told of were there before this process was.
        """
        names = _backends_of(update.changed)
        for name in names & snapshot.backends.keys():
            endpoints = snapshot.backends[name].endpoints
            self.signals.joined((one.id for one in endpoints), self.clock(), new=self._read)
            yield
        self._read = all(revision > ZERO for revision in update.revisions.values())

    def _rouse(self, keys: Set[str]) -> None:
        """Let those that wait for a backend be decided anew that has changed: all with a policy."""
        policy = any(key.startswith("policy/") for key in keys)
        names = None if policy else _backends_of(keys)
        self.signals.queues.rouse(names)
        self.signals.waking.rouse(names)

    def _forget_ejected(self, snapshot: Snapshot) -> None:
        """Forget that endpoints are ejected that are gone: decisions count those that are out."""
        ejected = self.signals.ejected
        if ejected:
            there = map(snapshot.backends.get, ejected.counts)
            ejected.keep_only({one.id for backend in there if backend for one in backend.endpoints})

    def _rekey(self) -> Iterator[None]:
        keys = self.keyring()
        if keys is not self._keys:
            self._keys = keys
            yield from self.builder.rekey(keys)


def _backends_of(keys: Iterable[str]) -> set[str]:
    """Return the names of the backends that objects are of, or about."""
    return {key.partition("/")[2] for key in keys if not key.startswith(("policy/", "client/"))}


def _replaced(before: Snapshot | None, now: Snapshot, update: Update) -> list[object]:
    """Return what of the running policies is no longer in force."""
    if before is None:
        return []
    names = [key.partition("/")[2] for key in (*update.changed, *update.removed)]
    known = [(name, before.policies[name]) for name in names if name in before.policies]
    return [policy for name, policy in known if policy is not now.policies.get(name)]


def _collect_endpoints(snapshot: Snapshot, into: set[str]) -> Iterator[None]:
    """Put the ids of all endpoints into a set, one backend a step."""
    for backend in snapshot.backends.values():
        into.update(endpoint.id for endpoint in backend.endpoints)
        yield


def _let_go(objects: list[object]) -> Iterator[None]:
    """Drop objects one by one: to free thousands takes as long as to read them."""
    while objects:
        objects.pop()
        yield
