"""The decisions that this pod remembers, for ratings that come later, and for who looks at it."""

from bisect import insort
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import dropwhile, islice
from typing import Any, Final

import msgspec

from switchboard_dataplane.learning.decisions import Decided
from switchboard_dataplane.learning.ratings import Rating, Source

#: Decisions that are remembered, some 2 KB each; the oldest go first.
DECISIONS_MAX: Final = 10_000
#: Nobody rates an answer later than this, in seconds.
AGE_MAX_S: Final = 3_600.0


@dataclass(slots=True)
class Remembered:
    """A decision without its texts, the readings that it was made by, and its ratings.

    The oldest rating comes first. ``texts`` says that its policy keeps texts, in the log.
    """

    decision: Decided
    readings: Mapping[str, Any]
    at: float
    texts: bool = False
    ratings: list[Rating] = field(default_factory=list[Rating])

    def add(self, rating: Rating) -> None:
        """Add a rating at its time: one that another pod took may come after later ones."""
        insort(self.ratings, rating, key=lambda one: one.at)

    def number_by(self, source: Source) -> int:
        """Return how many ratings a source has given."""
        return sum(one.source == source for one in self.ratings)

    def is_first(self, rating: Rating) -> bool:
        """Say whether its source has not rated the same one before."""
        said = (rating.source, rating.tier, rating.backend)
        return all((one.source, one.tier, one.backend) != said for one in self.ratings)

    def knows(self, rating: Rating) -> bool:
        """Say whether this very rating was taken in already."""
        said = (rating.source, rating.at, rating.value)
        return any((one.source, one.at, one.value) == said for one in self.ratings)


class Recent:
    """The latest decisions by id, in their order; times are the event loop's, in seconds."""

    def __init__(self, *, decisions_max: int = DECISIONS_MAX) -> None:
        self._decisions_max: Final = decisions_max
        self._known: OrderedDict[str, Remembered] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._known)

    def remember(
        self, decision: Decided, readings: Mapping[str, Any], now: float, *, texts: bool = False
    ) -> None:
        """Remember a decision, but not its texts; ``texts`` says whether the log keeps them."""
        if decision.prompt or decision.answer:
            decision = msgspec.structs.replace(decision, prompt="", answer="")
        self._known[decision.id] = Remembered(decision, readings, now, texts)
        while len(self._known) > self._decisions_max:
            self._known.popitem(last=False)
        self._forget(now)

    def find(self, decision: str, now: float) -> Remembered | None:
        """Return the decision of that id; None where this pod does not remember it."""
        self._forget(now)
        return self._known.get(decision)

    def after(self, decision: str, *, limit: int) -> Iterator[Remembered]:
        """Yield what came after a decision, the oldest first, and not more than ``limit``.

        All that is remembered comes after "", and after one that is forgotten.
        """
        known = iter(self._known.values())
        if decision in self._known:
            known = islice(dropwhile(lambda one: one.decision.id != decision, known), 1, None)
        return islice(known, limit)

    def _forget(self, now: float) -> None:
        while self._known:
            oldest = next(iter(self._known.values()))
            if now - oldest.at < AGE_MAX_S:
                return
            self._known.popitem(last=False)
