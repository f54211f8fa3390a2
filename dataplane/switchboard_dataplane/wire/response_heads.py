"""The heads of our own responses in HTTP/1.1, as bytes."""

from collections.abc import Callable, Sequence
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Final

from switchboard_dataplane.wire.answers import Answer
from switchboard_dataplane.wire.headers import header_lines

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}
#: A smaller body is joined to its head: one call of the socket instead of two.
_JOINED_BYTES_MAX: Final = 64 * 1024


class ResponseHeads:
    """Writes heads; ``clock`` is the event loop's, ``today`` the time of day, for Date."""

    __slots__ = ("_clock", "_date", "_date_until", "_today")

    def __init__(self, *, clock: Callable[[], float], today: Callable[[], datetime]) -> None:
        self._clock = clock
        self._today = today
        self._date = ""
        self._date_until = 0.0

    def whole(self, answer: Answer, *, close: bool, old: bool, bare: bool) -> bytes:
        """Return a whole response; ``bare`` leaves out the body, ``old`` is for HTTP/1.0."""
        body = answer.body
        head = self._head(
            answer.status,
            answer.headers,
            f"content-length: {len(body)}\r\n{_connection(close=close, old=old)}",
        )
        return head if bare else head + body

    def streamed(
        self, status: int, headers: Sequence[tuple[str, str]], *, close: bool, old: bool
    ) -> bytes:
        """Return the head of a response whose length is not known: chunked, but for HTTP/1.0."""
        framing = "" if old else "transfer-encoding: chunked\r\n"
        return self._head(status, headers, framing + _connection(close=close, old=old))

    def _head(self, status: int, headers: Sequence[tuple[str, str]], framing: str) -> bytes:
        first = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"
        return f"{first}{header_lines(headers)}date: {self._now()}\r\n{framing}\r\n".encode(
            "utf-8", "surrogateescape"
        )

    def _now(self) -> str:
        now = self._clock()
        if now >= self._date_until:
            self._date = format_datetime(self._today(), usegmt=True)
            self._date_until = now + 1.0
        return self._date


def _connection(*, close: bool, old: bool) -> str:
    if close:
        return "connection: close\r\n"
    return "connection: keep-alive\r\n" if old else ""
