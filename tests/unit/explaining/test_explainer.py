"""An explanation names policy, rule, the filter of each candidate, and what a score is made of."""

from math import fsum
from typing import Any

import msgspec
import pytest

from fakes.policies import backend, endpoints, policy, rule, service, snapshot, tier, view
from switchboard_dataplane.decision.client import Client
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.explaining import form
from switchboard_dataplane.explaining.explainer import Explainer
from switchboard_dataplane.explaining.tiers import ENDPOINTS_SHOWN
from switchboard_dataplane.reader import Reader
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.engine import EngineLoad
from switchboard_dataplane.signals.marks import Mark
from switchboard_policy import ir

NOW = 1_000.0
PRICED = ir.Pricing(input_picodollars=1_000_000, output_picodollars=4_000_000)
DEFAULT = rule("default", tier("t", "a"))


def no_intents(declared: Any) -> Any:
    raise AssertionError(f"nobody embeds {declared}")


async def explain(
    running: Snapshot, request: RequestView | None = None, signals: SignalTable | None = None
) -> form.Explanation:
    explainer = Explainer(
        reader=Reader(complexity=lambda text: 0.4, embed_intents=no_intents),
        signals=SignalTable() if signals is None else signals,
        clock=lambda: NOW,
    )
    return await explainer.explain(running, view() if request is None else request)


def candidate(found: form.Explanation, name: str) -> form.Candidate:
    every = [one for each in found.tiers for one in each.candidates]
    return next(one for one in every if name in (one.backend, f"{one.backend}@{one.address}"))


async def test_who_claims_a_model_and_loses_is_told_why() -> None:
    ranked = policy("ranked", DEFAULT, namespace_rank=1)
    weaker = policy("weaker", DEFAULT, priority=-1)
    wide = policy("wide", DEFAULT, models=("c*",))
    wider = policy("wider", DEFAULT, models=("*",))
    later = policy("zzz", DEFAULT)
    found = await explain(
        snapshot(backend("a"), later, wider, wide, weaker, ranked, policy("chat", DEFAULT))
    )
    assert found.policy == "ai/chat"
    assert [(one.policy, one.lost_by) for one in found.claims] == [
        ("ai/chat", ""),
        ("ai/zzz", "the other policy's name comes first"),
        ("ai/wide", "an exact name comes before a pattern"),
        ("ai/wider", "an exact name comes before a pattern"),
        ("ai/weaker", "its priority is lower"),
        ("ai/ranked", "the administrator's order of namespaces"),
    ]


async def test_a_model_that_nobody_claims_is_not_found() -> None:
    found = await explain(snapshot(backend("a"), policy("chat", DEFAULT)), view(model="gpt"))
    assert (found.outcome, found.status, found.reason) == ("rejected", 404, "model_not_found")
    assert not found.tiers


async def test_every_field_that_fails_is_told_and_no_value_of_a_header() -> None:
    match = ir.Match(
        apis=("embeddings",),
        tags=("vip",),
        headers=(ir.HeaderMatch("x-tenant", "acme"), ir.HeaderMatch("x-there", None)),
        keywords=("refund",),
        tokens_min=50,
        system_prompt=("be kind",),
        roles=("planner",),
    )
    running = snapshot(
        backend("a"), policy("chat", rule("odd", tier("t", "a"), match=match), DEFAULT)
    )
    found = await explain(running, view(headers={"x-tenant": "hush", "x-there": "1"}, tags=("x",)))
    odd, default = found.rules
    assert [(one.field, one.wants, one.has) for one in odd.fields] == [
        ("apis", "embeddings", "chat"),
        ("tags", "vip", "x"),
        ("tokens.min", "at least 50", "0"),
        ("roles", "planner", "none"),
        ("headers", "x-tenant: acme", "another value"),
        ("keywords", "refund", "none of them in what the user says"),
        ("systemPrompt", "be kind", "none of them in the system prompt"),
    ]
    assert (odd.matches, odd.won, default.won) == (False, False, True)
    assert b"hush" not in msgspec.json.encode(found)


async def test_an_expression_that_fails_is_told_from_one_that_is_false() -> None:
    missing = 'request.headers["x-no"] == "1"'
    rules = (
        rule("failed", tier("t", "a"), when=missing),
        rule("false", tier("t", "a"), when="request.tokens > 9"),
        DEFAULT,
        rule("unread", tier("t", "a"), when="request.tokens == 0"),
    )
    rail = ir.Guardrail("strict", "platform/rails", ("ai/b",), when=missing)
    found = await explain(snapshot(backend("a"), policy("chat", *rules, guardrails=(rail,))))
    assert [one.held for one in found.rules] == [None, False, True, True]
    assert [one.reached for one in found.rules] == [True, True, True, False]
    assert [one.matches for one in found.rules] == [False, False, True, True]
    (guardrail,) = found.guardrails
    assert (guardrail.applies, guardrail.failed, guardrail.when) == (True, True, missing)


