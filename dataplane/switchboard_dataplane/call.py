"""One request on its way: what is known of it so far, and the outcome that is made of it."""

from typing import TYPE_CHECKING, Final

from switchboard_dataplane.decision.verdict import Candidate, Plan, Rejection, Tried
from switchboard_dataplane.telemetry.cost import cost_microdollars
from switchboard_dataplane.telemetry.outcome import Attempt, Outcome
from switchboard_dataplane.upstream.attempt import StreamedAnswer, WholeAnswer
from switchboard_dataplane.wire.prompts import tokens_of
from switchboard_dataplane.wire.usage import Usage
from switchboard_policy.ir import Api
from switchboard_policy.names import (
    HEADER_ATTEMPTS,
    HEADER_BACKEND,
    HEADER_REASON,
    HEADER_REVISION,
    HEADER_RULE,
    HEADER_TIER,
)

if TYPE_CHECKING:
    from switchboard_dataplane.decision.running import Snapshot
    from switchboard_dataplane.signals.endpoints import EndpointSignal
    from switchboard_dataplane.telemetry.tracing import RequestSpan
    from switchboard_dataplane.wire.asks import Ask

_ANY_OK: Final = range(200, 300)


class Call:
    """A request; times are the event loop's, in seconds.

    ``candidate`` is the last attempt's, ``attempt_at`` when it began. ``holding`` is the signal in
    which the answering attempt is still counted as in flight. ``begun`` says that the head of the
    answer has gone out, so an error can only end it.
    """

    def __init__(self, api: Api, started_at: float) -> None:
        self.api: Final = api
        self.started_at: Final = started_at
        self.attempts: list[Attempt] = []
        self.tried: list[Tried] = []
        self.span: RequestSpan | None = None
        self.snapshot: Snapshot | None = None
        self.ask: Ask | None = None
        self.plan: Plan | None = None
        self.rejection: Rejection | None = None
        self.candidate: Candidate | None = None
        self.attempt_at: float = 0.0
        self.answer: WholeAnswer | StreamedAnswer | None = None
        self.holding: EndpointSignal | None = None
        self.begun = False
        self.status = 0
        self.error = ""
        self.ttft_s: float | None = None
        self.caller_left = False

    def details(self) -> list[tuple[str, str]]:
        """Return the headers that tell the caller how the request was routed."""
        headers: list[tuple[str, str]] = []
        if self.snapshot is not None:
            headers.append((HEADER_REVISION, self.snapshot.revision))
        if self.plan is not None:
            headers.append((HEADER_RULE, self.plan.rule.name))
        if self.candidate is not None:
            headers += (
                (HEADER_BACKEND, self.candidate.endpoint.backend.name),
                (HEADER_TIER, self.candidate.tier.name),
                (HEADER_ATTEMPTS, str(len(self.attempts))),
            )
        headers.append((HEADER_REASON, self.reason()))
        return headers

    def reason(self) -> str:
        """Say in a word why the request ended where it did.

        The code of an error; else ``fallback:`` and the last failure, ``tier_unavailable`` where
        an earlier tier had nothing that may serve, or ``primary``.
        """
        if self.error:
            return self.error
        failures = [attempt.failure for attempt in self.attempts if attempt.failure]
        if failures:
            return f"fallback:{failures[-1]}"
        below = self.candidate is not None and self.candidate.tier_index > 0
        return "tier_unavailable" if below else "primary"

    def outcome(self, now: float) -> Outcome:
        """Return what became of the request, as of ``now``."""
        outcome = Outcome(
            at=now, api=self.api, status=self.status, duration_s=now - self.started_at
        )
        outcome.attempts = tuple(self.attempts)
        outcome.ttft_s = self.ttft_s
        outcome.error = self.error
        outcome.caller_left = self.caller_left
        if self.snapshot is not None:
            outcome.revision = self.snapshot.revision
        if self.ask is not None:
            outcome.model = self.ask.view.model
            outcome.stream = self.ask.view.stream
        if self.rejection is not None:
            outcome.policy = self.rejection.policy
            outcome.rule = self.rejection.rule
        if self.plan is not None:
            outcome.policy = self.plan.policy.name
            outcome.rule = self.plan.rule.name
            outcome.guardrails = self.plan.guardrails
            outcome.expression_errors = self.plan.expression_errors
        if self.candidate is not None:
            _served(outcome, self.candidate, self._usage())
        return outcome

    def _usage(self) -> Usage | None:
        """Return the usage, estimated where the upstream told none; None if nothing was served."""
        if self.answer is None or self.ask is None or self.answer.status not in _ANY_OK:
            return None
        prompt_tokens = self.ask.view.tokens
        if isinstance(self.answer, StreamedAnswer):
            events = self.answer.events
            # Engines send an event for each token.
            return events.usage or Usage(prompt_tokens, events.data_events, estimated=True)
        if self.answer.usage is not None:
            return self.answer.usage
        output_tokens = 0 if self.api == "embeddings" else tokens_of(len(self.answer.body))
        return Usage(prompt_tokens, output_tokens, estimated=True)


def _served(outcome: Outcome, candidate: Candidate, usage: Usage | None) -> None:
    """Fill in who served the request, or was the last to try, and what it took."""
    backend = candidate.endpoint.backend
    spec = backend.spec
    outcome.tier = candidate.tier.name
    outcome.backend = backend.name
    outcome.endpoint = candidate.endpoint.id
    outcome.provider = spec.provider
    outcome.upstream_model = spec.model
    if usage is not None:
        outcome.input_tokens = usage.input_tokens
        outcome.output_tokens = usage.output_tokens
        outcome.cached_tokens = usage.cached_tokens
        outcome.estimated = usage.estimated
        outcome.cost_microdollars = cost_microdollars(
            spec.pricing,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
        )
