"""What the documents name is there: tests, files, headings, modules; and each named scenario."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
DATA_PLANE = REPO / "dataplane" / "switchboard_dataplane"
PAGES = sorted(
    path.relative_to(REPO)
    for path in (*REPO.glob("*.md"), *REPO.glob("docs/**/*.md"), *REPO.glob("examples/**/*.md"))
)
BLOCK = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
TEST = re.compile(r"\btest_\w+(?![\w*])")

SCENARIOS = (
    "429 once, with Retry-After",
    "429 once, without",
    "429 for ever, with Retry-After",
    "429 for ever, without",
    "500 once",
    "503 for ever",
    "reset before headers",
    "silence",
    "first token after 20 s, another model ready",
    "cut in the middle of a stream",
    "stall in the middle of a stream",
    "error inside the first events of a 200",
    "garbage chunk",
    "missing `[DONE]`",
    "context overflow",
    "content filter",
    "outage of 60 s, 20 requests",
    "slow pod among fast ones",
    "fast-failing pod",
    "cold pod",
    "1,600 requests at once, 8 endpoints",
    "saturation and return",
    "data planes restarted in turn, SIGTERM",
    "data plane killed, SIGKILL",
    "Redis killed, paused, slow, flushed",
    "balancing quality",
)
"""What must stay under test, in the words of the first column of "Named scenarios"."""


def words(page: Path) -> str:
    """A page without its blocks of code."""
    return BLOCK.sub("", (REPO / page).read_text())


@cache
def defined() -> dict[str, set[str]]:
    """The names of all tests, by file."""
    return {
        path.name: {
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for path in (REPO / "tests").rglob("test_*.py")
    }


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by."""
    plain = (re.sub(r"[^\w\- ]", "", one.lower()) for one in HEADING.findall(page.read_text()))
    return {one.replace(" ", "-") for one in plain}


def rows(page: str, heading: str) -> Iterator[list[str]]:
    """The cells of the rows of the first table below a heading."""
    _, found, below = (REPO / page).read_text().partition(f"\n## {heading}\n")
    assert found, f"{page} has no {heading!r}"
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table, f"{heading!r} has no table"
    for line in table[0].splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    there = set.union(*defined().values())
    named = [name for code in CODE.findall(words(page)) for name in TEST.findall(code)]
    missing = {
        name
        for name in named
        if name not in there
        and f"{name}.py" not in defined()
        and not (REPO / "tests" / name).is_dir()
    }
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(words(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (REPO / page).parent / path if path else REPO / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_reached_from_the_readme() -> None:
    reached, due = set[Path](), [REPO / "README.md"]
    while due:
        page = due.pop()
        if page.is_dir():
            due.extend(page.glob("*.md"))
        elif page.suffix == ".md" and page not in reached:
            reached.add(page)
            links = (link.partition("#")[0] for link in LINK.findall(page.read_text()))
            due.extend((page.parent / link).resolve() for link in links if "://" not in link)
    pages = {REPO / page for page in PAGES if page.parts[0] != "examples"}
    assert pages <= reached


def test_the_architecture_names_every_part_of_the_data_plane() -> None:
    text = (REPO / "ARCHITECTURE.md").read_text()
    parts = [path.name + "/" for path in DATA_PLANE.iterdir() if (path / "__init__.py").exists()]
    parts += [path.name for path in DATA_PLANE.glob("*.py") if not path.name.startswith("__")]
    assert [part for part in sorted(parts) if f"`{part}`" not in text] == []


def test_every_named_scenario_has_a_test() -> None:
    table = {
        cells[0]: TEST.findall(cells[1]) for cells in rows("docs/resilience.md", "Named scenarios")
    }
    assert tuple(table) == SCENARIOS
    integration = {
        name
        for path in (REPO / "tests" / "integration").rglob("test_*.py")
        for name in defined()[path.name]
    }
    for scenario, named in table.items():
        assert named, scenario
        assert set(named) <= integration, scenario
