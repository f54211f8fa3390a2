"""Server-sent events on their way through: whole events only, as they came, hardly looked into.

What goes out always ends with an event, so whatever breaks an upstream stream, an error event
can follow it. Events are parsed one by one only until the first content has come; after that a
few byte searches find what matters: usage, the end, an error.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

import orjson

from switchboard_dataplane.errors import UpstreamProtocol
from switchboard_dataplane.wire.usage import Usage, usage_of

#: An event longer than this is no event; it bounds what one stream can pin in memory.
EVENT_BYTES_MAX: Final = 8 * 1024 * 1024

_DATA_LINES: Final = (b"\ndata:", b"\rdata:")
_END_OF_EVENT: Final = (b"\n\n", b"\n\r\n", b"\r\r")
# An event ends with an empty line; further empty lines are kept with it.
_EVENT: Final = re.compile(rb".*?(?:\n\n|\n\r\n|\r\r)[\r\n]*+", re.DOTALL)
# Inside a JSON string quotes are escaped, so these are keys; line breaks are, so this is a line.
_USAGE: Final = re.compile(rb'"usage"\s*+:\s*+\{')
_FINISH: Final = re.compile(rb'"finish_reason"\s*+:\s*+"')
_DONE: Final = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")


@dataclass(slots=True)
class EventReader:
    """Cuts a stream of bytes into whole events; the same whatever the pieces it comes in.

    ``hides_usage`` drops the event that carries the usage and no choices. ``data_events`` counts
    events with data (comments keep a connection alive, but are no progress), ``complete`` says
    that the upstream finished its answer, ``failed`` that it ended it with an error of its own.
    """

    hides_usage: bool = False
    usage: Usage | None = None
    data_events: int = 0
    complete: bool = False
    failed: bool = False
    _pending: bytearray = field(default_factory=bytearray)

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
        self.data_events += sum(map(events.count, _DATA_LINES), events.startswith(b"data:"))
        # Not ``in``: with bytes it tries a number first, and that raises.
        if _FINISH.search(events) or (events.find(b"[DONE]") >= 0 and _DONE.search(events)):
            self.complete = True
        if events.find(b"error") >= 0 and any(map(_is_error, _split(events))):
            self.failed = True
        if events.find(b'"usage"') >= 0 and _USAGE.search(events):
            return self._take_usage(events)
        return events

    def _take_usage(self, events: bytes) -> bytes:
        kept: list[bytes] = []
        for event in _split(events):
            data = _parse(_data_of(event))
            usage = usage_of(data.get("usage")) if data else None
            if data is not None and usage is not None:
                self.usage = usage
                if self.hides_usage and not data.get("choices"):
                    continue
            kept.append(event)
        return b"".join(kept)


@dataclass(frozen=True, slots=True)
class Opening:
    """What the first events say: content has come, or an error (its parsed object), or neither."""

    content: bool = False
    error: dict[str, Any] | None = None


def read_opening(events: bytes) -> Opening:
    """Look for content, or an error before it, in whole events.

    Raises UpstreamProtocol where one of them carries something else than a JSON object.
    """
    for event in _split(events):
        data = _data_of(event)
        if not data:
            continue
        if data == b"[DONE]":
            return Opening(content=True)
        parsed = _parse(data)
        if parsed is None:
            raise UpstreamProtocol("an event carries no JSON object")
        if _is_error(event):
            return Opening(error=parsed)
        if _has_content(parsed):
            return Opening(content=True)
    return Opening()


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


def _is_error(event: bytes) -> bool:
    """Whether an event is named error or carries an error object."""
    if b"error" not in event:
        return False
    named = (line[6:].strip() for line in event.splitlines() if line.startswith(b"event:"))
    data = _parse(_data_of(event))
    return b"error" in named or (data is not None and bool(data.get("error")))


def _split(events: bytes) -> Iterator[bytes]:
    for found in _EVENT.finditer(events):
        yield found[0]


def _data_of(event: bytes) -> bytes:
    return b"\n".join(
        line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")
    ).strip()


def _parse(data: bytes) -> dict[str, Any] | None:
    try:
        parsed: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else None


def _is_whole(event: bytes) -> bool:
    data = _data_of(event)
    return data == b"[DONE]" or _parse(data) is not None
