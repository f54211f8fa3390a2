"""A real Redis (or Valkey) server for tests, with the failures of one."""

import shutil
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster.processes import LOOPBACK, PROBE_SECONDS, ChildProcess, free_port

NAMES = ("redis-server", "valkey-server")
ANSWERS_OF_A_RUNNING_SERVER = (b"+PONG", b"-NOAUTH")


class RedisUnavailable(Exception):
    """No server program on this machine; the text says how to get one."""


def redis_binary() -> str:
    """The server program's path. Raises RedisUnavailable."""
    for name in NAMES:
        if found := shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/bin"):
            return found
    raise RedisUnavailable(f"none of {', '.join(NAMES)} on PATH (Debian: apt-get install redis)")


class RedisServer:
    """One server on a free port of the loopback address, its data in ``folder``.

    ``options`` are further server options, such as ``("--requirepass", "x")``. With ``appendonly``
    every write is on disk before it is answered, so a kill loses nothing; without it a restart
    loses everything, like a Redis without a volume.
    """

    def __init__(
        self, folder: Path, *, appendonly: bool = False, options: tuple[str, ...] = ()
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self._appendonly = appendonly
        self._options = options
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def start(self) -> Self:
        """Start, and return once it answers. Raises RedisUnavailable, StartFailed."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        self._child = ChildProcess(
            [
                *(redis_binary(), "--port", str(self.port), "--bind", LOOPBACK),
                *("--dir", str(data), "--save", "", "--maxmemory-policy", "noeviction"),
                *("--appendonly", "yes" if self._appendonly else "no"),
                *("--appendfsync", "always", "--daemonize", "no", *self._options),
            ],
            log=self.folder / "redis.log",
        )
        self._child.wait_until(self._answers, what="answer to PING", timeout_s=10)
        return self

    def stop(self) -> None:
        """End it in the ordinary way; its data stays on disk when ``appendonly``."""
        if self._child:
            self._child.stop()

    def kill(self) -> None:
        """A crash."""
        if self._child:
            self._child.kill()

    def restart(self, *, keep_data: bool = True) -> None:
        """Crash and start again on the same port; ``keep_data=False`` comes back empty."""
        self.kill()
        if not keep_data:
            shutil.rmtree(self.folder / "data", ignore_errors=True)
        self.start()

    def pause(self) -> None:
        """A hang: connections are accepted by the kernel, nothing is answered."""
        if self._child:
            self._child.pause()

    def resume(self) -> None:
        if self._child:
            self._child.resume()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=PROBE_SECONDS) as peer:
                peer.sendall(b"PING\r\n")
                return peer.recv(64).startswith(ANSWERS_OF_A_RUNNING_SERVER)
        except OSError:
            return False
