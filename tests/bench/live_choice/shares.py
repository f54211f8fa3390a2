"""A declared share of strong answers: how far live traffic is off, and again after it shifts."""

from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any, Final

import numpy as np

from fakes.outcome_tables import Bench, Served, Table, bench, each
from live_choice.pairs import STRONG, WEAK

#: By then the share is to be held, after the first request and after a shift.
SETTLED: Final = 500
SETTLED_AGAIN: Final = 600
#: The requests after that over which it is counted.
COUNTED: Final = 500
SHARES: Final = (0.1, 0.3, 0.5)

_POLICY: Final = """
apiVersion: switchboard.dev/v1alpha1
kind: RoutingPolicy
metadata: {{name: {name}, namespace: default}}
spec:
  models: [{name}]
  rules:
  - name: default
    route:
      tiers:
      - {{name: weak, backends: [{{name: weak}}]}}
      - {{name: strong, backends: [{{name: strong}}]}}
      select: {{by: Complexity, strongShare: "{share}"}}
---
"""


async def held_shares(first: Sequence[str], then: Sequence[str], runs: int) -> dict[str, Any]:
    """Return by how many points shares are off in each run: traffic of one kind, then of another.

    The prompts of a run are drawn from each kind.
    """
    prompts = list(dict.fromkeys((*first, *then)))
    right = [1.0] * len(prompts)
    table = Table(prompts, {WEAK: right, STRONG: right}, {WEAK: 1.0, STRONG: 10.0})
    place = {prompt: number for number, prompt in enumerate(prompts)}
    shares = [SHARES[run % len(SHARES)] for run in range(runs)]
    policies = "".join(
        _POLICY.format(name=f"run-{run}", share=one) for run, one in enumerate(shares)
    )
    off: list[tuple[float, float]] = []
    async with bench(table, policies) as running:
        for run, share in enumerate(shares):
            rng = Random(run)
            traffic = [
                *(place[one] for one in rng.choices(first, k=SETTLED + COUNTED)),
                *(place[one] for one in rng.choices(then, k=SETTLED_AGAIN + COUNTED)),
            ]
            served = await each(partial(_ask, running, f"run-{run}"), traffic)
            off.append(
                (
                    _off(served[SETTLED : SETTLED + COUNTED], share),
                    _off(served[-COUNTED:], share),
                )
            )
    return {"runs": runs, **_figures("settled", off, 0), **_figures("after_a_shift", off, 1)}


async def _ask(running: Bench, model: str, place: int) -> Served:
    return await running.ask(place, model)


def _off(served: Sequence[Served], share: float) -> float:
    return 100 * abs(sum(one.model == STRONG for one in served) / len(served) - share)


def _figures(name: str, off: Sequence[tuple[float, float]], column: int) -> dict[str, float]:
    points = [one[column] for one in off]
    return {
        f"{name}_off_mean": round(float(np.mean(points)), 2),
        f"{name}_off_p95": round(float(np.quantile(points, 0.95)), 2),
        f"{name}_off_worst": round(max(points), 2),
    }
