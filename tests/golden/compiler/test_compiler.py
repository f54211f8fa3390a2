"""Each ``CASE.in.yaml`` compiles to ``CASE.out.yaml``: entries, addresses, and every report."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from fakes.worlds import keyring, read_world
from switchboard_policy.codec import Encoded
from switchboard_policy.compiler.compile import Compilation, Compiler
from switchboard_policy.compiler.report import ObjectReport

CASES = sorted(Path(__file__).parent.glob("*.in.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name.removesuffix(".in.yaml"))
def test_a_world_compiles_to_what_is_written(
    case: Path, golden: Callable[[Path, str], None]
) -> None:
    gateway, world = read_world(case.read_text())
    compilation = Compiler(gateway, keyring()).compile(world)
    golden(case.with_name(case.name.replace(".in.", ".out.")), _written(compilation))


def _written(compilation: Compilation) -> str:
    said: dict[str, Any] = {
        "policy": _entries(compilation.policy),
        "endpoints": _entries(compilation.endpoints),
        "reports": {
            f"{kind} {name}": _report(report)
            for (kind, name), report in sorted(compilation.reports.items())
        },
    }
    if compilation.refused_clients:
        said["refused"] = {
            f"Secret {name}": f"{refusal.reason}: {refusal.message}"
            for name, refusal in sorted(compilation.refused_clients.items())
        }
    return yaml.safe_dump(said, sort_keys=False, width=100, allow_unicode=True)


def _entries(entries: Mapping[str, Encoded]) -> dict[str, Any]:
    return {key: msgspec.json.decode(entries[key].body)["entry"] for key in sorted(entries)}


def _report(report: ObjectReport) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for field in ("rejected", "unresolved", "warnings"):
        if findings := getattr(report, field):
            said[field] = [f"{each.reason}: {each.message}" for each in findings]
    if report.quarantined:
        said["quarantined"] = True
    if report.nameless:
        said["nameless"] = True
    if report.endpoints_total:
        said["endpoints"] = f"{report.endpoints_ready}/{report.endpoints_total}"
    return {**said, "keys": list(report.keys)}
