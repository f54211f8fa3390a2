"""``switchboard report EXPORT``: the arms of each policy beside each other, as a table or JSON."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from switchboard_cli.report.bootstrap import FIGURES, LEVEL, RESAMPLES
from switchboard_cli.report.compare import MARGIN, Comparison
from switchboard_cli.report.tables import (
    PARTS,
    RATED_BY,
    NothingToReport,
    PolicyReport,
    Row,
    report,
)
from switchboard_cli.report.text import render
from switchboard_dataplane.learning.decisions import Rated, read_rated
from switchboard_dataplane.learning.ratings import BELIEVED

DONE: Final = 0
REFUSED: Final = 1
#: Fewer draws make intervals that are not what they say.
RESAMPLES_MIN: Final = 200


class LineRefused(Exception):
    """A line of an export is no decision; the text says which and why."""


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit status (2 for wrong flags)."""
    return run(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="switchboard report",
        description=(
            "Compare the arms of a policy: quality, cost, latency and errors of its decisions, "
            "with intervals, and what that says. EXPORT is what switchboard export wrote, "
            "- reads it from the standard input."
        ),
    )
    parser.add_argument("export", type=Path, metavar="EXPORT")
    parser.add_argument("--policy", metavar="NAMESPACE/NAME", help="only of this policy")
    parser.add_argument("--by", choices=tuple(PARTS), help="also tell each arm's requests apart")
    parser.add_argument("--baseline", metavar="ARM", help="compare with this arm (default control)")
    parser.add_argument(
        "--margin",
        type=_share,
        default=MARGIN,
        metavar="X",
        help=f"a quality that is lower by less counts as no worse (default {MARGIN})",
    )
    parser.add_argument(
        "--rated-by",
        action="append",
        choices=BELIEVED,
        metavar="SOURCE",
        help=f"whose ratings count, of {', '.join(BELIEVED)} (default {' and '.join(RATED_BY)})",
    )
    parser.add_argument(
        "--resamples",
        type=_resamples,
        default=RESAMPLES,
        metavar="N",
        help=f"how often callers are drawn for the intervals (default {RESAMPLES})",
    )
    parser.add_argument("--json", action="store_true", help="write JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    """Report by the parsed arguments; return the exit status."""
    rated_by = args.rated_by or RATED_BY
    try:
        reports = report(
            read_export(args.export),
            policy=args.policy,
            by=args.by,
            baseline=args.baseline,
            rated_by=rated_by,
            margin=args.margin,
            resamples=args.resamples,
        )
    except (OSError, LineRefused, NothingToReport) as error:
        print(f"switchboard report: {error}", file=sys.stderr)
        return REFUSED
    if args.json:
        told = {
            "level": LEVEL,
            "margin": args.margin,
            "rated_by": rated_by,
            "resamples": args.resamples,
            "policies": [_policy(one) for one in reports],
        }
        print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
    else:
        print(render(reports, margin=args.margin, by=args.by or ""), end="")
    return DONE


def read_export(path: Path) -> Iterator[Rated]:
    """Yield the decisions of an export (JSON lines); raises LineRefused, OSError."""
    with _opened(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                said = read_rated(line)
            except ValueError as error:
                raise LineRefused(f"{path}:{number}: {error}") from error
            yield said


def _opened(path: Path) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb")


def _policy(one: PolicyReport) -> Mapping[str, Any]:
    return {
        "policy": one.policy,
        "decisions": one.decisions,
        "from": one.first.isoformat(),
        "to": one.last.isoformat(),
        "sources": one.sources,
        "arms": [_row(row) for row in one.arms],
        "parts": [_row(row) for row in one.parts],
        "comparisons": [_comparison(found) for found in one.comparisons],
    }


def _row(row: Row) -> Mapping[str, Any]:
    return {
        "arm": row.arm,
        "part": row.part,
        "requests": row.decisions,
        "callers": row.callers,
        "rated": row.rated,
        "figures": {
            name: _figure(found.value, *found.interval) | {"callers": found.callers}
            for name, found in row.estimates.items()
        },
    }


def _comparison(one: Comparison) -> Mapping[str, Any]:
    return {
        "arm": one.arm,
        "baseline": one.baseline,
        "verdict": one.verdict,
        "callers_needed": one.callers_needed,
        "differences": {
            figure.name: _figure(found.value, found.low, found.high)
            | {"relative": figure.relative, "judgement": found.judgement}
            for figure in FIGURES
            for found in (one.differences[figure.name],)
        },
    }


def _figure(value: float, low: float, high: float) -> dict[str, Any]:
    told = {"value": value, "low": low, "high": high}
    return {name: number if isfinite(number) else None for name, number in told.items()}


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..1")
    return value


def _resamples(text: str) -> int:
    value = int(text)
    if value < RESAMPLES_MIN:
        raise argparse.ArgumentTypeError(f"{text} are too few; {RESAMPLES_MIN} at least")
    return value
