"""Finds words in a table of pieces of words: as they are, in lower case, or cut into what is there.

A piece is known by its row of the table. Pieces that begin a word come first, then those that go
on.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

#: Of a longer word only the first characters are read: no word takes more look-ups than that.
WORD_CHARS_MAX: Final = 32
#: A piece of a word is at most so long.
PIECE_CHARS_MAX: Final = 16


class Pieces:
    """Pieces by their rows."""

    def __init__(self, starts: Sequence[str], ends: Sequence[str]) -> None:
        self._starts: Final = {piece: row for row, piece in enumerate(starts)}
        self._ends: Final = {piece: len(starts) + row for row, piece in enumerate(ends)}

    def __contains__(self, piece: str) -> bool:
        """Say whether a word may begin with a piece."""
        return piece in self._starts

    def rows_of(self, words: Sequence[str]) -> tuple[list[int], list[int]]:
        """Return the rows of all words' pieces, and beside each how often its word is there."""
        rows: list[int] = []
        times: list[int] = []
        starts = self._starts
        for word, count in Counter(words).items():
            row = starts.get(word)
            if row is None:
                row = starts.get(word.lower())
            if row is None:
                pieces = self._cut(word[:WORD_CHARS_MAX].lower())
                rows.extend(pieces)
                times.extend([count] * len(pieces))
            else:
                rows.append(row)
                times.append(count)
        return rows, times

    def _cut(self, word: str) -> list[int]:
        """Cut a word into the longest pieces that are known; characters that are none are left."""
        rows: list[int] = []
        table, at = self._starts, 0
        while at < len(word):
            for size in range(min(PIECE_CHARS_MAX, len(word) - at), 0, -1):
                row = table.get(word[at : at + size])
                if row is not None:
                    rows.append(row)
                    at += size
                    break
            else:
                at += 1
            table = self._ends
        return rows
