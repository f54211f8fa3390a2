"""Server-sent events on their way through: whole events only, as they came, hardly looked into.

What goes out always ends with an event, so whatever breaks an upstream stream, an error event
can follow it. Events are parsed one by one only until the first content has come; after that a
few byte searches find what matters: content, usage, the end, an error.
"""

import re
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from switchboard_dataplane.errors import UpstreamProtocol
from switchboard_dataplane.wire.usage import Usage, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable

#: An event longer than this is no event; it bounds what one stream can pin in memory.
EVENT_BYTES_MAX: Final = 8 * 1024 * 1024

_END_OF_EVENT: Final = (b"\n\n", b"\n\r\n", b"\r\r")
# An event ends with an empty line; further empty lines are kept with it.
_EVENT: Final = re.compile(rb".*?(?:\n\n|\n\r\n|\r\r)[\r\n]*+", re.DOTALL)
# Inside a JSON string quotes are escaped, so these are keys; line breaks are, so this is a line.
_USAGE: Final = re.compile(rb'"usage"\s*+:\s*+\{')
_FINISH: Final = re.compile(rb'"finish_reason"\s*+:\s*+"')
# How most engines write that an answer goes on: with these alone there is nothing to find.
_REASON: Final = b'"finish_reason"'
_NO_REASON: Final = b'"finish_reason":null'
_DONE: Final = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")
_ERROR: Final = re.compile(rb'"error"\s*+:(?!\s*+null)|(?:^|[\r\n])event:[ \t]*+error')
# How most engines write content; the expression below reads it, too, and everything else.
_CONTENT: Final = b'"content":"'
_CONTENT_EMPTY: Final = b'"content":""'
_EMPTY_MEMBER: Final = (
    rb'"(?:role"\s*+:\s*+"(?:[^"\\]|\\.)*+"|[^"]*+"\s*+:\s*+(?:""|null|false|0|\[\s*+\]|\{\s*+\}))'
)
# A delta with more than a role and empty members, or the text of a completion.
_SAYS: Final = re.compile(
    rb'"(?:delta"\s*+:\s*+\{(?!\s*+(?:%b(?:\s*+,\s*+%b)*+)?+\s*+\})|text"\s*+:\s*+"[^"])'
    % (_EMPTY_MEMBER, _EMPTY_MEMBER)
)


class EventReader:
    """Cuts a stream of bytes into whole events; the same whatever the pieces it comes in.

    ``hides_usage`` drops the event that carries the usage and no choices; ``choices`` is how many
    answers were asked for. ``content_events`` counts events that say something: comments, roles and
    empty deltas keep a connection alive, but are no progress. ``complete`` says that the upstream
    finished its answer, ``done`` that it said so by [DONE]. ``error`` is that with which it ended
    an answer that was not complete, and ``error_event`` the event, which is held back; nothing is
    to be fed after it. ``edit`` is done to all that goes out, from when it is set.
    """

    def __init__(self, *, hides_usage: bool = False, choices: int = 1) -> None:
        self.hides_usage: Final = hides_usage
        self.choices: Final = choices
        self.usage: Usage | None = None
        self.content_events = 0
        self.complete = False
        self.done = False
        self.error: dict[str, Any] | None = None
        self.error_event = b""
        self.edit: Callable[[bytes], bytes] | None = None
        self._finished = 0
        self._pending = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """Take in what came; return the whole events that can go out, perhaps none.

        Raises UpstreamProtocol where an event does not end.
        """
        if not self._pending and chunk.endswith(b"\n\n"):
            return self._look_into(chunk)
        searched = max(0, len(self._pending) - 2)
        self._pending += chunk
        cut = max(self._end_of(mark, searched) for mark in _END_OF_EVENT)
        if cut == 0:
            if len(self._pending) > EVENT_BYTES_MAX:
                raise UpstreamProtocol(f"an event exceeds {EVENT_BYTES_MAX} bytes")
            return b""
        whole = bytes(self._pending[:cut])
        del self._pending[:cut]
        return self._look_into(whole)

    def close(self) -> bytes:
        """Return what an upstream that ended without an empty line still has to say.

        A piece of an event is dropped: a caller could not read it.
        """
        rest = bytes(self._pending)
        self._pending.clear()
        if not rest.strip() or not _is_whole(rest):
            return b""
        return self._look_into(rest.rstrip(b"\r\n") + b"\n\n")

    def _end_of(self, mark: bytes, searched: int) -> int:
        found = self._pending.rfind(mark, searched)
        return 0 if found < 0 else found + len(mark)

    def _look_into(self, events: bytes) -> bytes:
        # The word alone is in many an answer. Not ``in``: with bytes it tries a number first, and
        # that raises.
        if (
            events.find(b"error") >= 0
            and (events.find(b'"error"') >= 0 or events.find(b"event:") >= 0)
            and _ERROR.search(events)
        ):
            found = self._until_error(events)
        else:
            found = self._note(events)
        return found if self.edit is None else self.edit(found)

    def _until_error(self, events: bytes) -> bytes:
        passed: list[bytes] = []
        for event in split_events(events):
            error = None if self.complete else _error_of(event)
            if error is not None:
                self.error, self.error_event = error, event
                break
            passed.append(self._note(event))
        return b"".join(passed)

    def _note(self, events: bytes) -> bytes:
        if events.count(b"data:") == 1:
            if self._note_one(events):
                return events
            # What came with the one that is hidden are comments.
            return b"".join([one for one in split_events(events) if one.find(b"data:") < 0])
        return b"".join([one for one in split_events(events) if self._note_one(one)])

    def _note_one(self, event: bytes) -> bool:
        """Take in an event; say whether it goes out."""
        self.content_events += says_something(event)
        if event.count(_REASON) != event.count(_NO_REASON):
            self._finished += len(_FINISH.findall(event))
            self.complete = self.complete or self._finished >= self.choices
        if event.find(b"[DONE]") >= 0 and _DONE.search(event):
            self.complete = self.done = True
        if event.find(b'"usage"') < 0 or not _USAGE.search(event):
            return True
        data = parse_object(data_of(event))
        usage = usage_of(data.get("usage")) if data else None
        if data is None or usage is None:
            return True
        self.usage = usage
        return not self.hides_usage or bool(data.get("choices"))


