"""A stream that is answered anew after a break: what bounds it, and how the new answer joins in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from switchboard_dataplane.wire.events import data_of, parse_object, split_events

#: Tells whoever reads comments that the answer begins again; the headers of the new one follow.
RESTARTED: Final = b": switchboard restart\n"


@dataclass(slots=True)
class Sent:
    """What the caller has been sent of a stream, as far as it decides whether to answer anew.

    ``room_chars`` is how many characters of text may still be sent; ``final`` says that it is too
    late: more was sent, or what cannot be said twice (a tool call, sound, what is no JSON).
    """

    room_chars: int
    final: bool = False

    def add(self, events: bytes) -> None:
        """Take in whole events that have gone out."""
        for event in split_events(events):
            if self.final:
                return
            data = data_of(event)
            if not data:
                continue
            parsed = parse_object(data)
            if parsed is None:
                self.final = True
                return
            for choice in _choices(parsed):
                self._add_choice(choice)

    def _add_choice(self, choice: dict[str, Any]) -> None:
        for name, said in (*_delta(choice).items(), ("text", choice.get("text"))):
            if name == "role" or not said:
                continue
            if isinstance(said, str):
                self.room_chars -= len(said)
            else:
                self.final = True
        self.final = self.final or self.room_chars < 0


def joined(opening: bytes, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return the opening of a new answer as it goes on after that of another: without its roles.

    Clients put the pieces of a message together, and its role has been said. ``headers`` tell how
    the new answer was routed: those of the first have gone out, so they stand in the comment.
    """
    told = "".join([f": {name}: {value}\n" for name, value in headers]).encode()
    return RESTARTED + told + b"\n" + b"".join(map(_without_role, split_events(opening)))


def _without_role(event: bytes) -> bytes:
    parsed = parse_object(data_of(event))
    deltas = [_delta(choice) for choice in _choices(parsed or {})]
    if not any("role" in delta for delta in deltas):
        return event
    for delta in deltas:
        delta.pop("role", None)
    return b"data: " + orjson.dumps(parsed) + b"\n\n"


def _choices(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    choices = chunk.get("choices")
    if not isinstance(choices, list):
        return []
    listed = cast("list[object]", choices)
    return [cast("dict[str, Any]", one) for one in listed if isinstance(one, dict)]


def _delta(choice: dict[str, Any]) -> dict[str, Any]:
    delta = choice.get("delta")
    return cast("dict[str, Any]", delta) if isinstance(delta, dict) else {}
