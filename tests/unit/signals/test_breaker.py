"""When an endpoint is ejected by its failures or its probes, and when it comes back."""

from typing import Final, get_args

import pytest

from switchboard_dataplane.errors import Failure
from switchboard_dataplane.signals.breaker import ANSWERS_MIN, COUNTED, Breaker, Ejections
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir

ID: Final = "ai/one@10.0.0.1:8000"
RULE: Final = ir.Breaker(consecutive_failures=3, failure_rate_permille=500, open_for_ms=10_000)


def made(rule: ir.Breaker = RULE, *, chance: float = 0.0) -> tuple[Ejections, Breaker]:
    ejected = Ejections(rule_of=lambda _: rule, chance=lambda: chance)
    return ejected, Breaker(ID, ejected)


def fail(breaker: Breaker, now: float, failure: Failure = "connect", *, times: int = 3) -> None:
    for _ in range(times):
        breaker.dispatched(now)
        breaker.failed(failure, now, since=now)
        breaker.released(now, since=now)


@pytest.mark.parametrize("failure", get_args(Failure))
def test_only_what_speaks_against_the_endpoint_ejects_it(failure: Failure) -> None:
    ejected, breaker = made()
    fail(breaker, 1.0, failure, times=100)
    assert (ID in ejected) == (failure in COUNTED)


def test_what_speaks_against_an_endpoint_is_listed() -> None:
    assert sorted(COUNTED) == [
        "connect", "overloaded", "protocol", "reset", "server_error", "timeout",
    ]  # fmt: skip


def test_failures_in_a_row_eject_and_an_answer_between_them_begins_anew() -> None:
    ejected, breaker = made()
    for now in range(10):
        fail(breaker, now, times=2)
        breaker.succeeded(now, since=now)
    assert not ejected
    fail(breaker, 10.0, times=3)
    assert ejected == {ID: 10.0}
    assert ejected.counts == {"ai/one": 1}


def test_a_rate_of_failures_ejects_once_there_are_enough_answers() -> None:
    ejected, breaker = made(ir.Breaker(consecutive_failures=1_000, failure_rate_permille=250))
    for number in range(ANSWERS_MIN):
        assert not ejected
        if number % 4 == 3:
            breaker.failed("timeout", 1.0, since=0.0)
        else:
            breaker.succeeded(1.0, since=0.0)
    assert ID in ejected


def test_a_rate_is_that_of_the_last_seconds() -> None:
    ejected, breaker = made(ir.Breaker(consecutive_failures=1_000))
    for number in range(ANSWERS_MIN - 1):
        breaker.failed("timeout", number / 100, since=0.0)
    for number in range(ANSWERS_MIN - 1):
        breaker.succeeded(20.0 + number / 100, since=20.0)
    breaker.failed("timeout", 21.0, since=20.0)
    assert not ejected


@pytest.mark.parametrize(("chance", "open_s"), [(0.0, 10.0), (0.5, 9.0), (1.0, 8.0)])
def test_an_open_breaker_is_due_after_its_time_or_up_to_a_fifth_sooner(
    chance: float, open_s: float
) -> None:
    ejected, breaker = made(chance=chance)
    fail(breaker, 1.0)
    assert ejected.due("ai/one", 1.0 + open_s - 0.001) == ""
    assert ejected.due("ai/one", 1.0 + open_s) == ID
    assert ejected.due("ai/other", 1.0 + open_s) == ""


def test_failures_that_are_far_apart_are_no_row() -> None:
    ejected, breaker = made()
    for number in range(10):
        fail(breaker, number * 61.0, times=1)
    assert not ejected
    for number in range(3):
        fail(breaker, 1_000.0 + number * 59.0, times=1)
    assert ID in ejected


def test_an_endpoint_that_is_gone_is_not_ejected_by_the_streams_that_break_with_it() -> None:
    there = {ID}
    ejected = Ejections(rule_of=lambda _: RULE, is_there=there.__contains__)
    breaker = Breaker(ID, ejected)
    there.clear()
    fail(breaker, 1.0, "reset", times=10)
    assert not ejected
    assert breaker.state == "closed"


def test_one_request_is_let_through_at_a_time() -> None:
    ejected, breaker = made()
    fail(breaker, 0.0)
    breaker.dispatched(10.0)
    assert breaker.state == "half_open"
    assert ejected.due("ai/one", 100.0) == ""
    assert ID in ejected


