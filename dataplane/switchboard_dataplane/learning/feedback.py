"""What callers say of answers: POST /v1/feedback."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from switchboard_dataplane.errors import BodyTooLarge, InvalidRequest, RequestError, UnknownDecision
from switchboard_dataplane.learning.ids import is_genuine
from switchboard_dataplane.learning.ratings import Rating
from switchboard_dataplane.wire.answers import JSON, Answer, error_answer
from switchboard_dataplane.wire.fields import Object, missing, out_of_range, shown, wrong_type
from switchboard_policy.names import HEADER_DECISION
from switchboard_policy.seal import Keyring

if TYPE_CHECKING:
    from switchboard_dataplane.proxy import Caller

COMMENT_CHARS_MAX: Final = 1_000
BODY_BYTES_MAX: Final = 16 * 1024

_WORDS: Final = {"up": 1.0, "down": 0.0}
_ACCEPTED: Final = 202


class Feedback:
    """Serves ``POST /v1/feedback``; ``take`` gets the ratings. ``today`` tells the time in UTC."""

    def __init__(
        self,
        *,
        keyring: Callable[[], Keyring],
        take: Callable[[Rating], None],
        today: Callable[[], datetime],
    ) -> None:
        self._keyring = keyring
        self._take = take
        self._today = today

    async def serve(self, caller: "Caller") -> None:
        """Answer a request; raises ConnectionError where the caller has left."""
        try:
            answer = self.answer(await caller.read_body())
        except RequestError as error:
            answer = error_answer(error)
        await caller.send(answer)

    def answer(self, body: bytes) -> Answer:
        """Take in a rating; raises RequestError naming the field, its value and the fix."""
        rating = read_feedback(body, at=self._today())
        if not is_genuine(self._keyring(), rating.decision):
            raise UnknownDecision(
                f"decision {rating.decision[:40]!r} is no id of this gateway; send the "
                f"{HEADER_DECISION} header of the answer",
                param="decision",
            )
        self._take(rating)
        said = {"object": "feedback", "decision": rating.decision, "rating": rating.value}
        return Answer(_ACCEPTED, (JSON,), orjson.dumps(said))


def read_feedback(body: bytes, *, at: datetime) -> Rating:
    """Read what a caller says of a decision; raises RequestError."""
    if len(body) > BODY_BYTES_MAX:
        raise BodyTooLarge(f"the body exceeds {BODY_BYTES_MAX} bytes; shorten the comment")
    try:
        parsed: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            f"the body is not JSON: {error.msg}; send a JSON object", code="invalid_json"
        ) from error
    if not isinstance(parsed, dict):
        raise InvalidRequest(
            f"the body is {shown(parsed)}; send a JSON object", code="invalid_json"
        )
    said = cast("Object", parsed)
    return Rating(
        decision=_read_decision(said),
        value=_read_rating(said),
        source="feedback",
        at=at,
        comment=_read_comment(said),
    )


def _read_decision(said: Object) -> str:
    decision = said.get("decision")
    fix = f"the {HEADER_DECISION} header of the answer"
    if decision is None:
        raise missing("decision", fix)
    if not isinstance(decision, str):
        raise wrong_type("decision", decision, fix)
    return decision


def _read_rating(said: Object) -> float:
    rating = said.get("rating")
    fix = 'a number in 0..1, "up" or "down"'
    if rating is None:
        raise missing("rating", fix)
    if isinstance(rating, str):
        if rating not in _WORDS:
            raise out_of_range("rating", rating, fix)
        return _WORDS[rating]
    if isinstance(rating, bool) or not isinstance(rating, int | float):
        raise wrong_type("rating", rating, fix)
    if not 0 <= rating <= 1:
        raise out_of_range("rating", rating, fix)
    return float(rating)


def _read_comment(said: Object) -> str:
    comment = said.get("comment")
    fix = f"a string of at most {COMMENT_CHARS_MAX} characters"
    if comment is None:
        return ""
    if not isinstance(comment, str):
        raise wrong_type("comment", comment, fix)
    if len(comment) > COMMENT_CHARS_MAX:
        raise out_of_range("comment", comment, fix)
    return comment
