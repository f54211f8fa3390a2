r"""What an answer comes to in the end: a number, a letter to choose, yes or no, a few words.

The forms are those that models are asked for and benchmarks read: ``#### 18``, ``\boxed{18}``,
"The answer is (B).", or the bare thing.
"""

import re
from collections.abc import Iterator
from enum import Enum, auto
from fractions import Fraction
from typing import Final, NamedTuple

#: A text that is no longer is all final, in characters.
SHORT_CHARS: Final = 80
#: How much of what follows a mark is read, in characters.
MARKED_CHARS: Final = 200
#: Digits of a number that is read as one; a longer one is a text.
DIGITS_MAX: Final = 30
#: A quantity has its number among its first words: "18 dollars", "about 18".
LEADING_WORDS: Final = 2
#: Decimals that differ by less than this part of them were rounded.
ROUNDING: Final = Fraction(1, 2_000)

#: The mathematicians' one, beside the typists'.
MINUS: Final = "\N{MINUS SIGN}"

_DIGITS: Final = r"(?:\d{1,3}(?:,\d{3})++(?!\d)|\d++)(?:\.\d++)?"
_NUMBER: Final = re.compile(
    rf"(?<![\w.,])([-+]?)(?:[$€£¥][ ]?)?([-+]?)({_DIGITS})(?:[ ]?/[ ]?(\d++)(?![\d/]))?"
)
_CHOICE: Final = re.compile(
    r"(?:option |choice |answer )?(?:\(([A-J])\)|([A-J])(?=[).:,]|$| is\b| -))", re.IGNORECASE
)
_VERDICT: Final = re.compile(r"(?:(yes|true|correct)|(no|false|incorrect))\b", re.IGNORECASE)
_BOXED: Final = re.compile(r"\\boxed\s*+\{((?:[^{}]++|\{[^{}]*+\})*+)\}")
_FRACTION: Final = re.compile(r"\\[dt]?frac\s*+\{([^{}]*+)\}\s*+\{([^{}]*+)\}")
_WRAPPED: Final = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*+\{([^{}]*+)\}")
_DRESS: Final = re.compile(r"\\[,;!()\[\]]|\\(?=[$%])|\*\*|__|`")
_MARK: Final = re.compile(
    r"####[ \t]*+"
    r"|\b(?:final |correct |right |best )?(?:answer|choice|option)(?: is| are|[ \t]*+[:=])[ \t]*+:?"
    r"|\b(?:antwort|lösung)(?: ist| lautet|:)[ \t]*+:?"
    r"|\b(?:réponse|respuesta)(?: est| es|[ ]?:)[ \t]*+:?"
    r"|^a:",
    re.IGNORECASE | re.MULTILINE,
)
_CORRECT: Final = re.compile(
    r"\b(?:answer|choice|option) \(?([A-J])\)? is (?:the )?(?:best|correct|right)", re.IGNORECASE
)
_SENTENCE_END: Final = re.compile(r"[.!?;](?=\s|$)|\n| because | since ")
_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W\d_]+)?")
_ARTICLES: Final = frozenset({"a", "an", "the"})


class Kind(Enum):
    """What an answer may come to."""

    NUMBER = auto()
    CHOICE = auto()
    VERDICT = auto()
    WORDS = auto()


class Ending(NamedTuple):
    """What an answer comes to: its ``words``, and the one ``number`` among them, if there is one.

    It is of kind NUMBER where that is what it begins with.
    """

    kind: Kind
    words: tuple[str, ...]
    number: Fraction | None = None


def undressed(text: str) -> str:
    """Return a text without the marks of Markdown and LaTeX around its words and numbers."""
    if "\\" in text:
        text = _WRAPPED.sub(r"\1", _FRACTION.sub(r"\1/\2", text))
    return _DRESS.sub("", text).replace(MINUS, "-").strip()


def marked_ending(text: str) -> Ending | None:
    r"""Return what an undressed text itself names as its answer, the last time that it does."""
    found: tuple[int, str] | None = None
    for match in _BOXED.finditer(text):
        found = match.start(), match[1]
    for match in _MARK.finditer(text):
        if found is None or match.start() > found[0]:
            said = text[match.end() : match.end() + MARKED_CHARS].lstrip()
            if said:
                found = match.start(), said
    for match in _CORRECT.finditer(text):
        if found is None or match.start() >= found[0]:
            found = match.start(), match[1]
    if found is None:
        return None
    said = found[1] if not (boxed := _BOXED.match(found[1])) else boxed[1]
    return ending_of(_SENTENCE_END.split(said, maxsplit=1)[0])


def short_ending(text: str) -> Ending | None:
    """Return what an undressed text comes to that is short as a whole; None for any other."""
    if not text or len(text) > SHORT_CHARS or "\n" in text:
        return None
    return ending_of(text)


def ending_of(said: str) -> Ending | None:
    """Read a few words as what an answer comes to; None where there are none."""
    said = said.strip().strip("$").strip()
    choice = _CHOICE.match(said)
    if choice is not None and (choice[1] or choice[2].isupper()):
        return Ending(Kind.CHOICE, ((choice[1] or choice[2]).upper(),))
    verdict = opening_verdict(said)
    if verdict:
        return Ending(Kind.VERDICT, (verdict,))
    words = words_of(said)
    if not words:
        return None
    numbers = list(numbers_in(said))
    if not numbers or ("=" not in said and len(set(numbers)) > 1):
        return Ending(Kind.WORDS, words)
    is_quantity = "=" in said or any(map(str.isdecimal, words[:LEADING_WORDS]))
    return Ending(Kind.NUMBER if is_quantity else Kind.WORDS, words, numbers[-1])


def opening_verdict(text: str) -> str:
    """Return whether an undressed text begins with yes or no; "" for neither."""
    verdict = _VERDICT.match(text)
    return "" if verdict is None else "yes" if verdict[1] else "no"


def numbers_in(text: str) -> Iterator[Fraction]:
    """Yield the numbers of a text, in order; 1,234.5 and 3/4 are one each."""
    for match in _NUMBER.finditer(text):
        whole, divisor = match[3].replace(",", ""), match[4]
        if len(whole) > DIGITS_MAX or (divisor and len(divisor) > DIGITS_MAX):
            continue
        value = Fraction(whole)
        if divisor and int(divisor):
            value /= int(divisor)
        yield -value if "-" in (match[1], match[2]) else value


def same_number(first: Fraction, second: Fraction) -> bool:
    """Say whether two numbers are the same; of decimals, but for how they were rounded."""
    if first == second:
        return True
    if first.denominator == second.denominator == 1:
        return False
    return abs(first - second) <= ROUNDING * max(abs(first), abs(second))


def words_of(text: str) -> tuple[str, ...]:
    """Return a text's words and numbers in lower case, without articles."""
    words = _WORD.findall(text.lower().replace("’", "'"))  # noqa: RUF001
    return tuple(word for word in words if word not in _ARTICLES)
