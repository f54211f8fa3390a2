"""Which texts of a request the readings read, in what pieces, and what none of them can read."""

import re
from collections.abc import Iterator, Mapping
from operator import itemgetter
from string import ascii_lowercase, ascii_uppercase, digits, punctuation
from typing import Final, cast

from switchboard_dataplane.decision.request import Payload, RequestView, texts_in, texts_of

#: What lexical readings see of a turn: its first and its last characters, half of this each.
TURN_CHARS_MAX: Final = 4_000
#: What is scanned of all messages together; the rest counts as unread.
SCAN_CHARS_MAX: Final = 4_000_000
#: One piece of a scan: a millisecond or two of work, then others have their turn.
SLICE_CHARS: Final = 16_384
#: Longer than anything that is looked for, so that what crosses a seam is seen whole.
OVERLAP_CHARS: Final = 512

#: Between the names of fields and what they hold: words tell nothing of a number so far away.
_APART: Final = "\n" * 64

#: By so many characters at the beginning a word is sorted out, before it is looked for.
START_CHARS: Final = 3

_TO_SPACE: Final = bytes.maketrans(punctuation.encode(), b" " * len(punctuation))
_TO_OUTLINE: Final = bytes.maketrans(
    f"{digits}{ascii_uppercase}{ascii_lowercase}".encode(), b"0" * 10 + b"A" * 26 + b"a" * 26
)
_START: Final = itemgetter(slice(START_CHARS))
_USER: Final = frozenset({"user"})
_OPERATOR: Final = frozenset({"system", "developer"})
_MEDIA: Final[Mapping[str, str]] = {
    "audio": "audio",
    "audio_url": "audio",
    "document": "file",
    "file": "file",
    "image": "image",
    "image_url": "image",
    "input_audio": "audio",
    "input_file": "file",
    "input_image": "image",
    "video": "video",
    "video_url": "video",
}
#: Parts of a message whose strings are all there is to them.
_TEXT_PARTS: Final = frozenset(
    {"input_text", "output_text", "reasoning", "refusal", "text", "thinking", "tool_call"}
    | {"tool_result", "tool_use"}
)
#: Fields that hold encoded bytes, and how such a value begins.
_BLOBS: Final = frozenset({"data", "file_data", "image_url", "url"})
_BLOB: Final = re.compile(r"data:|[A-Za-z0-9+/]{64}")
#: Named by the caller for the router, not for the model.
_NOT_SENT_AS_TEXT: Final = frozenset({"model"})


class Scope:
    """All that a reading of many messages reads: one text, and what of it could not be read.

    ``unread`` names kinds: audio, file, image, video, other, tokens (an array of token ids) and
    oversize (more than SCAN_CHARS_MAX characters).
    """

    def __init__(self, text: str, unread: frozenset[str]) -> None:
        self.text: Final = text
        self.unread: Final = unread


class Slice:
    """A piece of a text with what stands around it.

    What begins in ``text[start:end]`` is this piece's to find; the rest is there for the seams.
    The other forms have every character in the same place. Those of bytes are made and searched
    several times as fast as a text; what is not ASCII is a question mark or a space in them.
    """

    def __init__(self, text: str, start: int, end: int) -> None:
        self.text: Final = text
        self.start: Final = start
        self.end: Final = end
        self.ascii: Final = text.isascii()
        self._lower: str | None = None
        self._outline: bytes | None = None
        self._plain: bytes | None = None
        self._starts: frozenset[bytes] | None = None

    @property
    def lower(self) -> str:
        """The text in lower case."""
        if self._lower is None:
            self._lower = _lower_case(self.text)
        return self._lower

    @property
    def outline(self) -> bytes:
        """The text with 0 for every digit, A for every capital, a for every small letter."""
        if self._outline is None:
            self._outline = self.text.encode("ascii", "replace").translate(_TO_OUTLINE)
        return self._outline

    @property
    def plain(self) -> bytes:
        """The text in lower case, with a space for every mark of punctuation."""
        if self._plain is None:
            self._plain = self.lower.encode("ascii", "replace").translate(_TO_SPACE)
        return self._plain

    @property
    def starts(self) -> frozenset[bytes]:
        """What the words here begin with, and b"".

        A phrase of which ``start_of`` is not among them is at the beginning of no word here.
        """
        if self._starts is None:
            self._starts = frozenset([b"", *map(_START, set(self.plain.split()))])
        return self._starts

    def tail(self, text: str) -> "Slice | None":
        """Return what a text is of the piece, where the piece ends with its lines; else None.

        Its forms are those of the piece, as they are too dear to be made twice.
        """
        start = self.end - len(text)
        if self.end != len(self.text) or not self.text.endswith(text):
            return None
        if start > 0 and self.text[start - 1] != "\n":
            return None
        tail = Slice(self.text, start, self.end)
        tail._lower, tail._outline = self.lower, self.outline
        tail._plain, tail._starts = self.plain, self.starts
        return tail


def whole(text: str) -> Slice:
    """Return a text as one piece."""
    return Slice(text, 0, len(text))


def plain_form(phrase: str) -> bytes:
    """Return an ASCII phrase as it stands in ``Slice.plain``."""
    return phrase.lower().encode("ascii").translate(_TO_SPACE)


def start_of(phrase: str) -> bytes:
    """Return the one of ``Slice.starts`` that a phrase has; b"" where nobody can tell."""
    words = phrase.lower().encode("ascii", "replace").translate(_TO_SPACE).split()
    return words[0][:START_CHARS] if words else b""


def is_in_word(plain: bytes, place: int) -> bool:
    """Say whether a letter or digit is at a place of ``Slice.plain``; there may be none."""
    return 0 <= place < len(plain) and plain[place : place + 1].isalnum()


