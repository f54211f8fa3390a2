"""A weak and a strong model behind a gateway: by a select, and by a cascade, against the curve."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from fakes.outcome_tables import Served, Table, bench, each
from live_choice.curves import Curve, Doubles, Point, curve_of, point_of
from live_choice.routers import Trained
from switchboard_dataplane.choosing.predict import Router
from switchboard_dataplane.reading.lexical import read_lexical

WEAK: Final = "weak"
STRONG: Final = "strong"
CHECK: Final = "check"

#: A policy has no lower threshold.
_LEAST: Final = 0.001

_ROUTE: Final = """
apiVersion: switchboard.dev/v1alpha1
kind: RoutingPolicy
metadata: {{name: chat, namespace: default}}
spec:
  models: [chat]
  rules:
  - name: default
    route:
      tiers:
      - {{name: weak, backends: [{{name: weak}}]}}
      - {{name: strong, backends: [{{name: strong}}]}}
      {how}
"""


class Landed(NamedTuple):
    """Where live traffic came to lie, beside the curve that was foreseen."""

    live: Point
    foreseen: Point
    curve: Curve

    def figures(self) -> dict[str, float]:
        """Return cost and quality in percent, and how far they are off."""
        on_curve = self.curve.quality_at(self.live.cost)
        return {
            "cost": round(100 * self.live.cost, 2),
            "quality": round(100 * self.live.quality, 2),
            "cost_foreseen": round(100 * self.foreseen.cost, 2),
            "quality_foreseen": round(100 * self.foreseen.quality, 2),
            "cost_off": round(100 * abs(self.live.cost - self.foreseen.cost), 2),
            "quality_off_curve": round(100 * abs(self.live.quality - on_curve), 2),
        }


async def ask_all(
    policy: str, table: Table, places: Sequence[int], **settings: Any
) -> list[Served]:
    """Send requests to a gateway that has this select, or cascade; check what it tells of them."""
    async with bench(table, _ROUTE.format(how=policy), **settings) as running:
        return await each(running.ask, places)


async def by_share(table: Table, places: Sequence[int], learned: Trained, share: float) -> Landed:
    """Declare a share of strong answers: the requests where the strong model gains most."""
    how = f'select: {{by: Complexity, strongShare: "{share}", router: "{learned.router.digest}"}}'
    served = await ask_all(how, table, places, routers=learned.folder)
    scores = gains(table, places, learned.router)
    curve = curve_of(table, places, scores, weak=WEAK, strong=STRONG)
    return Landed(point_of(table, served, STRONG), curve.at_share(share), curve)


async def by_threshold(table: Table, places: Sequence[int], router: Router, share: float) -> Landed:
    """Declare a threshold of complexity by the router that ships, for a share of strong answers."""
    scores = complexities(table, places, router)
    threshold = max(_LEAST, round(float(np.quantile(scores, 1.0 - share)), 3))
    how = f'select: {{by: Complexity, thresholds: ["{threshold}"], margin: "0"}}'
    served = await ask_all(how, table, places)
    curve = curve_of(table, places, scores, weak=WEAK, strong=STRONG)
    strong = float((scores >= threshold).mean())
    return Landed(point_of(table, served, STRONG), curve.at_share(strong), curve)


def gains(table: Table, places: Sequence[int], router: Router) -> Doubles:
    """Return what the strong model is expected to gain on each request."""
    weak, strong = router.targets.index(WEAK), router.targets.index(STRONG)
    said = [router.scores(read_lexical(table.prompts[place])) for place in places]
    return np.array([float(one[strong] - one[weak]) for one in said])


def complexities(table: Table, places: Sequence[int], router: Router) -> Doubles:
    """Return how much each request is expected to gain, in [0, 1]: as a select reads it."""
    said = [router.complexity(read_lexical(table.prompts[place])) for place in places]
    return np.clip(said, 0.0, 1.0)


async def by_agreement(table: Table, places: Sequence[int]) -> Landed:
    """Ask the strong model where the weak one and another cheap one come to different answers."""
    how = "cascade: {accept: {agreement: {name: check}}}"
    served = await ask_all(how, table, places)
    doubted = np.array([float(not agreed(table, place)) for place in places])
    curve = curve_of(table, places, doubted, weak=WEAK, strong=STRONG, always=(WEAK, CHECK))
    return Landed(point_of(table, served, STRONG), curve.at_share(float(doubted.mean())), curve)


def agreed(table: Table, place: int) -> bool:
    """Say whether the two cheap models say the same."""
    return table.says(WEAK, place) == table.says(CHECK, place)
