"""An export by policies and arms: who is counted where, and by what."""

from collections.abc import Iterable
from datetime import timedelta
from math import isnan
from typing import Any

import pytest

from fakes.decisions import BEGAN, decision, line, rating
from switchboard_cli.report.tables import NothingToReport, PolicyReport, report
from switchboard_dataplane.learning.decisions import Rated, rated


def only(lines: Iterable[Rated], **fields: Any) -> PolicyReport:
    (found,) = report(lines, resamples=20, **fields)
    return found


def figures(*lines: Rated, **fields: Any) -> dict[str, float]:
    """The known figures of the only arm of these requests."""
    (row,) = only(lines, **fields).arms
    return {name: one.value for name, one in row.estimates.items() if not isnan(one.value)}


def test_arms_and_policies_are_told_apart() -> None:
    lines = [line(number, arm="control" if number % 3 else "cheap") for number in range(30)]
    lines += [line(90, policy="ai/other")]
    chat, other = report(lines, resamples=20)
    assert [(row.arm, row.decisions) for row in chat.arms] == [("cheap", 10), ("control", 20)]
    assert (chat.decisions, chat.policy, other.policy) == (30, "ai/chat", "ai/other")
    assert (chat.first, chat.last) == (BEGAN, BEGAN + timedelta(seconds=29))
    assert [one.arm for one in chat.comparisons] == ["cheap"]
    assert other.comparisons == []
    assert only(lines, policy="ai/other").decisions == 1


def test_callers_are_sessions_and_who_names_none_is_one_for_each_request() -> None:
    lines = [line(number, session=f"s{number % 4}") for number in range(12)]
    lines += [line(number) for number in range(20, 23)]
    (row,) = only(lines).arms
    assert (row.decisions, row.callers) == (15, 4 + 3)


def test_quality_is_what_callers_and_judges_say_the_caller_first() -> None:
    lines = [
        line(1, (1.0, "feedback"), (0.0, "judge")),
        line(2, (0.5, "judge")),
        line(3, (0.0, "feedback"), (1.0, "feedback")),
        line(4),
    ]
    found = only(lines)
    assert found.arms[0].rated == 3
    assert found.arms[0].estimates["quality"].value == pytest.approx(2.5 / 3)
    assert found.sources == {"feedback": 2, "judge": 2}
    assert figures(*lines, rated_by=["judge"])["quality"] == pytest.approx(0.25)


def test_what_merely_came_of_an_answer_is_no_quality() -> None:
    asked = line(1, (0.0, "regeneration"), session="s")
    failed = line(2, (0.0, "error"), status=502, error="upstream_error")
    assert "quality" not in figures(asked, failed)
    assert figures(asked, failed, rated_by=["regeneration"])["quality"] == 0.0


def test_a_rating_of_another_than_who_answered_is_left_out() -> None:
    made = decision(1)
    others = [rating(made, 0.0, "judge", tier="weak"), rating(made, 0.0, backend="ai/mirror")]
    assert "quality" not in figures(rated(made, others))


def test_asked_again_is_of_those_who_would_be_known_again() -> None:
    lines = [
        line(1, (0.0, "regeneration"), session="s"),
        line(2, session="s"),
        line(3),
        line(4, session="t", status=502, error="upstream_error"),
    ]
    assert figures(*lines)["asked_again"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"status": 200}, 0.0),
        ({"status": 502, "error": "upstream_error"}, 1.0),
        ({"status": 429, "error": "upstream_rate_limited"}, 1.0),
        # A stream that broke after its first content.
        ({"status": 200, "error": "upstream_reset"}, 1.0),
        ({"status": 400, "error": "context_length_exceeded"}, None),
        ({"status": 400}, None),
        ({"status": 0}, None),
    ],
)
def test_an_error_is_what_the_caller_is_not_to_blame_for(
    fields: dict[str, Any], expected: float | None
) -> None:
    assert figures(line(1, **fields)).get("errors") == expected


def test_times_are_those_of_answers() -> None:
    lines = [
        line(1, duration_s=2.0, ttft_s=0.5),
        line(2, duration_s=90.0, ttft_s=0.1, error="upstream_reset"),
        line(3, duration_s=0.1, status=400),
    ]
    found = figures(*lines)
    assert (found["p50"], found["p95"], found["first_token"]) == (2.0, 2.0, 0.5)


def test_a_request_without_a_price_has_no_cost() -> None:
    assert figures(line(1), line(2, cost_microdollars=None))["cost"] == 100.0
    assert "cost" not in figures(line(1, cost_microdollars=None))


@pytest.mark.parametrize("by", ["rule", "tier", "backend", "task"])
def test_an_arms_requests_are_told_apart_by_what_is_asked_for(by: str) -> None:
    lines = [line(number, arm="a", **{by: "one" if number else "two"}) for number in range(3)]
    found = only(lines, by=by)
    assert [(row.arm, row.part, row.decisions) for row in found.parts] == [
        ("a", "one", 2),
        ("a", "two", 1),
    ]
    assert only(lines).parts == []


def test_the_baseline_is_control_or_else_the_arm_of_most_requests_or_the_one_that_is_named() -> (
    None
):
    def baselines(*arms: str, **fields: Any) -> set[str]:
        lines = [line(number, arm=arm) for number, arm in enumerate(arms)]
        return {one.baseline for one in only(lines, **fields).comparisons}

    assert baselines("big", "big", "control") == {"control"}
    assert baselines("big", "big", "small") == {"big"}
    assert baselines("big", "big", "small", baseline="small") == {"small"}


def test_requests_of_no_arm_are_told_and_not_compared() -> None:
    lines = [line(1), line(2, arm="control"), line(3, arm="cheap")]
    found = only(lines)
    assert [row.arm for row in found.arms] == ["", "cheap", "control"]
    assert [(one.arm, one.baseline) for one in found.comparisons] == [("cheap", "control")]


def test_what_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(NothingToReport, match="no decisions"):
        report([])
    with pytest.raises(NothingToReport, match="no decision of ai/none"):
        report([line(1)], policy="ai/none")
    with pytest.raises(NothingToReport, match="no decision on the arm cheep"):
        report([line(1, arm="cheap")], baseline="cheep")
