"""Finds cards, phone numbers and identity numbers: whatever is mostly digits.

Runs of digits and separators are found once, in the outline of a text; what a run may be is looked
up by its own outline, so that a log full of numbers costs little more than prose.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from switchboard_dataplane.reading.checksums import passes_luhn
from switchboard_dataplane.reading.national_ids import NUMBERS, NumberId
from switchboard_dataplane.reading.texts import Slice

#: How far before a number its words may stand, and how far after it.
WORDS_BEFORE_CHARS: Final = 48
WORDS_AFTER_CHARS: Final = 16


class Finding(NamedTuple):
    """Something that was found: what it is and where, never what it says."""

    kind: str
    start: int
    end: int


#: In an outline, where every digit is a zero.
_RUN: Final = re.compile(rb"0(?:[ .\-/()+]{0,2}+0){6,}+")
_RUN_GOES_ON: Final = re.compile(rb"0[ .\-/()+]{0,2}\Z")
_SEPARATORS: Final = b" .-/()+"
_SOLID: Final = re.compile(r"(?<![0-9.\-/+])[0-9]{7,19}+(?![.\-/][0-9])")
_WORD: Final = re.compile(r"[A-Za-z0-9_]")
_WORD_OUTLINE: Final = b"0Aa_"
_CURRENCIES: Final[tuple[str, ...]] = ("$", "€", "£", "¥", "#")

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
_PHONE_HINTS: Final[tuple[str, ...]] = (
    *("tel", "fax", "cel", "mobi", "handy", "port", "phone", "puhelin", "what", "signal", "viber"),
    *("sms", "text", "call", "ring", "dial", "contact", "pager", "line", "ruf", "num"),
)
#: What those begin with, as in ``Slice.starts``, where all of a piece is ASCII.
_PHONE_STARTS: Final = frozenset(
    {b"cal", b"cel", b"con", b"dia", b"fax", b"han", b"hot", b"lan", b"mob", b"num", b"pag"}
    | {b"pho", b"por", b"puh", b"rin", b"ruf", b"sig", b"sms", b"tel", b"tex", b"vib", b"wha"}
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
_DIALLED_MAX: Final = _PHONE_DIGITS_MAX + len("00")
_NATIONAL_MIN: Final = 9
_NATIONAL_MAX: Final = 12
_CARD_DIGITS_MIN: Final = 13

_SHAPES: Final = tuple(
    (re.compile(rf"(?<![0-9])(?<![0-9][.\-/]){number.shape}(?![0-9]|[.\-/][0-9])"), number)
    for numbers in NUMBERS.values()
    for number in numbers
    if number.shape
)
_OUTLINES_KEPT: Final = 1_024
_SOLID_OUTLINE: Final = b"0" * 7
#: A day, and the hour that often follows it: most of the runs in a log.
_MOMENT: Final = re.compile(
    r"(?:(?:19|20)[0-9]{2}[\-/.][01]?[0-9][\-/.][0-3]?[0-9]"
    r"|[0-3]?[0-9][\-/.][01]?[0-9][\-/.](?:19|20)[0-9]{2})(?: [0-2]?[0-9])?"
)
#: A run longer than this is cut: no number is, and so a wall of digits costs no more than text.
_RUN_CHARS_MAX: Final = 64

#: Counts and what refers back to groups stay; a digit or a class of them is the next group.
_DIGIT_OF_PATTERN: Final = re.compile(r"(\{[0-9,]+\}|\\[0-9])|\[[0-9\-]+\]|[0-9]")


def _of_any_digits(pattern: str) -> re.Pattern[bytes]:
    """Return what finds in an outline whatever a pattern finds in its text, and more."""
    outline = _DIGIT_OF_PATTERN.sub(lambda digit: digit[1] or "[0]", pattern)
    return re.compile(outline.encode())


_MOMENT_OUTLINE: Final = _of_any_digits(_MOMENT.pattern)
_CARD_OUTLINE: Final = _of_any_digits(_CARD.pattern)
_DATE_OUTLINE: Final = _of_any_digits(_DATE.pattern)
_PHONE_OUTLINE: Final = _of_any_digits(_PHONE_SHAPES.pattern)
_SHAPE_OUTLINES: Final = tuple(_of_any_digits(pattern.pattern) for pattern, _ in _SHAPES)


class _Outlook:
    """What a run may be by where its digits are: few ways to write are many numbers."""

    def __init__(self, outline: bytes) -> None:
        self.digits: Final = outline.count(b"0", 0, _RUN_CHARS_MAX)
        self.is_solid: Final = outline.isdigit()
        self.has_solid: Final = _SOLID_OUTLINE in outline
        self.moment: Final = _MOMENT_OUTLINE.fullmatch(outline) is not None
        self.card: Final = _CARD_OUTLINE.search(outline) is not None
        self.date: Final = _DATE_OUTLINE.match(outline) is not None
        self.phone: Final = _PHONE_OUTLINE.search(outline) is not None
        self.shapes: Final = tuple(
            shape
            for shape, written in zip(_SHAPES, _SHAPE_OUTLINES, strict=True)
            if written.search(outline) is not None
        )


_kept_outlook: Final = lru_cache(maxsize=_OUTLINES_KEPT)(_Outlook)


def find_numbers(piece: Slice, found: list[Finding]) -> None:
    """Add what begins in a piece; the text around it tells what a number is."""
    outline, start = piece.outline, piece.start
    # A run that began before the seam is the piece's before it.
    begun = -1
    if start > 0 and _RUN_GOES_ON.search(outline, max(0, start - 3), start) is not None:
        begun = start + 1
    near_phone_words = not (piece.ascii and piece.starts.isdisjoint(_PHONE_STARTS))
    for run in _RUN.finditer(outline, start):
        first, last = run.span()
        if first >= piece.end:
            break
        if first > begun and (first == 0 or outline[first - 1] not in _WORD_OUTLINE):
            number = _Number(piece.text, first, last, near_phone_words=near_phone_words)
            _find_number(number, run[0], found)


class _Number:
    """A number and the words around it, in lower case; those are looked at only when asked for."""

    def __init__(self, text: str, first: int, last: int, *, near_phone_words: bool) -> None:
        self.text: Final = text
        self.first: Final = first
        self.last: Final = last
        #: Whether words of phones may be anywhere near.
        self.near_phone_words: Final = near_phone_words
        self._around: str | None = None

    def follows(self, words: re.Pattern[str] | None) -> bool:
        """Whether one of these stands next to it."""
        return words is not None and words.search(self._read()) is not None

    def is_called_a_phone(self) -> bool:
        glued = self.text[self.last : self.last + 1].isalpha()
        if not (self.near_phone_words or glued):
            return False
        around = self._read()
        if around.isascii():
            # Faster than any(): most numbers stand next to none.
            for hint in _PHONE_HINTS:
                if hint in around:
                    break
            else:
                return False
        return _PHONE_WORDS.search(around) is not None

    def is_amount(self) -> bool:
        """Whether it follows the sign of a currency, or that of a count."""
        before = self.text[max(0, self.first - 2) : self.first]
        return before.removesuffix(" ").endswith(_CURRENCIES)

    def has_plus(self) -> bool:
        return self.first > 0 and self.text[self.first - 1] == "+"

    def _read(self) -> str:
        if self._around is None:
            before = self.text[max(0, self.first - WORDS_BEFORE_CHARS) : self.first]
            after = self.text[self.last : self.last + WORDS_AFTER_CHARS]
            self._around = f"{before} # {after}".lower()
        return self._around


def _find_number(number: _Number, outline: bytes, found: list[Finding]) -> None:
    """Add what a run of digits and separators is."""
    outlook = (_Outlook if len(outline) > _RUN_CHARS_MAX else _kept_outlook)(outline)
    text, first, last = number.text, number.first, number.last
    if outlook.is_solid:
        _find_solid(number, found)
        return
    if outlook.moment and _MOMENT.fullmatch(text, first, last) is not None:
        return
    is_card = outlook.card and _find_cards(number, found)
    if outlook.has_solid:
        for part in _SOLID.finditer(text, first, last):
            near = number.near_phone_words
            _find_solid(_Number(text, part.start(), part.end(), near_phone_words=near), found)
    for shape, identity in outlook.shapes:
        for written in shape.finditer(text, first, last):
            if identity.shape_needs_words and not number.follows(identity.words):
                continue
            if identity.check(_digits_in(written[0])):
                found.append(Finding(identity.kind, written.start(), written.end()))
    if not is_card:
        _find_phone(number, outlook, found)


def _find_cards(number: _Number, found: list[Finding]) -> bool:
    """Add the cards in a run with separators, and say whether there are any."""
    cards = [
        Finding("card", card.start(), card.end())
        for card in _CARD.finditer(number.text, number.first, number.last)
        if _is_card(_digits_in(card[0]))
    ]
    found += cards
    return bool(cards)


def _find_solid(number: _Number, found: list[Finding]) -> None:
    """Add what an unbroken row of digits is."""
    text, first, last = number.text, number.first, number.last
    if last < len(text) and _WORD.match(text, last) is not None:
        return
    digits, size = text[first:last], last - first
    if size >= _CARD_DIGITS_MIN and _is_card(digits):
        found.append(Finding("card", first, last))
    for identity in NUMBERS.get(size, ()):
        if identity.solid_needs_words and not number.follows(identity.words):
            continue
        if identity.check(digits):
            found.append(Finding(identity.kind, first, last))
    if _PHONE_DIGITS_MIN <= size <= _PHONE_DIGITS_MAX and _is_phone(number, digits):
        found.append(Finding("phone", first, last))


def _is_phone(number: _Number, digits: str) -> bool:
    if number.has_plus():
        return digits[0] != "0" and len(digits) > _PHONE_DIGITS_MIN
    return not number.is_amount() and number.is_called_a_phone()


def _digits_in(written: str) -> str:
    # Of bytes: in a text, each digit that no table names is an error inside, and as dear.
    return written.encode().translate(None, _SEPARATORS).decode()


def _is_card(digits: str) -> bool:
    return _ISSUERS.fullmatch(digits) is not None and passes_luhn(digits)


def _find_phone(number: _Number, outlook: _Outlook, found: list[Finding]) -> None:
    """Add the phone number in a run with separators."""
    text, first, last, digits = number.text, number.first, number.last, outlook.digits
    if number.has_plus():
        if text[first] != "0" and digits > _PHONE_DIGITS_MIN:
            found.append(Finding("phone", first - 1, last))
        return
    if number.is_amount():
        return
    is_date = outlook.date and _DATE.match(text, first, last) is not None
    is_dialled = _DIALLED_MIN <= digits <= _DIALLED_MAX and text.startswith("00", first)
    if is_dialled and not is_date:
        if text[first + 2] in "123456789":
            found.append(Finding("phone", first, last))
        return
    for written in _PHONE_SHAPES.finditer(text, first, last) if outlook.phone else ():
        size = len(_digits_in(written[0]))
        is_long = _NATIONAL_MIN <= size <= _NATIONAL_MAX
        if is_long and _DATE.match(text, written.start()) is None:
            found.append(Finding("phone", written.start(), written.end()))
            return
    if not is_date and digits <= _PHONE_DIGITS_MAX and number.is_called_a_phone():
        found.append(Finding("phone", first, last))


def number_kinds() -> frozenset[str]:
    """Return every kind that may be found here."""
    return frozenset({"card", "phone"} | {one.kind for many in NUMBERS.values() for one in many})


__all__ = ["Finding", "NumberId", "find_numbers", "number_kinds"]
