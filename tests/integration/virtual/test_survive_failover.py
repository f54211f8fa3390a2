"""Through real sockets: what each failure of a model means for its caller and for the next one."""

import asyncio

import pytest

from fakes.gateway import (
    chat,
    external,
    failover,
    until,
)
from fakes.policies import endpoints
from fakes.taking_turns import TakingTurns, answered, refused, streamed, taking_turns
from fakes.two_models import GOOD, alone, served, two
from fakes.virtual_time import now_s
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")


SILENCE = 30.0


def in_cluster(name: str, *models: TakingTurns) -> tuple[ir.Backend, ir.Endpoints]:
    """A service with these endpoints."""
    return (
        external(name, models[0].url, external=False, timeouts={"first_token_ms": 400}),
        endpoints(name, *(model.url.removeprefix("http://") for model in models)),
    )


async def test_a_short_retry_after_is_waited_for_where_the_tier_has_nothing_else() -> None:
    async with (
        taking_turns(refused(429, "retry-after-ms: 300"), answered("rested")) as bad,
        taking_turns(GOOD) as good,
        served(*two(bad, good)) as gw,
    ):
        reply = await gw.send(chat())
        assert reply.json["model"] == "the-rested"
        assert reply.headers["x-switchboard-attempts"] == "2"
        assert reply.headers["x-switchboard-reason"] == "retry:rate_limited"
        # Half of the time again is what spreads the return.
        assert 0.3 <= (await gw.outcome()).duration_s < 1.0
        assert not good.seen


async def test_another_endpoint_of_the_tier_is_not_waited_for() -> None:
    async with (
        taking_turns(refused(429, "retry-after: 2")) as one,
        taking_turns(GOOD) as other,
        served(
            failover(["one", "other"]), external("one", one.url), external("other", other.url)
        ) as gw,
    ):
        for number in range(6):
            assert (await gw.send(chat())).status == 200
            assert (await gw.outcome(number)).duration_s < 1.0
        assert len(one.seen) <= 1


async def test_a_model_that_limits_for_ever_is_waited_for_once_then_passed_over() -> None:
    async with (
        taking_turns(refused(429, "retry-after-ms: 200")) as bad,
        taking_turns(GOOD) as good,
        served(*two(bad, good)) as gw,
    ):
        reply = await gw.send(chat())
        assert reply.headers["x-switchboard-backend"] == "ai/good"
        assert reply.headers["x-switchboard-attempts"] == "3"
        assert len(bad.seen) == 2


async def test_a_model_that_limits_for_ever_and_is_alone_is_told_to_the_caller() -> None:
    async with taking_turns(refused(429, "retry-after: 1")) as bad, served(*alone(bad)) as gw:
        reply = await gw.send(chat())
        assert (reply.status, reply.error["code"]) == (429, "upstream_rate_limited")
        assert reply.headers["retry-after"] == "1"
        assert len(bad.seen) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_long_retry_after_is_remembered_by_the_next_requests(stream: bool) -> None:
    async with (
        taking_turns(refused(429, "retry-after: 60")) as bad,
        taking_turns(streamed("good") if stream else GOOD) as good,
        served(*two(bad, good)) as gw,
    ):
        reply = await gw.send(chat(stream=stream))
        assert reply.headers["x-switchboard-reason"] == "fallback:rate_limited"
        for _ in range(3):
            reply = await gw.send(chat(stream=stream))
            assert reply.headers["x-switchboard-reason"] == "tier_unavailable"
            assert reply.headers["x-switchboard-attempts"] == "1"
        assert (len(bad.seen), len(good.seen)) == (1, 4)


async def test_while_everything_rests_the_caller_is_told_when_to_come_back() -> None:
    async with taking_turns(refused(429, "retry-after: 60")) as bad, served(*alone(bad)) as gw:
        first, second = await gw.send(chat()), await gw.send(chat())
        assert first.headers["retry-after"] == "60"
        assert (second.status, second.error["code"]) == (429, "upstream_rate_limited")
        assert 55 <= int(second.headers["retry-after"]) <= 60
        assert second.headers["x-switchboard-attempts"] == "0"
        assert second.headers["x-switchboard-rule"] == "default"
        assert (await gw.outcome(1)).policy == "ai/chat"
        assert len(bad.seen) == 1
        assert (await gw.outcome(1)).duration_s < 0.5
        (rest,) = (await gw.admin("/backends")).json["backends"]["ai/model"]["resting"]
        assert 55 < rest.pop("for_s") <= 60
        assert rest == {"what": "credential", "why": "rate_limited", "announced": False}


async def test_a_request_that_comes_while_everything_rests_shortly_is_served_after_it() -> None:
    async with (
        taking_turns(refused(429, "retry-after-ms: 400"), GOOD) as model,
        served(*alone(model, attempts=1)) as gw,
    ):
        assert (await gw.send(chat())).status == 429
        reply = await gw.send(chat())
        assert (reply.status, reply.headers["x-switchboard-attempts"]) == (200, "1")
        assert (await gw.outcome(1)).duration_s > 0.2


