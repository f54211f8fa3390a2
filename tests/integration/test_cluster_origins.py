"""Every way to an API server for tests leads to one: a named cluster, a folder, kind."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.control_plane import (
    ASSETS,
    GIVEN,
    SERVICE_ACCOUNT,
    ControlPlane,
    ControlPlaneUnavailable,
    Origin,
    choose_origin,
)

TESTS = Path(__file__).parents[1]
KIND = """#!/bin/sh
echo "$@" >> "$KIND_CALLS"
[ "$1" = create ] || exit 0
[ -n "$KIND_CLUSTER" ] || { echo "no space left on device" >&2; exit 1; }
while [ "$1" != --kubeconfig ]; do shift; done
cp "$KIND_CLUSTER" "$2"
"""
"""A kind whose every cluster is one that runs already."""


@pytest.fixture
def given(control_plane: ControlPlane, tmp_path: Path) -> Path:
    """A person's kubeconfig for a cluster; its files are named relative to it, as is usual."""
    if control_plane.origin.kind != "binaries":
        pytest.skip("a server of ours plays the part of a person's cluster")
    config = json.loads(control_plane.kubeconfig().read_text())
    cluster = config["clusters"][0]["cluster"]
    authority = Path(cluster["certificate-authority"])
    (tmp_path / authority.name).write_bytes(authority.read_bytes())
    cluster["certificate-authority"] = authority.name
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    return path


def test_a_named_cluster_is_joined_and_left_as_it_was(
    control_plane: ControlPlane, given: Path, tmp_path: Path
) -> None:
    origin = choose_origin({GIVEN: str(given), ASSETS: "/nowhere"})
    assert (origin.kind, origin.folder) == ("given", given)
    with ControlPlane.start(tmp_path / "joined", origin) as joined:
        assert joined.api_server is None
        namespace = joined.create_namespace()
        joined.kubectl("create", "serviceaccount", "reader", "-n", namespace)
        reader = f"{SERVICE_ACCOUNT}{namespace}:reader"
        who = joined.kubectl("auth", "whoami", "-o", "json", user=reader)
        assert json.loads(who)["status"]["userInfo"]["username"] == reader
    left = control_plane.get("namespace", namespace)
    assert "deletionTimestamp" in left["metadata"]
    assert control_plane.kubectl("get", "--raw", "/readyz") == "ok"


def test_integration_tests_run_on_a_named_cluster(given: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(f"--basetemp={tmp_path}/tests", "-k", "stopped_control or applied"),
            str(TESTS / "integration" / "test_control_plane.py"),
        ],
        env={**os.environ, GIVEN: str(given), "CI": ""},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "a given cluster is not ours to stop" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout


def test_a_folder_of_binaries_is_used_with_the_kubectl_in_it(
    control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binaries = control_plane.origin.folder
    if control_plane.origin.kind != "binaries" or binaries is None:
        pytest.skip("there are no binaries of ours")
    monkeypatch.chdir(binaries.parent)
    origin = choose_origin({ASSETS: binaries.name})
    assert origin == Origin("binaries", binaries / "kubectl", binaries)
    with ControlPlane.start(tmp_path / "plane", origin) as plane:
        assert plane.kubectl("get", "--raw", "/readyz") == "ok"


def test_a_folder_without_the_binaries_is_told_and_passed_over(
    control_plane: ControlPlane, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_kind(monkeypatch, tmp_path, cluster=given, kubectl=control_plane.origin.kubectl)
    said: list[str] = []
    origin = choose_origin({ASSETS: str(tmp_path)}, say=said.append)
    assert origin.kind == "kind"
    assert f"{tmp_path} has no etcd and kube-apiserver" in said[0]


def use_kind(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, cluster: Path | None, kubectl: Path
) -> Path:
    """Put a Docker that runs and a kind on the PATH; return where kind's calls are noted."""
    programs = folder / "programs"
    programs.mkdir()
    for name, text in (("kind", KIND), ("docker", "#!/bin/sh\nexit 0\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (programs / "kubectl").symlink_to(kubectl)
    calls = folder / "kind-calls"
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("KIND_CALLS", str(calls))
    monkeypatch.setenv("KIND_CLUSTER", str(cluster or ""))
    return calls


def test_a_cluster_of_kind_is_made_used_and_deleted(
    control_plane: ControlPlane, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = use_kind(monkeypatch, tmp_path, cluster=given, kubectl=control_plane.origin.kubectl)
    with ControlPlane.start(tmp_path, choose_origin({})) as plane:
        assert plane.kubectl("get", "--raw", "/readyz") == "ok"
        name = plane.create_namespace()
    assert "deletionTimestamp" not in control_plane.get("namespace", name)["metadata"]
    made, deleted = calls.read_text().splitlines()
    found = re.fullmatch(r"create cluster --name (\S+) --kubeconfig (\S+)", made)
    assert found
    assert deleted == f"delete cluster --name {found[1]}"


def test_a_cluster_of_kind_that_cannot_be_made_is_cleaned_up_and_says_why(
    control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = use_kind(monkeypatch, tmp_path, cluster=None, kubectl=control_plane.origin.kubectl)
    with pytest.raises(ControlPlaneUnavailable, match="no space left on device"):
        ControlPlane.start(tmp_path, choose_origin({}))
    assert "delete cluster" in calls.read_text()


def test_a_docker_that_does_not_run_passes_kind_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control_plane: ControlPlane
) -> None:
    use_kind(monkeypatch, tmp_path, cluster=None, kubectl=control_plane.origin.kubectl)
    (tmp_path / "programs" / "docker").write_text("#!/bin/sh\nexit 1\n")
    go = tmp_path / "programs" / "go"
    go.write_text("#!/bin/sh\necho Go was asked for >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("SWITCHBOARD_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ControlPlaneUnavailable, match=GIVEN):
        choose_origin({})
