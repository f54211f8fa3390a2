"""One core for the gateway, another for everything else; what a gateway's processes cost there."""

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: 2,000 streams are twice as many sockets at the gateway.
_FILES_MIN = 8_192
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Unmeasurable(Exception):
    """The benchmark cannot run on this machine; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The core of the gateway under test, and the one of the model and the load."""

    gateway: int
    load: int

    def on_gateway(self, *command: str | Path) -> list[str | Path]:
        """A command that runs on the gateway's core, with all that it starts."""
        return ["taskset", "-c", str(self.gateway), *command]


def take_cores() -> Cores:
    """Move this process, and what it will start, to the core of the load; return both cores.

    Raises Unmeasurable.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise Unmeasurable("two cores are needed: one for the gateway, one for model and load")
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < _FILES_MIN:
        raise Unmeasurable(f"a limit of {_FILES_MIN} open files is needed, not {files} (ulimit -n)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    cores = Cores(gateway=allowed[1], load=allowed[0])
    os.sched_setaffinity(0, {cores.load})
    return cores


def set_priority(pid: int, nice: int) -> None:
    """Give a process and its session a priority; raises Unmeasurable where that is not allowed.

    Where the kernel groups sessions, the priority of a process counts within its own alone.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, pid, nice)
        group = Path(f"/proc/{pid}/autogroup")
        if group.exists():
            group.write_text(str(nice))
    except PermissionError as error:
        raise Unmeasurable(f"a priority of {nice} takes root") from error


def cpu_seconds(session: int) -> float:
    """CPU time of the live processes of a session, user and system, in steps of 10 ms."""
    fields = [stat for _, stat in _stats(session)]
    return sum(int(stat[11]) + int(stat[12]) for stat in fields) / _TICKS_PER_SECOND


def rss_mb(session: int) -> float:
    """Resident memory of the live processes of a session; pages that they share count for each."""
    pages = sum(int(stat[21]) for _, stat in _stats(session))
    return pages * _PAGE_BYTES / 1e6


def _stats(session: int) -> Iterator[tuple[int, list[str]]]:
    """The processes of a session, with the fields of /proc/PID/stat from the third (state) on."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            text = (folder / "stat").read_text()
        except OSError:
            continue
        stat = text[text.rindex(")") + 2 :].split()
        if int(stat[3]) == session:
            yield int(folder.name), stat
