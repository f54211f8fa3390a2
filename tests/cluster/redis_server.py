"""A real Redis (or Valkey) server for tests, with the failures of one."""

import shutil
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster.processes import (
    LOOPBACK,
    POLL_SECONDS,
    PROBE_SECONDS,
    ChildProcess,
    StartFailed,
    free_port,
)
from cluster.tls import Certificate

NAMES = ("redis-server", "valkey-server")
COMMAND_LINES = ("redis-cli", "valkey-cli")
CLUSTER_NODES = 3
CLUSTER_SECONDS = 120
ANSWERS_OF_A_RUNNING_SERVER = (b"+PONG", b"-NOAUTH")


class RedisUnavailable(Exception):
    """No server program on this machine; the text says how to get one."""


def redis_binary(names: tuple[str, ...] = NAMES) -> str:
    """The path of the server program, or of another of its package. Raises RedisUnavailable."""
    for name in names:
        if found := shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/bin"):
            return found
    raise RedisUnavailable(f"none of {', '.join(names)} on PATH (Debian: apt-get install redis)")


class RedisServer:
    """One server on a free port of the loopback address, its data in ``folder``.

    ``options`` are further server options, such as ``("--requirepass", "x")``. With ``appendonly``
    every write is on disk before it is answered, so a kill loses nothing; without it a restart
    loses everything, like a Redis without a volume. With a ``certificate`` it speaks TLS alone.
    ``login`` is the USER:PASSWORD that ``url`` has; the ``options`` make it known to the server.
    """

    def __init__(
        self,
        folder: Path,
        *,
        appendonly: bool = False,
        options: tuple[str, ...] = (),
        certificate: Certificate | None = None,
        login: str = "",
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self._appendonly = appendonly
        self._options = options
        self._certificate = certificate
        self._login = f"{login}@" if login else ""
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        place = f"{self._login}{LOOPBACK}:{self.port}/0"
        if self._certificate:
            return f"rediss://{place}?ssl_ca_certs={self._certificate.authority}"
        return f"redis://{place}"

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def start(self) -> Self:
        """Start, and return once it answers. Raises RedisUnavailable, StartFailed."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        self._child = ChildProcess(
            [
                *(redis_binary(), *self._port_options(), "--bind", LOOPBACK),
                *("--dir", str(data), "--save", "", "--maxmemory-policy", "noeviction"),
                *("--appendonly", "yes" if self._appendonly else "no"),
                *("--appendfsync", "always", "--daemonize", "no", *self._options),
            ],
            log=self.folder / "redis.log",
        )
        self._child.wait_until(self._answers, what="answer to PING")
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

    def _port_options(self) -> tuple[str | Path, ...]:
        if self._certificate is None:
            return "--port", str(self.port)
        return (
            *("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", self._certificate.chain, "--tls-key-file", self._certificate.key),
            *("--tls-ca-cert-file", self._certificate.authority),
        )

    def _answers(self) -> bool:
        try:
            with self._connect() as peer:
                peer.sendall(b"PING\r\n")
                return peer.recv(64).startswith(ANSWERS_OF_A_RUNNING_SERVER)
        except OSError:
            return False

    def _connect(self) -> socket.socket:
        peer = socket.create_connection((LOOPBACK, self.port), timeout=PROBE_SECONDS)
        if self._certificate is None:
            return peer
        trust = ssl.create_default_context(cafile=str(self._certificate.authority))
        # Servers of this authority's trust each other, where they ask for a certificate at all.
        trust.load_cert_chain(self._certificate.chain, self._certificate.key)
        return trust.wrap_socket(peer, server_hostname=LOOPBACK)


class RedisCluster:
    """A Redis Cluster of three primaries, the slots spread over them evenly."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [
            RedisServer(
                folder / f"node-{number}",
                options=("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
            )
            for number in range(CLUSTER_NODES)
        ]
        self._ending = ExitStack()

    @property
    def url(self) -> str:
        """Two of the nodes; the client finds the third."""
        first, second, _ = (f"{LOOPBACK}:{node.port}" for node in self.nodes)
        return f"redis+cluster://{first},{second}"

    def move(self, slot: int) -> None:
        """Move a slot with its keys to another node, as a reshard does."""
        counted = ("CLUSTER", "COUNTKEYSINSLOT", str(slot))
        home = next(node for node in self.nodes if self._ask(node, *counted) != "0")
        other = next(node for node in self.nodes if node is not home)
        home_id, other_id = (self._ask(node, "CLUSTER", "MYID") for node in (home, other))
        self._ask(other, "CLUSTER", "SETSLOT", str(slot), "IMPORTING", home_id)
        self._ask(home, "CLUSTER", "SETSLOT", str(slot), "MIGRATING", other_id)
        keys = self._ask(home, "CLUSTER", "GETKEYSINSLOT", str(slot), "1000").splitlines()
        place = (LOOPBACK, str(other.port), "", "0", "60000")
        self._ask(home, "MIGRATE", *place, "KEYS", *keys)
        for node in (other, home):
            self._ask(node, "CLUSTER", "SETSLOT", str(slot), "NODE", other_id)

    def __enter__(self) -> Self:
        """Start the nodes and join them. Raises RedisUnavailable, StartFailed."""
        nodes = [self._ending.enter_context(node) for node in self.nodes]
        places = [f"{LOOPBACK}:{node.port}" for node in nodes]
        self._command("--cluster", "create", *places, "--cluster-yes")
        deadline = time.monotonic() + CLUSTER_SECONDS
        # A node takes commands once it has heard of all slots.
        while not all("cluster_state:ok" in self._ask(each, "CLUSTER", "INFO") for each in nodes):
            if time.monotonic() > deadline:
                raise StartFailed(f"no Redis Cluster within {CLUSTER_SECONDS} s")
            time.sleep(POLL_SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.close()

    def _ask(self, node: RedisServer, *command: str) -> str:
        return self._command("-e", "-h", LOOPBACK, "-p", str(node.port), *command).strip()

    def _command(self, *arguments: str) -> str:
        done = subprocess.run(
            [redis_binary(COMMAND_LINES), *arguments],
            capture_output=True,
            text=True,
            timeout=CLUSTER_SECONDS,
            check=False,
        )
        if done.returncode:
            raise StartFailed(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout
