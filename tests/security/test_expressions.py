"""Policies and callers that make conditions, patterns and admission take time or memory.

Whoever may write a RoutingPolicy has conditions run in the process that routes for everybody. More
of the same: tests/property/test_admission_trial.py (the operator's own time), tests/unit/v1alpha1.
"""

import contextlib
import resource
import subprocess
import sys
import time
from typing import Any

import pytest

from fakes.defences import off, without
from switchboard_policy import facts
from switchboard_policy.errors import ExpressionError
from switchboard_policy.facts import regex_fault, request_facts
from switchboard_policy.v1alpha1.parse import Parser

#: What a condition of the allowed length may take of the process, on a machine that is busy.
SOON_S = 5.0
ROOM_BYTES = 1024**3

PLAIN_CEL = "name: plain"


# --- conditions ----------------------------------------------------------------------------------

GROWING = {
    "text": "[request.model]" + ".map(a, a + a)" * 24 + '[0] == "x"',
    "list": "[[1, 2, 3, 4]]" + ".map(a, a + a)" * 24 + "[0].size() > 1",
    "filtered": "[[1, 2]]" + ".map(a, a + a)" * 24 + "[0].filter(a, a > 1).size() > 1",
    "joined": "request.prompt" + " + request.prompt" * 25 + ' == "x"',
}


@without(off(facts, "_WITHOUT_JOINING", PLAIN_CEL))
@pytest.mark.parametrize("source", GROWING)
def test_no_condition_makes_more_than_it_is_given(defended: bool, source: str) -> None:
    assert len(GROWING[source]) <= 1024
    try:
        request_facts().compile(GROWING[source])
        compiles = True
    except ExpressionError:
        compiles = False
    assert compiles is not defended


def test_what_grows_would_have_ended_the_process() -> None:
    """In a process of its own, without the defence, with room for a gigabyte."""
    program = f"""
import resource
resource.setrlimit(resource.RLIMIT_AS, ({ROOM_BYTES}, {ROOM_BYTES}))
from switchboard_policy import facts
facts._WITHOUT_JOINING = {PLAIN_CEL!r}
made = facts.request_facts()
made.compile({GROWING["list"]!r}).holds(made.bind({{}}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode != 0


SLOW = {
    "loops": "request.tags.all(a, request.tags.all(b, request.tags.all(c, a != b || b != c)))",
    "literal-loops": "[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, "
    "[1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, "
    "a + b + c + d + e > 0)))))",
    "backtracking": 'request.prompt.matches("(a+)+$") || request.prompt.matches("(a|aa)*b")',
    "alternatives": 'request.prompt.matches("(x+x+)+y|(.*.*)*z|(a?){20}a{20}b")',
    "search": 'request.prompt.contains("aaaaaaaaaaaaaaaaaaaaaaab")',
}


@pytest.mark.parametrize("source", SLOW)
def test_a_condition_ends_soon_whatever_the_caller_sends(source: str) -> None:
    """Loops end after 10,000 steps, and expressions are RE2's: the engine has no other form."""
    program = request_facts().compile(SLOW[source])
    tags = [f"t{number}" for number in range(32)]
    said = {"request.prompt": "a" * 1_000_000 + "!", "request.tags": tags}
    activation = request_facts().bind(said)
    began = time.thread_time()
    program.holds(activation)
    assert time.thread_time() - began < SOON_S


@pytest.mark.parametrize(
    "source",
    [
        "(" * 5_000 + "true" + ")" * 5_000,
        "!" * 1_001 + "true",
        "[" * 500 + "]" * 500 + " == []",
        " || ".join(["true"] * 200),
        "request.tags.all(a, " * 20 + "true" + ")" * 20,
        'request.prompt.matches("' + "(" * 400 + "a" + "{9}){9}" * 3 + ")" * 397 + '")',
        "a" * 1024,
        '"' + "\\\\" * 511,
    ],
)
def test_an_expression_is_compiled_or_refused_soon(source: str) -> None:
    began = time.thread_time()
    with contextlib.suppress(ExpressionError):
        request_facts().compile(source)
    assert time.thread_time() - began < SOON_S


@pytest.mark.parametrize("pattern", ["((a{100}){100}){100}", "(?:a{1000}){1000}", "\\pN{1000}{10}"])
def test_a_pattern_that_is_large_when_it_is_built_is_refused(pattern: str) -> None:
    assert regex_fault(pattern)


# --- what a policy may hold ----------------------------------------------------------------------


def spec(**of_rule: Any) -> dict[str, Any]:
    rule = {"name": "r", "route": {"tiers": [{"name": "t", "backends": [{"name": "b"}]}]}}
    return {"spec": {"models": ["m"], "rules": [{**rule, **of_rule}]}}


TOO_MUCH = {
    "condition": spec(when=" " * 1024 + "true"),
    "keywords": spec(match={"keywords": [f"w{number}" for number in range(33)]}),
    "keyword": spec(match={"keywords": ["w" * 65]}),
    "phrases": spec(match={"systemPrompt": {"contains": [f"w{number}" for number in range(17)]}}),
    "headers": spec(match={"headers": [{"name": f"x-{number}"} for number in range(17)]}),
    "tags": spec(match={"tags": [f"t{number}" for number in range(17)]}),
    "rules": {
        "spec": {
            "models": ["m"],
            "rules": [
                {**spec()["spec"]["rules"][0], "name": f"r{number}"} for number in range(1_000)
            ],
        }
    },
    "models": {"spec": {**spec()["spec"], "models": [f"m{number}" for number in range(1_000)]}},
}


@pytest.mark.parametrize("much", TOO_MUCH)
def test_a_policy_has_bounds_that_are_told(much: str) -> None:
    began = time.thread_time()
    parsed = Parser().parse_policy(TOO_MUCH[much])
    assert (parsed.spec, bool(parsed.problems)) == (None, True)
    assert time.thread_time() - began < SOON_S


@pytest.mark.parametrize(
    "bomb",
    [
        {"spec": {"models": ["m"], "rules": [[[[[[[[[[]]]]]]]]]]}},
        {"spec": {"models": ["m"] * 100_000}},
        {"spec": {"x" * 1_000_000: 1}},
        {"spec": dict.fromkeys([f"k{number}" for number in range(20_000)], 1)},
        {"spec": {"models": ["*" * 100_000]}},
        spec(when="(" * 1_000),
        spec(match={"keywords": ["\u0130" * 64] * 32}),
    ],
)
def test_an_object_that_is_a_bomb_is_judged_soon(bomb: dict[str, Any]) -> None:
    began = time.thread_time()
    assert Parser().parse_policy(bomb).spec is None
    assert time.thread_time() - began < SOON_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 * ROOM_BYTES // 1024
