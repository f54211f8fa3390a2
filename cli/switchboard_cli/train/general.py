"""Fits a router for prompts of kinds that nothing was learned of, to outcomes of several kinds.

How good models are at one kind on the whole says nothing of another, nor do the words that tell
which it is. So the level of each kind is left out, only what differs within kinds is learned, and
words are held strongly to zero. Beside it stands what holds without any outcome: the longer a
prompt, the more the better model gains. Where little was learned that is what is left.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from switchboard_cli.train.ridge import (
    PARTS,
    PROMPTS_MIN,
    Doubles,
    Fitted,
    Level,
    Seen,
    means_of,
    see,
    slope_of,
    solve,
    spread,
)
from switchboard_dataplane.choosing.artifact import Fit
from switchboard_dataplane.choosing.features import Floats, product
from switchboard_dataplane.reading.lexical import FEATURES, Lexical

#: How strongly coefficients are held to zero.
GENERAL_PENALTY: Final = 270.0
#: What the best target gains over the worst, for each step of the natural logarithm of a length.
LENGTH_GAIN: Final = 0.06

_CHARS: Final = FEATURES.index("chars")
_TINY: Final = 1e-30


def fit_general(
    reads: Sequence[Lexical],
    qualities: Doubles,
    targets: Sequence[str],
    kinds: Sequence[str],
    part_of: Sequence[int],
    *,
    prompts_min: int = PROMPTS_MIN,
) -> Fitted:
    """Fit one router as ``fit_router`` does, but of what all ``kinds`` (N) have in common."""
    seen = see(reads, prompts_min)
    known = np.isfinite(qualities).astype(np.float32)
    held = np.where(known > 0, qualities, 0.0).astype(np.float32)
    length = _length(seen, means_of(held, known))
    unseen = np.zeros_like(held)
    for part in range(PARTS):
        inside = (np.array(part_of) == part)[:, None]
        others = np.where(inside, np.float32(0), known)
        learned = solve(seen, held, others, GENERAL_PENALTY, level=_within(kinds, others))
        said = _say(seen, *learned)
        unseen = np.where(inside, said + means_of(held - said, others), unseen)
    level = _within(kinds, known)
    slope = slope_of(level(unseen), level(held), known)
    words, bent = (
        spread(one, slope) for one in solve(seen, held, known, GENERAL_PENALTY, level=level)
    )
    bent += length
    said = _say(seen, words, bent)
    fit = Fit(
        tuple(targets),
        seen.vocabulary,
        words,
        seen.bends,
        bent * seen.bent_size,
        means_of(held - said, known),
    )
    told: Floats = spread(unseen, slope) + product(seen.bent, length)
    left: Floats = held - told
    return Fitted(fit, GENERAL_PENALTY, told + means_of(left, known))


def _length(seen: Seen, means: Floats) -> Floats:
    """Return the coefficients of the lexical features that make longer prompts gain more.

    The best target on the whole rises and the worst falls; the others stand between, evenly.
    """
    places = np.argsort(np.argsort(means, kind="stable"), kind="stable")
    lean = places / max(1, len(means) - 1) - 0.5
    coefficients = np.zeros((len(seen.bends.means), len(means)), np.float32)
    coefficients[_CHARS] = LENGTH_GAIN * lean * seen.bends.scales[_CHARS] / seen.bent_size
    return coefficients


def _say(seen: Seen, words: Floats, bent: Floats) -> Floats:
    said: Floats = seen.terms.by_prompt.times(words) + product(seen.bent, bent)
    return said


def _within(kinds: Sequence[str], known: Floats) -> Level:
    """Return what takes from (N, T) numbers the mean of their kind, over what is known."""
    _, numbered = np.unique(np.array(kinds), return_inverse=True)
    one_of = np.eye(int(numbered.max()) + 1, dtype=np.float32)[:, numbered]
    counts = np.maximum(np.float32(_TINY), product(one_of, known))

    def level(said: Floats) -> Floats:
        leveled: Floats = said - (product(one_of, known * said) / counts)[numbered].astype(
            np.float32
        )
        return leveled

    return level
