"""Status patches: the latest edit first, a bounded number a second, one an object at a time."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from switchboard_operator import rendering, status
from switchboard_operator.errors import ApiRefused, Conflict, KubeError, NotFound
from switchboard_operator.inventory import Inventory
from switchboard_operator.lease import Clock
from switchboard_operator.resources import ObjectKey, parts
from switchboard_operator.status import Difference, Status

STEADY_PER_S: Final = 50
"""A fleet-wide change must not take the API server's breath away."""
CATCH_UP_PER_S: Final = 500
"""In the first pass after a start, which a person waits for."""
CATCH_UP_S: Final = 60.0
"""The first pass is over after this at the latest."""
COUNTS_EVERY_S: Final = 10.0
"""Numbers of endpoints and pods move all the time; an object's are written this often at most.

So is a status that somebody else overwrites: two who disagree must not keep the server busy.
"""
WORKERS: Final = 6
RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 30.0

log = logging.getLogger(__name__)


class Objects(Protocol):
    """The calls that are made."""

    async def replace_status(self, key: ObjectKey, *, uid: str, version: int, status: Any) -> Any:
        """Replace the status of this very object as it is at that version. Raises KubeError."""
        ...

    async def patch_status(self, key: ObjectKey, *, uid: str, status: Any) -> Any:
        """Merge into the status of this very object. Raises KubeError."""
        ...


Written = Callable[[ObjectKey, str, Status | None, Status], None]
"""Is told of an object and its uid, what its status was, and what it is now."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What this leader said of an object last, and at which version the object carries it.

    ``at`` is when it was written, long ago if the object carried it already.
    """

    uid: str
    status: Status
    version: int
    at: float = float("-inf")


@dataclass(frozen=True, slots=True)
class _Rest:
    """An object whose writes fail: how often in a row, and until when it is left alone."""

    failures: int
    until: float


