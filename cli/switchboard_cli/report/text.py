"""A report as a person reads it: a table of the groups, and what the arms differ in."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Final

from switchboard_cli.report.bootstrap import FIGURES, LEVEL, Estimate
from switchboard_cli.report.compare import Comparison, Difference, Judgement, Verdict
from switchboard_cli.report.tables import PolicyReport, Row

_MICRODOLLARS: Final = 1_000_000
_UNKNOWN: Final = "-"
_A_SECOND: Final = 1.0

_NAMES: Final[Mapping[str, str]] = {
    "quality": "quality",
    "asked_again": "asked again",
    "errors": "errors",
    "cost": "cost a request",
    "p50": "p50",
    "p95": "p95",
    "first_token": "first token",
}
_JUDGEMENTS: Final[Mapping[Judgement, str]] = {
    "better": "better",
    "worse": "worse",
    "no_worse": "no worse, within the margin",
    "unclear": "no difference shown",
    "too_few": "too few callers to say",
    "unknown": "not known",
}
_VERDICTS: Final[Mapping[Verdict, str]] = {
    "wins": "wins",
    "loses": "loses",
    "trades": "trades one thing for another",
    "even": "shows no difference",
    "undecided": "is not decided",
}


def render(reports: Iterable[PolicyReport], *, margin: float, by: str = "") -> str:
    """Return the text of the reports, each of one policy; ``by`` is what its parts are told by."""
    return "\n".join(_policy(one, margin, by) for one in reports)


def _policy(report: PolicyReport, margin: float, by: str) -> str:
    rated = ", ".join(f"{source} {count:,}" for source, count in report.sources.items())
    lines = [
        f"{report.policy}: {report.decisions:,} decisions, "
        f"{report.first:%Y-%m-%d %H:%M} to {report.last:%Y-%m-%d %H:%M} UTC",
        f"quality is rated by {rated}" if rated else "nothing is rated, so no quality is known",
        "",
        *_arms(report.arms),
    ]
    for one in report.comparisons:
        lines += ["", *_comparison(one, margin)]
    if report.parts:
        lines += ["", *_parts(report.parts, by)]
    return "\n".join([*lines, "", f"Intervals in brackets hold {LEVEL:.0%} each."]) + "\n"


def _arms(rows: Sequence[Row]) -> list[str]:
    """Return a column for each arm."""
    told = _told(rows)
    columns = [
        [
            row.arm or _UNKNOWN,
            f"{row.decisions:,}",
            f"{row.callers:,}",
            f"{row.rated:,}",
            *(_estimate(name, row.estimates[name]) for name in told),
        ]
        for row in rows
    ]
    heads = ["ARM", "requests", "callers", "rated", *(_NAMES[name] for name in told)]
    return _aligned(list(zip(heads, *columns, strict=True)))


def _parts(rows: Sequence[Row], by: str) -> list[str]:
    """Return a line for each part: it was no chance that took requests there, so no intervals."""
    told = _told(rows)
    heads = ["ARM", by.upper(), "REQUESTS", "RATED", *(_NAMES[name].upper() for name in told)]
    cells = [
        [
            row.arm or _UNKNOWN,
            row.part or _UNKNOWN,
            f"{row.decisions:,}",
            f"{row.rated:,}",
            *(_value(name, row.estimates[name].value) for name in told),
        ]
        for row in rows
    ]
    return _aligned([heads, *cells])


def _told(rows: Sequence[Row]) -> list[str]:
    known = [[isfinite(row.estimates[one.name].value) for row in rows] for one in FIGURES]
    return [one.name for one, found in zip(FIGURES, known, strict=True) if any(found)]


def _comparison(one: Comparison, margin: float) -> list[str]:
    known = {name: found for name, found in one.differences.items() if isfinite(found.value)}
    cells = [
        [f"  {_NAMES[name]}", _difference(name, found), _JUDGEMENTS[found.judgement]]
        for name, found in known.items()
    ]
    lines = [f"{one.arm} against {one.baseline}", *_aligned(cells)]
    lines.append(f"  {one.arm} {_VERDICTS[one.verdict]}{_because(one, margin)}")
    return lines


def _because(one: Comparison, margin: float) -> str:
    """Return what a verdict rests on, as the rest of its sentence."""
    quality = one.differences["quality"]
    if quality.judgement == "unknown":
        return ": answers of both arms must be rated first"
    if one.callers_needed is not None:
        return (
            f": some {one.callers_needed:,} callers an arm with a rating would tell whether the "
            f"quality is lower by less than {margin:g}"
        )
    told = [
        f"{_NAMES[name]} {found.judgement}"
        for name, found in one.differences.items()
        if found.judgement in {"better", "worse"}
    ]
    if quality.judgement == "no_worse":
        told.insert(0, f"quality at most {max(0.0, -quality.low):.3f} lower")
    return f": {', '.join(told)}" if told else ""


def _estimate(name: str, found: Estimate) -> str:
    if not isfinite(found.value):
        return _UNKNOWN
    low, high = found.interval
    return f"{_value(name, found.value)} [{_value(name, low)}, {_value(name, high)}]"


def _value(name: str, value: float) -> str:
    return _TELL[name](value) if isfinite(value) else _UNKNOWN


def _difference(name: str, found: Difference) -> str:
    tell = _DIFFER.get(name, _percent)
    return f"{tell(found.value)} [{tell(found.low)}, {tell(found.high)}]"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _percentage_points(value: float) -> str:
    return f"{value * 100:+.2f} pp"


def _percent(value: float) -> str:
    return f"{value:+.1%}"


def _dollars(microdollars: float) -> str:
    return f"${microdollars / _MICRODOLLARS:.6f}"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= _A_SECOND else f"{value * 1_000:.0f} ms"


_TELL: Final[Mapping[str, Callable[[float], str]]] = {
    "quality": "{:.3f}".format,
    "asked_again": "{:.2%}".format,
    "errors": "{:.2%}".format,
    "cost": _dollars,
    "p50": _seconds,
    "p95": _seconds,
    "first_token": _seconds,
}
#: Shares differ by parts of a whole, all else by a share of the other's.
_DIFFER: Final[Mapping[str, Callable[[float], str]]] = {
    "quality": "{:+.3f}".format,
    "asked_again": _percentage_points,
    "errors": _percentage_points,
}
