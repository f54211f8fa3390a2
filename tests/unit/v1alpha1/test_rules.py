"""Rules of a schema: one declaration, run here as at the API server; errors are a no."""

from typing import Annotated, Any, ClassVar

import pytest
from pydantic import Field

from switchboard_policy.facts import request_facts
from switchboard_policy.v1alpha1.common import SET, CelRule, ListType, Model
from switchboard_policy.v1alpha1.crd import structural_schema
from switchboard_policy.v1alpha1.expressions import request_conditions
from switchboard_policy.v1alpha1.parse import Parser
from switchboard_policy.v1alpha1.rules import SchemaRules


class Leaf(Model):
    """Two numbers in order."""

    cel: ClassVar = (
        CelRule(
            rule="self.low <= self.high",
            message="low %s is over high %s",
            values=("self.low", "self.high"),
            fix="swap them",
            field=".low",
        ),
    )

    low: int
    high: int


class Tree(Model):
    """Everything that a schema can hold."""

    cel: ClassVar = (
        CelRule(rule="has(self.leaf) || has(self.name)", message="nothing", fix="say something"),
    )

    name: Annotated[str, CelRule(rule="self != 'no'", message="no", fix="say yes")] | None = None
    leaf: Leaf | None = None
    leaves: Annotated[list[Leaf], Field(max_length=9), ListType("map", ("low",))] = Field(
        default=[]
    )
    words: Annotated[list[str], Field(max_length=9), SET] = Field(default=[])


RULES = SchemaRules(structural_schema(Tree))


def check(value: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each.field, each.message) for each in RULES.check(value, path=("spec",))]


def test_what_keeps_the_rules_has_no_problems() -> None:
    leaves = [{"low": 1, "high": 1}, {"low": 2, "high": 3}]
    assert check({"name": "yes", "leaves": leaves, "words": ["a", "b"]}) == []


def test_a_rule_is_blamed_on_its_place_however_deep() -> None:
    leaves = [{"low": 1, "high": 1}, {"low": 5, "high": 3}]
    assert check({"leaf": {"low": 2, "high": 1}, "name": "no", "leaves": leaves}) == [
        ("spec.name", "no"),
        ("spec.leaf.low", "low 2 is over high 1"),
        ("spec.leaves[1].low", "low 5 is over high 3"),
    ]


def test_lists_that_are_sets_or_maps_have_no_equal_items() -> None:
    leaves = [{"low": 1, "high": 1}, {"low": 1, "high": 3}]
    assert check({"name": "a", "leaves": leaves, "words": ["a", "b", "a"]}) == [
        ("spec.leaves[1]", 'two entries have low "1"'),
        ("spec.words[2]", '"a" is listed twice'),
    ]


def test_an_error_in_a_rule_is_a_no_as_in_kubernetes() -> None:
    assert check({"leaf": {"low": 1}}) == [("spec.leaf.low", "low … is over high …")]


def test_the_largest_policy_is_judged_though_the_engine_gives_up_on_it_as_a_whole() -> None:
    def policy(weight: int) -> dict[str, Any]:
        tiers = [
            {"name": f"t{tier}", "backends": [{"name": f"b{n}", "weight": 1} for n in range(32)]}
            for tier in range(8)
        ]
        last = {"name": "last", "backends": [{"name": "b", "weight": weight}]}
        match = {"tags": ["a"]}
        rules = [{"name": f"r{n}", "match": match, "route": {"tiers": tiers}} for n in range(63)]
        rules.append({"name": "default", "route": {"tiers": [*tiers[:7], last]}})
        return {"spec": {"models": ["chat"], "rules": rules}}

    parser = Parser()
    assert parser.parse_policy(policy(1)).problems == ()
    (problem,) = parser.parse_policy(policy(0)).problems
    assert problem.field == "spec.rules[63].route.tiers[7].backends"


def test_a_condition_that_takes_too_many_steps_is_an_error_not_an_exception() -> None:
    facts = request_facts()
    source = "request.tags.all(a, request.tags.all(b, request.tags.all(c, [a, b, c] != ['x'])))"
    assert facts.compile(source).holds(facts.bind({"request.tags": ["tag"] * 30})) is None


@pytest.mark.parametrize(
    "source",
    [
        'request.prompt + "a" == "b"',
        "size(request.tags + request.tags) > 1",
        'request.tags.map(a, a).exists(a, a == "b")',
        'request.tags.filter(a, a == "b").size() > 1',
    ],
)
def test_nothing_in_a_condition_grows_and_it_says_what_to_write_instead(source: str) -> None:
    """What doubles a prompt a few dozen times would end the process of every tenant."""
    verdict = request_conditions(request_facts()).verdict(source)
    assert verdict is not None
    shown, fix = verdict
    assert shown.startswith("texts and lists cannot be joined\n")
    assert "exists, exists_one and all" in fix


def test_numbers_and_times_are_added() -> None:
    request_facts().compile("request.tokens + request.maxTokens > 1 && 1.5 + 1.0 > 2.0")
