"""Where a cluster for end-to-end tests comes from, and how images get into it."""

import os
import subprocess
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest

from cluster.node import enclosure as enclosures
from cluster.node.enclosure import CGROUP_PREFIX, Enclosure, EnclosureUnavailable
from cluster.node.images import Images, Recipe, layers_of
from cluster.node.needs import missing, programs_for
from cluster.node.origins import GIVEN, LOAD, ClusterUnavailable, choose_kind, running_cluster
from cluster.node.programs import fingerprint
from cluster.pin import NAMED, PINNED, BuildUnavailable, module_folder, packages_of, version_of

KIND = """#!/bin/sh
echo "$@" >> "{calls}"
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``programs(name=text)`` puts scripts on the PATH, before all others."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def put(**texts: str) -> None:
        for name, text in texts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    return put


def without_docker(programs: Callable[..., None]) -> None:
    programs(docker="#!/bin/sh\nexit 1\n", kubectl="#!/bin/sh\nexit 0\n")


def test_a_given_cluster_needs_a_command_that_loads_images() -> None:
    with pytest.raises(ClusterUnavailable, match=LOAD):
        choose_kind({GIVEN: "config"})


def test_images_are_loaded_into_a_given_cluster_by_the_persons_command(
    tmp_path: Path, programs: Callable[..., None]
) -> None:
    without_docker(programs)
    loaded = tmp_path / "loaded"
    environ = {GIVEN: str(tmp_path / "config"), LOAD: f"echo {{image}} {{archive}} > {loaded}"}
    with running_cluster(tmp_path, Images(tmp_path, docker=False), environ) as cluster:
        cluster.load(tmp_path / "an archive.tar", "an/image:1")
    assert cluster.kind == "given"
    assert loaded.read_text() == f"an/image:1 {tmp_path}/an archive.tar\n"


def test_a_command_that_fails_to_load_says_why(
    tmp_path: Path, programs: Callable[..., None]
) -> None:
    without_docker(programs)
    environ = {GIVEN: str(tmp_path / "config"), LOAD: "echo no room for {image}; exit 3"}
    with (
        running_cluster(tmp_path, Images(tmp_path, docker=False), environ) as cluster,
        pytest.raises(ClusterUnavailable, match="no room for an/image:1"),
    ):
        cluster.load(tmp_path / "archive.tar", "an/image:1")


def test_a_cluster_of_kind_is_loaded_and_deleted(
    tmp_path: Path, programs: Callable[..., None]
) -> None:
    calls = tmp_path / "calls"
    without_docker(programs)
    programs(docker="#!/bin/sh\nexit 0\n", kind=KIND.format(calls=calls))
    with running_cluster(tmp_path, Images(tmp_path, docker=True), {}) as cluster:
        cluster.load(tmp_path / "archive.tar", "an/image:1")
    made, loaded, deleted = calls.read_text().splitlines()
    name = made.split()[3]
    assert made.startswith("create cluster --name switchboard-e2e-")
    assert loaded == f"load image-archive --name {name} {tmp_path}/archive.tar"
    assert deleted == f"delete cluster --name {name}"


def test_who_is_not_root_and_has_no_docker_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, programs: Callable[..., None]
) -> None:
    without_docker(programs)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterUnavailable, match="takes root"):
        choose_kind({})


def test_an_image_is_built_anew_when_what_it_is_made_of_changes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.py").write_text("1")
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    recipe = Recipe("an/image:1", tmp_path, tmp_path / "Dockerfile", [source])
    first = recipe.fingerprint()
    assert recipe.fingerprint() == first
    (source / "a.py").write_text("2")
    assert recipe.fingerprint() != first


def test_a_second_build_of_images_waits_for_the_first(tmp_path: Path) -> None:
    told = list[str]()
    first = Images(tmp_path, docker=False, say=told.append)
    second = Images(tmp_path, docker=False, say=told.append)
    order = list[str]()

    def build_second() -> None:
        with second.alone():
            order.append("second")

    with ThreadPoolExecutor(1) as others:
        with first.alone(), first.alone():
            waiting = others.submit(build_second)
            while not told:
                time.sleep(0.01)
            order.append("first")
        waiting.result(60)
    assert order == ["first", "second"]
    assert "another build is under way" in told[0]


def test_layers_of_an_archive_have_their_sizes(tmp_path: Path) -> None:
    contents = {"manifest.json": b'[{"Layers": ["one.tar", "two.tar"]}]'}
    contents |= {"one.tar": b"x" * 5, "two.tar": b"x" * 7}
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    assert layers_of(tmp_path / "image.tar") == {"one.tar": 5, "two.tar": 7}


def test_programs_of_the_node_are_built_anew_when_their_sources_change(tmp_path: Path) -> None:
    (tmp_path / "dns").mkdir()
    for name in ("go.mod", "go.sum", "dns/main.go"):
        (tmp_path / name).write_text("1")
    first = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == first
    (tmp_path / "dns" / "main.go").write_text("2")
    assert fingerprint(tmp_path) != first


def test_a_given_cluster_takes_what_builds_images_where_docker_does_not() -> None:
    assert set(programs_for("given", docker=False)) == {"buildah", "debootstrap"}
    assert not programs_for("given", docker=True)
    assert not programs_for("kind", docker=True)
    assert {"buildah", "debootstrap", "containerd"} < set(programs_for("own", docker=False))


def test_a_program_is_missing_by_its_name_or_its_path(
    tmp_path: Path, programs: Callable[..., None]
) -> None:
    programs(there="#!/bin/sh\n")
    wanted = ["there", "not-there", f"{tmp_path}/programs/there", f"{tmp_path}/not-there"]
    assert missing(wanted) == ["not-there", f"{tmp_path}/not-there"]


def test_cgroups_of_a_node_that_lives_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enclosures, "CGROUPS", tmp_path)
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "processes" / "12").mkdir(parents=True)
    for pid in (12, 13):
        (tmp_path / f"{CGROUP_PREFIX}{pid}" / "pods" / "one").mkdir(parents=True)
    enclosures.remove_abandoned_cgroups(tmp_path / "processes")
    assert [path.name for path in tmp_path.glob(f"{CGROUP_PREFIX}*")] == [f"{CGROUP_PREFIX}12"]


def test_an_enclosure_ends_with_its_first_process_and_leaves_nothing(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.write_text("#!/bin/sh\nwhile :; do sleep 1; done\n")
    first.chmod(0o755)
    enclosure = Enclosure(tmp_path, first)
    try:
        enclosure.start()
    except EnclosureUnavailable as reason:
        pytest.skip(str(reason))
    try:
        inside = enclosure.command(["ip", "-brief", "address"])
        said = subprocess.run(inside, capture_output=True, text=True, check=True).stdout
        assert {line.split()[0] for line in said.splitlines()} == {"lo", "nowhere"}
        sleeper = subprocess.Popen(enclosure.command(["sleep", "600"]))
        assert list(Path("/sys/fs/cgroup").rglob(f"{CGROUP_PREFIX}*"))
    finally:
        enclosure.stop()
    assert sleeper.wait(60) != 0
    assert not list(Path("/sys/fs/cgroup").rglob(enclosure.cgroup))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_the_pinned_version_is_built_unless_another_is_named() -> None:
    assert module_folder({}) == PINNED
    assert module_folder({NAMED: version_of(PINNED)}) == PINNED
    assert {"etcd", "kube-apiserver", "kubelet", "kube-proxy"} <= set(packages_of(PINNED))


@pytest.mark.parametrize("named", ["1.34", "latest", "2.1.0"])
def test_what_is_no_release_is_refused(named: str) -> None:
    with pytest.raises(BuildUnavailable, match=named):
        module_folder({NAMED: named})
