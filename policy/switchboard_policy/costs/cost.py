"""How long a condition takes at worst, and how much time a request has."""

from collections.abc import Mapping
from typing import Final, NamedTuple, cast

#: What all conditions and searches of one decision may take together, or one check of an answer.
#: Measured: whoever else is on that event loop waits so long at worst, and typically a hundredth.
BUDGET_NS: Final = 100_000_000
#: More than any request has: what nothing bounds.
UNBOUNDED_NS: Final = 10**15
#: A condition is refused when it could not be told of texts of this length, alone.
TOLD_CHARS_MIN: Final = 8_192
#: The most entries of headers or metadata that conditions are told of.
ENTRIES_MAX: Final = 128


class Cost(NamedTuple):
    """What one evaluation takes at worst.

    ``ns`` it takes whatever it reads, and ``per_char`` (fact, ns) for each character of a text that
    has no bound of its own.
    """

    ns: int
    per_char: tuple[tuple[str, int], ...] = ()

    def on(self, chars: int) -> int:
        """Return what it takes where each of those texts has so many characters."""
        return self.ns + chars * sum(ns for _, ns in self.per_char)


def size_of(value: object) -> int:
    """Return the characters of a text; of one beyond ASCII, and of a map's texts, two for each."""
    if isinstance(value, str):
        return len(value) if value.isascii() else 2 * len(value)
    if isinstance(value, Mapping):
        texts = cast("Mapping[str, str]", value)
        if len(texts) > ENTRIES_MAX:
            return UNBOUNDED_NS
        return 2 * (sum(map(len, texts)) + sum(map(len, texts.values())))
    return 0
