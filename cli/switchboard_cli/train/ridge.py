"""Fits a router: ridge regression of each model's quality on words, pairs and lexical features.

One penalty for all coefficients, solved by conjugate gradients: nothing but numpy, a second for a
thousand rows, and the same coefficients for the same rows.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from switchboard_dataplane.choosing.artifact import Fit
from switchboard_dataplane.choosing.features import (
    Bends,
    Floats,
    Indices,
    Vocabulary,
    bend_at,
    pair_keys,
    product,
)
from switchboard_dataplane.reading.lexical import Lexical

Doubles = NDArray[np.float64]

#: How strongly coefficients may be held to zero. Labels of 0 and 1 are mostly noise.
PENALTIES: Final = (10.0, 30.0, 90.0)
#: Into how many parts rows are cut to choose among them.
PARTS: Final = 3
#: The least and the most by which predictions are spread after a fit has drawn them together.
SPREADS: Final = (0.5, 4.0)
#: A word or pair that fewer prompts have is not learned: it would tell whose prompt it was.
PROMPTS_MIN: Final = 2
#: The weight of the lexical features beside the words', whose squares sum to one.
BENT_WEIGHT: Final = 0.3
#: Where the bends of a lexical feature are.
QUANTILES: Final = (0.15, 0.35, 0.65, 0.85)

_STEPS_MAX: Final = 200
_TOLERANCE: Final = 1e-3
_TINY: Final = 1e-30
_SCALE_MIN: Final = 1e-2


class Sums(NamedTuple):
    """A sparse matrix by rows, made to be multiplied: where the rows that hold something begin."""

    rows: Indices
    starts: Indices
    columns: Indices
    weights: Floats
    height: int

    def times(self, right: Floats) -> Floats:
        """Return the matrix times (width, T)."""
        out = np.zeros((self.height, right.shape[1]), np.float32)
        if len(self.rows):
            products = self.weights[:, None] * right[self.columns]
            out[self.rows] = np.add.reduceat(products, self.starts, axis=0)
        return out


class Terms(NamedTuple):
    """The weights of terms in prompts, (N, width): by prompts and, the same again, by terms."""

    by_prompt: Sums
    by_term: Sums


class Seen(NamedTuple):
    """Training prompts as numbers; ``bent`` already has the weight of the lexical features."""

    vocabulary: Vocabulary
    bends: Bends
    terms: Terms
    bent: Floats
    bent_size: np.float32


#: Takes away from (N, T) numbers what is not to be explained.
Level = Callable[[Floats], Floats]


class Fitted(NamedTuple):
    """A router, the penalty that was chosen, and (N, T) predictions by fits without the row."""

    fit: Fit
    penalty: float
    unseen: Floats


def fit_router(
    reads: Sequence[Lexical],
    qualities: Doubles,
    targets: Sequence[str],
    part_of: Sequence[int],
    *,
    counts: Doubles | None = None,
    prompts_min: int = PROMPTS_MIN,
) -> Fitted:
    """Fit one router to prompts as they were read and (N, T) qualities; NaN was not measured.

    ``part_of`` says which of PARTS each prompt is in (a question belongs to one): the penalty and
    the spread of predictions are what predicts best the parts that were left out.
    ``counts`` (N) say how much each prompt counts, 1 if absent.
    """
    seen = see(reads, prompts_min)
    weights = np.ones(len(reads)) if counts is None else counts
    known = (np.isfinite(qualities) * weights[:, None]).astype(np.float32)
    held = np.where(known > 0, qualities, 0.0).astype(np.float32)
    parts = np.array(part_of)
    trials = [_unseen(seen, held, known, parts, penalty) for penalty in PENALTIES]
    chosen = _simplest([_errors(unseen, held, known) for unseen in trials])
    penalty, unseen = PENALTIES[chosen], trials[chosen]
    means = means_of(held, known)
    slope = slope_of(unseen - means, (held - means) * (known > 0), known)
    solved, solved_bent = solve(seen, (held - means) * (known > 0), known, penalty)
    fit = Fit(
        tuple(targets),
        seen.vocabulary,
        spread(solved, slope),
        seen.bends,
        spread(solved_bent * seen.bent_size, slope),
        means,
    )
    return Fitted(fit, penalty, means + spread(unseen - means, slope))


def predict_all(fit: Fit, reads: Sequence[Lexical]) -> Floats:
    """Return (N, T) predictions, as ``Router.scores`` gives them one by one."""
    terms = weigh_terms(fit.vocabulary, reads).by_prompt
    features = np.array([read.features for read in reads], np.float32)
    bent = product(fit.bends.bend(features), fit.bent)
    return terms.times(fit.coefficients) + bent + fit.intercepts


def see(reads: Sequence[Lexical], prompts_min: int) -> Seen:
    """Learn the vocabulary and the bends of prompts, and turn them into numbers."""
    vocabulary = learn_vocabulary(reads, prompts_min)
    features = np.array([read.features for read in reads], np.float32)
    bends = learn_bends(features)
    size = np.float32(np.sqrt(BENT_WEIGHT / len(bends.means)))
    return Seen(
        vocabulary, bends, weigh_terms(vocabulary, reads), bends.bend(features) * size, size
    )


def _unseen(seen: Seen, held: Floats, known: Floats, parts: Indices, penalty: float) -> Floats:
    """Predict each part by what the others say."""
    unseen = np.zeros_like(held)
    for part in range(PARTS):
        inside = (parts == part)[:, None]
        others = np.where(inside, np.float32(0), known)
        means = means_of(held, others)
        solved, bent = solve(seen, (held - means) * (others > 0), others, penalty)
        said = seen.terms.by_prompt.times(solved) + product(seen.bent, bent) + means
        unseen = np.where(inside, said, unseen)
    return unseen


def means_of(held: Floats, known: Floats) -> Floats:
    """Return the mean of what is known, for each column."""
    said: Floats = (known * held).sum(axis=0) / np.maximum(_TINY, known.sum(axis=0))
    return said


def _errors(unseen: Floats, held: Floats, known: Floats) -> Floats:
    """Return for each prompt how badly it is predicted how models differ: routing asks that."""
    misses = (held - unseen) * (known > 0)
    if held.shape[1] > 1:
        count = np.maximum(1, (known > 0).sum(axis=1, keepdims=True))
        misses = (misses - misses.sum(axis=1, keepdims=True) / count) * (known > 0)
    errors: Floats = (known * misses**2).sum(axis=1)
    return errors


def _simplest(errors: Sequence[Floats]) -> int:
    """Return the last trial that is worse than the best by no more than one standard error."""
    best = min(errors, key=lambda found: float(found.sum()))
    worse = [found - best for found in errors]
    near = [
        place
        for place, found in enumerate(worse)
        if found.mean() <= found.std() / np.sqrt(len(found))
    ]
    return near[-1]


def slope_of(unseen: Floats, held: Floats, known: Floats) -> np.float32:
    """Return by what predictions must be multiplied: a penalty draws them to the mean.

    It is for what models have in common on a prompt. How they differ stays drawn together: who
    takes the best of several predictions takes the luckiest error too.
    """
    count = known.sum(axis=1)
    said, seen = ((known * one).sum(axis=1) / np.maximum(_TINY, count) for one in (unseen, held))
    along, squares = float((count * said * seen).sum()), float((count * said**2).sum())
    return np.float32(np.clip(along / max(_TINY, squares), *SPREADS))


def spread(rows: Floats, slope: np.float32) -> Floats:
    """Multiply what columns have in common."""
    said: Floats = rows + rows.mean(axis=1, keepdims=True) * (slope - 1)
    return said


def solve(
    seen: Seen, wanted: Floats, known: Floats, penalty: float, *, level: Level | None = None
) -> tuple[Floats, Floats]:
    """Minimise the squared errors of what is known plus the penalty, for each column.

    With ``level`` only what it leaves of predictions and of ``wanted`` counts.
    """
    level = level or _as_it_is
    terms, bent, split = seen.terms, seen.bent, seen.terms.by_term.height

    def normal(right: Floats) -> Floats:
        said = terms.by_prompt.times(right[:split]) + product(bent, right[split:])
        said = (known * level(said)).astype(np.float32, copy=False)
        sums = np.concatenate([terms.by_term.times(said), product(bent.T, said)])
        whole: Floats = (sums + penalty * right).astype(np.float32, copy=False)
        return whole

    errors = known * level(wanted)
    residual = np.concatenate([terms.by_term.times(errors), product(bent.T, errors)])
    solved: Floats = np.zeros_like(residual)
    direction: Floats = residual.copy()
    squares = (residual**2).sum(axis=0)
    enough = squares * _TOLERANCE**2
    for _ in range(_STEPS_MAX):
        if (squares <= enough).all():
            break
        applied = normal(direction)
        step = squares / np.maximum(_TINY, (direction * applied).sum(axis=0))
        solved += step * direction
        residual -= step * applied
        now = (residual**2).sum(axis=0)
        direction = (residual + direction * (now / np.maximum(_TINY, squares))).astype(np.float32)
        squares = now
    return solved[:split], solved[split:]


def _as_it_is(said: Floats) -> Floats:
    return said


def learn_vocabulary(reads: Sequence[Lexical], prompts_min: int) -> Vocabulary:
    """Return the words and pairs that at least ``prompts_min`` prompts have, in their order."""
    seen: dict[str, int] = {}
    for read in reads:
        for word in set(read.words):
            seen[word] = seen.get(word, 0) + 1
    words = sorted(word for word, count in seen.items() if count >= prompts_min)
    alone = Vocabulary(words, np.empty((0, 2), np.int64), np.ones(len(words), np.float32))
    keys = [np.unique(pair_keys(alone.places(read.words), len(words))) for read in reads]
    pairs, counts = np.unique(np.concatenate([*keys, keys[0][:0]]), return_counts=True)
    pairs, counts = pairs[counts >= prompts_min], counts[counts >= prompts_min]
    have = np.concatenate([np.array([seen[word] for word in words], np.int64), counts])
    rarity = np.log((1 + len(reads)) / (1 + have)) + 1.0
    places = np.stack([pairs // max(1, len(words)), pairs % max(1, len(words))], axis=1)
    return Vocabulary(words, places, rarity.astype(np.float32))


def weigh_terms(vocabulary: Vocabulary, reads: Sequence[Lexical]) -> Terms:
    """Return the matrix of the terms' weights, a row for each prompt."""
    found = [vocabulary.weigh(read.words) for read in reads]
    prompts = np.repeat(np.arange(len(reads)), [len(terms) for terms, _ in found])
    terms = np.concatenate([terms for terms, _ in found])
    weights = np.concatenate([weights for _, weights in found])
    order = np.argsort(terms, kind="stable")
    return Terms(
        _sums(prompts, terms, weights, len(reads)),
        _sums(terms[order], prompts[order], weights[order], len(vocabulary.rarity)),
    )


def _sums(rows: Indices, columns: Indices, weights: Floats, height: int) -> Sums:
    """Make a matrix of its cells, of which those of a row stand together."""
    held, starts = np.unique(rows, return_index=True)
    return Sums(held, starts, columns, weights, height)


def learn_bends(features: Floats) -> Bends:
    """Place the bends of (N, F) features at their quantiles."""
    knots = np.quantile(features, QUANTILES, axis=0).astype(np.float32)
    bent = bend_at(features, knots)
    scales = np.maximum(_SCALE_MIN, bent.std(axis=0))
    return Bends(knots, bent.mean(axis=0).astype(np.float32), scales.astype(np.float32))
