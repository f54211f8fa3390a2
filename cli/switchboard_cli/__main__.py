"""The command ``switchboard``: dev, operator, dataplane, validate, key, explain, diff, simulate,
train, export, report, fake-model.

Each subcommand is imported when it is called: a validate loads no web server, a data plane no
Kubernetes library.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

#: The commands with a parser of their own, and the modules that have it. The planes' are those that
#: the images run without the CLI.
_MODULES: Final = {
    "operator": "switchboard_operator.__main__",
    "dataplane": "switchboard_dataplane.__main__",
    "train": "switchboard_cli.train.command",
    "export": "switchboard_cli.export.command",
    "report": "switchboard_cli.report.command",
    "diff": "switchboard_cli.review.diff_command",
    "explain": "switchboard_cli.explain.command",
    "simulate": "switchboard_cli.review.simulate_command",
}

#: The commands whose status 1 is an answer: where one fails, a pipeline must not take it for that.
_ANSWERING: Final = frozenset({"diff", "explain", "simulate"})
#: As they say of what cannot be read.
_FAILED: Final = 2

#: As a shell says of a command that SIGPIPE ended.
_PIPE_CLOSED: Final = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; return its exit status (2 for wrong flags)."""
    said = sys.argv[1:] if argv is None else list(argv)
    try:
        status = _run(said)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read it, such as head, has enough. What is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except Exception as error:
        if said[0] not in _ANSWERING:
            raise
        print(f"switchboard {said[0]}: {_told(error)}", file=sys.stderr)
        return _FAILED
    return status


def _told(error: Exception) -> str:
    if isinstance(error, OSError):
        return str(error)
    # Where it is, and not its text: that may hold a part of what was read, and so of a prompt.
    *_, last = traceback.extract_tb(error.__traceback__)
    where = f"{Path(last.filename).name}:{last.lineno}"
    return f"{type(error).__name__} at {where}: a defect of Switchboard, please report it"


def _run(said: Sequence[str]) -> int:
    name = said[0] if said else ""
    status: int
    if name in _MODULES:
        if name == "train":
            from switchboard_dataplane.process import use_one_thread

            # Before numpy is there: the same export gives the same bytes on any number of cores.
            use_one_thread()
        status = import_module(_MODULES[name]).main(said[1:])
    else:
        args = _parser().parse_args(said)
        status = args.run(args)
    return status


def _parser() -> argparse.ArgumentParser:
    from switchboard_cli import dev, key, validate
    from switchboard_cli.fake_model import command as fake_model

    parser = argparse.ArgumentParser(
        prog="switchboard", description="A Kubernetes-native router for large language models."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    dev.add_parser(commands)
    commands.add_parser("operator", help="run the control plane in a cluster", add_help=False)
    commands.add_parser("train", help="fit a router to recorded outcomes", add_help=False)
    commands.add_parser("export", help="write the log of decisions", add_help=False)
    commands.add_parser("report", help="compare the arms of a policy", add_help=False)
    commands.add_parser("diff", help="what a change of manifests changes", add_help=False)
    commands.add_parser("explain", help="why a request goes where it goes", add_help=False)
    commands.add_parser("simulate", help="recorded requests against manifests", add_help=False)
    commands.add_parser("dataplane", help="run a data plane: a gateway pod", add_help=False)
    validate.add_parser(commands)
    key.add_parser(commands)
    fake_model.add_parser(commands)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
