"""Check the CEL conditions of a policy: do they compile, and if not, where and what to do."""

import re
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

from switchboard_policy.costs.cost import BUDGET_NS, TOLD_CHARS_MIN, UNBOUNDED_NS, Cost
from switchboard_policy.errors import ExpressionError
from switchboard_policy.facts import ANSWER_FACTS, BACKEND_FACTS, REQUEST_FACTS, Facts

#: Compiling takes 80 µs and policies are parsed again at every change. An entry is at most 1 KiB
#: of text and the words about it.
CACHED_EXPRESSIONS_MAX: Final = 4096
#: What of a long line is shown around the caret.
SNIPPET_LENGTH_MAX: Final = 76

_ALL_FACTS: Final = frozenset({*REQUEST_FACTS, *BACKEND_FACTS, *ANSWER_FACTS})
#: What a condition over each kind of facts may look like.
_EXAMPLES: Final = {
    "request": "request.tokens > 1000",
    "backend": 'backend.jurisdiction == "eu"',
    "answer": "!answer.refused && answer.length > 20",
}

_PLACE: Final = re.compile(r"at (\d+):(\d+): (.*)")
_UNDECLARED: Final = re.compile(r"undeclared reference to '([^']*)'")
_JOINED: Final = re.compile(r"no matching overload for '_\+_' applied to '\((?:string|bytes|list)")
_TOKENS: Final = re.compile(r" expecting \{.*\}")
#: Of a ``+`` between texts or lists, and of ``map`` and ``filter``, which the engine makes of it.
_INSTEAD_OF_JOINING: Final = (
    "compare the parts one by one; in the place of map and filter use exists, exists_one and all"
)

#: What is wrong and what to do about it.
Verdict = tuple[str, str]


class Conditions:
    """The conditions of one kind of facts; remembers the verdicts on the latest expressions."""

    def __init__(self, facts: Facts, *, own: str, names: frozenset[str]) -> None:
        self._facts = facts
        self._own = own
        self._names = names
        self.verdict = lru_cache(maxsize=CACHED_EXPRESSIONS_MAX)(self._judge)

    def _judge(self, source: str) -> Verdict | None:
        """Compile an expression; None if that went well, and it costs little enough."""
        try:
            program = self._facts.compile(source)
        except ExpressionError as error:
            return self._explain(source, str(error))
        return too_costly(program.cost)

    def _explain(self, source: str, text: str) -> Verdict:
        place = _PLACE.search(text)
        if place is None:
            snippet = _snippet(source, line=1, column=1, name="")
            if "recursion limit" in text:
                return f"it is nested too deeply\n{snippet}", "split it into several rules"
            return f"{text}\n{snippet}", "write a condition, for instance " + self._example()
        line, column, reason = int(place[1]), int(place[2]), place[3]
        reason = _TOKENS.sub("", reason.replace(" (in container '')", ""))
        reason = reason[:200]
        if _JOINED.search(reason):
            snippet = _snippet(source, line=line, column=column, name="")
            return f"texts and lists cannot be joined\n{snippet}", _INSTEAD_OF_JOINING
        unknown = _UNDECLARED.search(reason)
        name = unknown[1] if unknown else ""
        shown = f"{reason}\n{_snippet(source, line=line, column=column, name=name)}"
        if name:
            return shown, self._fix_of_unknown(name)
        if "no matching overload" in reason:
            return shown, "use values of the types that the operator or function takes"
        return shown, "correct the expression at the caret"

    def _fix_of_unknown(self, name: str) -> str:
        if name in _ALL_FACTS:
            return (
                "when of a rule or guardrail reads request.* and signals.*, when of a cascade "
                "answer.*, and require backend.*"
            )
        if near := get_close_matches(name, self._names, n=1):
            return f"write {near[0]}"
        return f"the facts are {', '.join(sorted(self._names))}"

    def _example(self) -> str:
        return _EXAMPLES[self._own]


def request_conditions(facts: Facts) -> Conditions:
    """Return the conditions of ``when``."""
    return Conditions(facts, own="request", names=frozenset(REQUEST_FACTS))


def answer_conditions(facts: Facts) -> Conditions:
    """Return the conditions of a cascade's ``when``."""
    return Conditions(facts, own="answer", names=frozenset(ANSWER_FACTS))


def backend_conditions(facts: Facts) -> Conditions:
    """Return the conditions of ``require``."""
    return Conditions(facts, own="backend", names=frozenset(BACKEND_FACTS))


def too_costly(cost: Cost) -> Verdict | None:
    """Say what is wrong with a condition that could not even be told of texts of some length."""
    took_ns = cost.on(TOLD_CHARS_MIN)
    if took_ns <= BUDGET_NS:
        return None
    if cost.ns >= UNBOUNDED_NS:
        return (
            "nothing bounds its time: a pattern, or a piece that is looked for, is a text of the "
            "request or of the answer",
            "write the pattern or the piece into the condition",
        )
    return (
        f"it could take {took_ns // 1_000_000} ms on texts of {TOLD_CHARS_MIN} characters, and all "
        f"conditions of a request have {BUDGET_NS // 1_000_000} ms",
        "write fewer or shorter loops, and patterns with fewer repetitions such as {n,m}",
    )


def _snippet(source: str, *, line: int, column: int, name: str) -> str:
    """Return the line with a caret under the column (from 1), or under the name that is there."""
    lines = source.split("\n")
    text = lines[line - 1] if line <= len(lines) else ""
    # Of a dotted name the engine gives the place of a dot.
    column = 1 + max(text.rfind(name, 0, column + len(name)), 0) if name else column
    start = max(0, column - SNIPPET_LENGTH_MAX // 2) if len(text) > SNIPPET_LENGTH_MAX else 0
    window = text[start : start + SNIPPET_LENGTH_MAX].replace("\t", " ")
    return f"  {window}\n  {' ' * max(0, column - 1 - start)}^"
