"""Pools the sets into one of small and large models, and leaves families of tasks out of it."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from routing_data.tables import Doubles, Outcomes, Sets
from switchboard_cli.train.general import fit_general
from switchboard_cli.train.ridge import PARTS
from switchboard_cli.train.rows import fold_of
from switchboard_cli.train.store import store_fit
from switchboard_dataplane.choosing.predict import LARGE, SMALL, Router, load_router

#: What ``switchboard train`` was told when it made the router that ships.
PROMPTS_MIN: Final = 60
#: Which models stand for the small and the large ones, by set: as far as it has them, the small
#: and the large model of one maker, so that a gain is of size.
ROLES: Final[Mapping[str, tuple[Sequence[str], Sequence[str]]]] = {
    "mmlu": (["weak"], ["strong"]),
    "gsm8k": (["weak"], ["strong"]),
    "mix9": (
        ["gemma-2-9b-it", "llama-3.1-8b-instruct", "mistral-7b-instruct-v0.3"],
        ["llama-3.1-nemotron-51b-instruct", "llama-3.3-nemotron-super-49b-v1"],
    ),
    "mmlu_pro": (
        ["Meta-Llama-3_1-8B-Instruct", "Qwen1.5-7B-Chat", "Yi-6B", "gemini-1.5-flash-002"],
        ["Meta-Llama-3_1-70B-Instruct", "Qwen1.5-72B-Chat", "Yi-34B", "gemini-1.5-pro-002"],
    ),
    "zeroeval": (
        [
            "Meta-Llama-3.1-8B-Instruct",
            "Mistral-Nemo-Instruct-2407",
            "Qwen2-7B-Instruct",
            "claude-3-haiku-20240307",
            "gemini-1.5-flash",
            "gemma-2-9b-it",
            "gpt-4o-mini-2024-07-18",
        ],
        [
            "Meta-Llama-3.1-70B-Instruct",
            "Mistral-Large-2",
            "Qwen2-72B-Instruct",
            "claude-3-5-sonnet-20240620",
            "gemini-1.5-pro",
            "gemma-2-27b-it@together",
            "gpt-4o-2024-08-06",
        ],
    ),
}

#: Sets and tasks of the nine-set mix that ask for the same kind of thing.
FAMILIES: Final[Mapping[str, Sequence[str]]] = {
    "exams": ("mmlu", "mmlu_pro", "mix9/mmlu", "mix9/gpqa"),
    "word_problems": ("gsm8k", "zeroeval", "mix9/gsm8k", "mix9/agentverse-mgsm", "mix9/math"),
    "code": ("mix9/mbpp", "mix9/human_eval"),
    "common_sense": ("mix9/arc_challenge", "mix9/commonsense_qa", "mix9/openbook_qa"),
    "open_questions": ("mix9/natural_qa", "mix9/trivia_qa"),
    "puzzles": ("mix9/agentverse-logicgrid", "mix9/commongen"),
}


def pooled(sets: Sets) -> Outcomes:
    """Return all five sets as one of two targets; a task is ``set`` or ``set/task``."""
    parts = [_by_role(outcomes) for outcomes in sets[:5]]
    return Outcomes(
        "pooled",
        [prompt for part in parts for prompt in part.prompts],
        [task for part in parts for task in part.tasks],
        (SMALL, LARGE),
        np.concatenate([part.qualities for part in parts]),
        [read for part in parts for read in part.reads],
        np.concatenate([part.stems for part in parts]),
    )


def _by_role(outcomes: Outcomes) -> Outcomes:
    columns = [_mean(outcomes, models) for models in ROLES[outcomes.name]]
    several = outcomes.name == "mix9"
    tasks = [f"{outcomes.name}/{task}" if several else outcomes.name for task in outcomes.tasks]
    return outcomes._replace(
        tasks=tasks, models=(SMALL, LARGE), qualities=np.stack(columns, axis=1)
    )


def _mean(outcomes: Outcomes, models: Sequence[str]) -> Doubles:
    mean: Doubles = np.nanmean([outcomes.column(model) for model in models], axis=0)
    return mean


def general(train: Outcomes) -> Router:
    """Return the router that the recipe of the one that ships makes of a part of the pool.

    It has been bytes: what is pruned and rounded there is not asked here either.
    """
    parts = [fold_of(prompt, PARTS, "penalty") for prompt in train.prompts]
    fitted = fit_general(
        train.reads, train.qualities, train.models, train.tasks, parts, prompts_min=PROMPTS_MIN
    )
    return load_router(store_fit(fitted.fit, ()))


def without(pool: Outcomes, tasks: Sequence[str], tested: Outcomes) -> Outcomes:
    """Return the pool without whole tasks, and without any question that is tested."""
    away = np.isin(pool.tasks, list(tasks)) | np.isin(pool.stems, tested.stems)
    return pool.only(np.flatnonzero(~away))
