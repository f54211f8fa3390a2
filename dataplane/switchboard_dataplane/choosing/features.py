"""Turns what was read of a prompt into the numbers that a router's coefficients stand for.

Fitting and predicting share it, so that both see the same: weighted words and pairs of words
(TF-IDF, each kind of length one), and the lexical features with bends at quantiles.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

#: Bends of each lexical feature, so that "long" and "very long" may say different things.
BENDS: Final = 4
#: A feature is seen at most so many standard deviations from its mean.
DEVIATIONS_MAX: Final = 3.0

_SMALLEST: Final = 1e-6


class Vocabulary:
    """Words and pairs of neighbouring words, and how much each tells by being rare.

    ``pairs`` are the places of both words, (P, 2); ``rarity`` has a number for each word, then for
    each pair. A term's number is its place in ``rarity``.
    """

    def __init__(self, words: Sequence[str], pairs: Indices, rarity: Floats) -> None:
        self.words: Final = tuple(words)
        self.pairs: Final = pairs
        self.rarity: Final = rarity
        self._place: Final = {word: place for place, word in enumerate(words)}
        keys = pairs[:, 0] * len(words) + pairs[:, 1]
        order = np.argsort(keys)
        self._keys: Final = keys[order]
        self._terms: Final = order + len(words)

    def places(self, words: Sequence[str]) -> Indices:
        """Return each word's place, -1 for one that is not in the vocabulary."""
        return np.fromiter(map(self._place.get, words, repeat(-1)), np.int64, len(words))

    def weigh(self, words: Sequence[str]) -> tuple[Indices, Floats]:
        """Return the terms of a text and their weights; pairs and words count half each."""
        places = self.places(words)
        single = places[places >= 0]
        pairs = pair_keys(places, len(self.words))
        if len(pairs) and len(self._keys):
            # In order they are found in half the time.
            pairs.sort()
            found = np.minimum(np.searchsorted(self._keys, pairs), len(self._keys) - 1)
            pairs = self._terms[found[self._keys[found] == pairs]]
        else:
            pairs = pairs[:0]
        blocks = [self._block(terms) for terms in (single, pairs)]
        return (
            np.concatenate([terms for terms, _ in blocks]),
            np.concatenate([weights for _, weights in blocks]),
        )

    def _block(self, found: Indices) -> tuple[Indices, Floats]:
        terms, counts = _counted(found)
        weights = (1.0 + np.log(counts)) * self.rarity[terms]
        length = float(np.sqrt(weights @ weights))
        return terms, (weights * (np.sqrt(0.5) / max(_SMALLEST, length))).astype(np.float32)


def _counted(found: Indices) -> tuple[Indices, Indices]:
    """Return what there is, in order, and how often: np.unique without its preparations."""
    ordered = np.sort(found)
    if not len(ordered):
        return ordered, ordered
    firsts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    edges = np.empty(len(firsts) + 2, np.int64)
    edges[0], edges[1:-1], edges[-1] = 0, firsts, len(ordered)
    return ordered[edges[:-1]], edges[1:] - edges[:-1]


def pair_keys(places: Indices, words: int) -> Indices:
    """Return one number for each two neighbours of which both are among ``words`` words."""
    first, second = places[:-1], places[1:]
    both = (first >= 0) & (second >= 0)
    return first[both] * words + second[both]


class Bends:
    """Lexical features, each as it is and cut off below its quantiles, then standardised.

    ``knots`` are (BENDS, F); ``means`` and ``scales`` belong to the (1 + BENDS) * F numbers.
    """

    def __init__(self, knots: Floats, means: Floats, scales: Floats) -> None:
        self.knots: Final = knots
        self.means: Final = means
        self.scales: Final = scales

    def bend(self, features: Floats) -> Floats:
        """Return (1 + BENDS) * F numbers for F features, or rows of them for rows."""
        bent = (bend_at(features, self.knots) - self.means) / self.scales
        held: Floats = np.clip(bent, -DEVIATIONS_MAX, DEVIATIONS_MAX).astype(np.float32)
        return held


def product(left: Floats, right: Floats) -> Floats:
    """Return the product of two matrices, or of a vector and a matrix."""
    said: Floats = np.matmul(left, right).astype(np.float32, copy=False)
    return said


def bend_at(features: Floats, knots: Floats) -> Floats:
    """Return features, then for each knot what of them is above it, side by side."""
    return np.concatenate(
        [features, *(np.maximum(0.0, features - knot) for knot in knots)], axis=-1
    ).astype(np.float32)
