"""Turns a fit into an artifact's bytes: rounded, pruned, in an order that the rows alone decide."""

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from switchboard_cli.train.rows import Row
from switchboard_dataplane.choosing.artifact import (
    FORMAT,
    Artifact,
    Fit,
    Rated,
    Source,
    encode_artifact,
    halves,
)
from switchboard_dataplane.choosing.context import CONTEXT
from switchboard_dataplane.choosing.features import Floats, Indices
from switchboard_dataplane.reading.lexical import FEATURES

#: So many words and pairs are kept, those whose coefficients say most.
WORDS_KEPT: Final = 20_000
PAIRS_KEPT: Final = 40_000


def store_fit(
    fit: Fit,
    rows: Sequence[Row],
    *,
    words: int = WORDS_KEPT,
    pairs: int = PAIRS_KEPT,
    rated: tuple[Rated, ...] = (),
) -> bytes:
    """Return the artifact of a fit to rows. Words that only kept pairs need are kept too.

    ``rated`` are the ratings of the rows, added up for a bandit to begin with.
    """
    vocabulary = fit.vocabulary
    count = len(vocabulary.words)
    tells = np.abs(fit.coefficients).max(axis=1) * vocabulary.rarity
    first = _most(tells[:count], words)
    kept_pairs = _most(tells[count:], pairs)
    places = vocabulary.pairs[kept_pairs]
    kept: Indices = np.unique(np.concatenate([first, places.ravel()]))
    moved = np.full(count, -1)
    moved[kept] = np.arange(len(kept))
    terms = np.concatenate([kept, count + kept_pairs])
    return encode_artifact(
        Artifact(
            format=FORMAT,
            sources=_sources(rows),
            targets=fit.targets,
            features=FEATURES,
            words=tuple(vocabulary.words[int(place)] for place in kept),
            pairs=np.ascontiguousarray(moved[places], "<i4").tobytes(),
            rarity=halves(vocabulary.rarity[terms]),
            coefficients=halves(fit.coefficients[terms]),
            knots=halves(fit.bends.knots),
            means=halves(fit.bends.means),
            scales=halves(fit.bends.scales),
            bent=halves(fit.bent),
            intercepts=tuple(round(one, 6) for one in fit.intercepts.tolist()),
            context=CONTEXT if rated else (),
            rated=rated,
        )
    )


def _most(tells: Floats, count: int) -> Indices:
    """Return the places of the ``count`` largest, rising; of equals the first."""
    order: Indices = np.argsort(-tells, kind="stable")
    return np.sort(order[:count])


def _sources(rows: Sequence[Row]) -> tuple[Source, ...]:
    by_name: dict[str, list[bytes]] = {}
    for row in rows:
        by_name.setdefault(row.source, []).append(msgspec.json.encode(row, order="sorted"))
    return tuple(
        Source(name, len(lines), hashlib.sha256(b"\n".join(sorted(lines))).hexdigest())
        for name, lines in sorted(by_name.items())
    )
