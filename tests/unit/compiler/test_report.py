"""What people read stays short."""

from switchboard_policy.compiler.report import FINDINGS_MAX, Finding, bounded, listed
from switchboard_policy.v1alpha1.conditions import Reason


def test_many_findings_end_in_a_count() -> None:
    many = [Finding(Reason.UNREACHABLE_RULE, f"rule {number}") for number in range(40)]
    kept = bounded(many)
    assert len(kept) == FINDINGS_MAX
    assert kept[:-1] == tuple(many[: FINDINGS_MAX - 1])
    assert kept[-1].message == "and 25 more findings like these"
    assert bounded(many[:FINDINGS_MAX]) == tuple(many[:FINDINGS_MAX])


def test_long_lists_of_names_end_in_a_count() -> None:
    assert listed("abc") == "a, b, c"
    assert listed("abcdef") == "a, b, c, d and 2 more"
