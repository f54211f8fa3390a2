"""Decisions are logged, rated and told of, over real sockets and both forms of the public port."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from fakes.gateway import SCOPE, Gateway, Reply, chat, external, failover, fakes, gateway, until
from switchboard_dataplane.learning.decisions import Decided, Rated, read_rated
from switchboard_dataplane.learning.ratings import Rating
from switchboard_policy import ir

pytestmark = pytest.mark.usefixtures("each_front")

FEEDBACK = "/v1/feedback"
DECISION = "x-switchboard-decision"
LEARNING = ir.Learning()
SECRET = "my name is Rumpelstiltskin"


@asynccontextmanager
async def learning(
    *models: dict[str, object], learning: ir.Learning | None = LEARNING, **settings: Any
) -> AsyncGenerator[Gateway]:
    """A gateway before two fake models, the second for when the first fails; its policy learns."""
    async with fakes(*(models or ({}, {}))) as (first, second):
        said = failover("first", "second", learning=learning)
        async with gateway(
            said,
            external("first", first.url),
            external("second", second.url),
            pod_name="pod-1",
            **settings,
        ) as gw:
            yield gw


async def rate(gw: Gateway, decision: str, rating: object, **fields: object) -> Reply:
    return await gw.send({"decision": decision, "rating": rating, **fields}, FEEDBACK)


async def decisions(gw: Gateway, number: int, *, after: str = "") -> list[Rated]:
    """Wait until the pod remembers so many decisions, and return them."""
    recent = gw.plane.beside.learning.journal.recent
    await until(lambda: len(recent) >= number)
    reply = await gw.admin(f"/decisions?after={after}")
    assert reply.headers["content-type"] == "application/jsonl"
    return [read_rated(line) for line in reply.body.splitlines()]


def logged(gw: Gateway) -> list[Any]:
    """What the store's log holds, as it was written."""
    held = gw.store.pods(SCOPE).decisions.values()
    return [orjson.loads(record.body) for _, record in held]


async def rated(gw: Gateway, decision: str) -> list[Rating]:
    """Wait until a decision is rated; return its ratings."""
    journal = gw.plane.beside.learning.journal

    def ratings() -> list[Rating]:
        known = journal.recent.find(decision, journal.clock())
        return [] if known is None else known.ratings

    await until(lambda: bool(ratings()))
    return ratings()


async def test_a_decision_is_logged_with_what_came_of_it_and_without_its_texts() -> None:
    async with learning() as gw:
        reply = await gw.send(chat(SECRET), x_switchboard_session="s-1")
        await until(lambda: bool(logged(gw)), within_s=5)
        (line,) = logged(gw)
    assert line["kind"] == "decision"
    assert line["id"] == reply.headers[DECISION]
    assert (line["pod"], line["policy"], line["rule"]) == ("pod-1", "ai/chat", "default")
    assert (line["tier"], line["backend"]) == ("tier-0", "ai/first")
    assert (line["model"], line["upstream_model"]) == ("chat", "fake-model")
    assert (line["status"], line["reason"], line["attempts"]) == (200, "primary", 1)
    usage = reply.json["usage"]
    assert line["input_tokens"] == usage["prompt_tokens"]
    assert line["output_tokens"] == usage["completion_tokens"]
    raw = orjson.dumps(line)
    assert b"Rumpelstiltskin" not in raw
    assert b"s-1" not in raw
    assert len(line["session"]) == 16


async def test_a_policy_that_does_not_learn_gives_no_id_and_logs_nothing() -> None:
    async with learning(learning=None) as gw:
        reply = await gw.send(chat())
        await gw.outcome()
        assert DECISION not in reply.headers
        assert len(gw.plane.beside.learning.journal.recent) == 0
        assert gw.store.pods(SCOPE).decisions == {}


@pytest.mark.parametrize("stream", [False, True])
async def test_texts_are_logged_where_the_policy_says_so_and_never_told_at_the_admin_port(
    *, stream: bool
) -> None:
    async with learning(learning=ir.Learning(texts=True)) as gw:
        reply = await gw.send(chat(SECRET, stream=stream))
        text = reply.text if stream else reply.json["choices"][0]["message"]["content"]
        (told,) = await decisions(gw, 1)
        await until(lambda: bool(logged(gw)))
        (line,) = logged(gw)
    assert line["prompt"] == SECRET
    assert text
    assert line["answer"] == text
    assert (told.prompt, told.answer) == ("", "")


