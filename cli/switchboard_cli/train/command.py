"""``switchboard train EXPORT``: fit a router to outcomes, say how good it is, write it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from switchboard_cli.train.evaluate import QUANTILES, calibration_error, recovery
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
from switchboard_dataplane.reading.lexical import Lexical, read_lexical

#: One part in so many is held back to say how good the router is.
HELD_BACK: Final = 5
ROWS_MIN: Final = 50
DONE: Final = 0
REFUSED: Final = 1


class Report(NamedTuple):
    """How a router did on questions that it had not seen. ``apgr`` is None without a pair."""

    trained: int
    tested: int
    calibration_error: float
    apgr: float | None
    length_apgr: float | None


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit status (2 for wrong flags)."""
    return run(_parser().parse_args(argv))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="switchboard train",
        description=(
            "Fit a router to an export (JSON lines: prompt, qualities by model or tier, task, "
            "source), say how good it is on questions held back, and write it as an artifact of "
            "coefficients and vocabulary, without any prompt. The same export gives the same bytes."
        ),
    )
    parser.add_argument("export", type=Path, metavar="EXPORT")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
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
        rows = read_rows(args.export)
        report, data = train(rows, weak=args.weak, strong=args.strong, prompts_min=args.prompts_min)
    except (OSError, RowRefused, ValueError) as error:
        print(f"switchboard train: {error}", file=sys.stderr)
        return REFUSED
    args.output.write_bytes(data)
    print(f"trained on {report.trained} rows, tested on {report.tested} others")
    print(f"calibration error {report.calibration_error:.3f}")
    if report.apgr is not None:
        print(f"APGR {report.apgr:.3f} (by length alone {report.length_apgr:.3f})")
    print(f"{args.output}: {len(data)} bytes, {digest_of(data)}")
    return DONE


def train(
    rows: Sequence[Row],
    *,
    weak: str | None = None,
    strong: str | None = None,
    prompts_min: int = PROMPTS_MIN,
) -> tuple[Report, bytes]:
    """Return how a fit to four fifths of the rows does on the others, and one to all as bytes.

    Raises ValueError for too few rows, or a pair that they do not name.
    """
    if len(rows) < ROWS_MIN:
        raise ValueError(f"{len(rows)} rows: at least {ROWS_MIN} are needed")
    targets = targets_of(rows)
    for name in (weak, strong):
        if name is not None and name not in targets:
            raise ValueError(f"no row has an outcome of {name}; there are {', '.join(targets)}")
    reads = [read_lexical(row.prompt) for row in rows]
    held = np.array([fold_of(row.prompt, HELD_BACK, "held-back") == 0 for row in rows])
    kept, tested = np.flatnonzero(~held).tolist(), np.flatnonzero(held).tolist()
    if not kept or not tested:
        raise ValueError("the rows are all of one question: none is left to test with")
    trial = _fit([rows[row] for row in kept], [reads[row] for row in kept], targets, prompts_min)
    report = _report(
        trial, [rows[row] for row in tested], [reads[row] for row in tested], (weak, strong)
    )
    whole = _fit(rows, reads, targets, prompts_min)
    return report._replace(trained=len(kept)), store_fit(whole.fit, rows)


def _fit(
    rows: Sequence[Row], reads: Sequence[Lexical], targets: Sequence[str], prompts_min: int
) -> Fitted:
    parts = [fold_of(row.prompt, PARTS, "penalty") for row in rows]
    qualities = quality_table([row.qualities for row in rows], targets)
    return fit_router(reads, qualities, targets, parts, prompts_min=prompts_min)


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
    gains = (observed[:, high] - observed[:, low])[both]
    lengths = np.array([read.features[0] for read in reads])[both]
    ours = recovery(
        (said[:, high] - said[:, low])[both].astype(np.float64), gains, quantiles=QUANTILES
    )
    return Report(
        0, len(rows), error, ours.apgr, recovery(lengths, gains, quantiles=QUANTILES).apgr
    )
