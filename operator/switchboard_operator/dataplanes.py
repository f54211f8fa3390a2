"""The data planes of a scope: who is there, who is silent, who is gone for good.

One summary a scope (a ConfigMap that a person can read, an Event when a pod falls silent, refuses
or comes back) carries what would otherwise rewrite the status of every object.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from switchboard_operator.errors import ApiRefused, KubeError
from switchboard_operator.summary import (
    NO_CLIENTS,
    Change,
    ClientCount,
    Summary,
    Told,
    changes,
    read_told,
    summarise,
    tell,
)
from switchboard_policy.compiler.world import Name
from switchboard_policy.store import SILENT_MS, Pod, PodSeen, Revision, StoreWriter

FORGET_WITHOUT_POD_MS: Final = 600_000
"""A silent data plane that runs outside Kubernetes is forgotten after this."""
SUMMARY_EVERY_S: Final = 10.0
"""It is written this often at most where only revisions moved, as they do with every edit."""
SUMMARY_MOVED_EVERY_S: Final = 2.0
"""The same where a pod came, went, fell silent or refused, or the store did."""
SUMMARY_STALE_S: Final = 60.0
"""It is written this often even where nothing changed: one that is older has no operator."""

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

log = logging.getLogger(__name__)


class Cluster(Protocol):
    """The calls that are made; all may raise KubeError."""

    async def pod_uid(self, name: Name) -> str | None:
        """Return a Pod's uid; None if it is gone."""
        ...

    async def config_map(self, name: Name) -> Mapping[str, str] | None:
        """Return the data of a ConfigMap; None if there is none."""
        ...

    async def apply_config_map(self, name: Name, data: Mapping[str, str]) -> str:
        """Create or update a ConfigMap; return its uid."""
        ...

    async def record_event(
        self, about: Name, *, uid: str, warning: bool, reason: str, message: str, at: str
    ) -> None:
        """Post an Event about a ConfigMap."""
        ...


class DataPlanes:
    """The data planes of one scope, as the store shows them."""

    def __init__(
        self,
        scope: str,
        store: StoreWriter,
        cluster: Cluster,
        *,
        summary: Name,
        namespace: str,
        monotonic: Callable[[], float],
    ) -> None:
        self.scope = scope
        self.pods: Sequence[PodSeen] = ()
        self._store = store
        self._cluster = cluster
        self._summary = summary
        self._namespace = namespace
        self._monotonic = monotonic
        self._lost: dict[str, tuple[PodSeen, float]] = {}
        self._written: Summary | None = None
        self._told: Told | None = None
        self._written_at = float("-inf")

    async def refresh(self, spoke: Set[str] = frozenset()) -> bool:
        """Read the store; say whether a pod came, went, fell silent or said something new.

        A live pod that is gone although it is not among those that ``spoke`` was lost with what the
        store held: it counts until it registers again, or is silent. Raises ConnectionError.
        """
        before, now = self.pods, self._monotonic()
        found = {seen.pod.name: seen for seen in await self._store.pods(self.scope)}
        for seen in before:
            if seen.age_ms < SILENT_MS:
                self._lost.setdefault(seen.pod.name, (seen, now))
        self._lost = {
            name: (seen, since)
            for name, (seen, since) in self._lost.items()
            if name not in found and name not in spoke and _aged(seen, now - since) < SILENT_MS
        }
        lost = [
            msgspec.structs.replace(seen, age_ms=_aged(seen, now - since))
            for seen, since in self._lost.values()
        ]
        self.pods = [*found.values(), *lost]
        return _words(before) != _words(self.pods)

    def refused(self) -> frozenset[str]:
        """Return what some pod says that it refuses, whenever it was."""
        return frozenset(key for seen in self.pods for key in seen.pod.refused)

    @property
    def live(self) -> int:
        """How many pods have spoken lately."""
        return sum(seen.age_ms < SILENT_MS for seen in self.pods)

    async def forget_gone(self) -> int:
        """Forget silent pods that will not come back; return how many.

        Raises ConnectionError and KubeError.
        """
        gone = [seen.pod.name for seen in self.pods if await self._is_gone(seen)]
        for name in gone:
            await self._store.forget(self.scope, name)
        if gone:
            await self.refresh(frozenset(gone))
        return len(gone)

    async def report(
        self,
        revision: Revision,
        *,
        store: str = "",
        clients: ClientCount = NO_CLIENTS,
        monotonic_s: float,
        now: datetime,
    ) -> bool:
        """Write the summary if it is due and changed, or is old; say whether. Raises KubeError.

        ``store`` says why the store does not answer, "" if it does.
        """
        summary = summarise(self.pods, revision, store=store, clients=clients)
        if monotonic_s - self._written_at < self._rest_s(summary):
            return False
        self._written_at = monotonic_s
        there = {seen.pod.name for seen in self.pods}
        before = self._told
        if before is None:
            before = read_told(await self._cluster.config_map(self._summary))
        at = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        uid = await self._cluster.apply_config_map(self._summary, summary.data(written=at))
        self._written, self._told = summary, tell(summary)
        for change in changes(before, summary, there):
            await self._announce(change, uid=uid, at=at)
        return True

    def restart(self) -> None:
        """Begin as a new leader: another one may have written the summary since."""
        self._written, self._told = None, None
        self._written_at = float("-inf")

    def counts(self, revision: Revision) -> Mapping[str, int]:
        """Return how many pods are in which state, for the metrics."""
        summary = summarise(self.pods, revision)
        return {
            "live": summary.live,
            "silent": len(summary.silent),
            "behind": len(summary.behind),
            "refusing": sum(bool(seen.pod.refused) for seen in self.pods),
        }

    def _rest_s(self, summary: Summary) -> float:
        """Return how long the last summary has to have been there before this one is written."""
        if summary == self._written:
            return SUMMARY_STALE_S
        moved = self._written is not None and summary.moved(self._written)
        return SUMMARY_MOVED_EVERY_S if moved else SUMMARY_EVERY_S

    async def _announce(self, change: Change, *, uid: str, at: str) -> None:
        try:
            await self._cluster.record_event(
                self._summary,
                uid=uid,
                warning=change.warning,
                reason=change.reason,
                message=f"{self.scope}: {change.message}",
                at=at,
            )
        except KubeError as error:
            log.warning("the Event %s of %s: %s", change.reason, self.scope, error)

    async def _is_gone(self, seen: PodSeen) -> bool:
        if seen.age_ms < SILENT_MS:
            return False
        name = Name(seen.pod.namespace or self._namespace, seen.pod.name)
        # What is no name of a Pod is asked about of nobody: who writes in the scope may write it.
        if not seen.pod.uid or not all(map(_NAME.fullmatch, name)):
            return seen.age_ms >= FORGET_WITHOUT_POD_MS
        try:
            return await self._cluster.pod_uid(name) != seen.pod.uid
        except ApiRefused as error:
            # One Pod that may not be read keeps no other.
            log.warning("whether Pod %s is gone: %s", name, error)
            return False


def _aged(seen: PodSeen, passed_s: float) -> int:
    return seen.age_ms + int(passed_s * 1000)


def _words(pods: Sequence[PodSeen]) -> dict[str, tuple[Pod, bool]]:
    return {seen.pod.name: (seen.pod, seen.age_ms >= SILENT_MS) for seen in pods}
