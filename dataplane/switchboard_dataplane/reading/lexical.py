"""Reads a prompt's words and its form as numbers: what a learned router sees of it.

Two thirds of what can be known of a prompt beforehand is here: how long it is, how its sentences
run, numbers, formulas, options to choose from, and the kinds of words.
"""

import re
from collections import Counter
from collections.abc import Mapping
from math import log1p, sqrt
from string import ascii_uppercase
from typing import Final, NamedTuple

from switchboard_dataplane.reading.texts import head_and_tail

#: The longest run of digits that is told from a longer one.
DIGITS_MAX: Final = 4
#: A word of so many letters is a long one.
LONG_LETTERS: Final = 9

_WORD: Final = re.compile(r"[^\W\d_]+|0{1,4}|[^\w\s]")
_DIGITS: Final = str.maketrans("123456789", "000000000")
_ZEROS: Final = "0" * DIGITS_MAX
_SENTENCE_END: Final = re.compile(r"[.!?](?!\S)")
#: A pattern that begins with a set is looked for fast, one that begins with a condition is not.
_NAME: Final = re.compile(r"[A-Z](?<!\w.)[a-z]+")
_OPTION: Final = re.compile(r"^[A-J][.)] (.*)$", re.MULTILINE)
_OPTIONS: Final = re.compile(r"\n\(?[A-J][.)] ")

_KINDS: Final[Mapping[str, str]] = {
    "stop": "the a an of to in is are was were and or that this it for on with as by at from be",
    "negation": "not except least never false incorrect cannot no none neither nor without",
    "logic": "if then all some every only both either unless therefore implies assume suppose",
    "solve": "find compute calculate solve determine evaluate prove show derive simplify",
    "make": "write implement create generate describe explain list summarize translate",
    "quantity": "total more less many much half twice times each left remaining cost percent",
    "unit": "dollars cents hours minutes days weeks years miles meters feet pounds grams gallons",
    "compare": "than older younger taller faster longer before after earlier later difference",
    "code": "def return import class function print int str array string self lambda",
}
#: What an ASCII character of a text in lower case is.
_SPACE: Final = 0
_LETTER: Final = 1
_DIGIT: Final = 2
_MARK: Final = 3
_CAPITALS: Final = ascii_uppercase.encode()
_ASKED: Final = ("who", "what", "when", "where", "why", "how", "which")
_KIND_OF: Final = {word: kind for kind, words in _KINDS.items() for word in words.split()}
_NUMBERS: Final = frozenset("0" * count for count in range(1, DIGITS_MAX + 1))


def _sort_of(character: str) -> int:
    if character.isspace() or character == "_":
        return _SPACE
    return _LETTER if character.isalpha() else _DIGIT if character.isdigit() else _MARK


_SORTS: Final = bytes([_sort_of(chr(code)) for code in range(256)])

#: What the numbers are, in their order; an artifact names the ones that it was fitted on.
FEATURES: Final = (
    *("chars", "words", "letters_per_word", "numbers", "numbers_per_word", "longest_number"),
    *("digits", "capitals", "lines", "asks", "questions", "commas", "sentences", "sentence_words"),
    *("dollars", "backslashes", "operators", "brackets", "quotes", "blanks", "foreign", "percents"),
    *("distinct", "long_words", "names", "ends_asking"),
    *("options", "option_chars", "option_spread", "option_numbers", "stem_chars"),
    *(f"kind_{kind}" for kind in _KINDS),
    *(f"asked_{word}" for word in _ASKED),
)


class Lexical(NamedTuple):
    """A prompt's words in their order (lower case, digits as 0), and one number a feature."""

    words: list[str]
    features: tuple[float, ...]


def read_lexical(text: str) -> Lexical:
    """Read the first and the last 2,000 characters of a prompt."""
    seen = head_and_tail(text)
    lower = seen.lower()
    words = _plain_words(lower) if seen.isascii() else _WORD.findall(lower.translate(_DIGITS))
    counts = dict(Counter(words))
    features = (*_form(seen, counts), *_options(seen), *_kinds(counts))
    return Lexical(words, features)


