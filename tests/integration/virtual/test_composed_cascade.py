"""The cheap model answers first, and the next one only where its answer will not do."""

import asyncio

import pytest

from fakes.composing import RIGHT, asked, cascade, composing, fails, says
from fakes.gateway import DONE, STREAM_HEAD, chat, event, http, said, scripted, until
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_passes_goes_out_and_the_large_model_is_not_asked(
    stream: bool,
) -> None:
    async with cascade(says("It is 42."), says("never")) as one:
        reply = await one.gw.send(chat(stream=stream))
        text = reply.text if stream else reply.json["choices"][0]["message"]["content"]
        assert (reply.status, text) == (200, "It is 42.")
        assert reply.headers["x-switchboard-reason"] == "cascade:accepted"
        assert reply.headers["x-switchboard-tier"] == "small"
        assert reply.headers["x-switchboard-attempts"] == "1"
        assert one.asked("large") == 0
        outcome = await one.gw.outcome()
        assert outcome.judged == (("small", "accepted"),)
        assert (outcome.asides, outcome.backend) == ((), "ai/small")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_fails_is_never_seen_and_the_large_model_answers(
    stream: bool,
) -> None:
    async with cascade(says("It is 41."), says("It is 42, surely.")) as one:
        body = chat(stream=stream, stream_options={"include_usage": True} if stream else None)
        reply = await one.gw.send(body)
        text = reply.text if stream else reply.json["choices"][0]["message"]["content"]
        assert text == "It is 42, surely."
        assert b"41." not in reply.body
        assert reply.headers["x-switchboard-reason"] == "cascade:escalated:condition"
        assert reply.headers["x-switchboard-tier"] == "large"
        assert reply.headers["x-switchboard-attempts"] == "2"
        outcome = await one.gw.outcome()
        assert outcome.judged == (("small", "condition"), ("large", "unjudged"))
        (step,) = outcome.asides
        assert (step.purpose, step.backend, step.failure) == ("step", "ai/small", "")
        assert [attempt.backend for attempt in step.attempts] == ["ai/small"]
        # Two prompts of two tokens, three words, then four.
        usage = reply.events[-2]["usage"] if stream else reply.json["usage"]
        assert usage["prompt_tokens"] == 2 * step.input_tokens == 4
        assert usage["completion_tokens"] == 3 + 4
        assert usage["total_tokens"] == 11
        assert (outcome.input_tokens, outcome.output_tokens) == (2, 4)
        assert (step.cost_microdollars, outcome.cost_microdollars) == (5.0, 6.0)


async def test_what_all_of_them_cost_is_told_where_it_is_known() -> None:
    slow = says("It is 42, surely.", tokens_per_second=50)
    async with cascade(says("It is 41."), slow) as one:
        whole = await one.gw.send(chat())
        assert whole.headers["x-switchboard-cost"] == "0.000011"
        # The last tier's stream goes out as it comes: nobody knows yet what it will cost.
        streamed = await one.gw.send(chat(stream=True))
        assert "x-switchboard-cost" not in streamed.headers


async def test_a_cost_is_not_told_where_a_price_is_not_known() -> None:
    free = {"small": {"pricing": None}}
    async with cascade(says("It is 41."), says("It is 42."), backends=free) as one:
        reply = await one.gw.send(chat())
        assert reply.headers["x-switchboard-reason"] == "cascade:escalated:condition"
        assert "x-switchboard-cost" not in reply.headers


async def test_a_usage_that_the_last_tier_does_not_tell_is_told_as_far_as_it_is_known() -> None:
    options = {"include_usage": True}
    async with (
        scripted(STREAM_HEAD, said("It is"), 0.05, said(" 42."), DONE) as large,
        composing(
            {"small": says("It is 41.")},
            ["small"],
            ["large"],
            urls={"large": large.url},
            cascade=RIGHT,
        ) as one,
    ):
        reply = await one.gw.send(chat(stream=True, stream_options=options))
        outcome = await one.gw.outcome()
        (step,) = outcome.asides
        given = step.output_tokens + (outcome.output_tokens or 0)
        assert outcome.estimated
        assert reply.events[-1] == "[DONE]"
        (usage,) = [one["usage"] for one in reply.events[:-1] if one.get("usage")]
        assert reply.events[-2]["usage"] == usage
        assert usage["prompt_tokens"] == step.input_tokens + (outcome.input_tokens or 0)
        assert (usage["completion_tokens"], given) == (given, 3 + 2)


