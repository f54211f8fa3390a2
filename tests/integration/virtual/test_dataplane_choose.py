"""Requests are read, guarded and sent to the tier that they need, over real sockets."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fakes.gateway import Gateway, chat, external, fakes, gateway
from fakes.policies import policy, rule, tier
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")

PROOF = (
    "Prove that for every integer n > 2 there are no positive integers a, b, c with a^n + b^n = "
    "c^n in the special case n = 4, using infinite descent, and derive each step rigorously. "
) * 4


@asynccontextmanager
async def choosing(**fields: Any) -> AsyncGenerator[Gateway]:
    """A gateway before a small and a large model; the fields are the default rule's."""
    guardrails = fields.pop("guardrails", ())
    intents = fields.pop("intents", ())
    rules = fields.pop("rules", ())
    async with fakes({}, {}) as (small, large):
        default = rule("default", tier("small", "small"), tier("large", "large"), **fields)
        said = policy("chat", *rules, default, guardrails=guardrails, intents=intents)
        quality = {"quality": (("code", 900), ("default", 600))}
        async with gateway(
            said, external("small", small.url, **quality), external("large", large.url)
        ) as gw:
            yield gw


async def tier_of(gw: Gateway, text: str, **headers: str) -> str:
    reply = await gw.send(chat(text), **headers)
    assert reply.status == 200, reply.body
    return reply.headers["x-switchboard-tier"]


async def test_what_a_large_model_does_better_goes_to_it_and_small_talk_to_the_small() -> None:
    select = ir.Select("Complexity", thresholds_permille=(100,), margin_permille=0)
    async with choosing(select=select) as gw:
        talk, proof = await tier_of(gw, "Hi, how are you?"), await tier_of(gw, PROOF)
    assert (talk, proof) == ("small", "large")


async def test_a_task_goes_to_its_tier() -> None:
    async with choosing(select=ir.Select("Task", tasks=(("code", 1),))) as gw:
        assert await tier_of(gw, "Tell me a joke about cats.") == "small"
        code = "Write a Python function that reverses a linked list, with unit tests."
        assert await tier_of(gw, code) == "large"


async def test_personal_data_stays_off_a_model_on_every_path() -> None:
    stays = ir.Guardrail(
        "personal", "ai/chat", forbids=("ai/small",), when="signals.pii.size() > 0"
    )
    async with choosing(guardrails=(stays,)) as gw:
        assert await tier_of(gw, "What is the capital of France?") == "small"
        assert await tier_of(gw, "Write to jane.doe@example.com for me.") == "large"


async def test_an_intent_is_matched_by_its_examples() -> None:
    refund = ir.Intent("refund", ("I want my money back", "Please refund my order"), 450)
    rules = (rule("refunds", tier("r", "large"), when='"refund" in signals.intents'),)
    async with choosing(intents=(refund,), rules=rules) as gw:
        assert await tier_of(gw, "Please give me my money back for this order") == "r"
        assert await tier_of(gw, "Which mountains are in Nepal?") == "small"


async def test_a_broken_large_model_is_answered_by_the_small_unless_that_is_denied() -> None:
    for downgrade, expected in ((True, 200), (False, 502)):
        select = ir.Select("Task", tasks=(("chat", 1),), downgrade=downgrade)
        async with (
            fakes({}, {"faults": [{"kind": "status", "status": 500}]}) as (small, large),
            gateway(
                policy(
                    "chat",
                    rule("default", tier("small", "small"), tier("large", "large"), select=select),
                ),
                external("small", small.url),
                external("large", large.url),
            ) as gw,
        ):
            reply = await gw.send(chat("Hello there, how is it going?"))
            assert reply.status == expected
            if downgrade:
                assert reply.headers["x-switchboard-tier"] == "small"
                assert reply.headers["x-switchboard-reason"] == "fallback:server_error"


async def test_agents_are_told_apart_by_role_and_stage() -> None:
    match = ir.Match(roles=("planner",), stages=("draft", "review"))
    rules = (rule("plans", tier("p", "large"), match=match),)
    async with choosing(rules=rules) as gw:
        said = {"x-switchboard-role": "planner", "x-switchboard-stage": "draft"}
        assert await tier_of(gw, "Go on.", **said) == "p"
        assert await tier_of(gw, "Go on.", **{**said, "x-switchboard-stage": "publish"}) == "small"
        assert await tier_of(gw, "Go on.") == "small"
        metadata = {"role": "planner", "stage": "review"}
        for stage, told in (("", "p"), ("publish", "small")):
            headers = {"x-switchboard-stage": stage} if stage else {}
            reply = await gw.send(chat(metadata=metadata), **headers)
            assert reply.headers["x-switchboard-tier"] == told


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x-switchboard-role", "two words"),
        ("x-switchboard-stage", "x" * 64),
        ("x-switchboard-latency-class", "soon"),
        ("x-switchboard-min-quality", "1.5"),
        ("x-switchboard-labels", "value=high"),
        ("x-switchboard-labels", ",".join(f"n{i}=1" for i in range(17))),
    ],
)
async def test_a_bad_hint_is_refused_by_its_header(header: str, value: str) -> None:
    async with choosing() as gw:
        reply = await gw.send(chat(), **{header: value})
        assert (reply.status, reply.error["param"]) == (400, header)


async def test_what_the_caller_asks_for_raises_the_tier() -> None:
    select = ir.Select("Complexity", thresholds_permille=(999,), margin_permille=0)
    async with choosing(select=select) as gw:
        assert await tier_of(gw, "Hi") == "small"
        # Nobody says how good the large one is.
        assert await tier_of(gw, "Hi", **{"x-switchboard-min-quality": "0.6"}) == "small"


async def test_labels_and_the_latency_class_are_facts() -> None:
    when = 'request.labels["value"] > 3.0 && request.latencyClass == "interactive"'
    rules = (rule("valued", tier("v", "large"), when=when),)
    async with choosing(rules=rules) as gw:
        assert await tier_of(gw, "Hi", **{"x-switchboard-labels": "value=3.5, age=2"}) == "v"
        assert await tier_of(gw, "Hi", **{"x-switchboard-labels": "value=1"}) == "small"
        assert await tier_of(gw, "Hi") == "small"
        batch = {"x-switchboard-labels": "value=9", "x-switchboard-latency-class": "batch"}
        assert await tier_of(gw, "Hi", **batch) == "small"
