"""The first lists, before which no absence is believed, and the audits that find lost deletions.

kopf's watches keep the inventory current, but a watch that starts anew (an expired version, a
broken connection) shows what is there and not what went; and kopf, which asks once which kinds
there are, never watches one that an API server in its first second does not know yet. So each kind
is listed again, names only, shortly after a watch has listed, and every minute; and all are where
all watches began anew, for one whose list is empty shows nothing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Protocol

from switchboard_operator.errors import Forbidden, KubeError, NotFound
from switchboard_operator.inventory import Inventory
from switchboard_operator.resources import WATCHED, Kind, Listed, Raw, Resource
from switchboard_policy.compiler.world import Name

AUDIT_EVERY_S: Final = 60.0
AUDIT_AFTER_LIST_S: Final = 1.0
"""From the last that asks for an audit to it: a watch that lists shows one object after another."""
FIRST_EVENTS_S: Final = 10.0
"""A new watch has shown something of every kind by then, if there is anything."""
FIRST_EVENTS_MAX_S: Final = 80.0
"""The same once watches were started anew for that: a machine may be too busy for the first."""
EVENT_MAX_S: Final = 3.0
"""An event takes milliseconds; what one that takes longer than this tells is read in its stead."""
LOST_AFTER_S: Final = 20.0
"""An event that is still not there by then was lost, and not only held up by a busy machine."""
RETRY_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)

log = logging.getLogger(__name__)


class Lists(Protocol):
    """The calls that are made; all may raise KubeError."""

    def pages(self, resource: Resource, namespace: str = "") -> AsyncIterator[Sequence[Raw]]:
        """Yield all objects, a page at a time."""
        ...

    async def names(self, resource: Resource, namespace: str = "") -> tuple[Sequence[Listed], int]:
        """Return every object's name, uid and version, and the version of the list."""
        ...

    async def get_namespace(self, name: str) -> dict[str, Any] | None:
        """Return one Namespace; None if gone."""
        ...


