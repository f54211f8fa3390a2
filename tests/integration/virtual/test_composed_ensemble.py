"""Several models answer at once, and one of the answers goes out."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from fakes.composing import Composing, asked, composing, fails, says
from fakes.gateway import chat, until
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")

THREE = ir.Ensemble(3)
JUDGED = ir.Ensemble(3, judge=asked("judge", timeout_ms=500))
#: Chooses the answer that says 51, wherever it stands.
CHOOSES = {"lines": [{"matches": r"<answer (\d+) \w+>\n[^<]*\b51\b", "say": r"\1"}]}


def three(
    *settings: Mapping[str, object], ensemble: ir.Ensemble = THREE, **more: Any
) -> AbstractAsyncContextManager[Composing]:
    """An ensemble of models a, b, c, … in one tier, and others beside it."""
    names = [chr(ord("a") + number) for number in range(len(settings))]
    models = dict(zip(names, settings, strict=True)) | more.pop("models", {})
    return composing(models, names, ensemble=ensemble, **more)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_most_common_answer_goes_out_with_the_usage_of_all(stream: bool) -> None:
    said = ("Answer: 41", "The answer is 42", "So the answer is 42")
    async with three(*map(says, said)) as one:
        body = chat(stream=stream, stream_options={"include_usage": True} if stream else None)
        reply = await one.gw.send(body)
        text = reply.text if stream else reply.json["choices"][0]["message"]["content"]
        assert text == "The answer is 42"
        assert reply.headers["x-switchboard-reason"] == "ensemble:vote:2/3"
        assert reply.headers["x-switchboard-backend"] == "ai/b"
        assert reply.headers["x-switchboard-attempts"] == "3"
        assert reply.headers["x-switchboard-cost"] == "0.000017"
        usage = reply.events[-2]["usage"] if stream else reply.json["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (6, 2 + 4 + 5)
        outcome = await one.gw.outcome()
        assert (outcome.ensemble, outcome.tier) == ("vote", "a-b-c")
        assert [aside.purpose for aside in outcome.asides] == ["candidate", "candidate"]


async def test_all_are_asked_at_once() -> None:
    slow = [says(str(number), ttft_ms=300) for number in range(3)]
    async with three(*slow) as one:
        reply = await one.gw.send(chat())
        assert reply.headers["x-switchboard-reason"] == "ensemble:vote:1/3"
        assert reply.json["choices"][0]["message"]["content"] == "0"
        assert (await one.gw.outcome()).duration_s < 0.6


@pytest.mark.parametrize("stream", [False, True])
async def test_the_judge_chooses_wherever_the_answer_stands(stream: bool) -> None:
    models = {"models": {"judge": CHOOSES}}
    async with three(says("54"), says("54"), says("51"), ensemble=JUDGED, **models) as one:
        # All in one place are one in 3 ** 11 by chance.
        for _ in range(12):
            reply = await one.gw.send(chat(stream=stream))
            text = reply.text if stream else reply.json["choices"][0]["message"]["content"]
            assert text == "51"
            assert reply.headers["x-switchboard-reason"] == "ensemble:judge"
        shown = {body["messages"][1]["content"].index("51") for body in one.bodies("judge")}
        assert len(shown) > 1, "the order is one of chance"


@pytest.mark.parametrize(
    "judge", [fails(), says("none of them"), says("7"), says("1", ttft_ms=5_000), fails(400)]
)
async def test_where_the_judge_says_nothing_they_vote(judge: dict[str, object]) -> None:
    models = {"models": {"judge": judge}}
    async with three(says("54"), says("51"), says("51"), ensemble=JUDGED, **models) as one:
        reply = await one.gw.send(chat())
        assert reply.json["choices"][0]["message"]["content"] == "51"
        assert reply.headers["x-switchboard-reason"] == "ensemble:vote:2/3"
        purposes = [aside.purpose for aside in (await one.gw.outcome()).asides]
        assert purposes == ["candidate", "candidate", "judge"]


async def test_a_guardrail_holds_for_candidates_and_judge() -> None:
    forbids = ir.Guardrail("stays", "ai/chat", forbids=("ai/b", "ai/judge"))
    models = {"models": {"judge": CHOOSES}, "fields": {"guardrails": (forbids,)}}
    async with three(says("51"), says("54"), says("51"), ensemble=JUDGED, **models) as one:
        reply = await one.gw.send(chat())
        assert reply.headers["x-switchboard-reason"] == "ensemble:vote:3/3"
        assert (one.asked("b"), one.asked("judge")) == (0, 0)
        # There are two left for three candidates.
        assert (one.asked("a"), one.asked("c")) == (2, 1)


async def test_one_that_fails_has_no_vote() -> None:
    # The others take their time: one that fails after them would not be waited for.
    async with three(says("41", ttft_ms=300), fails(), says("42", ttft_ms=300)) as one:
        reply = await one.gw.send(chat())
        assert reply.status == 200
        assert reply.headers["x-switchboard-reason"] == "ensemble:vote:1/3"
        failures = {one.failure for one in (await one.gw.outcome()).asides}
        assert failures == {"", "upstream_server_error"}


async def test_where_all_fail_another_backend_answers_as_without_an_ensemble() -> None:
    async with composing(
        {"a": fails(), "b": fails(), "c": says("42")}, ["a", "b"], ["c"], ensemble=ir.Ensemble(2)
    ) as one:
        reply = await one.gw.send(chat())
        assert reply.status == 200
        assert reply.headers["x-switchboard-reason"] == "ensemble:unanswered"
        assert reply.headers["x-switchboard-tier"] == "c"


async def test_where_all_fail_and_nobody_else_is_there_the_failure_is_told() -> None:
    async with three(fails(), fails(503), fails(503)) as one:
        reply = await one.gw.send(chat())
        assert (reply.status, reply.error["code"]) == (503, "upstream_overloaded")
        outcome = await one.gw.outcome()
        assert (outcome.error, outcome.backend) == ("upstream_overloaded", "ai/c")
        assert len(outcome.asides) == 2


async def test_an_error_of_the_callers_is_told() -> None:
    async with three(fails(400), fails(400), fails(400)) as one:
        assert (await one.gw.send(chat())).status == 400


async def test_a_request_that_would_cost_too_much_is_answered_by_one() -> None:
    # A prompt of two tokens and an answer of ten, three times over.
    for most, models_asked in ((35_999_999, 1), (36_000_000, 3)):
        ensemble = ir.Ensemble(3, max_cost_picodollars=most)
        async with three(says("41"), says("42"), says("42"), ensemble=ensemble) as one:
            reply = await one.gw.send(chat(max_tokens=10))
            said = reply.headers["x-switchboard-reason"]
            assert said == ("ensemble:max_cost" if models_asked == 1 else "ensemble:vote:2/3")
            assert sum(one.asked(name) for name in "abc") == models_asked


async def test_who_is_slow_is_not_waited_for_where_the_vote_is_clear() -> None:
    slow = says("41", ttft_ms=5_000)
    async with three(says("42"), slow, says("42")) as one:
        reply = await one.gw.send(chat())
        assert reply.headers["x-switchboard-reason"] == "ensemble:vote:2/3"
        assert (await one.gw.outcome()).duration_s < 1.0
        await until(lambda: one.outcomes("b") == ["cancelled"])


async def test_who_is_slow_is_waited_for_only_so_long_where_the_vote_is_not_clear() -> None:
    slow = says("41", ttft_ms=5_000)
    async with three(says("42", ttft_ms=200), slow, says("43", ttft_ms=200)) as one:
        reply = await one.gw.send(chat())
        assert reply.headers["x-switchboard-reason"] == "ensemble:vote:1/3"
        assert 0.35 < (await one.gw.outcome()).duration_s < 1.5


async def test_a_judge_is_shown_the_strong_model_that_is_slow_too() -> None:
    models = {"models": {"judge": CHOOSES}}
    large = says("51", ttft_ms=400)
    async with three(says("54"), says("54"), large, ensemble=JUDGED, **models) as one:
        reply = await one.gw.send(chat())
        assert reply.json["choices"][0]["message"]["content"] == "51"
        assert reply.headers["x-switchboard-reason"] == "ensemble:judge"
        assert one.outcomes("c") == ["answered"]


async def test_a_judge_has_time_to_choose_where_one_candidate_is_silent() -> None:
    models = {"models": {"judge": CHOOSES}, "fields": {"deadline_ms": 1_500}}
    async with three(
        says("54"), says("51"), says("42", ttft_ms=5_000), ensemble=JUDGED, **models
    ) as one:
        reply = await one.gw.send(chat())
        assert reply.json["choices"][0]["message"]["content"] == "51"
        assert reply.headers["x-switchboard-reason"] == "ensemble:judge"
        assert (await one.gw.outcome()).duration_s > 0.9
        await until(lambda: one.outcomes("c") == ["cancelled"])


async def test_requests_for_several_answers_are_asked_of_one() -> None:
    async with three(says("41"), says("42"), says("42")) as one:
        reply = await one.gw.send(chat(n=2))
        assert reply.headers["x-switchboard-reason"] == "ensemble:not_asked"
        assert (await one.gw.outcome()).ensemble == "not_asked"
        assert sum(one.asked(name) for name in "abc") == 1


async def test_one_backend_may_answer_more_than_once() -> None:
    async with three(says("42")) as one:
        reply = await one.gw.send(chat())
        assert reply.headers["x-switchboard-reason"] == "ensemble:vote:3/3"
        assert one.asked("a") == 3


async def test_who_is_in_two_tiers_is_one_candidate() -> None:
    async with composing(
        {"a": says("42"), "b": says("42")}, ["a"], ["a", "b"], ensemble=ir.Ensemble(2)
    ) as one:
        await one.gw.send(chat())
        assert (one.asked("a"), one.asked("b")) == (1, 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_leaves_ends_all_candidates(stream: bool) -> None:
    slow = [says("42", ttft_ms=5_000)] * 3
    timeouts = {"timeouts": {"first_token_ms": 6_000, "total_ms": 6_000}}
    async with three(*slow, backends=dict.fromkeys("abc", timeouts)) as one:
        leaving = asyncio.create_task(one.gw.send(chat(stream=stream)))
        await until(lambda: all(one.asked(name) == 1 for name in "abc"))
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await until(lambda: all(one.outcomes(name) == ["cancelled"] for name in "abc"))
        outcome = await one.gw.outcome()
        assert outcome.caller_left
        assert [aside.failure for aside in outcome.asides] == ["cancelled"] * 3


async def test_a_caller_that_leaves_while_the_judge_thinks_is_accounted_for() -> None:
    judge = {"models": {"judge": says("1", ttft_ms=5_000)}}
    slow = ir.Ensemble(3, judge=asked("judge", timeout_ms=5_000))
    async with three(says("a"), says("b"), says("c"), ensemble=slow, **judge) as one:
        leaving = asyncio.create_task(one.gw.send(chat()))
        await until(lambda: one.asked("judge") == 1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        outcome = await one.gw.outcome()
        assert sum(len(aside.attempts) for aside in outcome.asides) == 4
        assert outcome.asides[-1].failure == "cancelled"