def test_its_answer_lets_the_endpoint_in_and_tells_of_it() -> None:
    signals = SignalTable()
    signal = signals[ID]
    fail(signal.breaker, 0.0, times=5)
    assert ID in signals.ejected
    signal.dispatched(10.0)
    signal.answered(0.5, 10.5, since=10.0, tokens=1, stream=True)
    signal.released(11.0, since=10.0)
    assert not signals.ejected
    assert not signals.ejected.counts
    assert signal.joined_at == 10.5


def test_its_failure_ejects_again_for_the_whole_time() -> None:
    ejected, breaker = made()
    fail(breaker, 0.0)
    fail(breaker, 10.0, "timeout", times=1)
    assert ejected == {ID: 0.0}
    assert (breaker.opened_at, breaker.why) == (0.0, "timeout")
    assert ejected.due("ai/one", 19.9) == ""
    assert ejected.due("ai/one", 20.0) == ID


@pytest.mark.parametrize("failure", sorted(set(get_args(Failure)) - COUNTED))
def test_an_endpoint_that_answers_with_a_refusal_is_back(failure: Failure) -> None:
    ejected, breaker = made()
    fail(breaker, 0.0)
    fail(breaker, 10.0, failure, times=1)
    assert not ejected


def test_one_that_brought_no_news_makes_room_for_the_next() -> None:
    ejected, breaker = made()
    fail(breaker, 0.0)
    breaker.dispatched(10.0)
    breaker.released(11.0, since=3.0)
    assert ejected.due("ai/one", 11.0) == "", "another request's end"
    breaker.released(12.0, since=10.0)
    assert ejected.due("ai/one", 12.0) == ID


def test_news_from_before_says_nothing_of_now() -> None:
    ejected, breaker = made()
    fail(breaker, 5.0)
    breaker.succeeded(6.0, since=4.0)
    assert ID in ejected, "an answer that was on its way when the others failed"
    breaker.dispatched(15.0)
    breaker.failed("timeout", 15.5, since=4.5)
    assert breaker.state == "half_open", "a timeout of the outage's own time"
    breaker.succeeded(16.0, since=15.0)
    fail_before = 14.0
    for _ in range(10):
        breaker.failed("timeout", 17.0, since=fail_before)
    assert not ejected


def test_an_answer_in_a_panic_lets_the_endpoint_in_before_its_time() -> None:
    ejected, breaker = made()
    fail(breaker, 0.0)
    breaker.dispatched(1.0)
    breaker.succeeded(2.0, since=1.0)
    assert not ejected


def test_probes_eject_and_let_in() -> None:
    ejected, breaker = made()
    breaker.probed(3.0, well=False)
    breaker.probed(4.0, well=False)
    assert ejected == {ID: 3.0}
    assert ejected.due("ai/one", 1e9) == "", "what a probe ejects, a probe lets in"
    breaker.probed(5.0, well=True)
    assert not ejected


def test_a_probe_never_closes_a_breaker_and_an_answer_never_overrules_a_probe() -> None:
    ejected, breaker = made()
    fail(breaker, 0.0)
    breaker.probed(1.0, well=False)
    assert ejected.due("ai/one", 11.0) == ""
    breaker.probed(12.0, well=True)
    assert ejected.due("ai/one", 12.0) == ID
    breaker.probed(13.0, well=False)
    breaker.dispatched(14.0)
    breaker.succeeded(15.0, since=14.0)
    assert breaker.state == "closed"
    assert ID in ejected
    assert ejected.counts == {"ai/one": 1}
    breaker.probed(16.0, well=True)
    assert not ejected


def test_an_endpoint_that_was_gone_begins_anew() -> None:
    signals = SignalTable()
    fail(signals[ID].breaker, 0.0, times=5)
    other = "ai/one@10.0.0.2:8000"
    fail(signals[other].breaker, 0.0, times=5)
    signals.keep_only(frozenset({other}))
    assert signals.ejected.keys() == {other}
    assert signals.ejected.counts == {"ai/one": 1}
    assert signals.ejected.due("ai/one", 10.0) == other
    fail(signals[ID].breaker, 20.0, times=4)
    assert ID not in signals.ejected


def test_a_due_endpoint_is_found_behind_one_that_its_probe_holds_back() -> None:
    ejected = Ejections()
    first, second = Breaker("ai/one@a:1", ejected), Breaker("ai/one@b:1", ejected)
    fail(first, 0.0, times=5)
    fail(second, 1.0, times=5)
    first.probed(2.0, well=False)
    assert ejected.due("ai/one", 30.0) == "ai/one@b:1"
    first.probed(31.0, well=True)
    assert ejected.due("ai/one", 31.0) == "ai/one@a:1"
