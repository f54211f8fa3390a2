"""Which rule answers, which backends may serve, and where each attempt goes."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from fakes.policies import backend, endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane.decision.candidates import next_candidate
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.match import FACT_READERS
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Decision, Rejection, Tried
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import facts, ir


def decided(running: Snapshot, signals: SignalTable | None = None, **fields: Any) -> Decision:
    verdict = decide(running, view(**fields), signals or SignalTable(), now=0.0, rng=Random(7))
    assert isinstance(verdict, Decision), verdict
    return verdict


def rejected(running: Snapshot, signals: SignalTable | None = None, **fields: Any) -> Rejection:
    verdict = decide(running, view(**fields), signals or SignalTable(), now=0.0, rng=Random(7))
    assert isinstance(verdict, Rejection), verdict
    return verdict


def one_rule(*tiers: ir.Tier, **fields: Any) -> ir.Policy:
    return policy("chat", rule("default", *tiers), **fields)


def backend_of(decision: Decision) -> str:
    return decision.candidate.endpoint.backend.name


def test_every_declared_fact_can_be_read() -> None:
    assert FACT_READERS.keys() == facts.REQUEST_FACTS.keys()


@pytest.mark.parametrize(("gain", "complexity"), [(-0.25, 0.0), (0.25, 0.25), (1.5, 1.0)])
def test_complexity_is_a_gain_between_0_and_1(gain: float, complexity: float) -> None:
    seen = view(readings={"complexity": gain})
    assert FACT_READERS["signals.complexity"](seen) == complexity


def test_an_unknown_model_is_rejected_by_name() -> None:
    rejection = rejected(snapshot(), model="nope")
    assert rejection.reason == "model_not_found"
    assert "'nope'" in rejection.message


@pytest.mark.parametrize(
    ("claims", "winner"),
    [
        ([("a", ("gpt-4o",), 0, 0), ("b", ("gpt-*",), 0, 0)], "a"),
        ([("a", ("gpt-*",), 0, 0), ("b", ("gpt-4*",), 0, 0)], "b"),
        ([("a", ("gpt-4o",), 0, 0), ("b", ("gpt-*",), 0, 5)], "b"),
        ([("a", ("gpt-4o",), 1, 9), ("b", ("gpt-*",), 0, 0)], "b"),
        ([("b", ("gpt-4o",), 0, 0), ("a", ("gpt-4o",), 0, 0)], "a"),
        ([("a", ("*",), 0, 0), ("b", ("llama",), 0, 9)], "a"),
    ],
    ids=["exact-first", "longer-first", "priority", "namespace-order", "name", "catch-all"],
)
def test_precedence_between_policies(
    claims: list[tuple[str, tuple[str, ...], int, int]], winner: str
) -> None:
    policies = [
        policy(
            name,
            rule("default", tier("t", name)),
            models=models,
            namespace_rank=rank,
            priority=priority,
        )
        for name, models, rank, priority in claims
    ]
    running = snapshot(*policies, *(backend(name) for name, *_ in claims))
    assert decided(running, model="gpt-4o").plan.policy.name == f"ai/{winner}"


@pytest.mark.parametrize(
    ("match", "request_fields", "hit"),
    [
        (ir.Match(apis=("chat",)), {}, True),
        (ir.Match(apis=("embeddings",)), {}, False),
        (ir.Match(tags=("code", "math")), {"tags": ("math",)}, True),
        (ir.Match(tags=("code",)), {"tags": ("math",)}, False),
        (ir.Match(headers=(ir.HeaderMatch("x-team"),)), {"headers": {"x-team": "a"}}, True),
        (ir.Match(headers=(ir.HeaderMatch("x-team", "b"),)), {"headers": {"x-team": "a"}}, False),
        (ir.Match(headers=(ir.HeaderMatch("x-team", ""),)), {"headers": {}}, False),
        (ir.Match(keywords=("sql",)), {"text": "Some SQL, please"}, True),
        (ir.Match(keywords=("sql",)), {"text": "mysql"}, False),
        (ir.Match(keywords=("c++",)), {"text": "in C++?"}, True),
        (ir.Match(tokens_min=10), {"tokens": 10}, True),
        (ir.Match(tokens_min=10), {"tokens": 9}, False),
        (ir.Match(tokens_max=10), {"tokens": 11}, False),
        (ir.Match(tags=("code",), tokens_min=10), {"tags": ("code",), "tokens": 3}, False),
    ],
)
def test_a_match_holds_if_every_field_does(
    match: ir.Match, request_fields: dict[str, Any], hit: bool
) -> None:
    running = snapshot(
        policy(
            "chat",
            rule("special", tier("t", "a"), match=match),
            rule("default", tier("t", "b")),
        ),
        backend("a"),
        backend("b"),
    )
    assert decided(running, **request_fields).plan.rule.name == ("special" if hit else "default")


def test_the_system_prompt_is_matched_without_case() -> None:
    running = snapshot(
        policy(
            "chat",
            rule("legal", tier("t", "a"), match=ir.Match(system_prompt=("contract law",))),
            rule("default", tier("t", "b")),
        ),
        backend("a"),
        backend("b"),
    )
    messages = [{"role": "system", "content": [{"type": "text", "text": "Contract LAW only"}]}]
    assert decided(running, payload={"messages": messages}).plan.rule.name == "legal"


def test_when_and_match_must_both_hold_and_an_error_is_no_match() -> None:
    running = snapshot(
        policy(
            "chat",
            rule("broken", tier("t", "a"), when='request.headers["x-none"] == "1"'),
            rule("long", tier("t", "a"), when="request.tokens > 5", match=ir.Match(tags=("x",))),
            rule("default", tier("t", "b")),
        ),
        backend("a"),
        backend("b"),
    )
    assert decided(running, tokens=9).plan.rule.name == "default"
    decision = decided(running, tokens=9, tags=("x",))
    assert decision.plan.rule.name == "long"
    assert decision.plan.expression_errors == 1


@pytest.mark.parametrize(
    ("can", "request_fields", "why"),
    [
        ({"apis": ("embeddings",)}, {}, "does not offer the API chat"),
        ({"modalities": ("text",)}, {"modalities": frozenset({"text", "image"})}, "image"),
        ({"tools": False}, {"tools": True}, "does not take tools"),
        ({"json_schema": False}, {"json_schema": True}, "JSON schema"),
        ({"context_window_tokens": 100}, {"tokens": 90, "max_tokens": 20}, "100 tokens"),
    ],
)
def test_hard_filters_need_no_policy(
    can: dict[str, Any], request_fields: dict[str, Any], why: str
) -> None:
    running = snapshot(one_rule(tier("t", "a")), backend("a", capabilities=ir.Capabilities(**can)))
    rejection = rejected(running, **request_fields)
    assert rejection.reason == "no_candidate"
    assert why in rejection.message
    wide = snapshot(one_rule(tier("t", "a")), backend("a"))
    assert backend_of(decided(wide, **request_fields)) == "ai/a"


@pytest.mark.parametrize(
    "when", ["", 'request.tags.exists(t, t == "eu")', 'request.headers["x"] == "1"']
)
def test_a_guardrail_holds_in_every_tier_and_an_error_means_that_it_applies(when: str) -> None:
    rail = ir.Guardrail("eu-only", policy="ai/chat", forbids=("ai/us",), when=when)
    running = snapshot(
        one_rule(tier("first", "us"), tier("second", "us", "eu"), guardrails=(rail,)),
        backend("us"),
        backend("eu"),
    )
    decision = decided(running, tags=("eu",))
    assert backend_of(decision) == "ai/eu"
    tried = [Tried(decision.candidate)]
    assert next_candidate(decision.plan, tried, SignalTable(), now=0.0, rng=Random(1)) is None


def test_a_rejection_names_the_guardrail() -> None:
    rail = ir.Guardrail("eu-only", policy="platform/rails", forbids=("ai/us",))
    running = snapshot(one_rule(tier("t", "us"), guardrails=(rail,)), backend("us"))
    assert "forbidden by guardrail eu-only of platform/rails" in rejected(running).message


def test_weights_are_kept_among_those_that_may_serve() -> None:
    running = snapshot(
        one_rule(tier("t", ("a", 70), ("b", 20), ("c", 10))),
        backend("a"),
        backend("b"),
        backend("c", capabilities=ir.Capabilities(tools=False)),
    )
    rng, signals = Random(1), SignalTable()
    counts: Counter[str] = Counter()
    for _ in range(9_000):
        verdict = decide(running, view(tools=True), signals, now=0.0, rng=rng)
        assert isinstance(verdict, Decision)
        counts[backend_of(verdict)] += 1
    assert counts["ai/c"] == 0
    assert 6_850 < counts["ai/a"] < 7_150


def test_backends_of_weight_zero_serve_where_nobody_else_is_left() -> None:
    running = snapshot(
        one_rule(tier("t", ("a", 100), ("b", 0))),
        backend("a", capabilities=ir.Capabilities(tools=False)),
        backend("b"),
    )
    assert backend_of(decided(running)) == "ai/a"
    assert backend_of(decided(running, tools=True)) == "ai/b"


def test_a_transient_failure_is_tried_once_more_in_its_tier_then_the_next_comes() -> None:
    running = snapshot(
        one_rule(tier("one", "a"), tier("two", "b")),
        service("a"),
        endpoints("a", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"),
        backend("b"),
    )
    decision = decided(running)
    tried = [Tried(decision.candidate, again=True)]
    seen = [decision.candidate.endpoint.id]
    while candidate := next_candidate(decision.plan, tried, SignalTable(), now=0.0, rng=Random(2)):
        seen.append(candidate.endpoint.id)
        tried.append(Tried(candidate))
    tiers = [one.split("@")[0] for one in seen]
    assert tiers == ["ai/a", "ai/a", "ai/b", "ai/a"], "what nobody reached comes last"
    assert len(set(seen)) == 4


def test_a_single_endpoint_is_tried_again_only_if_the_failure_was_transient() -> None:
    running = snapshot(one_rule(tier("one", "a"), tier("two", "b")), backend("a"), backend("b"))
    decision = decided(running)
    transient = [Tried(decision.candidate, again=True)]
    limited = [Tried(decision.candidate, again=False)]
    again = next_candidate(decision.plan, transient, SignalTable(), now=0.0, rng=Random(1))
    other = next_candidate(decision.plan, limited, SignalTable(), now=0.0, rng=Random(1))
    assert again is not None
    assert again.endpoint.backend.name == "ai/a"
    assert other is not None
    assert other.endpoint.backend.name == "ai/b"


def test_a_refused_credential_rules_out_the_whole_backend() -> None:
    running = snapshot(
        one_rule(tier("one", "a"), tier("two", "b")),
        service("a"),
        endpoints("a", "10.0.0.1:1", "10.0.0.2:1"),
        backend("b"),
    )
    decision = decided(running)
    tried = [Tried(decision.candidate, whole_backend=True)]
    candidate = next_candidate(decision.plan, tried, SignalTable(), now=0.0, rng=Random(1))
    assert candidate is not None
    assert candidate.endpoint.backend.name == "ai/b"


def test_max_in_flight_is_shared_by_the_live_pods_and_spills_to_the_next_tier() -> None:
    entries = (
        one_rule(tier("one", "a"), tier("two", "b")),
        backend("a", max_in_flight=4),
        backend("b"),
    )
    signals = SignalTable()
    signals["ai/a@a.example:8000"].in_flight = 2
    assert backend_of(decided(snapshot(*entries), signals)) == "ai/a"
    assert backend_of(decided(snapshot(*entries, live_pods=2), signals)) == "ai/b"


def test_all_at_their_limit_is_overload() -> None:
    running = snapshot(one_rule(tier("one", "a")), backend("a", max_in_flight=1))
    signals = SignalTable()
    signals["ai/a@a.example:8000"].in_flight = 1
    assert rejected(running, signals).reason == "overloaded"


def test_a_backend_that_is_not_there_falls_and_the_policy_stays() -> None:
    running = snapshot(one_rule(tier("one", "gone"), tier("two", "b")), backend("b"))
    assert backend_of(decided(running)) == "ai/b"
    rejection = rejected(snapshot(one_rule(tier("one", "gone"))))
    assert [one.reason for one in rejection.fallen] == ["not published to this data plane"]


def test_a_service_without_ready_endpoints_falls() -> None:
    rejection = rejected(snapshot(one_rule(tier("one", "a")), service("a")))
    assert rejection.fallen[0].reason == "has no endpoint that is ready"
