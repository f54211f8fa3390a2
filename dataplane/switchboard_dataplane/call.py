"""One request on its way: what is known of it so far, and the outcome that is made of it."""

from typing import TYPE_CHECKING, Final

from switchboard_dataplane.decision.client import ANYBODY
from switchboard_dataplane.decision.verdict import Candidate, Plan, Rejection, Tried
from switchboard_dataplane.race import Answer, BegunBy, Race, Run
from switchboard_dataplane.telemetry.cost import cost_microdollars
from switchboard_dataplane.telemetry.outcome import (
    Aside,
    Attempt,
    Outcome,
    Purpose,
    RaceEnd,
    Won,
)
from switchboard_dataplane.upstream.attempt import StreamedAnswer, WholeAnswer
from switchboard_dataplane.wire.prompts import tokens_of
from switchboard_dataplane.wire.usage import Usage
from switchboard_policy.ir import Api
from switchboard_policy.names import (
    HEADER_ARM,
    HEADER_ATTEMPTS,
    HEADER_BACKEND,
    HEADER_COST,
    HEADER_REASON,
    HEADER_REVISION,
    HEADER_RULE,
    HEADER_TIER,
)

if TYPE_CHECKING:
    from switchboard_dataplane.composition import Composition
    from switchboard_dataplane.decision.following import Wait
    from switchboard_dataplane.decision.running import Snapshot
    from switchboard_dataplane.errors import UpstreamError
    from switchboard_dataplane.learning.noting import Noted
    from switchboard_dataplane.signals.endpoints import EndpointSignal
    from switchboard_dataplane.telemetry.tracing import RequestSpan
    from switchboard_dataplane.wire.asks import Ask

_ANY_OK: Final = range(200, 300)


