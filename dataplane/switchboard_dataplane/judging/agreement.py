"""Whether two answers come to the same: by what they end in, else by the words that they use.

Made for answers that come to something that can be compared: a number, a choice, yes or no, a name,
JSON. Of two free texts it can only say how alike their words are, which two good essays are not:
those need a judge.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, cast

import orjson

from switchboard_dataplane.judging.answers import reads_as_refusal
from switchboard_dataplane.judging.finals import (
    Ending,
    Kind,
    marked_ending,
    numbers_in,
    opening_verdict,
    same_number,
    short_ending,
    undressed,
    words_of,
)
from switchboard_dataplane.reading.texts import head_and_tail

#: From this agreement on two answers count as the same.
SAME_FROM: Final = 0.8
#: What is read of an answer: its beginning and its end.
READ_CHARS_MAX: Final = 8_000
#: Of a last sentence its last characters.
LAST_CHARS_MAX: Final = 400
#: Values of a JSON answer that are compared.
LEAVES_MAX: Final = 2_000
DEPTH_MAX: Final = 100
#: A short answer inside a sentence that says it, and how long such a sentence is at most, in words.
CONTAINED: Final = 0.9
SENTENCE_WORDS_MAX: Final = 30
#: Where one of two texts denies what the other says.
DENIED: Final = 0.5
#: A calculation has at least so many numbers, and ends in what it comes to.
NUMBERS_MIN: Final = 3

_FENCE: Final = re.compile(r"```[\w-]*\n(.*?)\n?```", re.DOTALL)
_DENIALS: Final = frozenset({"not", "no", "never", "none", "neither", "nor", "cannot", "without"})
_SENTENCES: Final = re.compile(r"(?<=[.!?])\s+")


def same(first: str, second: str) -> bool:
    """Say whether two answers come to the same."""
    return agreement(first, second) >= SAME_FROM


def agreement(first: str, second: str) -> float:
    """Return how far two answers come to the same, in [0, 1]; the order does not count.

    Only the first and the last 4,000 characters of a text are read, and 2,000 values of JSON.
    """
    first, second = first.strip(), second.strip()
    if first == second:
        return 1.0
    if not first or not second or reads_as_refusal(first) != reads_as_refusal(second):
        return 0.0
    documents = _document(first), _document(second)
    if documents[0] is not None and documents[1] is not None:
        return _shared(_leaves(documents[0][0]), _leaves(documents[1][0]))
    first, second = (undressed(head_and_tail(text, READ_CHARS_MAX)) for text in (first, second))
    found = _by_endings(first, second)
    return _by_words(words_of(first), words_of(second)) if found is None else found


def _document(text: str) -> tuple[Any] | None:
    """Return the JSON object or array that a text is, bare or as the one block of code in it."""
    fenced = _FENCE.findall(text)
    for candidate in (text, *(fenced if len(fenced) == 1 else ())):
        if candidate.lstrip()[:1] in ("{", "["):
            try:
                return (orjson.loads(candidate),)
            except orjson.JSONDecodeError:
                continue
    return None


def _leaves(value: object) -> Counter[tuple[str, str]]:
    return Counter(islice(_walk(value, "", 0), LEAVES_MAX))


def _walk(value: object, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value and depth < DEPTH_MAX:
        for name, inner in cast("dict[str, object]", value).items():
            yield from _walk(inner, f"{path}/{name}", depth + 1)
    elif isinstance(value, list) and value and depth < DEPTH_MAX:
        for place, inner in enumerate(cast("list[object]", value)):
            yield from _walk(inner, f"{path}/{place}", depth + 1)
    else:
        yield path, _plain(cast("Any", value))


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    # 3 and 3.0 are the same number of JSON.
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else orjson.dumps(value).decode()


def _by_endings(first: str, second: str) -> float | None:
    """Compare what two texts come to; None where that cannot be told."""
    endings = [marked_ending(text) or short_ending(text) for text in (first, second)]
    one, other = endings
    if one is not None and other is not None:
        return _same_ending(one, other)
    if one is not None:
        return _against_text(one, second)
    if other is not None:
        return _against_text(other, first)
    verdicts = opening_verdict(first), opening_verdict(second)
    if all(verdicts) and verdicts[0] != verdicts[1]:
        return 0.0
    return _by_calculations(first, second)


def _same_ending(one: Ending, other: Ending) -> float | None:
    kinds = {one.kind, other.kind}
    if one.number is not None and other.number is not None:
        if not same_number(one.number, other.number):
            return 0.0
        return 1.0 if Kind.NUMBER in kinds else _by_words(one.words, other.words)
    if kinds <= {Kind.WORDS, Kind.NUMBER}:
        return _by_words(one.words, other.words)
    return float(one.words == other.words) if len(kinds) == 1 else None


def _against_text(ending: Ending, text: str) -> float | None:
    """Compare what one answer comes to with a text that names no answer: with its last sentence."""
    if ending.kind is Kind.VERDICT:
        verdict = opening_verdict(text)
        return float(verdict == ending.words[0]) if verdict else None
    last = _last_sentence(text)
    if ending.number is not None:
        numbers = list(numbers_in(last))
        return float(same_number(ending.number, numbers[-1])) if numbers else None
    if ending.kind is Kind.WORDS:
        return _by_words(ending.words, words_of(last))
    return None


def _by_calculations(first: str, second: str) -> float | None:
    """Compare the last numbers of two calculations: texts full of numbers that end in one."""
    if not all(_is_calculation(text) for text in (first, second)):
        return None
    lasts = [list(numbers_in(_last_sentence(text))) for text in (first, second)]
    return float(same_number(lasts[0][-1], lasts[1][-1])) if all(lasts) else None


def _is_calculation(text: str) -> bool:
    return sum(1 for _ in islice(numbers_in(text), NUMBERS_MIN)) == NUMBERS_MIN


def _last_sentence(text: str) -> str:
    last_line = text.rstrip().rpartition("\n")[2]
    return _SENTENCES.split(last_line[-LAST_CHARS_MAX:])[-1]


def _by_words(first: Sequence[str], second: Sequence[str]) -> float:
    shorter, longer = sorted((first, second), key=len)
    alike = _shared(Counter(first), Counter(second))
    if len(longer) <= SENTENCE_WORDS_MAX and _stands_in(shorter, longer):
        alike = max(alike, CONTAINED)
    return alike * (DENIED if _denies(first) != _denies(second) else 1.0)


def _stands_in(shorter: Sequence[str], longer: Sequence[str]) -> bool:
    size = len(shorter)
    places = range(len(longer) - size + 1)
    return size > 0 and any(list(longer[at : at + size]) == list(shorter) for at in places)


def _denies(words: Sequence[str]) -> bool:
    return any(word in _DENIALS or word.endswith("n't") for word in words)


def _shared(first: Counter[Any], second: Counter[Any]) -> float:
    """Return the F1 of two bags: what they share, against what they are on average."""
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else 1.0