async def test_a_usage_that_nobody_asked_for_stays_hidden() -> None:
    async with cascade(says("It is 41."), says("It is 42, surely.")) as one:
        reply = await one.gw.send(chat(stream=True))
        assert b'"usage":{' not in reply.body
        assert (await one.gw.outcome()).estimated is False


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tier_that_fails_altogether_hands_on(stream: bool) -> None:
    async with cascade(fails(), says("It is 42.")) as one:
        reply = await one.gw.send(chat(stream=stream))
        assert reply.status == 200
        assert reply.headers["x-switchboard-reason"] == "cascade:escalated:server_error"
        assert one.asked("small") == 2
        (step,) = (await one.gw.outcome()).asides
        assert step.failure == "upstream_server_error"
        assert len(step.attempts) == 2


async def test_the_best_answer_goes_out_where_no_stronger_tier_answers() -> None:
    async with cascade(says("It is 41."), fails()) as one:
        for stream in (False, True):
            reply = await one.gw.send(chat(stream=stream))
            assert reply.status == 200
            assert b"41" in reply.body
            assert reply.headers["x-switchboard-reason"] == "cascade:kept:server_error"
            assert reply.headers["x-switchboard-tier"] == "small"


async def test_where_all_fail_the_last_failure_is_told() -> None:
    async with cascade(fails(), fails(503)) as one:
        reply = await one.gw.send(chat())
        assert (reply.status, reply.error["code"]) == (503, "upstream_overloaded")
        outcome = await one.gw.outcome()
        assert outcome.backend == "ai/large"
        assert [step.failure for step in outcome.asides] == ["upstream_server_error"]


async def test_an_error_of_the_callers_is_told_and_asked_of_nobody_else() -> None:
    async with cascade(fails(400), says("It is 42.")) as one:
        reply = await one.gw.send(chat())
        assert reply.status == 400
        assert one.asked("large") == 0
        assert (await one.gw.outcome()).judged == ()


async def test_a_prompt_too_long_for_the_small_model_goes_to_the_large() -> None:
    async with cascade(says("never", context_window=4), says("It is 42.")) as one:
        reply = await one.gw.send(chat("a prompt of some more words than that"))
        assert reply.status == 200
        assert reply.headers["x-switchboard-reason"] == "cascade:escalated:context_overflow"


async def test_probabilities_are_asked_for_and_taken_out_again() -> None:
    checks = ir.Cascade(confidence_permille=700)
    for stream in (False, True):
        async with cascade(says("Sure it is.", confidence=0.9), says("large"), checks) as one:
            reply = await one.gw.send(chat(stream=stream))
            assert reply.headers["x-switchboard-reason"] == "cascade:accepted"
            assert b'"logprob"' not in reply.body
            assert one.bodies("small")[0]["logprobs"] is True


async def test_probabilities_that_the_caller_asks_for_stay() -> None:
    checks = ir.Cascade(confidence_permille=700)
    for stream in (False, True):
        async with cascade(says("Sure it is.", confidence=0.9), says("large"), checks) as one:
            reply = await one.gw.send(chat(stream=stream, logprobs=True))
            assert b'"logprob"' in reply.body


async def test_a_model_that_is_not_sure_hands_on_and_the_last_is_not_asked_how_sure_it_is() -> None:
    checks = ir.Cascade(confidence_permille=700)
    async with cascade(says("Maybe.", confidence=0.5), says("large"), checks) as one:
        reply = await one.gw.send(chat())
        assert reply.headers["x-switchboard-reason"] == "cascade:escalated:low_confidence"
        assert "logprobs" not in one.bodies("large")[0]


async def test_a_model_that_tells_no_probabilities_is_never_confident() -> None:
    checks = ir.Cascade(confidence_permille=1)
    async with cascade(says("Sure.", logprobs=False), says("large"), checks) as one:
        reply = await one.gw.send(chat())
        assert reply.headers["x-switchboard-reason"] == "cascade:escalated:no_logprobs"