class Listing:
    """The kinds that are watched, in all namespaces ("") or in the given ones.

    ``changed`` is called where an audit found something, ``stalled`` where a watch shows nothing of
    what is there: it has to be started anew. With given namespaces the operator has no right to
    watch Namespaces, so their labels are read by the audits.
    """

    def __init__(
        self,
        lists: Lists,
        inventory: Inventory,
        namespaces: Sequence[str],
        *,
        changed: Callable[[], None],
        stalled: Callable[[], None],
    ) -> None:
        self._lists = lists
        self._inventory = inventory
        self._namespaces = tuple(namespaces) or ("",)
        self._named = bool(namespaces)
        self._changed = changed
        self._stalled = stalled
        self._due: set[Kind] = set()
        self._wake = asyncio.Event()
        self._began = asyncio.Event()
        self._heard: set[Kind] = set()
        self._owed: dict[tuple[Kind, Name], float] = {}
        self._loading: Kind | None = None
        self._deleted: set[str] = set()
        self.obstacle = "no list was read yet"
        """What hinders the first lists; "" once they are complete."""

    async def load(self) -> None:
        """Read every kind whole; tries until it succeeds, and says in ``obstacle`` what hinders."""
        for kind in WATCHED:
            attempt = 0
            while True:
                try:
                    await self._load(kind)
                    break
                except KubeError as error:
                    self.obstacle = _advice(kind, error)
                    log.error("cannot list %s: %s", kind, self.obstacle)  # noqa: TRY400
                    await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                    attempt += 1
        self.obstacle = ""

    def watch_began(self) -> None:
        """Expect every kind to be listed by its new watch, which shows no deletions before it."""
        self._heard.clear()
        self._owed.clear()
        self._audit_all_soon()
        self._began.set()

    def shown(self, kind: Kind, event_type: str | None, body: Raw) -> None:
        """Be told of each event of a watch; one without a type is of a list: it started anew."""
        meta = body["metadata"]
        self._heard.add(kind)
        self._owed.pop((kind, Name(meta.get("namespace", ""), meta["name"])), None)
        if event_type is None:
            self._due.add(kind)
            self._wake.set()
        elif event_type == "DELETED" and kind is self._loading:
            self._deleted.add(meta["uid"])

    async def run(self) -> None:
        """Audit until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._audit_forever())
            group.create_task(self._check_new_watches())

    async def _audit_forever(self) -> None:
        loop = asyncio.get_running_loop()
        all_at = loop.time() + AUDIT_EVERY_S
        while True:
            try:
                async with asyncio.timeout_at(all_at):
                    await self._wake.wait()
                    while self._wake.is_set():
                        self._wake.clear()
                        await asyncio.sleep(AUDIT_AFTER_LIST_S)
            except TimeoutError:
                all_at = loop.time() + AUDIT_EVERY_S
                self._due.update(WATCHED)
            due, self._due = self._due, set[Kind]()
            for kind in due:
                try:
                    await self._audit(kind)
                except KubeError as error:
                    log.warning("cannot audit %s: %s", kind, error)

    async def _check_new_watches(self) -> None:
        wait_s = FIRST_EVENTS_S
        while True:
            await self._began.wait()
            self._began.clear()
            await asyncio.sleep(wait_s)
            try:
                silent = [kind for kind in self._watched() if await self._is_silent(kind)]
            except KubeError:
                self._began.set()
                continue
            if silent and not self._began.is_set():
                log.warning("no watch shows %s; starting the watches anew", ", ".join(silent))
                wait_s = min(2 * wait_s, FIRST_EVENTS_MAX_S)
                self._stalled()
            else:
                wait_s = FIRST_EVENTS_S
            # A kind whose new list was empty has shown nothing: what was deleted before, least.
            self._audit_all_soon()

    def _audit_all_soon(self) -> None:
        self._due.update(WATCHED)
        self._wake.set()

    def _watched(self) -> list[Kind]:
        return [kind for kind in WATCHED if not (self._named and kind is Kind.NAMESPACE)]

    async def _is_silent(self, kind: Kind) -> bool:
        if kind in self._heard:
            return False
        found = [await self._lists.names(WATCHED[kind], each) for each in self._namespaces]
        return any(names for names, _ in found) and kind not in self._heard

    async def _load(self, kind: Kind) -> bool:
        if kind not in self._watched():
            return await self._read_namespaces()
        news, self._loading = False, kind
        try:
            for namespace in self._namespaces:
                async for items in self._lists.pages(WATCHED[kind], namespace):
                    for item in items:
                        # A page is of the moment in which it was asked for.
                        if item["metadata"]["uid"] not in self._deleted:
                            news |= self._inventory.take(kind, item)
                    # Parsing a page takes a while; probes are answered between two.
                    await asyncio.sleep(0)
        finally:
            self._loading, self._deleted = None, set()
        return news

    async def _audit(self, kind: Kind) -> None:
        if kind not in self._watched():
            if await self._read_namespaces():
                self._changed()
            return
        missed: set[Listed] = set()
        for namespace in self._namespaces:
            try:
                present, version = await self._lists.names(WATCHED[kind], namespace)
            except Forbidden as error:
                # One namespace that cannot be read keeps no other's deletions from being found.
                log.warning("cannot audit %s: %s", kind, error)
                continue
            missed |= self._inventory.missed(kind, present)
            if self._inventory.prune(kind, present, version, namespace):
                log.info("an audit of %s found deletions that no watch had shown", kind)
                self._changed()
        if missed and (late := await self._still_missed(kind, missed)):
            log.info("a watch of %s is late; reading what it has not shown", kind)
            self._expect(kind, late)
            if await self._load(kind):
                self._changed()

    async def _still_missed(self, kind: Kind, missed: set[Listed]) -> set[Listed]:
        """Give the watch the time that an event takes; what moved on meanwhile does not count."""
        await asyncio.sleep(EVENT_MAX_S)
        late: set[Listed] = set()
        for namespace in {each.name.namespace for each in missed} if self._named else ("",):
            present, _ = await self._lists.names(WATCHED[kind], namespace)
            late |= missed & self._inventory.missed(kind, present)
        return late

    def _expect(self, kind: Kind, late: set[Listed]) -> None:
        loop = asyncio.get_running_loop()
        for each in late:
            self._owed.setdefault((kind, each.name), loop.time())
        loop.call_later(LOST_AFTER_S, self._look_for_lost)

    def _look_for_lost(self) -> None:
        until = asyncio.get_running_loop().time() - LOST_AFTER_S
        lost = {str(kind) for (kind, _), since in self._owed.items() if since <= until}
        if lost:
            watches = ", ".join(sorted(lost))
            log.warning("a watch of %s missed edits; starting the watches anew", watches)
            self._owed.clear()
            self._stalled()

    async def _read_namespaces(self) -> bool:
        found = [await self._lists.get_namespace(name) for name in self._namespaces]
        news = [self._inventory.take(Kind.NAMESPACE, each) for each in found if each is not None]
        return any(news)


def _advice(kind: Kind, error: KubeError) -> str:
    if isinstance(error, Forbidden):
        return f"{error}; give the operator's Role this right, as the chart does"
    if isinstance(error, NotFound):
        return f"{error}; install the CustomResourceDefinitions (crds/ of the chart)"
    return str(error)
