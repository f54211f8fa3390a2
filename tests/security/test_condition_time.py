"""Policies and callers that hold a data plane up by conditions: what one turn takes is bounded.

Whoever may write a policy may call its models too, so both sides of a condition are the attacker's.
What is measured is the time of the processor alone: others may be busy.
More of the same: tests/unit/costs, tests/property/test_costs.py.
"""

import time
from random import Random
from typing import Any

import orjson
import pytest

from fakes.defences import off, without
from fakes.policies import backend, policy, rule, snapshot, tier, view
from switchboard_dataplane.decision import match
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.verdict import Decision
from switchboard_dataplane.judging import checks
from switchboard_dataplane.judging.answers import Said
from switchboard_dataplane.judging.checks import failing_check
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir

#: Four times what all conditions of a decision have, and a fifth of what each attack takes.
SOON_S = 0.2
NO_BOUND = 10**30

RULES = 64
TAGS = tuple(f"t{number}" for number in range(32))
EITHER = "".join(Random(1).choices("ab", k=250_000))
SAME = "a" * 300_000


def body(prompt: str = "", system: str = "", **fields: Any) -> dict[str, Any]:
    said = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    return {"messages": said, **fields}


def when(*sources: str) -> list[ir.Rule]:
    return [rule(f"r{number}", tier("t", "us"), when=one) for number, one in enumerate(sources)]


def matching(match: ir.Match) -> list[ir.Rule]:
    return [rule(f"r{number}", tier("t", "us"), match=match) for number in range(RULES)]


def almost(number: int, chars: int) -> str:
    """Another text each time, which a text of one letter nearly contains everywhere."""
    return "a" * (chars // 2) + "b" * (1 + number % 2) + "a" * (chars // 2 - 1 - number)


ATTACKS: dict[str, tuple[list[ir.Rule], dict[str, Any]]] = {
    "pattern": (when('request.prompt.matches("a.{900}x")'), body(EITHER)),
    "pattern-of-the-caller": (
        when("request.prompt.matches(request.user)"),
        body(EITHER, user="a.{900}x"),
    ),
    "text-in-text": (
        when("request.prompt.contains(request.system)"),
        body("a" * 600_000, "a" * 300_000 + "b"),
    ),
    "loops": (
        when(
            "request.tags.all(a, request.tags.all(b, "
            f'!request.prompt.contains("{"a" * 60}b") && a != "" && b != ""))'
        ),
        body(SAME),
    ),
    "many-conditions": (
        when(*[f'request.prompt.contains("{"a" * 900}b{number}")' for number in range(RULES)]),
        body(SAME * 4),
    ),
    "keywords": (
        matching(ir.Match(keywords=tuple(almost(number, 64) for number in range(20)))),
        body(SAME * 2),
    ),
    "whole-words": (
        matching(ir.Match(keywords=tuple("ab" * number for number in range(1, 20)))),
        body("ab" * 100_000),
    ),
    "phrases": (
        matching(ir.Match(system_prompt=tuple(almost(number, 256) for number in range(16)))),
        body("", SAME * 2),
    ),
    "metadata": (
        when(" && ".join(['request.metadata.get("a") == ""'] * 30)),
        body("hi", metadata={f"k{number}": "v" for number in range(100_000)}),
    ),
}


@without(off(match, "BUDGET_NS", NO_BOUND))
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_decision_takes_a_bounded_time(defended: bool, attack: str) -> None:
    rules, payload = ATTACKS[attack]
    running = snapshot(backend("us"), policy("p", *rules, rule("rest", tier("t", "us"))))
    asked = view(
        payload=payload,
        tags=TAGS,
        user=payload.get("user", ""),
        metadata=payload.get("metadata", {}),
    )
    began = time.thread_time()
    decided = decide(running, asked, SignalTable(), now=0.0, rng=Random(1))
    took_s = time.thread_time() - began
    assert isinstance(decided, Decision)
    assert (took_s < SOON_S) is defended
    assert (decided.plan.expression_errors > 0) is defended


ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    "regex": ({"regex": "a.{900}x"}, EITHER),
    "condition": ({"when": 'answer.text.matches("a.{900}x|b.{900}y")'}, EITHER),
    "enum": (
        {"json_schema": {"items": {"enum": [[number] for number in range(5_000)]}}},
        orjson.dumps([[4_999]] * 2_000).decode(),
    ),
    "multiples": (
        {"json_schema": {"items": {"allOf": [{"multipleOf": 0.1}] * 500}}},
        orjson.dumps([1.1] * 3_000).decode(),
    ),
    "unique": (
        {"json_schema": {"items": {"allOf": [{"uniqueItems": True}] * 1_000}}},
        orjson.dumps([list(range(9))] * 600).decode(),
    ),
}


@without(off(checks, "BUDGET_NS", NO_BOUND))
@pytest.mark.parametrize("attack", ANSWERS)
def test_an_answer_is_checked_in_a_bounded_time(defended: bool, attack: str) -> None:
    accept, text = ANSWERS[attack]
    schema = accept.get("json_schema")
    if schema is not None:
        accept = {**accept, "json_schema": orjson.dumps(schema).decode()}
    cascade = ir.Cascade(**accept)
    spec = rule("r", tier("small", "us"), tier("large", "us"), cascade=cascade)
    running = snapshot(backend("us"), policy("p", spec))
    began = time.thread_time()
    why = failing_check(running.policies["ai/p"].rules[0], running, Said(text))
    took_s = time.thread_time() - began
    assert (took_s < SOON_S) is (why == "too_long") is defended


@pytest.mark.parametrize(
    "before",
    [
        [],
        # Its own guardrails use up what there is, before the platform's are asked.
        [f'request.prompt.contains("{"a" * 99}{number}")' for number in range(15)],
    ],
    ids=["alone", "after-others"],
)
def test_no_padding_gets_round_a_guardrail(before: list[str]) -> None:
    """What cannot be told of a prompt counts as true in a guardrail, as every failure does."""
    rails = [ir.Guardrail(f"own-{at}", "ai/p", (), one) for at, one in enumerate(before)]
    eu_only = ir.Guardrail(
        "eu-only", "platform/p", forbids=("ai/us",), when='request.prompt.contains("patient")'
    )
    spec = policy("p", rule("r", tier("t", "us", "eu")), guardrails=(*rails, eu_only))
    running = snapshot(backend("us"), backend("eu"), spec)
    for text in ("patient", "patient" + "a" * 8_000_000, "a" * 8_000_000):
        decided = decide(running, view(text), SignalTable(), now=0.0, rng=Random(1))
        assert isinstance(decided, Decision)
        assert "eu-only" in decided.plan.guardrails
        assert decided.candidate.endpoint.backend.name == "ai/eu"
