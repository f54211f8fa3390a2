"""Who waits for an endpoint, in which order, and how long that is foreseen to take. Pure.

A queue belongs to a backend; a request that several backends may serve waits in all their queues.
The slot that an endpoint has free goes from the request that leaves it to the first that waits,
without a moment in which one that just came could take it: it stays counted as in flight until
the one that waited is awake. Times are the event loop's, in seconds.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from math import inf
from typing import Final, Protocol

from switchboard_dataplane.signals.average import Average

#: Requests that wait for the first endpoint of a backend which says nothing of a queue.
WAKING_MAX: Final = 1_000
#: What a caller is told at least and at most, where no room is left, in seconds.
RETRY_AFTER_MIN_S: Final = 1.0
RETRY_AFTER_MAX_S: Final = 60.0


#: Minus the priority, when the request came, and a number that no other has.
Place = tuple[float, float, float]


class Slot(Protocol):
    """An endpoint that can hold a place for a request that is being woken."""

    def reserve(self) -> None:
        """Count a request in, before it is sent."""
        ...

    def unreserve(self) -> None:
        """Count it out again."""
        ...

    def offer(self, *, after: "Waiter | None" = None) -> None:
        """Offer a place that was not taken to the next that waits, behind ``after``."""
        ...


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits. ``key`` is its place: a lower one comes first.

    ``since`` is when it began to wait, ``queued_at`` when for an endpoint that is full (infinite
    before). ``wake`` is called when there is something to decide; while it is awake it is
    ``alert``, and nothing is handed to it.
    """

    key: Place
    since: float
    wake: Callable[[], None]
    queued_at: float = inf
    alert: bool = True
    slot: Slot | None = None
    queues: "dict[str, BackendQueue]" = field(default_factory=dict[str, "BackendQueue"])
    wakes: "dict[str, BackendQueue]" = field(default_factory=dict[str, "BackendQueue"])

    @property
    def priority(self) -> int:
        """The priority that the caller gave it."""
        return -int(self.key[0])

    def rouse(self) -> None:
        """Wake it, if it sleeps."""
        if not self.alert:
            self.alert = True
            self.wake()

    def drop(self, queue: "BackendQueue") -> None:
        """Take in that it had to leave a queue, for a request of a higher priority."""
        for inside in (self.queues, self.wakes):
            for name in [name for name, one in inside.items() if one is queue]:
                del inside[name]
        self.rouse()

    def give_back(self) -> Slot | None:
        """Count the slot that it was handed as free again, and return it."""
        slot, self.slot = self.slot, None
        if slot is not None:
            slot.unreserve()
        return slot


class BackendQueue:
    """The requests that wait for one backend, in order, and how long it holds a request."""

    __slots__ = ("took_s", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Waiter] = []
        self.took_s = Average()

    def has_room(self, priority: int, most: int) -> bool:
        """Say whether one more may wait, or one of a negative priority makes room for it."""
        if len(self.waiting) < most:
            return True
        last = self.waiting[-1].priority
        return last < 0 and last < priority

    def ahead(self, priority: int) -> int:
        """Return how many come before one that comes now."""
        return bisect_right(self.waiting, (float(-priority), inf, inf), key=_key)

    def enter(self, waiter: Waiter, most: int) -> Waiter | None:
        """Let a request wait at its place; return the one that made room for it, if any."""
        at = bisect_left(self.waiting, waiter.key, key=_key)
        self.waiting.insert(at, waiter)
        return self.waiting.pop() if len(self.waiting) > most else None

    def leave(self, waiter: Waiter) -> None:
        """Let a request go; one that has gone already may go again."""
        at = bisect_left(self.waiting, waiter.key, key=_key)
        if at < len(self.waiting) and self.waiting[at] is waiter:
            del self.waiting[at]

    def freed(self, slot: Slot, now: float, *, took_s: float) -> None:
        """Take in that a request has left an endpoint, after so long."""
        self.took_s.take(took_s, now)
        if self.waiting:
            self.hand_on(slot)

    def hand_on(self, slot: Slot, *, after: Waiter | None = None) -> None:
        """Give a free slot to the first that waits, behind ``after``, and was not woken yet."""
        for waiter in self.waiting:
            if not waiter.alert and (after is None or waiter.key > after.key):
                slot.reserve()
                waiter.slot = slot
                waiter.rouse()
                return

    def rouse(self) -> None:
        """Wake all: what they wait for has changed."""
        for waiter in tuple(self.waiting):
            waiter.rouse()


class Queues(dict[str, BackendQueue]):
    """Queues by backend, made when they are first asked for."""

    def __missing__(self, backend: str) -> BackendQueue:
        made = self[backend] = BackendQueue()
        return made

    def rouse(self, backends: AbstractSet[str] | None = None) -> None:
        """Wake who waits for one of these backends; for any without a set."""
        names = list(self) if backends is None else self.keys() & backends
        for name in names:
            self[name].rouse()

    def counts(self) -> Mapping[str, int]:
        """Return how many wait, by backend; from any thread."""
        return {name: len(queue.waiting) for name, queue in self.copy().items()}

    def keep_only(self, backends: AbstractSet[str]) -> None:
        """Forget backends that are gone and nobody waits for."""
        for name in self.keys() - backends:
            if not self[name].waiting:
                del self[name]


def foreseen_s(queues: Mapping[BackendQueue, int], ahead: int, now: float) -> float | None:
    """Return how long it takes until so many have been served; None if nobody knows.

    ``queues`` are those that one waits in, with the requests in flight at each backend: by Little's
    law they leave at the rate of those in flight by how long each is there.
    """
    rate = 0.0
    for queue, in_flight in queues.items():
        if queue.took_s.counts(now) and queue.took_s.value > 0.0:
            rate += in_flight / queue.took_s.value
    return ahead / rate if rate else None


def _key(waiter: Waiter) -> Place:
    return waiter.key
