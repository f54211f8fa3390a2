"""The public port in HTTP/1.1, byte for byte, on both of its forms; and what the lane adds."""

import asyncio
import io
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from fakes.gateway import (
    CHAT,
    STREAM_HEAD,
    Gateway,
    external,
    failover,
    gateway,
    said,
    until,
)
from fakes.raw_caller import RawCaller, calling, request
from fakes.upstreams import Conversation, Peer, Talk, peer
from switchboard_dataplane.front import aiohttp_front, lane, port, routes

each_front = pytest.mark.usefixtures("each_front")

NOBODY = "http://127.0.0.1:9"
AT_ONCE_S = 0.1
DONE = b"data: [DONE]\n\n"
GET_MODELS = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
LIMIT_BYTES = 100_000


async def echo(one: Conversation) -> None:
    """Answer each request with what the user said, whole or as a stream."""
    while True:
        body = orjson.loads((await one.request()).partition(b"\r\n\r\n")[2])
        text = body["messages"][0]["content"]
        if body.get("stream"):
            await one.say(STREAM_HEAD, said(text), said(finish_reason="stop"), DONE)
            return
        answer = orjson.dumps({"said": text})
        await one.say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        await one.say(b"content-length: %d\r\n\r\n%b" % (len(answer), answer))


@asynccontextmanager
async def serving(talk: Talk = echo, **settings: Any) -> AsyncGenerator[tuple[Gateway, Peer]]:
    async with (
        peer(talk) as model,
        gateway(
            failover("model"), external("model", model.url.removesuffix("/v1")), **settings
        ) as gw,
    ):
        yield gw, model


@asynccontextmanager
async def called(talk: Talk = echo, **settings: Any) -> AsyncGenerator[RawCaller]:
    """A caller that is connected to a gateway with an upstream that talks like this."""
    async with serving(talk, **settings) as (gw, _), calling(gw) as caller:
        yield caller


# --- requests on one connection ------------------------------------------------------------------


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


@each_front
async def test_a_model_whose_name_has_a_slash_can_be_asked_for() -> None:
    entry = failover("model", models=("org/small",))
    async with gateway(entry, external("model", NOBODY)) as gw, calling(gw) as caller:
        await caller.write(request("hi"))
        assert (await caller.answer()).status == 404
        for name in ("org/small", "org%2Fsmall", "org%2fsm%61ll"):
            await caller.write(f"GET /v1/models/{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert (await caller.answer()).json["id"] == "org/small"


@each_front
async def test_head_is_answered_without_a_body() -> None:
    async with called() as caller:
        await caller.write(request("hi"))
        await caller.answer()
        await caller.write(GET_MODELS)
        whole = await caller.answer()
        await caller.write(GET_MODELS.replace(b"GET", b"HEAD") + request("ho"))
        bare = await caller.answer(bare=True)
        assert (bare.status, bare.headers["content-length"]) == (200, str(len(whole.body)))
        assert (await caller.answer()).json == {"said": "ho"}


@each_front
@pytest.mark.parametrize(
    "target", [f"{CHAT}?api-version=1&x=%20", f"http://gateway{CHAT}", f"http://gateway:1{CHAT}?x"]
)
async def test_a_target_may_be_absolute_or_have_a_query(target: str) -> None:
    async with called() as caller:
        for _ in range(2):
            await caller.write(request("hi", target=target) + request("ho"))
            assert (await caller.answer()).json == {"said": "hi"}
            assert (await caller.answer()).json == {"said": "ho"}


@each_front
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
async def test_an_upgrade_is_passed_over_and_the_body_is_the_requests(
    first: bool, chunked: bool
) -> None:
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    inner = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    async with called() as caller:
        if not first:
            await caller.write(request("hi"))
            await caller.answer()
        await caller.write(request(inner, *upgrade, chunked=chunked))
        assert (await caller.answer()).json == {"said": inner}
        await caller.write(request("ho"))
        assert (await caller.answer()).json == {"said": "ho"}


@each_front
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "line",
    [
        "CONNECT host:443 HTTP/1.1",
        "BREW /v1/chat/completions HTTP/1.1",
        "POSTS /v1/chat/completions HTTP/1.1",
        "post /v1/chat/completions HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "TRACE / HTTP/1.1",
        "PRI * HTTP/2.0",
        "POST v1/chat/completions HTTP/1.1",
        "POST /v1/chat/completions HTTP/3.0",
        "POST /v1/chat/completions",
        "POST  /v1/chat/completions HTTP/1.1",
    ],
)
async def test_what_nobody_serves_is_refused_and_disturbs_nobody(line: str, first: bool) -> None:
    async with serving() as (gw, _):
        async with calling(gw) as caller:
            if not first:
                await caller.write(request("hi"))
                await caller.answer()
            await caller.write(f"{line}\r\nHost: x\r\n\r\n".encode())
            answer = await caller.answer()
            assert answer.status in (400, 404, 405)
            assert answer.json["error"]["type"] == "invalid_request_error"
        async with calling(gw) as caller:
            await caller.write(request("ho"))
            assert (await caller.answer()).json == {"said": "ho"}


