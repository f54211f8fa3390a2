"""The metrics: GenAI names where the convention has one, ``switchboard.*`` for routing facts.

Label values are names from the configuration and words from closed sets, never what a caller
wrote, so their number is bounded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from switchboard_dataplane.telemetry.choices import Choices
from switchboard_dataplane.telemetry.instruments import (
    Counter,
    Histogram,
    Instrument,
    Labels,
    Observed,
)
from switchboard_dataplane.telemetry.outcome import Outcome

#: Boundaries that the GenAI convention advises, in seconds and in tokens.
_DURATION_S: Final[Sequence[float]] = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
_FIRST_TOKEN_S: Final[Sequence[float]] = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
_PER_TOKEN_S: Final[Sequence[float]] = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
)  # fmt: skip
_TOKENS: Final[Sequence[float]] = (
    1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864,
)  # fmt: skip
_PROPAGATION_S: Final[Sequence[float]] = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
)  # fmt: skip

#: The arm comes last everywhere; it is empty, and not told, where a policy compares nothing.
_WHERE: Final = ("backend", "policy", "rule", "tier", "arm")
_SERVING: Final = (
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model",
)  # fmt: skip
_OPERATIONS: Final = {
    "chat": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is read when the metrics are: requests in flight, ejected endpoints, requests that wait
    for one below its limit and that wait for a first one, all by backend; what
    engines say by backend (their requests waiting and running, the fullest KV cache, the age of
    the oldest word in seconds),
    (epoch, sequence) of the policy in force (None before the first), objects refused, outcomes
    dropped, decisions for the log by what became of them.

    They are called from any thread.
    """

    in_flight: Callable[[], Mapping[str, int]]
    ejected: Callable[[], Mapping[str, int]]
    queued: Callable[[], Mapping[str, int]]
    waking: Callable[[], Mapping[str, int]]
    engines: Callable[[], Mapping[str, tuple[int, int, float | None, float]]]
    revision: Callable[[], tuple[int, int] | None]
    refused: Callable[[], int]
    dropped: Callable[[], int]
    logged: Callable[[], Mapping[str, int]] = dict[str, int]


