"""``switchboard train EXPORT``: fit a router to outcomes, say how good it is, write it."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from switchboard_cli.train.decisions import BY, By, Wanted
from switchboard_cli.train.evaluate import QUANTILES, calibration_error, recovery
from switchboard_cli.train.general import fit_general
from switchboard_cli.train.ratings import add_up
from switchboard_cli.train.ridge import PARTS, PROMPTS_MIN, Fitted, fit_router, predict_all
from switchboard_cli.train.rows import (
    Row,
    RowRefused,
    fold_of,
    quality_table,
    read_rows,
    targets_of,
)
from switchboard_cli.train.store import store_fit
from switchboard_dataplane.choosing.artifact import digest_of
from switchboard_dataplane.choosing.routers import file_name
from switchboard_dataplane.reading.lexical import Lexical, read_lexical

#: One part in so many is held back to say how good the router is.
HELD_BACK: Final = 5
ROWS_MIN: Final = 50
DONE: Final = 0
REFUSED: Final = 1


class Report(NamedTuple):
    """How a router did on questions that it had not seen. ``apgr`` is None without a pair.

    ``wordless``: it had no texts to learn from.
    """

    trained: int
    tested: int
    calibration_error: float
    apgr: float | None
    length_apgr: float | None
    wordless: bool = False


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit status (2 for wrong flags)."""
    return run(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="switchboard train",
        description=(
            "Fit a router to an export, say how good it is on questions held back, and write it as "
            "an artifact of coefficients and vocabulary, without any prompt. An export has JSON "
            "lines: what `switchboard export` writes, or a prompt, qualities by model or tier, a "
            "task, a source. The same export gives the same bytes."
        ),
    )
    parser.add_argument("export", type=Path, metavar="EXPORT")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="where to write; in a folder the file is called by its digest, as --routers wants it",
    )
    parser.add_argument(
        "--by",
        choices=BY,
        default=BY[0],
        help="whom the ratings of decisions are of (default: the tier that answered)",
    )
    parser.add_argument("--policy", default="", metavar="NAME", help="decisions of this one alone")
    parser.add_argument("--rule", default="", metavar="NAME", help="decisions of this one alone")
    parser.add_argument(
        "--no-ratings",
        action="store_true",
        help="leave out the sums of ratings that a select by Bandit begins with",
    )
    parser.add_argument(
        "--general",
        action="store_true",
        help=(
            "for prompts of kinds that the export has none of: learn only what its sources and "
            "tasks have in common, and take longer prompts to gain more"
        ),
    )
    parser.add_argument("--weak", metavar="NAME", help="report how a gap to --strong is recovered")
    parser.add_argument("--strong", metavar="NAME")
    parser.add_argument(
        "--prompts-min",
        type=int,
        default=PROMPTS_MIN,
        metavar="N",
        help=f"learn no word that fewer prompts have (default {PROMPTS_MIN})",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Train by the parsed arguments; return the exit status."""
    try:
        wanted = Wanted(args.by, args.policy, args.rule)
        rows = read_rows(args.export, wanted.row)
        check_rules(rows, wanted.by)
        report, data = train(
            rows,
            weak=args.weak,
            strong=args.strong,
            prompts_min=args.prompts_min,
            ratings=not args.no_ratings,
            general=args.general,
        )
        path = args.output
        if path.is_dir():
            path /= file_name(digest_of(data))
        path.write_bytes(data)
    except (OSError, RowRefused, ValueError) as error:
        print(f"switchboard train: {error}", file=sys.stderr)
        return REFUSED
    print(f"trained on {report.trained} rows, tested on {report.tested} others")
    if report.wordless:
        print("too few rows have a text: it knows how good each is by its ratings, and no words")
    print(f"calibration error {report.calibration_error:.3f}")
    if report.apgr is not None:
        print(f"APGR {report.apgr:.3f} (by length alone {report.length_apgr:.3f})")
    print(f"{path}: {len(data)} bytes, {digest_of(data)}")
    return DONE


def check_rules(rows: Sequence[Row], by: By) -> None:
    """Refuse (ValueError) what would mix the tiers of several rules, which only share names."""
    rules = sorted({row.source for row in rows if row.id})
    if by == "tier" and len(rules) > 1:
        raise ValueError(
            f"decisions of several rules, whose tiers are not the same ({', '.join(rules)}): "
            "name one with --policy and --rule, or learn --by backend"
        )


def train(
    rows: Sequence[Row],
    *,
    weak: str | None = None,
    strong: str | None = None,
    prompts_min: int = PROMPTS_MIN,
    ratings: bool = True,
    general: bool = False,
) -> tuple[Report, bytes]:
    """Return how a fit to four fifths of the rows does on the others, and one to all as bytes.

    Rows without a text count only where too few have one. Raises ValueError for too few rows, or
    a pair that they do not name.
    """
    if len(rows) < ROWS_MIN:
        raise ValueError(f"{len(rows)} rows: at least {ROWS_MIN} are needed")
    written = [row for row in rows if row.prompt]
    wordless = len(written) < ROWS_MIN
    rows = [msgspec.structs.replace(row, prompt="") for row in rows] if wordless else written
    targets = targets_of(rows)
    for name in (weak, strong):
        if name is not None and name not in targets:
            raise ValueError(f"no row has an outcome of {name}; there are {', '.join(targets)}")
    reads = [read_lexical(row.prompt) for row in rows]
    held = np.array([fold_of(row.question, HELD_BACK, "held-back") == 0 for row in rows])
    kept, tested = np.flatnonzero(~held).tolist(), np.flatnonzero(held).tolist()
    if not kept or not tested:
        raise ValueError("the rows are all of one question: none is left to test with")
    fit = partial(_fit_general if general else _fit, targets=targets, prompts_min=prompts_min)
    trial = fit([rows[row] for row in kept], [reads[row] for row in kept])
    report = _report(
        trial, [rows[row] for row in tested], [reads[row] for row in tested], (weak, strong)
    )
    whole = fit(rows, reads)
    qualities = quality_table([row.qualities for row in rows], targets)
    rated = add_up(rows, qualities, targets, whole.unseen) if ratings else ()
    data = store_fit(whole.fit, rows, rated=rated)
    return report._replace(trained=len(kept), wordless=wordless), data


def _fit(
    rows: Sequence[Row], reads: Sequence[Lexical], targets: Sequence[str], prompts_min: int
) -> Fitted:
    parts = [fold_of(row.question, PARTS, "penalty") for row in rows]
    qualities = quality_table([row.qualities for row in rows], targets)
    return fit_router(reads, qualities, targets, parts, prompts_min=prompts_min)


def _fit_general(
    rows: Sequence[Row], reads: Sequence[Lexical], targets: Sequence[str], prompts_min: int
) -> Fitted:
    parts = [fold_of(row.question, PARTS, "penalty") for row in rows]
    qualities = quality_table([row.qualities for row in rows], targets)
    kinds = [f"{row.source}/{row.task}" for row in rows]
    return fit_general(reads, qualities, targets, kinds, parts, prompts_min=prompts_min)


def _report(
    trial: Fitted,
    rows: Sequence[Row],
    reads: Sequence[Lexical],
    pair: tuple[str | None, str | None],
) -> Report:
    said = predict_all(trial.fit, reads)
    targets = trial.fit.targets
    observed = quality_table([row.qualities for row in rows], targets)
    known = np.isfinite(observed)
    error = calibration_error(said[known].astype(np.float64), observed[known])
    weak, strong = pair
    if weak is None or strong is None:
        return Report(0, len(rows), error, None, None)
    low, high = targets.index(weak), targets.index(strong)
    both = known[:, low] & known[:, high]
    if not both.any():
        # A decision is rated for the tier that answered: nobody knows what the other had said.
        return Report(0, len(rows), error, None, None)
    gains = (observed[:, high] - observed[:, low])[both]
    lengths = np.array([read.features[0] for read in reads])[both]
    ours = recovery(
        (said[:, high] - said[:, low])[both].astype(np.float64), gains, quantiles=QUANTILES
    )
    return Report(
        0, len(rows), error, ours.apgr, recovery(lengths, gains, quantiles=QUANTILES).apgr
    )
