"""What processes and the store have used: CPU time, memory, commands and bytes."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    import redis

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def cpu_s(*pids: int) -> float:
    """Return the CPU time that processes have used together, in seconds."""
    ticks = 0
    for pid in pids:
        # The name stands in parentheses and may have spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def rss_mb(pid: int, *, peak: bool = False) -> float:
    """Return the resident memory of a process, now or at its peak."""
    name = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found.group(1)) / 1024


class Cores:
    """How much of a core processes use from here on, those of a name together."""

    def __init__(self, pids: Mapping[str, Sequence[int]]) -> None:
        self._began = monotonic()
        self._pids = pids
        self._used = {name: cpu_s(*each) for name, each in pids.items()}

    def used_s(self) -> dict[str, float]:
        """Return the seconds of CPU time since the start, by name."""
        return {
            name: round(cpu_s(*each) - self._used[name], 2) for name, each in self._pids.items()
        }

    def percent(self) -> dict[str, float]:
        """Return the percents of one core since the start, by name."""
        took_s = monotonic() - self._began
        return {name: round(100 * used_s / took_s, 1) for name, used_s in self.used_s().items()}


@dataclass(frozen=True, slots=True)
class StoreTraffic:
    """What the store was asked and what went to and fro."""

    commands: int
    bytes_in: int
    bytes_out: int

    @classmethod
    def read(cls, client: "redis.Redis") -> Self:
        """Return what the server has counted since its start."""
        said: Any = client.info("stats")
        return cls(
            said["total_commands_processed"],
            said["total_net_input_bytes"],
            said["total_net_output_bytes"],
        )

    def since(self, before: Self) -> tuple[int, int, int]:
        """Return the commands, the bytes in and the bytes out since then."""
        return (
            self.commands - before.commands,
            self.bytes_in - before.bytes_in,
            self.bytes_out - before.bytes_out,
        )
