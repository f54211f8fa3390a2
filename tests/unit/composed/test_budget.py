"""What may be spent in an hour is never exceeded by what is foreseen, and given back when it is not
spent."""

from switchboard_dataplane.composed.budget import BUDGETS_MAX, HourBudget, HourBudgets


def test_what_fits_into_the_hour_is_taken_and_no_more() -> None:
    budget = HourBudget()
    assert [budget.take(40.0, 100.0, float(second)) for second in range(4)] == [
        True,
        True,
        False,
        False,
    ]
    assert budget.spent(4.0) == 80.0


def test_what_was_foreseen_is_put_right() -> None:
    budget = HourBudget()
    assert budget.take(90.0, 100.0, 0.0)
    budget.correct(90.0, 10.0, 5.0)
    assert budget.spent(5.0) == 10.0
    assert budget.take(90.0, 100.0, 6.0)
    assert not budget.take(1.0, 100.0, 7.0)


def test_an_hour_later_it_is_forgotten() -> None:
    budget = HourBudget()
    assert budget.take(60.0, 100.0, 0.0)
    assert budget.take(40.0, 100.0, 1_800.0)
    assert not budget.take(60.0, 100.0, 3_599.0)
    assert budget.take(60.0, 100.0, 3_600.0)
    assert budget.spent(3_600.0) == 100.0


def test_a_late_correction_makes_no_debt_and_no_credit() -> None:
    budget = HourBudget()
    assert budget.take(100.0, 100.0, 0.0)
    # Its minute is forgotten before what it came to is known.
    budget.correct(100.0, 0.0, 3_700.0)
    assert budget.spent(3_700.0) == 0.0
    assert budget.take(100.0, 100.0, 3_701.0)
    assert not budget.take(1.0, 100.0, 3_702.0)


def test_an_hour_of_many_requests_is_kept_in_few_sums() -> None:
    budget = HourBudget()
    for second in range(7_200):
        budget.take(1.0, 1e9, float(second))
    assert len(budget._slots) <= 61


def test_budgets_of_policies_that_are_gone_do_not_add_up() -> None:
    budgets = HourBudgets()
    for number in range(BUDGETS_MAX + 5):
        assert budgets[str(number)].take(1.0, 1.0, 0.0)
    assert len(budgets) <= BUDGETS_MAX
    assert not budgets[str(BUDGETS_MAX + 4)].take(1.0, 1.0, 0.0)
