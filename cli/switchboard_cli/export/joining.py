"""Entries of the log to lines of an export: each decision once, with what was said of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from switchboard_dataplane.learning.decisions import Compared, Decided, rated
from switchboard_dataplane.learning.ratings import Rating
from switchboard_policy.errors import BadSignature
from switchboard_policy.seal import Keyring
from switchboard_policy.store import Record
from switchboard_policy.store.signing import check_record

Said = Decided | Rating | Compared

_decoder: Final = msgspec.json.Decoder(Said)


@dataclass(slots=True)
class Counts:
    """What became of the entries. ``forged`` are not signed by the scope, ``unreadable`` no JSON
    of a known form.
    """

    decisions: int = 0
    rated: int = 0
    forged: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class Joining:
    """Joins decisions with what was said of them; the log is read twice, and need not fit memory.

    Entries are taken on trust without ``keyring``.
    """

    keyring: Keyring | None = None
    counts: Counts = field(default_factory=Counts)
    _ratings: dict[str, list[Rating]] = field(default_factory=dict[str, list[Rating]])
    _mirrors: dict[str, list[Compared]] = field(default_factory=dict[str, list[Compared]])
    _told: set[str] = field(default_factory=set[str])

    def take_ratings(self, records: Iterable[Record]) -> None:
        """Take in what some entries say of decisions: the first reading."""
        for said in self._read(records):
            if isinstance(said, Rating):
                _add(self._ratings.setdefault(said.decision, []), said)
            elif isinstance(said, Compared):
                mirrors = self._mirrors.setdefault(said.decision, [])
                if said not in mirrors:
                    mirrors.append(said)
            elif said is None:
                self.counts.unreadable += 1

    def lines(self, records: Iterable[Record]) -> Iterator[bytes]:
        """Yield a line for each decision among some entries: the second reading."""
        for said in self._read(records):
            # A pod that got no answer from the store has written an entry twice.
            if isinstance(said, Decided) and said.id not in self._told:
                self._told.add(said.id)
                mirrors = self._mirrors.get(said.id, ())
                ratings = sorted(self._ratings.get(said.id, ()), key=lambda one: one.at)
                self.counts.decisions += 1
                self.counts.rated += bool(ratings)
                yield msgspec.json.encode(rated(said, ratings, mirrors)) + b"\n"

    def forged_among(self, records: Iterable[Record]) -> int:
        """Return how many entries the scope did not sign; 0 without keys."""
        return sum(not self._is_genuine(record) for record in records)

    def _read(self, records: Iterable[Record]) -> Iterator[Said | None]:
        for record in records:
            if self._is_genuine(record):
                try:
                    yield _decoder.decode(record.body)
                except (ValueError, RecursionError):
                    yield None

    def _is_genuine(self, record: Record) -> bool:
        if self.keyring is None:
            return True
        try:
            check_record(self.keyring, record)
        except BadSignature:
            return False
        return True


def _add(known: list[Rating], rating: Rating) -> None:
    """Add a rating, unless another pod has logged the same: then the one with the comment stays."""
    for place, one in enumerate(known):
        if msgspec.structs.replace(one, comment=rating.comment) == rating:
            if rating.comment:
                known[place] = rating
            return
    known.append(rating)
