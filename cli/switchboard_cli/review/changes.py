"""A change in effect, how much it matters, and in which order people read of it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal, get_args

import msgspec

#: From what matters most; ``--fail-on`` names them.
Severity = Literal[
    "refused",
    "loosened",
    "taken",
    "lost",
    "access",
    "moved",
    "tightened",
    "changed",
    "gained",
    "renamed",
    "note",
]
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)

#: How many names one sentence lists before it counts the rest.
LISTED_MAX: Final = 6
#: What is worse than most of its severity comes before it.
_FIRST: Final = (
    "guardrail removed",
    "guardrail loosened",
    "guardrail no longer holds",
    "model name left unserved",
    "rule refuses every request",
    "rule unreachable",
    "fallback lost",
    "rule removed",
    "policy removed",
    "weights changed",
)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change: ``kind`` calls it what it is, ``text`` says of whom and what, in one sentence.

    ``policy``, ``rule``, ``backend`` and ``model`` are those that it is of, "" where none is.
    """

    severity: Severity
    kind: str
    text: str
    policy: str = ""
    rule: str = ""
    backend: str = ""
    model: str = ""
    details: tuple[str, ...] = ()


def in_order(changes: Iterable[Change]) -> list[Change]:
    """Return the changes, the most important first, each once."""
    places = {severity: place for place, severity in enumerate(SEVERITIES)}
    first = {kind: place for place, kind in enumerate(_FIRST)}
    return sorted(
        dict.fromkeys(changes),
        key=lambda one: (
            places[one.severity],
            first.get(one.kind, len(first)),
            one.kind,
            one.policy,
            one.text,
        ),
    )


def summary(changes: Sequence[Change]) -> str:
    """Return what there is in one line: each kind by its name, in the order of the changes."""
    counts = Counter(one.kind for one in changes)
    if not counts:
        return "no change in effect"
    told = (kind if count == 1 else f"{kind} ({count})" for kind, count in counts.items())
    return ", ".join(told)


def listed(names: Iterable[object]) -> str:
    """Return ``a, b and 4 more``; "nothing" for none."""
    every = [str(name) for name in names]
    rest = len(every) - LISTED_MAX
    if rest > 0:
        return f"{', '.join(every[:LISTED_MAX])} and {rest} more"
    if not every:
        return "nothing"
    return every[0] if len(every) == 1 else f"{', '.join(every[:-1])} and {every[-1]}"


def count(number: int, noun: str) -> str:
    """Return ``1 rule``, ``2 rules``."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