class Metrics:
    """The instruments of one data plane. ``fold`` is an Observer of outcomes.

    ``choices`` takes in what happens to requests after that.
    """

    def __init__(self, gauges: Gauges) -> None:
        self._attempts = Counter(
            "switchboard.attempts", ("backend", "reason", "arm"), "Attempts by what became of them"
        )
        self._decisions = Counter(
            "switchboard.decisions", _WHERE, "Requests by where they were served"
        )
        self._fallbacks = Counter(
            "switchboard.fallbacks", _WHERE, "Requests served after an attempt had failed"
        )
        self._cost = Counter(
            "switchboard.cost.microdollars", _WHERE, "Cost in millionths of a US dollar"
        )
        self.choices = Choices(self._attempts, self._cost)
        self._trouble = _Trouble()
        self._duration = Histogram(
            "gen_ai.server.request.duration",
            ("backend", "error.type", *_SERVING, "arm"),
            "From the request to the end of the answer",
            unit="s",
            bounds=_DURATION_S,
        )
        self._first_token = Histogram(
            "gen_ai.server.time_to_first_token",
            ("backend", *_SERVING, "arm"),
            "From a streamed request to its first content",
            unit="s",
            bounds=_FIRST_TOKEN_S,
        )
        self._per_token = Histogram(
            "gen_ai.server.time_per_output_token",
            ("backend", *_SERVING, "arm"),
            "Between tokens after the first",
            unit="s",
            bounds=_PER_TOKEN_S,
        )
        self._tokens = Histogram(
            "gen_ai.client.token.usage",
            ("backend", *_SERVING, "gen_ai.token.type", "arm"),
            "Tokens a request took and gave",
            unit="{token}",
            bounds=_TOKENS,
        )
        self._propagation = Histogram(
            "switchboard.propagation",
            (),
            "From the store's writing of a change to its swap",
            unit="s",
            bounds=_PROPAGATION_S,
        )
        self._unauthenticated = Counter(
            "switchboard.unauthenticated", ("reason",), "Requests that were not let in, by why"
        )
        self._observed = _observe(gauges)

    @property
    def instruments(self) -> Sequence[Instrument]:
        """All of them, in the order of the page."""
        return (
            self._attempts,
            self._decisions,
            self._fallbacks,
            self._cost,
            *self._trouble.instruments,
            self._unauthenticated,
            *self.choices.instruments,
            self._duration,
            self._first_token,
            self._per_token,
            self._tokens,
            self._propagation,
            *self._observed,
        )

    def propagated(self, seconds: float) -> None:
        """Take in how long a change took from the store's writing to the swap."""
        self._propagation.record((), max(0.0, seconds))

    def turned_away(self, why: str) -> None:
        """Take in that a caller was not let in."""
        self._unauthenticated.add((why,))

    def fold(self, outcomes: Sequence[Outcome]) -> None:
        """Take in a batch of outcomes."""
        for outcome in outcomes:
            self._fold_routing(outcome)
            if outcome.attempts:
                self._fold_serving(outcome)

    def _fold_routing(self, outcome: Outcome) -> None:
        arm = outcome.arm
        for attempt in outcome.attempts:
            self._attempts.add((attempt.backend, attempt.failure or "answered", arm))
            if attempt.cost_microdollars:
                broken = (attempt.backend, outcome.policy, outcome.rule, attempt.tier, arm)
                self._cost.add(broken, attempt.cost_microdollars)
        where = (outcome.backend, outcome.policy, outcome.rule, outcome.tier, arm)
        if outcome.answered:
            self._decisions.add(where)
            if any(attempt.failure and not attempt.lost for attempt in outcome.attempts):
                self._fallbacks.add(where)
        if outcome.cost_microdollars:
            self._cost.add(where, outcome.cost_microdollars)
        self._trouble.fold(outcome)
        self.choices.fold(outcome)

    def _fold_serving(self, outcome: Outcome) -> None:
        backend, provider, model = outcome.backend, outcome.provider, outcome.upstream_model
        operation, duration_s, arm = _OPERATIONS[outcome.api], outcome.duration_s, outcome.arm
        labels = (backend, outcome.error, operation, provider, model, arm)
        self._duration.record(labels, duration_s)
        if outcome.ttft_s is not None:
            serving = (backend, operation, provider, model, arm)
            self._first_token.record(serving, outcome.ttft_s)
            later_tokens = (outcome.output_tokens or 0) - 1
            if later_tokens > 0 and not outcome.held:
                self._per_token.record(serving, (duration_s - outcome.ttft_s) / later_tokens)
        # The convention: usage is what was counted, so an estimate is not recorded.
        taken, given = outcome.input_tokens, outcome.output_tokens or 0
        if taken is not None and not outcome.estimated:
            self._tokens.record((backend, operation, provider, model, "input", arm), taken)
            self._tokens.record((backend, operation, provider, model, "output", arm), given)


def _observe_engines(gauges: Gauges) -> Sequence[Observed]:
    def number(index: int) -> Callable[[], Mapping[Labels, float]]:
        def read() -> Mapping[Labels, float]:
            said = {backend: totals[index] for backend, totals in gauges.engines().items()}
            return {(backend,): value for backend, value in said.items() if value is not None}

        return read

    return (
        Observed("switchboard.engine.waiting", ("backend",), "Requests that wait", number(0)),
        Observed("switchboard.engine.running", ("backend",), "Requests that run", number(1)),
        Observed(
            "switchboard.engine.kv_use", ("backend",), "Used share of the fullest cache", number(2)
        ),
        Observed(
            "switchboard.signal.age",
            ("backend",),
            "Since the oldest of the engines' words",
            number(3),
            unit="s",
        ),
    )


