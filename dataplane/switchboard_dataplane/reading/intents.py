"""Finds which declared intents a turn has: those with an example that is near in meaning.

What a vector is and where it comes from is another module's: here is only who is nearest.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

#: Where an intent declares no threshold of its own: cosine to its nearest example.
THRESHOLD: Final = 0.4


class Embed(Protocol):
    """Turns a text to a vector, always of the same length; zeros where it knows no word."""

    def __call__(self, text: str, /) -> Vector:
        """Return the vector of a text."""
        ...


class Intent(NamedTuple):
    """An intent as a policy declares it: at least one example, a threshold in [-1, 1]."""

    name: str
    examples: tuple[str, ...]
    threshold: float = THRESHOLD


class Intents:
    """Declared intents, embedded once."""

    def __init__(self, declared: Sequence[Intent], embed: Embed) -> None:
        self._embed: Final = embed
        self._owners: Final = tuple(intent for intent in declared for _ in intent.examples)
        self._thresholds: Final = np.array(
            [intent.threshold for intent in self._owners], np.float32
        )
        vectors = [to_unit(embed(text)) for intent in declared for text in intent.examples]
        self._examples: Final = np.stack(vectors) if vectors else None

    def read(self, text: str, vector: Vector | None = None) -> tuple[str, ...]:
        """Return the intents that a text is near enough to, the nearest first.

        ``vector`` is the text's, where it is known.
        """
        if not text.strip():
            return ()
        return self.near(self._embed(text) if vector is None else vector)

    def near(self, vector: Vector) -> tuple[str, ...]:
        """Return the intents that a text's vector is near enough to, the nearest first."""
        if self._examples is None:
            return ()
        scores = self._examples @ to_unit(vector)
        near = scores >= self._thresholds
        if not near.any():
            return ()
        places: list[int] = np.argsort(-scores, kind="stable").tolist()
        return tuple(dict.fromkeys(self._owners[place].name for place in places if near[place]))


def to_unit(vector: Vector) -> Vector:
    """Return a vector of length one in the same direction; zeros stay zeros."""
    length = sqrt(vector @ vector)
    return vector if length == 0.0 else (vector / length).astype(np.float32, copy=False)