def opens(events: bytes) -> bool:
    """Say whether whole events hold the first content of a stream, or its end.

    Raises UpstreamProtocol where one of them carries something else than a JSON object.
    """
    for event in split_events(events):
        data = data_of(event)
        if not data:
            continue
        if data == b"[DONE]":
            return True
        parsed = parse_object(data)
        if parsed is None:
            raise UpstreamProtocol("an event carries no JSON object")
        if _has_content(parsed):
            return True
    return False


def says_something(event: bytes) -> bool:
    """Say whether an event carries content: text of any kind, a tool call; by its bytes alone."""
    if event.startswith(b"data:"):
        if event.find(_CONTENT) >= 0 and event.find(_CONTENT_EMPTY) < 0:
            return True
        if event.find(b"\n", 0, -2) < 0:
            return _SAYS.search(event) is not None
    return _SAYS.search(data_of(event)) is not None


def _has_content(chunk: dict[str, Any]) -> bool:
    choices = chunk.get("choices")
    return isinstance(choices, list) and any(map(_is_content, cast("list[object]", choices)))


def _is_content(choice: object) -> bool:
    """Whether a choice carries more than a role: text of any kind, a tool call, an end."""
    if not isinstance(choice, dict):
        return False
    fields = cast("dict[str, Any]", choice)
    delta = fields.get("delta")
    if isinstance(delta, dict):
        said = cast("dict[str, Any]", delta)
        if any(value for key, value in said.items() if key != "role"):
            return True
    return bool(fields.get("text")) or fields.get("finish_reason") is not None


def _error_of(event: bytes) -> dict[str, Any] | None:
    """Return what an event carries that is named error, or has an error object in it."""
    if event.find(b"error") < 0:
        return None
    data = parse_object(data_of(event))
    if data is not None and data.get("error"):
        return data
    named = (line[6:].strip() for line in event.splitlines() if line.startswith(b"event:"))
    return (data or {}) if b"error" in named else None


def split_events(events: bytes) -> list[bytes]:
    """Return whole events one by one, as they came."""
    if events.find(b"\r") < 0 and events.find(b"\n\n\n") < 0:
        # As nearly all engines write them: the expression takes ten times as long to find the same.
        return [event + b"\n\n" for event in events.split(b"\n\n")[:-1]]
    return [found[0] for found in _EVENT.finditer(events)]


def data_of(event: bytes) -> bytes:
    """Return the data of an event; b"" for a comment."""
    return b"\n".join(
        line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")
    ).strip()


def parse_object(data: bytes) -> dict[str, Any] | None:
    """Return a JSON object, None for anything else."""
    try:
        parsed: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else None


def _is_whole(event: bytes) -> bool:
    data = data_of(event)
    return data == b"[DONE]" or parse_object(data) is not None
