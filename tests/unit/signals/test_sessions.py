"""What conversations have cost, and who answered them."""

import pytest

from switchboard_dataplane.signals import sessions
from switchboard_dataplane.signals.sessions import NO_PAST, SESSION_S, Histories, Past, Sessions


def test_what_a_conversation_cost_adds_up() -> None:
    histories = Histories()
    assert histories.of("p", "s", 0.0) == NO_PAST
    histories.take("p", "s", 0.25, "ai/a", 0.0)
    histories.take("p", "s", 0.5, "ai/b", 1.0)
    assert histories.of("p", "s", 2.0) == Past(0.75, "ai/b")


def test_nobody_hears_of_another_policys_conversation() -> None:
    histories = Histories()
    histories.take("p", "s", 0.25, "ai/a", 0.0)
    assert histories.of("q", "s", 0.0) == NO_PAST
    assert histories.of("p", "t", 0.0) == NO_PAST


def test_an_answer_that_did_not_come_leaves_who_answered_last() -> None:
    histories = Histories()
    histories.take("p", "s", 0.25, "ai/a", 0.0)
    histories.take("p", "s", 0.125, "", 1.0)
    assert histories.of("p", "s", 1.0) == Past(0.375, "ai/a")


def test_a_conversation_that_was_silent_for_long_begins_anew() -> None:
    histories = Histories()
    histories.take("p", "s", 0.25, "ai/a", 0.0)
    assert histories.of("p", "s", SESSION_S) == NO_PAST
    histories.take("p", "s", 0.5, "ai/b", SESSION_S)
    assert histories.of("p", "s", SESSION_S) == Past(0.5, "ai/b")


def test_the_most_silent_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 2)
    histories, tiers = Histories(), Sessions()
    for name in ("a", "b", "a", "c"):
        histories.take("p", name, 1.0, "ai/a", 0.0)
        tiers.hold(("p", "r", name), 1, 0.0)
    assert histories.of("p", "b", 0.0) == NO_PAST
    assert histories.of("p", "a", 0.0).cost_dollars == 2.0
    assert [tiers.held(("p", "r", name), 0.0) for name in "abc"] == [1, None, 1]
