"""Recognises the answer to a prompt that is longer than the model's context window.

There is no common word for it: OpenAI has a code, the engines have sentences.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

#: Statuses under which a prompt that is too long is refused.
OVERFLOW_STATUSES: Final = frozenset({400, 413, 422})
#: How much of a message is looked at, in characters: some repeat the prompt.
_MESSAGE_MAX: Final = 2_000

# A tuple: what an upstream says need not be hashable.
_CODES: Final = ("context_length_exceeded", "exceed_context_size_error")
# vLLM: "This model's maximum context length is 4096 tokens", "the model's context length is only
# 4096", "longer than the maximum model length of 4096". SGLang: "longer than the model's context
# length (4096 tokens)", "exceeds the maximum allowed length (4090 tokens)". llama.cpp: "exceeds
# the available context size". The number, if it is there, is the window.
_LENGTH: Final = re.compile(
    r"(?:context|prompt|model|allowed|allowed input) (?:length|window|size)"
    r"(?:[^\d.]{0,20}(?P<tokens>\d{2,9}))?",
    re.IGNORECASE,
)
# Anthropic: "prompt is too long: 210000 tokens > 200000 maximum". vLLM, where the prompt alone
# fills the window: "max_tokens must be at least 1, got -186".
_TOO_LONG: Final = re.compile(
    r"prompt is too long(?:[^>]{0,40}> (?P<tokens>\d{2,9}))?|max_tokens must be at least 1, got -",
    re.IGNORECASE,
)


def find_overflow(error: Mapping[str, Any]) -> int | None:
    """Return the window that an error object tells of, in tokens, or 0 where it tells none.

    None says that the error is another one.
    """
    message = error.get("message")
    text = message[:_MESSAGE_MAX] if isinstance(message, str) else ""
    found = _LENGTH.search(text) or _TOO_LONG.search(text)
    if found is None:
        return 0 if error.get("code") in _CODES or error.get("type") in _CODES else None
    told = found.groupdict().get("tokens")
    return int(told) if told else 0