class Call:
    """A request; times are the event loop's, in seconds.

    ``until`` is when the deadline is over, 0 before the first attempt. ``candidate`` is the last
    attempt's, ``attempt_at`` when it began. ``holding`` is the signal in which the answering
    attempt is still counted as in flight. ``begun`` says that the head of the answer has gone out,
    so an error can only end it; ``breaks`` are the backends whose streams broke after that.
    ``failure`` is what went wrong last. ``race`` are attempts that are under way beside each other,
    None where there is one at a time; ``begun_by`` says why the answering attempt began. ``noted``
    is what the policy learns from it by, None where it does not.
    ``composition`` is what was asked beside the answer, None for most. ``client`` is who calls.
    """

    def __init__(self, api: Api, started_at: float) -> None:
        self.api: Final = api
        self.started_at: Final = started_at
        self.client = ANYBODY
        self.span: RequestSpan | None = None
        self.noted: Noted | None = None
        self.snapshot: Snapshot | None = None
        self.ask: Ask | None = None
        self.plan: Plan | None = None
        self.rejection: Rejection | None = None
        self.candidate: Candidate | None = None
        self.until = 0.0
        self.attempt_at = 0.0
        self.attempts: list[Attempt] = []
        self.tried: list[Tried] = []
        self.next_step: Candidate | Wait | None = None
        self.failure: UpstreamError | None = None
        self.race: Race | None = None
        self.races: list[RaceEnd] = []
        self.begun_by: BegunBy = ""
        self.waited_s = 0.0
        self.retries_denied = 0
        self.answer: WholeAnswer | StreamedAnswer | None = None
        self.holding: EndpointSignal | None = None
        self.begun = False
        self.status = 0
        self.error = ""
        self.ttft_s: float | None = None
        self.breaks: list[str] = []
        self.caller_left = False
        self.composition: Composition | None = None

    @property
    def wrote_whole_stream(self) -> bool:
        """Whether one endpoint wrote a stream from its first content to its end."""
        if self.composition is not None and self.composition.held:
            return False
        return self.ttft_s is not None and not (self.breaks or self.error or self.caller_left)

    def details(self) -> list[tuple[str, str]]:
        """Return the headers that tell the caller how the request was routed."""
        headers: list[tuple[str, str]] = []
        if self.snapshot is not None:
            headers.append((HEADER_REVISION, self.snapshot.revision))
        composition = self.composition
        if self.plan is not None:
            beside = 0 if composition is None else composition.attempts
            headers += (
                (HEADER_RULE, self.plan.rule.name),
                (HEADER_ATTEMPTS, str(len(self.attempts) + beside)),
            )
        if self.ask is not None and self.ask.view.arm:
            headers.append((HEADER_ARM, self.ask.view.arm))
        if self.candidate is not None:
            headers += (
                (HEADER_BACKEND, self.candidate.endpoint.backend.name),
                (HEADER_TIER, self.candidate.tier.name),
            )
        headers.append((HEADER_REASON, self.reason()))
        if composition is not None and (composition.asides or composition.reason):
            cost = self.cost_microdollars()
            if cost is not None:
                headers.append((HEADER_COST, dollars_of(cost)))
        return headers

    def reason(self) -> str:
        """Say in a word why the request ended where it did.

        The code of an error; else what a cascade or an ensemble says of itself; else ``raced`` or
        ``hedged`` where the attempt that answered had begun beside a silent one, ``fallback:`` and
        the last failure (``retry:`` where all attempts were at one backend), ``panic`` where
        ejections were ignored, ``spill:`` and the threshold that an earlier tier had passed,
        ``tier_unavailable`` where one had nothing that may serve, or ``primary``.
        """
        composed = "" if self.composition is None else self.composition.reason
        said = self.error or composed or self.begun_by
        if said:
            return said
        failures = [one.failure for one in self.attempts if one.failure and not one.lost]
        if failures:
            last = self.attempts[-1].backend
            moved = any(attempt.backend != last for attempt in self.attempts)
            return f"{'fallback' if moved else 'retry'}:{failures[-1]}"
        candidate = self.candidate
        if candidate is not None and candidate.panic:
            return "panic"
        if self.plan is not None and self.plan.spills:
            return f"spill:{self.plan.spills[0].cause}"
        below = candidate is not None and candidate.tier_index > 0
        return "tier_unavailable" if below else "primary"

    def outcome(self, now: float) -> Outcome:
        """Return what became of the request, as of ``now``."""
        outcome = Outcome(
            at=now, api=self.api, status=self.status, duration_s=now - self.started_at
        )
        outcome.attempts = tuple(self.attempts)
        outcome.races = tuple(self.races)
        outcome.breaks = tuple(self.breaks)
        outcome.retries_denied = self.retries_denied
        outcome.ttft_s = self.ttft_s
        outcome.error = self.error
        outcome.caller_left = self.caller_left
        outcome.noted = self.noted
        outcome.client = self.client.id
        if self.snapshot is not None:
            outcome.revision = self.snapshot.revision
        if self.ask is not None:
            outcome.model = self.ask.view.model
            outcome.stream = self.ask.view.stream
            outcome.arm = self.ask.view.arm
        if self.rejection is not None:
            outcome.policy = self.rejection.policy
            outcome.rule = self.rejection.rule
        if self.plan is not None:
            outcome.policy = self.plan.policy.name
            outcome.rule = self.plan.rule.name
            outcome.spills = self.plan.spills
            outcome.guardrails = self.plan.guardrails
            outcome.expression_errors = self.plan.expression_errors
        if self.composition is not None:
            outcome.asides = tuple(self.composition.asides)
            outcome.judged = tuple(self.composition.judged)
            outcome.ensemble = self.composition.ensemble
            outcome.held = self.composition.held
        if self.candidate is not None:
            _served(outcome, self.candidate, self._usage())
        return outcome

    def aside(self, purpose: Purpose, backend: str, verdict: str, now: float) -> Aside:
        """Return what became of this request as one that was made on another's account.

        ``backend`` is whom it was for, where it has come to none.
        """
        if self.candidate is not None:
            backend = self.candidate.endpoint.backend.name
        failure = "cancelled" if self.caller_left else self.error
        aside = Aside(purpose, backend, failure, now - self.started_at)
        aside.verdict = verdict
        aside.attempts = tuple(self.attempts)
        usage = self.usage_so_far()
        if usage is not None:
            aside.input_tokens, aside.output_tokens = usage.input_tokens, usage.output_tokens
            aside.cost_microdollars = self.cost_microdollars(so_far=True)
        return aside

    def adopt(self, other: "Call", *, plan: Plan | None) -> None:
        """Take the answer of a request on this one's account for its own; ``plan`` if it goes on.

        Whatever breaks it after that is mended by that plan.
        """
        if plan is not None:
            if self.plan is not None:
                plan.spills = self.plan.spills
            self.plan = plan
        self.candidate, self.attempt_at = other.candidate, other.attempt_at
        self.attempts += other.attempts
        self.tried = other.tried
        self.failure = other.failure
        self.races += other.races
        self.begun_by = other.begun_by
        self.retries_denied += other.retries_denied
        self.answer, self.holding = other.answer, other.holding

    def cost_microdollars(self, *, so_far: bool = False) -> float | None:
        """Return what all attempts, and all that was asked beside them, cost.

        None where a price is not known, or where the answer is still on its way and what it took
        ``so_far`` is not enough.
        """
        total = 0.0
        if self.composition is not None:
            beside = self.composition.cost_microdollars()
            if beside is None:
                return None
            total += beside
        for one in self.attempts:
            if one.cost_microdollars is not None:
                total += one.cost_microdollars
            elif one.input_tokens or one.output_tokens:
                return None
        answer = self.answer
        if isinstance(answer, StreamedAnswer) and not (answer.events.complete or so_far):
            return None
        usage = self._usage()
        if usage is None or self.candidate is None:
            return total
        last = _cost(self.candidate, usage)
        return None if last is None else total + last

    def begin_anew(self) -> None:
        """Forget the step that an earlier answer's attempts have left."""
        self.next_step = None

    def take_next_step(self) -> "Candidate | Wait | None":
        """Return the step that is known already, once; None if there is none."""
        step, self.next_step = self.next_step, None
        return step

    def take(self, run: Run, answer: Answer, now: float) -> None:
        """Take in the answer of an attempt: it is the request's, and in flight until that ends."""
        self.answer, self.holding, self.begun_by = answer, run.signal, run.begun_by
        self.record(run, "", now)

    def record(self, run: Run, failure: str, now: float) -> None:
        """Take in that an attempt is over: the last one, so far.

        One of a race that was given up has read the prompt all the same.
        """
        self.candidate, self.attempt_at = run.candidate, run.began_at
        endpoint = run.candidate.endpoint
        given_up = run.lost or (failure == "cancelled" and self.race is not None)
        attempt = Attempt(
            endpoint.backend.name,
            endpoint.id,
            run.candidate.tier.name,
            failure,
            now - run.began_at,
            lost=run.lost,
        )
        if given_up and self.ask is not None:
            _account(attempt, run.candidate, Usage(self.ask.view.tokens, 0, estimated=True))
        self.attempts.append(attempt)
        if self.race is not None:
            self.race.leave(run)
        if run.span is not None:
            run.span.end(failure)

    def end_race(self, race: Race, winner: Run | None) -> None:
        """Take in the end of a race; where nobody won the last tokens are the outcome's."""
        won: Won = "none"
        if winner is not None:
            won = "first" if winner is race.first else "second"
        self.races.append(RaceEnd(race.first.candidate.tier.name, won))
        self.race = None
        if winner is None and self.attempts and self.attempts[-1].failure == "cancelled":
            self.attempts[-1].input_tokens = 0
            self.attempts[-1].cost_microdollars = None

    def give_up_answer(self, failure: str, now: float) -> None:
        """Take the stream that broke for a failed attempt: another is to take its place."""
        usage = self._usage()
        if usage is None or self.candidate is None:
            return
        attempt = self.attempts[-1]
        attempt.failure, attempt.duration_s = failure, now - self.attempt_at
        _account(attempt, self.candidate, usage)
        self.answer = None

    def usage_so_far(self) -> Usage | None:
        """Return what all attempts took and gave, and all that was asked beside them.

        None if nothing was served.
        """
        last = self._usage()
        broken = [one for one in self.attempts if one.input_tokens or one.output_tokens]
        beside = None if self.composition is None else self.composition.usage()
        if last is None and beside is None and not broken:
            return None
        last = last or Usage(0, 0, estimated=True)
        beside = beside or Usage(0, 0)
        return Usage(
            last.input_tokens + beside.input_tokens + sum([one.input_tokens for one in broken]),
            last.output_tokens + beside.output_tokens + sum([one.output_tokens for one in broken]),
            last.cached_tokens,
            estimated=last.estimated or bool(broken),
        )

    def _usage(self) -> Usage | None:
        """Return the usage, estimated where the upstream told none; None if nothing was served.

        A caller that left before the answer has the prompt to account for.
        """
        if self.ask is None:
            return None
        prompt_tokens = self.ask.view.tokens
        if self.answer is None:
            left = self.caller_left and self.attempts and self.attempts[-1].failure == "cancelled"
            return Usage(prompt_tokens, 0, estimated=True) if left else None
        if self.answer.status not in _ANY_OK:
            return None
        if isinstance(self.answer, StreamedAnswer):
            events = self.answer.events
            # Engines send an event for each token.
            return events.usage or Usage(prompt_tokens, events.content_events, estimated=True)
        if self.answer.usage is not None:
            return self.answer.usage
        output_tokens = 0 if self.api == "embeddings" else tokens_of(len(self.answer.body))
        return Usage(prompt_tokens, output_tokens, estimated=True)


