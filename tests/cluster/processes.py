"""Child processes for tests: logged, signalled like real peers, and never left behind."""

import http.client
import itertools
import os
import random
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from cluster.forked import Forked

LOOPBACK = "127.0.0.1"
PORTS = range(10_000, 30_000)
"""Below the ports that the kernel gives to outgoing connections, so none of those takes one."""
PORT_TRIES = 100
_ports = itertools.cycle(random.sample(PORTS, len(PORTS)))
POLL_SECONDS = 0.02
POLL_MAX_SECONDS = 0.25
WAITED_SHARE = 0.05
PROBE_SECONDS = 5.0
WAIT_SECONDS = 120.0
"""For a program to start, or to end: of no interest, but that it comes to pass. A machine that
tests are run on has a dozen of them to start, and stands still at times."""
LOG_TAIL_LINES = 40
MEASURED = {"COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"}
"""Set where the lines that run are counted: of processes that are executed, not forked."""


def pause(waited_s: float, *, at_least_s: float = POLL_SECONDS) -> None:
    """Sleep before asking again, the longer the longer it has taken: a twentieth is soon enough."""
    time.sleep(max(at_least_s, min(waited_s * WAITED_SHARE, POLL_MAX_SECONDS)))


class StartFailed(Exception):
    """A child ended, or was not ready in time; the text carries the tail of its log."""


def free_port() -> int:
    """A TCP port of the loopback address that nothing listens on; none is given out twice."""
    for port in itertools.islice(_ports, PORT_TRIES):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise StartFailed(f"no free port in {PORT_TRIES} tries")


def port_open(port: int) -> bool:
    """Whether something accepts connections on this port of the loopback address."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=PROBE_SECONDS):
            return True
    except OSError:
        return False


def http_status(
    url: str, *, headers: Mapping[str, str] | None = None, trust: ssl.SSLContext | None = None
) -> int | None:
    """The status that a GET answers with, past any proxy; None when nothing answers."""
    parts = urlsplit(url)
    place = (parts.hostname or LOOPBACK, parts.port)
    connection = (
        http.client.HTTPSConnection(*place, timeout=PROBE_SECONDS, context=trust)
        if parts.scheme == "https"
        else http.client.HTTPConnection(*place, timeout=PROBE_SECONDS)
    )
    try:
        connection.request("GET", parts.path or "/", headers=dict(headers or {}))
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _execute(
    command: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path
) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )


class ChildProcess:
    """One program with its children, in a process group of its own.

    Output goes to the file ``log`` (appended to). ``env`` is added to the environment of the test.
    A command of ours may be ``forked``: ``cluster.forked``. A watcher kills the whole group when
    the test process dies, however it dies: it waits on a pipe that only the test process holds.
    (PR_SET_PDEATHSIG would fire when the *thread* that started the child ends.)
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        forked: bool = False,
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        start = Forked if forked and not MEASURED & os.environ.keys() else _execute
        self._child = start(
            self.command, log=log, env={**os.environ, **(env or {})}, cwd=cwd or Path.cwd()
        )
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -KILL "-$1"', "watcher", str(self.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; None while it runs; negative for the signal that ended it."""
        return self._child.poll()

    @property
    def running(self) -> bool:
        return self.returncode is None

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def wait_until(
        self, ready: Callable[[], bool], *, what: str, timeout_s: float = WAIT_SECONDS
    ) -> None:
        """Poll ``ready``; raises StartFailed when the child ends first or the time is up."""
        began = time.monotonic()
        while not ready():
            if not self.running:
                raise StartFailed(self._complaint(f"ended with status {self.returncode}"))
            waited_s = time.monotonic() - began
            if waited_s > timeout_s:
                raise StartFailed(self._complaint(f"no {what} within {timeout_s} s"))
            pause(waited_s)

    def wait_for_port(self, port: int, *, timeout_s: float = WAIT_SECONDS) -> None:
        self.wait_until(lambda: port_open(port), what=f"port {port}", timeout_s=timeout_s)

    def wait_for_http(
        self, url: str, *, status: int = 200, timeout_s: float = WAIT_SECONDS
    ) -> None:
        """Wait until a GET of ``url`` answers with ``status``."""
        ready = f"{status} from {url}"
        self.wait_until(lambda: http_status(url) == status, what=ready, timeout_s=timeout_s)

    def wait_for_log(self, text: str, *, timeout_s: float = WAIT_SECONDS) -> None:
        self.wait_until(lambda: text in self.log_text(), what=f"{text!r}", timeout_s=timeout_s)

    def pause(self) -> None:
        """SIGSTOP to the group: connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def interrupt(self) -> None:
        """SIGTERM to the program alone, without waiting: what a kubelet does first."""
        if self.running:
            self._child.send_signal(signal.SIGTERM)

    def wait(self, *, timeout_s: float = WAIT_SECONDS) -> int:
        """The exit status; raises subprocess.TimeoutExpired."""
        return self._child.wait(timeout_s)

    def kill(self) -> int:
        """SIGKILL to the group: a crash. Returns the exit status."""
        self._signal(signal.SIGKILL)
        status = self._child.wait()
        self._release()
        return status

    def stop(self, *, grace_s: float = 30) -> int:
        """SIGTERM, then SIGKILL after ``grace_s``; nothing of the group stays. Exit status."""
        self.resume()
        self.interrupt()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(grace_s)
        return self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _release(self) -> None:
        self._watcher.kill()
        self._watcher.wait()
        if self._watcher.stdin:
            self._watcher.stdin.close()

    def _complaint(self, problem: str) -> str:
        return f"{' '.join(self.command[:3])} …: {problem}; {self.log} ends:\n{self.log_tail()}"
