"""``switchboard diff OLD NEW``: what changes for whom, before it is in force."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from switchboard_cli.manifests import empty_folders
from switchboard_cli.review.changes import SEVERITIES, Change
from switchboard_cli.review.compare import compared
from switchboard_cli.review.diff_text import as_json, as_markdown, as_text
from switchboard_cli.review.moves import Moves, moves_of
from switchboard_cli.review.records import read_decisions
from switchboard_cli.review.sides import Settings, Unreadable, read_sides

SAME: Final = 0
CHANGED: Final = 1
UNREADABLE: Final = 2
FAILED: Final = 3

#: The forms of a diff.
WAYS: Final = {"text": as_text, "markdown": as_markdown, "json": as_json}


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    said: str = args.fail_on
    fail_on = tuple(filter(None, said.split(",")))
    unknown = [one for one in fail_on if one not in SEVERITIES]
    if unknown:
        parser.error(f"--fail-on: {', '.join(unknown)}: choose from {', '.join(SEVERITIES)}")
    try:
        changes, moves = differences(
            args.old, args.new, log=args.log, settings=settings_of(args), seed=args.seed
        )
    except (Unreadable, OSError) as error:
        print(f"switchboard diff: {error}", file=sys.stderr)
        return UNREADABLE
    warn_of_nothing("diff", (args.old, args.new))
    sys.stdout.write(WAYS[args.output](changes, moves))
    return status_of(changes, fail_on)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="switchboard diff",
        description=(
            "Say what a change of manifests changes in effect, and for whom, the most important "
            "first. Exits 0 for no change in effect, 1 for changes, 2 where something cannot be "
            "read or would be refused, 3 for a change that --fail-on names."
        ),
    )
    parser.add_argument("old", metavar="OLD", help="a file or folder of manifests, as they are")
    parser.add_argument("new", metavar="NEW", help="the same, as they are to be")
    add_options(parser)
    parser.add_argument(
        "--log", metavar="FILE", help="an export of decisions: which of them would go elsewhere"
    )
    parser.add_argument(
        "--fail-on",
        default="",
        metavar="LIST",
        help=f"exit 3 for changes of these kinds, of {','.join(SEVERITIES)}",
    )
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what both commands take."""
    parser.add_argument("--output", choices=tuple(WAYS), default="text", help="default: text")
    parser.add_argument(
        "--platform-namespace",
        metavar="NAME",
        default="platform",
        help="where platform guardrails may be (default: platform)",
    )
    parser.add_argument(
        "--order",
        default="",
        metavar="LIST",
        help="the gateway's order of namespaces, the strongest first, by commas",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of what is drawn by chance (default 0)"
    )


def settings_of(args: argparse.Namespace) -> Settings:
    """Return what is said of the gateway."""
    return Settings(
        platform_namespace=args.platform_namespace,
        order=tuple(filter(None, args.order.split(","))),
    )


def warn_of_nothing(command: str, paths: Iterable[str]) -> None:
    """Say of which folders nothing was read."""
    for folder in empty_folders(paths):
        told = "warning: there is no manifest in it"
        print(f"switchboard {command}: {folder}: {told}", file=sys.stderr)


def differences(
    old: str, new: str, *, log: str | None = None, settings: Settings, seed: int = 0
) -> tuple[list[Change], Moves | None]:
    """Return what changes, and with a log which of its requests would go elsewhere.

    Raises Unreadable, OSError.
    """
    before, after = read_sides([old], [new], settings)
    found = compared(before, after)
    if not log:
        return found.changes, None
    sides = (found.old, found.before), (after, found.after)
    return found.changes, moves_of(read_decisions(log), *sides, seed=seed)


def status_of(changes: Sequence[Change], fail_on: Sequence[str] = ()) -> int:
    """Return the exit status of some changes."""
    severities = {one.severity for one in changes}
    if "refused" in severities:
        return UNREADABLE
    if severities.intersection(fail_on):
        return FAILED
    return CHANGED if changes else SAME
