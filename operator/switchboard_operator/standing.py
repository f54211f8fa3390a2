"""How far an object's newest entries have come at the data planes. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from switchboard_policy.store import (
    MORE_REFUSED,
    POLICY_REFUSED,
    SILENT_MS,
    ZERO,
    Pod,
    PodSeen,
    Revision,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one object's newest entries have come at the data planes of its scopes.

    ``revision`` is the one that a pod must have reached, None if nothing of the object is
    published. ``behind`` names the pods that have not reached it, and why; ``distrusting`` those of
    them that take nothing from the store. ``pending`` says why its newest form is not in the store
    yet, "" if it is; ``store_away``: because the store takes nothing. ``unsure``: nobody knows
    whether some pod has it. ``took_s`` is how long that revision took to the last of the pods; None
    while one lacks it, and where nobody measured.
    """

    revision: Revision | None = None
    pods: int = 0
    acked: int = 0
    behind: tuple[str, ...] = ()
    distrusting: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    pending: str = ""
    store_away: bool = False
    unsure: bool = False
    took_s: float | None = None

    @property
    def complete(self) -> bool:
        """Whether every pod has it in force."""
        return self.revision is not None and 0 < self.pods == self.acked and not self.pending


def stand(
    pods: Iterable[PodSeen],
    keys: Mapping[str, Revision],
    pending: str = "",
    *,
    head: Revision,
    store_away: bool = False,
) -> Standing:
    """Compare acks with the revisions at which an object's entries last changed.

    ``head`` is the newest revision of the scope.
    """
    if not keys:
        return Standing(pending=pending, store_away=store_away)
    required = max(keys.values())
    total = acked = 0
    unsure = False
    behind: list[str] = []
    distrusting: list[str] = []
    refused: list[str] = []
    for seen in pods:
        pod, total = seen.pod, total + 1
        unsure |= is_unsure(pod, head)
        reasons = [
            f"{pod.refused[key]} ({key})"
            for key, at in keys.items()
            if _refuses(pod, key, at, head)
        ]
        if reasons:
            refused.append(f"{pod.name}: {reasons[0]}")
        elif reached(pod, head) >= required:
            acked += 1
        else:
            behind.append(f"{pod.name} ({', '.join(_why(seen, head))})")
            if POLICY_REFUSED in pod.refused and seen.age_ms < SILENT_MS:
                distrusting.append(behind[-1])
    return Standing(
        revision=required,
        pods=total,
        acked=acked,
        behind=tuple(sorted(behind)),
        distrusting=tuple(sorted(distrusting)),
        refused=tuple(sorted(refused)),
        pending=pending,
        store_away=store_away,
        unsure=unsure,
    )


def is_unsure(pod: Pod, head: Revision) -> bool:
    """Say whether a pod refuses more than it names, or stays ahead of a store that went back."""
    return MORE_REFUSED in pod.refused or _is_ahead(pod, head)


def reached(pod: Pod, head: Revision) -> Revision:
    """Return the revision up to which a pod has all that it does not name; ZERO if unsure."""
    return ZERO if is_unsure(pod, head) else pod.revision


def refusals(
    pods: Iterable[PodSeen], placed: Mapping[str, Revision], head: Revision
) -> frozenset[str]:
    """Return which of these entries some pod refuses as they are now.

    MORE_REFUSED is among them where a pod is unsure: that may be about any entry.
    """
    found = {
        key
        for seen in pods
        for key in seen.pod.refused
        if key in placed and _refuses(seen.pod, key, placed[key], head)
    }
    unsure = any(is_unsure(seen.pod, head) for seen in pods)
    return frozenset({*found, MORE_REFUSED} if unsure else found)


def _refuses(pod: Pod, key: str, at: Revision, head: Revision) -> bool:
    # What a pod refused before an entry changed says nothing of the entry as it is now.
    return key in pod.refused and pod.revision >= at and not _is_ahead(pod, head)


def _is_ahead(pod: Pod, head: Revision) -> bool:
    # One that trusts the store may have acked what this replica has yet to hear of.
    return POLICY_REFUSED in pod.refused and pod.revision > head


def _why(seen: PodSeen, head: Revision) -> Iterable[str]:
    """Yield what is known of a pod that has not acked."""
    pod = seen.pod
    yield f"at {pod.revision}"
    if seen.age_ms >= SILENT_MS:
        # Not how long: a status that says something new every time is written every time.
        yield f"silent for {SILENT_MS // 1000} s or more"
    if POLICY_REFUSED in pod.refused:
        yield ("delete it: " if _is_ahead(pod, head) else "") + pod.refused[POLICY_REFUSED]
    if MORE_REFUSED in pod.refused:
        yield f"it may refuse this one: {pod.refused[MORE_REFUSED]}"


def condemn(standing: Standing) -> Standing:
    """Return a standing in which a pod that takes nothing refuses the object, for good."""
    return replace(
        standing,
        behind=tuple(pod for pod in standing.behind if pod not in standing.distrusting),
        refused=(*standing.refused, *standing.distrusting),
    )


def combine(standings: Iterable[Standing]) -> Standing:
    """Return the standing of an object that is published in several scopes."""
    every = tuple(standings)
    if len(every) == 1:
        return every[0]
    return Standing(
        revision=max((each.revision for each in every if each.revision), default=None),
        pods=sum(each.pods for each in every),
        acked=sum(each.acked for each in every),
        behind=tuple(pod for each in every for pod in each.behind),
        distrusting=tuple(pod for each in every for pod in each.distrusting),
        refused=tuple(pod for each in every for pod in each.refused),
        pending=next((each.pending for each in every if each.pending), ""),
        store_away=any(each.store_away for each in every),
        unsure=any(each.unsure for each in every),
    )