async def test_those_that_wait_do_not_come_back_all_at_once() -> None:
    async with (
        taking_turns(refused(429, "retry-after-ms: 1000"), GOOD) as model,
        served(*alone(model, attempts=1)) as gw,
    ):
        assert (await gw.send(chat())).status == 429
        replies = await asyncio.gather(*(gw.send(chat()) for _ in range(40)))
        assert {reply.status for reply in replies} == {200}
        back_at = [at - model.seen_at[0] for at in model.seen_at[1:]]
        assert min(back_at) >= 0.95
        # Over half a second, by chance.
        assert max(back_at) - min(back_at) > 0.25
        assert len([at for at in back_at if at < 1.1]) < 30


async def test_when_the_rest_is_over_the_first_tier_serves_again() -> None:
    async with (
        taking_turns(refused(429, "retry-after-ms: 400"), answered("rested")) as bad,
        taking_turns(GOOD) as good,
        served(*two(bad, good, max_retry_after_wait_ms=100)) as gw,
    ):
        assert (await gw.send(chat())).json["model"] == "the-good"
        assert (await gw.send(chat())).json["model"] == "the-good"
        await asyncio.sleep(0.7)
        assert (await gw.send(chat())).json["model"] == "the-rested"


async def test_without_a_time_a_limit_moves_on_and_is_not_remembered() -> None:
    async with (
        taking_turns(refused(429)) as bad,
        taking_turns(GOOD) as good,
        served(*two(bad, good)) as gw,
    ):
        for _ in range(2):
            reply = await gw.send(chat())
            assert reply.headers["x-switchboard-reason"] == "fallback:rate_limited"
            assert reply.headers["x-switchboard-attempts"] == "2"
        assert len(bad.seen) == 2


async def test_the_limits_reset_headers_count_where_there_is_no_retry_after() -> None:
    limits = ("x-ratelimit-remaining-requests: 0", "x-ratelimit-reset-requests: 6m0s")
    async with taking_turns(refused(429, *limits)) as bad, served(*alone(bad)) as gw:
        assert (await gw.send(chat())).headers["retry-after"] == "360"
        assert 350 <= int((await gw.send(chat())).headers["retry-after"]) <= 360
        assert len(bad.seen) == 1


async def test_an_answer_that_was_the_last_for_a_while_sends_the_next_elsewhere() -> None:
    limits = ("x-ratelimit-remaining-requests: 0", "x-ratelimit-reset-requests: 6m0s")
    async with (
        taking_turns(answered("last", *limits)) as bad,
        taking_turns(GOOD) as good,
        served(*two(bad, good)) as gw,
    ):
        assert (await gw.send(chat())).json["model"] == "the-last"
        assert (await gw.send(chat())).json["model"] == "the-good"


async def test_what_only_announced_its_limit_still_serves_where_nothing_else_is_left() -> None:
    limits = ("x-ratelimit-remaining-requests: 0", "x-ratelimit-reset-requests: 6m0s")
    async with (
        taking_turns(answered("last", *limits)) as bad,
        taking_turns(refused(503)) as other,
        served(*two(bad, other)) as gw,
    ):
        assert [(await gw.send(chat())).status for _ in range(3)] == [200] * 3


async def test_no_wait_goes_beyond_the_deadline() -> None:
    async with taking_turns(refused(429, "retry-after: 2")) as bad, served(*alone(bad)) as gw:
        reply = await gw.send(chat(), x_switchboard_deadline_ms="500")
        assert (reply.status, reply.headers["retry-after"]) == (429, "2")
        assert (await gw.outcome()).duration_s < 0.4


async def test_a_caller_that_leaves_ends_the_wait() -> None:
    async with taking_turns(refused(429, "retry-after: 2")) as bad, served(*alone(bad)) as gw:
        sent = asyncio.create_task(gw.send(chat()))
        await until(lambda: len(bad.seen) == 1)
        await asyncio.sleep(0.05)
        sent.cancel()
        await asyncio.gather(sent, return_exceptions=True)
        outcome = await gw.outcome()
        assert outcome.caller_left
        assert outcome.duration_s < 1.0
        assert len(bad.seen) == 1


async def test_one_endpoint_that_rests_leaves_the_others_of_its_service() -> None:
    async with (
        taking_turns(refused(429, "retry-after: 30")) as full,
        taking_turns(GOOD) as free,
        served(failover("model"), *in_cluster("model", full, free)) as gw,
    ):
        for _ in range(12):
            assert (await gw.send(chat())).status == 200
        assert len(full.seen) <= 1


