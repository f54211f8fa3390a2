"""Who asks the same once more was not content, who goes on was: finds the answers they speak of.

The same turn is the same number of messages with the same last one, of the same session (or user,
without one) to the same policy. One that began before the answer had ended is another sample, or a
repeat of the client's: it says nothing. Who goes on sends the conversation with the answer, so the
turn before is in the request.
"""

from collections import OrderedDict
from typing import Final, NamedTuple, cast

from switchboard_dataplane.decision.request import Payload, RequestView
from switchboard_dataplane.reading.texts import head_and_tail

#: Who asks again after longer has another reason, in seconds.
WITHIN_S: Final = 300.0
#: Turns that are remembered; the oldest go first.
TURNS_MAX: Final = 20_000


class Ended(NamedTuple):
    """The decision that answered a turn, and when the answer ended, by the event loop's clock."""

    decision: str
    at: float


class Regenerations:
    """The last answers by their turns, which are numbers of 64 bits; 0 is none."""

    def __init__(self, *, turns_max: int = TURNS_MAX) -> None:
        self._turns_max: Final = turns_max
        self._known: OrderedDict[int, Ended] = OrderedDict()

    def __len__(self) -> int:
        """Return how many turns are remembered."""
        return len(self._known)

    def answered(self, turn: int, decision: str, at: float) -> None:
        """Remember the answer to a turn, which ended at ``at``."""
        if not turn:
            return
        self._known.pop(turn, None)
        self._known[turn] = Ended(decision, at)
        while len(self._known) > self._turns_max:
            self._known.popitem(last=False)

    def asked(self, turn: int, at: float) -> str:
        """Take in that a turn was asked anew, or gone on from, at ``at``; return its decision.

        "" where there is none. No decision is returned twice.
        """
        earlier = self._known.get(turn)
        if earlier is None or not earlier.at < at <= earlier.at + WITHIN_S:
            return ""
        del self._known[turn]
        return earlier.decision


def last_turn(view: RequestView) -> tuple[str, ...]:
    """Return what tells a turn from others of the same caller; () where nothing is written."""
    if view.api == "embeddings":
        return ()
    messages = _messages(view)
    if not messages:
        return (view.api, head_and_tail(view.prompt)) if view.prompt else ()
    return _turn(view.api, messages)


def turn_before(view: RequestView) -> tuple[str, ...]:
    """Return the turn whose answer the user goes on from, as ``last_turn`` told it; () for none.

    What a program sends back of itself, as what its tools found, says nothing of an answer.
    """
    messages = _messages(view)
    if not messages or _role(messages[-1]) != "user":
        return ()
    roles = [_role(message) for message in messages]
    end = len(roles)
    while end and roles[end - 1] != "assistant":
        end -= 1
    while end and roles[end - 1] == "assistant":
        end -= 1
    return _turn(view.api, messages[:end]) if end else ()


def _turn(api: str, messages: list[object]) -> tuple[str, ...]:
    last = messages[-1]
    if not isinstance(last, dict):
        return ()
    message = cast("Payload", last)
    content = message.get("content")
    text = content if isinstance(content, str) else "\n".join(_texts(content))
    # A turn of tools differs from the user's before it by the number of messages.
    return api, str(len(messages)), str(message.get("role")), head_and_tail(text)


def _messages(view: RequestView) -> list[object]:
    messages = None if view.api == "embeddings" else view.payload.get("messages")
    return cast("list[object]", messages) if isinstance(messages, list) else []


def _role(message: object) -> object:
    return cast("Payload", message).get("role") if isinstance(message, dict) else None


def _texts(content: object) -> list[str]:
    parts = cast("list[object]", content) if isinstance(content, list) else []
    found = [cast("Payload", part).get("text") for part in parts if isinstance(part, dict)]
    return [text if isinstance(text, str) else "" for text in found]
