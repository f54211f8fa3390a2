"""The usage that an upstream reports, found without parsing the answer around it."""

import re
from typing import Any, Final, cast

import orjson

#: Usage stands at the end of an answer; how much of that end is looked through, in bytes.
TAIL_BYTES: Final = 16 * 1024
#: How many keys named so are looked at; a hostile answer may have thousands.
CANDIDATES_MAX: Final = 8

_KEY: Final = b'"usage"'
# A quote inside a JSON string is escaped, so an unescaped one before the name makes it a key. The
# object holds counts, and objects of counts.
_ESCAPE: Final = ord("\\")
_USAGE: Final = re.compile(rb'"usage"\s*+:\s*+(\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\})')


class Usage:
    """Tokens as the upstream counted them, or as we estimate; ``cached`` is part of ``input``."""

    def __init__(
        self,
        input_tokens: int,
        output_tokens: int,
        cached_tokens: int = 0,
        *,
        estimated: bool = False,
    ) -> None:
        self.input_tokens: Final = input_tokens
        self.output_tokens: Final = output_tokens
        self.cached_tokens: Final = cached_tokens
        self.estimated: Final = estimated


def find_usage(answer: bytes) -> Usage | None:
    """Return the last usage in the tail of a whole answer; None where there is none."""
    end = len(answer)
    least = max(0, end - TAIL_BYTES)
    for _ in range(CANDIDATES_MAX):
        start = answer.rfind(_KEY, least, end)
        if start < 0:
            return None
        found = _USAGE.match(answer, start)
        if found is not None and answer[start - 1] != _ESCAPE:
            try:
                return usage_of(orjson.loads(found[1]))
            except orjson.JSONDecodeError:
                return None
        end = start
    return None


def usage_of(value: object) -> Usage | None:
    """Read a parsed ``usage``; None where it is none (null, or without a single count)."""
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, Any]", value)
    if "prompt_tokens" not in fields and "completion_tokens" not in fields:
        return None
    input_tokens = _count(fields.get("prompt_tokens"))
    details = fields.get("prompt_tokens_details")
    cached_tokens = 0
    if isinstance(details, dict):
        cached_tokens = _count(cast("dict[str, Any]", details).get("cached_tokens"))
    return Usage(
        input_tokens, _count(fields.get("completion_tokens")), min(cached_tokens, input_tokens)
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
