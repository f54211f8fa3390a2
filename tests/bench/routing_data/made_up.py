"""Makes up small sets of outcomes, to run the benchmark and its tests without any data."""

from random import Random

import numpy as np

from routing_data.experiments import (
    CASCADE_CHECK,
    CASCADE_STRONG,
    CASCADE_WEAK,
    FLASH,
    MIX_STRONG,
    MIX_WEAK,
    PRO,
)
from routing_data.tables import Outcomes, Sets
from routing_data.transfer import ROLES
from switchboard_cli.train.rows import stem_number
from switchboard_dataplane.reading.lexical import read_lexical

ROWS = 150
EASY = ("the capital of", "the colour of", "a word for")
HARD = ("the integral over", "a proof about", "the eigenvalue of")
TASKS = ("gsm8k", "mbpp", "trivia_qa")


def made_up_sets(seed: int = 1) -> Sets:
    """Return five sets in which hard prompts need a strong model, mostly."""
    rng = Random(seed)
    named = {name: [*weak, *strong] for name, (weak, strong) in ROLES.items()}
    weak = {name for small, _ in ROLES.values() for name in small} | {CASCADE_WEAK, MIX_WEAK, FLASH}
    named["mmlu_pro"] += [FLASH, PRO]
    named["zeroeval"] += [CASCADE_WEAK, CASCADE_CHECK, CASCADE_STRONG]
    named["mix9"] += [MIX_WEAK, MIX_STRONG]
    sets = {
        name: _outcomes(name, tuple(dict.fromkeys(models)), weak, rng)
        for name, models in named.items()
    }
    prices = {name: 0.2 if name in weak else 0.9 for name in sets["mix9"].models}
    return Sets(**sets, prices=prices)


def _outcomes(name: str, models: tuple[str, ...], weak: set[str], rng: Random) -> Outcomes:
    prompts: list[str] = []
    qualities: list[list[float]] = []
    for number in range(ROWS):
        hard = rng.random() < 0.5
        words = rng.choice(HARD if hard else EASY)
        prompts.append(f"What is {words} case {name} {rng.randrange(40)} {number}?")
        chances = [0.2 if hard and model in weak else 0.9 for model in models]
        qualities.append([float(rng.random() < chance) for chance in chances])
    tasks = [rng.choice(TASKS) for _ in prompts]
    stems = np.array([stem_number(prompt) for prompt in prompts], np.int64)
    reads = [read_lexical(prompt) for prompt in prompts]
    return Outcomes(name, prompts, tasks, models, np.array(qualities), reads, stems)
