"""Reads the public repositories' own files of outcomes: one function for each format."""

import csv
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

Record = dict[str, Any]

WEAK: Final = "mistralai/Mixtral-8x7B-Instruct-v0.1"
STRONG: Final = "gpt-4-1106-preview"

_LETTERS: Final = (
    re.compile(r"answer is \(?([A-J])\)?"),
    re.compile(r".*[aA]nswer:\s*([A-J])"),
    re.compile(r"([A-J])(?=[^A-J]*$)"),
)
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")
_ANSWER: Final = re.compile(r'"answer"\s*:\s*"?([^"}\n]*)')


def routellm(folder: Path, kind: str) -> Iterator[Record]:
    """Read ``routellm/evals`` of lm-sys/RouteLLM; ``kind`` is mmlu or gsm8k."""
    paths = sorted((folder / kind).glob("responses/mmlu_*.csv" if kind == "mmlu" else "*.csv"))
    listed = folder / kind / "contaminated_prompts.jsonl"
    known = {json.loads(line)["eval_prompt"] for line in listed.read_text().splitlines() if line}
    for path in paths:
        with path.open(newline="", encoding="utf-8") as text:
            for row in csv.DictReader(text):
                yield {
                    "prompt": row["prompt"],
                    "weak": _truth(row[WEAK]),
                    "strong": _truth(row[STRONG]),
                    "domain": path.stem.removeprefix("mmlu_") if kind == "mmlu" else "math",
                    "contaminated": row["prompt"] in known,
                }


def _truth(said: str) -> float:
    return 1.0 if said.strip().lower() in {"true", "1", "1.0"} else 0.0


def llmrouter(paths: Sequence[Path]) -> Iterator[Record]:
    """Read the routing data of ulab-uiuc/LLMRouter: a line for each query and model."""
    by_query: dict[tuple[str, str], Record] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            said = json.loads(line)
            key = (said["task_name"], said["query"])
            row = by_query.setdefault(
                key,
                {
                    "split": "test" if "test" in path.stem else "train",
                    "task": said["task_name"],
                    "metric": said.get("metric"),
                    "query": said["query"],
                },
            )
            row[f"s:{said['model_name']}"] = float(said["performance"])
    yield from by_query.values()


def mmlu_pro(folder: Path) -> Iterator[Record]:
    """Read ``eval_results`` of TIGER-AI-Lab/MMLU-Pro: a zip of JSON lists for each model."""
    by_question: dict[int, Record] = {}
    for path in sorted(folder.glob("model_outputs_*.zip")):
        model = path.stem.removeprefix("model_outputs_").removesuffix("_5shots")
        with zipfile.ZipFile(path) as packed:
            for name in packed.namelist():
                if not name.endswith(".json"):
                    continue
                for said in json.loads(packed.read(name)):
                    row = by_question.setdefault(
                        said["question_id"],
                        {
                            "question_id": said["question_id"],
                            "category": said["category"],
                            "src": said.get("src", ""),
                            "question": said["question"],
                            "options": json.dumps(said["options"]),
                        },
                    )
                    output = _text(said["model_outputs"])
                    row[f"s:{model}"] = float(_letter(output) == said["answer"])
                    row[f"len:{model}"] = len(output)
    yield from by_question.values()


def _letter(output: str) -> str | None:
    """Return the option that an output ends up with; a missing one is a wrong one."""
    for pattern in _LETTERS:
        found = pattern.search(output)
        if found:
            return found.group(1)
    return None


def zeroeval(folder: Path) -> Iterator[Record]:
    """Read ``result_dirs/gsm`` of WildEval/ZeroEval: a JSON list for each model."""
    by_question: dict[str, Record] = {}
    for path in sorted(folder.glob("*.json")):
        for said in json.loads(path.read_text(encoding="utf-8")):
            row = by_question.setdefault(
                said["id"],
                {"id": said["id"], "prompt": said["question"], "answer": said["answer"]},
            )
            output = _text(said["output"])
            answered = _number(_last_answer(output))
            row[f"s:{path.stem}"] = float(answered == _number(said["answer"]))
            row[f"len:{path.stem}"] = len(output)
    yield from by_question.values()


def _text(said: object) -> str:
    """Return an output that is a text, or a list of which the first is one."""
    if isinstance(said, list):
        return _text(said[0]) if said else ""
    return said if isinstance(said, str) else ""


def _last_answer(output: str) -> str:
    found: list[str] = _ANSWER.findall(output)
    return found[-1] if found else ""


def _number(said: str) -> float | None:
    found = _NUMBER.search(said.replace(",", ""))
    return float(found.group()) if found else None
