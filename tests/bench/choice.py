"""Does the choice do live what it does on paper? Real outcomes, through a gateway over sockets.

    make bench-choice DATA=FOLDER

FOLDER holds the sets that ``routing_data/convert.py`` makes. Fake models answer rightly where a
table of outcomes says so, and 2,000 requests at a time go through a data plane.

- ``select_share``: MMLU, a router that ``switchboard train`` made of 1,531 labels, and a declared
  share of strong answers; ``select_threshold``: the same by complexity, and the router that ships.
- ``cascade``: GSM8K, by agreement of two cheap models. In ``cascade_wrong_agree`` two wrong answers
  are always the same one.
- ``bandit``: the nine-set mix and the eight best of its models (a route has no more tiers), warm-
  started from 300 labelled requests, each answer rated; then the model that served most turns bad.
- ``shares``: how far declared shares are off, 500 requests after the first, and 600 after the
  traffic has shifted from MMLU to GSM8K.

Cost and quality are held against the curve that is foreseen offline for the same requests; the
bandit against the best single model of the same requests. Costs are in percent of always asking
the strong model. Prints the figures, writes ``.bench/choice.json``, and exits with 1 where one is
beyond its bound. ``--smoke``: made-up outcomes and few requests, without a word on how good it was.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from figures import save_figures
from live_choice.bandits import BACK, LABELLED, learn
from live_choice.pairs import CHECK, STRONG, WEAK, by_agreement, by_share, by_threshold
from live_choice.routers import trained
from live_choice.shares import held_shares
from routing_data.experiments import CASCADE_CHECK, CASCADE_STRONG, CASCADE_WEAK, LABELS
from routing_data.made_up import made_up_sets
from routing_data.tables import Outcomes, Sets, load_sets
from routing_data.trials import labels

from fakes.outcome_tables import Table
from switchboard_dataplane.choosing.predict import shipped_router

#: The share of strong answers at which a select is looked at.
SHARE: Final = 0.4
#: Points that cost and quality may be off what was foreseen, and a share off what was declared.
OFF_MAX: Final = 2.0
SHARE_OFF_MAX: Final = 4.0
#: What a million tokens cost, in dollars: list prices of 2024.
PRICES: Final[Mapping[str, float]] = {WEAK: 0.6, STRONG: 10.0}
CASCADE_PRICES: Final[Mapping[str, float]] = {WEAK: 0.06, CHECK: 0.06, STRONG: 3.0}
CASCADE_MODELS: Final = {WEAK: CASCADE_WEAK, CHECK: CASCADE_CHECK, STRONG: CASCADE_STRONG}

Figures = dict[str, dict[str, Any]]


class Plan(NamedTuple):
    """How much is measured."""

    requests: int
    labels: int
    share_runs: int
    bandit_runs: int
    labelled: int
    back: int


WHOLE: Final = Plan(2_000, LABELS, 20, 8, LABELLED, BACK)
SMOKE: Final = Plan(40, 60, 1, 1, 100, 10)


def main() -> None:
    """Measure, print, write, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--data", type=Path, default=os.environ.get("DATA"))
    args = parser.parse_args()
    if not args.smoke and not args.data:
        parser.error("make bench-choice DATA=FOLDER: a folder of outcomes is needed")
    sets = made_up_sets() if args.smoke else load_sets(args.data)
    found = asyncio.run(measure(sets, SMOKE if args.smoke else WHOLE))
    for name, row in found.items():
        print(f"\n{name}")
        for key, value in row.items():
            print(f"{key:>28}  {value}")
    save_figures("choice", found)
    wrong = list(beyond(found))
    if wrong and not args.smoke:
        sys.exit("live traffic is not where it was foreseen: " + "; ".join(wrong))


async def measure(sets: Sets, plan: Plan) -> Figures:
    """Run all experiments; return their figures by name."""
    found: Figures = {}
    mmlu = table_of(sets.mmlu, {WEAK: "weak", STRONG: "strong"}, PRICES)
    known = {sets.mmlu.prompts[row].strip() for row in labels(sets.mmlu, plan.labels, 0).train}
    places = [place for place, prompt in enumerate(mmlu.prompts) if prompt not in known]
    places = Random(1).sample(places, min(plan.requests, len(places)))
    with trained(mmlu, [p for p, prompt in enumerate(mmlu.prompts) if prompt in known]) as router:
        landed = await by_share(mmlu, places, router, SHARE)
        found["select_share"] = landed.figures()
    landed = await by_threshold(mmlu, places, shipped_router(), SHARE)
    found["select_threshold"] = landed.figures()
    for name, agree in {"cascade": False, "cascade_wrong_agree": True}.items():
        table = table_of(sets.zeroeval, CASCADE_MODELS, CASCADE_PRICES, wrong_agree=agree)
        asked = [number % len(table.prompts) for number in range(plan.requests)]
        found[name] = (await by_agreement(table, asked)).figures()
    # A tier's name has no dots.
    models = {name.replace(".", "-"): name for name in sets.mix9.models}
    mix = table_of(sets.mix9, models, {name: sets.prices[one] for name, one in models.items()})
    found["bandit"] = await learn(mix, plan.bandit_runs, labelled=plan.labelled, back=plan.back)
    found["shares"] = await held_shares(sets.mmlu.prompts, sets.gsm8k.prompts, plan.share_runs)
    return found


def table_of(
    outcomes: Outcomes,
    models: Mapping[str, str],
    prices: Mapping[str, float],
    *,
    wrong_agree: bool = False,
) -> Table:
    """Return a set as a table: models by the names that they have here, each prompt once."""
    rows = {prompt.strip(): row for row, prompt in enumerate(outcomes.prompts)}
    kept = [*rows.values()]
    qualities = {name: known(outcomes, model, kept) for name, model in models.items()}
    return Table([*rows], qualities, {name: prices[name] for name in models}, wrong_agree)


def known(outcomes: Outcomes, model: str, rows: Sequence[int]) -> list[float]:
    """Return how well a model did on some rows; unknown counts as wrong."""
    said = outcomes.column(model)[rows]
    return [float(one) if one == one else 0.0 for one in said]  # noqa: PLR0124 - NaN


def beyond(found: Figures) -> Iterator[str]:
    """Yield what is beyond its bound."""
    for name in ("select_share", "select_threshold", "cascade", "cascade_wrong_agree"):
        for key in ("cost_off", "quality_off_curve"):
            if found[name][key] > OFF_MAX:
                yield f"{name}: {key} is {found[name][key]}, at most {OFF_MAX} allowed"
    bandit = found["bandit"]
    for when in ("", "turned_"):
        worse = bandit[f"{when}quality"] < bandit[f"{when}best_single"]
        if worse or bandit[f"{when}cost"] > 100.0:
            yield f"bandit: {when}quality or {when}cost is worse than the best single model's"
    for key in ("settled_off_p95", "after_a_shift_off_p95"):
        if found["shares"][key] > SHARE_OFF_MAX:
            yield f"shares: {key} is {found['shares'][key]}, at most {SHARE_OFF_MAX} allowed"


if __name__ == "__main__":
    main()
