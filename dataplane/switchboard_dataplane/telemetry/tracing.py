"""Spans: one a request, one child an attempt; only where an OTLP endpoint is configured."""

import logging
import threading
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from switchboard_dataplane.telemetry.otlp import LAST_EXPORT_S
from switchboard_dataplane.telemetry.outcome import Outcome

log = logging.getLogger(__name__)


class AttemptSpan:
    """The span of one attempt; ``headers`` hand it to the upstream."""

    __slots__ = ("_span", "headers")

    def __init__(self, span: Span, headers: Mapping[str, str]) -> None:
        self._span = span
        self.headers = headers

    def end(self, failure: str) -> None:
        """Close it."""
        _end(self._span, failure)


class RequestSpan:
    """The span of one request."""

    __slots__ = ("_propagator", "_span", "_tracer")

    def __init__(
        self, tracer: trace.Tracer, span: Span, propagator: TraceContextTextMapPropagator
    ) -> None:
        self._tracer = tracer
        self._span = span
        self._propagator = propagator

    def begin_attempt(self, backend: str, endpoint: str) -> AttemptSpan:
        """Open the span of an attempt."""
        context = trace.set_span_in_context(self._span)
        span = self._tracer.start_span(
            f"attempt {backend}",
            context,
            SpanKind.CLIENT,
            {"switchboard.backend": backend, "switchboard.endpoint": endpoint},
        )
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, trace.set_span_in_context(span))
        return AttemptSpan(span, carrier)

    def end(self, outcome: Outcome) -> None:
        """Close the request's span with what became of it."""
        attributes: dict[str, str | int | float] = {
            "gen_ai.request.model": outcome.model,
            "gen_ai.response.model": outcome.upstream_model,
            "gen_ai.provider.name": outcome.provider,
            "http.response.status_code": outcome.status,
            "switchboard.policy": outcome.policy,
            "switchboard.rule": outcome.rule,
            "switchboard.tier": outcome.tier,
            "switchboard.backend": outcome.backend,
            "switchboard.revision": outcome.revision,
            "switchboard.attempts": len(outcome.attempts),
        }
        if outcome.arm:
            attributes["switchboard.arm"] = outcome.arm
        if outcome.client:
            attributes["switchboard.client"] = outcome.client
        if outcome.noted is not None:
            attributes["switchboard.decision"] = outcome.noted.id
        if outcome.input_tokens is not None:
            attributes["gen_ai.usage.input_tokens"] = outcome.input_tokens
            attributes["gen_ai.usage.output_tokens"] = outcome.output_tokens or 0
        self._span.set_attributes(attributes)
        _end(self._span, outcome.error)


class Tracing:
    """Opens spans; ``processors`` carry them away."""

    def __init__(self, *processors: SpanProcessor, resource: Resource) -> None:
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for processor in processors:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("switchboard")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, api: str, headers: Mapping[str, str]) -> RequestSpan:
        """Open the span of a request below the caller's, if ``traceparent`` names one."""
        parent = self._propagator.extract(dict(headers))
        span = self._tracer.start_span(f"route {api}", parent, SpanKind.SERVER)
        return RequestSpan(self._tracer, span, self._propagator)

    def shutdown(self, *, patience_s: float = LAST_EXPORT_S) -> None:
        """Send what is left and stop; waits up to ``patience_s``: call it off the event loop."""
        # A thread that nobody has to wait for: the SDK waits 30 s for a collector that hangs.
        last = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        last.start()
        last.join(patience_s)
        if last.is_alive():
            log.warning("spans were not sent within %g s", patience_s)


def _end(span: Span, error: str) -> None:
    if error:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR, error))
    span.end()
