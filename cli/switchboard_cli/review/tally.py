"""The sums of a simulation: traffic by rule and backend, cost, guardrails, refusals, the untold.

Its size goes by the policies and not by the log: what is counted by a text has a bound.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from switchboard_cli.review.costs import NOTHING, Cost, Prices
from switchboard_cli.review.records import Recorded
from switchboard_cli.review.replay import Outcome

#: More reasons than this are counted together.
REASONS_MAX: Final = 500
OTHERS: Final = "other reasons"


@dataclass(slots=True)
class Row:
    """Requests of one kind, by expectation; ``unpriced`` are those whose cost nobody knows."""

    requests: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    cost: Cost = NOTHING
    unpriced: float = 0.0

    def take(self, share: float, tokens: tuple[int, int] | None, cost: Cost | None) -> None:
        """Add a part of a request."""
        self.requests += share
        if tokens is not None:
            self.input_tokens += share * tokens[0]
            self.output_tokens += share * tokens[1]
        if cost is None:
            self.unpriced += share
        else:
            self.cost += Cost(share * cost.least, share * cost.most)


@dataclass(slots=True)
class Tally:
    """All that is counted; ``recorded`` is the cost as it was recorded, in microdollars.

    ``recorded_placed`` is that of the requests whose cost is foreseen, which can be compared.
    ``same_rule`` are those that the recorded rule takes. ``rails`` are (held, took backends of the
    rule) by owner and name.
    """

    prices: Prices
    requests: int = 0
    unreadable: int = 0
    without_inputs: int = 0
    told: int = 0
    placed: int = 0
    same_rule: int = 0
    composed: int = 0
    by_load: int = 0
    recorded: float = 0.0
    recorded_placed: float = 0.0
    cost: Cost = NOTHING
    unpriced: int = 0
    first: datetime | None = None
    last: datetime | None = None
    rules: dict[tuple[str, str], Row] = field(default_factory=dict[tuple[str, str], Row])
    backends: dict[str, Row] = field(default_factory=dict[str, Row])
    rails: dict[tuple[str, str], list[int]] = field(
        default_factory=dict[tuple[str, str], list[int]]
    )
    refused: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])
    untold_rules: Counter[str] = field(default_factory=Counter[str])
    untold_backends: Counter[str] = field(default_factory=Counter[str])

    def take(self, record: Recorded | None, outcome: Outcome | None) -> None:
        """Count a line of the log, None where it cannot be read."""
        if record is None or outcome is None:
            self.unreadable += 1
            return
        self.requests += 1
        self.without_inputs += record.inputs is None
        self.recorded += record.cost_microdollars or 0.0
        self.first = record.at if self.first is None else min(self.first, record.at)
        self.last = record.at if self.last is None else max(self.last, record.at)
        for held in outcome.held:
            counts = self.rails.setdefault((held.owner, held.name), [0, 0])
            counts[0] += 1
            counts[1] += held.took
        if not outcome.rule and not outcome.refused:
            _count(self.untold_rules, outcome.untold)
            return
        self.told += 1
        self.same_rule += (outcome.policy, outcome.rule) == (record.policy, record.rule)
        self._place(record, outcome)

    def _place(self, record: Recorded, outcome: Outcome) -> None:
        tokens = record.tokens
        cost = self.prices.of(outcome, tokens)
        if outcome.rule:
            row = self.rules.setdefault((outcome.policy, outcome.rule), Row())
            row.take(1.0, tokens, cost)
        if outcome.refused:
            model = "" if outcome.policy else record.model
            where = f"{outcome.policy} {outcome.rule}".strip()
            _count_refused(self.refused, (where, model, outcome.refused))
            return
        if outcome.untold:
            _count(self.untold_backends, outcome.untold)
            return
        self.placed += 1
        self.composed += outcome.composed
        self.by_load += bool(outcome.either)
        if cost is None:
            self.unpriced += 1
        else:
            self.cost += cost
            self.recorded_placed += record.cost_microdollars or 0.0
        if outcome.either:
            self.backends.setdefault(" or ".join(outcome.either), Row()).take(1.0, tokens, cost)
        for name, share in outcome.shares:
            whole = None if tokens is None else self.prices.at(name, tokens)
            one = None if whole is None else Cost(whole, whole)
            self.backends.setdefault(name, Row()).take(share, tokens, one)


def _count(counter: Counter[str], reason: str) -> None:
    counter[reason if reason in counter or len(counter) < REASONS_MAX else OTHERS] += 1


def _count_refused(counter: Counter[tuple[str, str, str]], reason: tuple[str, str, str]) -> None:
    known = reason in counter or len(counter) < REASONS_MAX
    counter[reason if known else ("", "", OTHERS)] += 1