def dollars_of(microdollars: float) -> str:
    """Return an amount in US dollars, to the trillionth."""
    return f"{microdollars / 1_000_000:.12f}".rstrip("0").rstrip(".")


def _served(outcome: Outcome, candidate: Candidate, usage: Usage | None) -> None:
    """Fill in who served the request, or was the last to try, and what it took."""
    backend = candidate.endpoint.backend
    spec = backend.spec
    outcome.tier = candidate.tier.name
    outcome.panic = candidate.panic
    outcome.backend = backend.name
    outcome.endpoint = candidate.endpoint.id
    outcome.provider = spec.provider
    outcome.upstream_model = spec.model
    if usage is not None:
        outcome.input_tokens = usage.input_tokens
        outcome.output_tokens = usage.output_tokens
        outcome.cached_tokens = usage.cached_tokens
        outcome.estimated = usage.estimated
        outcome.cost_microdollars = _cost(candidate, usage)


def _account(attempt: Attempt, candidate: Candidate, usage: Usage) -> None:
    attempt.input_tokens = usage.input_tokens
    attempt.output_tokens = usage.output_tokens
    attempt.cost_microdollars = _cost(candidate, usage)


def _cost(candidate: Candidate, usage: Usage) -> float | None:
    return cost_microdollars(
        candidate.endpoint.backend.spec.pricing,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
    )
