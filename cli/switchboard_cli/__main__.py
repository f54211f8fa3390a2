"""The command ``switchboard``: dev, operator, dataplane, validate, train, export, report,
fake-model.

Each subcommand is imported when it is called: a validate loads no web server, a data plane no
Kubernetes library.
"""

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; return its exit status (2 for wrong flags)."""
    said = sys.argv[1:] if argv is None else list(argv)
    match said[:1]:
        # The planes have commands of their own, which the images run without the CLI.
        case ["operator"]:
            from switchboard_operator.__main__ import main as run_operator

            return run_operator(said[1:])
        case ["train"]:
            from switchboard_dataplane.process import use_one_thread

            # Before numpy is there: the same export gives the same bytes on any number of cores.
            use_one_thread()
            from switchboard_cli.train.command import main as train

            return train(said[1:])
        case ["export"]:
            from switchboard_cli.export.command import main as export

            return export(said[1:])
        case ["report"]:
            from switchboard_cli.report.command import main as report

            return report(said[1:])
        case ["dataplane"]:
            from switchboard_dataplane.__main__ import main as run_dataplane

            return run_dataplane(said[1:])
        case _:
            args = _parser().parse_args(said)
            status: int = args.run(args)
            return status


def _parser() -> argparse.ArgumentParser:
    from switchboard_cli import dev, validate
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
    commands.add_parser("dataplane", help="run a data plane: a gateway pod", add_help=False)
    validate.add_parser(commands)
    fake_model.add_parser(commands)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
