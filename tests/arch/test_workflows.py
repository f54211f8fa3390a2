"""Workflows, hooks, the example of a repository: pins are pins, what is called exists."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPO = Path(__file__).parents[2]
GITOPS = REPO / "examples" / "gitops"
WORKFLOWS = sorted(
    path for root in (REPO, GITOPS) for path in (root / ".github" / "workflows").glob("*.yml")
)
VERSION = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["version"]
TAG = f"v{VERSION}"
COMMIT = re.compile(r"^[\w./-]+@[0-9a-f]{40}$")
NOTED = re.compile(r"uses: \S+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$")
FLOATING = re.compile(r"\blatest\b|[:@](main|master|HEAD|stable|edge)\b|version: [\"']?[\^~*>]")
OURS = "https://git.example/platform/switchboard.git"


def jobs_of(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())["jobs"]
    return found


def steps_of(path: Path) -> Iterator[dict[str, Any]]:
    for job in jobs_of(path).values():
        yield from job["steps"]


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def found_in(folder: str, kind: str) -> list[dict[str, Any]]:
    paths = sorted((GITOPS / folder).glob("*.yaml"))
    found = [one for path in paths for one in documents(path) if one["kind"] == kind]
    assert found, f"no {kind} in {folder}"
    return found


def test_there_is_a_workflow_of_our_own_and_one_to_copy() -> None:
    names = [str(path.relative_to(REPO)) for path in WORKFLOWS]
    assert names == [".github/workflows/ci.yml", "examples/gitops/.github/workflows/review.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_pins_its_actions_by_commit_and_says_their_version(path: Path) -> None:
    used = [step["uses"] for step in steps_of(path) if "uses" in step]
    assert used
    assert [one for one in used if not COMMIT.match(one)] == []
    lines = [line for line in path.read_text().splitlines() if "uses:" in line]
    assert [line for line in lines if not NOTED.search(line)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_few_rights_and_ends_in_time(path: Path) -> None:
    said = yaml.safe_load(path.read_text())
    rights: dict[str, str] = said["permissions"]
    assert rights["contents"] == "read"
    assert rights.keys() <= {"contents", "pull-requests"}
    for job in jobs_of(path).values():
        assert job["timeout-minutes"] <= 120
        assert job["runs-on"] == "ubuntu-24.04", "a name that moves is no pin"
    # What others write, such as the title of a pull request, is no part of a script.
    runs = [step["run"] for step in steps_of(path) if "run" in step]
    assert [run for run in runs if "${{" in run] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_targets_that_exist(path: Path) -> None:
    make = shutil.which("make")
    assert make
    runs = "\n".join(step.get("run", "") for step in steps_of(path))
    targets = re.findall(r"(?:^|\s)make ([a-z0-9-]+)", runs)
    if path.name == "ci.yml":
        assert targets == ["check", "e2e"]
    for target in targets:
        done = subprocess.run(
            [make, "--dry-run", target], cwd=REPO, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_what_the_example_takes_of_us_is_this_release() -> None:
    for application in found_in("argocd", "Application"):
        spec = application["spec"]
        for source in spec.get("sources") or [spec["source"]]:
            ours = source["repoURL"] == OURS
            assert source["targetRevision"] == (TAG if ours else "main")
            assert (source.get("path") == "helm/switchboard") == ours
    for repository in found_in("flux", "GitRepository"):
        ours = repository["spec"]["url"] == OURS
        assert repository["spec"]["ref"] == ({"tag": TAG} if ours else {"branch": "main"})
    for release in found_in("flux", "HelmRelease"):
        assert release["spec"]["chart"]["spec"]["version"] == VERSION
    (hook,) = yaml.safe_load((GITOPS / ".pre-commit-config.yaml").read_text())["repos"]
    assert (hook["repo"], hook["rev"]) == (OURS, TAG)
    review = (GITOPS / ".github/workflows/review.yml").read_text()
    assert f"{OURS}@{TAG}" in review
    assert yaml.safe_load((REPO / "helm/switchboard/Chart.yaml").read_text())["version"] == VERSION


def test_the_example_pins_its_images_to_this_release() -> None:
    values = yaml.safe_load((GITOPS / "gateway" / "values.yaml").read_text())
    for plane in ("operator", "gateway"):
        image = values[plane]["image"]
        assert image.get("tag") == VERSION or image["digest"].startswith("sha256:")


def test_nothing_in_the_example_floats() -> None:
    texts = {path: path.read_text() for path in GITOPS.rglob("*") if path.is_file()}
    found = [
        f"{path.relative_to(GITOPS)}: {line.strip()}"
        for path, text in texts.items()
        for line in text.splitlines()
        if FLOATING.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_both_tools_take_the_same_of_an_environment(environment: str) -> None:
    argocd = documents(GITOPS / "argocd" / f"{environment}.yaml")
    flux = documents(GITOPS / "flux" / f"{environment}.yaml")
    gateway, models = (one["spec"] for one in argocd)
    files = gateway["sources"][0]["helm"]["valueFiles"]
    (release,) = (one["spec"] for one in flux if one["kind"] == "HelmRelease")
    keys = [one["valuesKey"] for one in release["valuesFrom"]]
    assert files == [f"$config/gateway/{key}" for key in keys]
    assert all((GITOPS / "gateway" / key).exists() for key in keys)
    paths = [one["spec"]["path"] for one in flux if one["kind"] == "Kustomization"]
    assert paths == ["./gateway", f"./{models['source']['path']}"]
    assert (GITOPS / models["source"]["path"] / "kustomization.yaml").exists()


def test_the_hook_says_what_pre_commit_asks_for() -> None:
    (hook,) = yaml.safe_load((REPO / ".pre-commit-hooks.yaml").read_text())
    assert hook.keys() >= {"id", "name", "language", "entry", "types_or"}
    scripts = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["scripts"]
    assert hook["entry"].split()[0] in scripts