def _plain_words(lower: str) -> list[str]:
    """Return what _WORD finds in ASCII: a third of its time where this is compiled."""
    # A space at the end ends the last word.
    sorts = lower.encode().translate(_SORTS) + bytes([_SPACE])
    words: list[str] = []
    at, end = 0, len(lower)
    while at < end:
        start, sort = at, sorts[at]
        at += 1
        if sort == _LETTER:
            while sorts[at] == _LETTER:
                at += 1
            words.append(lower[start:at])
        elif sort == _DIGIT:
            while sorts[at] == _DIGIT and at < start + DIGITS_MAX:
                at += 1
            words.append(_ZEROS[: at - start])
        elif sort == _MARK:
            words.append(lower[start])
    return words


def _form(text: str, counts: dict[str, int]) -> tuple[float, ...]:
    """Return what the characters and the lengths of words tell."""
    chars = max(1, len(text))
    data = text.encode("ascii", "ignore")
    capitals = len(data) - len(data.translate(None, _CAPITALS))
    words = letters = long_words = distinct = 0
    numbers = longest = digits = 0
    for word, count in counts.items():
        if word.isalpha():
            size = len(word)
            distinct += 1
            words += count
            letters += count * size
            if size >= LONG_LETTERS:
                long_words += count
        elif word in _NUMBERS:
            numbers += count
            digits += count * len(word)
            longest = max(longest, len(word))
    words = max(1, words)
    asks = counts.get("?", 0)
    sentences = max(1, len(_SENTENCE_END.findall(text)))
    return (
        log1p(chars),
        log1p(words),
        letters / words / 5,
        log1p(numbers),
        numbers / words,
        longest / 5,
        10 * digits / chars,
        10 * capitals / chars,
        log1p(text.count("\n")),
        float(asks > 0),
        log1p(asks),
        log1p(counts.get(",", 0)),
        log1p(sentences),
        log1p(words / sentences),
        log1p(counts.get("$", 0)),
        log1p(counts.get("\\", 0)),
        log1p(_count_of("=+*/^<>", counts)),
        log1p(_count_of("{}[]();", counts)),
        log1p(_count_of("\"'", counts)),
        float("_" in text),
        log1p(len(text) - len(data)),
        float("%" in counts),
        distinct / words,
        long_words / words,
        len(_NAME.findall(text)) / words,
        float(text.rstrip().endswith("?")),
    )


def _count_of(marks: str, counts: dict[str, int]) -> int:
    return sum([counts.get(mark, 0) for mark in marks])


def _options(text: str) -> tuple[float, ...]:
    """Return what the answers to choose from tell, where a prompt lists some."""
    found = _OPTIONS.search(text)
    stem_chars = len(text) if found is None else found.start()
    listed = found is not None or _OPTION.match(text) is not None
    options: list[str] = _OPTION.findall(text) if listed else []
    if not options:
        return (0.0, 0.0, 0.0, 0.0, log1p(stem_chars))
    mean = sum(map(len, options)) / len(options)
    spread = sqrt(sum((len(option) - mean) ** 2 for option in options) / len(options))
    numeric = sum(any(map(str.isdigit, option)) for option in options)
    return (
        log1p(len(options)),
        log1p(mean),
        log1p(spread),
        numeric / len(options),
        log1p(stem_chars),
    )


def _kinds(counts: dict[str, int]) -> tuple[float, ...]:
    """Return how many words are of each kind, and which question words there are."""
    seen = dict.fromkeys(_KINDS, 0)
    for word in counts.keys() & _KIND_OF.keys():
        seen[_KIND_OF[word]] += counts[word]
    asked = [float(word in counts) for word in _ASKED]
    return (*map(log1p, seen.values()), *asked)
