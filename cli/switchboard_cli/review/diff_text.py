"""A diff as people and machines read it: text, Markdown for a pull request, JSON."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from switchboard_cli.review.changes import Change, count, summary
from switchboard_cli.review.costs import Cost
from switchboard_cli.review.marks import columns, escaped, plain, table
from switchboard_cli.review.moves import Move, Moves

#: How many ways of requests a person reads; JSON has them all.
WAYS_MAX: Final = 20
#: GitHub takes 65,536 characters in a comment.
CHANGES_MAX: Final = 200

_WAY: Final = ("from → to", "requests", "cost before", "cost after")


def as_text(changes: Sequence[Change], moves: Moves | None) -> str:
    """Return the diff for a terminal."""
    lines = [f"{plain(summary(changes))}{_number(changes)}"]
    for one in changes:
        lines.append(f"{plain(one.kind)}: {plain(one.text)}")
        lines += [f"    {plain(line)}" for line in one.details]
    if moves is not None:
        lines += ["", *_told(moves)]
        if moves.ways:
            lines += ["", *columns(_WAY, _rows(moves))]
        lines += _untold(moves)
    return "\n".join(lines) + "\n"


def as_markdown(changes: Sequence[Change], moves: Moves | None) -> str:
    """Return the diff for a comment on a pull request."""
    lines = [f"### switchboard diff: {escaped(summary(changes))}"]
    for one in changes[:CHANGES_MAX]:
        lines.append(f"- **{escaped(one.kind)}**: {escaped(one.text)}")
        lines += [f"  - {escaped(line)}" for line in one.details]
    if len(changes) > CHANGES_MAX:
        lines.append(f"- and {count(len(changes) - CHANGES_MAX, 'change')} more")
    if moves is not None:
        told = [*_told(moves), *filter(None, _untold(moves))]
        lines += ["", "#### Recorded requests", *(_bullet(line) for line in told)]
        if moves.ways:
            lines += ["", *table(_WAY, _rows(moves))]
    return "\n".join(lines) + "\n"


def as_json(changes: Sequence[Change], moves: Moves | None) -> str:
    """Return the diff for machines."""
    body: dict[str, Any] = {
        "changed": bool(changes),
        "summary": summary(changes),
        "counts": dict(Counter(one.severity for one in changes)),
        "changes": changes,
    }
    if moves is not None:
        body["log"] = _json(moves)
    return msgspec.json.format(msgspec.json.encode(body), indent=2).decode() + "\n"


def _bullet(line: str) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    return f"{indent}- {escaped(line.strip())}"


def _number(changes: Sequence[Change]) -> str:
    return f": {count(len(changes), 'change')}" if len(changes) > 1 else ""


def _ordered(moves: Moves) -> list[tuple[tuple[str, str], Move]]:
    return sorted(moves.ways.items(), key=lambda one: (-one[1].requests, one[0]))


def _rows(moves: Moves) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (
            f"{before} → {after}",
            f"{move.requests:,.10g}",
            _dollars(move.before, move),
            _dollars(move.after, move),
        )
        for (before, after), move in _ordered(moves)[:WAYS_MAX]
    ]
    rest = len(moves.ways) - WAYS_MAX
    return [*rows, (f"and {rest} more ways", "", "", "")] if rest > 0 else rows


def _dollars(cost: Cost, move: Move) -> str:
    if move.unpriced and cost == Cost(0.0, 0.0):
        return "not known"
    return cost.dollars() + (f" + {move.unpriced:,} not known" if move.unpriced else "")


def _told(moves: Moves) -> list[str]:
    share = 100 * moves.moved / moves.requests if moves.requests else 0.0
    refused = f", {moves.refused:,} of them would be refused" if moves.refused else ""
    lines = [
        f"{moves.moved:,.10g} of {count(moves.requests, 'recorded request')} ({share:.1f} %) would "
        f"go elsewhere{refused}",
        f"cost of what can be told, at the recorded tokens: {moves.before.dollars()} → "
        f"{moves.after.dollars()}{_percent(moves)}",
    ]
    if moves.unpriced:
        lines.append(f"without a price or tokens: {count(moves.unpriced, 'request')}")
    return lines


def _percent(moves: Moves) -> str:
    low, high = moves.before
    if low != high or moves.after.least != moves.after.most or not low:
        return ""
    return f" ({100 * (moves.after.least - low) / low:+.1f} %)"


def _untold(moves: Moves) -> list[str]:
    lines: list[str] = []
    total = sum(moves.untold.values())
    if total:
        share = 100 * total / moves.requests
        lines += ["", f"cannot be told: {count(total, 'request')} ({share:.1f} %)"]
        lines += [f"  {number:,}: {needs}" for needs, number in _most(moves.untold)]
    if moves.without_inputs:
        lines.append(f"recorded without inputs: {count(moves.without_inputs, 'request')}")
    if moves.unreadable:
        lines.append(f"unreadable lines: {moves.unreadable:,}")
    return lines


def _most(counter: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counter.items(), key=lambda one: (-one[1], one[0]))[:WAYS_MAX]


def _json(moves: Moves) -> dict[str, Any]:
    return {
        "requests": moves.requests,
        "moved": moves.moved,
        "refused": moves.refused,
        "cost_before_microdollars": list(moves.before),
        "cost_after_microdollars": list(moves.after),
        "unpriced": moves.unpriced,
        "untold": dict(sorted(moves.untold.items())),
        "without_inputs": moves.without_inputs,
        "unreadable": moves.unreadable,
        "ways": [
            {
                "from": before,
                "to": after,
                "requests": move.requests,
                "cost_before_microdollars": list(move.before),
                "cost_after_microdollars": list(move.after),
                "unpriced": move.unpriced,
            }
            for (before, after), move in _ordered(moves)
        ],
    }
