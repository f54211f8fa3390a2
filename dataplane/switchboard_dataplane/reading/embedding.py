"""Places a text among others by what it is about: the mean of a static vector for each word.

No model runs: a table of word pieces is looked up, so that a long prompt costs as much as reading
it. What it does not see is the order of words. The table ships as a data file; docs/routing-quality
says what it was made of.
"""

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from math import sqrt
from string import digits
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from switchboard_dataplane.reading.pieces import Pieces
from switchboard_dataplane.reading.texts import head_and_tail

Floats = NDArray[np.float32]

FORMAT: Final = 1
TABLE: Final = "pieces.msgpack"
PIECES_MAX: Final = 65_536
DIMENSIONS_MAX: Final = 1_024

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
        self._pieces: Final = Pieces(table.starts, table.ends)
        self._digits: Final = tuple(digit for digit in digits if digit in self._pieces)

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
        rows, times = self._pieces.rows_of(words)
        if not rows:
            return np.zeros(self.dimensions, np.float32)
        # Whole numbers, which a float32 adds up exactly in any order.
        vectors = self._vectors[np.fromiter(rows, np.intp, len(rows))].astype(np.float32)
        total: Floats = np.fromiter(times, np.float32, len(times)) @ vectors
        return total / np.float32(max(_TINY, sqrt(total @ total)))


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
