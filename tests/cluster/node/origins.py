"""A whole cluster for end-to-end tests, with a way to load images into it.

In this order: the one of ``SWITCHBOARD_E2E_KUBECONFIG`` (``SWITCHBOARD_E2E_LOAD_IMAGE`` is the
command that loads an image, such as ``kind load image-archive {archive}`` or ``docker push
{image}``), kind where Docker runs, else a node of our own, which takes root.

``python -m cluster.node.origins`` (from tests/) prints which of them it would be (``given``,
``kind``, ``own``), and the Debian packages that lack here for it.
"""

import os
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.build import BuildUnavailable
from cluster.control_plane import ControlPlane, Origin, docker_runs, find_kubectl
from cluster.node.images import Images
from cluster.node.needs import missing, programs_for
from cluster.node.node import Node

GIVEN: Final = "SWITCHBOARD_E2E_KUBECONFIG"
LOAD: Final = "SWITCHBOARD_E2E_LOAD_IMAGE"
COMMAND_S: Final = 1800


class ClusterUnavailable(Exception):
    """No cluster can be had on this machine; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that runs: ``load(archive, image)`` makes an image known to its nodes."""

    kind: str
    api: ControlPlane
    load: Callable[[Path, str], None]


def choose_kind(environ: Mapping[str, str] = os.environ) -> str:
    """``given``, ``kind`` or ``own``. Raises ClusterUnavailable."""
    if environ.get(GIVEN):
        if not environ.get(LOAD):
            raise ClusterUnavailable(f"{GIVEN} is set, but not {LOAD}: a command that loads images")
        return "given"
    if shutil.which("kind") and docker_runs():
        return "kind"
    if os.geteuid():
        raise ClusterUnavailable(
            f"no cluster: {GIVEN} names none, there is no kind with a Docker that runs, and a node"
            " of our own takes root"
        )
    return "own"


@contextmanager
def running_cluster(
    folder: Path, images: Images, environ: Mapping[str, str] = os.environ
) -> Iterator[Cluster]:
    """A cluster for as long as the context lasts. A given one stays; what is ours ends.

    Raises ClusterUnavailable, NodeUnavailable, BuildUnavailable, StartFailed.
    """
    match kind := choose_kind(environ):
        case "given":
            kubeconfig = Path(environ[GIVEN]).absolute()
            command = environ[LOAD]
            yield Cluster(kind, _joined(folder, kubeconfig), _loading(command))
        case "kind":
            with _kind(folder) as (kubeconfig, command):
                yield Cluster(kind, _joined(folder, kubeconfig), _loading(command))
        case _:
            with Node.start(images) as node:
                yield Cluster(kind, node.api, lambda archive, _: node.load(archive))


def _joined(folder: Path, kubeconfig: Path) -> ControlPlane:
    try:
        origin = Origin("given", find_kubectl(), kubeconfig)
    except BuildUnavailable as reason:
        raise ClusterUnavailable(f"no kubectl: {reason}") from reason
    return ControlPlane.start(folder / "api", origin)


def _loading(command: str) -> Callable[[Path, str], None]:
    def load(archive: Path, image: str) -> None:
        said = command.replace("{archive}", shlex.quote(str(archive)))
        _run("bash", "-c", said.replace("{image}", shlex.quote(image)))

    return load


@contextmanager
def _kind(folder: Path) -> Iterator[tuple[Path, str]]:
    name = f"switchboard-e2e-{secrets.token_hex(4)}"
    kubeconfig = folder / "kind.kubeconfig"
    try:
        _run("kind", "create", "cluster", "--name", name, "--kubeconfig", str(kubeconfig))
        yield kubeconfig, f"kind load image-archive --name {name} {{archive}}"
    finally:
        _run("kind", "delete", "cluster", "--name", name)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    if done.returncode:
        raise ClusterUnavailable(f"{shlex.join(command)}: {(done.stdout + done.stderr).strip()}")


if __name__ == "__main__":
    try:
        chosen = choose_kind()
        wanted = programs_for(chosen, docker=docker_runs())
        print(chosen, *sorted({wanted[program] for program in missing(wanted)}))
    except ClusterUnavailable as reason:
        sys.exit(str(reason))
