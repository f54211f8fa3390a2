"""What comes after a failed attempt, and what marks take out of a decision."""

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from fakes.policies import backend, endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane import errors
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.following import Now, Wait, follow, others_left, widen
from switchboard_dataplane.decision.resting import mark_of, next_return
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import (
    Candidate,
    Decision,
    Plan,
    Rejection,
    Resting,
    Tried,
)
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.marks import Mark
from switchboard_policy import ir

NOW = 1_000.0


class Fixed:
    """Chance that is always the same."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def running(*tiers: ir.Tier, **fields: Any) -> Snapshot:
    names = sorted({member.backend.partition("/")[2] for one in tiers for member in one.members})
    return snapshot(
        policy("chat", rule("default", *tiers), **fields), *(backend(name) for name in names)
    )


def first(world: Snapshot, signals: SignalTable | None = None) -> Decision:
    signals = SignalTable() if signals is None else signals
    verdict = decide(world, view(), signals, now=NOW, rng=Fixed())
    assert isinstance(verdict, Decision), verdict
    return verdict


def at(
    *, allow: Callable[[], bool] = lambda: True, until: float = math.inf, waited_s: float = 0.0
) -> Now:
    return Now(NOW, until, Fixed(), waited_s, allow)


def next_of(
    decision: Decision, failures: Sequence[Tried], signals: SignalTable | None = None, **how: Any
) -> Candidate | Wait | None:
    signals = SignalTable() if signals is None else signals
    return follow(decision.plan, failures, signals, at(**how))


def name_of(step: object) -> str:
    assert isinstance(step, Candidate), step
    return step.endpoint.backend.name


def rate_limited(candidate: Candidate, retry_after_s: float) -> Tried:
    return Tried(candidate, failure="rate_limited", retry_after_s=retry_after_s)


ONE_THEN_TWO = (tier("first", "one"), tier("second", "two"))


def test_a_short_limit_is_waited_for_in_its_tier() -> None:
    decision = first(running(*ONE_THEN_TWO))
    step = next_of(decision, [rate_limited(decision.candidate, 2.0)])
    assert step == Wait(NOW + 2.0, 2.0, decision.candidate)


@pytest.mark.parametrize(
    "how",
    [{"waited_s": 1.5}, {"until": NOW + 1.9}, {"allow": lambda: False}],
    ids=["waited-enough", "deadline", "no-budget"],
)
def test_a_wait_that_cannot_be_had_moves_on(how: dict[str, Any]) -> None:
    decision = first(running(*ONE_THEN_TWO))
    assert name_of(next_of(decision, [rate_limited(decision.candidate, 2.0)], **how)) == "ai/two"


def test_a_long_limit_moves_on() -> None:
    decision = first(running(*ONE_THEN_TWO))
    assert name_of(next_of(decision, [rate_limited(decision.candidate, 3.1)])) == "ai/two"


def test_a_limit_is_not_waited_for_twice_in_a_tier() -> None:
    decision = first(running(*ONE_THEN_TWO))
    failures = [rate_limited(decision.candidate, 0.1)] * 2
    assert name_of(next_of(decision, failures)) == "ai/two"


def test_a_shed_load_is_waited_for_only_where_nothing_else_is_left() -> None:
    def shed(candidate: Candidate) -> Tried:
        return Tried(candidate, failure="overloaded", retry_after_s=1.0)

    decision = first(running(*ONE_THEN_TWO))
    assert name_of(next_of(decision, [shed(decision.candidate)])) == "ai/two"
    decision = first(running(tier("only", "one")))
    assert isinstance(next_of(decision, [shed(decision.candidate)]), Wait)


def test_attempts_end_everything() -> None:
    decision = first(running(*ONE_THEN_TWO, attempts=1))
    assert next_of(decision, [rate_limited(decision.candidate, 0.1)]) is None


def test_a_repeat_that_the_budget_denies_goes_to_another_backend_or_nowhere() -> None:
    failed = [Tried(first(running(*ONE_THEN_TWO)).candidate, again=True, failure="server_error")]
    decision = first(running(*ONE_THEN_TWO))
    assert name_of(next_of(decision, failed)) == "ai/one"
    assert name_of(next_of(decision, failed, allow=lambda: False)) == "ai/two"
    alone = first(running(tier("only", "one")))
    failed = [Tried(alone.candidate, again=True, failure="server_error")]
    assert next_of(alone, failed, allow=lambda: False) is None


def test_the_first_move_to_another_backend_draws_on_no_budget() -> None:
    decision = first(running(*ONE_THEN_TWO))
    failed = [Tried(decision.candidate, failure="overloaded")]
    assert name_of(next_of(decision, failed, allow=lambda: False)) == "ai/two"


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({}, True),
        ({"attempts": 1}, False),
        ({"guardrails": (ir.Guardrail("no-two", "ai/chat", ("ai/two",)),)}, False),
    ],
    ids=["another", "no attempt", "forbidden"],
)
def test_it_is_known_whether_another_may_have_an_attempt_later(
    fields: dict[str, Any], left: bool
) -> None:
    decision = first(running(*ONE_THEN_TWO, **fields))
    assert others_left(decision.plan, [Tried(decision.candidate)]) is left


@pytest.mark.parametrize("whole", [False, True])
def test_another_endpoint_of_a_backend_counts_unless_that_is_given_up(whole: bool) -> None:
    world = snapshot(
        policy("chat", rule("default", tier("only", "one"))),
        service("one"),
        endpoints("one", "10.0.0.1:80", "10.0.0.2:80"),
    )
    decision = first(world)
    assert others_left(decision.plan, [Tried(decision.candidate, whole_backend=whole)]) is not whole


def test_a_silent_backend_comes_after_all_others() -> None:
    world = snapshot(
        policy("chat", rule("default", tier("first", "one"), tier("second", "two"))),
        service("one"),
        endpoints("one", "10.0.0.1:80", "10.0.0.2:80"),
        backend("two"),
    )
    decision = first(world)
    silent = Tried(decision.candidate, failure="timeout")
    step = next_of(decision, [silent])
    assert name_of(step) == "ai/two"
    assert isinstance(step, Candidate)
    last = next_of(decision, [silent, Tried(step, failure="overloaded")])
    assert isinstance(last, Candidate)
    assert last.endpoint.address != decision.candidate.endpoint.address
    assert name_of(last) == "ai/one"


# marks


def marked(*marks: Mark) -> SignalTable:
    signals = SignalTable()
    for mark in marks:
        signals.marks.put(mark, NOW)
    return signals


def limited(name: str, for_s: float = 10.0, **fields: Any) -> Mark:
    return Mark(f"ai/{name}", "rate_limited", for_s, **fields)


def test_a_marked_backend_is_left_out_until_its_time_is_over() -> None:
    world, signals = running(*ONE_THEN_TWO), marked(limited("one"))
    for after_s, name in [(0.0, "ai/two"), (9.9, "ai/two"), (10.1, "ai/one")]:
        verdict = decide(world, view(), signals, now=NOW + after_s, rng=Fixed())
        assert isinstance(verdict, Decision)
        assert name_of(verdict.candidate) == name


def test_requests_return_one_by_one_over_half_of_the_time() -> None:
    world, signals, rng = running(*ONE_THEN_TWO), marked(limited("one")), Random(7)

    def share(after_s: float) -> float:
        back = 0
        for _ in range(1_000):
            verdict = decide(world, view(), signals, now=NOW + after_s, rng=rng)
            assert isinstance(verdict, Decision)
            back += name_of(verdict.candidate) == "ai/one"
        return back / 1_000

    assert [share(after_s) for after_s in (9.9, 15.1)] == [0.0, 1.0]
    assert share(11.0) == pytest.approx(0.2, abs=0.05)
    assert share(14.0) == pytest.approx(0.8, abs=0.05)


def test_where_everything_rests_it_is_known_what_returns_first() -> None:
    world = running(*ONE_THEN_TWO)
    signals = marked(limited("one", 20.0), limited("two", 9.0))
    verdict = decide(world, view(), signals, now=NOW, rng=Fixed(0.5))
    assert isinstance(verdict, Resting)
    back = next_return(verdict.plan, (), signals, now=NOW, rng=Fixed(0.5))
    assert back is not None
    assert (back.failure, back.in_s, back.at) == ("rate_limited", 9.0, NOW + 9.0 + 0.5 * 4.5)


def test_what_returns_soon_is_waited_for() -> None:
    world, signals = running(*ONE_THEN_TWO), marked(limited("one", 20.0), limited("two", 2.0))
    verdict = decide(world, view(), signals, now=NOW, rng=Fixed())
    assert isinstance(verdict, Resting)
    assert follow(verdict.plan, (), signals, at()) == Wait(NOW + 2.0, 2.0)
    assert follow(verdict.plan, (), signals, at(waited_s=1.1)) is None
    assert follow(verdict.plan, (), signals, at(until=NOW + 1.9)) is None


def test_where_others_are_only_busy_nobody_is_told_to_wait_for_what_rests() -> None:
    world = snapshot(
        policy("chat", rule("default", *ONE_THEN_TWO)),
        backend("one"),
        backend("two", max_in_flight=1),
    )
    signals = marked(limited("one", 60.0))
    signals["ai/two@two.example:8000"].in_flight = 1
    verdict = decide(world, view(), signals, now=NOW, rng=Fixed())
    assert isinstance(verdict, Rejection)
    assert verdict.reason == "overloaded"
    assert "first/ai/one: is left alone for a while, as it asked for" in verdict.message


def test_a_mark_of_another_credential_says_nothing() -> None:
    signals = marked(limited("one", credential="old"))
    assert name_of(first(running(*ONE_THEN_TWO), signals).candidate) == "ai/one"


def test_endpoints_rest_one_by_one_and_their_backend_when_all_do() -> None:
    world = snapshot(
        policy("chat", rule("default", tier("first", "one"), tier("second", "two"))),
        service("one"),
        endpoints("one", "10.0.0.1:80", "10.0.0.2:80"),
        backend("two"),
    )
    signals = marked(limited("one", endpoint="ai/one@10.0.0.1:80"))
    chances = [Fixed(number / 20) for number in range(20)]
    for rng in chances:
        verdict = decide(world, view(), signals, now=NOW, rng=rng)
        assert isinstance(verdict, Decision)
        assert verdict.candidate.endpoint.address == "10.0.0.2:80"
    signals.marks.put(limited("one", endpoint="ai/one@10.0.0.2:80"), NOW)
    assert name_of(first(world, signals).candidate) == "ai/two"


@pytest.mark.parametrize("whole", [False, True])
def test_where_the_rest_is_resting_an_ejected_endpoint_is_asked(whole: bool) -> None:
    world = snapshot(
        policy("chat", rule("default", tier("first", "one"), tier("second", "two"))),
        service("one"),
        service("two"),
        endpoints("one", "10.0.0.1:80", *([] if whole else ["10.0.0.2:80"])),
        endpoints("two", *(["10.0.0.2:80"] if whole else [])),
    )
    signals = marked(limited("one", endpoint="ai/one@10.0.0.1:80"))
    out = signals["ai/two@10.0.0.2:80" if whole else "ai/one@10.0.0.2:80"].breaker
    signals.ejected.put_out(out, NOW)
    candidate = first(world, signals).candidate
    assert (candidate.endpoint.id, candidate.panic) == (out.endpoint_id, True)


def test_what_was_only_announced_serves_where_nothing_else_is_left() -> None:
    world = running(*ONE_THEN_TWO)
    announced = limited("one", announced=True)
    assert name_of(first(world, marked(announced)).candidate) == "ai/two"
    assert name_of(first(world, marked(announced, limited("two"))).candidate) == "ai/one"
    decision = first(world, marked(announced))
    failed = [Tried(decision.candidate, failure="overloaded")]
    assert name_of(next_of(decision, failed, marked(announced))) == "ai/one"


@pytest.mark.parametrize(
    ("failure", "external", "mark"),
    [
        (errors.UpstreamAuth("x"), True, ("auth", 60.0, "")),
        (errors.UpstreamAuth("x", retry_after_s=5.0), True, ("auth", 5.0, "")),
        (errors.UpstreamAuth("x"), False, ("auth", 60.0, "")),
        (errors.UpstreamRateLimited("x", retry_after_s=5.0), True, ("rate_limited", 5.0, "")),
        (errors.UpstreamRateLimited("x", retry_after_s=5.0), False, ("rate_limited", 5.0, "own")),
        (errors.UpstreamOverloaded("x", retry_after_s=5.0), True, ("overloaded", 5.0, "own")),
        (errors.UpstreamRateLimited("x"), True, None),
        (errors.UpstreamOverloaded("x"), True, None),
        (errors.UpstreamFailed("x", retry_after_s=5.0), True, None),
    ],
)
def test_what_a_failure_says_of_the_requests_to_come(
    failure: errors.UpstreamError, external: bool, mark: tuple[str, float, str] | None
) -> None:
    own = backend("one") if external else service("one")
    world = snapshot(
        policy("chat", rule("default", tier("first", "one"))),
        own,
        *([] if external else [endpoints("one", "10.0.0.1:80")]),
    )
    endpoint = first(world).candidate.endpoint
    found = mark_of(endpoint, failure)
    if mark is None:
        assert found is None
    else:
        name, for_s, own_endpoint = mark
        where = endpoint.id if own_endpoint else ""
        assert found == Mark("ai/one", name, for_s, endpoint=where)  # type: ignore[arg-type]


def test_a_refusal_that_may_be_of_this_request_alone_is_not_remembered() -> None:
    failure = errors.UpstreamAuth("x")
    failure.lasting = False
    assert mark_of(first(running(*ONE_THEN_TWO)).candidate.endpoint, failure) is None


# windows


def windowed(**tokens: int | None) -> Plan:
    return first(
        snapshot(
            policy("chat", rule("default", tier("only", *tokens))),
            *(
                backend(name, capabilities=ir.Capabilities(context_window_tokens=window))
                for name, window in tokens.items()
            ),
        )
    ).plan


@pytest.mark.parametrize(
    ("told", "names"),
    [(0, ["c"]), (100, ["b", "c"]), (1_000, []), (200, ["c"])],
)
def test_only_windows_known_to_be_larger_are_left(told: int, names: list[str]) -> None:
    plan = windowed(a=100, b=200, c=1_000, unknown=None)
    asked = plan.snapshot.backends["ai/b"]
    wider = widen(plan, asked, told)
    left = (
        []
        if wider is None
        else [
            name for number, name in enumerate(plan.policy.backends) if wider.eligible >> number & 1
        ]
    )
    assert left == [f"ai/{name}" for name in names]


def test_a_window_that_nobody_knows_is_not_outdone() -> None:
    plan = windowed(a=100, unknown=None)
    assert widen(plan, plan.snapshot.backends["ai/unknown"], 0) is None
