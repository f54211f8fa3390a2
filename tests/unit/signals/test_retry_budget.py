"""Repeats are a share of the requests, with a floor, whatever the hour."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard_dataplane.signals.retry_budget import RetryBudget, RetryBudgets

FIFTH = 200


def run(budget: RetryBudget, *, per_s: int, seconds: int, permille: int = FIFTH) -> int:
    """Let that many requests a second come, each wanting a repeat; return the repeats allowed."""
    allowed = 0
    for number in range(per_s * seconds):
        now = 500.0 + number / per_s
        budget.count_request(now)
        allowed += budget.allow_repeat(now, permille=permille)
    return allowed


def test_a_fifth_of_many_requests_is_repeated() -> None:
    assert run(RetryBudget(), per_s=1_000, seconds=60) == pytest.approx(12_000, rel=0.02)


def test_ten_a_second_are_repeated_in_any_case() -> None:
    assert run(RetryBudget(), per_s=20, seconds=60) == pytest.approx(600, rel=0.03)


def test_few_requests_are_all_repeated() -> None:
    assert run(RetryBudget(), per_s=5, seconds=60) == 300


def test_the_floor_does_not_come_on_top() -> None:
    assert run(RetryBudget(), per_s=100, seconds=60) == pytest.approx(1_200, rel=0.03)


def test_none_means_none() -> None:
    assert run(RetryBudget(), per_s=100, seconds=5, permille=0) == 0


def test_the_requests_of_a_minute_ago_allow_nothing() -> None:
    budget = RetryBudget()
    for _ in range(10_000):
        budget.count_request(100.0)
    assert sum(budget.allow_repeat(160.0, permille=FIFTH) for _ in range(100)) == 10


@given(
    st.lists(
        st.tuples(st.floats(0, 30), st.booleans(), st.sampled_from([0, 200, 1_000])), max_size=200
    )
)
def test_never_more_than_the_share_and_the_floor(
    steps: list[tuple[float, bool, int]],
) -> None:
    budget, now, repeats, requests = RetryBudget(), 0.0, 0, 0
    for later, repeat, permille in steps:
        now += later
        if repeat:
            repeats += budget.allow_repeat(now, permille=permille)
        else:
            budget.count_request(now)
            requests += 1
    assert repeats <= requests + 10 * (now + 1) + 1


def test_budgets_of_policies_that_are_gone_are_forgotten() -> None:
    budgets = RetryBudgets()
    kept = budgets["ai/one"]
    budgets["ai/two"].count_request(0.0)
    budgets.keep_only({"ai/one", "ai/three"})
    assert {**budgets} == {"ai/one": kept}
