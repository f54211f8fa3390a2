"""The learned routers that policies may name: files in one folder, each called by its digest.

A file is read once and checked; where one is missing the router that ships takes its place.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from switchboard_dataplane.choosing.predict import Router
    from switchboard_dataplane.signals.bandit import Sums

log = logging.getLogger(__name__)

#: Some 2 MB each once they are read.
ROUTERS_MAX: Final = 64
#: How a file is called: a ConfigMap's key may not hold a colon.
SUFFIX: Final = ".msgpack"

_NAME: Final = re.compile(r"(?:sha256[-:])?([0-9a-f]{64})\.msgpack\Z")

# ruff: noqa: PLC0415 - numpy is loaded with the first router


def file_name(digest: str) -> str:
    """Return what the file of a router is called, by its digest (``sha256:…``)."""
    return digest.removeprefix("sha256:") + SUFFIX


class Routers:
    """The routers of a folder, None for none. ``look`` may run in a thread of its own."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder: Final = folder
        self._known: Mapping[str, Router] = {}
        self._refused: frozenset[str] = frozenset()

    def __contains__(self, digest: str) -> bool:
        """Say whether a router is there, by its digest."""
        return digest in self._known

    def look(self) -> None:
        """Read what is new in the folder; a bad file is told of once.

        What was read stays, though its file may go: policies run with it.
        """
        if self._folder is None:
            return
        try:
            found = sorted(self._folder.iterdir())
        except OSError as error:
            log.warning("no routers: %s", error)
            return
        known = dict(self._known)
        refused: set[str] = set()
        for path in found:
            named = _NAME.match(path.name)
            if named is None:
                continue
            digest = f"sha256:{named[1]}"
            if digest in known:
                continue
            router = self._read(path, digest, refused)
            if router is not None:
                known[digest] = router
                if len(known) > ROUTERS_MAX:
                    del known[next(iter(known))]
        self._known, self._refused = known, frozenset(refused)

    def _read(self, path: Path, digest: str, refused: set[str]) -> "Router | None":
        from switchboard_dataplane.choosing.artifact import BYTES_MAX, ArtifactRefused
        from switchboard_dataplane.choosing.predict import load_router

        try:
            with path.open("rb") as file:
                router = load_router(file.read(BYTES_MAX + 1))
        except (OSError, ArtifactRefused) as error:
            why = str(error)
        else:
            if router.digest == digest:
                return router
            why = f"its bytes are {router.digest}"
        refused.add(path.name)
        if path.name not in self._refused:
            log.warning("the router %s is refused: %s", path.name, why)
        return None

    def predict(self, text: str, digest: str) -> Mapping[str, float]:
        """Return the quality of each target on a turn, not held to [0, 1].

        The one that does worst on the whole comes first, the best one last. The router that ships
        answers where there is none of that digest.
        """
        from switchboard_dataplane.choosing.predict import shipped_router
        from switchboard_dataplane.reading.lexical import read_lexical

        router = self._known.get(digest) or shipped_router()
        return router.ranked_scores(read_lexical(text))

    def rated_before(self, digest: str) -> "Mapping[str, Sums]":
        """Return the ratings by tier that a router was made of, for a bandit to begin with."""
        router = self._known.get(digest)
        return {} if router is None else router.rated
