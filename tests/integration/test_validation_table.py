"""One table, two judges: the API server and ``switchboard validate`` give the same verdict.

``validation/valid`` and ``validation/invalid`` hold one object a file. A file of the invalid ones
begins with what ``validate`` has to say: ``# field:``, ``# message:`` (a part of it),
``# value:`` (nothing where nothing is there), ``# fix:``, and, where the API server cannot know
better, ``# server: accepts, WHY``. Those last lines are the whole list of the differences between
the two.
"""

import re
from pathlib import Path

import pytest

from cluster.control_plane import ControlPlane
from fakes.validation_table import (
    EVERY_RULE,
    INVALID,
    VALID,
    findings_of,
    pattern_of,
    read_row,
    reason_of,
)

NAMES_IN_FIELD = re.compile(r"[A-Za-z]+")
FILE_IN_ERROR = re.compile(r'"([^"\n]+\.yaml)"')

Refusals = dict[Path, str]

FROM_A_RULE = re.compile("|".join(pattern_of(rule) for rule in EVERY_RULE))


@pytest.fixture(scope="session")
def refusals(api: ControlPlane) -> Refusals:
    """What the API server says of each file that it refuses, all asked for in one call."""
    folders = [part for folder in (VALID, INVALID) for part in ("-f", str(folder[0].parent))]
    done = api.try_kubectl("apply", "--dry-run=server", *folders)
    # Each refusal names its file, and goes on until the next one does.
    _, *rest = FILE_IN_ERROR.split(done.stderr)
    refused: Refusals = {}
    for name, text in zip(rest[::2], rest[1::2], strict=True):
        refused[Path(name)] = refused.get(Path(name), "") + text
    accepted = done.stdout.splitlines()
    assert len(refused) + len(accepted) == len(VALID) + len(INVALID), "each file has its verdict"
    return refused


def test_the_table_is_large_enough_to_mean_something() -> None:
    reasons = {reason_of(found) for path in INVALID for found in findings_of(path)}
    assert len(VALID) >= 25
    assert len(INVALID) >= 150
    assert len(reasons) >= 40


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_both_accept_what_is_valid(path: Path, refusals: Refusals) -> None:
    assert findings_of(path) == ()
    assert path not in refusals


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_both_refuse_what_is_invalid(path: Path, refusals: Refusals) -> None:
    row, refusal = read_row(path), refusals.get(path, "")
    assert (path not in refusals) == bool(row.server_accepts), refusal
    if not row.server_accepts and row.field not in {"", "apiVersion"}:
        # Of a label's value it names the map, of a version that is not served the kind alone.
        assert any(name in refusal for name in NAMES_IN_FIELD.findall(row.field)[-2:])
    findings = findings_of(path)
    assert any(row.is_told_by(found) for found in findings), findings
    assert all(found.fix for found in findings)
    for found in findings:
        if FROM_A_RULE.fullmatch(found.message):
            assert f"{found.message}: {found.fix}" in refusal


def test_every_rule_of_the_schemas_has_a_row() -> None:
    """A rule that no object breaks may as well not be there."""
    said = {found.message for path in INVALID for found in findings_of(path)}
    without = [
        rule.message
        for rule in EVERY_RULE
        if not any(re.fullmatch(pattern_of(rule), text) for text in said)
    ]
    assert not without
