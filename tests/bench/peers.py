"""Gateways side by side: the same model, the same load, one core for each gateway in turn.

Prints a Markdown table and writes ``.bench/peers.json``: {gateway: {version, compiled, rps,
cpu_us_per_request, added_p50_ms, added_p99_ms, added_ttft_ms, cpu_us_per_chunk, rss_mb, …}}. The
modes beside the comparison (streams, memory, neighbours, order) write ``.bench/peers-MODE.json``.
How it is measured, and what cannot be compared: docs/benchmarks.md.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import save_figures
from gateways import asks, modes, ours, proxies, routers
from gateways.compare import Plan, compare, summarise, table
from gateways.cores import Cores, Unmeasurable, take_cores
from gateways.one import BadAnswer, check
from gateways.place import Gateway, Place, Starter
from gateways.tools import Missing, debian_program
from gateways.wrk import Wrk

from cluster.processes import StartFailed

STARTERS: Mapping[str, Starter] = {
    "direct": proxies.start_direct,
    "nginx": proxies.start_nginx,
    "envoy": proxies.start_envoy,
    "vllm-router": routers.start_vllm_router,
    "litellm": routers.start_litellm,
    ours.NAME: ours.start_compiled,
    ours.INTERPRETED: ours.start_interpreted,
}
COMPARE = "compare"
OURS = ["direct", ours.NAME]


@dataclass(frozen=True, slots=True)
class Running:
    """The gateways that could be started, and why the others could not."""

    gateways: list[Gateway]
    left_out: dict[str, str]
    wrk: Wrk


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="of the comparison")
    parser.add_argument("--seconds", type=float, help="of each part (4, and 10 in the other modes)")
    parser.add_argument("--only", metavar="NAME,NAME", help=f"of {', '.join(STARTERS)}")
    parser.add_argument(
        "--mode", choices=[COMPARE, *modes.MODES, "all"], default=COMPARE, help="(%(default)s)"
    )
    parser.add_argument(
        "--nice", type=int, default=0, help="priority of all of it; below 0 takes root"
    )
    parser.add_argument("--smoke", action="store_true", help="half a second of everything, for CI")
    args = parser.parse_args()
    chosen = [COMPARE, *modes.MODES] if args.smoke or args.mode == "all" else [args.mode]
    only = args.only.split(",") if args.only else None
    unknown = set(only or ()) - STARTERS.keys()
    if unknown:
        parser.error(f"--only: {', '.join(sorted(unknown))}: there are {', '.join(STARTERS)}")
    plan, scale = Plan(args.repeats, args.seconds or 4.0), modes.FULL
    if args.seconds:
        scale = modes.Scale(args.seconds, scale.streams, scale.requests)
    if args.smoke:
        only, plan, scale = only or OURS, Plan(1, 0.5), modes.SMOKE
    try:
        cores = take_cores()
        wrong = list[str]()
        for mode in chosen:
            names = only or (list(STARTERS) if mode == COMPARE else OURS)
            with started(names, cores, args.nice) as running:
                if mode == COMPARE:
                    figures = run_comparison(running, plan)
                else:
                    figures = run_mode(mode, running, scale)
            if ours.NAME in names and "error" in figures.get(ours.NAME, {"error": "left out"}):
                wrong.append(mode)
    except (Unmeasurable, Missing) as error:
        sys.exit(f"peers: {error}")
    if wrong:
        sys.exit(f"peers: {ours.NAME} did not get through {', '.join(wrong)}")


@contextmanager
def started(names: list[str], cores: Cores, nice: int) -> Iterator[Running]:
    """Start what is asked for and can be had, and see that it answers; "direct" is always there."""
    running, left_out = list[Gateway](), dict[str, str]()
    with (
        tempfile.TemporaryDirectory(prefix="peers-") as folder,
        Place(Path(folder), cores, nice) as place,
    ):
        wrk = Wrk(debian_program("wrk"), place.folder, asks.whole())
        for name in dict.fromkeys(["direct", *names]):
            try:
                gateway = STARTERS[name](place)
                check(gateway.port, asks.http(asks.whole(), gateway.port), b"scheduler looks")
                running.append(gateway)
            except (Missing, StartFailed, BadAnswer) as error:
                left_out[name] = str(error)
                print(f"peers: {name} is left out: {error}", file=sys.stderr)
        yield Running(running, left_out, wrk)


def run_comparison(running: Running, plan: Plan) -> Mapping[str, Mapping[str, Any]]:
    """Compare; print a table, write the figures and return them."""
    rows = compare(running.gateways, running.wrk, plan)
    summary = summarise(running.gateways, rows)
    load = {"wrk": running.wrk.version(), "repeats": plan.repeats, "seconds": plan.seconds}
    save_figures("peers", {**summary, "left_out": running.left_out, "load": load})
    print(table(summary))
    return summary


def run_mode(mode: str, running: Running, scale: modes.Scale) -> Mapping[str, Mapping[str, Any]]:
    """Run another mode on each gateway; print the figures, write and return them."""
    figures: dict[str, Mapping[str, Any]] = {}
    for gateway in running.gateways:
        try:
            measured = modes.MODES[mode](gateway, running.wrk, scale)
            figures[gateway.name] = {**gateway.about(), **measured}
        except (BadAnswer, OSError, TimeoutError) as error:
            figures[gateway.name] = {"error": f"{type(error).__name__}: {error}"}
    save_figures(f"peers-{mode}", {**figures, "left_out": running.left_out})
    print(json.dumps({mode: figures}, indent=2))
    return figures


if __name__ == "__main__":
    main()
