"""What revisions a store and its readers show over time: none of them may ever go back."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx2

from cluster.line import Running

LOOK_S: Final = 0.05

Revision = tuple[int, int]
Look = Callable[[], Mapping[str, Revision]]


@dataclass
class Watched:
    """Revisions by what showed them, in the order in which they were seen."""

    seen: dict[str, list[Revision]] = field(default_factory=dict)

    def note(self, where: str, revision: Revision) -> None:
        """Add a revision unless it is the one before."""
        known = self.seen.setdefault(where, [])
        if not known or known[-1] != revision:
            known.append(revision)

    def check(self, where: str) -> None:
        """Fail where a revision went back, or where there never was another."""
        found = {name: seen for name, seen in self.seen.items() if name.startswith(where)}
        assert found, where
        for name, revisions in found.items():
            assert revisions == sorted(revisions), name
            assert len(revisions) > 1 or "endpoints" in name, name


def in_force(planes: Mapping[str, Running]) -> Look:
    """Return what tells the revisions that data planes have in force."""

    def look() -> Mapping[str, Revision]:
        return {
            f"{name} {channel}": read(text)
            for name, plane in planes.items()
            for channel, text in plane.ready()["source"]["revisions"].items()
        }

    return look


def read(text: str) -> Revision:
    """Return epoch and sequence."""
    epoch, _, sequence = text.partition("-")
    return int(epoch), int(sequence)


@contextmanager
def watching(*looks: Look) -> Iterator[Watched]:
    """Look at all revisions again and again, in a thread."""
    watched, over = Watched(), threading.Event()

    def look() -> None:
        while not over.wait(LOOK_S):
            for each in looks:
                try:
                    found = each()
                except (OSError, httpx2.HTTPError):
                    continue
                for where, revision in found.items():
                    watched.note(where, revision)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watched
    finally:
        over.set()
        thread.join()
