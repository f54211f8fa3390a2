"""Outcomes that are made up by a rule, and a router that has learned it."""

from functools import cache
from random import Random

from switchboard_cli.train.ridge import PARTS, Fitted, fit_router
from switchboard_cli.train.rows import Row, fold_of, quality_table, targets_of
from switchboard_dataplane.reading.lexical import read_lexical

EASY = ("capital", "colour", "name", "animal")
HARD = ("theorem", "integral", "proof", "eigenvalue")


@cache
def rows(count: int = 400) -> tuple[Row, ...]:
    """Return prompts of which the small model answers the easy ones, the large one most."""
    rng = Random(1)
    made: list[Row] = []
    for number in range(count):
        hard = number % 2 == 0
        words = " ".join(rng.choices(HARD if hard else EASY, k=2))
        place = " zanzibar" if number == 7 else ""
        said = {
            "small": float(rng.random() < (0.2 if hard else 0.9)),
            "large": float(rng.random() < 0.9),
        }
        made.append(
            Row(f"Tell me about the {words} of {number:04x}{place}.", said, source="made-up")
        )
    return tuple(made)


@cache
def fitted() -> Fitted:
    """Return the router that learned from ``rows``."""
    known = rows()
    targets = targets_of(known)
    return fit_router(
        [read_lexical(row.prompt) for row in known],
        quality_table([row.qualities for row in known], targets),
        targets,
        [fold_of(row.prompt, PARTS) for row in known],
    )
