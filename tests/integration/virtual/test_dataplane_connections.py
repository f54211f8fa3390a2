"""A connection to the public port: one request after the other, its deadlines, and its end."""

import asyncio

import pytest

from fakes.echoing_gateway import GET_MODELS, LIMIT_BYTES, called, serving
from fakes.gateway import CHAT, DONE, said, until
from fakes.raw_caller import calling, request
from fakes.upstreams import Conversation
from fakes.virtual_time import now_s
from switchboard_dataplane.front.routes import Patience

each_front = pytest.mark.usefixtures("each_front")


# --- one request after the other -----------------------------------------------------------------


@each_front
async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with called() as caller:
        await caller.write(
            request("one") + request("two", chunked=True) + GET_MODELS + request("three")
        )
        assert (await caller.answer()).json == {"said": "one"}
        assert (await caller.answer()).json == {"said": "two"}
        assert (await caller.answer()).json["object"] == "list"
        assert (await caller.answer()).json == {"said": "three"}


async def test_what_comes_before_a_malformed_request_is_answered_first() -> None:
    async with called() as caller:
        await caller.write(request("one") + request("two") + b"nonsense\r\n\r\n")
        assert (await caller.answer()).json == {"said": "one"}
        assert (await caller.answer()).json == {"said": "two"}
        refused = await caller.answer()
        assert (refused.status, refused.code) == (400, "malformed_http")
        assert refused.headers["connection"] == "close"
        assert await caller.ended()


@each_front
async def test_streams_and_whole_answers_take_turns_on_one_connection() -> None:
    async with called() as caller:
        for _ in range(2):
            await caller.write(request("hi", stream=True) + request("ho"))
            streamed = await caller.answer()
            assert streamed.headers["content-type"] == "text/event-stream"
            assert streamed.body == said("hi") + said(finish_reason="stop") + DONE
            assert (await caller.answer()).json == {"said": "ho"}


@each_front
@pytest.mark.parametrize("hot_first", [True, False])
async def test_one_connection_may_change_between_routes(hot_first: bool) -> None:
    asks = [
        (request("hi"), 200),
        (GET_MODELS, 200),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"DELETE /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"PUT /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405),
        (b"GET /v1/models/chat HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /v1/models/nope HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (request("hi", target="/v1/nope"), 404),
        (request("ho"), 200),
    ]
    async with called() as caller:
        for sent, status in asks if hot_first else reversed(asks):
            await caller.write(sent)
            assert (await caller.answer()).status == status


# --- deadlines -----------------------------------------------------------------------------------


#: A port whose callers have little time.
HASTY = Patience(sweep_s=0.01, head_s=0.15, idle_s=0.3, linger_s=0.1)


@each_front
@pytest.mark.parametrize(
    "begun", [b"", b"P", request()[:40], b"GET /v1/models HT", b"\r\n"], ids=repr
)
async def test_a_head_that_does_not_come_closes_the_connection(begun: bytes) -> None:
    async with called(patience=HASTY) as caller:
        await caller.write(begun)
        began = now_s()
        assert await caller.ended()
        assert 0.1 < now_s() - began < 1.0


@each_front
@pytest.mark.parametrize("sent", [request(), GET_MODELS], ids=["hot", "models"])
@pytest.mark.parametrize("more", [b"", b"POST /v1/ch"], ids=["idle", "half-a-head"])
async def test_an_idle_connection_is_closed_in_the_end(sent: bytes, more: bytes) -> None:
    async with called(patience=HASTY) as caller:
        for _ in range(2):
            await caller.write(sent)
            assert (await caller.answer()).status == 200
            await asyncio.sleep(0.1)
        await caller.write(more)
        began = now_s()
        assert await caller.ended()
        assert now_s() - began < 1.0


@each_front
async def test_a_request_that_takes_long_outlives_those_deadlines() -> None:
    async def slow(one: Conversation) -> None:
        await one.request()
        await asyncio.sleep(0.5)
        await one.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async with called(slow, patience=HASTY) as caller:
        await caller.write(request())
        assert (await caller.answer()).status == 200


# --- refused, and a gateway that goes away -------------------------------------------------------


@each_front
@pytest.mark.parametrize("sized", [True, False])
async def test_a_caller_that_goes_on_sending_reads_why_it_was_refused(sized: bool) -> None:
    async with called(body_limit_bytes=LIMIT_BYTES) as caller:
        framing = f"Content-Length: {200 * LIMIT_BYTES}" if sized else "Transfer-Encoding: chunked"
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode()
        piece = b"x" * LIMIT_BYTES
        await caller.write(head)

        async def send() -> None:
            for _ in range(100):
                await caller.write(piece if sized else b"%x\r\n%b\r\n" % (len(piece), piece))

        sending = asyncio.create_task(send())
        answer = await caller.answer()
        assert (answer.status, answer.code) == (413, "body_too_large")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_a_caller_that_goes_on_after_a_malformed_request_reads_why() -> None:
    async with called() as caller:
        await caller.write(request() + b"nonsense\r\n\r\n" + b"and so on" * 100_000)
        assert (await caller.answer()).status == 200
        assert (await caller.answer()).status == 400


async def test_a_refused_caller_that_stays_is_closed_in_the_end() -> None:
    async with serving(patience=HASTY) as (gw, _), calling(gw) as caller:
        await caller.write(request() + b"nonsense\r\n\r\n")
        await caller.answer()
        await caller.answer()
        await until(lambda: not gw.plane.public._all())


@each_front
async def test_a_gateway_that_goes_away_closes_what_is_idle_and_ends_the_rest_well() -> None:
    asked, leave = asyncio.Event(), asyncio.Event()

    async def held(one: Conversation) -> None:
        while True:
            await one.request()
            if one.peer.accepted == 2:
                asked.set()
                await leave.wait()
            await one.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            return

    async with (
        serving(held) as (gw, _),
        calling(gw) as idle,
        calling(gw) as silent_one,
        calling(gw) as busy,
    ):
        await idle.write(request())
        assert (await idle.answer()).status == 200
        await busy.write(request())
        await asked.wait()
        stopping = asyncio.create_task(gw.plane.stop(drain_s=5.0))
        assert await idle.ended()
        assert await silent_one.ended()
        assert not stopping.done()
        leave.set()
        answer = await busy.answer()
        assert (answer.json, answer.headers["connection"]) == ({}, "close")
        assert await busy.ended()
        await stopping


async def test_an_answer_on_its_way_is_not_cut_off_by_the_end() -> None:
    async with serving() as (gw, _), calling(gw) as caller:
        text = "x" * 3_000_000
        await caller.write(request(text))
        await gw.outcome()
        stopping = asyncio.create_task(gw.plane.stop())
        await asyncio.sleep(0.1)
        assert (await caller.answer()).json == {"said": text}
        await stopping
