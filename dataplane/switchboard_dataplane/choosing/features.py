"""Turns what was read of a prompt into the numbers that a router's coefficients stand for.

Fitting and predicting share it, so that both see the same: weighted words and pairs of words
(TF-IDF, each kind of length one), and the lexical features with bends at quantiles.
"""

from collections.abc import Sequence
from itertools import repeat
from math import sqrt
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
#: Above the key of any two words.
_NO_KEY: Final = np.iinfo(np.int64).max


class Vocabulary:
    """Words and pairs of neighbouring words, and how much each tells by being rare.

    ``pairs`` are the places of both words, (P, 2); ``rarity`` has a number for each word, then for
    each pair. A term's number is its place in ``rarity``.
    """

    def __init__(self, words: Sequence[str], pairs: Indices, rarity: Floats) -> None:
        self.words: Final = tuple(words)
        self.pairs: Final = pairs
        self.rarity: Final = rarity
        # Common words next to each other: a look-up seldom waits for memory then.
        common_first: list[int] = np.argsort(rarity[: len(words)], kind="stable").tolist()
        self._place: Final = {words[place]: place for place in common_first}
        keys = pairs[:, 0] * len(words) + pairs[:, 1]
        order = np.argsort(keys)
        # The last is above all others: a search ends at a key in any case.
        self._keys: Final = np.append(keys[order], _NO_KEY)
        self._terms: Final = order + len(words)

    def places(self, words: Sequence[str]) -> Indices:
        """Return each word's place, -1 for one that is not in the vocabulary."""
        return np.fromiter(map(self._place.get, words, repeat(-1)), np.int64, len(words))

    def weigh(self, words: Sequence[str]) -> tuple[Indices, Floats]:
        """Return the terms of a text and their weights; pairs and words count half each."""
        places = self.places(words)
        single, times = _counted(places[places >= 0])
        keys, pair_times = _counted(pair_keys(places, len(self.words)))
        found = self._keys.searchsorted(keys)
        there = self._keys[found] == keys
        pairs, pair_times = self._terms[found[there]], pair_times[there]
        terms = np.concatenate((single, pairs))
        weights = np.log(np.concatenate((times, pair_times)))
        weights += 1.0
        weights *= self.rarity[terms]
        _share(weights[: len(single)])
        _share(weights[len(single) :])
        return terms, weights.astype(np.float32)


def _share(weights: NDArray[np.float64]) -> None:
    """Scale weights, where they are, to half of a length of one."""
    weights *= sqrt(0.5) / max(_SMALLEST, sqrt(weights @ weights))


def _counted(found: Indices) -> tuple[Indices, Indices]:
    """Return what there is, in order, and how often: np.unique without its preparations."""
    if not len(found):
        return found, found
    ordered = np.sort(found)
    edges = np.empty(len(ordered) + 1, np.bool_)
    edges[0] = edges[-1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=edges[1:-1])
    (places,) = edges.nonzero()
    return ordered[places[:-1]], places[1:] - places[:-1]


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
        held: Floats = np.minimum(np.maximum(bent, -DEVIATIONS_MAX), DEVIATIONS_MAX)
        return held.astype(np.float32, copy=False)


def product(left: Floats, right: Floats) -> Floats:
    """Return the product of two matrices, or of a vector and a matrix."""
    said: Floats = np.matmul(left, right).astype(np.float32, copy=False)
    return said


def bend_at(features: Floats, knots: Floats) -> Floats:
    """Return features, then for each knot what of them is above it, side by side."""
    above = np.maximum(0.0, features[..., None, :] - knots)
    flat = above.reshape(*features.shape[:-1], knots.size)
    return np.concatenate((features, flat), axis=-1).astype(np.float32, copy=False)
