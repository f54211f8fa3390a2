"""The command ``switchboard-dataplane``: one data plane, in the foreground."""

import os
import sys
from collections.abc import Sequence

from switchboard_dataplane.command import run
from switchboard_dataplane.settings import parse_settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run a data plane until it is told to stop; return its exit status."""
    said = sys.argv[1:] if argv is None else argv
    return run(parse_settings(said, os.environ, prog="switchboard-dataplane"))


if __name__ == "__main__":
    raise SystemExit(main())
