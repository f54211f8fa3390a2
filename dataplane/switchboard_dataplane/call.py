"""One request on its way: what is known of it so far, and the outcome that is made of it."""

import msgspec

from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Candidate, Plan, Rejection, Tried
from switchboard_dataplane.signals.endpoints import EndpointSignal
from switchboard_dataplane.telemetry.cost import cost_microdollars
from switchboard_dataplane.telemetry.outcome import Attempt, Outcome
from switchboard_dataplane.telemetry.tracing import RequestSpan
from switchboard_dataplane.upstream.attempt import StreamedAnswer, WholeAnswer
from switchboard_dataplane.wire.asks import Ask
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

_ANY_OK = range(200, 300)


class Call(msgspec.Struct, eq=False):
    """A request; times are the event loop's, in seconds.

    ``candidate`` is the last attempt's, ``attempt_at`` when it began. ``holding`` is the signal in
    which the answering attempt is still counted as in flight. ``begun`` says that the head of the
    answer has gone out, so an error can only end it.
    """

    api: Api
    started_at: float
    span: RequestSpan | None = None
    snapshot: Snapshot | None = None
    ask: Ask | None = None
    plan: Plan | None = None
    rejection: Rejection | None = None
    candidate: Candidate | None = None
    attempt_at: float = 0.0
    attempts: list[Attempt] = []
    tried: list[Tried] = []
    answer: WholeAnswer | StreamedAnswer | None = None
    holding: EndpointSignal | None = None
    begun: bool = False
    status: int = 0
    error: str = ""
    ttft_s: float | None = None
    caller_left: bool = False

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
        plan, candidate, view = self.plan, self.candidate, self.ask.view if self.ask else None
        if plan is None or candidate is None or view is None:
            return self._unserved(now)
        backend = candidate.endpoint.backend
        spec = backend.spec
        usage = self._usage()
        cost = None
        if usage is not None:
            cost = cost_microdollars(
                spec.pricing,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cached_tokens=usage.cached_tokens,
            )
        return Outcome(
            at=now,
            api=self.api,
            status=self.status,
            duration_s=now - self.started_at,
            model=view.model,
            stream=view.stream,
            policy=plan.policy.name,
            rule=plan.rule.name,
            tier=candidate.tier.name,
            backend=backend.name,
            endpoint=candidate.endpoint.id,
            provider=spec.provider,
            upstream_model=spec.model,
            revision=plan.snapshot.revision,
            attempts=tuple(self.attempts),
            guardrails=plan.guardrails,
            expression_errors=plan.expression_errors,
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
            cached_tokens=usage.cached_tokens if usage else 0,
            estimated=usage.estimated if usage else False,
            cost_microdollars=cost,
            ttft_s=self.ttft_s,
            error=self.error,
            caller_left=self.caller_left,
        )

    def _unserved(self, now: float) -> Outcome:
        """Return the outcome of a request that no endpoint was picked for."""
        view = self.ask.view if self.ask else None
        return Outcome(
            at=now,
            api=self.api,
            status=self.status,
            duration_s=now - self.started_at,
            model=view.model if view else "",
            stream=view.stream if view else False,
            policy=self.rejection.policy if self.rejection else "",
            rule=self.rejection.rule if self.rejection else "",
            revision=self.snapshot.revision if self.snapshot else "",
            error=self.error,
            caller_left=self.caller_left,
        )

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