@pytest.mark.parametrize(("rating", "value"), [("up", 1.0), (0.25, 0.25)])
async def test_a_caller_rates_an_answer(rating: object, value: float) -> None:
    async with learning() as gw:
        decision = (await gw.send(chat())).headers[DECISION]
        await decisions(gw, 1)
        said = await rate(gw, decision, rating, comment="nice")
        assert said.status == 202
        assert said.json == {"object": "feedback", "decision": decision, "rating": value}
        (told,) = await decisions(gw, 1)
        await until(lambda: len(logged(gw)) == 2)
        line = logged(gw)[1]
    assert told.quality == value
    assert [(one.source, one.value) for one in told.ratings] == [("feedback", value)]
    assert (line["kind"], line["decision"], line["value"]) == ("rating", decision, value)
    # What a caller writes is a text like any other.
    assert "comment" not in line


async def test_a_comment_is_kept_where_texts_are() -> None:
    async with learning(learning=ir.Learning(texts=True)) as gw:
        decision = (await gw.send(chat())).headers[DECISION]
        await decisions(gw, 1)
        await rate(gw, decision, "down", comment="too long")
        await until(lambda: len(logged(gw)) == 2)
        assert logged(gw)[1]["comment"] == "too long"


async def test_an_answer_may_be_rated_the_moment_that_it_ends() -> None:
    async with learning() as gw:
        decision = (await gw.send(chat())).headers[DECISION]
        assert (await rate(gw, decision, "up")).status == 202
        assert [one.value for one in await rated(gw, decision)] == [1.0]
        await until(lambda: len(logged(gw)) == 2)
        assert {line["kind"] for line in logged(gw)} == {"decision", "rating"}


async def test_feedback_is_served_on_the_connection_of_the_answer() -> None:
    async with learning() as gw:
        for number in range(3):
            decision = (await gw.send(chat(f"turn {number}"))).headers[DECISION]
            assert (await rate(gw, decision, "up")).status == 202


async def test_feedback_that_cannot_be_taken_is_refused_by_the_name_of_the_field() -> None:
    async with learning() as gw:
        for body, status, code, param in (
            (b"no", 400, "invalid_json", None),
            ({"decision": "x", "rating": "meh"}, 400, "invalid_value", "rating"),
            ({"decision": "x", "rating": 1}, 404, "decision_not_found", "decision"),
            (b"{" + b" " * 20_000 + b"}", 413, "body_too_large", None),
        ):
            reply = await gw.send(body, FEEDBACK)
            assert reply.status == status
            assert (reply.error["code"], reply.error["param"]) == (code, param)
            assert reply.error["type"] == "invalid_request_error"


async def test_feedback_takes_post_alone() -> None:
    async with learning() as gw:
        reply = await gw.get(FEEDBACK)
        assert (reply.status, reply.error["code"]) == (405, "method_not_allowed")


async def test_an_error_rates_the_last_model_with_nothing() -> None:
    broken: dict[str, object] = {"faults": [{"kind": "status", "status": 500}]}
    async with learning(broken, broken) as gw:
        reply = await gw.send(chat())
        assert reply.status == 502
        decision = reply.headers[DECISION]
        assert [(one.source, one.value) for one in await rated(gw, decision)] == [("error", 0.0)]
        (told,) = await decisions(gw, 1)
    assert (told.status, told.error, told.backend) == (502, "upstream_server_error", "ai/second")
    assert told.failures == ("server_error",) * told.attempts


async def test_a_request_that_nobody_may_serve_is_logged_and_rates_nobody() -> None:
    nobody = ir.Guardrail("none", "ai/chat", forbids=("ai/first", "ai/second"))
    async with fakes({}, {}) as (first, second):
        said = failover("first", "second", learning=ir.Learning(), guardrails=(nobody,))
        entries = external("first", first.url), external("second", second.url)
        async with gateway(said, *entries) as gw:
            reply = await gw.send(chat())
            (told,) = await decisions(gw, 1)
    assert reply.status == 503
    assert reply.headers[DECISION] == told.id
    assert (told.error, told.tier, told.quality) == ("no_candidate", "", None)


