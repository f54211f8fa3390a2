"""Where the node lives: processes, mounts and a network of their own, on this machine alone.

All that the node starts is below one first process, in its PID namespace. When that one ends,
however it ends, the kernel ends the rest, and mounts and interfaces go with them: nothing is left
to be cleaned up, even after a test run that was killed. The network has no route out.
"""

import ctypes
import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from cluster.node.places import NODE_IP, SERVICES
from cluster.processes import ChildProcess

START_S: Final = 120
CGROUP_PREFIX: Final = "switchboard-node-"
CGROUPS: Final = Path("/sys/fs/cgroup")
KUBELET_FOLDER: Final = Path("/var/lib/kubelet")
KERNEL_SETTINGS: Final = {"vm/overcommit_memory": 1, "kernel/panic": 10, "kernel/panic_on_oops": 1}
"""What a kubelet would set for the whole machine; it finds them set, and leaves that alone."""
_CLONE_NEWNET: Final = 0x40000000

_PREPARE: Final = """
set -eu
mount --make-rshared /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p {kubelet_folder}
mount --bind {folder}/kubelet {kubelet_folder}
{settings}
ip link set lo up
# What kube-proxy does not rewrite ends at an interface that leads nowhere.
ip link add nowhere type bridge
ip address add {node_ip}/32 dev nowhere
ip link set nowhere up
ip route add {services} dev nowhere
echo 1 > /proc/sys/net/ipv4/ip_forward
touch {folder}/enclosed
exec {first}
"""


class EnclosureUnavailable(Exception):
    """This machine does not let us make one (it takes root); the text says why."""


class Enclosure:
    """The namespaces and the cgroups of one node; its files are in ``folder``.

    ``first`` is the program of the first process: one that waits, and reaps orphans.
    """

    def __init__(self, folder: Path, first: Path) -> None:
        self._folder = folder
        self._first = first
        self._child: ChildProcess | None = None
        self._outside: int | None = None
        self.cgroup = f"{CGROUP_PREFIX}{os.getpid()}"

    def start(self) -> None:
        """Make it. Raises EnclosureUnavailable, StartFailed."""
        if os.geteuid():
            raise EnclosureUnavailable("a node of our own takes root")
        remove_abandoned_cgroups()
        for root in _hierarchies():
            (root / self.cgroup).mkdir(exist_ok=True)
        (self._folder / "kubelet").mkdir(parents=True)
        namespaces = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        self._child = ChildProcess(
            ["unshare", *namespaces, "bash", "-c", self._script()],
            log=self._folder / "enclosure.log",
        )
        made = self._folder / "enclosed"
        self._child.wait_until(made.exists, what="network and mounts", timeout_s=START_S)

    def stop(self) -> None:
        """End all that is in it."""
        self.leave_network()
        if self._child:
            self._child.kill()
        _remove_cgroups(self.cgroup)

    def command(self, command: Sequence[str | Path]) -> list[str | Path]:
        """The command that runs ``command`` inside."""
        return ["nsenter", "--net", "--mount", "--pid", "--target", str(self.first_pid), *command]

    @property
    def first_pid(self) -> int:
        """The first process, as it is numbered outside."""
        assert self._child, "the enclosure is not there yet"
        pid = self._child.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert len(children) == 1, f"unshare has the children {children}"
        return int(children[0])

    def enter_network(self) -> None:
        """Move the calling thread, and what it starts from now on, into the node's network."""
        self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        inside = os.open(f"/proc/{self.first_pid}/ns/net", os.O_RDONLY)
        try:
            _set_network(inside)
        finally:
            os.close(inside)

    def leave_network(self) -> None:
        """Go back to where the thread came from."""
        if self._outside is not None:
            _set_network(self._outside)
            os.close(self._outside)
            self._outside = None

    def _script(self) -> str:
        settings = []
        for name, value in KERNEL_SETTINGS.items():
            file = self._folder / name.replace("/", "-")
            file.write_text(f"{value}\n")
            settings.append(f"mount --bind {shlex.quote(str(file))} /proc/sys/{name}")
        return _PREPARE.format(
            folder=shlex.quote(str(self._folder)),
            kubelet_folder=KUBELET_FOLDER,
            settings="\n".join(settings),
            node_ip=NODE_IP,
            services=SERVICES,
            first=shlex.quote(str(self._first)),
        )


def remove_abandoned_cgroups(processes: Path = Path("/proc")) -> None:
    """Remove the cgroups of nodes whose process, which they are named after, is no more."""
    tops = {path.name for root in _hierarchies() for path in root.glob(f"{CGROUP_PREFIX}*")}
    for name in tops:
        if not (processes / name.removeprefix(CGROUP_PREFIX)).exists():
            _remove_cgroups(name)


def _remove_cgroups(name: str) -> None:
    for root in _hierarchies():
        top = root / name
        folders = [path for path in top.rglob("*") if path.is_dir()]
        for folder in (*sorted(folders, reverse=True), top):
            # Those with processes the kernel keeps, and one that is gone is gone.
            with suppress(OSError):
                folder.rmdir()


def _hierarchies() -> list[Path]:
    """The root of version 2 of cgroups, or each controller's of version 1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    found = CGROUPS.iterdir()
    return [path for path in found if (path / "cgroup.procs").exists() and not path.is_symlink()]


def _set_network(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        raise EnclosureUnavailable(os.strerror(ctypes.get_errno()))
