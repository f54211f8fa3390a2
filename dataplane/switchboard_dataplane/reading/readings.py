"""Every reading by its name, and the one way to make them: only what is asked for, each once.

Long texts are read in slices: ``read`` at one go, ``read_in_slices`` with others served between.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.reading.code import has_code
from switchboard_dataplane.reading.digits import Finding
from switchboard_dataplane.reading.domains import read_domain
from switchboard_dataplane.reading.injection import find_injection
from switchboard_dataplane.reading.language import read_language
from switchboard_dataplane.reading.mood import is_urgent, read_sentiment
from switchboard_dataplane.reading.pii import find_pii
from switchboard_dataplane.reading.secrets import find_secrets
from switchboard_dataplane.reading.tasks import read_task
from switchboard_dataplane.reading.texts import (
    SLICE_CHARS,
    Scope,
    Slice,
    all_messages,
    last_user_turn,
    slices,
    untrusted_messages,
)
from switchboard_dataplane.reading.turns import Turn

if TYPE_CHECKING:
    # Only who declares intents needs numpy.
    from switchboard_dataplane.reading.intents import Intents, Vector

#: What a reading may say: a name, yes or no, a degree, or the names of all that was found.
Value = str | bool | float | tuple[str, ...]
Reads = Literal["last-user-turn", "all-messages", "untrusted-messages"]

UNSCANNED: Final = "unscanned"
#: Texts that were there and could not be read: nobody knows what they hold.
_UNREAD_TEXT: Final = frozenset({"other", "oversize", "tokens"})


class Reading(NamedTuple):
    """What a reading is called, which texts it reads, and the type of what it says."""

    name: str
    reads: Reads
    says: type


READINGS: Final[Mapping[str, Reading]] = {
    reading.name: reading
    for reading in (
        Reading("task", "last-user-turn", str),
        Reading("domain", "last-user-turn", str),
        Reading("language", "last-user-turn", str),
        Reading("sentiment", "last-user-turn", float),
        Reading("urgent", "last-user-turn", bool),
        Reading("code", "last-user-turn", bool),
        Reading("intents", "last-user-turn", tuple),
        Reading("pii", "all-messages", tuple),
        Reading("secrets", "all-messages", tuple),
        Reading("injection", "untrusted-messages", bool),
    )
}

_Find = Callable[[Slice], Iterable[Finding]]

_OF_TURN: Final[Mapping[str, Callable[[Turn], Value]]] = {
    "task": read_task,
    "domain": read_domain,
    "language": read_language,
    "sentiment": read_sentiment,
    "urgent": is_urgent,
    "code": has_code,
}
_OF_SCOPE: Final[Mapping[str, _Find]] = {
    "pii": find_pii,
    "secrets": find_secrets,
}


class Work:
    """The readings of one request, asked for by name; unknown names are a KeyError.

    ``vector`` is the last user turn's, where it is known already: intents go by it.
    ``cost_chars`` is what they have to look at: the measure of their time.
    """

    def __init__(
        self,
        names: Collection[str],
        view: RequestView,
        intents: "Intents | None" = None,
        vector: "Vector | None" = None,
    ) -> None:
        self._names: Final = tuple(dict.fromkeys(names))
        self._intents: Final = intents
        self._vector: Final = vector
        reads = {READINGS[name].reads for name in self._names}
        self._all: Final = all_messages(view) if "all-messages" in reads else None
        self._untrusted: Final = untrusted_messages(view) if "untrusted-messages" in reads else None
        of_turn = "last-user-turn" in reads
        whole = last_user_turn(view) if of_turn else ""
        self._turn: Final = Turn(whole, tools=view.tools) if of_turn else None
        self.cost_chars: Final = sum(map(self._cost, self._names))
        #: All messages, where one piece holds them: their forms are good for others too.
        self._piece: Slice | None = None

    def steps(self, said: dict[str, Value]) -> Iterator[None]:
        """Fill in what is read; yields wherever others may have their turn."""
        for name in self._names:
            if self._turn is not None and READINGS[name].reads == "last-user-turn":
                said[name] = self._read_turn(name, self._turn)
        if self._all is not None:
            yield from self._scan(self._all, said)
        if self._untrusted is not None:
            said["injection"] = False
            for piece in self._untrusted_pieces(self._untrusted):
                yield
                if next(find_injection(piece), None) is not None:
                    said["injection"] = True
                    break

    def read(self) -> dict[str, Value]:
        """Read at one go: what a small request takes, and what a thread may run."""
        said: dict[str, Value] = {}
        for _ in self.steps(said):
            pass
        return said

    async def read_in_slices(self) -> dict[str, Value]:
        """Read with a turn for everybody else on the loop between slices."""
        said: dict[str, Value] = {}
        for _ in self.steps(said):
            await asyncio.sleep(0)
        return said

    def _read_turn(self, name: str, turn: Turn) -> Value:
        if name == "intents":
            return self._intents.read(turn.text, self._vector) if self._intents is not None else ()
        return _OF_TURN[name](turn)

    def _scan(self, scope: Scope, said: dict[str, Value]) -> Iterator[None]:
        finders = {name: find for name, find in _OF_SCOPE.items() if name in self._names}
        found = {name: set[str]() for name in finders}
        fresh = True
        for piece in slices(scope.text):
            self._piece = piece if len(scope.text) <= SLICE_CHARS else None
            for name, find in finders.items():
                if not fresh:
                    yield
                fresh = False
                found[name].update(finding.kind for finding in find(piece))
        for name, kinds in found.items():
            unread = scope.unread if name == "pii" else scope.unread & _UNREAD_TEXT
            said[name] = tuple(sorted(kinds | {UNSCANNED} if unread else kinds))

    def _untrusted_pieces(self, scope: Scope) -> Iterator[Slice]:
        tail = self._piece.tail(scope.text) if self._piece is not None else None
        if tail is not None:
            yield tail
        else:
            yield from slices(scope.text)

    def _cost(self, name: str) -> int:
        match READINGS[name].reads:
            case "last-user-turn":
                return len(self._turn.text) if self._turn is not None else 0
            case "all-messages":
                return len(self._all.text) if self._all is not None else 0
            case "untrusted-messages":
                return len(self._untrusted.text) if self._untrusted is not None else 0


def cost_of(names: Collection[str], view: RequestView) -> int:
    """Return how many characters these readings look at: 40,000 take about a millisecond."""
    return Work(names, view).cost_chars


def read(
    names: Collection[str], view: RequestView, intents: "Intents | None" = None
) -> dict[str, Value]:
    """Return what each of these readings says of a request."""
    return Work(names, view, intents).read()


async def read_in_slices(
    names: Collection[str], view: RequestView, intents: "Intents | None" = None
) -> dict[str, Value]:
    """Return the same as ``read``, with a turn for everybody else on the loop between slices."""
    return await Work(names, view, intents).read_in_slices()
