"""The users of Redis that docs/operations/redis.md tells people to make."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "operations" / "redis.md"

_COMMAND: Final = re.compile(
    r"^ACL SETUSER (\S+) on >PASSWORD ((?:[^`]|\n(?!ACL))*?)(?=^ACL|^```)", re.M
)


def documented_users(*, scope: str = "gw/default") -> Mapping[str, Sequence[str]]:
    """Return the rules of each user; those of a data plane are for a scope."""
    found = {
        user: rules.replace("{gw/default}", f"{{{scope}}}").split()
        for user, rules in _COMMAND.findall(PAGE.read_text())
    }
    assert {"operator", "dataplane", "exporter", "replica", "sentinel", "client"} <= found.keys()
    return found


def commands(rules: Sequence[str]) -> set[str]:
    """Return the commands that rules allow."""
    return {rule[1:] for rule in rules if rule.startswith("+")}
