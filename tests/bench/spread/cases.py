"""The cases that balances are compared in, and the figures of one: time is simulated.

The constants of the Latency balance were chosen on ``IN_SAMPLE``. Nothing was ever chosen on the
others: ``SAME_SHAPE`` has other requests, ``HELD_OUT`` other sizes, engines and loads, too.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from random import Random
from statistics import median, quantiles
from typing import Final

from spread.balances import BALANCES, OURS, Make
from spread.engines import (
    Ask,
    Engine,
    Sizes,
    bimodal,
    draw_asks,
    heavy_tailed,
    lognormal,
    skewed,
)

#: One engine in so many is slow, and one at least.
ONE_SLOW_IN: Final = 8
WARM_UP_SHARE: Final = 0.25
#: Where a case's seeds begin; a repeat has the next one.
SEED_HELD_OUT: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How many gateways ask how many engines, and for what share of what these can do.

    ``slower`` says how many times slower the slow ones are.
    """

    load: float
    gateways: int = 2
    engines: int = 8
    slower: float = 3.0
    sizes: Sizes = skewed
    seed: int = 0

    @property
    def name(self) -> str:
        """What the figures are listed under."""
        named = self.sizes.__name__.replace("_", "-")
        slow = max(1, self.engines // ONE_SLOW_IN)
        return (
            f"{self.load:.0%} load, {self.gateways} gateway{'s' if self.gateways > 1 else ''}, "
            f"{slow} of {self.engines} {self.slower:g}x slower, {named}"
        )

    def slownesses(self) -> list[float]:
        """Return by how much each engine is slower than a quick one; the slow ones come last."""
        slow = max(1, self.engines // ONE_SLOW_IN)
        return [1.0] * (self.engines - slow) + [self.slower] * slow


IN_SAMPLE: Final = (
    *(Case(load=0.7, gateways=gateways) for gateways in (1, 2, 4)),
    *(Case(load=load) for load in (0.2, 0.5, 0.85)),
)
SAME_SHAPE: Final = tuple(replace(case, seed=SEED_HELD_OUT) for case in IN_SAMPLE)
_SIZES: Final = (lognormal, heavy_tailed, bimodal)
_SLOWER: Final = (2.0, 4.0, 10.0)
_ENGINES: Final = (4, 16, 32)
_LOADS: Final = (0.3, 0.6, 0.8)
#: Every three of the four facets meet once, so a third of their combinations stands for all.
HELD_OUT: Final = tuple(
    Case(
        load=_LOADS[(one + two + three) % 3],
        engines=_ENGINES[three],
        slower=_SLOWER[two],
        sizes=_SIZES[one],
        seed=SEED_HELD_OUT,
    )
    for one, two, three in product(range(3), repeat=3)
)


def simulate(asks: Sequence[Ask], make: Make, case: Case, rng: Random) -> None:
    """Let the engines answer all requests; each learns its engine and its first token's time."""
    engines = [Engine(slowness=slowness) for slowness in case.slownesses()]
    balance = make(engines, case.gateways, rng)
    coming = deque(asks)
    times = [engine.next_at() for engine in engines]
    while True:
        now = min(times)
        if coming and coming[0].at <= now:
            ask = coming.popleft()
            ask.engine = number = balance.choose(ask, ask.at)
            engines[number].take(ask, ask.at)
        elif now == float("inf"):
            return
        else:
            number = times.index(now)
            first, last = engines[number].run_to(now)
            if first is not None:
                first.first_at = now
                balance.began(first, now)
            if last is not None:
                balance.ended(last, now)
        times[number] = engines[number].next_at()


def measure(case: Case, *, requests: int, repeats: int) -> dict[str, dict[str, float]]:
    """Return each balance's figures: medians over repeats that take the balances in turn.

    ``requests`` are those of a repeat, by engine; the first quarter of them warms up.
    """
    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in BALANCES}
    count = requests * case.engines
    slow = case.engines - max(1, case.engines // ONE_SLOW_IN)
    for repeat in range(repeats):
        for name, make in BALANCES.items():
            asks = draw_asks(
                count,
                Random(case.seed + repeat),
                gateways=case.gateways,
                load=case.load,
                sizes=case.sizes,
                speeds=[1 / slowness for slowness in case.slownesses()],
            )
            simulate(asks, make, case, Random(case.seed + repeat))
            counted = asks[int(WARM_UP_SHARE * count) :]
            cuts = quantiles([ask.first_at - ask.at for ask in counted], n=100)
            to_slow = sum(1 for ask in counted if ask.engine >= slow) / len(counted)
            seen[name].append((cuts[49], cuts[98], to_slow))
    return with_ratios(
        {
            name: {
                "ttft_p50_ms": round(1000 * median(row[0] for row in rows), 1),
                "ttft_p99_ms": round(1000 * median(row[1] for row in rows), 1),
                "slow_engine_share": round(median(row[2] for row in rows), 4),
            }
            for name, rows in seen.items()
        }
    )


def with_ratios(figures: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Add what our p99 is of each other's."""
    ours = figures[OURS]["ttft_p99_ms"]
    ratios = {
        name: round(ours / row["ttft_p99_ms"], 3) for name, row in figures.items() if name != OURS
    }
    return {**{name: dict(row) for name, row in figures.items()}, "p99_of_ours_to": ratios}
