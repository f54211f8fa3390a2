"""The usage that an upstream reports, found without parsing the answer around it."""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

import orjson

#: Usage stands at the end of an answer; how much of that end is looked through, in bytes.
TAIL_BYTES: Final = 16 * 1024

# A quote inside a JSON string is escaped, so an unescaped one before the name makes it a key. The
# object holds counts, and objects of counts.
_USAGE: Final = re.compile(rb'(?<!\\)"usage"\s*+:\s*+(\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\})')


class Usage(NamedTuple):
    """Tokens as the upstream counted them, or as we estimate; ``cached`` is part of ``input``."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    estimated: bool = False


def find_usage(answer: bytes) -> Usage | None:
    """Return the last usage in the tail of a whole answer; None where there is none."""
    found = _USAGE.findall(answer[-TAIL_BYTES:])
    try:
        return usage_of(orjson.loads(found[-1])) if found else None
    except orjson.JSONDecodeError:
        return None


def usage_of(value: object) -> Usage | None:
    """Read a parsed ``usage``; None where it is none (null, or without a single count)."""
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, Any]", value)
    details = fields.get("prompt_tokens_details")
    cached = _count(cast("dict[str, Any]", details), "cached_tokens") if _is_map(details) else 0
    if "prompt_tokens" not in fields and "completion_tokens" not in fields:
        return None
    return Usage(
        input_tokens=_count(fields, "prompt_tokens"),
        output_tokens=_count(fields, "completion_tokens"),
        cached_tokens=min(cached, _count(fields, "prompt_tokens")),
    )


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


def _count(fields: Mapping[str, Any], key: str) -> int:
    value = fields.get(key)
    return value if isinstance(value, int) and value > 0 else 0
