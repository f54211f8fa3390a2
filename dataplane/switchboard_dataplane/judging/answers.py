"""Reads what an answer says: text, end, refusal, tool calls, probabilities; whole or streamed.

Tolerant: whatever has another shape than the API's is passed over, so that the worst answer is an
empty one. Of several choices the first is read.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Final, cast

import orjson

from switchboard_dataplane.wire.events import data_of, parse_object, split_events
from switchboard_policy.ir import Api

#: A token that a model says is less likely than this counts as this likely: some write -9999 for
#: one that they have no probability of.
LOGPROB_MIN: Final = -20.0
#: How much of an answer's beginning is looked at for a refusal, in characters.
OPENING_CHARS: Final = 300

_CANNOT: Final = r"(?:can(?:no|')?t|can not|won't|will not|unable to|not able to|not allowed to)"
#: On in the same sentence; bounded, so that the whole is linear in the opening.
_ON: Final = r"[^.!?\n]{0,80}"
_REFUSAL: Final = re.compile(
    rf"\W*(?:(?:i'm|i am|we're|we are) (?:\w+ )?(?:sorry|afraid)\b{_ON}\b{_CANNOT}\b"
    rf"|(?:sorry|my apologies|i apologi[sz]e|unfortunately)\b{_ON}\bi (?:am )?{_CANNOT}\b"
    rf"|i(?:'m| am)? {_CANNOT} (?:\w+ )?(?:help|assist|comply|provide|answer|fulfil+|engage|support"
    r"|discuss|create|write|generate|produce|share|give|do that|do this|continue)\b"
    r"|i (?:must|have to|need to) (?:\w+ )?(?:decline|refuse)\b"
    rf"|as an? (?:ai|artificial|language|large)\b{_ON}\bi (?:am )?{_CANNOT}\b"
    rf"|(?:es )?tut mir (?:sehr )?leid\b{_ON}\b(?:kann|darf)\b{_ON}\bnicht\b"
    rf"|(?:je suis )?désolée?\b{_ON}\bne (?:peux|puis) pas\b"
    rf"|lo siento\b{_ON}\bno puedo\b)",
    re.IGNORECASE,
)
_REFUSED_BY_FILTER: Final = "content_filter"
_CUT: Final = "length"
_FIRST: Final = 0


class Said:
    """What an answer says.

    ``refusal`` is what the model says in place of an answer, where it says so apart; ``calls`` are
    the tools that it calls, as ``name(arguments)``. ``logprobs`` are the natural logarithms of its
    tokens' probabilities, each at most 0; None where the answer has none.
    """

    def __init__(
        self,
        text: str,
        *,
        finish_reason: str = "",
        refusal: str = "",
        calls: tuple[str, ...] = (),
        logprobs: tuple[float, ...] | None = None,
    ) -> None:
        self.text: Final = text
        self.finish_reason: Final = finish_reason
        self.refusal: Final = refusal
        self.calls: Final = calls
        self.logprobs: Final = logprobs

    @property
    def tool_calls(self) -> int:
        """How many tools are called."""
        return len(self.calls)

    @property
    def empty(self) -> bool:
        """Whether there is neither text nor a tool call."""
        return not self.calls and not self.text.strip()

    @property
    def cut(self) -> bool:
        """Whether the answer ended at its limit of tokens."""
        return self.finish_reason == _CUT

    @property
    def refused(self) -> bool:
        """Whether the model will not answer: it, or a filter, says so, or the text begins so."""
        return (
            bool(self.refusal)
            or self.finish_reason == _REFUSED_BY_FILTER
            or reads_as_refusal(self.text)
        )

    @property
    def shown(self) -> str:
        """The answer as one text, for a judge or to compare: text, refusal, calls, a line each."""
        return "\n".join(part for part in (self.text, self.refusal, *self.calls) if part)

    @cached_property
    def json_value(self) -> tuple[Any] | None:
        """The JSON value that the text is, alone in a tuple; None where it is none."""
        try:
            return (orjson.loads(self.text),)
        except orjson.JSONDecodeError:
            return None

    @property
    def json(self) -> bool:
        """Whether the text is a JSON value, and nothing else."""
        return self.json_value is not None


def answer_facts_of(said: Said) -> Mapping[str, Any]:
    """Return the values of all ``ANSWER_FACTS``."""
    return {
        "answer.text": said.text,
        "answer.length": len(said.text),
        "answer.finishReason": said.finish_reason,
        "answer.empty": said.empty,
        "answer.refused": said.refused,
        "answer.cut": said.cut,
        "answer.json": said.json,
        "answer.toolCalls": said.tool_calls,
    }


def reads_as_refusal(text: str) -> bool:
    """Say whether a text begins as refusals do, in four languages."""
    return _REFUSAL.match(text[:OPENING_CHARS].replace("’", "'")) is not None  # noqa: RUF001


def said_in(body: bytes, api: Api) -> Said:
    """Read a whole answer; one that is no answer of this API says nothing."""
    choice = _first_choice(parse_object(body) or {})
    heard = Hearing(api)
    heard.take_whole(choice)
    return heard.said()


def said_in_stream(events: bytes, api: Api) -> Said:
    """Read a stream of events from its beginning to its end; a piece of an event is left out."""
    heard = Hearing(api)
    heard.add(events)
    return heard.said()


class Hearing:
    """Puts an answer together out of the events of its stream, as they come.

    ``chars`` is how many characters of text there are so far, the arguments of calls with them.
    """

    def __init__(self, api: Api) -> None:
        self.chars = 0
        self._chat: Final = api == "chat"
        self._text: Final[list[str]] = []
        self._refusal: Final[list[str]] = []
        self._calls: Final[dict[int, list[str]]] = {}
        self._logprobs: list[float] | None = None
        self._finish_reason = ""

    def add(self, events: bytes) -> None:
        """Take in whole events; comments, usage and the end mark say nothing."""
        for event in split_events(events):
            # As nearly all engines write them: one line of data, and nothing else.
            one_line = event.startswith(b"data:") and event.find(b"\n", 0, -2) < 0
            data = parse_object(event[5:].strip() if one_line else data_of(event))
            if data is not None:
                self._take(_first_choice(data), "delta")

    def take_whole(self, choice: Mapping[str, Any]) -> None:
        """Take in the one choice of an answer that is not streamed."""
        self._take(choice, "message")

    def said(self) -> Said:
        """Return what has been said so far."""
        return Said(
            "".join(self._text),
            finish_reason=self._finish_reason,
            refusal="".join(self._refusal),
            calls=tuple(_call(self._calls[number]) for number in sorted(self._calls)),
            logprobs=None if self._logprobs is None else tuple(self._logprobs),
        )

    def _take(self, choice: Mapping[str, Any], holder: str) -> None:
        reason = choice.get("finish_reason")
        if isinstance(reason, str):
            self._finish_reason = reason
        if self._chat:
            self._take_message(_object(choice.get(holder)))
        else:
            self._say(self._text, choice.get("text"))
        found = _logprobs(choice.get("logprobs"))
        if found:
            self._logprobs = [*(self._logprobs or ()), *found]

    def _take_message(self, message: Mapping[str, Any]) -> None:
        self._say(self._text, message.get("content"))
        self._say(self._refusal, message.get("refusal"))
        for place, item in enumerate(_array(message.get("tool_calls"))):
            call = _object(item)
            index = call.get("index")
            self._take_call(index if isinstance(index, int) else place, call.get("function"))
        if message.get("function_call") is not None:
            self._take_call(0, message["function_call"])

    def _take_call(self, number: int, function: object) -> None:
        fields = _object(function)
        name, arguments = fields.get("name"), fields.get("arguments")
        pieces = self._calls.setdefault(number, [""])
        if isinstance(name, str):
            pieces[0] += name
        self._say(pieces, arguments)

    def _say(self, pieces: list[str], content: object) -> None:
        if isinstance(content, str):
            pieces.append(content)
            self.chars += len(content)
            return
        for part in _array(content):
            text = _object(part).get("text")
            if isinstance(text, str):
                pieces.append(text)
                self.chars += len(text)


def _call(pieces: list[str]) -> str:
    return f"{pieces[0]}({''.join(pieces[1:])})"


def _first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = [_object(choice) for choice in _array(answer.get("choices"))]
    first = [choice for choice in choices if choice.get("index", _FIRST) == _FIRST]
    return first[0] if first else _object(None)


def _logprobs(value: object) -> list[float]:
    """Return the probabilities' logarithms, of either API's form."""
    fields = _object(value)
    tokens = fields.get("content") or fields.get("refusal")
    found = [_object(token).get("logprob") for token in _array(tokens)]
    found += _array(fields.get("token_logprobs"))
    return [
        min(0.0, max(LOGPROB_MIN, float(one)))
        for one in found
        if isinstance(one, int | float) and not isinstance(one, bool)
    ]


def _object(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _array(value: object) -> list[Any]:
    return list(cast("Iterable[Any]", value)) if isinstance(value, list) else []
