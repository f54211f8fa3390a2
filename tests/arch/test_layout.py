"""The shape of the repository, as rules that fail by name."""

import ast
import operator
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
ROOTS = ("policy", "operator", "dataplane", "cli")
SOURCES = sorted(path for root in ROOTS for path in (REPO / root).rglob("*.py"))
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
SUPPORT = {"__pycache__", "bench", "cluster", "fakes"}
"""Folders of tests/ that hold no suite; benchmarks have a target each."""
REGISTRIES = re.compile(
    r"pypi\.org|pythonhosted\.org|proxy\.golang\.org|sum\.golang\.org|registry\.npmjs"
    r"|docker\.io|ghcr\.io|quay\.io|gcr\.io|registry\.k8s\.io|index[-_]url\s*="
)
HOMES = re.compile(r"(?<![\w.])/(root|home/\w+|Users/\w+|work)/")
HEAVY = ("kopf", "kubernetes", "pydantic", "yaml")


def tracked_texts() -> dict[str, str]:
    """Every text file that git tracks or would, by path."""
    if not (REPO / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (REPO / name for name in listed.stdout.split("\0") if name)
    texts = {}
    for path in paths:
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            texts[str(path.relative_to(REPO))] = content.decode(errors="replace")
    return texts


def violations(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in tracked_texts().items()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("root", ROOTS)
def test_source_roots_are_not_packages(root: str) -> None:
    """A module in operator/ itself would shadow the standard library's operator."""
    assert not list((REPO / root).glob("*.py"))


@pytest.mark.parametrize("root", ROOTS)
def test_each_source_root_holds_one_package(root: str) -> None:
    assert [path.parent.name for path in (REPO / root).glob("*/__init__.py")] == [
        f"switchboard_{root}"
    ]


def test_operator_is_the_standard_library() -> None:
    assert not Path(operator.__file__).is_relative_to(REPO)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPO)))
def test_modules_are_small_and_say_what_they_are_for(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module says in its first line what it is for"
    assert text.count("\n") <= MODULE_LINES_MAX
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < FUNCTION_LINES_MAX, node.name


def test_the_data_plane_starts_without_the_control_planes_libraries() -> None:
    probe = (
        "import sys, switchboard_dataplane.__main__;"
        f"print(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_every_suite_has_a_make_target() -> None:
    make = shutil.which("make")
    assert make, "make is not on PATH"
    suites = {path.name for path in (REPO / "tests").iterdir() if path.is_dir()} - SUPPORT
    for suite in sorted(suites):
        done = subprocess.run(
            [make, "--dry-run", f"test-{suite}"], cwd=REPO, capture_output=True, check=False
        )
        assert done.returncode == 0, f"make test-{suite}: {done.stderr.decode()}"


def test_no_file_names_a_package_registry() -> None:
    assert violations(REGISTRIES) == []


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    assert violations(HOMES) == []