async def test_a_policy_without_a_rule_that_matches_rejects() -> None:
    only = rule("only", tier("t", "a"), match=ir.Match(tags=("x",)))
    found = await explain(snapshot(backend("a"), policy("chat", only)))
    assert (found.outcome, found.status, found.reason) == ("rejected", 503, "no_rule")
    assert [one.matches for one in found.rules] == [False]


async def test_each_hard_filter_is_named() -> None:
    spec = policy(
        "chat",
        rule("default", tier("t", "forbidden", "gone", "small", "empty", "ok")),
        guardrails=(ir.Guardrail("eu", "platform/rails", ("ai/forbidden",)),),
    )
    small = backend("small", capabilities=ir.Capabilities(context_window_tokens=5))
    entries: list[ir.Entry] = [backend("forbidden"), small, service("empty"), backend("ok"), spec]
    found = await explain(snapshot(*entries), view(tokens=10))
    fell = {one.backend: (one.filter, one.why) for one in found.tiers[0].candidates if one.filter}
    assert fell == {
        "ai/forbidden": ("guardrail", "forbidden by guardrail eu of platform/rails"),
        "ai/gone": ("unpublished", "not published to this data plane"),
        "ai/small": (
            "capability",
            "its context window of 5 tokens is smaller than the 10 asked for",
        ),
        "ai/empty": ("no_endpoint", "has no endpoint that is ready"),
    }
    assert found.eligible == ("ai/empty", "ai/ok")
    assert found.pick is not None
    assert (found.pick.endpoint, found.pick.share) == ("ai/ok@ok.example:8000", 1.0)
    assert found.pick.why == "nobody else may be picked now"


async def test_what_is_true_now_drops_endpoints() -> None:
    limited = service("a", max_in_flight=1)
    spots = [f"10.0.0.{number}:80" for number in range(4)]
    running = snapshot(limited, endpoints("a", *spots), policy("chat", DEFAULT))
    signals = SignalTable()
    signals["ai/a@10.0.0.0:80"].dispatched(NOW)
    for _ in range(5):
        signals["ai/a@10.0.0.1:80"].failed("connect", NOW - 2.0, since=NOW - 2.0)
    signals.marks.put(Mark("ai/a", "overloaded", 30.0, endpoint="ai/a@10.0.0.2:80"), NOW)
    signals["ai/a@10.0.0.3:80"].waited(0.25, NOW - 3.0, tokens=10, stream=False)
    found = await explain(running, signals=signals)
    fell = {one.address: (one.filter, one.why) for one in found.tiers[0].candidates if one.filter}
    assert fell == {
        "10.0.0.0:80": ("at_limit", "1 in flight of maxInFlight 1"),
        "10.0.0.1:80": ("ejected", "ejected by its breaker for 2 s"),
        "10.0.0.2:80": ("resting", "is left alone for a while: overloaded, for 30 s more"),
    }
    left = candidate(found, "ai/a@10.0.0.3:80")
    took = next(one for one in left.signals if one.name == "latency_s")
    assert (took.value, took.age_s) == (0.25, 3.0)
    assert (left.state, left.share) == ("candidate", 1.0)


@pytest.mark.parametrize("by", ["Latency", "Load", "Cost", "Locality", "Scorers"])
async def test_terms_come_to_the_score(by: ir.BalanceBy) -> None:
    scorers = (ir.Scorer("Latency"), ir.Scorer("Load", 2), ir.Scorer("Cost", 3))
    balance = ir.Balance(by=by, scorers=scorers if by == "Scorers" else ())
    members: list[ir.Entry] = [
        service("a", pricing=PRICED),
        endpoints("a", "10.0.0.1:80", "10.0.0.2:80"),
    ]
    running = snapshot(*members, policy("chat", rule("r", tier("t", "a", balance=balance))))
    signals = SignalTable()
    one, other = signals["ai/a@10.0.0.1:80"], signals["ai/a@10.0.0.2:80"]
    one.dispatched(NOW)
    one.engine = EngineLoad(2, 1, 0.5, NOW)
    other.engine = EngineLoad(1, 1, None, NOW)
    other.waited(2.0, NOW, tokens=1, stream=False)
    one.waited(0.5, NOW, tokens=1, stream=False)
    other.failed("server_error", NOW, since=NOW)
    found = await explain(running, signals=signals)
    scores = [(each.score, each.terms) for each in found.tiers[0].candidates]
    assert len({score for score, _ in scores}) == 2
    for score, terms in scores:
        parts = [value for name, value in terms.items() if name not in ("errors", "dollars")]
        assert score == pytest.approx(fsum(parts) * terms.get("errors", 1.0))


