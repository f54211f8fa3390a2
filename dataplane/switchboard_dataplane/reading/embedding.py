"""Places a text among others by what it is about: the mean of a static vector for each word.

No model runs: a table of word pieces is looked up, so that a long prompt costs as much as reading
it. What it does not see is the order of words. The table ships as a data file; docs/routing-quality
says what it was made of.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from string import digits
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from switchboard_dataplane.reading.texts import head_and_tail

Floats = NDArray[np.float32]

FORMAT: Final = 1
TABLE: Final = "pieces.msgpack"
PIECES_MAX: Final = 65_536
DIMENSIONS_MAX: Final = 1_024
#: Of a longer word only the first characters are read: no word takes more look-ups than that.
WORD_CHARS_MAX: Final = 32
#: A piece of a word is at most so long.
PIECE_CHARS_MAX: Final = 16

_WORD: Final = re.compile(r"[^\W\d_]+|\d")
#: All of ASCII but letters.
_TO_SPACE: Final = str.maketrans(
    {code: " " for code in range(128) if not chr(code).isalpha()},
)
_TINY: Final = 1e-9


class TableRefused(Exception):
    """The bytes are no table of word pieces; the text says why."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is stored: pieces that begin a word, pieces that go on, an int8 vector for each.

    ``vectors`` are (starts + ends, dimensions), in this order; ``scale`` is what 1 stands for.
    """

    format: int
    starts: tuple[str, ...]
    ends: tuple[str, ...]
    dimensions: int
    scale: float
    vectors: bytes


class Embedder:
    """Gives texts their places. Two texts are alike by the product of their vectors (cosine)."""

    def __init__(self, table: Table) -> None:
        rows = len(table.starts) + len(table.ends)
        if table.format != FORMAT:
            raise TableRefused(f"format {table.format}: this version reads {FORMAT}")
        if not (1 <= rows <= PIECES_MAX and 1 <= table.dimensions <= DIMENSIONS_MAX):
            raise TableRefused(f"{rows} pieces of {table.dimensions} dimensions")
        if len(table.vectors) != rows * table.dimensions or not 0 < table.scale < 1:
            raise TableRefused("vectors: a byte for each piece and dimension, a scale in (0, 1)")
        self.dimensions: Final = table.dimensions
        # As they are stored: what 1 stands for does not turn a vector.
        self._vectors: Final = np.frombuffer(table.vectors, np.int8).reshape(rows, table.dimensions)
        self._starts: Final = {piece: row for row, piece in enumerate(table.starts)}
        first = len(table.starts)
        self._digits: Final = tuple(digit for digit in digits if digit in self._starts)
        self._ends: Final = {piece: first + row for row, piece in enumerate(table.ends)}

    def embed(self, text: str) -> Floats:
        """Return a vector of length 1 for the first and last 2,000 characters, or zeros."""
        seen = head_and_tail(text)
        if not seen.isascii():
            return self.embed_words(_WORD.findall(seen))
        # The same words in a third of the time, in an order that does not matter.
        words = seen.translate(_TO_SPACE).split()
        for digit in self._digits:
            words.extend([digit] * seen.count(digit))
        return self.embed_words(words)

    def embed_words(self, words: Sequence[str]) -> Floats:
        """Return a vector of length 1 for words as they are written, or zeros for none known."""
        rows: list[int] = []
        times: list[int] = []
        whole = self._starts.get
        for word, count in Counter(words).items():
            row = whole(word)
            if row is None:
                row = whole(word.lower())
            if row is None:
                pieces = self._pieces(word[:WORD_CHARS_MAX].lower())
                rows.extend(pieces)
                times.extend([count] * len(pieces))
            else:
                rows.append(row)
                times.append(count)
        if not rows:
            return np.zeros(self.dimensions, np.float32)
        # Whole numbers, which a float32 adds up exactly in any order.
        total: Floats = np.array(times, np.float32) @ self._vectors[rows].astype(np.float32)
        return total / np.float32(max(_TINY, float(np.sqrt(total @ total))))

    def _pieces(self, word: str) -> list[int]:
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


def decode_table(data: bytes) -> Embedder:
    """Make an embedder of a table's bytes; raises TableRefused."""
    try:
        return Embedder(msgspec.msgpack.decode(data, type=Table))
    except msgspec.DecodeError as error:
        raise TableRefused(f"no table of word pieces: {error}") from error


@cache
def shipped_embedder() -> Embedder:
    """Return the embedder of the table that ships; the first call reads it (some 20 ms)."""
    return decode_table(files("switchboard_dataplane.reading").joinpath(TABLE).read_bytes())
