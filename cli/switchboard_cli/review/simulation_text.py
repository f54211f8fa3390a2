"""A simulation as people and machines read it: text, Markdown, JSON."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from switchboard_cli.review.changes import Change, count
from switchboard_cli.review.marks import columns, escaped, plain, table
from switchboard_cli.review.tally import Row, Tally

#: How many reasons a person reads; JSON has them all.
REASONS_SHOWN_MAX: Final = 20

_Table = Callable[[tuple[str, ...], Sequence[tuple[str, ...]]], list[str]]
_ROW: Final = ("requests", "share", "input tokens", "output tokens", "cost")


def as_text(tally: Tally, refused: list[Change]) -> str:
    """Return the simulation for a terminal."""
    lines = [*_headline(tally), *(f"{one.kind}: {plain(one.text)}" for one in refused)]
    for title, made in _parts(tally, columns):
        lines += ["", title.upper(), *made]
    return "\n".join(lines) + "\n"


def as_markdown(tally: Tally, refused: list[Change]) -> str:
    """Return the simulation in Markdown."""
    first, *more = _headline(tally)
    lines = [f"### switchboard simulate: {escaped(first)}"]
    lines += [f"- {escaped(line)}" for line in more]
    lines += [f"- **{one.kind}**: {escaped(one.text)}" for one in refused]
    for title, made in _parts(tally, table):
        lines += ["", f"#### {title}", *made]
    return "\n".join(lines) + "\n"


def as_json(tally: Tally, refused: list[Change]) -> str:
    """Return the simulation for machines."""
    body: dict[str, Any] = {
        "requests": tally.requests,
        "told": tally.told,
        "placed": tally.placed,
        "same_rule": tally.same_rule,
        "composed": tally.composed,
        "by_load": tally.by_load,
        "without_inputs": tally.without_inputs,
        "unreadable": tally.unreadable,
        "from": tally.first,
        "to": tally.last,
        "cost_microdollars": list(tally.cost),
        "recorded_cost_microdollars": tally.recorded_placed,
        "recorded_cost_of_all_microdollars": tally.recorded,
        "unpriced": tally.unpriced,
        "rules": [
            {"policy": policy, "rule": rule, **_row_json(row)}
            for (policy, rule), row in _sorted(tally.rules)
        ],
        "backends": [{"backend": name, **_row_json(row)} for name, row in _sorted(tally.backends)],
        "guardrails": [
            {"policy": owner, "guardrail": name, "held": held, "took_backends": took}
            for (owner, name), (held, took) in sorted(tally.rails.items())
        ],
        "refused": [
            {"rule": where, "model": model, "reason": reason, "requests": number}
            for (where, model, reason), number in _most(tally.refused)
        ],
        "untold_rules": [{"needs": needs, "requests": n} for needs, n in _most(tally.untold_rules)],
        "untold_backends": [
            {"needs": needs, "requests": n} for needs, n in _most(tally.untold_backends)
        ],
        "refused_objects": refused,
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=2).decode() + "\n"


def _headline(tally: Tally) -> list[str]:
    served = tally.placed
    refused = sum(tally.refused.values())
    untold = sum(tally.untold_rules.values())
    lines = [
        f"{count(tally.requests, 'recorded request')}: {_part(served, tally)} would be served, "
        f"{_part(refused, tally)} refused, of {_part(untold, tally)} the rule cannot be told",
        f"cost of {count(served - tally.unpriced, 'request')} at the recorded tokens: "
        f"{tally.cost.dollars()}; as recorded: ${tally.recorded_placed / 1e6:,.4f}",
    ]
    backends = sum(tally.untold_backends.values())
    if backends:
        lines.append(f"of {_part(backends, tally)} the rule is told, and the backend is not")
    if tally.by_load:
        lines.append(f"{_part(tally.by_load, tally)} go to one of several backends, by load")
    if tally.composed:
        lines.append(f"{_part(tally.composed, tally)} go by a cascade or an ensemble: first step")
    for number, what in (
        (tally.unpriced, "without a price or tokens"),
        (tally.without_inputs, "recorded without inputs, by an earlier version"),
    ):
        if number:
            lines.append(f"{what}: {count(number, 'request')}")
    if tally.unreadable:
        lines.append(f"unreadable lines: {tally.unreadable:,}")
    return lines


def _part(number: float, tally: Tally) -> str:
    share = 100 * number / tally.requests if tally.requests else 0.0
    return f"{number:,} ({share:.1f} %)"


def _parts(tally: Tally, draw: _Table) -> list[tuple[str, list[str]]]:
    rules = [(f"{policy} {rule}", row) for (policy, rule), row in _sorted(tally.rules)]
    rails = [
        (f"{owner} {name}", f"{held:,}", f"{took:,}")
        for (owner, name), (held, took) in sorted(tally.rails.items())
    ]
    refused = [
        (" ".join(filter(None, (where, model, reason))), f"{number:,}")
        for (where, model, reason), number in _most(tally.refused)[:REASONS_SHOWN_MAX]
    ]
    parts = [
        ("Rules", [draw(("rule", *_ROW), [_cells(*one, tally) for one in rules])]),
        (
            "Backends",
            [draw(("backend", *_ROW), [_cells(*one, tally) for one in _sorted(tally.backends)])],
        ),
        ("Guardrails", [draw(("guardrail", "held", "took backends"), rails)] if rails else []),
        ("Refused", [draw(("why", "requests"), refused)] if refused else []),
        ("Cannot be told: the rule", _needs(tally.untold_rules, draw)),
        ("Cannot be told: the backend", _needs(tally.untold_backends, draw)),
    ]
    return [(title, made[0]) for title, made in parts if made]


def _needs(counter: Counter[str], draw: _Table) -> list[list[str]]:
    rows = [(needs, f"{number:,}") for needs, number in _most(counter)[:REASONS_SHOWN_MAX]]
    return [draw(("what is needed", "requests"), rows)] if rows else []


def _cells(name: str, row: Row, tally: Tally) -> tuple[str, ...]:
    share = 100 * row.requests / tally.requests if tally.requests else 0.0
    cost = row.cost.dollars() if row.unpriced < row.requests else "not known"
    return (
        name,
        f"{row.requests:,.10g}",
        f"{share:.1f} %",
        f"{row.input_tokens:,.0f}",
        f"{row.output_tokens:,.0f}",
        cost,
    )


def _sorted(rows: Mapping[Any, Row]) -> list[tuple[Any, Row]]:
    return sorted(rows.items(), key=lambda one: (-one[1].requests, one[0]))


def _most(counter: Counter[Any]) -> list[tuple[Any, int]]:
    return sorted(counter.items(), key=lambda one: (-one[1], one[0]))


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "requests": row.requests,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cost_microdollars": list(row.cost),
        "unpriced": row.unpriced,
    }
