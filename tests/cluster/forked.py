"""Our commands in processes that are forked off one which has imported them already.

To import a data plane takes half a second of a core, an operator more, and tests start a hundred.
A process that is forked is one of its own in all that tests do to it: it has its log, its
environment, its signals and its exit status. What a new interpreter does, and all of a process's
memory, is seen only in one that is executed: ``ChildProcess(…)`` without ``forked=True``.
"""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

IMPORTED: Final = [
    "switchboard_cli.fake_model.server",
    "switchboard_dataplane.app",
    "switchboard_operator.admin",
    "switchboard_operator.handlers",
    "switchboard_operator.reconciler",
    "switchboard_operator.reporter",
]
POLL_SECONDS: Final = 0.001


class Forked:
    """``[python, "-m", package, *arguments]``, with as much of a Popen as is needed here.

    It leads a process group of its own. A test process that ends ends the one it is forked off.
    """

    def __init__(
        self, command: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path
    ) -> None:
        self._command = command
        starting = multiprocessing.get_context("forkserver")
        starting.set_forkserver_preload(IMPORTED)
        package, *arguments = command[2:]
        log.touch()
        self._process = starting.Process(
            target=_become, args=(package, arguments, log, dict(env), cwd)
        )
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid
        # A signal to the group must not come before there is one.
        with suppress(ProcessLookupError):
            while os.getpgid(self.pid) != self.pid:
                time.sleep(POLL_SECONDS)

    def poll(self) -> int | None:
        """The exit status; None while it runs; negative for the signal that ended it."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(self._command, timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """Signal the process, not its group."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _become(package: str, arguments: list[str], log: Path, env: dict[str, str], cwd: Path) -> None:
    """Be the command from here on; its own process calls this."""
    os.setsid()
    with log.open("ab") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = [package, *arguments]
    sys.exit(import_module(f"{package}.__main__").main(arguments))
