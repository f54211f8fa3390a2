"""What is changed of an answer before it goes out: its usage is that of all that was asked for it.

And the probabilities that were asked for on our account are left out again.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import orjson

from switchboard_dataplane.wire.events import data_of, parse_object, split_events
from switchboard_dataplane.wire.splice import splice
from switchboard_dataplane.wire.usage import Usage

_USAGE: Final = b'"usage"'
_LOGPROBS: Final = b'"logprobs"'
_DONE: Final = b"[DONE]"
#: What each event of a stream says of the answer that it belongs to.
_HEADING: Final = ("id", "object", "created", "model")

#: Returns the usage of all as it is known or estimated now, None where nothing was served.
Known = Callable[[], Usage | None]


class Edits:
    """Edits answers: ``beside`` is what was taken and given beside them, None for nothing.

    ``known`` is there where a stream's caller asks for its usage: one that comes to its end without
    is told what is known.
    """

    def __init__(
        self, beside: Usage | None, *, hides_logprobs: bool = False, known: Known | None = None
    ) -> None:
        self.beside: Final = beside
        self.hides_logprobs: Final = hides_logprobs
        self._known: Final = known
        self._told = known is None or beside is None
        self._heading: dict[str, Any] = {}

    @property
    def needed(self) -> bool:
        """Whether there is anything to change."""
        return self.beside is not None or self.hides_logprobs

    def whole(self, body: bytes, usage: Usage | None) -> bytes:
        """Return a whole answer as it goes out; ``usage`` is its own, where it does not tell it.

        What is no JSON object goes out as it came.
        """
        answer = parse_object(body)
        if answer is None:
            return body
        values: dict[str, bytes] = {}
        if self.beside is not None:
            told = _object(answer.get("usage")) or ({} if usage is None else _told(usage))
            values["usage"] = orjson.dumps(self._total(told))
        if self.hides_logprobs and _hide_logprobs(answer):
            values["choices"] = orjson.dumps(answer["choices"])
        return splice(body, values) if values else body

    def events(self, events: bytes) -> bytes:
        """Return whole events of a stream as they go out."""
        if not self._told:
            return b"".join([self._until_told(event) for event in split_events(events)])
        if events.find(_USAGE) < 0 and events.find(_LOGPROBS) < 0:
            return events
        return b"".join([self._event(event) for event in split_events(events)])

    def _until_told(self, event: bytes) -> bytes:
        """Return an event of a stream that has told no usage yet, what is known before its end."""
        if not self._heading:
            data = parse_object(data_of(event)) or {}
            self._heading = {name: data[name] for name in _HEADING if name in data}
        told = b""
        if not self._told and event.find(_DONE) >= 0 and data_of(event) == _DONE:
            self._told = True
            usage = None if self._known is None else self._known()
            if usage is not None:
                usage_told = _totalled(_told(usage))
                said: dict[str, Any] = {**self._heading, "choices": [], "usage": usage_told}
                told = b"data: " + orjson.dumps(said) + b"\n\n"
        return told + self._event(event)

    def _event(self, event: bytes) -> bytes:
        if event.find(_USAGE) < 0 and event.find(_LOGPROBS) < 0:
            return event
        data = parse_object(data_of(event))
        if data is None:
            return event
        changed = self.hides_logprobs and _hide_logprobs(data)
        told = _object(data.get("usage"))
        if told and self.beside is not None:
            self._told = True
            data["usage"] = self._total(told)
            changed = True
        return b"data: " + orjson.dumps(data) + b"\n\n" if changed else event

    def _total(self, told: Mapping[str, Any]) -> dict[str, Any]:
        beside = self.beside
        if beside is None:
            return dict(told)
        prompt = _count(told.get("prompt_tokens")) + beside.input_tokens
        completion = _count(told.get("completion_tokens")) + beside.output_tokens
        return {
            **told,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }


def _totalled(told: Mapping[str, int]) -> dict[str, int]:
    return {**told, "total_tokens": sum(told.values())}


def _told(usage: Usage) -> dict[str, int]:
    return {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}


def _hide_logprobs(answer: Mapping[str, Any]) -> bool:
    """Empty the probabilities of all choices; say whether there were any."""
    choices = answer.get("choices")
    found = False
    for choice in cast("list[object]", choices) if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            fields = cast("dict[str, Any]", choice)
            if fields.get("logprobs") is not None:
                fields["logprobs"] = None
                found = True
    return found


def _object(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
