"""The example of a repository for Argo CD and Flux renders, is valid, and reviews a change of it.

Nothing here needs a cluster or the network.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.build import BuildUnavailable
from cluster.chart import require_helm
from cluster.control_plane import find_kubectl
from cluster.line import COMMAND
from conftest import unavailable

REPO = Path(__file__).parents[2]
GITOPS = REPO / "examples" / "gitops"
ENVIRONMENTS = ("staging", "production")
OVERLAYS = GITOPS / "models" / "overlays"
GROUP = "switchboard.dev/"
BIN = Path(sys.executable).parent
AUTHOR = ("-c", "user.name=test", "-c", "user.email=test@example.com")
BAD = """\
apiVersion: switchboard.dev/v1alpha1
kind: RoutingPolicy
metadata: {name: bad}
spec: {models: [bad], rules: []}
"""


@pytest.fixture(scope="module")
def kubectl() -> Path:
    try:
        return find_kubectl()
    except BuildUnavailable as reason:
        unavailable(reason)


@pytest.fixture
def environ(kubectl: Path, tmp_path: Path) -> Mapping[str, str]:
    """Our command, kubectl and git, and no settings of the person's."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "kubectl").symlink_to(kubectl)
    path = f"{programs}:{BIN}:/usr/bin:/bin"
    return {**os.environ, "PATH": path, "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}


def run(
    *command: str | Path, cwd: Path, env: Mapping[str, str], said: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=env, input=said, capture_output=True, text=True, check=False
    )


@pytest.fixture
def repository(tmp_path: Path, environ: Mapping[str, str]) -> Path:
    """A copy of the example as a repository with one commit."""
    folder = tmp_path / "models"
    shutil.copytree(GITOPS, folder)
    commit(folder, environ, "-b", "main")
    return folder


def commit(folder: Path, environ: Mapping[str, str], *options: str) -> None:
    for command in (
        ("init", "--quiet", *options),
        ("add", "--all"),
        (*AUTHOR, "commit", "--quiet", "-m", "change"),
    ):
        done = run("git", *command, cwd=folder, env=environ)
        assert done.returncode == 0, done.stderr


def rendered(kubectl: Path, folder: Path) -> str:
    done = subprocess.run(
        [kubectl, "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(text: str) -> Iterator[dict[str, Any]]:
    yield from (one for one in yaml.safe_load_all(text) if one)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_overlay_renders_to_objects_that_are_valid(
    kubectl: Path, name: str, environ: Mapping[str, str]
) -> None:
    text = rendered(kubectl, OVERLAYS / name)
    ours = [one for one in objects(text) if one["apiVersion"].startswith(GROUP)]
    assert {one["kind"] for one in ours} == {"ModelBackend", "RoutingPolicy"}
    assert all(one["metadata"]["namespace"] == "ai" for one in ours)
    assert all(one["metadata"]["labels"]["environment"] == name for one in ours)
    done = run(*COMMAND, "validate", "-", cwd=REPO, env=environ, said=text)
    assert done.returncode == 0, done.stdout
    assert f"{len(ours)} objects checked, 0 problems" in done.stdout
    # Secrets are not in the repository; nothing else is missing.
    warnings = re.findall(r"warning: .*?: (\w+):", done.stdout)
    assert set(warnings) <= {"SecretNotFound"}


def test_the_overlays_differ_as_they_say(kubectl: Path) -> None:
    staging, production = (
        {one["metadata"]["name"]: one for one in objects(rendered(kubectl, OVERLAYS / name))}
        for name in ENVIRONMENTS
    )
    assert production.keys() - staging.keys() == {"gpt-4o-mini", "batch"}
    assert len(staging["assistant"]["spec"]["rules"][0]["route"]["tiers"]) == 1
    assert "hedge" in production["assistant"]["spec"]["resilience"]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_chart_takes_the_values_of_an_environment(kubectl: Path, name: str) -> None:
    (made,) = (
        one for one in objects(rendered(kubectl, GITOPS / "gateway")) if one["kind"] == "ConfigMap"
    )
    files = [GITOPS / "gateway" / file for file in ("values.yaml", f"values-{name}.yaml")]
    # Flux reads from the ConfigMap what Argo CD reads from the files.
    assert [made["data"][file.name] for file in files] == [file.read_text() for file in files]
    flags = [part for file in files for part in ("--values", str(file))]
    pods = [
        one["spec"]["template"]["spec"]
        for one in require_helm().documents(*flags)
        if one["kind"] in {"Deployment", "StatefulSet"}
    ]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    assert images == {
        f"registry.example/switchboard-{plane}:0.1.0" for plane in ("operator", "dataplane")
    }


def test_a_review_of_no_change_says_so(repository: Path, environ: Mapping[str, str]) -> None:
    done = run("ci/review.sh", "HEAD", cwd=repository, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "## production" in done.stdout
    assert "## staging" in done.stdout


def test_a_review_says_what_a_change_means_and_fails_where_a_guardrail_is_loosened(
    repository: Path, environ: Mapping[str, str]
) -> None:
    policies = repository / "models" / "base" / "policies.yaml"
    text = policies.read_text()
    policies.write_text(re.sub(r"  guardrails:.*?(?=  rules:)", "", text, flags=re.DOTALL))
    done = run("ci/review.sh", "HEAD", cwd=repository, env=environ)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "legal-stays-here" in done.stdout
    allowed = run("ci/review.sh", "HEAD", cwd=repository, env={**environ, "FAIL_ON": ""})
    assert allowed.returncode == 0, allowed.stdout + allowed.stderr
    assert "legal-stays-here" in allowed.stdout
    assert run("git", "worktree", "list", cwd=repository, env=environ).stdout.count("\n") == 1


def test_a_review_names_the_overlay_that_is_wrong_and_goes_on(
    repository: Path, environ: Mapping[str, str]
) -> None:
    wrong = repository / "models" / "overlays" / "production" / "batch.yaml"
    wrong.write_text(BAD.replace("{name: bad}", "{name: bad, namespace: ai}"))
    done = run("ci/review.sh", "HEAD", cwd=repository, env=environ)
    assert done.returncode == 1
    assert "models/overlays/production/" in done.stdout
    assert "spec.rules" in done.stdout
    assert "## staging" in done.stdout


def test_an_overlay_that_is_new_is_reviewed_too(
    repository: Path, environ: Mapping[str, str]
) -> None:
    overlays = repository / "models" / "overlays"
    shutil.copytree(overlays / "staging", overlays / "canary")
    done = run("ci/review.sh", "HEAD", cwd=repository, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "## canary" in done.stdout


def test_an_overlay_that_is_gone_is_told(repository: Path, environ: Mapping[str, str]) -> None:
    shutil.rmtree(repository / "models" / "overlays" / "production")
    done = run("ci/review.sh", "HEAD", cwd=repository, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "## production" in done.stdout
    assert "policy ai/batch is gone" in done.stdout


def test_a_manifest_that_is_wrong_cannot_end_its_block(
    repository: Path, environ: Mapping[str, str]
) -> None:
    wrong = repository / "models" / "overlays" / "production" / "batch.yaml"
    evil = BAD.replace("{name: bad}", '{name: bad, namespace: ai, annotations: {"```\\n# x": y}}')
    wrong.write_text(evil)
    done = run("ci/review.sh", "HEAD", cwd=repository, env=environ)
    assert done.returncode == 1
    block = done.stdout.partition("## production")[2].partition("## staging")[0].strip("\n")
    assert all(not line or line.startswith("    ") for line in block.splitlines())


def hook() -> dict[str, Any]:
    (found,) = yaml.safe_load((REPO / ".pre-commit-hooks.yaml").read_text())
    return dict(found)


def test_the_hook_runs_in_another_repository(tmp_path: Path, environ: Mapping[str, str]) -> None:
    folder = tmp_path / "other"
    shutil.copytree(GITOPS / "models" / "base", folder / "models")
    (folder / "notes.txt").write_text("no manifest\n")
    (folder / "values-own.yaml").write_text("replicas: 2\n")
    # As pre-commit would run it, but for the environment of its own, which takes the network.
    here = {**hook(), "language": "system"}
    here.pop("additional_dependencies")
    config = {"repos": [{"repo": "local", "hooks": [here]}]}
    (folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    commit(folder, environ)
    command = (str(BIN / "pre-commit"), "run", "--all-files", "--verbose")
    done = run(*command, cwd=folder, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 objects checked, 0 problems" in done.stdout
    (folder / "models" / "bad.yaml").write_text(BAD)
    commit(folder, environ)
    done = run(*command, cwd=folder, env=environ)
    assert done.returncode == 1
    assert "models/bad.yaml" in done.stdout
    assert "spec.rules" in done.stdout


def test_the_hook_asks_for_every_library_that_it_needs() -> None:
    ours = importlib.metadata.requires("llm-switchboard") or []
    asked = [one for one in (*ours, *hook()["additional_dependencies"]) if "extra" not in one]
    there = closure({plain(one) for one in asked}) | {"llm-switchboard"}
    owners = importlib.metadata.packages_distributions()
    absent = {name for name, of in owners.items() if not {plain(one) for one in of} & there}
    assert {"aiohttp", "kubernetes", "redis"} <= absent
    probe = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(absent)!r}));"
        "from switchboard_cli.__main__ import main;"
        f"sys.exit(main(['validate', {str(GITOPS / 'models' / 'base')!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 objects checked, 0 problems" in done.stdout


def plain(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def closure(names: set[str]) -> set[str]:
    """The names, and all that they require in turn."""
    known, new = set[str](), names
    while new:
        known |= new
        new = {
            plain(one)
            for name in new
            for one in _requires(name)
            if "extra ==" not in one and plain(one) not in known
        }
    return known


def _requires(name: str) -> list[str]:
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
