"""Of a decision that this pod knows it tells what is remembered and what is not, and no more."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from fakes.policies import backend, policy, rule, snapshot, tier
from switchboard_dataplane.explaining.remembered import FORGOTTEN, remembered_of
from switchboard_dataplane.learning.decisions import Decided
from switchboard_dataplane.learning.inputs import Inputs
from switchboard_dataplane.learning.ratings import Rating
from switchboard_dataplane.learning.recent import Recent

AT = datetime(2026, 1, 2, tzinfo=UTC)
RUNNING = snapshot(backend("a"), policy("chat", rule("default", tier("t", "a"))))


def known(**fields: str) -> Recent:
    said: dict[str, Any] = {
        "policy": "ai/chat",
        "rule": "default",
        "backend": "ai/a",
        "revision": "1-1",
    }
    inputs = Inputs(
        tokens=7,
        headers={"x-tenant": "the-header", "x-no": None},
        metadata={"m": "the-meta"},
    )
    recent = Recent()
    decided = Decided(
        id="d1", at=AT, prompt="the-prompt", answer="the-answer", inputs=inputs, **(said | fields)
    )
    recent.remember(decided, {"task": "code", "embedding": [1.0]}, 100.0)
    found = recent.find("d1", 100.0)
    assert found is not None
    found.add(Rating(decision="d1", value=0.5, source="feedback", at=AT, comment="the-comment"))
    return recent


def test_what_is_remembered_has_no_text_and_no_value_of_a_header() -> None:
    found = remembered_of(known(), "d1", RUNNING, 103.0)
    assert found is not None
    assert (found.decision["rule"], found.age_s) == ("default", 3.0)
    assert found.decision["inputs"]["headers"] == ["x-tenant"]
    assert found.readings == {"task": "code"}
    assert found.ratings[0]["value"] == 0.5
    said = msgspec.json.encode(found)
    hidden = (b"the-prompt", b"the-answer", b"the-comment", b"the-header", b"the-meta")
    assert [text for text in hidden if text in said] == []


def test_what_is_forgotten_is_said_and_nothing_is_decided_again() -> None:
    found = remembered_of(known(), "d1", RUNNING, 103.0)
    assert found is not None
    assert found.forgotten == FORGOTTEN
    now = found.now
    assert (now.same_revision, now.policy, now.rule, now.backend) == (True, True, True, True)


def test_what_is_no_longer_in_force_is_said_to_be_gone() -> None:
    gone = known(rule="old", backend="ai/old", revision="1-0")
    found = remembered_of(gone, "d1", RUNNING, 103.0)
    assert found is not None
    now = found.now
    assert (now.same_revision, now.policy, now.rule, now.backend) == (False, True, False, False)
    unborn = remembered_of(known(), "d1", None, 103.0)
    assert unborn is not None
    assert not unborn.now.policy


def test_a_decision_that_is_not_known_is_none() -> None:
    assert remembered_of(known(), "d2", RUNNING, 103.0) is None
    assert remembered_of(known(), "d1", RUNNING, 99_999.0) is None