async def test_a_pick_by_chance_is_said_to_be_one() -> None:
    members: list[ir.Entry] = [service("a"), endpoints("a", "10.0.0.1:80", "10.0.0.2:80")]
    found = await explain(snapshot(*members, policy("chat", DEFAULT)))
    assert found.pick is not None
    assert 0.3 < found.pick.share < 0.7
    assert "by chance" in found.pick.why
    assert fsum(one.share for one in found.tiers[0].candidates) == pytest.approx(1.0)


async def test_weights_show_in_the_shares() -> None:
    running = snapshot(
        backend("a"), backend("b"), policy("chat", rule("r", tier("t", ("a", 70), ("b", 30))))
    )
    found = await explain(running)
    shares = {one.backend: (one.weight, round(one.share, 1)) for one in found.tiers[0].candidates}
    assert shares == {"ai/a": (70, 0.7), "ai/b": (30, 0.3)}


async def test_a_hash_goes_by_the_place_in_its_keys_order() -> None:
    balance = ir.Balance(by="Hash", key=ir.HashKey("session"))
    spec = policy("chat", rule("r", tier("t", "a", balance=balance)))
    members: list[ir.Entry] = [
        service("a"),
        endpoints("a", *(f"10.0.0.{number}:80" for number in range(5))),
    ]
    keyed = await explain(snapshot(*members, spec), view(session="s"))
    assert [one.score for one in keyed.tiers[0].candidates] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert keyed.pick is not None
    assert keyed.pick.share == 1.0
    nobody = await explain(snapshot(*members, spec))
    assert nobody.tiers[0].how.startswith("the request has no key to hash")
    assert nobody.pick is not None
    assert nobody.pick.share < 1.0


async def test_the_cheapest_come_in_the_first_group() -> None:
    spec = policy("chat", rule("r", tier("t", "dear", "cheap", balance=ir.Balance(by="Cost"))))
    dear = backend("dear", pricing=ir.Pricing(output_picodollars=9_000_000))
    found = await explain(snapshot(dear, backend("cheap", pricing=PRICED), spec), view(tokens=10))
    assert [(one.backend, one.group) for one in found.tiers[0].candidates] == [
        ("ai/cheap", 1),
        ("ai/dear", 2),
    ]
    assert candidate(found, "ai/cheap").terms["dollars"] == pytest.approx(0.001034)


async def test_a_tier_that_is_busy_hands_on_and_says_by_what() -> None:
    first = tier("first", "a", spill=ir.Spill(in_flight_permille=500))
    running = snapshot(
        backend("a", max_in_flight=2),
        backend("b"),
        policy("chat", rule("r", first, tier("t", "b"))),
    )
    signals = SignalTable()
    signals["ai/a@a.example:8000"].dispatched(NOW)
    found = await explain(running, signals=signals)
    assert found.tiers[0].spilled == "inFlight"
    assert found.pick is not None
    assert found.pick.tier == "t"


async def test_an_arm_and_how_a_caller_comes_to_it_are_told() -> None:
    arms = (ir.Arm("control"), ir.Arm("cheap", 3))
    only = rule("cheap", tier("t", "a"), match=ir.Match(arms=("cheap",)))
    running = snapshot(backend("a"), policy("chat", only, DEFAULT, arms=arms))
    by_session = await explain(running, view(session="s"))
    assert by_session.arm is not None
    assert by_session.arm.by == "session"
    said = await explain(running, view(arm="cheap"))
    assert said.arm == form.Arm(name="cheap", by="chance", share=0.75)
    assert said.rule == "cheap"
    nonsense = await explain(running, view(arm="nobody"))
    assert nonsense.arm is not None
    assert nonsense.arm.name in ("control", "cheap")
    assert nonsense.notes == ("the policy puts nobody on an arm nobody: chance chooses",)
    assert said.notes == by_session.notes == ()
    longest = await explain(running, view(arm="x" * 1000))
    assert longest.notes == (f"the policy puts nobody on an arm {'x' * 63}…: chance chooses",)
    alone = await explain(snapshot(backend("a"), policy("chat", DEFAULT)), view(arm="cheap"))
    assert alone.notes == ("the policy compares no arms: cheap counts for nothing",)