async def test_who_asks_the_same_again_was_not_content() -> None:
    async with learning() as gw:
        session = {"x_switchboard_session": "s-1"}
        first = (await gw.send(chat("why?"), **session)).headers[DECISION]
        await decisions(gw, 1)
        other = (await gw.send(chat("why not?"), **session)).headers[DECISION]
        stranger = (await gw.send(chat("why?"), x_switchboard_session="s-2")).headers[DECISION]
        again = (await gw.send(chat("why?"), **session)).headers[DECISION]
        assert [(one.source, one.value) for one in await rated(gw, first)] == [
            ("regeneration", 0.0)
        ]
        quality = {one.id: one.quality for one in await decisions(gw, 4)}
    assert quality == {first: 0.0, other: None, stranger: None, again: None}


def conversation(*texts: str) -> dict[str, Any]:
    """A chat of these turns, the user's and the model's in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]
    return {**chat(), "messages": messages}


async def test_who_goes_on_was_content_and_a_stranger_says_nothing() -> None:
    async with learning() as gw:
        session = {"x_switchboard_session": "s-1"}
        first = (await gw.send(conversation("why?"), **session)).headers[DECISION]
        await decisions(gw, 1)
        more = conversation("why?", "Because.", "and then?")
        stranger = (await gw.send(more, x_switchboard_session="s-2")).headers[DECISION]
        nobody = (await gw.send(more)).headers[DECISION]
        await decisions(gw, 3)
        second = (await gw.send(more, **session)).headers[DECISION]
        assert [(one.source, one.value) for one in await rated(gw, first)] == [
            ("continuation", 1.0)
        ]
        quality = {one.id: one.quality for one in await decisions(gw, 4)}
    assert quality == {first: 1.0, stranger: None, nobody: None, second: None}


async def test_the_last_word_of_a_caller_counts_however_soon_the_first_came() -> None:
    async with learning() as gw:
        decision = (await gw.send(chat())).headers[DECISION]
        await rate(gw, decision, "down")
        await decisions(gw, 1)
        await rate(gw, decision, "up")
        await until(lambda: len(logged(gw)) == 3, within_s=5)
        (told,) = await decisions(gw, 1)
    assert [one.value for one in told.ratings] == [0.0, 1.0]
    assert told.quality == 1.0


async def test_who_learns_hears_of_a_rating_once_with_its_decision_and_readings() -> None:
    heard: list[tuple[Decided, Rating, dict[str, Any]]] = []
    select = ir.Select("Task", tasks=(("code", 1),))
    async with fakes({}, {}) as (first, second):
        said = failover("first", "second", learning=ir.Learning())
        said = ir.Policy(
            name=said.name,
            models=said.models,
            rules=(ir.Rule(name="default", tiers=said.rules[0].tiers, select=select),),
            learning=ir.Learning(),
        )
        entries = external("first", first.url), external("second", second.url)
        async with gateway(said, *entries) as gw:
            journal = gw.plane.beside.learning.journal
            journal.learners.append(lambda *said: heard.append((said[0], said[1], dict(said[2]))))
            decision = (await gw.send(chat("Write a Python function."))).headers[DECISION]
            await decisions(gw, 1)
            for value in (1.0, 0.0):
                await rate(gw, decision, value)
            await until(lambda: len(logged(gw)) == 3)
    ((learned, rating, readings),) = heard
    assert (learned.id, learned.tier, learned.selected) == (decision, "tier-1", "tier-1")
    assert (rating.value, readings["task"], learned.task) == (1.0, "code", "code")


async def test_the_admin_port_goes_on_after_a_decision() -> None:
    async with learning() as gw:
        ids = [(await gw.send(chat(str(number)))).headers[DECISION] for number in range(3)]
        assert [one.id for one in await decisions(gw, 3)] == ids
        assert [one.id for one in await decisions(gw, 3, after=ids[0])] == ids[1:]
        assert await decisions(gw, 3, after=ids[2]) == []


async def test_nothing_is_kept_in_the_store_where_the_log_holds_no_entries() -> None:
    async with learning(decision_log_entries=0) as gw:
        decision = (await gw.send(chat())).headers[DECISION]
        await decisions(gw, 1)
        await rate(gw, decision, "up")
        assert [one.value for one in await rated(gw, decision)] == [1.0]
    assert gw.store.pods(SCOPE).decisions == {}


async def test_the_last_decisions_are_logged_at_the_end_of_the_process() -> None:
    async with learning() as gw:
        decision = (await gw.send(chat())).headers[DECISION]
    assert [line["id"] for line in logged(gw)] == [decision]


async def test_the_id_goes_out_without_the_headers_of_details() -> None:
    async with learning(detail_headers=False) as gw:
        reply = await gw.send(chat())
        ours = [name for name in reply.headers if name.startswith("x-switchboard-")]
        assert ours == [DECISION]