@each_front
@pytest.mark.parametrize("first", [True, False])
async def test_a_request_has_one_host_but_in_http_1_0(first: bool) -> None:
    without = request().replace(b"host: gateway\r\n", b"")
    twice = request().replace(b"host: gateway\r\n", b"host: gateway\r\nHost: gateway\r\n")
    for sent, status in ((without, 400), (twice, 400), (without.replace(b"/1.1", b"/1.0"), 200)):
        async with called() as caller:
            if not first:
                await caller.write(request("hi"))
                await caller.answer()
            await caller.write(sent)
            assert (await caller.answer()).status == status


@each_front
@pytest.mark.parametrize("chunked", [True, False])
async def test_bytes_may_dribble_in(chunked: bool) -> None:
    async with called() as caller:
        for byte in request("hi", chunked=chunked):
            await caller.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await caller.answer()).json == {"said": "hi"}
        for byte in GET_MODELS:
            await caller.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await caller.answer()).status == 200


@pytest.mark.parametrize("size", [1, 5, 6, 20, 27, 28, 29, 40])
async def test_the_door_waits_until_it_is_clear_who_serves(size: int) -> None:
    for sent, status in ((request("hi"), 200), (request("hi", target="/v1/chat/nope"), 404)):
        async with called() as caller:
            await caller.write(sent[:size])
            await asyncio.sleep(0.01)
            await caller.write(sent[size:])
            assert (await caller.answer()).status == status


@each_front
async def test_a_chunked_request_may_have_trailers_extensions_and_single_bytes() -> None:
    body = orjson.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}]})
    chunks = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in body)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n".encode()
    async with called() as caller:
        for _ in range(2):
            await caller.write(head + chunks + b"0\r\nX-Sum: 1\r\nX-Model: other\r\n\r\n")
            assert (await caller.answer()).json == {"said": "hi"}


@each_front
async def test_as_many_headers_as_allowed_are_read_and_one_more_is_not() -> None:
    async with called() as caller:
        names = [f"x-{number}: a" for number in range(routes.HEADERS_MAX - 2)]
        await caller.write(request("hi", *names))
        assert (await caller.answer()).status == 200
        await caller.write(request("hi", *names, *(f"y-{number}: a" for number in range(100))))
        assert (await caller.answer()).code == "malformed_http"


# --- Expect: 100-continue ------------------------------------------------------------------------


@each_front
@pytest.mark.parametrize("target", [CHAT, f"{CHAT}?x"])
async def test_who_waits_to_be_asked_is_asked_for_the_body(target: str) -> None:
    async with called() as caller:
        for _ in range(2):
            head, _, body = request("hi", "Expect: 100-continue", target=target).partition(
                b"\r\n\r\n"
            )
            await caller.write(head + b"\r\n\r\n")
            assert (await caller.head()).first == "HTTP/1.1 100 Continue"
            await caller.write(body)
            assert (await caller.answer()).json == {"said": "hi"}


@each_front
async def test_who_waits_is_refused_before_it_has_sent_its_body() -> None:
    async with called(body_limit_bytes=LIMIT_BYTES) as caller:
        await caller.write(
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            f"Content-Length: {LIMIT_BYTES + 1}\r\n\r\n".encode()
        )
        answer = await caller.answer()
        assert (answer.status, answer.code) == (413, "body_too_large")
        assert answer.headers["connection"] == "close"


@each_front
async def test_who_speaks_http_1_0_is_never_asked() -> None:
    async with called() as caller:
        head, _, body = request("hi", "Expect: 100-continue", version="1.0").partition(b"\r\n\r\n")
        await caller.write(head + b"\r\n\r\n")
        await asyncio.sleep(0.02)
        await caller.write(body)
        assert (await caller.answer()).json == {"said": "hi"}


# --- HTTP/1.0 ------------------------------------------------------------------------------------


