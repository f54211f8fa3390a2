"""What a bad request is, and how one is put on the wire, in few words."""

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

CHAT: Final = "/v1/chat/completions"
TEXT: Final = "/v1/completions"
EMBED: Final = "/v1/embeddings"
MODELS: Final = "/v1/models"
#: The model that is served; every request here asks for it, or says wrongly what it wants.
MODEL: Final = "good"
BODY_LIMIT_BYTES: Final = 32 * 1024 * 1024

DEADLINE: Final = "x-switchboard-deadline-ms"
TAGS: Final = "x-switchboard-tags"
SESSION: Final = "x-switchboard-session"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why requests are refused: ``fix`` is a piece of every message."""

    name: str
    code: str
    fix: str
    status: int = 400


@dataclass(frozen=True, slots=True)
class BadRequest:
    """One of them: ``value`` is the piece of the message that shows what was sent."""

    reason: Reason
    number: int
    param: str | None
    value: str
    raw: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.reason.name} {self.number}".replace(" ", "-")


#: param, value, raw
Row = tuple[str | None, str, bytes]


def wire(
    body: bytes = b"",
    *head: str | bytes,
    path: str = CHAT,
    method: str = "POST",
    length: bool = True,
) -> bytes:
    """A request in HTTP/1.1, with these lines in its head."""
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: x"]
    lines += [one.encode() if isinstance(one, str) else one for one in head]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


HELLO: Final = [{"role": "user", "content": "hi"}]
#: A good body but for its end.
OPEN: Final = b'{"model":"good","messages":[{"role":"user","content":"hi"}]'
WHOLE: Final = OPEN + b"}"


def said(**fields: Any) -> bytes:
    """A good chat request but for these fields."""
    return wire(orjson.dumps({"model": MODEL, "messages": HELLO, **fields}))


def only(path: str = CHAT, **fields: Any) -> bytes:
    return wire(orjson.dumps(fields), path=path)


def content(value: object) -> bytes:
    return said(messages=[{"role": "user", "content": value}])


def tail(text: bytes) -> bytes:
    """A good chat request but for the bytes at its end."""
    return wire(OPEN + text)


def hint(*lines: str | bytes) -> bytes:
    return wire(WHOLE, *lines)


def plain(body: bytes, value: str) -> Row:
    return (None, value, wire(body))


def ended(text: bytes, value: str) -> Row:
    return (None, value, tail(text))


def prompt(value: object) -> bytes:
    return only(TEXT, model=MODEL, prompt=value)


def embed(value: object) -> bytes:
    return only(EMBED, model=MODEL, input=value)


def typed(param: str, value: str, **fields: Any) -> Row:
    return (param, f"{param} is {value}", said(**fields))


JSON, TYPE, VALUE = "invalid_json", "invalid_type", "invalid_value"
MISSING = "missing_required_parameter"
HTTP = "malformed_http"
OBJECT = "send a JSON object"
HTTP_11 = "send HTTP/1.1"
M0 = "messages[0]"
COUNT = "a whole number in 0..2147483647"


def not_json(name: str) -> Reason:
    return Reason(f"not JSON: {name}", JSON, OBJECT)


def not_http(name: str) -> Reason:
    return Reason(f"not HTTP: {name}", HTTP, HTTP_11)


CHUNKED = "Transfer-Encoding: chunked"


def chunked(body: bytes) -> bytes:
    return wire(body, CHUNKED, length=False)


def started(line: bytes) -> bytes:
    """A request with that first line."""
    return line + b"\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
