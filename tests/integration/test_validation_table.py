"""One table, two judges: the API server and ``switchboard validate`` give the same verdict.

``validation/valid`` and ``validation/invalid`` hold one object a file. A file of the invalid ones
begins with what ``validate`` has to say: ``# field:``, ``# message:`` (a part of it),
``# value:`` (nothing where nothing is there), ``# fix:``, and, where the API server cannot know
better, ``# server: accepts, WHY``. Those last lines are the whole list of the differences between
the two.
"""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
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

#: Beyond it the calls only queue up for two cores.
KUBECTL_AT_A_TIME = 4
NAMES_IN_FIELD = re.compile(r"[A-Za-z]+")

Verdicts = dict[Path, subprocess.CompletedProcess[str]]

FROM_A_RULE = re.compile("|".join(pattern_of(rule) for rule in EVERY_RULE))


@pytest.fixture(scope="session")
def verdicts(api: ControlPlane) -> Verdicts:
    """What the API server says of every file."""

    def ask(path: Path) -> subprocess.CompletedProcess[str]:
        return api.try_kubectl("apply", "--dry-run=server", "-f", str(path))

    files = [*VALID, *INVALID]
    with ThreadPoolExecutor(KUBECTL_AT_A_TIME) as pool:
        return dict(zip(files, pool.map(ask, files), strict=True))


def test_the_table_is_large_enough_to_mean_something() -> None:
    reasons = {reason_of(found) for path in INVALID for found in findings_of(path)}
    assert len(VALID) >= 25
    assert len(INVALID) >= 150
    assert len(reasons) >= 40


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_both_accept_what_is_valid(path: Path, verdicts: Verdicts) -> None:
    assert findings_of(path) == ()
    assert verdicts[path].returncode == 0, verdicts[path].stderr


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_both_refuse_what_is_invalid(path: Path, verdicts: Verdicts) -> None:
    row, server = read_row(path), verdicts[path]
    assert (server.returncode == 0) == bool(row.server_accepts), server.stderr
    if not row.server_accepts and row.field not in {"", "apiVersion"}:
        # Of a label's value it names the map, of a version that is not served the kind alone.
        assert any(name in server.stderr for name in NAMES_IN_FIELD.findall(row.field)[-2:])
    findings = findings_of(path)
    assert any(row.is_told_by(found) for found in findings), findings
    assert all(found.fix for found in findings)
    for found in findings:
        if FROM_A_RULE.fullmatch(found.message):
            assert f"{found.message}: {found.fix}" in server.stderr


def test_every_rule_of_the_schemas_has_a_row() -> None:
    """A rule that no object breaks may as well not be there."""
    said = {found.message for path in INVALID for found in findings_of(path)}
    without = [
        rule.message
        for rule in EVERY_RULE
        if not any(re.fullmatch(pattern_of(rule), text) for text in said)
    ]
    assert not without