async def test_a_model_that_refuses_to_tell_probabilities_hands_on() -> None:
    checks = ir.Cascade(confidence_permille=1)
    refusal = http(400, b'{"error":{"message":"logprobs is not supported"}}')
    async with (
        scripted(refusal) as strict,
        composing(
            {"large": says("large")},
            ["small"],
            ["large"],
            urls={"small": strict.url},
            cascade=checks,
        ) as one,
    ):
        reply = await one.gw.send(chat())
        assert reply.status == 200
        assert reply.headers["x-switchboard-reason"] == "cascade:escalated:no_logprobs"


async def test_two_models_that_agree_are_believed() -> None:
    checks = ir.Cascade(agreement="ai/other")
    for other, reason in (
        ("So it must be 42", "cascade:accepted"),
        ("So it must be 41", "cascade:escalated:disagreement"),
    ):
        others = {"models": {"other": says(other)}}
        async with cascade(says("The answer is 42"), says("large"), checks, **others) as one:
            reply = await one.gw.send(chat(stream=True))
            assert reply.headers["x-switchboard-reason"] == reason
            # What is compared comes whole, and no usage can be asked for then.
            assert one.bodies("other")[0]["stream"] is False
            assert not one.bodies("other")[0].get("stream_options")
            purposes = [aside.purpose for aside in (await one.gw.outcome()).asides]
            assert purposes[0] == "agreement"


async def test_the_second_opinion_is_asked_for_at_the_same_time() -> None:
    checks = ir.Cascade(agreement="ai/other")
    slow = {"models": {"other": says("42", ttft_ms=300)}}
    async with cascade(says("42", ttft_ms=300), says("large"), checks, **slow) as one:
        reply = await one.gw.send(chat())
        assert reply.headers["x-switchboard-reason"] == "cascade:accepted"
        assert (await one.gw.outcome()).duration_s < 0.5


async def test_a_second_opinion_is_given_up_where_the_first_fails_already() -> None:
    checks = ir.Cascade(agreement="ai/other", when="answer.length > 100")
    slow = {"models": {"other": says("42", ttft_ms=3_000)}}
    async with cascade(says("42"), says("large"), checks, **slow) as one:
        reply = await one.gw.send(chat())
        assert reply.headers["x-switchboard-reason"] == "cascade:escalated:condition"
        outcome = await one.gw.outcome()
        assert {(aside.purpose, aside.failure) for aside in outcome.asides} == {
            ("step", ""),
            ("agreement", "cancelled"),
        }
        await until(lambda: one.outcomes("other") == ["cancelled"])


async def test_a_held_stream_that_grows_too_long_goes_out_unjudged() -> None:
    checks = ir.Cascade(when="false", hold_chars=20)
    text = "A long story that goes on, and on, and on. The end."
    async with cascade(says(text, tokens_per_second=200), says("large"), checks) as one:
        reply = await one.gw.send(chat(stream=True))
        assert reply.text == text
        assert reply.events[-1] == "[DONE]"
        assert reply.headers["x-switchboard-reason"] == "cascade:unjudged"
        assert one.asked("large") == 0
        assert (await one.gw.outcome()).judged == (("small", "unjudged"),)


async def test_a_held_stream_that_takes_too_long_goes_out_unjudged_without_its_probabilities() -> (
    None
):
    checks = ir.Cascade(confidence_permille=999, hold_ms=100)
    text = "one two three four five six seven eight nine ten"
    async with cascade(says(text, tokens_per_second=30), says("large"), checks) as one:
        reply = await one.gw.send(chat(stream=True, stream_options={"include_usage": True}))
        assert reply.text == text
        assert b'"logprob"' not in reply.body
        assert reply.events[-2]["usage"]["completion_tokens"] == 10
        assert reply.headers["x-switchboard-reason"] == "cascade:unjudged"


