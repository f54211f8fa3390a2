"""What a person sees while `switchboard dev` runs: a line a request, and what the folder says."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TextIO

from switchboard_dataplane.telemetry.outcome import Attempt, Outcome

_WIDTHS: Final = (
    ("STATUS", 6),
    ("MODEL", 12),
    ("RULE", 10),
    ("TIER", 10),
    ("BACKEND", 12),
    ("ATTEMPTS", 30),
    ("TIME", 9),
    ("COST", 11),
)
#: What a line may be written in.
RED, YELLOW, GREEN, DIM, PLAIN = "31", "33", "32", "2", "0"
_MICRODOLLARS: Final = 1_000_000
_ERROR_STATUS: Final = 400


@dataclass(frozen=True, slots=True)
class Terminal:
    """Writes to a terminal, in colour if it is one."""

    out: TextIO
    colour: bool

    @classmethod
    def of(cls, out: TextIO = sys.stdout) -> "Terminal":
        """Return the terminal on a stream."""
        return cls(out, colour=out.isatty())

    def say(self, text: str) -> None:
        """Write a line."""
        self.write(text, PLAIN)

    def warn(self, text: str) -> None:
        """Write a line that something is wrong."""
        self.write(text, YELLOW)

    def header(self) -> None:
        """Write the names of the columns."""
        self.write("  ".join(f"{name:<{width}}" for name, width in _WIDTHS).rstrip(), DIM)

    def show(self, outcomes: Sequence[Outcome]) -> None:
        """Write a line for each request that ended."""
        for outcome in outcomes:
            self.write(describe(outcome), _shade(outcome))

    def write(self, text: str, shade: str) -> None:
        """Write a line in a shade."""
        if self.colour and shade != PLAIN:
            text = f"\x1b[{shade}m{text}\x1b[0m"
        print(text, file=self.out, flush=True)


def describe(outcome: Outcome) -> str:
    """Return the line of a request: who answered, by which rule, after what, and what it cost."""
    cells = (
        "left" if outcome.caller_left else str(outcome.status),
        outcome.model or "-",
        outcome.rule or "-",
        outcome.tier or "-",
        outcome.backend.rpartition("/")[2] or "-",
        attempts(outcome.attempts) or outcome.error or "-",
        _time(outcome),
        _cost(outcome),
    )
    line = "  ".join(f"{cell:<{width}}" for cell, (_, width) in zip(cells, _WIDTHS, strict=True))
    notes = [f"arm {outcome.arm}"] if outcome.arm else []
    notes += [f"guardrail {name}" for name in outcome.guardrails]
    notes += [f"{tier} {verdict}" for tier, verdict in outcome.judged]
    if outcome.ensemble:
        notes.append(f"ensemble {outcome.ensemble}")
    if outcome.error and outcome.attempts:
        notes.append(outcome.error)
    return f"{line}  {', '.join(notes)}".rstrip()


def attempts(made: Sequence[Attempt]) -> str:
    """Return the attempts in order: ``flaky overloaded → small``."""
    return " → ".join(f"{one.backend.rpartition('/')[2]} {one.failure}".rstrip() for one in made)


def _shade(outcome: Outcome) -> str:
    if outcome.error or outcome.status >= _ERROR_STATUS:
        return RED
    return YELLOW if len(outcome.attempts) > 1 or outcome.caller_left else GREEN


def _time(outcome: Outcome) -> str:
    return f"{outcome.duration_s * 1_000:.0f} ms"


def _cost(outcome: Outcome) -> str:
    if outcome.cost_microdollars is None:
        return "-"
    about = "~" if outcome.estimated else ""
    return f"{about}${outcome.spent_microdollars / _MICRODOLLARS:.6f}"
