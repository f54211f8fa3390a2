"""An operator outside the cluster: with a kubeconfig as kind and kubeadm write it."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.control_plane import ControlPlane
from cluster.line import Line
from cluster.redis_server import RedisServer
from fakes.manifests import external, policy


@pytest.fixture
def line(api: ControlPlane, redis_server: RedisServer, tmp_path: Path) -> Iterator[Line]:
    running = Line(tmp_path, api, redis_server)
    try:
        yield running
    finally:
        running.close()


def certificate_kubeconfig(plane: ControlPlane, folder: Path) -> Path:
    """Write a kubeconfig that holds everything: authority, client certificate and its key."""
    if plane.clients is None:
        pytest.skip("a given cluster issues no certificates to us")
    config = json.loads(
        plane.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
    )
    assert "certificate-authority-data" in config["clusters"][0]["cluster"]
    user = plane.clients.issue("kubernetes-admin", group="system:masters")
    config["users"][0]["user"] = {
        "client-certificate-data": base64.b64encode(user.chain.read_bytes()).decode(),
        "client-key-data": base64.b64encode(user.key.read_bytes()).decode(),
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def test_an_operator_with_a_client_certificate_lists_watches_and_writes(line: Line) -> None:
    kubeconfig = certificate_kubeconfig(line.plane, line.folder)
    line.apply(external("first", 9), policy("chat", "first"))
    line.start_operator("--kubeconfig", str(kubeconfig))
    line.await_condition("rp", "chat", "Programmed", reason="NoDataPlanes")
    line.apply(external("second", 9))
    line.await_condition("mb", "second", "Programmed", reason="NotReferenced")
