"""Features by which requests are alike of which alike is expected of all tiers. Pure; numpy.

Random Fourier features (Rahimi and Recht, "Random features for large-scale kernel machines", 2007):
a linear fit over them comes near to one with a Gaussian kernel, for which two requests are near
where the qualities that are expected of the tiers are. The frequencies of a tier are drawn from its
name, so that all pods, of all versions, have the same.
"""

import math
from collections.abc import Sequence
from hashlib import shake_128
from typing import Final

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

#: How many features there are.
WAVES: Final = 32
#: Qualities that differ by so much are no longer near.
NEAR: Final = 0.25

_AMPLITUDE: Final = math.sqrt(2.0 / WAVES)
#: What is expected of a tier of which nobody has said anything yet.
_UNHEARD: Final = 0.5
#: Over so many requests is looked at what is mostly expected of a tier.
_SPAN: Final = 1_000.0


class Waves:
    """The features of requests of some tiers, by their places: ``add`` them in order."""

    def __init__(self) -> None:
        self._phases: Final = 2.0 * math.pi * _uniform("", WAVES)
        self._frequencies: Doubles = np.zeros((0, WAVES))
        self._mostly: Doubles = np.zeros(0)
        self._seen: Doubles = np.zeros(0)

    def add(self, name: str) -> None:
        """Add a tier."""
        drawn = _uniform(name, 2 * WAVES)
        # Box and Muller (1958): two uniform numbers make a normal one.
        radius = np.sqrt(-2.0 * np.log(drawn[:WAVES]))
        normal = radius * np.cos(2.0 * math.pi * drawn[WAVES:])
        self._frequencies = np.concatenate([self._frequencies, normal[np.newaxis] / NEAR])
        self._mostly = np.append(self._mostly, _UNHEARD)
        self._seen = np.append(self._seen, 0.0)

    def of(self, places: Sequence[int], expected: Doubles) -> Doubles:
        """Return the features (WAVES) where this quality is expected of the tiers at these places.

        Of the others is expected what mostly is.
        """
        all_expected = self._mostly.copy()
        all_expected[places] = expected
        # A tier that nobody has said anything of makes no difference.
        turned = (all_expected - _UNHEARD) @ self._frequencies
        features: Doubles = _AMPLITUDE * np.cos(self._phases + turned)
        return features

    def take(self, places: Sequence[int], expected: Doubles) -> None:
        """Take in what was expected of tiers."""
        at = list(places)
        self._seen[at] = np.minimum(_SPAN, self._seen[at] + 1.0)
        self._mostly[at] += (expected - self._mostly[at]) / self._seen[at]


def _uniform(name: str, count: int) -> Doubles:
    """Return numbers in (0, 1) that are drawn from a name."""
    drawn = np.frombuffer(shake_128(name.encode()).digest(4 * count), "<u4")
    numbers: Doubles = (drawn + 0.5) / 2.0**32
    return numbers
