"""Whatever upstreams say and however attempts fail, what comes next keeps to its bounds."""

import math
from datetime import UTC, datetime
from random import Random
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from fakes.policies import backend, endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.following import Now, Wait, follow
from switchboard_dataplane.decision.resting import mark_of
from switchboard_dataplane.decision.verdict import Candidate, Decision, Rejection, Tried
from switchboard_dataplane.errors import UpstreamError
from switchboard_dataplane.failover import tried_of
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.marks import CREDENTIAL_REST_MAX_S, Mark, Marks
from switchboard_dataplane.upstream.failures import event_status, failure_of, failure_of_event
from switchboard_dataplane.upstream.overflow import find_overflow
from switchboard_dataplane.upstream.rate_limits import (
    RETRY_AFTER_MAX_S,
    read_announced,
    read_rest,
)
from switchboard_policy import ir

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
HEADERS = (
    "retry-after",
    "Retry-After-Ms",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "ratelimit-remaining",
    "ratelimit-reset",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
)
VALUES = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,3})?(ms|d|h|m|s)?", fullmatch=True),
    st.from_regex(
        r"[A-Z][a-z]{2}, [0-9]{1,2} [A-Z][a-z]{2} [0-9]{1,5} [0-9:]{5,8} (GMT|[+-][0-9]{1,6})",
        fullmatch=True,
    ),
    st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{5,8}(Z|\+[0-9:]{4,5})?", fullmatch=True),
    st.sampled_from(["0", "Mon, 01 Jan 0001 00:00:00 GMT", "9999-12-31T23:59:59Z", "nan", "inf"]),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10**6) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ERRORS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("code", "status", "type", "message", "metadata"), JSON)
)


def noon() -> datetime:
    return NOON


@given(st.dictionaries(st.sampled_from(HEADERS), VALUES), st.sampled_from([200, 429, 503]))
def test_no_header_says_more_than_an_hour_or_less_than_nothing(
    headers: dict[str, str], status: int
) -> None:
    for said in (
        read_rest(status, headers.items(), now=noon),
        read_announced(headers.items(), now=noon),
    ):
        assert said is None or 0.0 <= said <= RETRY_AFTER_MAX_S


@given(ERRORS, st.integers(100, 600))
def test_every_error_object_has_a_meaning(fields: dict[str, Any], status: int) -> None:
    assert 400 <= event_status(fields) < 600
    failure_of_event({"error": fields})
    failure_of_event(fields)
    failure_of(status, now=noon, body=orjson.dumps({"error": fields}))
    tokens = find_overflow(fields)
    assert tokens is None or tokens >= 0


@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=True),
            st.booleans(),
            st.sampled_from(["", "ai/one@a", "ai/one@b"]),
            st.floats(0, 100),
        ),
        max_size=20,
    )
)
def test_marks_end_within_their_cap(said: list[tuple[float, bool, str, float]]) -> None:
    marks, now = Marks(), 0.0
    for for_s, announced, endpoint, later_s in said:
        now += later_s
        mark = Mark("ai/one", "rate_limited", for_s, endpoint=endpoint, announced=announced)
        marks.put(mark, now)
        for rest in marks.of("ai/one").values():
            assert rest.until <= rest.ends(1.0) <= min(marks.horizon, now + CREDENTIAL_REST_MAX_S)
            assert rest.spread_s >= 0


KINDS = UpstreamError.__subclasses__()
FAILURES = st.tuples(
    st.sampled_from(KINDS), st.none() | st.sampled_from([0.0, 0.1, 1.0, 2.9, 3.1, 100.0, math.inf])
)
ATTEMPTS = 6
WAIT_S = 3.0
DEADLINE_S = 5.0
FORBIDDEN = "ai/four"
WORLD = snapshot(
    policy(
        "chat",
        rule("default", tier("first", "one", "two"), tier("second", "three", "four")),
        attempts=ATTEMPTS,
        guardrails=(ir.Guardrail("no-four", "ai/chat", (FORBIDDEN,)),),
    ),
    service("one"),
    endpoints("one", "10.0.0.1:80", "10.0.0.2:80"),
    *(backend(name) for name in ("two", "three", "four")),
)
REQUESTS = st.lists(
    st.tuples(
        st.lists(FAILURES, min_size=ATTEMPTS, max_size=ATTEMPTS), st.integers(0, 2), st.floats(0, 9)
    ),
    max_size=6,
)


@given(REQUESTS, st.integers())
def test_a_request_keeps_to_its_attempts_waits_budget_and_guardrails(
    requests: list[tuple[list[tuple[type[UpstreamError], float | None]], int, float]], seed: int
) -> None:
    signals, rng, now = SignalTable(), Random(seed), 0.0
    for failures, budget, later_s in requests:
        now = play(signals, rng, now + later_s, failures, budget)


def play(
    signals: SignalTable,
    rng: Random,
    now: float,
    failures: list[tuple[type[UpstreamError], float | None]],
    budget: int,
) -> float:
    """Let every attempt of a request fail as told; return when it is over."""
    verdict = decide(WORLD, view(), signals, now=now, rng=rng)
    assert not isinstance(verdict, Rejection)
    until, waited_s = now + DEADLINE_S, 0.0
    granted: list[float] = []
    tried: list[Tried] = []

    def allow() -> bool:
        if len(granted) == budget:
            return False
        granted.append(now)
        return True

    def following() -> Candidate | Wait | None:
        return follow(verdict.plan, tried, signals, Now(now, until, rng, waited_s, allow))

    step = verdict.candidate if isinstance(verdict, Decision) else following()
    while step is not None:
        if isinstance(step, Wait):
            waited_s += step.asked_s
            assert waited_s <= WAIT_S
            assert now <= step.until < until
            now = step.until
            step = step.candidate or following()
            continue
        assert step.endpoint.backend.name != FORBIDDEN
        kind, retry_after_s = failures[len(tried)]
        failure = kind("no", retry_after_s=retry_after_s)
        tried.append(tried_of(step, failure))
        mark = mark_of(step.endpoint, failure)
        if mark is not None:
            signals.marks.put(mark, now)
        step = following()
    asked = [one.candidate.endpoint.backend.name for one in tried]
    assert len(asked) <= ATTEMPTS
    assert len(asked) - len(set(asked)) <= budget
    return now