async def test_a_held_stream_that_takes_too_long_is_given_up_where_that_is_said() -> None:
    checks = ir.Cascade(when="true", hold_ms=100, send_unjudged=False)
    small = says("one two three four five six seven eight", tokens_per_second=20)
    async with cascade(small, says("large"), checks) as one:
        reply = await one.gw.send(chat(stream=True))
        assert reply.text == "large"
        assert reply.headers["x-switchboard-reason"] == "cascade:escalated:held_too_long"
        await until(lambda: one.outcomes("small") == ["cancelled"])
        (step,) = (await one.gw.outcome()).asides
        assert step.output_tokens > 0
        assert step.cost_microdollars


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ((said("It is 42"), None), "reset"),
        ((said("It is 42"),), "reset"),
        ((said("It is 42"), 30.0, DONE), "timeout"),
        (
            (said("It is 42"), 0.05, event(error={"message": "no", "type": "server_error"})),
            "server_error",
        ),
        ((said("It is 42"), b"data: nonsense\n\n", 0.05), "reset"),
    ],
)
async def test_a_held_stream_that_breaks_hands_on_and_nobody_sees_it(
    script: tuple[bytes | float | None, ...], why: str
) -> None:
    async with (
        scripted(STREAM_HEAD, *script) as small,
        composing(
            {"large": says("large")},
            ["small"],
            ["large"],
            urls={"small": small.url},
            cascade=RIGHT,
            backends={"small": {"timeouts": {"idle_ms": 400}}},
        ) as one,
    ):
        reply = await one.gw.send(chat(stream=True))
        assert reply.text == "large"
        assert reply.headers["x-switchboard-reason"] == f"cascade:escalated:{why}"
        (step,) = (await one.gw.outcome()).asides
        assert [attempt.failure for attempt in step.attempts] == [why]
        assert step.output_tokens == 1


async def test_a_stream_refused_by_a_filter_is_told_to_the_caller() -> None:
    refusal = event(error={"message": "flagged", "code": "content_filter"})
    async with (
        scripted(STREAM_HEAD, said("It"), 0.05, refusal) as small,
        composing(
            {"large": says("large")}, ["small"], ["large"], urls={"small": small.url}, cascade=RIGHT
        ) as one,
    ):
        reply = await one.gw.send(chat(stream=True))
        assert reply.events[-1]["error"]["code"] == "content_filter"
        assert one.asked("large") == 0


async def test_a_cascade_climbs_as_many_tiers_as_it_must() -> None:
    async with composing(
        {"a": says("40"), "b": says("41"), "c": says("42"), "d": says("never")},
        *(["a"], ["b"], ["c"], ["d"]),
        cascade=RIGHT,
    ) as one:
        reply = await one.gw.send(chat())
        assert reply.json["usage"]["completion_tokens"] == 3
        assert reply.headers["x-switchboard-reason"] == "cascade:escalated:condition"
        assert reply.headers["x-switchboard-attempts"] == "3"
        outcome = await one.gw.outcome()
        assert outcome.judged == (("a", "condition"), ("b", "condition"), ("c", "accepted"))


async def test_the_last_tier_is_raced_and_restarted_as_any_other() -> None:
    async with (
        scripted(STREAM_HEAD, said("It "), None) as broken,
        composing(
            {"small": says("41"), "well": says("It is 42.")},
            ["small"],
            ["broken", "well"],
            urls={"broken": broken.url},
            cascade=RIGHT,
            fields={"restart_within_chars": 100},
            backends={"broken": {"pricing": None}},
        ) as one,
    ):
        # Whichever of the two is asked first (chance), the answer comes from the one that is well.
        tries = 0
        while tries < 4 or (not broken.seen and tries < 100):
            tries += 1
            options = {"include_usage": True}
            reply = await one.gw.send(chat(stream=True, stream_options=options))
            assert reply.text.endswith("It is 42.")
            usage = next(
                one["usage"] for one in reply.events if one != "[DONE]" and one.get("usage")
            )
            assert usage["completion_tokens"] == 4
        assert broken.seen