class _Trouble:
    """The counters of what went wrong, or was kept from it."""

    def __init__(self) -> None:
        self._breaks = Counter(
            "switchboard.stream.breaks",
            ("backend", "policy", "arm"),
            "Streams that an upstream broke after their first content",
        )
        self._races = Counter(
            "switchboard.races",
            ("policy", "rule", "tier", "won", "arm"),
            "Attempts that another joined, by which one's content came first",
        )
        self._retries_denied = Counter(
            "switchboard.retries.denied",
            ("policy", "arm"),
            "Repeats at the same backend that the retry budget did not allow",
        )
        self._rejections = Counter(
            "switchboard.rejections", ("reason", "arm"), "Requests that got an error, by its code"
        )
        self._panics = Counter(
            "switchboard.panics",
            ("policy", "rule", "tier", "arm"),
            "Requests for which ejections were ignored",
        )
        self._spills = Counter(
            "switchboard.spills",
            ("cause", "policy", "rule", "tier", "arm"),
            "Requests that a tier handed on, by the threshold that it had passed",
        )
        self._left = Counter(
            "switchboard.callers.left",
            ("policy", "arm"),
            "Requests whose caller left before the end",
        )
        self._expression_errors = Counter(
            "switchboard.expression.errors",
            ("policy", "arm"),
            "Conditions that failed, or would take too long on a text",
        )

    @property
    def instruments(self) -> Sequence[Instrument]:
        """All of them, in the order of the page."""
        return (
            self._breaks,
            self._races,
            self._retries_denied,
            self._rejections,
            self._panics,
            self._spills,
            self._left,
            self._expression_errors,
        )

    def fold(self, outcome: Outcome) -> None:
        """Take in an outcome."""
        policy, rule, arm = outcome.policy, outcome.rule, outcome.arm
        for backend in outcome.breaks:
            self._breaks.add((backend, policy, arm))
        for race in outcome.races:
            self._races.add((policy, rule, race.tier, race.won, arm))
        if outcome.panic:
            self._panics.add((policy, rule, outcome.tier, arm))
        for tier, cause in outcome.spills:
            self._spills.add((cause, policy, rule, tier, arm))
        if outcome.retries_denied:
            self._retries_denied.add((policy, arm), outcome.retries_denied)
        if outcome.error:
            self._rejections.add((outcome.error, arm))
        if outcome.caller_left:
            self._left.add((policy, arm))
        if outcome.expression_errors:
            self._expression_errors.add((policy, arm), outcome.expression_errors)


def _observe(gauges: Gauges) -> Sequence[Observed]:
    def by_backend(read: Callable[[], Mapping[str, int]]) -> Callable[[], Mapping[Labels, float]]:
        return lambda: {(backend,): number for backend, number in read().items()}

    def revision() -> Mapping[Labels, float]:
        found = gauges.revision()
        return {} if found is None else {("epoch",): found[0], ("sequence",): found[1]}

    return (
        Observed(
            "switchboard.requests.in_flight",
            ("backend",),
            "Requests in flight",
            by_backend(gauges.in_flight),
        ),
        Observed(
            "switchboard.breaker.ejected",
            ("backend",),
            "Endpoints left out by their breaker or their probe",
            by_backend(gauges.ejected),
        ),
        Observed(
            "switchboard.queue.waiting",
            ("backend",),
            "Requests that wait for an endpoint below its limit",
            by_backend(gauges.queued),
        ),
        Observed(
            "switchboard.wake.waiting",
            ("backend",),
            "Requests that wait for a first endpoint",
            by_backend(gauges.waking),
        ),
        *_observe_engines(gauges),
        Observed(
            "switchboard.policy.revision", ("part",), "Revision of the policy in force", revision
        ),
        Observed(
            "switchboard.policy.refused",
            (),
            "Objects whose newest form is refused",
            lambda: {(): gauges.refused()},
        ),
        Observed(
            "switchboard.telemetry.dropped",
            (),
            "Outcomes that were not folded",
            lambda: {(): gauges.dropped()},
            rising=True,
        ),
        Observed(
            "switchboard.decision_log",
            ("result",),
            "Decisions for the log, by what became of them",
            lambda: {(result,): number for result, number in gauges.logged().items()},
            rising=True,
        ),
    )