def last_user_turn(view: RequestView) -> str:
    """Return the text of the last user message, or the whole prompt or input."""
    messages = view.messages
    if messages is None:
        return "\n".join(texts_of(view, roles=_USER))
    for place in reversed(range(len(messages))):
        message = messages[place]
        if isinstance(message, dict) and cast("Payload", message).get("role") == "user":
            return "\n".join(texts_in(messages[place : place + 1], roles=_USER))
    return ""


def head_and_tail(text: str, most: int = TURN_CHARS_MAX) -> str:
    """Return a text, or the first and the last half of ``most`` characters of a longer one."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n{text[-half:]}"


def all_messages(view: RequestView) -> Scope:
    """Return every string that goes to the model: all roles, tools, calls, names of fields."""
    walk = _Walk()
    for name, value in view.payload.items():
        if name not in _NOT_SENT_AS_TEXT:
            walk.take(name, value)
    if walk.names:
        # First, so that the text ends as that of the untrusted messages does: ``Slice.tail``.
        walk.texts.insert(0, "\n".join(walk.names) + _APART)
    return _scope(walk)


def untrusted_messages(view: RequestView) -> Scope:
    """Return what the operator of the application did not write: neither system nor tools."""
    walk = _Walk()
    messages = view.payload.get("messages")
    if isinstance(messages, list):
        for message in cast("list[object]", messages):
            if isinstance(message, dict):
                said = cast("Payload", message)
                role = said.get("role")
                if not (isinstance(role, str) and role in _OPERATOR):
                    walk.take("messages", said)
    for name in ("prompt", "input"):
        walk.take(name, view.payload.get(name))
    return _scope(walk)


def slices(text: str) -> Iterator[Slice]:
    """Cut a text into folded pieces of SLICE_CHARS that overlap by OVERLAP_CHARS."""
    for first in range(0, len(text), SLICE_CHARS):
        begin = max(0, first - OVERLAP_CHARS)
        window = _without_escapes(text[begin : first + SLICE_CHARS + OVERLAP_CHARS])
        start, end = first - begin, first - begin + SLICE_CHARS
        before, own, after = window[:start], window[start:end], window[end:]
        before, own, after = (
            _plain_characters(before),
            _plain_characters(own),
            _plain_characters(after),
        )
        yield Slice(f"{before}{own}{after}", len(before), len(before) + len(own))


def fold(text: str) -> str:
    """Undo what hides plain characters: JSON escapes in a string, wide digits, odd spaces."""
    return _plain_characters(_without_escapes(text))


def _without_escapes(text: str) -> str:
    # A space for each of the two characters: what is a seam's stays at its seam.
    if "\\" in text:
        for escape in ("\\n", "\\r", "\\t"):
            text = text.replace(escape, "  ")
    return text


def _plain_characters(text: str) -> str:
    if not text.isascii():
        # A table for the whole text takes ten times as long: few of its characters are odd.
        for odd in set(_ODD.findall(text)):
            text = text.replace(odd, _FOLDED[odd])
    return text


def _lower_case(text: str) -> str:
    """Return a text in lower case with every character in its place."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(one.lower()[:1] for one in text)


class _Walk:
    """Collects the strings of a parsed body, without recursion."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.names: dict[str, None] = {}
        self.unread: set[str] = set()

    def take(self, name: str, value: object) -> None:
        stack: list[tuple[str, object]] = [(name, value)]
        while stack:
            name, value = stack.pop()
            if isinstance(value, str):
                self._take_text(name, value)
            elif isinstance(value, dict):
                self._take_object(name, cast("Payload", value), stack)
            elif isinstance(value, list):
                items = cast("list[object]", value)
                if name in {"prompt", "input"} and _holds_tokens(items):
                    self.unread.add("tokens")
                stack.extend((name, item) for item in reversed(items))

    def _take_text(self, name: str, text: str) -> None:
        if name in _BLOBS and _BLOB.match(text) is not None:
            self.unread.add("file")
        elif text:
            self.texts.append(text)

    def _take_object(self, name: str, said: Payload, stack: list[tuple[str, object]]) -> None:
        kind = said.get("type")
        if name == "content" and isinstance(kind, str) and kind not in _TEXT_PARTS:
            self.unread.add(_MEDIA.get(kind, "other"))
        if isinstance(said.get("audio"), dict):
            self.unread.add("audio")
        self.names.update(dict.fromkeys(said))
        stack.extend(reversed(list(said.items())))


def _holds_tokens(items: list[object]) -> bool:
    return any(isinstance(item, int) for item in items[:1])


def _scope(walk: _Walk) -> Scope:
    text = "\n".join(walk.texts)
    if len(text) > SCAN_CHARS_MAX:
        walk.unread.add("oversize")
        text = text[:SCAN_CHARS_MAX]
    return Scope(text, frozenset(walk.unread))


def _folded() -> dict[str, str]:
    table = {0xFF01 + code: chr(0x21 + code) for code in range(94)}
    # A wide backslash begins no escape.
    del table[0xFF3C]
    # Arabic, Persian, Devanagari and Bengali digits.
    for zero in (0x0660, 0x06F0, 0x0966, 0x09E6):
        table |= {zero + digit: str(digit) for digit in range(10)}
    table |= dict.fromkeys((0x00A0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), " ")
    table |= dict.fromkeys((*range(0x2010, 0x2016), 0x2212, 0xFE63), "-")
    table |= dict.fromkeys((0x00AD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF), "")
    return {chr(code): plain for code, plain in table.items()}


_FOLDED: Final = _folded()
_ODD: Final = re.compile(f"[{''.join(map(re.escape, _FOLDED))}]")
