"""The analysis: which matches cover which, and what guardrails read."""

import pytest

from switchboard_policy import ir
from switchboard_policy.compiler.analyse import analyse, covers, trusts_caller

HEADER = ir.HeaderMatch("x-team", "red")
ANY_HEADER = ir.HeaderMatch("x-team")


@pytest.mark.parametrize(
    ("outer", "inner", "covered"),
    [
        (None, ir.Match(tags=("a",)), True),
        (ir.Match(tags=("a",)), None, False),
        (ir.Match(tags=("a", "b")), ir.Match(tags=("a",)), True),
        (ir.Match(tags=("a",)), ir.Match(tags=("a", "b")), False),
        (ir.Match(tags=("a",)), ir.Match(tags=("a",), keywords=("k",)), True),
        (ir.Match(tags=("a",), keywords=("k",)), ir.Match(tags=("a",)), False),
        (ir.Match(apis=("chat", "completions", "embeddings")), None, True),
        (ir.Match(apis=("chat",)), None, False),
        (ir.Match(headers=(ANY_HEADER,)), ir.Match(headers=(HEADER,)), True),
        (ir.Match(headers=(HEADER,)), ir.Match(headers=(ANY_HEADER,)), False),
        (ir.Match(headers=(HEADER,)), ir.Match(headers=(HEADER, ir.HeaderMatch("b"))), True),
        (ir.Match(headers=(HEADER, ir.HeaderMatch("b"))), ir.Match(headers=(HEADER,)), False),
        (ir.Match(tokens_min=5), ir.Match(tokens_min=6), True),
        (ir.Match(tokens_min=6), ir.Match(tokens_min=5), False),
        (ir.Match(tokens_min=0), None, True),
        (ir.Match(tokens_max=6), ir.Match(tokens_max=5), True),
        (ir.Match(tokens_max=6), ir.Match(tokens_min=1), False),
        (ir.Match(tokens_min=1, tokens_max=9), ir.Match(tokens_min=2, tokens_max=8), True),
        (ir.Match(system_prompt=("coder",)), ir.Match(system_prompt=("a coder", "coders")), True),
        (ir.Match(system_prompt=("a coder",)), ir.Match(system_prompt=("coder",)), False),
    ],
)
def test_a_match_covers_what_it_surely_matches(
    outer: ir.Match | None, inner: ir.Match | None, covered: bool
) -> None:
    assert covers(outer, inner) is covered


def test_a_rule_with_a_condition_covers_only_rules_with_the_same() -> None:
    tiers = (ir.Tier("only", (ir.Member("ai/a"),)),)
    rules = (
        ir.Rule("first", tiers, when="request.stream"),
        ir.Rule("second", tiers, match=ir.Match(tags=("a",)), when="request.stream"),
        ir.Rule("third", tiers, when="request.tools"),
        ir.Rule("last", tiers),
    )
    found = analyse(ir.Policy("ai/p", ("m",), rules), {"ai/a": None})
    assert ['"second"' in each.message for each in found] == [True]


@pytest.mark.parametrize(
    ("when", "trusting"),
    [
        ("", False),
        ("request.model == 'x'", False),
        ("'a' in request.tags", True),
        ("request . headers.get('a') == 'b'", True),
        ("request.metadata['a'] == 'b'", True),
        ("request.user == ''", True),
        ("request.session == ''", True),
        ('request.model == "request.user"', False),
        (r'request.model == "\"request.user"', False),
        ("request.model == '''request.user'''", False),
    ],
)
def test_a_guardrail_that_the_caller_can_escape_is_named(when: str, trusting: bool) -> None:
    assert bool(trusts_caller([ir.Guardrail("g", "ai/p", (), when)])) is trusting


def test_a_tier_that_dangles_is_not_said_to_be_emptied_by_a_guardrail() -> None:
    tiers = (ir.Tier("gone", ()), ir.Tier("there", (ir.Member("ai/a"),)))
    guardrail = ir.Guardrail("g", "ai/p", ("ai/b",))
    made = ir.Policy("ai/p", ("m",), (ir.Rule("r", tiers),), (guardrail,))
    assert analyse(made, {"ai/a": None}) == []


def test_what_is_forbidden_anyway_is_not_told_again_for_a_condition() -> None:
    tiers = (ir.Tier("first", (ir.Member("ai/a"),)), ir.Tier("second", (ir.Member("ai/b"),)))
    guardrails = (
        ir.Guardrail("always", "ai/p", ("ai/a",)),
        ir.Guardrail("sometimes", "ai/p", ("ai/a",), "request.stream"),
    )
    made = ir.Policy("ai/p", ("m",), (ir.Rule("r", tiers),), guardrails)
    (finding,) = analyse(made, {"ai/a": None, "ai/b": None})
    assert '"always"' in finding.message
    assert '"sometimes"' not in finding.message


def test_a_long_condition_is_cut() -> None:
    when = "request.model == '" + "x" * 900 + "'"
    made = ir.Policy(
        "ai/p",
        ("m",),
        (ir.Rule("r", (ir.Tier("t", (ir.Member("ai/a"),)),)),),
        (ir.Guardrail("g", "ai/p", ("ai/a",), when),),
    )
    (finding,) = analyse(made, {"ai/a": None})
    assert len(finding.message) < 300
