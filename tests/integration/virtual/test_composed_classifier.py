"""A model says which tier a request needs, before it is decided."""

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from fakes.composing import Composing, asked, composing, fails, says
from fakes.gateway import chat, until
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")


def classifying(
    classifier: dict[str, object], guardrails: tuple[ir.Guardrail, ...] = ()
) -> AbstractAsyncContextManager[Composing]:
    """A small and a large model; without a word of the classifier all go to the small one."""
    select = ir.Select(
        "Classifier", classifier=asked("asks", timeout_ms=500), thresholds_permille=(999,)
    )
    return composing(
        {"small": says("s"), "large": says("l"), "asks": classifier},
        ["small"],
        ["large"],
        select=select,
        fields={"guardrails": guardrails},
    )


@pytest.mark.parametrize("tier", ["small", "large"])
async def test_the_tier_that_is_named_answers(tier: str) -> None:
    async with classifying(says(tier)) as one:
        reply = await one.gw.send(chat("Hello?"))
        assert (reply.status, reply.headers["x-switchboard-tier"]) == (200, tier)
        # The classifier's prompt and its word are on the request's account.
        assert reply.json["usage"]["completion_tokens"] == 2
        outcome = await one.gw.outcome()
        (aside,) = outcome.asides
        assert (aside.purpose, aside.backend, aside.failure) == ("classifier", "ai/asks", "")
        assert aside.verdict == ("1" if tier == "large" else "0")


@pytest.mark.parametrize(
    ("classifier", "failure"),
    [
        (fails(), "upstream_server_error"),
        (says("the huge one"), "unreadable"),
        (says("large", ttft_ms=5_000), "deadline_exceeded"),
    ],
)
async def test_without_a_word_the_request_is_decided_by_what_is_known_here(
    classifier: dict[str, object], failure: str
) -> None:
    async with classifying(classifier) as one:
        reply = await one.gw.send(chat("Hello?"))
        assert (reply.status, reply.headers["x-switchboard-tier"]) == (200, "small")
        (aside,) = (await one.gw.outcome()).asides
        assert aside.failure == failure


async def test_a_classifier_that_a_guardrail_forbids_is_not_asked() -> None:
    forbids = ir.Guardrail("stays", "ai/chat", forbids=("ai/asks",))
    async with classifying(says("large"), (forbids,)) as one:
        reply = await one.gw.send(chat("Hello?"))
        assert (reply.status, reply.headers["x-switchboard-tier"]) == (200, "small")
        assert one.asked("asks") == 0


async def test_a_caller_that_leaves_ends_the_classifier() -> None:
    async with classifying(says("large", ttft_ms=5_000)) as one:
        leaving = asyncio.create_task(one.gw.send(chat()))
        await until(lambda: one.asked("asks") == 1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        outcome = await one.gw.outcome()
        assert outcome.caller_left
        assert [aside.failure for aside in outcome.asides] == ["cancelled"]
        assert (outcome.policy, outcome.attempts) == ("ai/chat", ())
