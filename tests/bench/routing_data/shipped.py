"""How the router that ships orders requests: refitted without the questions that it routes."""

from typing import Any, Final

import numpy as np

from routing_data.experiments import (
    CASCADE_STRONG,
    CASCADE_WEAK,
    FLASH,
    FOLDS,
    MIX_STRONG,
    MIX_WEAK,
    PRO,
    Ranked,
    gains_of,
    interval,
    pair,
    summary,
)
from routing_data.tables import Doubles, Outcomes, Sets
from routing_data.transfer import general, pooled
from routing_data.trials import folds, length
from switchboard_cli.train.evaluate import calibration_error
from switchboard_dataplane.choosing.predict import LARGE, SMALL

#: Thresholds of which is said how many requests lie above them.
THRESHOLDS: Final = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)


def shipped(sets: Sets) -> dict[str, Any]:
    """Return the figures of complexity on each pair of models, and how it is distributed.

    ``difficulty`` is what it is not: how likely the models fail.
    """
    pool = pooled(sets)
    said = np.zeros(pool.qualities.shape)
    for split in folds(pool, FOLDS):
        router = general(pool.only(split.train))
        places = [router.targets.index(name) for name in (SMALL, LARGE)]
        said[split.test] = [router.scores(pool.reads[row])[places] for row in split.test]
    complexity = np.clip(said[:, 1] - said[:, 0], 0.0, 1.0)
    # The sets share questions: what is said of a prompt never learned from its question.
    known = dict(zip(pool.prompts, said, strict=True))
    pairs = {
        "mmlu": sets.mmlu,
        "gsm8k": sets.gsm8k,
        "mmlu_pro_flash_pro": pair(sets.mmlu_pro, FLASH, PRO),
        "zeroeval_llama_claude": pair(sets.zeroeval, CASCADE_WEAK, CASCADE_STRONG),
        "mix9_pair": pair(sets.mix9, MIX_WEAK, MIX_STRONG),
    }
    return {
        "pooled": {
            "calibration_error": round(calibration_error(complexity, gains_of(pool)), 4),
            "above": {
                f"{one:g}": round(float((complexity >= one).mean()), 3) for one in THRESHOLDS
            },
        },
        **{name: _routed(one, _of(one, known)) for name, one in pairs.items()},
    }


def _of(outcomes: Outcomes, known: dict[str, Doubles]) -> Doubles:
    return np.array([known[prompt] for prompt in outcomes.prompts])


def _routed(outcomes: Outcomes, said: Doubles) -> dict[str, Any]:
    """Return how well each order recovers the gap of one pair, over all of its questions."""
    orders = {
        "complexity": said[:, 1] - said[:, 0],
        "difficulty": 1.0 - np.clip(said, 0.0, 1.0).mean(axis=1),
        "length": length(outcomes),
    }
    gains = gains_of(outcomes)
    ranked = {name: [Ranked(scores, gains)] for name, scores in orders.items()}
    complexity = np.clip(orders["complexity"], 0.0, 1.0)
    return {
        **{name: summary(one) for name, one in ranked.items()},
        "interval_95": interval(ranked["complexity"]),
        "calibration_error": round(calibration_error(complexity, gains), 4),
    }
