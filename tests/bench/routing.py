"""How good is the router? Per-query outcomes of public sets: quality against strong calls or cost.

    make bench-routing DATA=FOLDER

FOLDER holds the five sets that ``routing_data/convert.py`` makes of the public originals. Prints
the figures beside four baselines and writes ``.bench/routing.json``; ``--plots FOLDER`` draws the
curves too. ``--smoke``: made-up outcomes, only to show that the benchmark still runs.
"""

import argparse
import gc
import os
from pathlib import Path
from statistics import quantiles
from time import perf_counter_ns
from typing import Any

from figures import save_figures
from routing_data import experiments
from routing_data.bandit import DRAWS, bandit
from routing_data.held import held
from routing_data.made_up import made_up_sets
from routing_data.plot import draw
from routing_data.shipped import shipped
from routing_data.tables import Sets, load_sets

from switchboard_dataplane.choosing.predict import LARGE, SMALL, shipped_router
from switchboard_dataplane.reading.lexical import read_lexical

PROMPT = "Tell me how a Kubernetes scheduler picks a node, and why 3 of the 17 are not chosen. "
#: Some 500 tokens.
PROMPT_CHARS = 2_200
DECISIONS = 5_000
SMOKE_DECISIONS = 50
SMOKE_LABELS = 60
Curves = dict[str, list[list[float]]]
PLOTTED = ("mmlu_1531", "gsm8k", "mmlu_pro_flash_pro", "cascade_gsm8k")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--data", type=Path, default=os.environ.get("DATA"))
    parser.add_argument("--plots", type=Path)
    args = parser.parse_args()
    if not args.smoke and not args.data:
        parser.error("make bench-routing DATA=FOLDER: a folder of outcomes is needed")
    sets = made_up_sets() if args.smoke else load_sets(args.data)
    found = measure(sets, smoke=args.smoke)
    curves = {name: found[name].pop("curve") for name in PLOTTED}
    costs = found["mix9"].pop("curves")
    found["mix9"]["pair"].pop("curve")
    show(found)
    save_figures("routing", {**found, "curves": {**curves, "mix9": costs}})
    if args.plots:
        plot(args.plots, curves, costs)


def plot(folder: Path, curves: Curves, costs: Curves) -> None:
    """Draw what strong calls recover, and what the nine models' quality costs."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = "calls that go to the strong model; upwards: share of the gap that is recovered"
    picture = draw("What a share of strong calls recovers", axes, curves, lot=True)
    (folder / "routing-quality.svg").write_text(picture)
    axes = "cost; upwards: quality; 100% is the best single model, always called"
    picture = draw("Nine models: quality against cost", axes, costs, lot=False)
    (folder / "routing-cost.svg").write_text(picture)


def measure(sets: Sets, *, smoke: bool) -> dict[str, Any]:
    """Run all experiments; return their figures by name."""
    found: dict[str, Any] = {
        "mmlu_1531": experiments.mmlu(sets, SMOKE_LABELS if smoke else experiments.LABELS),
        "gsm8k": experiments.gsm8k(sets),
        "mmlu_pro_flash_pro": experiments.mmlu_pro(sets),
        "cascade_gsm8k": experiments.cascade(sets),
        "mix9": experiments.mix9(sets),
        "shipped": shipped(sets),
        "bandit_mix9": bandit(sets, 1 if smoke else DRAWS),
        "held_mix9": held(sets, 1 if smoke else DRAWS),
    }
    transfer = experiments.zero_shot(sets)
    found["zero_shot"] = {name: one["apgr"] for name, one in transfer.items()}
    found["zero_shot_details"] = transfer
    found["baselines"] = {
        name: one["baselines"] for name, one in found.items() if "baselines" in one
    }
    found["decision_ms"] = decision_ms(SMOKE_DECISIONS if smoke else DECISIONS)
    return found


def decision_ms(decisions: int) -> dict[str, float]:
    """Time the reading of a prompt of 500 tokens, and what the router that ships says of it."""
    router = shipped_router()
    prompt = (PROMPT * (PROMPT_CHARS // len(PROMPT) + 1))[:PROMPT_CHARS]
    gc.collect()
    gc.freeze()
    took: list[float] = []
    for number in range(decisions):
        asked = f"{number} {prompt}"
        start = perf_counter_ns()
        router.gain(read_lexical(asked), strong=LARGE, weak=SMALL)
        took.append((perf_counter_ns() - start) / 1e6)
    cuts = quantiles(took, n=100)
    return {"p50": round(cuts[49], 3), "p99": round(cuts[98], 3)}


def show(found: dict[str, Any]) -> None:
    """Print one table an experiment."""
    for name, one in found.items():
        if "baselines" not in one:
            continue
        first = next(iter(one["baselines"].values()))
        columns = list(first)
        print(f"\n{name:<22}" + "".join(f"{column:>14}" for column in columns))
        rows = {"learned": one, **one["baselines"]}
        if "wrong_agree" in one:
            rows = {"cascade": one, "  wrong agree": one["wrong_agree"], **one["baselines"]}
        for label, row in rows.items():
            print(f"{label:<22}" + "".join(f"{row[column]:>14}" for column in columns))
        print(f"{'95 %':<22}" + "".join(f"{one['interval_95'][key]!s:>18}" for key in columns))
        print(f"{'calibration error':<22}{one.get('calibration_error', '')}")
    print("\nzero shot, APGR")
    for name, row in found["zero_shot_details"].items():
        print(f"{name:<22}" + "  ".join(f"{key} {value}" for key, value in row.items()))
    show_shipped(found["shipped"])
    print("\nbandit beside the best single model in hindsight")
    for name, row in found["bandit_mix9"].items():
        print(f"{name:<26}{row}")
    print("\nwhat a policy declares, and by how much it is off")
    for name in ("share", "quality"):
        for declared, row in found["held_mix9"][name].items():
            print(f"{name} {declared:<20}{row}")
    print(f"\ndecision_ms  {found['decision_ms']}")


def show_shipped(found: dict[str, Any]) -> None:
    """Print what the router that ships orders requests by, beside what else there is, APGR."""
    print("\nthe router that ships, without the questions that it routes, APGR")
    for name, row in found.items():
        if name == "pooled":
            print(f"{name:<24}{row}")
            continue
        orders = {key: row[key]["apgr"] for key in ("complexity", "difficulty", "length")}
        error, interval = row["calibration_error"], row["interval_95"]["apgr"]
        print(f"{name:<24}{orders}  95 % {interval}  calibration error {error}")


if __name__ == "__main__":
    main()
