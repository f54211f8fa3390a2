"""What callers may say of an answer, and how they are told what is wrong with it."""

from datetime import UTC, datetime

import orjson
import pytest

from fakes.policies import keyring
from switchboard_dataplane.errors import RequestError
from switchboard_dataplane.learning.feedback import Feedback
from switchboard_dataplane.learning.ids import make_id
from switchboard_dataplane.learning.ratings import Rating

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OURS = keyring()
DECISION = make_id(OURS, b"r" * 15)


def taken(body: object) -> Rating:
    """What a body is taken for; raises RequestError."""
    found: list[Rating] = []
    feedback = Feedback(keyring=lambda: OURS, take=found.append, today=lambda: AT)
    try:
        answer = feedback.answer(body if isinstance(body, bytes) else orjson.dumps(body))
    finally:
        assert len(found) <= 1
    assert answer.status == 202
    return found[0]


@pytest.mark.parametrize(
    ("rating", "value"),
    [("up", 1.0), ("down", 0.0), (0, 0.0), (1, 1.0), (0.25, 0.25)],
)
def test_a_rating_is_a_number_or_a_thumb(rating: object, value: float) -> None:
    said = taken({"decision": DECISION, "rating": rating, "comment": "short", "more": 1})
    assert said == Rating(decision=DECISION, value=value, source="feedback", at=AT, comment="short")


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"", 400, "invalid_json", None),
        (b"no", 400, "invalid_json", None),
        (b"[]", 400, "invalid_json", None),
        ({"rating": 1}, 400, "missing_required_parameter", "decision"),
        ({"decision": 7, "rating": 1}, 400, "invalid_type", "decision"),
        ({"decision": DECISION}, 400, "missing_required_parameter", "rating"),
        ({"decision": DECISION, "rating": "meh"}, 400, "invalid_value", "rating"),
        ({"decision": DECISION, "rating": True}, 400, "invalid_type", "rating"),
        ({"decision": DECISION, "rating": [1]}, 400, "invalid_type", "rating"),
        ({"decision": DECISION, "rating": 1.01}, 400, "invalid_value", "rating"),
        ({"decision": DECISION, "rating": -1}, 400, "invalid_value", "rating"),
        ({"decision": DECISION, "rating": 1, "comment": 1}, 400, "invalid_type", "comment"),
        (
            {"decision": DECISION, "rating": 1, "comment": "y" * 1001},
            400,
            "invalid_value",
            "comment",
        ),
        ({"decision": "x", "rating": 1}, 404, "decision_not_found", "decision"),
        ({"decision": "A" * 28, "rating": 1}, 404, "decision_not_found", "decision"),
        ({"decision": "é" * 28, "rating": 1}, 404, "decision_not_found", "decision"),
        (b"{" + b" " * 20_000 + b"}", 413, "body_too_large", None),
    ],
)
def test_what_cannot_be_taken_is_refused_by_the_name_of_the_field(
    body: object, status: int, code: str, param: str | None
) -> None:
    with pytest.raises(RequestError) as refused:
        taken(body)
    assert (refused.value.status, refused.value.code, refused.value.param) == (status, code, param)


def test_a_number_that_is_none_is_refused() -> None:
    body = b'{"decision":"' + DECISION.encode() + b'","rating":NaN}'
    with pytest.raises(RequestError):
        taken(body)
