"""What a cascade asks of an answer, as far as rules can tell."""

import math
from typing import Any

import pytest

from fakes.policies import backend, keyed, keyring, policy, rule, snapshot, tier
from switchboard_dataplane.decision.running import Rule, Snapshot
from switchboard_dataplane.judging.answers import Said
from switchboard_dataplane.judging.checks import failing_check
from switchboard_dataplane.judging.confidence import confidence_of
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_policy import ir

SCHEMA = '{"type":"object","required":["city"],"properties":{"city":{"type":"string"}}}'


def cascade(**accept: Any) -> tuple[Rule, Snapshot]:
    spec = rule("r", tier("small", "s"), tier("large", "l"), cascade=ir.Cascade(**accept))
    made = snapshot(backend("s"), backend("l"), policy("p", spec))
    return made.policies["ai/p"].rules[0], made


def test_the_mean_probability_is_geometric() -> None:
    assert confidence_of([math.log(0.5), math.log(0.5)]) == pytest.approx(0.5)
    assert confidence_of([math.log(0.9), math.log(0.1)]) == pytest.approx(0.3)
    assert confidence_of([0.0]) == 1.0
    assert confidence_of(None) == confidence_of([]) == 0.0


@pytest.mark.parametrize(
    ("logprobs", "why"),
    [
        (None, "no_logprobs"),
        ((math.log(0.69),), "low_confidence"),
        ((math.log(0.71),), ""),
    ],
)
def test_confidence(logprobs: tuple[float, ...] | None, why: str) -> None:
    checked, made = cascade(confidence_permille=700)
    assert failing_check(checked, made, Said("x", logprobs=logprobs)) == why


@pytest.mark.parametrize(
    ("accept", "text", "why"),
    [
        ({"regex": r"^\d+$"}, "42", ""),
        ({"regex": r"^\d+$"}, "forty two", "regex"),
        ({"when": "!answer.refused && answer.length > 3"}, "Four.", ""),
        ({"when": "!answer.refused && answer.length > 3"}, "4", "condition"),
        ({"when": "answer.length > 3", "regex": "a"}, "bbbb", "condition"),
        ({"when": "answer.text.size() / (answer.length - 1) > 0"}, "4", "condition_error"),
        ({"json_schema": SCHEMA}, '{"city":"Bern"}', ""),
        ({"json_schema": SCHEMA}, '{"city":7}', "schema"),
        ({"json_schema": SCHEMA}, "Bern", "not_json"),
    ],
)
def test_conditions_and_schemas(accept: dict[str, Any], text: str, why: str) -> None:
    checked, made = cascade(**accept)
    assert failing_check(checked, made, Said(text)) == why


def test_all_checks_must_pass_and_the_first_that_fails_is_named() -> None:
    checked, made = cascade(confidence_permille=500, when="answer.length < 99", json_schema=SCHEMA)
    assert failing_check(checked, made, Said('{"city":"Bern"}', logprobs=(-0.1,))) == ""
    assert failing_check(checked, made, Said('{"city":7}', logprobs=(-0.1,))) == "schema"
    assert failing_check(checked, made, Said("x" * 99, logprobs=(-0.1,))) == "condition"
    assert failing_check(checked, made, Said("x" * 99, logprobs=(-9.0,))) == "low_confidence"


def test_a_cascade_that_asks_only_models_leaves_nothing_to_rules() -> None:
    checked, made = cascade(agreement="ai/l")
    assert failing_check(checked, made, Said("")) == ""


def test_a_rule_without_a_cascade_passes_everything() -> None:
    made = snapshot(backend("s"), policy("p", rule("r", tier("only", "s"))))
    assert failing_check(made.policies["ai/p"].rules[0], made, Said("")) == ""


def test_a_policy_with_a_schema_that_is_none_is_refused_by_name() -> None:
    bad = ir.Cascade(json_schema='{"$ref":"http://127.0.0.1/schema.json"}')
    entry = policy("p", rule("r", tier("small", "s"), tier("large", "l"), cascade=bad))
    builder = SnapshotBuilder(keyring(), zone="")
    _, refused = builder.apply(keyed([backend("s"), backend("l"), entry]), (), revision="1-1")
    assert list(refused) == ["policy/ai/p"]
    assert "only a place in the same schema" in refused["policy/ai/p"]
