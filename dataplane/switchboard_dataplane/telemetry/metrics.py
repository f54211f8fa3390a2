"""The metrics: GenAI names where the convention has one, ``switchboard.*`` for routing facts.

Label values are names from the configuration and words from closed sets, never what a caller
wrote, so their number is bounded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from switchboard_dataplane.telemetry.outcome import Outcome

#: Boundaries that the GenAI convention advises, in seconds and in tokens.
_DURATION_S: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
_FIRST_TOKEN_S: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
_PER_TOKEN_S: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
)  # fmt: skip
_TOKENS: Final = (
    1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864,
)  # fmt: skip
_PROPAGATION_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_HISTOGRAMS: Final[Mapping[str, Sequence[float]]] = {
    "gen_ai.client.token.usage": _TOKENS,
    "gen_ai.server.request.duration": _DURATION_S,
    "gen_ai.server.time_to_first_token": _FIRST_TOKEN_S,
    "gen_ai.server.time_per_output_token": _PER_TOKEN_S,
    "switchboard.propagation": _PROPAGATION_S,
}
_OPERATIONS: Final = {
    "chat": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is read when the metrics are: requests in flight by backend, (epoch, sequence) of the
    policy in force (None before the first), objects refused, outcomes dropped.
    """

    in_flight: Callable[[], Mapping[str, int]]
    revision: Callable[[], tuple[int, int] | None]
    refused: Callable[[], int]
    dropped: Callable[[], int]


class Metrics:
    """The instruments of one data plane. ``fold`` is an Observer of outcomes."""

    def __init__(
        self, readers: Sequence[MetricReader], gauges: Gauges, *, resource: Resource
    ) -> None:
        self._provider = MeterProvider(
            metric_readers=readers,
            resource=resource,
            shutdown_on_exit=False,
            views=[
                View(
                    instrument_name=name,
                    aggregation=ExplicitBucketHistogramAggregation(boundaries=bounds),
                )
                for name, bounds in _HISTOGRAMS.items()
            ],
        )
        meter = self._provider.get_meter("switchboard")
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens a request took and gave"
        )
        self._duration = meter.create_histogram(
            "gen_ai.server.request.duration", "s", "From the request to the end of the answer"
        )
        self._first_token = meter.create_histogram(
            "gen_ai.server.time_to_first_token", "s", "From a streamed request to its first content"
        )
        self._per_token = meter.create_histogram(
            "gen_ai.server.time_per_output_token", "s", "Between tokens after the first"
        )
        self._decisions = meter.create_counter(
            "switchboard.decisions", description="Requests by where they were served"
        )
        self._attempts = meter.create_counter(
            "switchboard.attempts", description="Attempts by what became of them"
        )
        self._fallbacks = meter.create_counter(
            "switchboard.fallbacks", description="Requests served after an attempt had failed"
        )
        self._rejections = meter.create_counter(
            "switchboard.rejections", description="Requests that got an error, by its code"
        )
        self._cost = meter.create_counter(
            "switchboard.cost.microdollars", description="Cost in millionths of a US dollar"
        )
        self._expression_errors = meter.create_counter(
            "switchboard.expression.errors", description="CEL conditions that failed to evaluate"
        )
        self._left = meter.create_counter(
            "switchboard.callers.left", description="Requests whose caller left before the end"
        )
        self._propagation = meter.create_histogram(
            "switchboard.propagation", "s", "From the store's writing of a change to its swap"
        )
        _observe_gauges(self._provider, gauges)

    def propagated(self, seconds: float) -> None:
        """Take in how long a change took from the store's writing to the swap."""
        self._propagation.record(max(0.0, seconds))

    def fold(self, outcomes: Sequence[Outcome]) -> None:
        """Take in a batch of outcomes."""
        for outcome in outcomes:
            self._fold_routing(outcome)
            if outcome.attempts:
                self._fold_serving(outcome)

    def shutdown(self) -> None:
        """Send what is left and stop."""
        self._provider.shutdown()

    def _fold_routing(self, outcome: Outcome) -> None:
        for attempt in outcome.attempts:
            self._attempts.add(
                1, {"backend": attempt.backend, "reason": attempt.failure or "answered"}
            )
        if outcome.answered:
            where = {
                "policy": outcome.policy,
                "rule": outcome.rule,
                "tier": outcome.tier,
                "backend": outcome.backend,
            }
            self._decisions.add(1, where)
            if len(outcome.attempts) > 1:
                self._fallbacks.add(1, where)
            if outcome.cost_microdollars:
                self._cost.add(outcome.cost_microdollars, where)
        if outcome.error:
            self._rejections.add(1, {"reason": outcome.error})
        if outcome.caller_left:
            self._left.add(1, {"policy": outcome.policy})
        if outcome.expression_errors:
            self._expression_errors.add(outcome.expression_errors, {"policy": outcome.policy})

    def _fold_serving(self, outcome: Outcome) -> None:
        labels = {
            "gen_ai.operation.name": _OPERATIONS[outcome.api],
            "gen_ai.provider.name": outcome.provider,
            "gen_ai.request.model": outcome.upstream_model,
            "backend": outcome.backend,
        }
        ended = {**labels, "error.type": outcome.error} if outcome.error else labels
        self._duration.record(outcome.duration_s, ended)
        if outcome.ttft_s is not None:
            self._first_token.record(outcome.ttft_s, labels)
            later_tokens = (outcome.output_tokens or 0) - 1
            if later_tokens > 0:
                per_token_s = (outcome.duration_s - outcome.ttft_s) / later_tokens
                self._per_token.record(per_token_s, labels)
        # The convention: usage is what was counted, so an estimate is not recorded.
        if outcome.input_tokens is not None and not outcome.estimated:
            self._tokens.record(outcome.input_tokens, {**labels, "gen_ai.token.type": "input"})
            self._tokens.record(
                outcome.output_tokens or 0, {**labels, "gen_ai.token.type": "output"}
            )


def _observe_gauges(provider: MeterProvider, gauges: Gauges) -> None:
    meter = provider.get_meter("switchboard")

    def in_flight(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(n, {"backend": name}) for name, n in gauges.in_flight().items()]

    def revision(_: CallbackOptions) -> Iterable[Observation]:
        found = gauges.revision()
        if found is None:
            return []
        return [
            Observation(number, {"part": part})
            for part, number in zip(("epoch", "sequence"), found, strict=True)
        ]

    def refused(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(gauges.refused())]

    def dropped(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(gauges.dropped())]

    meter.create_observable_gauge(
        "switchboard.requests.in_flight", [in_flight], description="Requests in flight"
    )
    meter.create_observable_gauge(
        "switchboard.policy.revision", [revision], description="Revision of the policy in force"
    )
    meter.create_observable_gauge(
        "switchboard.policy.refused", [refused], description="Objects whose newest form is refused"
    )
    meter.create_observable_counter(
        "switchboard.telemetry.dropped", [dropped], description="Outcomes that were not folded"
    )
