"""Predicts from a prompt how well each model would answer it, and what a stronger one gains."""

from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np

from switchboard_dataplane.choosing.artifact import Fit, decode_artifact, digest_of, open_artifact
from switchboard_dataplane.choosing.features import Floats, product
from switchboard_dataplane.reading.lexical import Lexical

#: The router that ships: docs/routing-quality.md says what of.
SHIPPED: Final = "router.msgpack"
#: What its targets are called.
SMALL: Final = "small"
LARGE: Final = "large"


class Router:
    """A learned router, ready to be asked. ``targets`` are the models (or tiers) it knows.

    ``rated`` is what the ratings add up to that it was made of, by target: a bandit begins with it.
    """

    def __init__(self, fit: Fit, digest: str) -> None:
        self.digest: Final = digest
        self.targets: Final = fit.targets
        self.rated: Final = fit.rated
        self._fit: Final = fit
        self._place: Final = {name: place for place, name in enumerate(fit.targets)}
        # Intercepts are how well each did on the whole.
        means: list[float] = fit.intercepts.tolist()
        self._ranked: Final = sorted(self.targets, key=lambda name: means[self._place[name]])

    def scores(self, read: Lexical) -> Floats:
        """Return the expected quality for each target, in their order, not held to [0, 1].

        Differences of these order requests; a limit at 0 or 1 would make ties.
        """
        fit = self._fit
        terms, weights = fit.vocabulary.weigh(read.words)
        bent = fit.bends.bend(np.array(read.features, np.float32))
        worded = product(weights, fit.coefficients[terms])
        return worded + product(bent, fit.bent) + fit.intercepts

    def qualities(self, read: Lexical) -> dict[str, float]:
        """Return the expected quality of each target's answer, in [0, 1]."""
        held = np.clip(self.scores(read), 0.0, 1.0)
        return dict(zip(self.targets, held.tolist(), strict=True))

    def gain(self, read: Lexical, *, strong: str, weak: str) -> float:
        """Return by how much ``strong`` is expected to do better; KeyError for an unknown name."""
        said = self.scores(read)
        return float(said[self._place[strong]] - said[self._place[weak]])

    def ranked_scores(self, read: Lexical) -> dict[str, float]:
        """Return ``scores`` by target, from the one that does worst on the whole to the best."""
        said: list[float] = self.scores(read).tolist()
        return {name: said[self._place[name]] for name in self._ranked}

    def complexity(self, read: Lexical) -> float:
        """Return how much more of the answer the best target gets right than the worst.

        Best and worst on the whole; of one target, how far it falls short of 1. It is a gain and
        orders requests as one: not held to [0, 1].
        """
        said = list(self.ranked_scores(read).values())
        return (said[-1] if len(said) > 1 else 1.0) - said[0]


def load_router(data: bytes) -> Router:
    """Make a router of an artifact's bytes; raises ArtifactRefused."""
    return Router(open_artifact(decode_artifact(data)), digest_of(data))


@cache
def shipped_router() -> Router:
    """Return the router that ships; the first call reads it (some 50 ms)."""
    return load_router(files("switchboard_dataplane.choosing").joinpath(SHIPPED).read_bytes())
