"""A bandit over many models, warm-started from a few labelled requests and rated as it goes."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, Final, NamedTuple

import numpy as np

from fakes.outcome_tables import Bench, Served, Table, bench, each
from live_choice.curves import costs_of, qualities_of
from live_choice.routers import trained
from switchboard_policy.v1alpha1.routingpolicy import TIERS_MAX

LABELLED: Final = 300
#: The bandit was made by other draws than those that it is measured by.
FIRST_DRAW: Final = 200
#: After a model has turned bad, the bandit is to be back by then, and is measured over as many.
BACK: Final = 1_000
MEASURED: Final = 1_000

_POLICY: Final = """
apiVersion: switchboard.dev/v1alpha1
kind: RoutingPolicy
metadata: {{name: chat, namespace: default}}
spec:
  models: [chat]
  learning: {{}}
  rules:
  - name: default
    route:
      tiers: [{tiers}]
      select: {{by: Bandit, router: "{router}", bandit: {{explore: "0.05", costWeight: "0.02"}}}}
"""


class Run(NamedTuple):
    """One stream: how it compares with the best single model of its second half, and after a turn.

    Qualities are means in percent, costs a share of the single model's, in percent.
    """

    quality: float
    best_single: float
    cost: float
    turned_quality: float
    turned_best_single: float
    turned_cost: float


async def learn(
    table: Table, runs: int, *, labelled: int = LABELLED, back: int = BACK
) -> dict[str, Any]:
    """Run streams of all that the table holds; return the mean of what they came to."""
    table = best_of(table, TIERS_MAX)
    found = [await stream(table, Random(FIRST_DRAW + run), labelled, back) for run in range(runs)]
    mean = Run(*np.mean(found, axis=0).tolist())
    return {
        "runs": runs,
        **{name: round(value, 2) for name, value in mean._asdict().items()},
        "ahead_in": sum(run.quality >= run.best_single for run in found),
        "turned_ahead_in": sum(run.turned_quality >= run.turned_best_single for run in found),
        "each": [[round(value, 2) for value in run] for run in found],
    }


async def stream(table: Table, rng: Random, labelled: int, back: int) -> Run:
    """Train on some requests, send the others, then let the model that served most turn bad."""
    order = rng.sample(range(len(table.prompts)), len(table.prompts))
    known, places = order[:labelled], order[labelled:]
    with trained(table, known) as learned:
        tiers = ", ".join(
            f"{{name: {one}, backends: [{{name: {one}}}]}}" for one in by_price(table)
        )
        policy = _POLICY.format(tiers=tiers, router=learned.router.digest)
        async with bench(table, policy, routers=learned.folder) as running:
            served = await each(partial(ask_and_rate, running), places)
            half = served[len(served) // 2 :]
            most = max(table.models, key=[one.model for one in half].count)
            running.turn(table.turned(most))
            again = rng.choices(places, k=back + min(MEASURED, len(places)))
            after = (await each(partial(ask_and_rate, running), again))[back:]
    return Run(*against_best(table, half), *against_best(table.turned(most), after))


async def ask_and_rate(running: Bench, place: int) -> Served:
    """Ask, and say how good the answer is."""
    served = await running.ask(place)
    said = {"decision": served.decision, "rating": served.quality}
    reply = await running.gw.send(said, "/v1/feedback")
    assert reply.status == 202, reply.body
    return served


def against_best(table: Table, served: Sequence[Served]) -> tuple[float, float, float]:
    """Return the quality, that of the best single model for the same, and the cost beside its."""
    places = [one.place for one in served]
    means = {model: qualities_of(table, places, model).mean() for model in table.models}
    best = max(means, key=lambda model: float(means[model]))
    cost = sum(one.cost for one in served) / float(costs_of(table, places, best).sum())
    quality = sum(one.quality for one in served) / len(served)
    return 100 * quality, 100 * float(means[best]), 100 * cost


def best_of(table: Table, most: int) -> Table:
    """Return the table with the models alone that answer best over all."""
    best = sorted(table.models, key=lambda one: -float(np.mean(table.qualities[one])))[:most]
    return replace(table, qualities={one: table.qualities[one] for one in best})


def by_price(table: Table) -> list[str]:
    """Return the models from the cheapest to the dearest, the better of equals later."""
    return sorted(table.models, key=lambda one: (table.prices[one], np.mean(table.qualities[one])))
