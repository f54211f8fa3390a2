"""The metrics of what a choice takes and brings: asides, verdicts on answers, mirrors, ratings.

Label values are names from the configuration and words from closed sets, as in ``metrics``.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from switchboard_dataplane.telemetry.instruments import Counter, Histogram, Instrument
from switchboard_dataplane.telemetry.outcome import Aside, Outcome, Purpose

_ASIDE_S: Final[Sequence[float]] = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
#: Of what lies in [0, 1]; most of it is one of the two.
_SHARES: Final[Sequence[float]] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class Whose(NamedTuple):
    """The policy, the rule and the arm of the request that something was done for."""

    policy: str
    rule: str
    arm: str = ""


class Choices:
    """Their instruments. ``fold`` takes in what a request's outcome says.

    The other methods take in what happens after it; the event loop calls them all. ``attempts`` (by
    backend, reason and arm) and ``cost`` (by backend, policy, rule, tier and arm) count those of
    asides beside all others.
    """

    def __init__(self, attempts: Counter, cost: Counter) -> None:
        self._attempts = attempts
        self._cost = cost
        self._asides = Counter(
            "switchboard.asides",
            ("backend", "policy", "purpose", "reason", "rule", "arm"),
            "Requests made on another's account, by what became of them",
        )
        self._aside_cost = Counter(
            "switchboard.aside.cost.microdollars",
            ("backend", "policy", "purpose", "rule", "arm"),
            "What they cost, in millionths of a US dollar",
        )
        self._aside_duration = Histogram(
            "switchboard.aside.duration",
            ("backend", "purpose"),
            "From such a request to the end of its answer",
            unit="s",
            bounds=_ASIDE_S,
        )
        self._cascades = Counter(
            "switchboard.cascades",
            ("policy", "rule", "tier", "verdict", "arm"),
            "Answers of a cascade's tiers, by what came of them",
        )
        self._ensembles = Counter(
            "switchboard.ensembles",
            ("policy", "rule", "verdict", "arm"),
            "Requests that several backends answered, by what chose among the answers",
        )
        self._mirrors = Counter(
            "switchboard.mirrors",
            ("backend", "policy", "result", "rule", "arm"),
            "Requests that a mirror was to get, by what became of them",
        )
        self._agreement = Histogram(
            "switchboard.mirror.agreement",
            ("backend", "policy", "rule", "arm"),
            "How far a mirror's answer came to the same, 0 to 1",
            unit="",
            bounds=_SHARES,
        )
        self._reviews = Counter(
            "switchboard.reviews",
            ("policy", "result", "rule", "arm"),
            "Answers marked for review, by what became of their posting",
        )
        self._rating = Histogram(
            "switchboard.rating",
            ("backend", "policy", "rule", "source", "tier", "arm"),
            "How good answers were, 0 to 1, by who says so",
            unit="",
            bounds=_SHARES,
        )

    @property
    def instruments(self) -> Sequence[Instrument]:
        """All of them, in the order of the page."""
        return (
            self._asides,
            self._aside_cost,
            self._aside_duration,
            self._cascades,
            self._ensembles,
            self._mirrors,
            self._agreement,
            self._reviews,
            self._rating,
        )

    def fold(self, outcome: Outcome) -> None:
        """Take in an outcome."""
        policy, rule, arm = outcome.policy, outcome.rule, outcome.arm
        if outcome.asides:
            whose = Whose(policy, rule, arm)
            for aside in outcome.asides:
                self.aside(whose, aside)
        for tier, verdict in outcome.judged:
            self._cascades.add((policy, rule, tier, verdict, arm))
        if outcome.ensemble:
            self._ensembles.add((policy, rule, outcome.ensemble, arm))

    def aside(self, whose: Whose, aside: Aside) -> None:
        """Take in a request that was made on another's account and is not in its outcome."""
        backend, purpose = aside.backend, aside.purpose
        reason = aside.failure or "answered"
        self._asides.add((backend, whose.policy, purpose, reason, whose.rule, whose.arm))
        self._aside_duration.record((backend, purpose), aside.duration_s)
        for attempt in aside.attempts:
            self._attempts.add((attempt.backend, attempt.failure or "answered", whose.arm))
        if aside.cost_microdollars:
            cost = (backend, whose.policy, purpose, whose.rule, whose.arm)
            self._aside_cost.add(cost, aside.cost_microdollars)
            tier = aside.attempts[-1].tier if aside.attempts else ""
            where = (backend, whose.policy, whose.rule, tier, whose.arm)
            self._cost.add(where, aside.cost_microdollars)

    def unasked(self, whose: Whose, purpose: Purpose, backend: str, reason: str) -> None:
        """Take in that a request on another's account was not made after all, and why in a word."""
        self._asides.add((backend, whose.policy, purpose, reason, whose.rule, whose.arm))

    def mirrored(
        self, whose: Whose, backend: str, result: str, *, agreement: float | None = None
    ) -> None:
        """Take in what became of a mirrored request: a word, and how far the answers agree."""
        self._mirrors.add((backend, whose.policy, result, whose.rule, whose.arm))
        if agreement is not None:
            self._agreement.record((backend, whose.policy, whose.rule, whose.arm), agreement)

    def reviewed(self, whose: Whose, result: str) -> None:
        """Take in what became of an answer that was marked for review."""
        self._reviews.add((whose.policy, result, whose.rule, whose.arm))

    def rated(self, whose: Whose, *, tier: str, backend: str, source: str, value: float) -> None:
        """Take in a rating in [0, 1] of an answer, and its source, a word of a closed set."""
        self._rating.record((backend, whose.policy, whose.rule, source, tier, whose.arm), value)
