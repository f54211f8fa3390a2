"""Last good specs, kept in ControllerRevisions while a bad edit is quarantined.

What is in force must survive a restart of the operator and a flush of the store; the object itself
holds the bad edit by then.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from switchboard_operator.errors import ApiRefused, Forbidden, KubeError
from switchboard_operator.inventory import Inventory, OurObject
from switchboard_operator.kube import LastGood, last_good_name
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_policy.compiler.world import Name

log = logging.getLogger(__name__)


class Revisions(Protocol):
    """The calls that are made; all may raise KubeError."""

    async def last_good(self, namespace: str = "") -> list[LastGood]:
        """Return the kept specs."""
        ...

    async def keep_last_good(self, key: ObjectKey, *, uid: str, generation: int, spec: Any) -> None:
        """Keep a spec, in place of an older one."""
        ...

    async def drop_last_good(self, name: Name) -> None:
        """Delete a kept spec, if it is there."""
        ...


class Quarantine:
    """What is kept for which object."""

    def __init__(self, revisions: Revisions, inventory: Inventory) -> None:
        self._revisions = revisions
        self._inventory = inventory
        self._kept: dict[ObjectKey, str] = {}
        self._due: set[ObjectKey] = set()
        self._settling = asyncio.Lock()

    async def load(self, namespaces: Iterable[str]) -> None:
        """Read what is kept, before the objects themselves are read. Raises KubeError."""
        for namespace in namespaces:
            for found in await self._revisions.last_good(namespace):
                if found.kind in (Kind.BACKEND, Kind.POLICY) and found.uid:
                    key = ObjectKey(Kind(found.kind), found.object_name)
                    self._kept[key] = found.uid
                    self._due.add(key)
                    self._inventory.keep(found.uid, found.spec)

    def keeps(self, key: ObjectKey) -> bool:
        """Say whether a spec of an object is kept, which is to be dropped when the object goes."""
        return key in self._kept

    def touch(self, edited: Iterable[ObjectKey]) -> None:
        """Have ``settle`` look at these objects."""
        self._due.update(edited)

    async def settle(self, leads: Callable[[], bool]) -> None:
        """Keep and drop what is due, as long as this replica leads; what fails stays due."""
        async with self._settling:
            forbidden = set[str]()
            for key in list(self._due):
                if key.name.namespace in forbidden:
                    continue
                if not leads():
                    return
                # Before the calls: an edit amid them makes it due again.
                self._due.discard(key)
                try:
                    await self._settle(key, self._inventory.get(key))
                except KubeError as error:
                    log.warning("the last good spec of %s: %s", key, error)
                    self._due.add(key)
                    if not isinstance(error, ApiRefused):
                        return
                    if isinstance(error, Forbidden):
                        forbidden.add(key.name.namespace)

    async def _settle(self, key: ObjectKey, found: OurObject | None) -> None:
        kept = self._kept.get(key)
        good = found.last_good if found is not None and found.problems else None
        if kept is not None and (good is None or found is None or kept != found.uid):
            await self._revisions.drop_last_good(last_good_name(key, kept))
            self._kept.pop(key, None)
            kept = None
        if kept is None and found is not None and good is not None:
            spec = good.model_dump(mode="json", by_alias=True, exclude_unset=True)
            await self._revisions.keep_last_good(
                key, uid=found.uid, generation=found.generation, spec=spec
            )
            self._kept[key] = found.uid
            log.info("kept the last good spec of %s", key)