@pytest.mark.parametrize("fault", [refused(500), refused(502), None], ids=["500", "502", "reset"])
async def test_a_transient_failure_is_repeated_once_at_the_same_model(fault: bytes | None) -> None:
    async with taking_turns(fault, GOOD) as model, served(*alone(model)) as gw:
        reply = await gw.send(chat())
        failure = "reset" if fault is None else "server_error"
        assert reply.json["model"] == "the-good"
        assert reply.headers["x-switchboard-attempts"] == "2"
        assert reply.headers["x-switchboard-reason"] == f"retry:{failure}"


async def test_a_retry_budget_of_nothing_repeats_nothing_and_is_counted() -> None:
    async with (
        taking_turns(refused(500), GOOD) as bad,
        served(*alone(bad, retry_budget_permille=0)) as gw,
    ):
        reply = await gw.send(chat())
        assert (reply.status, reply.headers["x-switchboard-attempts"]) == (502, "1")
        assert (await gw.outcome()).retries_denied == 1
        await until(lambda: bool(gw.outcomes))
        page = (await gw.admin("/metrics")).body.decode()
        assert 'switchboard_retries_denied_total{policy="ai/chat"} 1' in page


async def test_the_first_move_to_another_model_needs_no_retry_budget() -> None:
    async with (
        taking_turns(refused(500)) as bad,
        taking_turns(GOOD) as good,
        served(*two(bad, good, retry_budget_permille=0)) as gw,
    ):
        reply = await gw.send(chat())
        assert reply.headers["x-switchboard-backend"] == "ai/good"
        assert len(bad.seen) == 1


async def test_a_model_that_fails_everything_is_not_asked_twice_as_often() -> None:
    requests = 60
    async with taking_turns(refused(500)) as bad, served(*alone(bad)) as gw:
        begun = now_s()
        replies = await asyncio.gather(*(gw.send(chat()) for _ in range(requests)))
        took_s = now_s() - begun
        assert {reply.status for reply in replies} <= {502, 503}
        repeats = len(bad.seen) - requests
        # A fifth of the requests, and in any case ten a second.
        assert repeats <= max(requests * 0.2, 10 * (1 + took_s)) + 1


async def test_503_for_ever_goes_on_to_the_next_tier_each_time() -> None:
    async with (
        taking_turns(refused(503)) as bad,
        taking_turns(GOOD) as good,
        served(*two(bad, good)) as gw,
    ):
        for _ in range(3):
            reply = await gw.send(chat())
            assert reply.headers["x-switchboard-reason"] == "fallback:overloaded"
        assert len(bad.seen) == 3


async def test_503_with_a_time_leaves_the_model_alone_for_it() -> None:
    async with (
        taking_turns(refused(503, "retry-after: 30")) as bad,
        taking_turns(GOOD) as good,
        served(*two(bad, good)) as gw,
    ):
        for _ in range(3):
            assert (await gw.send(chat())).status == 200
        assert len(bad.seen) == 1


async def test_503_alone_tells_the_caller_when_to_come_back() -> None:
    async with taking_turns(refused(503, "retry-after: 9000")) as bad, served(*alone(bad)) as gw:
        first, second = await gw.send(chat()), await gw.send(chat())
        assert (first.status, second.status) == (503, 503)
        # An hour at most is told, and an endpoint rests for a minute at most.
        assert first.headers["retry-after"] == "3600"
        assert int(second.headers["retry-after"]) <= 60
        assert second.error["code"] == "upstream_overloaded"


async def test_after_silence_another_model_answers_before_the_silent_one_is_asked_again() -> None:
    async with (
        taking_turns(SILENCE) as one,
        taking_turns(SILENCE) as other,
        taking_turns(streamed("good")) as good,
        served(
            failover(["silent", "good"]),
            *in_cluster("silent", one, other),
            external("good", good.url),
        ) as gw,
    ):
        for number in range(4):
            reply = await gw.send(chat(stream=True))
            assert reply.text == "good"
            assert (await gw.outcome(number)).duration_s < 1.2
            assert len((await gw.outcome(number)).attempts) <= 2


async def test_another_endpoint_of_a_silent_model_is_asked_where_no_other_is_left() -> None:
    async with (
        taking_turns(SILENCE) as silent,
        taking_turns(streamed("good")) as good,
        served(failover("model"), *in_cluster("model", silent, good)) as gw,
    ):
        for _ in range(4):
            assert (await gw.send(chat(stream=True))).text == "good"


async def test_one_deadline_is_over_all_attempts_and_waits() -> None:
    async with (
        taking_turns(refused(429, "retry-after-ms: 200"), SILENCE) as one,
        taking_turns(SILENCE) as other,
        served(*two(one, other, attempts=10)) as gw,
    ):
        reply = await gw.send(chat(stream=True), x_switchboard_deadline_ms="1200")
        assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
        assert 1.1 < (await gw.outcome()).duration_s < 1.8
