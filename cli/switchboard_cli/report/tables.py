"""An export as groups of requests, by policy and arm, and the report that is made of them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import nan
from typing import Final, NamedTuple

import numpy as np

from switchboard_cli.report.bootstrap import FIGURES, RESAMPLES, Estimate, Group, estimate
from switchboard_cli.report.compare import MARGIN, Comparison, compare
from switchboard_dataplane.learning.decisions import Rated
from switchboard_dataplane.learning.ratings import Source, quality_of

#: Who says how good an answer was. What merely came of it has figures of its own, and would say
#: "bad" of what it rates at all.
RATED_BY: Final[tuple[Source, ...]] = ("feedback", "judge")
#: What requests can be told apart by beside their arm.
PARTS: Final[Mapping[str, Callable[[Rated], str]]] = {
    "rule": lambda said: said.rule,
    "tier": lambda said: said.tier,
    "backend": lambda said: said.backend,
    "task": lambda said: said.task,
}
#: The arm that the others are compared with, where it is there.
CONTROL: Final = "control"

_ANY_OK: Final = range(200, 300)
_CALLERS_FAULT: Final = range(400, 500)
_TOO_MANY_REQUESTS: Final = 429


class Row(NamedTuple):
    """A group of requests in a report; ``part`` is "" where it is a whole arm."""

    arm: str
    part: str
    decisions: int
    callers: int
    rated: int
    estimates: Mapping[str, Estimate]


class PolicyReport(NamedTuple):
    """What an export says of a policy. ``sources`` are who rated, each with how many decisions.

    ``parts`` are the arms' requests told apart by something, empty where nobody asked for it.
    """

    policy: str
    decisions: int
    first: datetime
    last: datetime
    sources: Mapping[str, int]
    arms: list[Row]
    parts: list[Row]
    comparisons: list[Comparison]


class NothingToReport(Exception):
    """An export holds nothing of what was asked for; the text says what it lacks."""


@dataclass(slots=True)
class _Requests:
    """Requests of one group, in columns."""

    callers: list[int] = field(default_factory=list[int])
    known: dict[str, int] = field(default_factory=dict[str, int])
    values: dict[str, list[float]] = field(
        default_factory=lambda: {figure.name: [] for figure in FIGURES}
    )

    def add(self, said: Rated, values: Mapping[str, float]) -> None:
        # Who names no session is a caller of one request.
        caller = said.session or f"decision:{said.id}"
        self.callers.append(self.known.setdefault(caller, len(self.known)))
        for name, column in self.values.items():
            column.append(values[name])

    def row(self, arm: str, part: str, resamples: int) -> Row:
        values = {name: np.array(column) for name, column in self.values.items()}
        group = Group(f"{arm}\0{part}", np.array(self.callers, dtype=np.int64), values)
        rated = int(np.count_nonzero(np.isfinite(values["quality"])))
        found = estimate(group, resamples=resamples)
        return Row(arm, part, len(self.callers), len(self.known), rated, found)


class _Seen:
    """What an export says of one policy, so far."""

    def __init__(self, first: datetime) -> None:
        self.decisions = 0
        self.first = self.last = first
        self.sources: Final[Counter[str]] = Counter()
        self.arms: Final[defaultdict[str, _Requests]] = defaultdict(_Requests)
        self.parts: Final[defaultdict[tuple[str, str], _Requests]] = defaultdict(_Requests)

    def add(self, said: Rated, part: str | None, rated_by: Collection[Source]) -> None:
        self.decisions += 1
        self.first, self.last = min(self.first, said.at), max(self.last, said.at)
        believed = [
            one
            for one in said.ratings
            if one.source in rated_by and not one.tier and not one.backend
        ]
        self.sources.update({one.source for one in believed})
        values = _values(said, quality_of(believed))
        self.arms[said.arm].add(said, values)
        if part is not None:
            self.parts[said.arm, part].add(said, values)


def report(
    decisions: Iterable[Rated],
    *,
    policy: str | None = None,
    by: str | None = None,
    baseline: str | None = None,
    rated_by: Collection[Source] = RATED_BY,
    margin: float = MARGIN,
    resamples: int = RESAMPLES,
) -> list[PolicyReport]:
    """Return a report of each policy, or of the one; ``by`` is one of PARTS.

    The other arms are compared with the ``baseline``: without one with "control" if it is there,
    else the one of most requests. Raises NothingToReport where there are no decisions, or no such
    policy or arm.
    """
    part_of = PARTS[by] if by is not None else None
    seen: dict[str, _Seen] = {}
    for said in decisions:
        if policy is None or said.policy == policy:
            of_policy = seen.setdefault(said.policy, _Seen(said.at))
            of_policy.add(said, part_of(said) if part_of is not None else None, rated_by)
    if not seen:
        raise NothingToReport(f"no decision of {policy}" if policy else "no decisions")
    if baseline is not None and not any(baseline in one.arms for one in seen.values()):
        raise NothingToReport(f"no decision on the arm {baseline}")
    return [
        _report(name, seen[name], baseline, margin=margin, resamples=resamples)
        for name in sorted(seen)
    ]


def _report(
    name: str, seen: _Seen, baseline: str | None, *, margin: float, resamples: int
) -> PolicyReport:
    arms = [one.row(arm, "", resamples) for arm, one in sorted(seen.arms.items())]
    parts = [one.row(*key, resamples) for key, one in sorted(seen.parts.items())]
    named = {row.arm: row for row in arms if row.arm}
    comparisons: list[Comparison] = []
    if len(named) > 1:
        other = baseline if baseline in named else _baseline(named.values())
        theirs = (other, named[other].estimates)
        comparisons = [
            compare((arm, row.estimates), theirs, margin=margin)
            for arm, row in named.items()
            if arm != other
        ]
    sources = dict(sorted(seen.sources.items()))
    return PolicyReport(
        name, seen.decisions, seen.first, seen.last, sources, arms, parts, comparisons
    )


def _baseline(arms: Iterable[Row]) -> str:
    return max(arms, key=lambda row: (row.arm == CONTROL, row.decisions)).arm


def _values(said: Rated, quality: float | None) -> Mapping[str, float]:
    """Return a request's figures; NaN where it says nothing of one."""
    answered = said.status in _ANY_OK and not said.error
    latency_s = said.duration_s if answered else nan
    return {
        "quality": _or_nan(quality),
        "asked_again": _asked_again(said) if answered and said.session else nan,
        "errors": _failed(said),
        "cost": _or_nan(said.cost_microdollars),
        "p50": latency_s,
        "p95": latency_s,
        "first_token": _or_nan(said.ttft_s) if answered else nan,
    }


def _asked_again(said: Rated) -> float:
    return float(any(one.source == "regeneration" for one in said.ratings))


def _failed(said: Rated) -> float:
    """Return 1 for a failure, 0 for none, NaN for the caller's own fault or leave."""
    if said.status in _CALLERS_FAULT and said.status != _TOO_MANY_REQUESTS:
        return nan
    if not said.error:
        return 0.0 if said.status else nan
    return 1.0


def _or_nan(value: float | None) -> float:
    return nan if value is None else value
