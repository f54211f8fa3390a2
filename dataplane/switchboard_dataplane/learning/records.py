"""What is recorded of an outcome: the entry of the log, and what it says of tiers by itself."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from switchboard_dataplane.judging.checks import ACCEPTED, FAILED
from switchboard_dataplane.learning.decisions import AsideTaken, Decided
from switchboard_dataplane.learning.noting import TEXT_CHARS_MAX, Noted
from switchboard_dataplane.learning.ratings import Source
from switchboard_dataplane.telemetry.outcome import Attempt, Outcome

#: The reason of a request whose caller left before anything went out.
CALLER_LEFT: Final = "caller_left"
#: Codes of errors that no model is to blame for.
_OURS: Final = frozenset({"internal_error", "shutting_down"})

Totalled = Literal["input_tokens", "output_tokens", "cost_microdollars"]


class Implied(NamedTuple):
    """A rating that nobody had to give; ``tier`` is "" for who gave the answer."""

    source: Source
    value: float
    tier: str


def decided(outcome: Outcome, noted: Noted, *, pod: str, at: datetime) -> Decided:
    """Return the record of a decision."""
    readings = noted.readings
    complexity: Any = readings.get("complexity")
    attempts = _attempts(outcome)
    left = outcome.caller_left and not outcome.status
    return Decided(
        id=noted.id,
        at=at,
        pod=pod,
        revision=outcome.revision,
        policy=outcome.policy,
        rule=outcome.rule,
        selected=noted.selected,
        tier=outcome.tier,
        backend=outcome.backend,
        model=outcome.model,
        client=outcome.client,
        upstream_model=outcome.upstream_model,
        arm=outcome.arm,
        api=outcome.api,
        stream=outcome.stream,
        task=str(readings.get("task", "")),
        complexity=None if complexity is None else min(1.0, max(0.0, float(complexity))),
        context=_context(readings),
        session=noted.session,
        input_tokens=_total(outcome, "input_tokens"),
        output_tokens=_total(outcome, "output_tokens"),
        cost_microdollars=_total(outcome, "cost_microdollars"),
        status=outcome.status,
        error=outcome.error,
        reason=CALLER_LEFT if left else noted.reason,
        ttft_s=outcome.ttft_s,
        duration_s=outcome.duration_s,
        attempts=len(attempts),
        failures=tuple(one.failure for one in attempts if one.failure and not one.lost),
        asides=tuple(
            AsideTaken(
                purpose=one.purpose,
                backend=one.backend,
                input_tokens=one.input_tokens,
                output_tokens=one.output_tokens,
                cost_microdollars=one.cost_microdollars,
                failure=one.failure,
            )
            for one in outcome.asides
        ),
        inputs=noted.inputs,
        prompt=noted.prompt if noted.texts else "",
        answer=noted.answer[:TEXT_CHARS_MAX] if noted.texts else "",
    )


def implied(outcome: Outcome) -> Sequence[Implied]:
    """Return what came of a request that rates a tier.

    A cascade's checks speak of answers that failed or passed them: a check that could not be made
    says nothing. A caller that left says nothing either.
    """
    found: list[Implied] = []
    for tier, verdict in outcome.judged:
        # An answer that failed goes out all the same where no stronger tier answers.
        whose = "" if tier == outcome.tier else tier
        if verdict in FAILED:
            found.append(Implied("escalation", 0.0, whose))
        elif verdict == ACCEPTED:
            found.append(Implied("acceptance", 1.0, whose))
    failed = bool(outcome.error) and outcome.error not in _OURS
    if outcome.attempts and failed and not outcome.caller_left:
        found.append(Implied("error", 0.0, ""))
    return found


def _attempts(outcome: Outcome) -> list[Attempt]:
    """Return all attempts, as the caller's header counts them: those of asides come first."""
    beside = [attempt for aside in outcome.asides for attempt in aside.attempts]
    return [*beside, *outcome.attempts]


def _context(readings: Mapping[str, Any]) -> tuple[float, ...]:
    said: Any = readings.get("context", ())
    return tuple(map(float, said))


def _total(outcome: Outcome, name: Totalled) -> Any:
    """Return what the answer, the attempts before it and the asides took; None if nothing did."""
    own: Any = getattr(outcome, name)
    parts = [getattr(one, name) for one in (*outcome.attempts, *outcome.asides)]
    known = [part for part in (own, *parts) if part]
    return sum(known) if known else own
