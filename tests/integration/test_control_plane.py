"""The servers under the integration tests are real, obey RBAC, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.control_plane import (
    ControlPlane,
    ControlPlaneUnavailable,
    KubectlFailed,
    Origin,
    choose_origin,
)
from cluster.processes import ChildProcess, StartFailed, free_port, port_open

TESTS = Path(__file__).parents[1]
WAIT_S = 120


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def test_the_server_is_ready_and_of_the_pinned_kind(control_plane: ControlPlane) -> None:
    assert control_plane.kubectl("get", "--raw", "/readyz") == "ok"
    assert "Server Version: v1." in control_plane.kubectl("version")


def test_a_service_account_may_do_what_its_role_allows_and_no_more(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    control_plane.kubectl(
        *("create", "role", "reader", "-n", namespace, "--verb=list", "--resource=configmaps")
    )
    control_plane.kubectl(
        *("create", "rolebinding", "reader", "-n", namespace, "--role=reader"),
        f"--serviceaccount={namespace}:reader",
    )
    reader = f"system:serviceaccount:{namespace}:reader"
    control_plane.kubectl("get", "configmaps", "-n", namespace, user=reader)
    with pytest.raises(KubectlFailed, match=r"secrets is forbidden: User .*:reader"):
        control_plane.kubectl("get", "secrets", "-n", namespace, user=reader)


def test_applied_objects_are_read_back(control_plane: ControlPlane, namespace: str) -> None:
    metadata = {"name": "facts", "namespace": namespace}
    control_plane.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}}
    )
    assert control_plane.get("configmap", "facts", namespace=namespace)["data"] == {"a": "1"}


def test_a_stopped_control_plane_leaves_no_process(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    if control_plane.origin.kind != "binaries":
        pytest.skip("a given cluster is not ours to stop")
    with ControlPlane.start(tmp_path / "second", control_plane.origin) as second:
        assert second.kubectl("get", "--raw", "/readyz") == "ok"
    found = subprocess.run(
        ["pgrep", "-f", f"{tmp_path}/second"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""


def test_a_server_that_cannot_start_shows_why(tmp_path: Path) -> None:
    binaries = tmp_path / "binaries"
    binaries.mkdir()
    etcd = binaries / "etcd"
    etcd.write_text("#!/bin/sh\necho the disk is on fire\nexit 3\n")
    etcd.chmod(0o755)
    with pytest.raises(StartFailed, match=r"(?s)status 3.*the disk is on fire"):
        ControlPlane.start(tmp_path / "plane", Origin("binaries", etcd, binaries))


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from cluster.processes import ChildProcess;"
        "child = ChildProcess(['/bin/sh', '-c', 'sleep 600 & sleep 600'], log=Path(sys.argv[1]));"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    wait_until_gone(child)


def test_a_paused_process_answers_again_when_resumed(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with ChildProcess(command, log=tmp_path / "log", cwd=tmp_path) as server:
        server.wait_for_http(f"http://127.0.0.1:{port}/")
        server.pause()
        assert port_open(port)
        with pytest.raises(StartFailed, match="within"):
            server.wait_for_http(f"http://127.0.0.1:{port}/", timeout_s=0.2)
        server.resume()
        server.wait_for_http(f"http://127.0.0.1:{port}/")
    assert server.returncode == -signal.SIGTERM
    assert not port_open(port)


def test_no_api_server_to_be_had_says_why_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho the network is down\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SWITCHBOARD_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ControlPlaneUnavailable, match=r"(?s)network is down.*KUBEBUILDER_ASSETS"):
        choose_origin({})
