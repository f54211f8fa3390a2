"""Finds cards, phone numbers and identity numbers: whatever is mostly digits.

Runs of digits and separators are found once; what a run may be is looked up by its count of
digits, so that a log full of numbers costs little more than prose.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from switchboard_dataplane.reading.checksums import passes_luhn
from switchboard_dataplane.reading.national_ids import NUMBERS, NumberId

#: How far before a number its words may stand, and how far after it.
WORDS_BEFORE_CHARS: Final = 48
WORDS_AFTER_CHARS: Final = 16


class Finding(NamedTuple):
    """Something that was found: what it is and where, never what it says."""

    kind: str
    start: int
    end: int


_RUN: Final = re.compile(r"[0-9](?:[ .\-/()+]{0,2}+[0-9]){6,}+")
_RUN_GOES_ON: Final = re.compile(r"[0-9][ .\-/()+]{0,2}\Z")
_SEPARATORS: Final = str.maketrans("", "", " .-/()+")
_SOLID: Final = re.compile(r"(?<![0-9.\-/+])[0-9]{7,19}+(?![.\-/][0-9])")
_WORD: Final = re.compile(r"[A-Za-z0-9_]")
_AMOUNT: Final = re.compile(r"[$€£¥#][ ]?\Z")

_CARD: Final = re.compile(
    r"(?<![0-9])(?<![0-9][.\-/+])(?:[0-9]{13,19}+"
    r"|[0-9]{4}([ \-.])[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{1,3})?"
    r"|3[0-9]{3}([ \-.])[0-9]{6}\2[0-9]{4,5})(?![0-9]|[.\-/][0-9])"
)
#: Issuers' leading digits, and how long their numbers are.
_ISSUERS: Final = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"
    r"|(?:5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720))[0-9]*(?<=\A[0-9]{16})"
    r"|3[47][0-9]{13}"
    r"|(?:6011|64[4-9]|65|62|81)[0-9]*(?<=\A[0-9]{16})"
    r"|62[0-9]{15,17}"
    r"|(?:36|38|39|30[0-59])[0-9]*(?<=\A[0-9]{14})"
    r"|35(?:2[89]|[3-8])[0-9]*(?<=\A[0-9]{16})"
    r"|220[0-4][0-9]{12}"
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])[0-9]{8,15}"
)

_PHONE_WORDS: Final = re.compile(
    r"\b(?:tel|tél|fax|cell?|celular|mobil[ea]?|móvil|handy|portable|phone|telephone|telefon[eo]?"
    r"|teléfono|téléphone|telefone|telefono|cellulare|whats ?app|signal|viber|sms|text|call|ring"
    r"|dial|contact|pager|hotline|landline|rufnummer|numéro|numero|número|nummer|puhelin"
    r"|telefoon|mobiel|тел|телефон|номер|моб)\b"
    r"|电话|電話|手机|手機|携帯|전화|휴대폰|연락처|फ़ोन|मोबाइल|هاتف|جوال|טלפון|נייד|τηλ"
)
#: Parts of these words, in plain ASCII: most numbers stand next to none of them.
_PHONE_HINTS: Final = (
    *("tel", "fax", "cel", "mobi", "handy", "port", "phone", "puhelin", "what", "signal", "viber"),
    *("sms", "text", "call", "ring", "dial", "contact", "pager", "line", "ruf", "num"),
)
#: National numbers whose writing alone tells what they are.
_PHONE_SHAPES: Final = re.compile(
    r"(?<![0-9])(?<![0-9][.\-/+])(?:"
    # North America
    r"(?:1[ .\-]{1,2})?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}(?:\) ?|[ .\-/]))"
    r"[0-9]{3}[ .\-][0-9]{4}"
    # A leading zero and two or more groups: Europe, Oceania, Japan, Africa
    r"|0[1-9][0-9]{0,4}[ \-/.)]{1,3}[0-9]{2,4}(?:[ \-.]?[0-9]{2,4}){1,3}"
    r"|0[1-9][0-9]{2,3}[ \-/][0-9]{6,8}"
    # India, China, Brazil
    r"|[6-9][0-9]{4}[ \-][0-9]{5}"
    r"|1[3-9][0-9]([ \-])[0-9]{4}\1[0-9]{4}"
    r"|[1-9][0-9]\) ?9?[0-9]{4}-?[0-9]{4}"
    r"|800[ .\-][0-9]{3}[ .\-][0-9]{2}[ .\-]?[0-9]{2}"
    r")(?![0-9]|[.\-/][0-9])"
)
_DATE: Final = re.compile(
    r"(?<![0-9])(?:(?:19|20)[0-9]{2}([\-/.])[01]?[0-9]\1[0-3]?[0-9]"
    r"|[0-3]?[0-9]([\-/.])[0-3]?[0-9]\2(?:19|20)?[0-9]{2})(?![0-9]|[.\-/][0-9])"
)
_PHONE_DIGITS_MIN: Final = 7
_PHONE_DIGITS_MAX: Final = 15
#: With the two zeros of an international call.
_DIALLED_MIN: Final = 10
_NATIONAL_MIN: Final = 9
_NATIONAL_MAX: Final = 12
_CARD_DIGITS_MIN: Final = 13

#: Groups and what refers back to them, which an alternative must not have.
_NO_GROUP: Final = re.compile(r"\(\[ [-.]\]\)|\\1")
_SHAPES: Final = tuple(
    (re.compile(rf"(?<![0-9])(?<![0-9][.\-/]){number.shape}(?![0-9]|[.\-/][0-9])"), number)
    for numbers in NUMBERS.values()
    for number in numbers
    if number.shape
)
#: The same shapes of any digits.
_OUTLINES: Final = tuple(
    re.compile(_NO_GROUP.sub("[ .-]", number.shape).replace("[1-4]", "0").replace("756", "000"))
    for _, number in _SHAPES
)
_TO_OUTLINE: Final = str.maketrans("123456789", "000000000")
_OUTLINES_KEPT: Final = 1_024
_SOLID_OUTLINE: Final = "0" * 7
#: A day, and the hour that often follows it: most of the runs in a log.
_MOMENT: Final = re.compile(
    r"(?:(?:19|20)[0-9]{2}[\-/.][01]?[0-9][\-/.][0-3]?[0-9]"
    r"|[0-3]?[0-9][\-/.][01]?[0-9][\-/.](?:19|20)[0-9]{2})(?: [0-2]?[0-9])?"
)
#: A run longer than this is cut: no number is, and so a wall of digits costs no more than text.
_RUN_CHARS_MAX: Final = 64


def find_numbers(text: str, start: int, end: int) -> Iterator[Finding]:
    """Yield what begins in ``text[start:end]``; the text around it tells what a number is."""
    # A run that began before the seam is the piece's before it.
    begun = start + 1 if _RUN_GOES_ON.search(text, max(0, start - 3), start) else -1
    for run in _RUN.finditer(text, start):
        first, last = run.span()
        if first >= end:
            break
        if first <= begun:
            continue
        if first > 0 and _WORD.match(text, first - 1) is not None:
            continue
        yield from _what_it_is(text, first, last)


def _what_it_is(text: str, first: int, last: int) -> Iterator[Finding]:
    if text[first:last].isdigit():
        yield from _solid(text, first, last)
        return
    if _MOMENT.fullmatch(text, first, last) is not None:
        return
    context = _Context(text, first, last)
    outline = text[first:last].translate(_TO_OUTLINE)
    cards: list[Finding] = []
    if outline.count("0") >= _CARD_DIGITS_MIN:
        cards.extend(_cards(text, first, last))
        yield from cards
    if _SOLID_OUTLINE in outline:
        for part in _SOLID.finditer(text, first, last):
            yield from _solid(text, *part.span())
    yield from _written_ids(text, first, last, outline, context)
    if not cards:
        yield from _phones(text, first, last, context)


def _written_ids(
    text: str, first: int, last: int, outline: str, context: "_Context"
) -> Iterator[Finding]:
    """Identity numbers in their own shapes."""
    for pattern, number in _shapes_in(outline) if len(outline) <= _RUN_CHARS_MAX else _SHAPES:
        for found in pattern.finditer(text, first, last):
            if number.shape_needs_words and not context.has(number.words):
                continue
            if number.check(found[0].translate(_SEPARATORS)):
                yield Finding(number.kind, *found.span())


@lru_cache(maxsize=_OUTLINES_KEPT)
def _shapes_in(outline: str) -> tuple[tuple[re.Pattern[str], NumberId], ...]:
    """Return the shapes that a run may have by where its digits are: few ways to write are many."""
    return tuple(
        shape
        for shape, written in zip(_SHAPES, _OUTLINES, strict=True)
        if written.search(outline) is not None
    )


class _Context:
    """The words around a number, in lower case; looked at only when a number asks."""

    def __init__(self, text: str, first: int, last: int) -> None:
        self._text = text
        self._first = first
        self._last = last
        self._around: str | None = None

    def has(self, words: re.Pattern[str] | None) -> bool:
        return words is not None and words.search(self._read()) is not None

    def speaks_of_phones(self) -> bool:
        around = self._read()
        if around.isascii():
            # Faster than any(): most numbers stand next to none.
            for hint in _PHONE_HINTS:
                if hint in around:
                    break
            else:
                return False
        return _PHONE_WORDS.search(around) is not None

    def _read(self) -> str:
        if self._around is None:
            before = self._text[max(0, self._first - WORDS_BEFORE_CHARS) : self._first]
            after = self._text[self._last : self._last + WORDS_AFTER_CHARS]
            self._around = f"{before} # {after}".lower()
        return self._around


def _solid(text: str, first: int, last: int) -> Iterator[Finding]:
    """What an unbroken row of digits is."""
    digits = text[first:last]
    if last < len(text) and _WORD.match(text, last) is not None:
        return
    size = len(digits)
    if size >= _CARD_DIGITS_MIN and _is_card(digits):
        yield Finding("card", first, last)
    context = _Context(text, first, last)
    for number in NUMBERS.get(size, ()):
        if number.solid_needs_words and not context.has(number.words):
            continue
        if number.check(digits):
            yield Finding(number.kind, first, last)
    if _PHONE_DIGITS_MIN <= size <= _PHONE_DIGITS_MAX and _is_phone(text, first, digits, context):
        yield Finding("phone", first, last)


def _is_phone(text: str, first: int, digits: str, context: _Context) -> bool:
    if first > 0 and text[first - 1] == "+":
        return digits[0] != "0" and len(digits) > _PHONE_DIGITS_MIN
    return _AMOUNT.search(text, max(0, first - 2), first) is None and context.speaks_of_phones()


def _cards(text: str, first: int, last: int) -> Iterator[Finding]:
    for found in _CARD.finditer(text, first, last):
        if _is_card(found[0].translate(_SEPARATORS)):
            yield Finding("card", *found.span())


def _is_card(digits: str) -> bool:
    return _ISSUERS.fullmatch(digits) is not None and passes_luhn(digits)


def _phones(text: str, first: int, last: int, context: _Context) -> Iterator[Finding]:
    """Phone numbers in a run with separators."""
    digits = len(text[first : min(last, first + _RUN_CHARS_MAX)].translate(_SEPARATORS))
    if first > 0 and text[first - 1] == "+":
        if text[first] != "0" and digits > _PHONE_DIGITS_MIN:
            yield Finding("phone", first - 1, last)
        return
    if _AMOUNT.search(text, max(0, first - 2), first) is not None:
        return
    date = _DATE.match(text, first, last)
    if (
        date is None
        and text[first : first + 2] == "00"
        and _DIALLED_MIN <= digits <= _PHONE_DIGITS_MAX + 2
    ):
        if text[first + 2] in "123456789":
            yield Finding("phone", first, last)
        return
    for found in _PHONE_SHAPES.finditer(text, first, last):
        size = len(found[0].translate(_SEPARATORS))
        if _DATE.match(text, found.start()) is None and _NATIONAL_MIN <= size <= _NATIONAL_MAX:
            yield Finding("phone", *found.span())
            return
    if date is None and digits <= _PHONE_DIGITS_MAX and context.speaks_of_phones():
        yield Finding("phone", first, last)


def number_kinds() -> frozenset[str]:
    """Return every kind that may be found here."""
    return frozenset({"card", "phone"} | {one.kind for many in NUMBERS.values() for one in many})


__all__ = ["Finding", "NumberId", "find_numbers", "number_kinds"]
