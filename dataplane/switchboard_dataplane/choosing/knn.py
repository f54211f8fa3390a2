"""Looks up how models did on the most similar prompts that a gateway's own traffic has shown.

It holds vectors and outcomes, never prompts; the oldest give way to new ones.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from switchboard_dataplane.choosing.features import Floats

#: So many vectors of 256 numbers are searched in well under a millisecond.
OUTCOMES_MAX: Final = 20_000
NEIGHBOURS: Final = 24
#: What is less similar (cosine) says nothing.
SIMILARITY_MIN: Final = 0.3
#: The prior counts as much as so many outcomes of the same prompt.
PRIOR_OUTCOMES: Final = 4.0

_TINY: Final = 1e-9


class Neighbours:
    """Outcomes by where their prompts are; a target that was not asked is unknown there."""

    def __init__(
        self, targets: Sequence[str], *, dimensions: int, most: int = OUTCOMES_MAX
    ) -> None:
        if dimensions < 1 or most < 1:
            raise ValueError(f"{dimensions} dimensions, {most} outcomes: at least 1")
        self.targets: Final = tuple(targets)
        self.dimensions: Final = dimensions
        self._place: Final = {name: place for place, name in enumerate(targets)}
        self._vectors: Final = np.zeros((most, dimensions), np.float32)
        self._qualities: Final = np.full((most, len(targets)), np.nan, np.float32)
        self._taken = 0

    def __len__(self) -> int:
        """Return how many outcomes are held."""
        return min(self._taken, len(self._vectors))

    def take(self, vector: Floats, qualities: Mapping[str, float]) -> None:
        """Remember how targets did on a prompt; names that are not its targets are passed by.

        Raises ValueError for a vector of other dimensions, or one that is not finite.
        """
        if vector.shape != self._vectors.shape[1:] or not np.isfinite(vector).all():
            raise ValueError(f"a vector of {self._vectors.shape[1]} finite numbers")
        row = self._taken % len(self._vectors)
        self._vectors[row] = vector / max(_TINY, float(np.sqrt(vector @ vector)))
        self._qualities[row] = np.nan
        for name, quality in qualities.items():
            place = self._place.get(name)
            if place is not None:
                self._qualities[row, place] = quality
        self._taken += 1

    def qualities(
        self, vector: Floats, priors: Mapping[str, float], *, neighbours: int = NEIGHBOURS
    ) -> dict[str, float]:
        """Return each target's quality near a prompt, drawn to its prior where little is known.

        A target without a prior has 0.5.
        """
        held = len(self)
        start = np.array([priors.get(name, 0.5) for name in self.targets])
        if held == 0:
            return dict(zip(self.targets, start.tolist(), strict=True))
        length = max(_TINY, float(np.sqrt(vector @ vector)))
        near = (self._vectors[:held] @ vector) / length
        count = min(neighbours, held)
        rows = np.argpartition(-near, count - 1)[:count]
        weights = np.maximum(0.0, (near[rows] - SIMILARITY_MIN) / (1.0 - SIMILARITY_MIN))
        seen = self._qualities[rows]
        known = np.isfinite(seen) * weights[:, None]
        sums = (known * np.nan_to_num(seen)).sum(axis=0) + PRIOR_OUTCOMES * start
        found = sums / (known.sum(axis=0) + PRIOR_OUTCOMES)
        return dict(zip(self.targets, found.tolist(), strict=True))
