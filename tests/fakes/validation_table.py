"""The table of valid and invalid objects: what is in its files, and why an object is invalid."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from switchboard_cli.findings import Finding
from switchboard_cli.manifests import load_manifests
from switchboard_cli.validate import validate
from switchboard_policy.v1alpha1.common import RULES, CelRule
from switchboard_policy.v1alpha1.crd import KINDS, structural_schema

FOLDER = Path(__file__).parents[1] / "integration" / "validation"
VALID = sorted((FOLDER / "valid").glob("*.yaml"))
INVALID = sorted((FOLDER / "invalid").glob("*.yaml"))

#: What differs between two objects that are wrong for the same reason.
_PARTICULARS = re.compile(
    r"\"[^\"]*\"|'[^']*'|[0-9]+|(?<=of type )\w+| expecting .*|^the key [^:]*: |\n.*", re.DOTALL
)


@dataclass(frozen=True)
class Row:
    """What the first lines of an invalid file say."""

    field: str
    message: str
    value: str
    fix: str
    server_accepts: str

    def is_told_by(self, finding: Finding) -> bool:
        return (
            self.message in finding.message
            and (finding.field, finding.value, finding.fix) == (self.field, self.value, self.fix)
        )  # fmt: skip


@cache
def read_row(path: Path) -> Row:
    said: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if not line.startswith("# "):
            break
        key, _, text = line.removeprefix("# ").partition(":")
        said[key] = text.strip()
    return Row(said["field"], said["message"], said["value"], said["fix"], said.get("server", ""))


@cache
def findings() -> Mapping[str, tuple[Finding, ...]]:
    """What ``validate`` says of every file of the table, by path."""
    found = validate(load_manifests([*VALID, *INVALID])).findings
    return {
        str(path): tuple(one for one in found if one.file == str(path))
        for path in [*VALID, *INVALID]
    }


def findings_of(path: Path) -> tuple[Finding, ...]:
    return findings()[str(path)]


def reason_of(finding: Finding) -> str:
    """Why an object is invalid: a rule of the schema, or the kind of the error.

    That a text is malformed says nothing without what it should have been, which is in the fix.
    """
    for rule in EVERY_RULE:
        if re.fullmatch(pattern_of(rule), finding.message):
            return rule.message
    reason = _PARTICULARS.sub("…", finding.message)
    return f"{reason}: {finding.fix}" if reason.endswith("it is malformed") else reason


def pattern_of(rule: CelRule) -> str:
    return "(.*)".join(re.escape(part) for part in rule.message.split("%s"))


def _rules_in(schema: dict[str, Any]) -> Iterator[CelRule]:
    yield from schema.get(RULES, ())
    children = [*schema.get("properties", {}).values()]
    for child in [*children, schema["items"]] if "items" in schema else children:
        yield from _rules_in(child)


EVERY_RULE = [rule for kind in KINDS.values() for rule in _rules_in(structural_schema(kind.spec))]
