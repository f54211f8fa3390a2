"""What follows an answer: a mirror that nobody sees, people who are told."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from fakes.composing import Composing, asked, composing, fails, says
from fakes.gateway import HELLO, chat, until
from fakes.upstreams import Conversation, Peer, peer
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")

EVERY = ir.Mirror("ai/new", sample_permille=1_000, max_cost_picodollars=1_000_000_000_000)
CHOOSES_NEW = {"lines": [{"matches": r"<answer (\d+) \w+>\n[^<]*mirror", "say": r"\1"}]}


@asynccontextmanager
async def mirrored(
    new: dict[str, object], mirror: ir.Mirror = EVERY, **more: Any
) -> AsyncGenerator[Composing]:
    models = {"now": says("The answer is 42"), "new": new, **more.pop("models", {})}
    async with composing(models, ["now"], mirror=mirror, **more) as one:
        yield one


async def counted(one: Composing, name: str) -> dict[str, float]:
    """What a metric's page says, by its labels."""
    page = (await one.gw.admin("/metrics")).body.decode()
    lines = [line for line in page.splitlines() if line.startswith(f"{name}{{")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


async def mirrors(one: Composing) -> dict[str, float]:
    """How many requests each result was told of."""
    counts = await counted(one, "switchboard_mirrors_total")
    return {name.partition('result="')[2].partition('"')[0]: n for name, n in counts.items()}


async def until_told(one: Composing, result: str, times: int = 1) -> None:
    async with asyncio.timeout(30):
        while (await mirrors(one)).get(result) != times:  # noqa: ASYNC110 - pages have no events
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_mirror_gets_the_request_after_the_answer_and_the_caller_sees_nothing(
    stream: bool,
) -> None:
    async with mirrored(says("So the answer is 42", ttft_ms=200)) as one:
        options = {"include_usage": True} if stream else None
        reply = await one.gw.send(chat(stream=stream, stream_options=options))
        text = reply.text if stream else reply.json["choices"][0]["message"]["content"]
        assert text == "The answer is 42"
        usage = reply.events[-2]["usage"] if stream else reply.json["usage"]
        assert usage["completion_tokens"] == 4
        assert (reply.headers["x-switchboard-reason"], "x-switchboard-cost" in reply.headers) == (
            "primary",
            False,
        )
        await until_told(one, "compared")
        (body,) = one.bodies("new")
        assert (body["messages"], body["stream"]) == (HELLO, False)
        assert (await one.gw.outcome()).asides == ()
        (agreement,) = (await counted(one, "switchboard_mirror_agreement_sum")).values()
        assert agreement == 1.0
        (cost,) = (await counted(one, "switchboard_aside_cost_microdollars_total")).values()
        assert cost == 7.0


async def test_a_mirror_that_fails_is_nobodys_loss() -> None:
    async with mirrored(fails(503)) as one:
        assert (await one.gw.send(chat())).status == 200
        await until_told(one, "overloaded")


async def test_a_share_of_the_requests_is_mirrored() -> None:
    tenth = ir.Mirror("ai/new", sample_permille=100, max_cost_picodollars=10**12)
    async with mirrored(says("42"), tenth) as one:
        for _ in range(100):
            await one.gw.send(chat())
        await until(lambda: not len(one.gw.plane.beside.background))
        assert 2 <= one.asked("new") <= 25


async def test_all_data_planes_together_spend_so_much_an_hour() -> None:
    # A prompt of two tokens and twice the caller's four: 10 microdollars each, foreseen; 2 + 4 in
    # truth.
    mirror = ir.Mirror("ai/new", sample_permille=1_000, max_cost_picodollars=16_000_000)
    async with mirrored(says("The answer is 41"), mirror) as one:
        for _ in range(6):
            await one.gw.send(chat(max_tokens=10))
            await until(lambda: not len(one.gw.plane.beside.background))
        assert await mirrors(one) == {"compared": 2.0, "over_budget": 4.0}
        assert one.asked("new") == 2


async def test_a_guardrail_holds_for_the_mirror_and_its_judge() -> None:
    forbids = ir.Guardrail("stays", "ai/chat", forbids=("ai/new",))
    async with mirrored(says("42"), fields={"guardrails": (forbids,)}) as one:
        assert (await one.gw.send(chat())).status == 200
        await until_told(one, "forbidden")
        assert one.asked("new") == 0


async def test_a_judge_says_which_is_better_and_that_rates_the_mirror() -> None:
    mirror = ir.Mirror("ai/new", 1_000, 10**12, judge=asked("judge"))
    learns = {"fields": {"learning": ir.Learning()}, "models": {"judge": CHOOSES_NEW}}
    async with mirrored(says("A better mirror's answer"), mirror, **learns) as one:
        await one.gw.send(chat())
        await until_told(one, "compared")
        assert one.asked("judge") == 1
        rated: dict[str, float] = {}
        async with asyncio.timeout(30):
            while not rated:
                await asyncio.sleep(0.01)
                rated = await counted(one, "switchboard_rating_sum")
        (where,) = rated
        assert 'source="mirror"' in where
        assert 'backend="ai/new"' in where
        assert rated[where] == 1.0


async def test_several_answers_in_one_are_not_mirrored_and_that_is_counted() -> None:
    async with mirrored(says("42")) as one:
        await one.gw.send(chat(n=2))
        await until_told(one, "several_answers")
        assert one.asked("new") == 0


@pytest.mark.parametrize("left", ["error", "left", "embeddings"])
async def test_only_answers_are_mirrored(left: str) -> None:
    now = {"error": fails(400), "left": says("42", ttft_ms=300)}.get(left, {})
    async with composing({"now": now, "new": says("42")}, ["now"], mirror=EVERY) as one:
        if left == "left":
            leaving = asyncio.create_task(one.gw.send(chat()))
            await until(lambda: one.asked("now") == 1)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        elif left == "embeddings":
            await one.gw.send({"model": "chat", "input": "x"}, "/v1/embeddings")
        else:
            await one.gw.send(chat())
        await one.gw.outcome()
        assert not len(one.gw.plane.beside.background)
        assert one.asked("new") == 0


async def test_a_mirror_under_way_does_not_outlive_the_data_plane() -> None:
    # What is left of a data plane at its end is looked at where it is run.
    timeouts = {"new": {"timeouts": {"total_ms": 60_000}}}
    async with mirrored(says("42", ttft_ms=30_000), backends=timeouts) as one:
        await one.gw.send(chat())
        await until(lambda: one.asked("new") == 1)


# --- reviews ---------------------------------------------------------------------------------


@asynccontextmanager
async def webhook(*statuses: int) -> AsyncGenerator[Peer]:
    """A webhook that answers with these, in turn, the last for ever."""
    left = list(statuses)

    async def talk(one: Conversation) -> None:
        while True:
            await one.request()
            status = left.pop(0) if len(left) > 1 else left[0]
            await one.say(b"HTTP/1.1 %d Said\r\ncontent-length: 0\r\n\r\n" % status)

    async with peer(talk) as running:
        yield running


def posted(hook: Peer) -> list[Any]:
    return [orjson.loads(request.partition(b"\r\n\r\n")[2]) for request in hook.requests]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_marked_for_review_and_told_to_the_webhook(stream: bool) -> None:
    async with (
        webhook(204) as hook,
        composing(
            {"now": says("The answer is 42")}, ["now"], review=ir.Review(f"{hook.url}/new")
        ) as one,
    ):
        reply = await one.gw.send(chat("a secret", stream=stream))
        assert (reply.status, reply.headers["x-switchboard-review"]) == (200, "pending")
        await until(lambda: len(hook.requests) == 1)
        assert hook.requests[0].startswith(b"POST /v1/new HTTP/1.1\r\n")
        (told,) = posted(hook)
        assert (told["policy"], told["rule"], told["backend"]) == ("ai/chat", "default", "ai/now")
        assert (told["reason"], told["outputTokens"]) == ("primary", 4)
        assert told["costMicrodollars"] == told["totalInputTokens"] + told["totalOutputTokens"]
        assert not {"request", "answer"} & told.keys()
        assert b"secret" not in hook.requests[0]


async def test_the_texts_are_told_where_that_is_said() -> None:
    async with (
        webhook(200) as hook,
        composing(
            {"now": says("The answer is 42")}, ["now"], review=ir.Review(hook.url, texts=True)
        ) as one,
    ):
        for stream in (False, True):
            await one.gw.send(chat("What is it?", stream=stream))
        await until(lambda: len(hook.requests) == 2)
        for told in posted(hook):
            assert (told["request"], told["answer"]) == ("What is it?", "The answer is 42")


@pytest.mark.parametrize("stream", [False, True])
async def test_no_text_is_told_to_a_webhook_while_a_guardrail_is_in_force(stream: bool) -> None:
    stays = ir.Guardrail("stays", "ai/chat", forbids=("ai/new",))
    async with (
        webhook(200) as hook,
        composing(
            {"now": says("A secret, too"), "new": says("42")},
            ["now"],
            review=ir.Review(hook.url, texts=True),
            mirror=EVERY,
            fields={"guardrails": (stays,)},
        ) as one,
    ):
        await one.gw.send(chat("a secret", stream=stream))
        await until(lambda: len(hook.requests) == 1)
        (told,) = posted(hook)
        assert (told["guardrails"], told["texts"]) == (["stays"], "withheld")
        assert not {"request", "answer"} & told.keys()
        assert b"secret" not in hook.requests[0].lower()


async def test_a_reviewed_decision_has_its_id_where_the_policy_learns() -> None:
    async with (
        webhook(200) as hook,
        composing(
            {"now": says("42")},
            ["now"],
            review=ir.Review(hook.url),
            fields={"learning": ir.Learning()},
        ) as one,
    ):
        reply = await one.gw.send(chat())
        await until(lambda: len(hook.requests) == 1)
        assert posted(hook)[0]["decision"] == reply.headers["x-switchboard-decision"]


async def test_a_webhook_that_fails_is_tried_again_and_the_caller_never_waits() -> None:
    async with (
        webhook(500, 200) as hook,
        composing({"now": says("42")}, ["now"], review=ir.Review(hook.url)) as one,
    ):
        await one.gw.send(chat())
        assert (await one.gw.outcome()).duration_s < 0.5
        await until(lambda: len(hook.requests) == 2)
        await until(lambda: not len(one.gw.plane.beside.background))
        (said,) = await counted(one, "switchboard_reviews_total")
        assert 'result="posted"' in said


async def test_an_error_is_not_marked_for_review() -> None:
    async with (
        webhook(200) as hook,
        composing({"now": fails(400)}, ["now"], review=ir.Review(hook.url)) as one,
    ):
        reply = await one.gw.send(chat())
        assert (reply.status, "x-switchboard-review" in reply.headers) == (400, False)
        await one.gw.outcome()
        assert not hook.requests


async def test_a_cascade_can_be_mirrored_and_reviewed() -> None:
    async with (
        webhook(200) as hook,
        composing(
            {"small": says("41"), "large": says("42"), "new": says("42")},
            ["small"],
            ["large"],
            cascade=ir.Cascade(when='answer.text == "42"'),
            mirror=EVERY,
            review=ir.Review(hook.url),
        ) as one,
    ):
        reply = await one.gw.send(chat(stream=True))
        assert reply.text == "42"
        await until_told(one, "compared")
        await until(lambda: len(hook.requests) == 1)
        (told,) = posted(hook)
        assert (told["reason"], told["tier"]) == ("cascade:escalated:condition", "large")
        # The small model's answer is paid for, too; the mirror's is nobody's of these.
        assert (told["outputTokens"], told["totalOutputTokens"]) == (1, 2)
        assert told["costMicrodollars"] == told["totalInputTokens"] + 2
