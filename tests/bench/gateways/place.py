"""Where gateways are started: a folder, two cores, the model's port; and what a gateway is."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gateways.cores import Cores, cpu_seconds, rss_mb, set_priority
from gateways.tools import debian_program, model_program

from cluster.processes import ChildProcess, free_port
from cluster.redis_server import RedisServer, RedisUnavailable, redis_binary


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that runs; without a process it is the model itself.

    ``compiled`` says which form of the data plane runs; the others leave it None.
    """

    name: str
    version: str
    port: int
    process: ChildProcess | None = None
    admin_port: int = 0
    compiled: bool | None = None

    def about(self) -> dict[str, Any]:
        """What its figures are figures of."""
        form = {} if self.compiled is None else {"compiled": self.compiled}
        return {"version": self.version, **form}

    def cpu_s(self) -> float:
        """CPU time of its processes so far."""
        return cpu_seconds(self.process.pid) if self.process else 0.0

    def rss_mb(self) -> float:
        """Resident memory of its processes."""
        return rss_mb(self.process.pid) if self.process else 0.0

    def last_words(self) -> str:
        """The end of what it logged, and how it ended if it did."""
        if not self.process:
            return ""
        ended = "" if self.process.running else f"\n(ended with {self.process.returncode})"
        return self.process.log_tail() + ended

    def pause(self) -> None:
        """Stop it, so that it takes nothing from the one that is measured."""
        if self.process:
            self.process.pause()

    def resume(self) -> None:
        if self.process:
            self.process.resume()


@dataclass(slots=True)
class Place:
    """Ends all that was started in it."""

    folder: Path
    cores: Cores
    nice: int = 0
    model_port: int = field(default_factory=free_port)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        if self.nice:
            set_priority(os.getpid(), self.nice)
            self._stack.callback(set_priority, os.getpid(), 0)
        self.start(
            "model", [model_program(), "-listen", f"127.0.0.1:{self.model_port}"]
        ).wait_for_port(self.model_port)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def own_folder(self, name: str) -> Path:
        """A folder for what one gateway writes."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def start(self, name: str, command: list[str | Path]) -> ChildProcess:
        """Start a process on the core of the load."""
        return self._started(ChildProcess(command, log=self.folder / f"{name}.log"))

    def start_gateway(
        self, name: str, command: list[str | Path], *, env: Mapping[str, str] | None = None
    ) -> ChildProcess:
        """Start a process on the core of the gateway, in a folder of its own.

        ``env`` is its whole environment; that of this process where none is given.
        """
        if env is not None:
            command = ["env", "-i", *(f"{key}={value}" for key, value in env.items()), *command]
        child = ChildProcess(
            self.cores.on_gateway(*command),
            log=self.folder / f"{name}.log",
            cwd=self.own_folder(name),
        )
        return self._started(child)

    def start_redis(self, gateway: str) -> RedisServer:
        """Start a gateway's Redis on the core of the load; raises Missing where there is none."""
        try:
            redis_binary()
        except RedisUnavailable:
            debian_program("redis-server")
        return self._stack.enter_context(RedisServer(self.own_folder(f"{gateway}-redis")).start())

    def _started(self, child: ChildProcess) -> ChildProcess:
        self._stack.enter_context(child)
        if self.nice:
            set_priority(child.pid, self.nice)
        return child


def clean_environment(folder: Path, **more: str) -> dict[str, str]:
    """An environment for a peer: nothing of ours gets into it, its files stay in the folder."""
    return {"PATH": "/usr/sbin:/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8", **more}


Starter = Callable[[Place], Gateway]
