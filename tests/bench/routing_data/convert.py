"""Makes the benchmark's Parquet files of checkouts of the public originals.

    python -m routing_data.convert ORIGINALS DATA

ORIGINALS holds checkouts by name: RouteLLM, LLMRouter, MMLU-Pro, ZeroEval.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow
from pyarrow import parquet

from routing_data.originals import Record, llmrouter, mmlu_pro, routellm, zeroeval

ROUTING_DATA = "default_routing_*_data.jsonl"
CANDIDATES = "default_llm.json"


def convert(originals: Path, folder: Path) -> None:
    """Write the five files and the prices; raises OSError where a checkout is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    evals = originals / "RouteLLM" / "routellm" / "evals"
    write(folder / "routellm_mmlu.parquet", list(routellm(evals, "mmlu")))
    write(folder / "routellm_gsm8k.parquet", list(routellm(evals, "gsm8k")))
    mix = originals / "LLMRouter"
    routed = sorted(mix.rglob(ROUTING_DATA))
    write(folder / "llmrouter_mix9.parquet", list(llmrouter(routed)))
    pro = originals / "MMLU-Pro" / "eval_results"
    write(folder / "mmlu_pro_29models.parquet", list(mmlu_pro(pro)))
    gsm = originals / "ZeroEval" / "result_dirs" / "gsm"
    write(folder / "zeroeval_gsm.parquet", list(zeroeval(gsm)))
    candidates = json.loads(next(iter(sorted(mix.rglob(CANDIDATES)))).read_text())
    prices = {
        name: {key: said[key] for key in ("size", "input_price", "output_price") if key in said}
        for name, said in candidates.items()
    }
    (folder / "llmrouter_prices.json").write_text(json.dumps(prices, indent=1))


def write(path: Path, rows: Sequence[Record]) -> None:
    """Write rows that need not have the same fields; an absent one is null."""
    if not rows:
        raise FileNotFoundError(f"{path.name}: the originals hold nothing of it")
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    parquet.write_table(pyarrow.table(columns), path)


def main() -> None:
    """Convert the folder of the first argument into the second."""
    convert(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
