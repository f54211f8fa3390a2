"""Marks end by themselves, are told to others once, and believe no nonsense."""

import math

import pytest

from switchboard_dataplane.signals.marks import (
    CREDENTIAL_REST_MAX_S,
    ENDPOINT_REST_MAX_S,
    SWEEP_S,
    Mark,
    Marks,
)


def limited(for_s: float, *, credential: str = "k", announced: bool = False) -> Mark:
    return Mark("ai/one", "rate_limited", for_s, credential=credential, announced=announced)


def shed(for_s: float, endpoint: str = "ai/one@a") -> Mark:
    return Mark("ai/one", "overloaded", for_s, endpoint=endpoint)


def test_without_marks_there_is_nothing_to_look_at() -> None:
    marks = Marks()
    assert marks.horizon == -math.inf
    assert not marks.of("ai/one")


@pytest.mark.parametrize("for_s", [0.001, 10.0, 59.0, 60.0, 3_600.0, 1e9, math.inf])
def test_no_mark_outlives_its_cap(for_s: float) -> None:
    for mark, cap_s in [
        (limited(for_s), CREDENTIAL_REST_MAX_S),
        (shed(for_s), ENDPOINT_REST_MAX_S),
    ]:
        marks = Marks()
        marks.put(mark, 100.0)
        rest = marks.of("ai/one")[mark.subject]
        assert 100.0 < rest.until <= rest.ends(1.0) <= 100.0 + cap_s
        assert rest.until <= 100.0 + for_s
        assert marks.horizon == rest.ends(1.0)


@pytest.mark.parametrize("for_s", [0.0, -1.0, math.nan, -math.inf])
def test_a_time_that_makes_no_sense_is_passed_over(for_s: float) -> None:
    marks, told = Marks(), list[Mark]()
    marks.on_mark = told.append
    marks.put(limited(for_s), 0.0)
    marks.take(limited(for_s), 0.0)
    assert not marks.of("ai/one")
    assert not told


def test_credentials_and_endpoints_are_kept_apart() -> None:
    marks = Marks()
    marks.put(limited(10.0, credential="a"), 0.0)
    marks.put(limited(20.0, credential="b"), 0.0)
    marks.put(shed(5.0), 0.0)
    ends = {subject: rest.until for subject, rest in marks.of("ai/one").items()}
    assert ends == {"#a": 10.0, "#b": 20.0, "ai/one@a": 5.0}


def test_the_newest_word_counts() -> None:
    marks = Marks()
    marks.put(limited(100.0), 0.0)
    marks.put(limited(5.0), 1.0)
    assert marks.of("ai/one")["#k"].until == 6.0


def test_an_announcement_takes_nothing_back_that_was_refused() -> None:
    marks = Marks()
    marks.put(limited(10.0), 0.0)
    marks.put(limited(1.0, announced=True), 1.0)
    assert not marks.of("ai/one")["#k"].announced
    marks.put(limited(1.0, announced=True), 11.0)
    assert marks.of("ai/one")["#k"].announced


def test_others_are_told_of_news_and_of_nothing_that_they_told() -> None:
    marks, told = Marks(), list[Mark]()
    marks.on_mark = told.append
    marks.put(limited(10.0), 0.0)
    marks.put(limited(10.0), 0.5)
    marks.put(limited(10.0), 5.0)
    marks.take(limited(60.0), 6.0)
    assert told == [limited(10.0), limited(10.0)]


def test_what_is_over_is_dropped() -> None:
    marks = Marks()
    for number in range(100):
        marks.put(limited(10.0, credential=f"k{number}"), 0.0)
    marks.put(shed(1.0, "ai/one@b"), SWEEP_S + 1.0)
    assert [*marks.of("ai/one")] == ["ai/one@b"]
