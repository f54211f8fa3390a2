"""Replaces top-level values in a JSON object and leaves every other byte as it was.

A body is parsed once to be understood, but sent on as it came: numbers keep their digits, keys
their order, and a caller's unusual spelling reaches the model that it was meant for.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import orjson

# Possessive, so linear in the length of the body whatever is in it.
_TOKEN: Final = re.compile(rb'[^"{}\[\]]*+(?:("[^"\\]*+(?:\\.[^"\\]*+)*+")|[{}\[\]])', re.DOTALL)
_COLON: Final = re.compile(rb"\s*+:\s*+")
_SCALAR: Final = re.compile(rb"[^\s,}]++")
_OPEN: Final = frozenset(b"{[")
_QUOTE: Final = ord('"')

_MODEL: Final = b'"model"'
#: How any letter of "model" would begin if it were escaped (U+0060 to U+006F).
_ESCAPED_LETTER: Final = b"\\u006"


class Span(NamedTuple):
    """A value at the top level of an object: ``body[start:end]``."""

    key: str
    start: int
    end: int


def splice_model(body: bytes, model: bytes) -> bytes:
    """Return a valid JSON object that has a ``model`` with that value (raw JSON) replaced.

    Where the bytes ``"model"`` are there once and none of its letters is escaped anywhere, that
    place is the key, and the body needs no scan: a long conversation is cut in microseconds.
    """
    first = body.find(_MODEL)
    if first < 0 or body.find(_MODEL, first + 1) >= 0 or body.find(_ESCAPED_LETTER) >= 0:
        return splice(body, {"model": model})
    colon = _COLON.match(body, first + len(_MODEL))
    if colon is None:
        raise ValueError("no JSON object with a model")
    end = _end_of_value(body, colon.end())
    return b"".join((body[: colon.end()], model, body[end:]))


def splice(body: bytes, values: Mapping[str, bytes]) -> bytes:
    """Return the object with these top-level values, each raw JSON, replaced or put in front.

    ``body`` must be a valid JSON object. A key that is there more than once is replaced
    everywhere, because parsers differ in which one they take.
    """
    pieces: list[bytes] = []
    missing = dict(values)
    done = 0
    for span in top_level_values(body):
        value = values.get(span.key)
        if value is not None:
            pieces += (body[done : span.start], value)
            done = span.end
            missing.pop(span.key, None)
    pieces.append(body[done:])
    spliced = b"".join(pieces)
    return put_in_front(spliced, missing) if missing else spliced


def put_in_front(body: bytes, values: Mapping[str, bytes]) -> bytes:
    """Add members that the object does not have; in front, for that place needs no scan."""
    place = body.index(b"{") + 1
    members = b",".join(orjson.dumps(key) + b":" + value for key, value in values.items())
    rest = body[place:]
    comma = b"" if rest.lstrip(b" \t\r\n").startswith(b"}") else b","
    return b"".join((body[:place], members, comma, rest))


def top_level_values(body: bytes) -> Iterator[Span]:
    """Yield the values of a valid JSON object's own keys, in order, duplicates too."""
    position = body.index(b"{") + 1
    while (token := _TOKEN.match(body, position)) is not None and token[1] is not None:
        colon = _COLON.match(body, token.end())
        if colon is None:
            raise ValueError(f"no JSON object: a key without a value at byte {token.end()}")
        start = colon.end()
        position = _end_of_value(body, start)
        yield Span(key=_text(token[1]), start=start, end=position)


def _end_of_value(body: bytes, start: int) -> int:
    first = body[start]
    if first not in _OPEN:
        whole = (_TOKEN if first == _QUOTE else _SCALAR).match(body, start)
        if whole is None:
            raise ValueError(f"no JSON object: no value at byte {start}")
        return whole.end()
    depth = 0
    for token in _TOKEN.finditer(body, start):
        if token[1] is None:
            depth += 1 if body[token.end() - 1] in _OPEN else -1
        if depth == 0:
            return token.end()
    raise ValueError(f"no JSON object: the value at byte {start} does not end")


def _text(quoted: bytes) -> str:
    # Most keys are plain; only one with an escape needs a parser.
    return str(orjson.loads(quoted)) if b"\\" in quoted else quoted[1:-1].decode()
