"""The first lists, before which no absence is believed, and the audits that find lost deletions.

kopf's watches keep the inventory current, but a watch that starts anew (an expired version, a
broken connection) shows what is there and not what went; and kopf, which asks once which kinds
there are, never watches one that an API server in its first second does not know yet. So each kind
is listed again, names only, shortly after a watch has listed, and every minute.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Protocol

from switchboard_operator.errors import Forbidden, KubeError, NotFound
from switchboard_operator.inventory import Inventory
from switchboard_operator.resources import WATCHED, Kind, Listed, Resource

AUDIT_EVERY_S: Final = 60.0
AUDIT_AFTER_LIST_S: Final = 1.0
FIRST_EVENTS_S: Final = 10.0
"""A new watch has shown something of every kind by then, if there is anything."""
EVENT_MAX_S: Final = 3.0
"""An event takes milliseconds; one that takes longer than this was lost."""
RETRY_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)

log = logging.getLogger(__name__)


class Lists(Protocol):
    """The calls that are made; all may raise KubeError."""

    def pages(self, resource: Resource, namespace: str = "") -> AsyncIterator[list[dict[str, Any]]]:
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
        self._changed = changed
        self._stalled = stalled
        self._due: set[Kind] = set()
        self._wake = asyncio.Event()
        self._began = asyncio.Event()
        self._heard: set[Kind] = set()
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
        """Expect every kind to be listed by its new watch."""
        self._heard.clear()
        self._began.set()

    def relisted(self, kind: Kind) -> None:
        """Have a kind audited soon: its watch has started anew."""
        self._heard.add(kind)
        self._due.add(kind)
        self._wake.set()

    async def run(self) -> None:
        """Audit until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._audit_forever())
            group.create_task(self._check_new_watches())

    async def _audit_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(AUDIT_EVERY_S):
                    await self._wake.wait()
                    # A watch that lists shows one object after another; one audit is enough.
                    await asyncio.sleep(AUDIT_AFTER_LIST_S)
            except TimeoutError:
                self._due.update(WATCHED)
            due, self._due = self._due, set[Kind]()
            self._wake.clear()
            for kind in due:
                try:
                    await self._audit(kind)
                except KubeError as error:
                    log.warning("cannot audit %s: %s", kind, error)

    async def _check_new_watches(self) -> None:
        while True:
            await self._began.wait()
            self._began.clear()
            await asyncio.sleep(FIRST_EVENTS_S)
            try:
                silent = [kind for kind in self._watched() if await self._is_silent(kind)]
            except KubeError:
                self._began.set()
                continue
            if silent and not self._began.is_set():
                log.warning("no watch shows %s; starting the watches anew", ", ".join(silent))
                self._stalled()

    def _watched(self) -> list[Kind]:
        named = self._namespaces != ("",)
        return [kind for kind in WATCHED if not (named and kind is Kind.NAMESPACE)]

    async def _is_silent(self, kind: Kind) -> bool:
        if kind in self._heard:
            return False
        found = [await self._lists.names(WATCHED[kind], each) for each in self._namespaces]
        return any(names for names, _ in found) and kind not in self._heard

    async def _load(self, kind: Kind) -> bool:
        if kind not in self._watched():
            return await self._read_namespaces()
        news = False
        for namespace in self._namespaces:
            async for items in self._lists.pages(WATCHED[kind], namespace):
                for item in items:
                    news |= self._inventory.take(kind, item)
                # Parsing a page takes a while; probes are answered between two.
                await asyncio.sleep(0)
        return news

    async def _audit(self, kind: Kind) -> None:
        if kind not in self._watched():
            if await self._read_namespaces():
                self._changed()
            return
        missed: set[Listed] = set()
        for namespace in self._namespaces:
            present, version = await self._lists.names(WATCHED[kind], namespace)
            missed |= self._inventory.missed(kind, present)
            if self._inventory.prune(kind, present, version, namespace):
                log.info("an audit of %s found deletions that no watch had shown", kind)
                self._changed()
        if missed and await self._still_missed(kind, missed):
            log.warning("a watch of %s missed edits; starting the watches anew", kind)
            self._stalled()
            if await self._load(kind):
                self._changed()

    async def _still_missed(self, kind: Kind, missed: set[Listed]) -> bool:
        """Give the watch the time that an event takes; what moved on meanwhile does not count."""
        await asyncio.sleep(EVENT_MAX_S)
        for namespace in self._namespaces:
            present, _ = await self._lists.names(WATCHED[kind], namespace)
            if missed & self._inventory.missed(kind, present):
                return True
        return False

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
