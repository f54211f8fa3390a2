"""Tells the metrics, and the log of decisions, what came of what followed an answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from switchboard_dataplane.composed.ended import Ended
from switchboard_dataplane.composed.mirror import COMPARED, Mirrored
from switchboard_dataplane.learning.decisions import Compared
from switchboard_dataplane.learning.ratings import Source
from switchboard_dataplane.telemetry.choices import Choices, Whose
from switchboard_dataplane.telemetry.outcome import FOLD_DELAY_S, Aside, Outcome

#: A decision is known when its outcome has been folded; a mirror may be quicker. In seconds.
RATED_AFTER_S: Final = 4 * FOLD_DELAY_S

#: Rates a decision by its id, in [0, 1], and says who did and whose answer it was.
Rate = Callable[[str, float, Source, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Where it is told. ``log`` is that of decisions, ``today`` tells the time of day in UTC.

    ``later`` calls a function after some seconds.
    """

    choices: Choices
    rate: Rate
    log: Callable[[Compared], None]
    today: Callable[[], datetime]
    later: Callable[[float, Callable[[], None]], object]

    def mirrored(self, told: Mirrored) -> None:
        """Take in what a mirror made of a request; its answer is rated by the judge alone."""
        ended = told.ended
        whose = _whose(ended)
        for aside in told.asides:
            self.choices.aside(whose, aside)
        self.choices.mirrored(whose, told.backend, told.result, agreement=told.agreement)
        if not ended.decision or told.result != COMPARED:
            return
        self.log(_compared(told, self.today()))
        if told.better is not None:
            said = partial(self.rate, ended.decision, float(told.better), "mirror", told.backend)
            self.later(RATED_AFTER_S, said)

    def reviewed(self, ended: Ended, result: str) -> None:
        """Take in what became of a review."""
        self.choices.reviewed(_whose(ended), result)

    def scored(self, decision: str, score: float) -> None:
        """Take in the score that the judge of a sample gave an answer."""
        self.rate(decision, score, "judge", "")

    def sampled(self, outcome: Outcome, asides: Sequence[Aside]) -> None:
        """Take in what that judge was asked."""
        for aside in asides:
            self.choices.aside(_whose_of(outcome), aside)

    def unsampled(self, outcome: Outcome, backend: str, reason: str) -> None:
        """Take in that it was not asked."""
        self.choices.unasked(_whose_of(outcome), "sample", backend, reason)


def _compared(told: Mirrored, at: datetime) -> Compared:
    costs = [one.cost_microdollars for one in told.asides if one.cost_microdollars is not None]
    return Compared(
        decision=told.ended.decision,
        at=at,
        backend=told.backend,
        agreement=told.agreement,
        better=told.better,
        answer_chars=told.chars[0],
        mirror_chars=told.chars[1],
        answer_s=told.took_s[0],
        mirror_s=told.took_s[1],
        cost_microdollars=sum(costs) if costs else None,
    )


def _whose(ended: Ended) -> Whose:
    return _whose_of(ended.outcome)


def _whose_of(outcome: Outcome) -> Whose:
    return Whose(outcome.policy, outcome.rule, outcome.arm)
