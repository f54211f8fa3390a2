"""How well requests are spread: our Latency balance beside others, simulated and over real sockets.

Engines answer the same requests under each balance: round robin, fewest requests in flight (of all
engines), our Latency balance (the product's own code), and an oracle that sees into the engines. An
engine runs a batch, prefills one prompt after another, and decodes the slower the larger its batch
is; what does not fit waits. Some engines are slower. Gateways share the engines, and none knows
what the others send.

``in_sample`` are the cases that the balance's constants were chosen on, ``same_shape`` the same
with other requests, ``held_out`` others. Prints a table and writes ``.bench/balance.json``: for
each case and balance the time to the first token (p50, p99; medians of five repeats that take the
balances in turn), the ratios of the p99, and their median and worst over the cases. Exits with 1 if
ours is above 0.5 of round robin's or 1.05 of fewest in flight's in a case; of ``held_out``, at the
median over the cases.

``--live``: the same over real sockets, with a data-plane process and fake models, six minutes
(``.bench/balance-live.json``). ``--smoke``: a little of each, without a word on how good it was.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Final

from figures import save_figures
from spread.cases import HELD_OUT, IN_SAMPLE, SAME_SHAPE, Case, measure
from spread.live import measure_live

REPEATS: Final = 5
#: Requests of a repeat by engine; those of the live comparison in all.
REQUESTS: Final = 1_000
REQUESTS_HELD_OUT: Final = 500
REQUESTS_LIVE: Final = 900
REQUESTS_SMOKE: Final = 40
#: Ours must be at most so much of the p99 of each.
BOUNDS: Final = {"round_robin": 0.5, "least_in_flight": 1.05}
RATIOS: Final = "p99_of_ours_to"

#: Figures by balance, and the ratios; the same by case.
Figures = Mapping[str, Mapping[str, float]]


def main() -> None:
    """Measure, print, write, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    wrong: list[str] = []
    if args.live or args.smoke:
        wrong += compare_live(smoke=args.smoke)
    if not args.live:
        wrong += compare_simulated(smoke=args.smoke)
    if wrong and not args.smoke:
        sys.exit("ours is not good enough: " + "; ".join(wrong))


def compare_live(*, smoke: bool) -> list[str]:
    """Compare over real sockets; return what is not good enough."""
    size = (REQUESTS_SMOKE, 1) if smoke else (REQUESTS_LIVE, REPEATS)
    figures = measure_live(requests=size[0], repeats=size[1])
    show("live", figures)
    save_figures("balance-live", figures)
    return judge("live", figures[RATIOS])


def compare_simulated(*, smoke: bool) -> list[str]:
    """Compare in simulated time, set by set; return what is not good enough."""
    wrong: list[str] = []
    sets = {"in_sample": IN_SAMPLE, "same_shape": SAME_SHAPE, "held_out": HELD_OUT}
    said: dict[str, object] = {}
    for name, cases in sets.items():
        requests = REQUESTS_HELD_OUT if name == "held_out" else REQUESTS
        size = (REQUESTS_SMOKE, 1) if smoke else (requests, REPEATS)
        figures = measure_all(cases[:3] if smoke else cases, *size)
        for case, rows in figures.items():
            show(f"{name}: {case}", rows)
        summary = summarise(figures)
        show(f"{name}: ratios of the p99", summary)
        said[name] = {**figures, "ratios": summary}
        if name == "held_out":
            wrong += judge(name, summary["median"])
        else:
            wrong += [
                fault for case, rows in figures.items() for fault in judge(case, rows[RATIOS])
            ]
    save_figures("balance", said)
    return wrong


def measure_all(cases: Sequence[Case], requests: int, repeats: int) -> dict[str, Figures]:
    """Measure all cases, as many at a time as there are cores."""
    one = partial(measure, requests=requests, repeats=repeats)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("forkserver")) as pool:
        return dict(zip([case.name for case in cases], pool.map(one, cases), strict=True))


def summarise(figures: Mapping[str, Figures]) -> dict[str, dict[str, float]]:
    """Return the median and the worst of each ratio over the cases."""
    ratios = [rows[RATIOS] for rows in figures.values()]
    return {
        "median": {name: round(median(one[name] for one in ratios), 3) for name in ratios[0]},
        "worst": {name: max(one[name] for one in ratios) for name in ratios[0]},
    }


def judge(case: str, ratios: Mapping[str, float]) -> list[str]:
    """Return what is above a bound."""
    return [
        f"{case}: {ratios[name]} of {name}'s, at most {bound} allowed"
        for name, bound in BOUNDS.items()
        if ratios[name] > bound
    ]


def show(title: str, rows: Figures) -> None:
    """Print a table."""
    print(f"\n{title}")
    for name, row in rows.items():
        print(f"{name:>18}", *(f"{key} {value:<10}" for key, value in row.items()))


if __name__ == "__main__":
    main()
