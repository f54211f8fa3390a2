"""How far an object's newest entries have come at the data planes. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from switchboard_policy.store import (
    MORE_REFUSED,
    POLICY_REFUSED,
    SILENT_MS,
    PodSeen,
    Revision,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one object's newest entries have come at the data planes of its scopes.

    ``revision`` is the one that a pod must have reached, None if nothing of the object is
    published. ``behind`` names the pods that have not reached it, and why; ``distrusting`` those of
    them that take nothing from the store. ``pending`` says why its newest form is not in the store
    yet, "" if it is; ``store_away``: because the store takes nothing. ``took_s`` is how long that
    revision took to the last of the pods; None while one lacks it, and where nobody measured.
    """

    revision: Revision | None = None
    pods: int = 0
    acked: int = 0
    behind: tuple[str, ...] = ()
    distrusting: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    pending: str = ""
    store_away: bool = False
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
    store_away: bool = False,
) -> Standing:
    """Compare acks with the revisions at which an object's entries last changed."""
    if not keys:
        return Standing(pending=pending, store_away=store_away)
    required = max(keys.values())
    total = acked = 0
    behind: list[str] = []
    distrusting: list[str] = []
    refused: list[str] = []
    for seen in pods:
        pod, total = seen.pod, total + 1
        # What a pod refused before an entry changed says nothing of the entry as it is now.
        reasons = [
            f"{pod.refused[key]} ({key})"
            for key, at in keys.items()
            if key in pod.refused and pod.revision >= at
        ]
        if reasons:
            refused.append(f"{pod.name}: {reasons[0]}")
        elif pod.revision >= required and MORE_REFUSED not in pod.refused:
            acked += 1
        else:
            behind.append(f"{pod.name} ({', '.join(_why(seen))})")
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
    )


def _why(seen: PodSeen) -> Iterable[str]:
    """Yield what is known of a pod that has not acked."""
    yield f"at {seen.pod.revision}"
    if seen.age_ms >= SILENT_MS:
        # Not how long: a status that says something new every time is written every time.
        yield f"silent for {SILENT_MS // 1000} s or more"
    for of in (POLICY_REFUSED, MORE_REFUSED):
        if of in seen.pod.refused:
            yield seen.pod.refused[of]


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
    )
