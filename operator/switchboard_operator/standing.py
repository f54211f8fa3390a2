"""How far an object's newest entries have come at the data planes. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from switchboard_policy.store import SILENT_MS, PodSeen, Revision


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one object's newest entries have come at the data planes of its scopes.

    ``revision`` is the one that a pod must have reached, None if nothing of the object is
    published. ``pending`` says why its newest form is not in the store yet, "" if it is;
    ``store_away``: because the store takes nothing.
    """

    revision: Revision | None = None
    pods: int = 0
    acked: int = 0
    behind: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    pending: str = ""
    store_away: bool = False


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
    refused: list[str] = []
    for seen in pods:
        pod, total = seen.pod, total + 1
        reasons = [f"{pod.refused[key]} ({key})" for key in keys if key in pod.refused]
        if reasons:
            refused.append(f"{pod.name}: {reasons[0]}")
        elif pod.revision >= required:
            acked += 1
        else:
            age = f", silent for {seen.age_ms // 1000} s" if seen.age_ms >= SILENT_MS else ""
            behind.append(f"{pod.name} (at {pod.revision}{age})")
    return Standing(
        revision=required,
        pods=total,
        acked=acked,
        behind=tuple(sorted(behind)),
        refused=tuple(sorted(refused)),
        pending=pending,
        store_away=store_away,
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
        refused=tuple(pod for each in every for pod in each.refused),
        pending=next((each.pending for each in every if each.pending), ""),
        store_away=any(each.store_away for each in every),
    )
