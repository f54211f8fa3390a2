"""What a prompt holds: its estimated tokens and its modalities, checked as it is read.

Only what routing reads is checked; the rest of the dialect is the upstream's to judge.
"""

from collections.abc import Iterable
from typing import Final, cast

from switchboard_dataplane.decision.request import TEXT_ONLY
from switchboard_dataplane.errors import InvalidRequest
from switchboard_dataplane.wire.fields import Array, Object, missing, out_of_range, wrong_type

#: Estimated: a token of English prose has about this many bytes of UTF-8.
BYTES_PER_TOKEN: Final = 4

_MODALITY_BY_PART: Final = {
    "audio_url": "audio",
    "file": "file",
    "image_url": "image",
    "input_audio": "audio",
    "video_url": "video",
}
_A_PROMPT: Final = (
    "a string, an array of strings, an array of token ids, or an array of such arrays"
)


class Prompt:
    """The size and kind of a prompt."""

    def __init__(self, tokens: int, modalities: frozenset[str]) -> None:
        self.tokens: Final = tokens
        self.modalities: Final = modalities


def read_messages(payload: Object) -> Prompt:
    """Read ``messages``; raises InvalidRequest naming the message and the field."""
    messages = payload.get("messages")
    if messages is None:
        raise missing("messages", "an array of messages")
    if not isinstance(messages, list):
        raise wrong_type("messages", messages, "an array of messages")
    if not messages:
        raise out_of_range("messages", cast("Array", messages), "at least one message")
    size = 0
    modalities = TEXT_ONLY
    for number, message in enumerate(cast("Array", messages)):
        if not isinstance(message, dict):
            raise wrong_type(f"messages[{number}]", message, "an object with role and content")
        fields = cast("Object", message)
        if not isinstance(fields.get("role"), str):
            raise _without_role(fields, number)
        content = fields.get("content")
        if isinstance(content, str):
            size += text_bytes(content)
        elif content is not None:
            size_of_parts, found = _read_parts(content, f"messages[{number}].content")
            size += size_of_parts
            modalities |= found
    return Prompt(tokens_of(size), modalities)


def read_prompt(value: object, param: str) -> Prompt:
    """Read a ``prompt`` or an ``input``; raises InvalidRequest naming the element."""
    if isinstance(value, str):
        return Prompt(tokens_of(text_bytes(value)), TEXT_ONLY)
    if not isinstance(value, list):
        raise wrong_type(param, value, _A_PROMPT)
    items = cast("Array", value)
    kinds = set(map(type, items))
    if kinds == {str}:
        return Prompt(tokens_of(sum(map(text_bytes, cast("list[str]", items)))), TEXT_ONLY)
    if kinds == {int}:
        return Prompt(len(items), TEXT_ONLY)
    if kinds != {list}:
        raise _odd_element(items, param)
    arrays = cast("list[Array]", items)
    for number, ids in enumerate(arrays):
        if set(map(type, ids)) != {int}:
            raise wrong_type(f"{param}[{number}]", ids, "an array of token ids (whole numbers)")
    return Prompt(sum(map(len, arrays)), TEXT_ONLY)


def text_bytes(text: str) -> int:
    """Return the length of a text in UTF-8."""
    # ASCII, which most prompts are, is known at once: no copy.
    return len(text) if text.isascii() else len(text.encode())


def tokens_of(size_bytes: int) -> int:
    """Estimate the tokens of so many bytes of text, rounded up."""
    return -(-size_bytes // BYTES_PER_TOKEN)


def _without_role(message: Object, number: int) -> InvalidRequest:
    param = f"messages[{number}].role"
    fix = "a string such as user, assistant or system"
    role = message.get("role")
    return missing(param, fix) if role is None else wrong_type(param, role, fix)


def _read_parts(content: object, param: str) -> tuple[int, frozenset[str]]:
    if not isinstance(content, list):
        raise wrong_type(param, content, "a string, an array of content parts, or null")
    size = 0
    modalities: set[str] = set()
    for number, part in enumerate(cast("Array", content)):
        if isinstance(part, str):
            size += text_bytes(part)
            continue
        if not isinstance(part, dict):
            raise wrong_type(f"{param}[{number}]", part, "an object with type")
        fields = cast("Object", part)
        kind = fields.get("type")
        if kind is None:
            raise missing(f"{param}[{number}].type", "a string such as text or image_url")
        if not isinstance(kind, str):
            raise wrong_type(f"{param}[{number}].type", kind, "a string such as text or image_url")
        if kind in _MODALITY_BY_PART:
            modalities.add(_MODALITY_BY_PART[kind])
        text = fields.get("text")
        if isinstance(text, str):
            size += text_bytes(text)
        elif kind == "text":
            raise wrong_type(f"{param}[{number}].text", text, "a string")
    return size, frozenset(modalities)


def _odd_element(items: Iterable[object], param: str) -> InvalidRequest:
    """Return the error for an array that is empty or mixed."""
    first: type | None = None
    for number, item in enumerate(items):
        kind = type(item)
        if kind not in (str, int, list) or (first is not None and kind is not first):
            return wrong_type(f"{param}[{number}]", item, f"one kind of element: {_A_PROMPT}")
        first = kind
    return out_of_range(param, [], "at least one element")
