"""parse: a spec or problems, with the field, the value and the fix."""

import copy
from typing import Any

import pytest

from switchboard_policy.v1alpha1.conditions import Reason
from switchboard_policy.v1alpha1.parse import Parser, Problem
from switchboard_policy.v1alpha1.problems import PROBLEMS_MAX

ROUTE = {"tiers": [{"name": "main", "backends": [{"name": "llama-8b"}]}]}
POLICY: dict[str, Any] = {
    "spec": {"models": ["chat"], "rules": [{"name": "default", "route": ROUTE}]}
}
BACKEND: dict[str, Any] = {
    "spec": {"model": "llama-8b", "service": {"name": "vllm", "port": "http"}}
}


@pytest.fixture(scope="module")
def parser() -> Parser:
    return Parser()


def policy(**spec: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(POLICY)
    manifest["spec"].update(spec)
    return manifest


def with_rule(**rule: Any) -> dict[str, Any]:
    default = POLICY["spec"]["rules"][0]
    return policy(rules=[{"name": "first", "route": ROUTE, **rule}, default])


def only(problems: tuple[Problem, ...]) -> Problem:
    (problem,) = problems
    return problem


def test_a_valid_backend_has_its_defaults(parser: Parser) -> None:
    parsed = parser.parse_backend(BACKEND)
    assert parsed.problems == ()
    assert parsed.spec is not None
    assert parsed.spec.service is not None
    assert parsed.spec.service.path == "/v1"
    assert parsed.spec.timeouts.connect == "2s"
    assert parsed.spec.allowed_namespaces.from_ == "Same"


def test_there_is_a_spec_exactly_if_there_are_no_problems(parser: Parser) -> None:
    for manifest in (POLICY, policy(models=["a*b"]), with_rule(when="nonsense"), {}, {"spec": 1}):
        parsed = parser.parse_policy(manifest)
        assert (parsed.spec is None) == bool(parsed.problems)


def test_a_null_is_a_field_that_is_not_there(parser: Parser) -> None:
    assert parser.parse_policy(policy(guardrails=None, resilience={"attempts": None})).spec
    problem = only(parser.parse_policy(policy(models=[None])).problems)
    assert problem.field == "spec.models[0]"


def test_an_integral_number_is_an_integer_however_it_is_written(parser: Parser) -> None:
    spec = parser.parse_policy(policy(priority=5.0)).spec
    assert spec is not None
    assert spec.priority == 5


def test_python_names_are_no_fields_of_a_manifest(parser: Parser) -> None:
    manifest = {"spec": {**BACKEND["spec"], "allowed_namespaces": {"from": "All"}}}
    problem = only(parser.parse_backend(manifest).problems)
    assert problem.field == "spec.allowed_namespaces"
    assert problem.fix == "write allowedNamespaces"


def test_a_broken_rule_names_field_value_and_fix(parser: Parser) -> None:
    problem = only(parser.parse_policy(policy(models=["chat", "gpt*4"])).problems)
    assert problem.field == "spec.models[1]"
    assert problem.value == '"gpt*4"'
    assert "gpt*4" in problem.message
    assert "one *" in problem.fix
    assert str(problem) == f"{problem.field}: {problem.message}: {problem.fix}"


def test_an_expression_that_does_not_compile_has_a_caret_under_the_place(parser: Parser) -> None:
    source = "request.stream && request.tokns > 1000"
    problem = only(parser.parse_policy(with_rule(when=source)).problems)
    assert problem.reason is Reason.INVALID_EXPRESSION
    assert problem.field == "spec.rules[0].when"
    assert problem.fix == "write request.tokens"
    _, line, caret = problem.message.split("\n")
    assert line == f"  {source}"
    assert caret.index("^") - 2 == source.index("request.tokns")


def test_the_caret_of_a_long_line_stays_in_view(parser: Parser) -> None:
    source = "request.stream || " * 40 + "request.oops"
    problem = only(parser.parse_policy(with_rule(when=source)).problems)
    _, line, caret = problem.message.split("\n")
    assert line[caret.index("^") :].startswith("request.oops")
    assert len(line) < 100


def test_the_caret_of_a_block_stands_under_its_line(parser: Parser) -> None:
    problem = only(parser.parse_policy(with_rule(when="request.stream &&\n  oops\n")).problems)
    assert problem.message.split("\n")[1:] == ["    oops", "    ^"]


def test_facts_of_the_other_side_are_explained(parser: Parser) -> None:
    guardrail = {"name": "eu", "when": "backend.external", "require": "request.stream"}
    found = parser.parse_policy(policy(guardrails=[guardrail])).problems
    assert [problem.field for problem in found] == [
        "spec.guardrails[0].when",
        "spec.guardrails[0].require",
    ]
    assert {problem.fix for problem in found} == {
        "when of a rule or guardrail reads request.* and signals.*, when of a cascade answer.*, "
        "and require backend.*"
    }


def test_all_problems_of_an_object_are_told_at_once(parser: Parser) -> None:
    spec = {"model": "m", "service": {"name": "a", "port": 0}, "timeouts": {"total": "2h"}}
    fields = {problem.field for problem in parser.parse_backend({"spec": spec}).problems}
    assert fields == {"spec.service.port", "spec.timeouts.total"}


def test_problems_beyond_a_screen_are_counted(parser: Parser) -> None:
    unknown = {f"field-{number}": 1 for number in range(100)}
    found = parser.parse_policy(policy(**unknown)).problems
    assert len(found) == PROBLEMS_MAX
    assert found[-1].message == f"{100 - PROBLEMS_MAX + 1} more problems"


def test_what_may_be_a_secret_is_never_repeated(parser: Parser) -> None:
    secret = "sk-very-secret"
    places: list[dict[str, Any]] = [
        {"credentials": {"apiKey": secret}},
        {"credentials": {"apiKey": {"secretName": secret.upper()}}},
        {"service": None, "external": {"provider": "openai", "url": f"https://me:{secret}@h/v1"}},
        {"service": None, "external": {"provider": "openai", "url": f"https://h/v1?key={secret}"}},
    ]
    for place in places:
        problems = parser.parse_backend({"spec": {**BACKEND["spec"], **place}}).problems
        assert problems
        assert secret not in repr(problems).lower()


def test_what_is_not_there_has_no_value(parser: Parser) -> None:
    problem = only(parser.parse_backend({"spec": {"model": "m"}}).problems)
    assert problem.value == ""
    assert problem.field == "spec"


@pytest.mark.parametrize("manifest", [None, 1, "text", [], {}, {"spec": None}, {"spec": []}])
def test_no_manifest_is_too_strange(parser: Parser, manifest: object) -> None:
    assert parser.parse_policy(manifest).problems
    assert parser.parse_backend(manifest).problems


def test_depth_does_not_matter(parser: Parser) -> None:
    deep: Any = "end"
    for _ in range(100_000):
        deep = [deep]
    assert parser.parse_policy({"spec": {"models": deep}}).problems
    assert parser.parse_policy({"spec": {"x": deep}}).problems