async def test_embeddings_and_requests_for_several_answers_go_to_the_tiers_as_ever() -> None:
    async with cascade(says("41"), says("42")) as one:
        several = await one.gw.send(chat(n=2))
        assert several.headers["x-switchboard-reason"] == "cascade:not_checked"
        assert (await one.gw.outcome()).judged == (("small", "unjudged"),)
        body = {"model": "chat", "input": "hello"}
        embedded = await one.gw.send(body, "/v1/embeddings")
        assert (embedded.status, embedded.headers["x-switchboard-reason"]) == (200, "primary")


async def test_completions_are_judged_as_chats_are() -> None:
    checks = ir.Cascade(confidence_permille=700)
    for sure, reason in ((0.9, "cascade:accepted"), (0.3, "cascade:escalated:low_confidence")):
        for stream in (False, True):
            async with cascade(says("It is.", confidence=sure), says("large"), checks) as one:
                body = {"model": "chat", "prompt": "is it?", "stream": stream}
                reply = await one.gw.send(body, "/v1/completions")
                assert reply.headers["x-switchboard-reason"] == reason
                assert b'"token_logprobs"' not in reply.body


async def test_a_full_judge_is_waited_for_in_its_queue() -> None:
    judge = {"max_in_flight": 1, "queue": ir.Queue()}
    checks = ir.Cascade(judge=ir.Judge(asked("judge", timeout_ms=2_000), min_permille=600))
    async with cascade(
        says("small"),
        says("large"),
        checks,
        models={"judge": says("9", ttft_ms=100)},
        backends={"judge": judge},
    ) as one:
        replies = await asyncio.gather(*(one.gw.send(chat()) for _ in range(4)))
        reasons = {reply.headers["x-switchboard-reason"] for reply in replies}
        assert reasons == {"cascade:accepted"}


async def test_a_deadline_that_is_over_in_the_middle_sends_what_there_is() -> None:
    checks = ir.Cascade(judge=ir.Judge(asked("judge"), min_permille=600))
    slow = {"judge": says("9", ttft_ms=2_000)}
    async with cascade(says("small"), says("large"), checks, models=slow) as one:
        reply = await one.gw.send(chat(), **{"x-switchboard-deadline-ms": "300"})
        assert reply.status == 200
        assert b"small" in reply.body
        assert reply.headers["x-switchboard-reason"] == "cascade:kept:timeout"
        assert one.asked("large") == 0
        assert (await one.gw.outcome()).duration_s < 0.6


async def test_a_deadline_that_is_over_in_the_first_tier_is_an_error() -> None:
    async with cascade(says("42", ttft_ms=2_000), says("large")) as one:
        reply = await one.gw.send(chat(), **{"x-switchboard-deadline-ms": "200"})
        assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
        assert one.asked("large") == 0


SLOW = {"ttft_ms": 5_000}
LEAVING = ir.Cascade(
    agreement="ai/other", judge=ir.Judge(asked("judge", timeout_ms=5_000), min_permille=600)
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("phase", ["small", "other", "judge", "large"])
async def test_a_caller_that_leaves_ends_whatever_is_under_way(phase: str, stream: bool) -> None:
    slow = {name: SLOW if name == phase else {} for name in ("small", "other", "judge", "large")}
    async with cascade(
        says("42", **slow["small"]),
        says("large", **slow["large"]),
        LEAVING,
        models={"other": says("42", **slow["other"]), "judge": says("1", **slow["judge"])},
        backends={phase: {"timeouts": {"first_token_ms": 6_000, "total_ms": 6_000}}},
    ) as one:
        leaving = asyncio.create_task(one.gw.send(chat(stream=stream)))
        await until(lambda: one.asked(phase) == 1)
        await asyncio.sleep(0.05)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await until(lambda: one.outcomes(phase) == ["cancelled"], within_s=0.5)
        outcome = await one.gw.outcome()
        assert outcome.caller_left
        every = [attempt for aside in outcome.asides for attempt in aside.attempts]
        asked_for = sum(one.asked(name) for name in one.models)
        assert len(every) + len(outcome.attempts) == asked_for
        last = {aside.purpose: aside for aside in outcome.asides}
        assert any(aside.failure == "cancelled" for aside in last.values())
        # Whoever was cut off has read the prompt all the same.
        assert all(aside.input_tokens for aside in outcome.asides)
