"""The data planes of a scope: who is there, who is silent, who is gone for good.

One summary a scope (a ConfigMap that a person can read, an Event when a pod goes silent or comes
back) carries what would otherwise rewrite the status of every object.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from switchboard_policy.compiler.world import Name
from switchboard_policy.store import SILENT_MS, Pod, PodSeen, Revision, StoreWriter

FORGET_WITHOUT_POD_MS: Final = 600_000
"""A silent data plane that runs outside Kubernetes is forgotten after this."""
SUMMARY_EVERY_S: Final = 10.0
NAMED_PODS_MAX: Final = 20


class Cluster(Protocol):
    """The calls that are made; all may raise KubeError."""

    async def pod_uid(self, name: Name) -> str | None:
        """Return a Pod's uid; None if it is gone."""
        ...

    async def apply_config_map(self, name: Name, data: Mapping[str, str]) -> str:
        """Create or update a ConfigMap; return its uid."""
        ...

    async def record_event(
        self, about: Name, *, uid: str, warning: bool, reason: str, message: str, at: str
    ) -> None:
        """Post an Event about a ConfigMap."""
        ...


@dataclass(frozen=True, slots=True)
class Summary:
    """What is so of a scope's data planes, without anything that changes every second."""

    revision: str
    pods: int
    live: int
    behind: tuple[str, ...]
    silent: tuple[str, ...]
    refusals: tuple[str, ...]

    def data(self) -> dict[str, str]:
        """Return it as the data of a ConfigMap."""
        return {
            "revision": self.revision,
            "pods": str(self.pods),
            "live": f"{self.live}/{self.pods}",
            "inForce": f"{self.pods - len(self.behind) - len(self.silent)}/{self.pods}",
            "behind": _lines(self.behind),
            "silent": _lines(self.silent),
            "refusals": _lines(self.refusals),
        }


def summarise(pods: Sequence[PodSeen], revision: Revision) -> Summary:
    """Sum up a scope whose newest revision is ``revision``."""
    silent = sorted(seen.pod.name for seen in pods if seen.age_ms >= SILENT_MS)
    behind = sorted(
        f"{seen.pod.name} at {seen.pod.revision}"
        for seen in pods
        # The sequence goes on across epochs; a new leader alone puts nobody behind.
        if seen.age_ms < SILENT_MS and seen.pod.revision.sequence < revision.sequence
    )
    refusals = sorted(
        f"{seen.pod.name}: {key}: {reason}"
        for seen in pods
        for key, reason in seen.pod.refused.items()
    )
    return Summary(
        revision=str(revision),
        pods=len(pods),
        live=len(pods) - len(silent),
        behind=tuple(behind),
        silent=tuple(silent),
        refusals=tuple(refusals),
    )


class DataPlanes:
    """The data planes of one scope, as the store shows them."""

    def __init__(
        self, scope: str, store: StoreWriter, cluster: Cluster, *, summary: Name, namespace: str
    ) -> None:
        self.scope = scope
        self.pods: Sequence[PodSeen] = ()
        self._store = store
        self._cluster = cluster
        self._summary = summary
        self._namespace = namespace
        self._written: Summary | None = None
        self._written_at = float("-inf")

    async def refresh(self) -> bool:
        """Read the store; say whether a pod came, went, fell silent or said something new.

        Raises ConnectionError.
        """
        before = _words(self.pods)
        self.pods = await self._store.pods(self.scope)
        return before != _words(self.pods)

    def refused(self) -> frozenset[str]:
        """Return the objects that some pod refuses."""
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
            await self.refresh()
        return len(gone)

    async def report(self, revision: Revision, *, monotonic_s: float, now: datetime) -> bool:
        """Write the summary if it changed and is due; say whether. Raises KubeError."""
        summary, before = summarise(self.pods, revision), self._written
        if summary == before or monotonic_s - self._written_at < SUMMARY_EVERY_S:
            return False
        self._written_at = monotonic_s
        uid = await self._cluster.apply_config_map(self._summary, summary.data())
        self._written = summary
        at = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for reason, names in _transitions(before, summary):
            await self._cluster.record_event(
                self._summary,
                uid=uid,
                warning=reason == "PodSilent",
                reason=reason,
                message=f"{self.scope}: {', '.join(names[:NAMED_PODS_MAX])}",
                at=at,
            )
        return True

    async def _is_gone(self, seen: PodSeen) -> bool:
        if seen.age_ms < SILENT_MS:
            return False
        if not seen.pod.uid:
            return seen.age_ms >= FORGET_WITHOUT_POD_MS
        name = Name(seen.pod.namespace or self._namespace, seen.pod.name)
        return await self._cluster.pod_uid(name) != seen.pod.uid


def _words(pods: Sequence[PodSeen]) -> dict[str, tuple[Pod, bool]]:
    return {seen.pod.name: (seen.pod, seen.age_ms >= SILENT_MS) for seen in pods}


def _transitions(before: Summary | None, after: Summary) -> list[tuple[str, list[str]]]:
    was = set(before.silent) if before else set[str]()
    found = [
        ("PodSilent", sorted(set(after.silent) - was)),
        ("PodSpeaksAgain", sorted(was - set(after.silent))),
    ]
    return [(reason, names) for reason, names in found if names]


def _lines(names: Sequence[str]) -> str:
    rest = len(names) - NAMED_PODS_MAX
    return "\n".join(names[:NAMED_PODS_MAX]) + (f"\nand {rest} more" if rest > 0 else "")