class Patcher:
    """The statuses that are to be written, and the workers that write them.

    ``leads`` says whether this replica may write; ``done`` is told each outcome for the metrics,
    ``written`` what changed; ``changed`` is called where the answer to a patch shows an edit that
    no watch has shown yet.
    """

    def __init__(
        self,
        objects: Objects,
        inventory: Inventory,
        *,
        clock: Clock,
        leads: Callable[[], bool],
        done: Callable[[str], None],
        written: Written,
        changed: Callable[[], None],
    ) -> None:
        self._objects = objects
        self._inventory = inventory
        self._clock = clock
        self._leads = leads
        self._done = done
        self._told = written
        self._changed = changed
        self._wanted = OrderedDict[ObjectKey, Status]()
        """The last one goes first."""
        self._later = dict[ObjectKey, tuple[Status, float]]()
        self._said = dict[ObjectKey, _Said]()
        self._rests = dict[ObjectKey, _Rest]()
        self._busy = dict[ObjectKey, Status | None]()
        """What is being written, with what was wanted of the object since."""
        self._wake = asyncio.Condition()
        self._next_at = 0.0
        self._catch_up = set[ObjectKey]()
        self._catch_up_until = 0.0

    def restart(self, objects: Iterable[ObjectKey]) -> None:
        """Forget what was to be written; until each of these was written once, it goes fast."""
        for known in (self._wanted, self._later, self._said, self._rests):
            known.clear()
        self._busy = dict.fromkeys(self._busy)
        self._catch_up = set(objects)
        self._catch_up_until = self._clock.monotonic() + CATCH_UP_S

    def forget(self, key: ObjectKey) -> None:
        """Forget an object that is gone."""
        for known in (self._wanted, self._later, self._said, self._rests):
            known.pop(key, None)
        self._catch_up.discard(key)
        if key in self._busy:
            self._busy[key] = None

    @property
    def waiting(self) -> int:
        """How many patches are due."""
        return len(self._wanted) + len(self._busy)

    def held(self, key: ObjectKey) -> Status | None:
        """Return the status that an object carries, as far as it is one of ours."""
        return rendering.read(self._inventory.status(key))

    def said(self, key: ObjectKey) -> Status | None:
        """Return what this leader said of an object last, else what the object carries."""
        found, said = self._inventory.get(key), self._said.get(key)
        if found is not None and said is not None and said.uid == found.uid:
            return said.status
        return self.held(key)

    @property
    def leads(self) -> bool:
        """Whether this replica writes statuses at the moment."""
        return self._leads()

    async def want(self, key: ObjectKey, wanted: Status) -> None:
        """Have this status written, unless the object carries it or was just given it."""
        if key in self._busy:
            # What is under way decides what is lacking then.
            self._busy[key] = wanted
        elif self._queue(key, wanted):
            async with self._wake:
                self._wake.notify()

    async def release_later(self) -> None:
        """Let go out whose time has come; to be called every second or so."""
        now = self._clock.monotonic()
        for key, (wanted, not_before) in list(self._later.items()):
            if not_before <= now:
                self._queue_last(key, wanted)
        self._mend()
        if self._wanted:
            async with self._wake:
                self._wake.notify_all()

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    def _queue(self, key: ObjectKey, wanted: Status) -> bool:
        """Queue what an object lacks, now or for later; say whether it is due now."""
        self._wanted.pop(key, None)
        self._later.pop(key, None)
        found = self._inventory.get(key)
        if found is None:
            self.forget(key)
            return False
        version, said = self._inventory.version(key), self._said.get(key)
        if said is not None and said.uid != found.uid:
            said = None
        again = said is not None and said.status == wanted
        if again and said is not None and version <= said.version:
            # The server may have made something else of it; asking again would change nothing.
            return False
        difference = status.differs(self.held(key), wanted)
        if difference is Difference.NONE:
            self._rests.pop(key, None)
            self._catch_up.discard(key)
            at = said.at if said is not None else float("-inf")
            self._said[key] = _Said(found.uid, wanted, version, at)
            return False
        not_before = self._rests[key].until if key in self._rests else float("-inf")
        if said is not None and (again or difference is Difference.COUNTS):
            not_before = max(not_before, said.at + COUNTS_EVERY_S)
        if not_before > self._clock.monotonic():
            self._later[key] = wanted, not_before
            return False
        self._wanted[key] = wanted
        return True

    def _queue_last(self, key: ObjectKey, wanted: Status) -> None:
        """Queue behind all that is new: what fails, only counts, or was said before."""
        if self._queue(key, wanted):
            self._wanted.move_to_end(key, last=False)

    def _mend(self) -> None:
        """Say once more what somebody else has overwritten."""
        overwritten = self._inventory.rewritten()
        if not self._leads():
            # Another leader's words; what this one said is nothing to go by any more.
            self._said.clear()
            return
        for key in overwritten - self._wanted.keys() - self._later.keys() - self._busy.keys():
            said, found = self._said.get(key), self._inventory.get(key)
            if (
                said is not None
                and found is not None
                and found.generation == said.status.generation
            ):
                self._queue_last(key, said.status)

    async def _work(self) -> None:
        while True:
            async with self._wake:
                while not self._wanted:
                    await self._wake.wait()
            await self._take_turn()
            if not self._wanted:
                continue
            key, wanted = self._wanted.popitem()
            self._busy[key] = None
            try:
                lacking = await self._write(key, wanted)
            finally:
                since = self._busy.pop(key)
            if (newest := since or lacking) is not None:
                self._queue(key, newest)

    async def _write(self, key: ObjectKey, wanted: Status) -> Status | None:
        """Write a status; return it if that is to be tried once more."""
        found = self._inventory.get(key)
        if found is None or not self._leads():
            # The next epoch reports every object.
            return None
        try:
            before, now_is = await self._put(key, found.uid, wanted)
        except (NotFound, Conflict):
            self._done("gone")
        except KubeError as error:
            self._done("failed")
            log.warning("status of %s: %s", key, error)
            return self._after(key, wanted, error)
        else:
            self._rests.pop(key, None)
            self._catch_up.discard(key)
            self._done("written")
            self._note(key, found.uid, wanted, version=int(now_is["metadata"]["resourceVersion"]))
            self._told(key, found.uid, before, wanted)
            if self._inventory.update(key.kind, now_is):
                self._changed()
        return None

    async def _put(self, key: ObjectKey, uid: str, wanted: Status) -> tuple[Status | None, Any]:
        """Return what the status was, as far as is known, and the object as it is now."""
        before, body = self.held(key), self._render(key, wanted)
        version = self._inventory.version(key)
        try:
            return before, await self._objects.replace_status(
                key, uid=uid, version=version, status=body
            )
        except Conflict:
            # Somebody wrote since: if it was another leader, what this one knows is old.
            if not self._leads():
                raise
        before, body = self.held(key), self._render(key, wanted)
        return before, await self._objects.patch_status(key, uid=uid, status=body)

    def _render(self, key: ObjectKey, wanted: Status) -> Any:
        held = parts(self._inventory.status(key), "conditions")
        return rendering.render(wanted, held, now=self._clock.now())

    async def _take_turn(self) -> None:
        now = self._clock.monotonic()
        fast = self._catch_up and now < self._catch_up_until
        turn_at = max(self._next_at, now)
        self._next_at = turn_at + 1 / (CATCH_UP_PER_S if fast else STEADY_PER_S)
        if turn_at > now:
            await self._clock.sleep(turn_at - now)

    def _after(self, key: ObjectKey, wanted: Status, error: KubeError) -> Status | None:
        """Let an object rest whose write failed, longer each time."""
        found = self._inventory.get(key)
        if found is None:
            return None
        if isinstance(error, ApiRefused) and error.status in (400, 422):
            # The server will refuse the same words again: the next change brings others.
            self._note(key, found.uid, wanted, version=self._inventory.version(key))
            return None
        failures = self._rests[key].failures + 1 if key in self._rests else 1
        delay_s = min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** min(failures, 8))
        delay_s *= 0.5 + self._clock.random.random()
        self._rests[key] = _Rest(failures, self._clock.monotonic() + delay_s)
        return wanted

    def _note(self, key: ObjectKey, uid: str, wanted: Status, *, version: int) -> None:
        if self._inventory.get(key) is not None:
            self._said[key] = _Said(uid, wanted, version, self._clock.monotonic())