@each_front
async def test_http_1_0_ends_with_its_answer() -> None:
    async with called() as caller:
        await caller.write(request("hi", version="1.0"))
        answer = await caller.answer()
        assert (answer.json, answer.headers.get("connection", "close")) == ({"said": "hi"}, "close")
        assert await caller.ended()


@each_front
async def test_http_1_0_is_kept_where_it_asks() -> None:
    async with called() as caller:
        for text in ("one", "two"):
            await caller.write(request(text, "Connection: keep-alive", version="1.0"))
            answer = await caller.answer()
            assert (answer.json, answer.headers["connection"]) == ({"said": text}, "keep-alive")


@each_front
@pytest.mark.parametrize("headers", [(), ("Connection: keep-alive",)])
async def test_a_stream_in_http_1_0_is_not_chunked_and_ends_with_its_connection(
    headers: tuple[str, ...],
) -> None:
    async with called() as caller:
        await caller.write(request("hi", *headers, version="1.0", stream=True))
        answer = await caller.answer()
        assert not answer.headers.keys() & {"transfer-encoding", "content-length"}
        assert answer.body == said("hi") + said(finish_reason="stop") + DONE


# --- deadlines, and the end of a connection ------------------------------------------------------


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port whose callers have little time."""
    monkeypatch.setattr(port, "SWEEP_S", 0.01)
    for module in (port, lane, aiohttp_front):
        monkeypatch.setattr(module, "HEAD_READ_S", 0.15)
    monkeypatch.setattr(lane, "KEEPALIVE_S", 0.3)
    monkeypatch.setitem(aiohttp_front._OPTIONS, "keepalive_timeout", 0.3)


@each_front
@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "begun", [b"", b"P", request()[:40], b"GET /v1/models HT", b"\r\n"], ids=repr
)
async def test_a_head_that_does_not_come_closes_the_connection(begun: bytes) -> None:
    async with called() as caller:
        await caller.write(begun)
        began = time.monotonic()
        assert await caller.ended()
        assert 0.1 < time.monotonic() - began < 1.0


@each_front
@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("sent", [request(), GET_MODELS], ids=["hot", "models"])
@pytest.mark.parametrize("more", [b"", b"POST /v1/ch"], ids=["idle", "half-a-head"])
async def test_an_idle_connection_is_closed_in_the_end(sent: bytes, more: bytes) -> None:
    async with called() as caller:
        for _ in range(2):
            await caller.write(sent)
            assert (await caller.answer()).status == 200
            await asyncio.sleep(0.1)
        await caller.write(more)
        began = time.monotonic()
        assert await caller.ended()
        assert time.monotonic() - began < 1.0


@pytest.mark.usefixtures("hasty", "each_front")
async def test_a_request_that_takes_long_outlives_those_deadlines() -> None:
    async def slow(one: Conversation) -> None:
        await one.request()
        await asyncio.sleep(0.5)
        await one.say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async with called(slow) as caller:
        await caller.write(request())
        assert (await caller.answer()).status == 200


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


async def test_a_refused_caller_that_stays_is_closed_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(port, "SWEEP_S", 0.01)
    monkeypatch.setattr(lane, "LINGER_S", 0.1)
    async with serving() as (gw, _), calling(gw) as caller:
        await caller.write(request() + b"nonsense\r\n\r\n")
        await caller.answer()
        await caller.answer()
        await until(lambda: not gw.plane.public._all())


# --- a caller that leaves ------------------------------------------------------------------------


async def silent(one: Conversation) -> None:
    await one.request()
    await one.gone()
    one.peer.closed += 1


async def halting(one: Conversation) -> None:
    await one.request()
    await one.say(STREAM_HEAD + said("one"))
    await one.gone()
    one.peer.closed += 1


async def flooding(one: Conversation) -> None:
    await one.request()
    await one.say(STREAM_HEAD)
    while True:
        await one.say(said("x" * 10_000))


@each_front
@pytest.mark.parametrize("leaves", ["abort", "close"])
@pytest.mark.parametrize("phase", ["head", "stream", "slow", "ahead"])
async def test_a_caller_that_leaves_takes_its_upstream_along_at_once(
    phase: str, leaves: str
) -> None:
    talk = {"head": silent, "stream": halting, "slow": flooding, "ahead": silent}[phase]
    stream = talk is not silent
    timeouts = {"first_token_ms": 5_000, "idle_ms": 5_000}
    async with (
        peer(talk) as model,
        gateway(
            failover("model"), external("model", model.url.removesuffix("/v1"), timeouts=timeouts)
        ) as gw,
        calling(gw) as caller,
    ):
        await caller.write(request(stream=stream) * (3 if phase == "ahead" else 1))
        if stream:
            await caller.head()
        await until(lambda: len(model.requests) == 1)
        await asyncio.sleep(0.1 if phase == "slow" else 0.03)
        began = time.monotonic()
        if leaves == "abort":
            caller.writer.transport.abort()
        else:
            caller.writer.close()
        await until(lambda: model.closed == 1)
        outcome = await gw.outcome()
        assert time.monotonic() - began < AT_ONCE_S + 0.1
        assert (outcome.caller_left, outcome.model) == (True, "chat")
        assert [one.failure for one in outcome.attempts] == (["cancelled"] if not stream else [""])
        assert len(gw.plane.live) == 0
        assert sum(one.in_flight for one in gw.plane.in_force.signals.values()) == 0
        await asyncio.sleep(0.02)
        assert (len(model.requests), len(gw.outcomes)) == (1, 1)


@each_front
async def test_a_caller_that_leaves_with_half_a_body_is_accounted_for() -> None:
    async with serving() as (gw, model), calling(gw) as caller:
        await caller.write(request()[:-3])
        await until(lambda: len(gw.plane.live) == 1)
        caller.writer.transport.abort()
        assert (await gw.outcome()).caller_left
        assert (len(gw.plane.live), len(model.requests)) == (0, 0)


# --- a caller that reads slowly ------------------------------------------------------------------


@each_front
async def test_a_slow_reader_gets_all_of_a_big_answer_and_holds_up_nobody() -> None:
    async with serving() as (gw, _), calling(gw) as slow, calling(gw) as other:
        text = "x" * 20_000_000
        await slow.write(request(text))
        await asyncio.sleep(0.05)
        await other.write(request("hi"))
        assert (await other.answer()).json == {"said": "hi"}
        head = await slow.head()
        size = int(head.headers["content-length"])
        read = 0
        while read < size:
            read += len(await slow.reader.read(1_000_000))
            await asyncio.sleep(0)
        await slow.write(request("ho"))
        assert (await slow.answer()).json == {"said": "ho"}


async def test_a_caller_that_never_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "SWEEP_S", 0.01)
    monkeypatch.setattr(lane, "STALL_S", 0.1)
    async with serving() as (gw, _), calling(gw) as caller:
        await caller.write(request("x" * 20_000_000))
        outcome = await gw.outcome()
        assert outcome.caller_left
        await until(lambda: len(gw.plane.live) == 0 and not gw.plane.public._all())


# --- a gateway that goes away --------------------------------------------------------------------


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


# --- headers -------------------------------------------------------------------------------------


@each_front
async def test_header_values_that_are_no_utf_8_pass_both_ways() -> None:
    async def talk(one: Conversation) -> None:
        await one.request()
        await one.say(b"HTTP/1.1 200 OK\r\nx-name: caf\xe9\r\nx-utf: caf\xc3\xa9\r\n")
        await one.say(b"content-length: 2\r\n\r\n{}")

    async with serving(talk) as (gw, model), calling(gw) as caller:
        head, _, body = request().partition(b"\r\n\r\n")
        await caller.write(head + b"\r\nX-Mine: na\xefve\r\nX-Utf: caf\xc3\xa9\r\n\r\n" + body)
        data = await caller.reader.readuntil(b"\r\n\r\n")
        assert data.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nx-utf: caf\xc3\xa9\r\n" in data.lower()
        assert b"\r\nx-utf: caf\xc3\xa9\r\n" in model.requests[0].lower()


@each_front
@pytest.mark.parametrize("broken", [b"a\rb: c", b"a\nb: c", b"a\r\n b", b"a\0b"])
async def test_a_line_break_in_an_upstreams_header_reaches_nobody(broken: bytes) -> None:
    async def talk(one: Conversation) -> None:
        await one.request()
        await one.say(b"HTTP/1.1 200 OK\r\nx-name: " + broken + b"\r\ncontent-length: 2\r\n\r\n{}")

    async with called(talk) as caller:
        await caller.write(request())
        answer = await caller.answer()
        assert (answer.status, answer.code) == (502, "upstream_protocol")
        assert not answer.headers.keys() & {"x-name", "b"}


@each_front
async def test_a_body_as_large_as_allowed_comes_in_however_it_is_cut() -> None:
    body = request("x" * 5_000_000)
    async with called() as caller:
        stream = io.BytesIO(body)
        while piece := stream.read(77_777):
            await caller.write(piece)
        assert len((await caller.answer()).json["said"]) == 5_000_000