async def test_a_select_says_by_what_it_begins_where_it_does() -> None:
    tiers = (tier("weak", "a"), tier("strong", "b"))
    by_gain = ir.Select("Complexity", thresholds_permille=(300,), downgrade=False)
    found = await explain(
        snapshot(backend("a"), backend("b"), policy("chat", rule("r", *tiers, select=by_gain)))
    )
    assert found.select is not None
    assert (found.select.tier, found.select.gain) == ("strong", 0.4)
    assert found.select.left_out == ("weak",)
    assert found.pick is not None
    assert found.pick.backend == "ai/b"


async def test_nothing_is_asked_of_a_classifier_or_a_judge() -> None:
    tiers = (tier("weak", "a"), tier("strong", "b"))
    asks = ir.Select("Classifier", thresholds_permille=(900,), classifier=ir.Asked("ai/judge"))
    cascade = ir.Cascade(judge=ir.Judge(ir.Asked("ai/judge")), confidence_permille=600)
    entries: list[ir.Entry] = [backend("a"), backend("b"), backend("judge")]
    classified = await explain(snapshot(*entries, policy("chat", rule("r", *tiers, select=asks))))
    assert "ai/judge, would be asked" in classified.then[0]
    assert classified.select is not None
    assert classified.select.tier == "weak"
    climbing = await explain(snapshot(*entries, policy("chat", rule("r", *tiers, cascade=cascade))))
    assert climbing.then == (
        "cascade: unless it is the last tier's, an answer has to pass checks: confidence of 0.6, "
        "a score of 0.6 by ai/judge",
    )


async def test_a_model_that_a_client_may_not_use_is_rejected() -> None:
    running = snapshot(backend("a"), policy("chat", DEFAULT))
    client = Client("key", "app", "team", tier="gold", models=("gpt-*",))
    found = await explain(running, view(client=client))
    assert (found.outcome, found.status, found.reason) == ("rejected", 403, "model_not_allowed")
    assert found.permission == form.Permission(client="team/app", allowed=False, models=("gpt-*",))
    assert found.rule == "default"


async def test_thousands_of_endpoints_are_counted_and_not_listed() -> None:
    many = [f"10.0.{number // 250}.{number % 250}:80" for number in range(2_000)]
    found = await explain(snapshot(service("a"), endpoints("a", *many), policy("chat", DEFAULT)))
    assert len(found.tiers[0].candidates) == ENDPOINTS_SHOWN
    assert found.tiers[0].hidden == 2_000 - ENDPOINTS_SHOWN


async def test_what_waits_is_said_to_wait() -> None:
    queue = ir.Queue(max_waiting=5, max_wait_ms=2_000)
    running = snapshot(backend("a", max_in_flight=1, queue=queue), policy("chat", DEFAULT))
    signals = SignalTable()
    signals["ai/a@a.example:8000"].dispatched(NOW)
    found = await explain(running, signals=signals)
    assert (found.outcome, found.message) == (
        "waits",
        "it would wait for ai/a for a free place, 2.0 s at most",
    )


@pytest.mark.parametrize(("most_ms", "outcome"), [(60_000, "waits"), (1_000, "rejected")])
async def test_who_rests_is_waited_for_as_long_as_the_policy_says(
    most_ms: int, outcome: form.Outcome
) -> None:
    running = snapshot(backend("a"), policy("chat", DEFAULT, max_retry_after_wait_ms=most_ms))
    signals = SignalTable()
    signals.marks.put(Mark("ai/a", "rate_limited", 20.0), NOW)
    found = await explain(running, signals=signals)
    assert found.outcome == outcome
    assert "rate_limited" in found.message
    assert candidate(found, "ai/a").filter == "resting"


async def test_no_word_of_a_request_and_no_key_comes_out() -> None:
    hidden = ("the-prompt", "the-system", "the-token", "the-cookie", "the-user", "the-session",
              "the-meta", "the-header")  # fmt: skip
    payload = {
        "messages": [
            {"role": "system", "content": "the-system"},
            {"role": "user", "content": "the-prompt"},
        ]
    }
    request = view(
        payload=payload,
        headers={"authorization": "Bearer the-token", "cookie": "the-cookie", "x-a": "the-header"},
        user="the-user",
        session="the-session",
        metadata={"m": "the-meta"},
    )
    match = ir.Match(keywords=("x",), headers=(ir.HeaderMatch("x-a", "other"),))
    odd = rule("odd", tier("t", "a"), match=match, when='request.prompt.contains("y")')
    said = msgspec.json.encode(
        await explain(snapshot(backend("a"), policy("chat", odd, DEFAULT)), request)
    )
    assert [text for text in hidden if text.encode() in said] == []
    assert b'"x-a"' in said
