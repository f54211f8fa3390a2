"""A Kubernetes node of the project's own, without a container engine: everything but a cloud.

API server, etcd, controller manager, scheduler, kubelet, containerd, kube-proxy and CoreDNS, all
in one enclosure. Not there: load balancers, volumes beyond a pod's life, metrics, the enforcement
of NetworkPolicies, a second node. ``python -m cluster.node.node`` (from tests/) runs one until it
is interrupted, to try things on; ``… node build`` only builds what it takes.
"""

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType
from typing import Final, Self, TextIO

from cluster import build
from cluster.control_plane import ControlPlane, KubectlFailed, Origin
from cluster.node.configuration import PAUSE_IMAGE, Command, Components
from cluster.node.credentials import Credentials
from cluster.node.enclosure import Enclosure, EnclosureUnavailable
from cluster.node.images import Images
from cluster.node.needs import missing, programs_for
from cluster.node.places import NODE, ZONE
from cluster.node.programs import build_programs
from cluster.processes import ChildProcess

MANIFESTS: Final = Path(__file__).parent / "dns.yaml"
START_S: Final = 300
IMPORT_S: Final = 600


class NodeUnavailable(Exception):
    """No node can be had on this machine; the text says why and what to do."""


class Node:
    """A running node; its files and logs are in ``folder`` until it is stopped.

    The thread that starts it is in its network from then on, as is what it starts, until
    :meth:`stop`.
    """

    def __init__(self, folder: Path, binaries: Path, programs: Path) -> None:
        self.folder = folder
        self.enclosure = Enclosure(folder, programs / "pause")
        self.credentials = Credentials(folder / "credentials")
        self.components = Components(folder, binaries, self.credentials, self.enclosure.cgroup)
        self.kubeconfig = self.credentials.kubeconfig("admin")
        origin = Origin("given", binaries / "kubectl", self.kubeconfig)
        self.api = ControlPlane.start(folder / "api", origin)
        self._children: list[ChildProcess] = []
        self._lock: TextIO | None = None

    @classmethod
    def start(cls, images: Images) -> Self:
        """Start one: about 15 s. Raises NodeUnavailable, BuildUnavailable, StartFailed."""
        binaries, programs, own = build_all(images)
        folder, lock = _new_folder()
        node = cls(folder, binaries, programs)
        node._lock = lock
        try:
            node._start(own)
        except BaseException:
            node.stop()
            raise
        return node

    def stop(self) -> None:
        """End all that runs on it, and remove its files."""
        # The first process takes the rest with it; what is left is to be waited for.
        self.enclosure.stop()
        for child in self._children:
            child.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock:
            self._lock.close()

    def load(self, archive: Path) -> None:
        """Make the image of an archive known to the node. Raises subprocess.CalledProcessError."""
        subprocess.run(
            self.load_command(archive), check=True, timeout=IMPORT_S, capture_output=True
        )

    def load_command(self, archive: Path | str) -> Command:
        """What does that, for a person."""
        socket = str(self.components.socket)
        return ["ctr", "--address", socket, "--namespace", "k8s.io", "images", "import", archive]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start(self, images: list[Path]) -> None:
        self.enclosure.start()
        self.enclosure.enter_network()
        containers = self._run("containerd", self.components.containerd())
        self._run("etcd", self.components.etcd())
        api = self._run("api-server", self.components.api_server())
        api.wait_until(self._api_is_ready, what="API server", timeout_s=START_S)
        self._run("controller-manager", self.components.controller_manager())
        self._run("scheduler", self.components.scheduler())
        containers.wait_until(self._containerd_answers, what="containerd", timeout_s=START_S)
        for archive in images:
            self.load(archive)
        kubelet = self._run("kubelet", self.components.kubelet())
        self._run("kube-proxy", self.components.kube_proxy())
        self.api.kubectl(
            *("create", "clusterrolebinding", "kube-proxy"),
            *("--clusterrole=system:node-proxier", "--user=system:kube-proxy"),
        )
        self.api.kubectl("apply", "-f", str(MANIFESTS))
        kubelet.wait_until(self._node_is_ready, what="node", timeout_s=START_S)
        label = f"topology.kubernetes.io/zone={ZONE}"
        self.api.kubectl("label", "node", NODE, label)
        rollout = ("rollout", "status", "deployment/dns", "-n", "kube-system", "--timeout=240s")
        self.api.kubectl(*rollout)

    def _run(self, name: str, command: Command) -> ChildProcess:
        log = self.folder / f"{name}.log"
        child = ChildProcess(self.enclosure.command(command), log=log)
        self._children.append(child)
        return child

    def _api_is_ready(self) -> bool:
        return self.api.try_kubectl("get", "--raw", "/readyz").returncode == 0

    def _containerd_answers(self) -> bool:
        ask = ["ctr", "--address", str(self.components.socket), "version"]
        return subprocess.run(ask, capture_output=True, check=False).returncode == 0

    def _node_is_ready(self) -> bool:
        wait = ("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=2s")
        return self.api.try_kubectl(*wait).returncode == 0


def build_all(images: Images) -> tuple[Path, Path, list[Path]]:
    """Build what a node takes: the folders of Kubernetes and of the rest, archives of images.

    Raises NodeUnavailable, BuildUnavailable.
    """
    if os.geteuid():
        raise NodeUnavailable("a node of our own takes root")
    if lacking := missing(programs_for("own", docker=images.docker)):
        raise NodeUnavailable(f"missing: {', '.join(lacking)}; run tools/setup.sh e2e")
    binaries = build.build((*build.CONTROL_PLANE, *build.NODE))
    programs = build_programs()
    own = [
        images.one_program(programs / "pause", PAUSE_IMAGE),
        images.one_program(programs / "dns", "localhost/dns:1"),
    ]
    images.make_base()
    return binaries, programs, own


def _new_folder() -> tuple[Path, TextIO]:
    """A folder for a node, on a real disk, and the lock that says that it is in use.

    The kernel gives a lock up with the process that has it: folders without are removed.
    """
    nodes = build.cache_folder() / "node"
    nodes.mkdir(parents=True, exist_ok=True)
    with (nodes / "gate").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        for old in nodes.glob("run-*"):
            with (old / "lock").open("a") as lock, suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
        folder = Path(mkdtemp(prefix="run-", dir=nodes))
        taken = (folder / "lock").open("w")
        fcntl.flock(taken, fcntl.LOCK_EX)
    return folder, taken


def main(args: Sequence[str], say: Callable[[str], None] = print) -> int:
    """Build what a node takes (``build``), or run one until SIGINT or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    images = Images.of_this_machine()
    try:
        if list(args) == ["build"]:
            build_all(images)
            return 0
        with Node.start(images) as node:
            inside = shlex.join(map(str, node.enclosure.command([])))
            say(f"the node is ready, after {time.monotonic() - began:.0f} s; Ctrl-C ends it")
            say(f"  a shell in it:  KUBECONFIG={node.kubeconfig} {inside} bash")
            say(f"  load an image:  {shlex.join(map(str, node.load_command('ARCHIVE')))}")
            sys.stdout.flush()
            signal.pause()
    except (NodeUnavailable, EnclosureUnavailable, build.BuildUnavailable, KubectlFailed) as reason:
        sys.exit(str(reason))
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
