"""A select by Bandit over the nine-set mix: warm-started, rated as it goes, and a model turns bad.

What decides is the product's: the router and the sums that ``switchboard train`` makes of a few
labelled rows, and ``signals.bandit`` over a request's context. A call's cost is its model's price.
"""

from collections.abc import Sequence
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from routing_data.tables import Doubles, Outcomes, Sets
from switchboard_cli.train.command import ROWS_MIN, train
from switchboard_cli.train.rows import Row
from switchboard_dataplane.choosing.context import CONTEXT, context_of
from switchboard_dataplane.choosing.predict import Router, load_router
from switchboard_dataplane.decision.select import UNRATED
from switchboard_dataplane.reading.tasks import read_task
from switchboard_dataplane.reading.turns import Turn
from switchboard_dataplane.signals.bandit import Bandit, Told, unpack
from switchboard_dataplane.signals.learned import Offer, Tries

LABELLED: Final = 300
#: The bandit was made by other draws than those that it is measured by.
DRAWS: Final = 24
FIRST_DRAW: Final = 200
#: Requests until the model that serves most turns bad, until it is measured, and for how long.
TURNS_AT: Final = 1_900
BACK_IN: Final = 1_000
MEASURED: Final = 1_000
#: What a policy may say: how much quality the cost of the dearest model is worth.
COST_WEIGHTS: Final = (0.0, 0.02, 0.1)
PODS: Final = 4
#: Requests between two words of a pod.
TOLD_EVERY: Final = 50

_TRIES: Final = Tries(0.05, 0.0)

Contexts = list[tuple[float, ...]]


class Stream(NamedTuple):
    """What was asked in order, which model was taken, and how good that was."""

    rows: NDArray[np.int64]
    taken: NDArray[np.int64]
    got: Doubles


class Beside(NamedTuple):
    """A stretch of requests beside the best single model for it, in hindsight."""

    quality: float
    best_single: float
    cost: float
    best_single_cost: float


class Setting:
    """One draw: the rows that are labelled, the router made of them, and all others to be asked."""

    def __init__(self, outcomes: Outcomes, contexts: Contexts, prices: Doubles, draw: int) -> None:
        self.outcomes: Final = outcomes
        self.contexts: Final = contexts
        self.prices: Final = prices
        self.rng: Final = np.random.default_rng(draw)
        order = self.rng.permutation(len(outcomes.prompts))
        labelled = max(ROWS_MIN, min(LABELLED, len(order) // 4))
        self.labelled: Final = order[:labelled]
        self.asked: Final = order[labelled:]
        self.router: Final = _trained(outcomes, self.labelled.tolist())
        said = np.array([self.router.scores(read) for read in outcomes.reads], np.float64)
        places = [self.router.targets.index(model) for model in outcomes.models]
        self.expected: Final[Doubles] = np.clip(said[:, places], 0.0, 1.0)

    def offers(self, row: int, weight: float, *, router: bool = True) -> list[Offer]:
        """Return what each model promises for a prompt: without a router nobody knows."""
        costs = weight * self.prices / self.prices.max()
        expected = self.expected[row] if router else np.full(len(costs), UNRATED)
        return [
            Offer(number, model, float(expected[number]), float(costs[number]))
            for number, model in enumerate(self.outcomes.models)
        ]

    def bandits(self, pods: int) -> list[Bandit]:
        """Return a bandit for each pod, as it begins."""
        return [Bandit(len(CONTEXT), self.router.rated) for _ in range(pods)]

    def run(
        self,
        rows: NDArray[np.int64],
        qualities: Doubles,
        *,
        weight: float,
        bandits: Sequence[Bandit],
        rated: float = 1.0,
        router: bool = True,
    ) -> Stream:
        """Ask rows in order, of one pod after the other; a share of the answers is rated."""
        taken, got = np.zeros(len(rows), np.int64), np.zeros(len(rows))
        for turn, row in enumerate(rows.tolist()):
            one = bandits[turn % len(bandits)]
            offers = self.offers(row, weight, router=router)
            context = self.contexts[row]
            place = one.pick(context, offers, _TRIES, float(self.rng.random()))
            taken[turn], got[turn] = place, qualities[row, place]
            if rated == 1.0 or self.rng.random() < rated:
                beside = [*offers[:place], *offers[place + 1 :]]
                one.learn(context, offers[place], float(got[turn]), beside)
            if turn % TOLD_EVERY == 0 and len(bandits) > 1:
                _tell(bandits)
        return Stream(rows, taken, got)

    def beside(self, stream: Stream, qualities: Doubles, part: slice) -> Beside:
        """Compare a part of a stream with the best single model for it."""
        means = qualities[stream.rows[part]].mean(axis=0)
        best = int(means.argmax())
        cost = self.prices[stream.taken[part]].mean()
        return Beside(
            float(stream.got[part].mean()), float(means[best]), float(cost), self.prices[best]
        )


def bandit(sets: Sets, draws: int = DRAWS) -> dict[str, Any]:
    """Return how a bandit does on streams of the mix, the mean of some draws of it."""
    settings = settings_of(sets, draws, FIRST_DRAW)
    return {
        "labelled": len(settings[0].labelled),
        "draws": draws,
        **{
            f"cost_weight_{weight:g}": _mean([_steady(one, weight) for one in settings])
            for weight in COST_WEIGHTS
        },
        "router_alone": _mean([_steady(one, 0.0, warm=False) for one in settings]),
        "cold": _mean([_steady(one, 0.0, warm=False, router=False) for one in settings]),
        "tenth_rated": _mean([_steady(one, 0.0, rated=0.1) for one in settings]),
        "pods": _mean([_steady(one, 0.0, pods=PODS) for one in settings]),
        "turned_bad": _mean([_turned(one) for one in settings]),
        "turned_bad_pods": _mean([_turned(one, pods=PODS) for one in settings]),
        "pick_ms": round(1000 * min(_pick_s(one) for one in settings), 4),
    }


def settings_of(sets: Sets, draws: int, first: int = 0) -> list[Setting]:
    """Return so many draws of the mix, from the one of a number."""
    outcomes = sets.mix9
    prices = np.array([sets.prices[model] for model in outcomes.models])
    contexts = [context_of(read_task(Turn(prompt)), len(prompt)) for prompt in outcomes.prompts]
    return [Setting(outcomes, contexts, prices, first + draw) for draw in range(draws)]


def _steady(
    setting: Setting,
    weight: float,
    *,
    warm: bool = True,
    router: bool = True,
    rated: float = 1.0,
    pods: int = 1,
) -> Beside:
    """Compare the second half of a stream of all rows; not ``warm``: no rating is known before."""
    bandits = setting.bandits(pods) if warm else [Bandit(len(CONTEXT)) for _ in range(pods)]
    qualities = setting.outcomes.qualities
    stream = setting.run(
        setting.asked, qualities, weight=weight, bandits=bandits, rated=rated, router=router
    )
    return setting.beside(stream, qualities, slice(len(stream.rows) // 2, None))


def _turned(setting: Setting, *, pods: int = 1) -> Beside:
    """Let the model that was taken most turn bad; compare from BACK_IN requests later on."""
    bandits, outcomes = setting.bandits(pods), setting.outcomes
    rows = setting.rng.choice(setting.asked, TURNS_AT)
    first = setting.run(rows, outcomes.qualities, weight=0.0, bandits=bandits)
    turned = outcomes.qualities.copy()
    turned[:, np.bincount(first.taken[TURNS_AT // 2 :]).argmax()] = 0.0
    rows = setting.rng.choice(setting.asked, BACK_IN + MEASURED)
    after = setting.run(rows, turned, weight=0.0, bandits=bandits)
    return setting.beside(after, turned, slice(BACK_IN, None))


def _pick_s(setting: Setting) -> float:
    (one,) = setting.bandits(1)
    rows = setting.asked[:500].tolist()
    offers = [setting.offers(row, 0.0) for row in rows]
    start = perf_counter()
    for row, offered in zip(rows, offers, strict=True):
        one.pick(setting.contexts[row], offered, _TRIES, 0.5)
    return (perf_counter() - start) / len(rows)


def _tell(bandits: Sequence[Bandit]) -> None:
    """Let every pod hear what every other has learned."""
    words = [
        [(name, told.era, told.sums.pack()) for name, told in one.told().items()] for one in bandits
    ]
    for speaker, word in enumerate(words):
        for hearer, one in enumerate(bandits):
            if speaker != hearer:
                for name, era, sums in word:
                    one.hear(f"pod-{speaker}", name, Told(era, unpack(sums, one.dimensions)))


def _trained(outcomes: Outcomes, rows: list[int]) -> Router:
    """Train on rows, as ``switchboard train`` does."""
    said = outcomes.qualities[rows].tolist()
    known = [
        Row(outcomes.prompts[row], dict(zip(outcomes.models, qualities, strict=True)))
        for row, qualities in zip(rows, said, strict=True)
    ]
    return load_router(train(known)[1])


def _mean(found: Sequence[Beside]) -> dict[str, float]:
    mean = Beside(*np.mean(found, axis=0).tolist())
    ahead = np.array([one.quality - one.best_single for one in found])
    costs = np.array([one.cost / one.best_single_cost for one in found])
    return {
        **{name: round(value, 4) for name, value in mean._asdict().items()},
        "ahead": round(float(ahead.mean()), 4),
        "ahead_deviation": round(float(ahead.std()), 4),
        "ahead_worst": round(float(ahead.min()), 4),
        "draws_ahead": round(float((ahead >= 0).mean()), 2),
        "cost_worst": round(float(costs.max()), 2),
        "draws_dearer": round(float((costs > 1.0).mean()), 2),
    }
