"""A judge rates a sample of the answers after they have gone out, within what it may cost."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson
import pytest

from fakes.composing import Composing, asked, composing, fails, says
from fakes.gateway import SCOPE, chat, until
from switchboard_dataplane.learning.decisions import read_rated
from switchboard_dataplane.learning.ratings import Rating
from switchboard_policy import ir
from switchboard_policy.store import Record

pytestmark = pytest.mark.usefixtures("each_front")

DECISION = "x-switchboard-decision"
DOLLAR = 1_000_000_000_000


def sampled(
    judge: dict[str, object], *, sample: int = 1_000, most: int = DOLLAR, **more: Any
) -> AbstractAsyncContextManager[Composing]:
    """A model whose answers a judge rates."""
    learning = ir.Learning(
        judge=asked("judge", timeout_ms=300, instructions="Mind the sky."),
        judge_sample_permille=sample,
        judge_max_cost_picodollars=most,
    )
    fields = {"learning": learning, **more.pop("fields", {})}
    models = {"only": says("It is blue."), "judge": judge}
    return composing(models, ["only"], fields=fields, **more)


def ratings(one: Composing, decision: str) -> list[Rating]:
    journal = one.gw.plane.beside.learning.journal
    known = journal.recent.find(decision, journal.clock())
    return [] if known is None else known.ratings


def told(one: Composing, name: str) -> dict[tuple[str, ...], Any]:
    """The points of a metric."""
    instruments = one.gw.plane.telemetry.metrics.instruments
    (found,) = [instrument for instrument in instruments if instrument.name == name]
    return dict(found.read())


@pytest.mark.parametrize("stream", [False, True])
async def test_a_judge_sees_the_request_and_what_the_caller_got_and_its_score_is_a_rating(
    *, stream: bool
) -> None:
    async with sampled(says("8")) as one:
        reply = await one.gw.send(chat("Why is the sky blue?", stream=stream))
        decision = reply.headers[DECISION]
        assert "x-switchboard-cost" not in reply.headers
        await until(lambda: bool(ratings(one, decision)))
        assert [(it.source, it.value) for it in ratings(one, decision)] == [("judge", 0.8)]
        (body,) = one.bodies("judge")
        system, user = (message["content"] for message in body["messages"])
        assert "Why is the sky blue?" in user
        assert "It is blue." in user
        assert "Mind the sky." in system
        outcome = await one.gw.outcome()
        assert outcome.asides == (), "what follows an answer is not on the caller's account"
        asides = told(one, "switchboard.asides")
        assert asides == {("ai/judge", "ai/chat", "sample", "answered", "default", ""): 1}
        assert told(one, "switchboard.aside.cost.microdollars")


@pytest.mark.parametrize(
    ("judge", "reason"),
    [
        (says("fine"), "unreadable"),
        (says("8", ttft_ms=5_000), "deadline_exceeded"),
        (fails(), "upstream_server_error"),
    ],
)
async def test_a_judge_that_says_nothing_rates_nothing(
    judge: dict[str, object], reason: str
) -> None:
    async with sampled(judge) as one:
        decision = (await one.gw.send(chat())).headers[DECISION]
        await until(lambda: bool(told(one, "switchboard.asides")))
        assert [labels[3] for labels in told(one, "switchboard.asides")] == [reason]
        assert ratings(one, decision) == []


async def test_a_share_of_the_answers_is_judged() -> None:
    async with sampled(says("8"), sample=300) as one:
        for _ in range(60):
            assert (await one.gw.send(chat())).status == 200
        await until(lambda: len(one.gw.outcomes) == 60)
        await until(lambda: len(one.gw.plane.beside.background) == 0)
        assert 5 <= one.asked("judge") <= 35


async def test_no_more_is_spent_on_a_judge_than_it_may_cost_in_an_hour() -> None:
    # A judge's reply costs some 250 millionths of a dollar; foreseen are some more.
    async with sampled(says("8"), most=800_000_000) as one:
        for _ in range(20):
            await one.gw.send(chat())
            await until(lambda: len(one.gw.plane.beside.background) == 0)
        await until(lambda: sum(told(one, "switchboard.asides").values()) == 20)
        judged, over = one.asked("judge"), "over_budget"
        assert 2 <= judged <= 4
        by_reason = {
            labels[3]: number for labels, number in told(one, "switchboard.asides").items()
        }
        assert by_reason == {"answered": judged, over: 20 - judged}
        spent = sum(told(one, "switchboard.aside.cost.microdollars").values())
        assert spent <= 800


async def test_what_runs_at_the_same_time_is_foreseen_by_what_the_judge_is_shown() -> None:
    judge = says("8", ttft_ms=200)
    async with sampled(judge, most=800_000_000) as one:
        await asyncio.gather(*(one.gw.send(chat("Why? " * 10, max_tokens=5)) for _ in range(20)))
        await until(lambda: sum(told(one, "switchboard.asides").values()) == 20)
        assert one.asked("judge") == 2
        assert sum(told(one, "switchboard.aside.cost.microdollars").values()) <= 800


@pytest.mark.parametrize(("answer", "status"), [(fails(), 502), (fails(400), 400)])
async def test_what_is_no_answer_is_not_judged(answer: dict[str, object], status: int) -> None:
    learning = ir.Learning(
        judge=asked("judge"), judge_sample_permille=1_000, judge_max_cost_picodollars=DOLLAR
    )
    models = {"only": answer, "judge": says("8")}
    async with composing(models, ["only"], fields={"learning": learning}) as one:
        assert (await one.gw.send(chat())).status == status
        await one.gw.outcome()
        await until(lambda: len(one.gw.plane.beside.learning.journal.recent) == 1)
        assert len(one.gw.plane.beside.background) == 0
        assert one.asked("judge") == 0


async def test_a_guardrail_keeps_a_request_from_the_judge() -> None:
    stays = ir.Guardrail("stays", "ai/chat", forbids=("ai/judge",))
    async with sampled(says("8"), fields={"guardrails": (stays,)}) as one:
        decision = (await one.gw.send(chat())).headers[DECISION]
        await one.gw.outcome()
        await until(lambda: len(one.gw.plane.beside.learning.journal.recent) == 1)
        await until(lambda: len(one.gw.plane.beside.background) == 0)
        assert one.asked("judge") == 0
        assert ratings(one, decision) == []


async def test_the_last_answers_are_judged_before_the_process_ends() -> None:
    async with sampled(says("8", ttft_ms=100)) as one:
        decision = (await one.gw.send(chat())).headers[DECISION]
    assert [it.value for it in ratings(one, decision)] == [0.8]


async def test_what_a_mirror_answered_is_in_the_log_beside_the_decision() -> None:
    mirror = ir.Mirror("ai/new", sample_permille=1_000, max_cost_picodollars=DOLLAR)
    models = {"only": says("It is blue."), "new": says("Blue")}
    fields = {"learning": ir.Learning()}
    async with composing(models, ["only"], mirror=mirror, fields=fields) as one:
        decision = (await one.gw.send(chat())).headers[DECISION]
        held = one.gw.store.pods(SCOPE).decisions
        await until(lambda: len(held) == 2)
        by_kind = {line["kind"]: line for line in map(body_of, held.values())}
    compared = by_kind["mirror"]
    assert (compared["decision"], compared["backend"]) == (decision, "ai/new")
    assert (compared["answer_chars"], compared["mirror_chars"]) == (11, 4)
    assert 0 <= compared["agreement"] <= 1
    assert compared["cost_microdollars"] > 0
    assert "better" not in compared


async def test_a_tier_whose_answer_passes_the_checks_is_rated_and_all_attempts_are_counted() -> (
    None
):
    models = {"small": says("It is blue."), "large": says("No."), "other": says("It is blue.")}
    cascade = ir.Cascade(when='answer.text.contains("blue")', agreement="ai/other")
    fields = {"learning": ir.Learning()}
    async with composing(models, ["small"], ["large"], cascade=cascade, fields=fields) as one:
        reply = await one.gw.send(chat())
        decision = reply.headers[DECISION]
        await until(lambda: bool(ratings(one, decision)))
        said = [(it.source, it.value, it.tier) for it in ratings(one, decision)]
        (line,) = (await one.gw.admin("/decisions")).body.splitlines()
        told = read_rated(line)
    assert said == [("acceptance", 1.0, "")]
    assert (told.tier, told.reason, told.quality) == ("small", "cascade:accepted", 1.0)
    assert told.attempts == int(reply.headers["x-switchboard-attempts"]) == 2


async def test_a_judge_that_may_not_see_an_answer_says_nothing_of_the_tier() -> None:
    models = {"small": says("No."), "large": says("It is blue."), "judge": says("9")}
    cascade = ir.Cascade(judge=ir.Judge(asked("judge"), min_permille=600))
    stays = ir.Guardrail("stays", "ai/chat", forbids=("ai/judge",))
    fields = {"learning": ir.Learning(), "guardrails": (stays,)}
    async with composing(models, ["small"], ["large"], cascade=cascade, fields=fields) as one:
        reply = await one.gw.send(chat())
        decision = reply.headers[DECISION]
        assert reply.headers["x-switchboard-reason"] == "cascade:escalated:judge_forbidden"
        await until(lambda: len(one.gw.plane.beside.learning.journal.recent) == 1)
        assert ratings(one, decision) == []


async def test_a_caller_that_leaves_a_cascade_before_an_answer_is_the_reason() -> None:
    models = {"small": says("It is blue.", ttft_ms=5_000), "large": says("No.")}
    cascade = ir.Cascade(when="true")
    fields = {"learning": ir.Learning()}
    async with composing(models, ["small"], ["large"], cascade=cascade, fields=fields) as one:
        leaving = asyncio.create_task(one.gw.send(chat()))
        await until(lambda: one.asked("small") == 1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await until(lambda: len(one.gw.plane.beside.learning.journal.recent) == 1)
        (line,) = (await one.gw.admin("/decisions")).body.splitlines()
        told = read_rated(line)
    assert (told.status, told.reason, told.attempts) == (0, "caller_left", 1)
    assert told.ratings == ()


async def test_a_tier_that_is_escalated_from_is_rated_and_the_answer_is_not() -> None:
    models = {"small": says("No."), "large": says("It is blue.")}
    cascade = ir.Cascade(when='answer.text.contains("blue")')
    fields = {"learning": ir.Learning()}
    async with composing(models, ["small"], ["large"], cascade=cascade, fields=fields) as one:
        decision = (await one.gw.send(chat())).headers[DECISION]
        await until(lambda: bool(ratings(one, decision)))
        said = [(it.source, it.value, it.tier) for it in ratings(one, decision)]
        assert said == [("escalation", 0.0, "small")]
        (line,) = (await one.gw.admin("/decisions")).body.splitlines()
        told = read_rated(line)
    assert (told.tier, told.reason, told.quality) == (
        "large",
        "cascade:escalated:condition",
        None,
    )
    # Both prompts and both answers, at a microdollar a token.
    assert told.cost_microdollars == (told.input_tokens or 0) + (told.output_tokens or 0)
    assert [(it.purpose, it.backend) for it in told.asides] == [("step", "ai/small")]


def body_of(entry: tuple[int, Record]) -> dict[str, Any]:
    said: dict[str, Any] = orjson.loads(entry[1].body)
    return said
