"""Conditions that could not even be told of short texts are refused, with the field and the fix."""

from typing import Any

import pytest

from switchboard_policy.v1alpha1.parse import Parser, Problem

ENDLESS = "[^x]{0,1000}[^x]{0,1000}x"
TOO_LONG = "ms on texts of 8192 characters, and all conditions of a request have 100 ms"
FEWER = "write fewer or shorter loops, and patterns with fewer repetitions such as {n,m}"
NO_BOUND = "nothing bounds its time: a pattern, or a piece that is looked for, is a text of the"
WRITE_IT = "write the pattern or the piece into the condition"


def problems(when: str = "true", rail: str = "true", accept: Any = None) -> tuple[Problem, ...]:
    tiers = [{"name": name, "backends": [{"name": name}]} for name in ("s", "l")]
    route: dict[str, Any] = {"tiers": tiers}
    if accept is not None:
        route["cascade"] = {"accept": accept}
    rules = [{"name": "r", "when": when, "route": route}, {"name": "d", "route": {"tiers": tiers}}]
    guardrails = [{"name": "g", "when": rail, "require": "true"}]
    spec = {"models": ["m"], "rules": rules, "guardrails": guardrails}
    return Parser().parse_policy({"spec": spec}).problems


@pytest.mark.parametrize(
    ("fields", "field", "message", "fix"),
    [
        (
            {"when": f'request.prompt.matches("{ENDLESS}")'},
            "spec.rules[0].when",
            TOO_LONG,
            FEWER,
        ),
        (
            {"rail": "request.tags.all(a, request.tags.all(b, request.prompt.contains(a)))"},
            "spec.guardrails[0].when",
            TOO_LONG,
            FEWER,
        ),
        (
            {"when": "request.prompt.contains(request.system)"},
            "spec.rules[0].when",
            NO_BOUND,
            WRITE_IT,
        ),
        (
            {"rail": "request.system.matches(request.user)"},
            "spec.guardrails[0].when",
            NO_BOUND,
            WRITE_IT,
        ),
        (
            {"accept": {"regex": ENDLESS}},
            "spec.rules[0].route.cascade.accept.regex",
            TOO_LONG,
            FEWER,
        ),
        (
            {"accept": {"when": f'answer.text.matches("{ENDLESS}")'}},
            "spec.rules[0].route.cascade.accept.when",
            TOO_LONG,
            FEWER,
        ),
    ],
)
def test_what_costs_too_much_is_refused(
    fields: dict[str, Any], field: str, message: str, fix: str
) -> None:
    found = problems(**fields)
    assert [(one.field, one.fix, one.reason) for one in found] == [
        (field, fix, "InvalidExpression")
    ]
    assert message in found[0].message


@pytest.mark.parametrize(
    "source",
    [
        'request.prompt.matches("(?i)patient|diagnosis") || request.system.contains("medical")',
        'request.prompt.matches("[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")',
        'request.prompt.matches("[a-z0-9._%+-]+@[a-z0-9.-]+")',
        "request.tags.exists(t, request.prompt.contains(t))",
        'request.headers.exists(h, h.startsWith("x-")) && request.metadata.get("a") == "b"',
        " || ".join(f'request.prompt.contains("word{number}")' for number in range(20)),
    ],
)
def test_what_people_write_is_not(source: str) -> None:
    assert problems(when=source, rail=source) == ()
