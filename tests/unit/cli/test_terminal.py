"""The line of a request in `switchboard dev`."""

from fakes.outcomes import outcome
from switchboard_cli.terminal import describe
from switchboard_dataplane.telemetry.outcome import Aside


def test_a_line_names_the_arm_and_the_guardrails_where_there_are_any() -> None:
    assert describe(outcome()).endswith("-")
    assert describe(outcome(arm="cheap")).endswith("  arm cheap")
    said = describe(outcome(arm="cheap", guardrails=("private",)))
    assert said.endswith("  arm cheap, guardrail private")


def test_a_line_says_what_a_cascade_made_of_it_and_what_all_of_it_cost() -> None:
    judge = Aside("judge", "ai/judge", "", 0.1)
    judge.cost_microdollars = 2.0
    judged = (("small", "low_score"), ("large", "unjudged"))
    said = describe(outcome(cost_microdollars=1.0, asides=(judge,), judged=judged))
    assert "$0.000003" in said
    assert said.endswith("  small low_score, large unjudged")
    assert describe(outcome(ensemble="vote")).endswith("  ensemble vote")
