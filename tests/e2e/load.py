"""What came of the callers' load: a table for people, and whether it ever paused."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

Report = Mapping[str, Any]
"""What the callers say at the end; ``steps`` are reports of inside/callers.py."""

LEAST_SHARE: Final = 1 / 2
"""Of the requests in a second of the run's fullest step, what every step has at least."""
LONGEST_GAP_S: Final = 8.0
"""A machine may stand still for some seconds, and the callers with it."""
LONG_ENOUGH_S: Final = 10.0
"""Shorter steps say nothing of a rate, and one in three requests is a stream."""


def table(report: Report, notes: Sequence[str]) -> str:
    """What came of the whole run, for people."""
    head = (*("step", "s", *_COUNTED), "a second", "longest gap", *_TIMED)
    rows = [head, *(_row(step) for step in report["steps"])]
    total = [sum(step[name] for step in report["steps"]) for name in _COUNTED]
    seconds = sum(step["seconds"] for step in report["steps"])
    rows.append(("all", f"{seconds:.0f}", *map(str, total), "", "", "", ""))
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    slow = [f"{step['name']}: {text}" for step in report["steps"] for text in step["slowest"]]
    return "\n".join([*lines, *(["the slowest:", *slow] if slow else []), "edits:", *notes])


def pauses(report: Report) -> list[str]:
    """What says that the load paused: a line for each step that lacks requests."""
    steps = report["steps"]
    most = max(_rate(step) for step in steps if step["seconds"] >= LONG_ENOUGH_S)
    return [
        f"{step['name']}: {_rate(step):.1f} requests a second, of {most:.1f};"
        f" none for {step['gap_s']} s"
        for step in steps
        if not step["requests"]
        or step["gap_s"] > LONGEST_GAP_S
        or (
            step["seconds"] >= LONG_ENOUGH_S
            and not (step["streams"] and _rate(step) >= LEAST_SHARE * most)
        )
    ]


def _rate(step: Report) -> float:
    return float(step["requests"] / step["seconds"]) if step["seconds"] else 0.0


_COUNTED: Final = ("requests", "streams", "asked", "failed")
_TIMED: Final = ("answer p50/p99", "first token p50/p99")


def _row(step: Report) -> tuple[str, ...]:
    times = (
        f"{step[name]['p50']} / {step[name]['p99']} ms"
        for name in ("answered_ms", "first_token_ms")
    )
    counts = (str(step[name]) for name in _COUNTED)
    load = (f"{_rate(step):.1f}", f"{step['gap_s']} s")
    return (step["name"], f"{step['seconds']:.0f}", *counts, *load, *times)
