"""Says what kind of work a turn asks for, by its words and its form: no model, no training.

Each sign adds to the score of a task; the highest wins, chat where nothing speaks for anything.
"""

# ruff: noqa: RUF001

import re
from collections.abc import Iterator
from typing import Final

from switchboard_dataplane.reading.code import CERTAIN, code_score
from switchboard_dataplane.reading.task_signs import (
    BY_WORD,
    OPENINGS,
    PERSONAL,
    PHRASES,
    QUESTION_WORDS,
)
from switchboard_dataplane.reading.turns import Turn

TASKS: Final = (
    "chat",
    "classification",
    "code",
    "creative",
    "extraction",
    "factual",
    "math",
    "reasoning",
    "summarisation",
    "tools",
    "translation",
)

_NUMBERS: Final = re.compile(r"[0-9][0-9]*+(?:[.,][0-9]+)*+(?![\w])")
_FORMULA: Final = re.compile(r"\$[^$\n]{1,120}\$|\\[a-z]{2,12}\{")
_ARITHMETIC: Final = re.compile(r"[0-9] ?[-+*/=×÷^] ?[0-9a-z(]")
_LIST_OF_WORDS: Final = re.compile(r"\A[^\W\d]{2,20}(?:, ?[^\W\d]{2,20}){5,60}\.?\Z")
#: More than so many say no more.
_NOTATION_MAX: Final = 4
_NUMBERS_MAX: Final = 6
#: Numbers this close together are what a text is about.
_CHARS_A_NUMBER: Final = 75
_OPENING_CHARS: Final = 200
_BEFORE_WORDS: Final = " \n\t\"'#*->"
_QUESTION_CHARS: Final = 300
#: What is read for a request in a long turn: the first and the last half of so many characters.
_ASKED_CHARS: Final = 400
#: There, what opens or closes a turn outweighs the words of the material.
_OPENING_WEIGHT: Final = 2.0
_TOOLS_ON_OFFER: Final = 2.5
_CODE_IS_THERE: Final = 8.0
#: Code is full of what looks like arithmetic.
_CODE_DAMPS: Final = 0.3
_STATEMENT_WORDS: Final = 4
#: A task must gather so much to be named at all.
_NAMED: Final = 2.0


def read_task(turn: Turn) -> str:
    """Return one of TASKS; of equals the earlier."""
    scores = score_tasks(turn)
    best = max(scores.values())
    if best < _NAMED:
        return "chat"
    return next(task for task in TASKS if scores.get(task) == best)


def score_tasks(turn: Turn) -> dict[str, float]:
    """Return what speaks for each task of which anything speaks."""
    # A request stands before or after the material that it is about.
    asked = Turn(turn.whole, chars_max=_ASKED_CHARS) if len(turn.text) > _ASKED_CHARS else turn
    signs = [BY_WORD[word] for word in BY_WORD.keys() & asked.bag]
    signs.extend(_openings(asked.lower, long=asked is not turn))
    signs.extend(_phrases(asked.lower, asked.bag))
    signs.extend(_form(asked.lower, asked.bag))
    is_code = code_score(turn) >= CERTAIN
    signs.append(("code", _CODE_IS_THERE if is_code else float(code_score(turn))))
    signs.append(("math", _math_form(asked.lower) * (_CODE_DAMPS if is_code else 1.0)))
    if turn.tools:
        signs.append(("tools", _TOOLS_ON_OFFER))
    scores: dict[str, float] = {}
    for task, weight in signs:
        scores[task] = scores.get(task, 0.0) + weight
    return scores


def _openings(lower: str, *, long: bool) -> Iterator[tuple[str, float]]:
    times = _OPENING_WEIGHT if long else 1.0
    for text in _request_places(lower, long=long):
        for task, weight, pattern in OPENINGS:
            if pattern.match(text) is not None:
                yield task, times * weight


def _phrases(lower: str, words: frozenset[str]) -> Iterator[tuple[str, float]]:
    for task, weight, phrases in PHRASES:
        if any(phrase in lower for first, phrase in phrases if not first or first in words):
            yield task, weight


def _request_places(lower: str, *, long: bool) -> Iterator[str]:
    """Yield where a request may begin: the first words, and in a long turn its last line."""
    yield lower[:_OPENING_CHARS].lstrip(_BEFORE_WORDS)
    if long:
        yield lower.rstrip().rpartition("\n")[2][:_OPENING_CHARS].lstrip(_BEFORE_WORDS)


def _math_form(lower: str) -> float:
    """What notation and numbers say; a question about quantities needs some to count with."""
    notation = len(_ARITHMETIC.findall(lower)) + lower.count("^")
    if "$" in lower or "\\" in lower:
        notation += len(_FORMULA.findall(lower))
    notation = min(notation, _NOTATION_MAX)
    numbers = min(len(_NUMBERS.findall(lower)), _NUMBERS_MAX)
    share = min(1.0, _CHARS_A_NUMBER * numbers / (1 + len(lower)))
    counting = 3.0 if numbers > 1 and ("how many" in lower or "how much" in lower) else 0.0
    return 0.6 * numbers * share + 1.5 * notation + counting


def _form(lower: str, words: frozenset[str]) -> Iterator[tuple[str, float]]:
    """What the form says: a short question, a long one, a statement, a bare list."""
    if lower.rstrip("\"' \n").endswith("?"):
        if len(lower) <= _QUESTION_CHARS:
            yield "factual", 2.0 if QUESTION_WORDS.isdisjoint(words) else 3.0
        else:
            yield "reasoning", 2.0
    elif len(words) >= _STATEMENT_WORDS and PERSONAL.isdisjoint(words):
        yield "factual", 2.0
    if _LIST_OF_WORDS.match(lower) is not None:
        yield "creative", 4.0
