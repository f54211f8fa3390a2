"""A data plane as its command runs it, in an event loop that notes how long it was held.

``python -m scale_line.watched FILE ARGUMENTS``: a hold is all that runs between two looks at the
sockets, so no request is touched for that long. Each that is long enough to matter is a line of
FILE: when it ended (monotonic), the CPU time of the loop's thread and the time on the clock, in ms.
"""

import selectors
import sys
from pathlib import Path
from time import monotonic, thread_time
from typing import Final

from switchboard_dataplane.__main__ import main

#: Shorter holds are not noted.
TOLD_MS: Final = 0.5


class WatchedSelector(selectors.DefaultSelector):
    """The usual selector, with a clock."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._holds = file.open("w", buffering=1)
        self._began = thread_time(), monotonic()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        cpu, now = thread_time(), monotonic()
        cpu_ms, wall_ms = (cpu - self._began[0]) * 1_000, (now - self._began[1]) * 1_000
        if wall_ms >= TOLD_MS:
            self._holds.write(f"{now:.6f} {cpu_ms:.3f} {wall_ms:.3f}\n")
        found = super().select(timeout)
        self._began = thread_time(), monotonic()
        return found


def watch_loops(file: Path) -> None:
    """Have the event loops of this process use the watched selector."""
    vars(selectors)["DefaultSelector"] = lambda: WatchedSelector(file)


if __name__ == "__main__":
    watch_loops(Path(sys.argv[1]))
    raise SystemExit(main(sys.argv[2:]))
