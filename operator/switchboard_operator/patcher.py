"""Status patches: the latest edit first, a bounded number a second, one an object at a time."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from switchboard_operator import status
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
"""Numbers of endpoints and pods move all the time; an object's are written this often at most."""
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


class Patcher:
    """The statuses that are to be written, and the workers that write them.

    ``leads`` says whether this replica may write; ``done`` is told each outcome for the metrics,
    ``changed`` is called where the answer to a patch shows an edit that no watch has shown yet.
    """

    def __init__(
        self,
        objects: Objects,
        inventory: Inventory,
        *,
        clock: Clock,
        leads: Callable[[], bool],
        done: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._objects = objects
        self._inventory = inventory
        self._clock = clock
        self._leads = leads
        self._done = done
        self._changed = changed
        self._wanted: dict[ObjectKey, Status] = {}
        self._later: dict[ObjectKey, Status] = {}
        self._sent: dict[ObjectKey, tuple[str, Status, float]] = {}
        self._busy: set[ObjectKey] = set()
        self._wake = asyncio.Condition()
        self._next_at = 0.0
        self._catch_up = set[ObjectKey]()
        self._catch_up_until = 0.0
        self._failures = 0

    def restart(self, objects: Iterable[ObjectKey]) -> None:
        """Forget what was to be written; until each of these was written once, it goes fast."""
        self._wanted.clear()
        self._later.clear()
        self._sent.clear()
        self._catch_up = set(objects)
        self._catch_up_until = self._clock.monotonic() + CATCH_UP_S

    @property
    def waiting(self) -> int:
        """How many patches are due."""
        return len(self._wanted) + len(self._busy)

    def held(self, key: ObjectKey) -> Status | None:
        """Return the status that an object carries, as far as it is one of ours."""
        return status.read(self._inventory.status(key))

    async def want(self, key: ObjectKey, wanted: Status) -> None:
        """Have this status written, unless the object carries it or was just given it."""
        found = self._inventory.get(key)
        if found is None:
            return
        self._wanted.pop(key, None)
        self._later.pop(key, None)
        uid, sent, sent_at = self._sent.get(key, ("", None, float("-inf")))
        if uid == found.uid and sent == wanted:
            return
        difference = status.differs(self.held(key), wanted)
        if difference is Difference.NONE:
            return
        recently = self._clock.monotonic() - sent_at < COUNTS_EVERY_S
        if difference is Difference.COUNTS and uid == found.uid and recently:
            self._later[key] = wanted
            return
        self._wanted[key] = wanted
        async with self._wake:
            self._wake.notify()

    async def release_later(self) -> None:
        """Let counts go out whose time has come; to be called every second or so."""
        now = self._clock.monotonic()
        for key, wanted in list(self._later.items()):
            _, _, sent_at = self._sent.get(key, ("", None, float("-inf")))
            if now - sent_at >= COUNTS_EVERY_S:
                await self.want(key, wanted)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            async with self._wake:
                while self._pick() is None:
                    await self._wake.wait()
            await self._take_turn()
            if (key := self._pick()) is None:
                continue
            self._busy.add(key)
            try:
                await self._write(key, self._wanted.pop(key))
            finally:
                self._busy.discard(key)

    def _pick(self) -> ObjectKey | None:
        return next((key for key in reversed(self._wanted) if key not in self._busy), None)

    async def _write(self, key: ObjectKey, wanted: Status) -> None:
        found = self._inventory.get(key)
        if found is None or not self._leads():
            return
        held = parts(self._inventory.status(key), "conditions")
        body = status.render(wanted, held, now=self._clock.now())
        try:
            now_is = await self._put(key, found.uid, body)
        except (NotFound, Conflict):
            self._done("gone")
        except KubeError as error:
            self._done("failed")
            await self._retry(key, wanted, error)
        else:
            self._failures = 0
            self._catch_up.discard(key)
            self._done("written")
            self._sent[key] = (found.uid, wanted, self._clock.monotonic())
            if self._inventory.take(key.kind, now_is):
                self._changed()

    async def _put(self, key: ObjectKey, uid: str, body: Any) -> Any:
        version = self._inventory.version(key)
        try:
            return await self._objects.replace_status(key, uid=uid, version=version, status=body)
        except Conflict:
            # Somebody wrote since; the status is so all the same, unless it is another object.
            return await self._objects.patch_status(key, uid=uid, status=body)

    async def _take_turn(self) -> None:
        now = self._clock.monotonic()
        fast = self._catch_up and now < self._catch_up_until
        turn_at = max(self._next_at, now)
        self._next_at = turn_at + 1 / (CATCH_UP_PER_S if fast else STEADY_PER_S)
        if turn_at > now:
            await self._clock.sleep(turn_at - now)

    async def _retry(self, key: ObjectKey, wanted: Status, error: KubeError) -> None:
        self._failures += 1
        log.warning("status of %s: %s", key, error)
        if isinstance(error, ApiRefused) and error.status in (400, 422):
            # The server will refuse the same words again: the next change brings others.
            self._sent[key] = (self._uid(key), wanted, self._clock.monotonic())
            return
        delay_s = min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** min(self._failures, 8))
        await self._clock.sleep(delay_s * (0.5 + self._clock.random.random()))
        self._wanted.setdefault(key, wanted)

    def _uid(self, key: ObjectKey) -> str:
        found = self._inventory.get(key)
        return found.uid if found else ""
