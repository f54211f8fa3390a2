"""``switchboard simulate POLICIES --log FILE``: recorded requests against a set of policies."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from switchboard_cli.review.compare import refused
from switchboard_cli.review.costs import Prices
from switchboard_cli.review.diff_command import add_options, settings_of, warn_of_nothing
from switchboard_cli.review.records import Recorded, read_decisions
from switchboard_cli.review.replay import Replay
from switchboard_cli.review.running import snapshot_of
from switchboard_cli.review.sides import Side, Unreadable, read_side
from switchboard_cli.review.simulation_text import as_json, as_markdown, as_text
from switchboard_cli.review.tally import Tally

DONE: Final = 0
UNREADABLE: Final = 2

_WAYS: Final = {"text": as_text, "markdown": as_markdown, "json": as_json}


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit status (2 for what cannot be read)."""
    args = _parser().parse_args(argv)
    try:
        side = read_side(args.paths, settings_of(args))
        tally = simulate(side, read_decisions(args.log), seed=args.seed)
    except (Unreadable, OSError) as error:
        print(f"switchboard simulate: {error}", file=sys.stderr)
        return UNREADABLE
    warn_of_nothing("simulate", args.paths)
    wrong = list(refused(side))
    sys.stdout.write(_WAYS[args.output](tally, wrong))
    return UNREADABLE if wrong else DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="switchboard simulate",
        description=(
            "Decide recorded requests anew against a set of manifests: traffic by rule and "
            "backend, cost, guardrails, refusals, and what cannot be told without the prompts. "
            "FILE is what switchboard export wrote."
        ),
    )
    parser.add_argument("paths", nargs="+", metavar="POLICIES", help="files or folders")
    parser.add_argument(
        "--log", required=True, metavar="FILE", help="an export of decisions, - for stdin"
    )
    add_options(parser)
    return parser


def simulate(side: Side, records: Iterable[Recorded | None], *, seed: int) -> Tally:
    """Decide recorded requests, one at a time; memory does not grow with the log."""
    replay, tally = Replay(snapshot_of(side), seed=seed), Tally(Prices(side.backends))
    for record in records:
        tally.take(record, None if record is None else replay.decide(record))
    return tally
