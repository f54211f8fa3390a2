"""Reads the five sets of per-query outcomes from one folder of Parquet files.

The files are what ``convert.py`` makes of the public originals; docs/routing-quality.md names them.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyarrow import parquet

from switchboard_cli.train.rows import stem_number
from switchboard_dataplane.reading.lexical import Lexical, read_lexical

Doubles = NDArray[np.float64]


class Outcomes(NamedTuple):
    """One set: what was asked, of what kind it is, and (N, models) how well each model did."""

    name: str
    prompts: list[str]
    tasks: list[str]
    models: tuple[str, ...]
    qualities: Doubles
    reads: list[Lexical]
    stems: NDArray[np.int64]

    def column(self, model: str) -> Doubles:
        """Return how well a model did on each prompt."""
        return self.qualities[:, self.models.index(model)]

    def only(self, rows: NDArray[np.int64]) -> "Outcomes":
        """Return some rows of the set."""
        return Outcomes(
            self.name,
            [self.prompts[row] for row in rows],
            [self.tasks[row] for row in rows],
            self.models,
            self.qualities[rows],
            [self.reads[row] for row in rows],
            self.stems[rows],
        )


class Sets(NamedTuple):
    """The five sets, and prices by model in dollars per million tokens."""

    mmlu: Outcomes
    gsm8k: Outcomes
    mix9: Outcomes
    mmlu_pro: Outcomes
    zeroeval: Outcomes
    prices: dict[str, float]


def load_sets(folder: Path) -> Sets:
    """Read all five; raises OSError where one is missing."""
    prices = json.loads((folder / "llmrouter_prices.json").read_text())
    mmlu = [row for row in _read(folder / "routellm_mmlu.parquet") if not row["contaminated"]]
    gsm8k = [row for row in _read(folder / "routellm_gsm8k.parquet") if not row["contaminated"]]
    mix9 = _read(folder / "llmrouter_mix9.parquet")
    pro = _read(folder / "mmlu_pro_29models.parquet")
    zeroeval = _read(folder / "zeroeval_gsm.parquet")
    return Sets(
        _pair("mmlu", mmlu, [row["domain"] for row in mmlu]),
        _pair("gsm8k", gsm8k, ["math"] * len(gsm8k)),
        _scored("mix9", mix9, [row["query"] for row in mix9], [row["task"] for row in mix9]),
        _scored("mmlu_pro", pro, list(map(_with_options, pro)), [row["category"] for row in pro]),
        _scored(
            "zeroeval", zeroeval, [row["prompt"] for row in zeroeval], ["math"] * len(zeroeval)
        ),
        {name: said["input_price"] for name, said in prices.items()},
    )


def _read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def _pair(name: str, rows: list[dict[str, Any]], tasks: list[str]) -> Outcomes:
    qualities = np.array([[row["weak"], row["strong"]] for row in rows], np.float64)
    return _outcomes(name, [row["prompt"] for row in rows], tasks, ("weak", "strong"), qualities)


def _scored(
    name: str, rows: list[dict[str, Any]], prompts: list[str], tasks: list[str]
) -> Outcomes:
    models = tuple(column[2:] for column in rows[0] if column.startswith("s:"))
    cells = [[row[f"s:{model}"] for model in models] for row in rows]
    qualities = np.array(cells, np.float64)
    return _outcomes(name, prompts, tasks, models, qualities)


def _outcomes(
    name: str, prompts: list[str], tasks: list[str], models: tuple[str, ...], qualities: Doubles
) -> Outcomes:
    stems = np.array([stem_number(prompt) for prompt in prompts], np.int64)
    return Outcomes(
        name, prompts, tasks, models, qualities, list(map(read_lexical, prompts)), stems
    )


def _with_options(row: dict[str, Any]) -> str:
    """Return a question of MMLU-Pro with its options, as a caller would send it."""
    options: list[str] = json.loads(row["options"])
    listed = "\n".join(f"{chr(65 + place)}. {option}" for place, option in enumerate(options))
    return f"{row['question']}\n{listed}"
