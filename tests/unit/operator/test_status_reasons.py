"""Every condition that the code can write is explained in the reference, and nothing else is.

The golden worlds of the compiler are reported as pods, and a store, can stand to them; what comes
of it is compared with ``REASONS``, which docs/reference/conditions.md is made of.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.worlds import keyring, read_world
from switchboard_operator.standing import Standing
from switchboard_operator.status import assess
from switchboard_policy.compiler.compile import Compiler
from switchboard_policy.compiler.report import ObjectReport
from switchboard_policy.store import Revision
from switchboard_policy.v1alpha1.conditions import REASONS, TYPES, Reason, Stand
from switchboard_policy.v1alpha1.status import pending_status

REPO = Path(__file__).parents[3]
WORLDS = sorted((REPO / "tests" / "golden" / "compiler").glob("*.in.yaml"))
REFERENCE = REPO / "docs" / "reference" / "conditions.md"
AT = Revision(3, 17)
STANDINGS = (
    Standing(revision=AT, pods=2, acked=2, took_s=0.04),
    Standing(revision=AT, pods=2, acked=1, behind=("b (at 3-16)",)),
    Standing(revision=AT, pods=2, acked=1, refused=("b: unknown format 9",)),
    Standing(revision=AT),
    Standing(revision=AT, pods=2, pending="it is being written"),
    Standing(revision=AT, pods=2, pending="the store is away", store_away=True),
)

Said = tuple[Reason, Stand]


def reports() -> Iterator[ObjectReport]:
    for path in WORLDS:
        gateway, world = read_world(path.read_text())
        yield from Compiler(gateway, keyring()).compile(world).reports.values()


def standings(report: ObjectReport) -> tuple[Standing, ...]:
    return STANDINGS if report.keys else (Standing(),)


def written() -> set[Said]:
    """What is written to objects, by the operator and by the API server's default."""
    found: set[Said] = set()
    for report in reports():
        for standing in standings(report):
            for each in assess(report, standing, None).verdicts:
                found.add((Reason(each.reason), Stand(each.type, each.status)))
    for each in pending_status()["conditions"]:
        found.add((Reason(each["reason"]), Stand(each["type"], each["status"])))
    return found


def explained() -> set[Said]:
    return {(reason, stand) for reason, said in REASONS.items() for stand in said.stands}


@pytest.fixture(scope="module")
def said() -> set[Said]:
    return written()


def test_what_can_be_written_is_explained(said: set[Said]) -> None:
    assert said - explained() == set()


def test_what_is_explained_is_written_in_some_case(said: set[Said]) -> None:
    assert explained() - said == set()


def test_every_reason_is_in_the_reference_with_a_way_out() -> None:
    rows = {
        line.split("|")[1].strip(" `"): line.split(" | ")
        for line in REFERENCE.read_text().splitlines()
        if line.startswith("| `")
    }
    assert rows.keys() >= set(Reason) | TYPES.keys()
    well = {"Accepted", "ResolvedRefs", "Programmed", "Ready"}
    for reason, explanation in REASONS.items():
        assert explanation.meaning
        assert bool(explanation.remedy) == (reason not in well), reason


def test_no_reason_is_named_that_no_code_uses() -> None:
    """Reasons come from findings and from statuses; each is written somewhere but in its table."""
    used = {
        node.attr
        for root in ("policy", "operator")
        for path in (REPO / root).rglob("*.py")
        if path.name != "conditions.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Reason"
    }
    assert set(Reason.__members__) - used == set()
