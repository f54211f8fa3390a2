"""Whether an answer passes what a cascade asks of it, as far as rules can tell."""

from typing import Final

from switchboard_dataplane.decision.running import Rule, Snapshot
from switchboard_dataplane.judging.answers import Said, answer_facts_of
from switchboard_dataplane.judging.confidence import confidence_of
from switchboard_policy import ir
from switchboard_policy.costs.cost import BUDGET_NS, size_of
from switchboard_policy.schemas import compile_schema

#: What becomes of an answer that passes all checks.
ACCEPTED: Final = "accepted"
#: The answer passes.
PASSED: Final = ""
#: What fails, in the words of metrics and of ``x-switchboard-reason``.
NO_LOGPROBS: Final = "no_logprobs"
LOW_CONFIDENCE: Final = "low_confidence"
REGEX: Final = "regex"
CONDITION: Final = "condition"
CONDITION_ERROR: Final = "condition_error"
NOT_JSON: Final = "not_json"
#: It is longer than the condition, or the schema, can be told of in the time that there is.
TOO_LONG: Final = "too_long"
SCHEMA: Final = "schema"
LOW_SCORE: Final = "low_score"
DISAGREEMENT: Final = "disagreement"

#: What is wrong with an answer itself; other words say that it could not be told, or did not come.
FAILED: Final = frozenset(
    {LOW_CONFIDENCE, REGEX, CONDITION, NOT_JSON, SCHEMA, LOW_SCORE, DISAGREEMENT}
)


def failing_check(rule: Rule, snapshot: Snapshot, said: Said) -> str:
    """Return "" for an answer that passes a rule's cascade, else a word for the first that fails.

    Confidence, regex, condition and schema are checked, all of them on the text: agreement and
    judges take other models. What cannot be told counts as not passed. A rule without a cascade
    passes everything.
    """
    cascade = None if rule.spec is None else rule.spec.cascade
    if cascade is None:
        return PASSED
    return (
        _failing_confidence(cascade, said)
        or _failing_condition(rule, cascade, snapshot, said)
        or _failing_schema(cascade, said)
    )


def _failing_confidence(cascade: ir.Cascade, said: Said) -> str:
    if cascade.confidence_permille is None:
        return PASSED
    if said.logprobs is None:
        return NO_LOGPROBS
    enough = confidence_of(said.logprobs) * 1_000 >= cascade.confidence_permille
    return PASSED if enough else LOW_CONFIDENCE


def _failing_condition(rule: Rule, cascade: ir.Cascade, snapshot: Snapshot, said: Said) -> str:
    if rule.accepts is None:
        return PASSED
    facts = answer_facts_of(said)
    cost = rule.accepts.cost
    if cost.ns + sum(ns * size_of(facts[fact]) for fact, ns in cost.per_char) > BUDGET_NS:
        return TOO_LONG
    holds = rule.accepts.holds(snapshot.answer_facts.bind(facts))
    if holds is None:
        return CONDITION_ERROR
    if holds:
        return PASSED
    # The two are one program: which of them it was is only known where there is just one.
    return CONDITION if cascade.when else REGEX


def _failing_schema(cascade: ir.Cascade, said: Said) -> str:
    if not cascade.json_schema:
        return PASSED
    if said.json_value is None:
        return NOT_JSON
    schema = compile_schema(cascade.json_schema)
    if schema.ns * size_of(said.text) > BUDGET_NS:
        return TOO_LONG
    return PASSED if schema.holds(said.json_value[0]) else SCHEMA
