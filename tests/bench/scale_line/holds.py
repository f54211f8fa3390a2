"""What ``watched`` noted of the times for which an event loop looked at no socket."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Hold:
    """A time for which an event loop was held: when it ended, and how long, in milliseconds."""

    ended: float
    cpu_ms: float
    wall_ms: float


def holds(file: Path) -> Iterable[Hold]:
    """Yield what ``watched`` noted; the last line may be half written."""
    for line in file.read_text().splitlines():
        parts = line.split()
        if len(parts) == 3:
            yield Hold(*map(float, parts))


def longest(files: Iterable[Path], since: float, until: float) -> dict[str, float]:
    """Return the longest holds that ended in a time (monotonic): of the thread's CPU, by clock."""
    found = [one for file in files for one in holds(file) if since <= one.ended <= until]
    return {
        "cpu_ms": round(max((one.cpu_ms for one in found), default=0.0), 2),
        "wall_ms": round(max((one.wall_ms for one in found), default=0.0), 2),
    }
