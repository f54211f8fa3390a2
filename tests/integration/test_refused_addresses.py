"""What the author of a backend at a refused address is told, on real parts.

The attacks are in tests/security/test_ssrf.py.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.control_plane import ControlPlane
from cluster.line import Line, eventually
from cluster.redis_server import RedisServer
from fakes.manifests import external, policy


@pytest.fixture
def line(api: ControlPlane, tmp_path: Path) -> Iterator[Line]:
    with RedisServer(tmp_path / "redis") as redis:
        running = Line(tmp_path, api, redis)
        try:
            yield running
        finally:
            running.close()


def at(url: str, name: str = "stolen") -> dict[str, Any]:
    manifest = external(name, 1)
    manifest["spec"]["external"]["url"] = url
    return manifest


def test_the_status_says_that_an_address_is_refused_and_ends_with_the_fault(line: Line) -> None:
    port = line.start_fake("a")
    line.apply(
        at("http://169.254.169.254/latest"),
        external("good", port),
        policy("chat", "stolen", "good"),
    )
    line.start_operator()
    plane = line.start_data_plane("pod-1")
    told = line.await_condition("ModelBackend", "stolen", "Programmed", reason="RefusedByPod")
    assert "169.254.169.254 is link-local" in told["message"]
    assert "--allow-addresses" in told["message"]
    eventually(lambda: plane.answerer("chat") == "a", what="an answer of the other backend")
    line.apply(at(f"http://127.0.0.1:{port}/v1"))
    line.await_condition("ModelBackend", "stolen", "Programmed", status="True")
