"""The summary of a scope: what there is of data planes, and what lacks. Pure."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final, NamedTuple

from switchboard_policy.store import SILENT_MS, PodSeen, Revision

NAMED_PODS_MAX: Final = 20
MESSAGE_CHARACTERS_MAX: Final = 900
"""Of an Event, beside the name of the scope; the API server refuses more than 1,024."""
NONE_LACKS: Final = "nothing"


class ClientCount(NamedTuple):
    """Client Secrets of a scope: those that make a client, and those that are refused."""

    known: int = 0
    refused: int = 0


NO_CLIENTS: Final = ClientCount()


@dataclass(frozen=True, slots=True)
class Summary:
    """What is so of a scope's data planes, without anything that changes every second.

    ``in_force`` counts the live pods that have the newest revision and refuse nothing; ``store``
    says why the store does not answer, "" if it does: then the rest is as it was last seen.
    """

    revision: str
    pods: int
    live: int
    in_force: int
    behind: tuple[str, ...]
    silent: tuple[str, ...]
    refusals: tuple[str, ...]
    store: str = ""
    clients: ClientCount = NO_CLIENTS

    @property
    def lacks(self) -> str:
        """What is not as it should be, in a few words."""
        said = [
            f"{len(names)} {what}"
            for names, what in (
                (self.silent, "silent"),
                (self.behind, "behind"),
                (self.refusals, "refused"),
            )
            if names
        ]
        return ", ".join([*(["the store"] if self.store else []), *said]) or NONE_LACKS

    def moved(self, before: "Summary") -> bool:
        """Say whether it tells something else than the revisions of pods."""
        said, then = (
            (each.pods, each.silent, each.refusals, each.store, each.clients)
            for each in (self, before)
        )
        return said != then

    def data(self, *, written: str) -> dict[str, str]:
        """Return it as the data of a ConfigMap, with the time of writing."""
        return {
            "revision": self.revision,
            "pods": str(self.pods),
            "live": f"{self.live}/{self.pods}",
            "inForce": f"{self.in_force}/{self.pods}",
            "lacks": self.lacks,
            "behind": _lines(self.behind),
            "silent": _lines(self.silent),
            "refusals": _lines(self.refusals),
            "store": self.store,
            "clients": str(self.clients.known),
            "clientsRefused": str(self.clients.refused),
            "written": written,
        }


class Told(NamedTuple):
    """What Events have told so far: the silent pods, the refusals, and whether the store answers.

    ``more`` says that there were more names than a summary holds.
    """

    silent: frozenset[str] = frozenset()
    refusals: frozenset[str] = frozenset()
    store: bool = True
    more: bool = False


class Change(NamedTuple):
    """What an Event of a summary says."""

    reason: str
    message: str
    warning: bool


def summarise(
    pods: Sequence[PodSeen],
    revision: Revision,
    *,
    store: str = "",
    clients: ClientCount = NO_CLIENTS,
) -> Summary:
    """Sum up a scope whose newest revision is ``revision``."""
    silent = {seen.pod.name for seen in pods if seen.age_ms >= SILENT_MS}
    # The sequence goes on across epochs; a new leader alone puts nobody behind.
    behind = {
        seen.pod.name: seen.pod.revision
        for seen in pods
        if seen.pod.name not in silent and seen.pod.revision.sequence < revision.sequence
    }
    refusing = {seen.pod.name for seen in pods if seen.pod.refused}
    return Summary(
        revision=str(revision),
        pods=len(pods),
        live=len(pods) - len(silent),
        in_force=len(pods) - len(silent | behind.keys() | refusing),
        behind=tuple(sorted(f"{name} at {at}" for name, at in behind.items())),
        silent=tuple(sorted(silent)),
        refusals=tuple(
            sorted(
                # A line each: an heir reads from them what was told.
                " ".join(f"{seen.pod.name}: {key}: {reason}".split())
                for seen in pods
                for key, reason in seen.pod.refused.items()
            )
        ),
        store=store,
        clients=clients,
    )


def changes(before: Told, after: Summary, there: Set[str]) -> Iterator[Change]:
    """Yield what is to be told of a new summary; ``there`` are the pods that are registered."""
    silent, refusals = set(after.silent), set(after.refusals)
    back = before.silent - silent
    for reason, names, warning in (
        ("PodSilent", silent - before.silent, True),
        ("PodSpeaksAgain", back & there, False),
        ("PodGone", back - there, False),
        ("PodRefuses", refusals - before.refusals, True),
        ("PodRefusesNoMore", before.refusals - refusals, False),
    ):
        if names and not (before.more and warning):
            yield Change(reason, _bounded(", ".join(sorted(names)[:NAMED_PODS_MAX])), warning)
    if before.store and after.store:
        yield Change("StoreUnavailable", _bounded(after.store), warning=True)
    if not before.store and not after.store:
        yield Change("StoreAvailable", "the store answers again", warning=False)


def tell(summary: Summary) -> Told:
    """Return what is told once the changes to this summary are."""
    return Told(frozenset(summary.silent), frozenset(summary.refusals), store=not summary.store)


def read_told(data: Mapping[str, str] | None) -> Told:
    """Return what the Events of an earlier leader told, by the summary that it left."""
    if data is None:
        return Told()
    silent, refusals = (data.get(name, "").splitlines() for name in ("silent", "refusals"))
    more = any(len(lines) > NAMED_PODS_MAX for lines in (silent, refusals))
    return Told(
        frozenset(silent[:NAMED_PODS_MAX]),
        frozenset(refusals[:NAMED_PODS_MAX]),
        store=not data.get("store"),
        more=more,
    )


def _bounded(text: str) -> str:
    if len(text) <= MESSAGE_CHARACTERS_MAX:
        return text
    return text[: MESSAGE_CHARACTERS_MAX - 1] + "…"


def _lines(names: Sequence[str]) -> str:
    rest = len(names) - NAMED_PODS_MAX
    return "\n".join(names[:NAMED_PODS_MAX]) + (f"\nand {rest} more" if rest > 0 else "")
