"""The command ``switchboard-dataplane``: one data plane, in the foreground; or a probe of one."""

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a data plane until it is told to stop, or ask one how it is; return the exit status."""
    said = sys.argv[1:] if argv is None else argv
    # A probe is begun anew every few seconds: it must not wait for what a data plane imports.
    if said[:1] == ["probe"]:
        from switchboard_dataplane.probe import probe  # noqa: PLC0415

        return probe(said[1:])
    from switchboard_dataplane.command import run  # noqa: PLC0415
    from switchboard_dataplane.settings import parse_settings  # noqa: PLC0415

    return run(parse_settings(said, os.environ, prog="switchboard-dataplane"))


if __name__ == "__main__":
    raise SystemExit(main())
