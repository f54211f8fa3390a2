"""What the public port reads as HTTP/1.1 and HTTP/1.0, byte for byte, on both of its forms."""

import asyncio
import io

import orjson
import pytest

from fakes.echoing_gateway import GET_MODELS, LIMIT_BYTES, called, serving
from fakes.gateway import CHAT, DONE, external, failover, gateway, said
from fakes.raw_caller import calling, request
from fakes.upstreams import Conversation
from switchboard_dataplane.front import routes

each_front = pytest.mark.usefixtures("each_front")

NOBODY = "http://127.0.0.1:9"


# --- requests ------------------------------------------------------------------------------------


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


@each_front
async def test_a_body_as_large_as_allowed_comes_in_however_it_is_cut() -> None:
    body = request("x" * 5_000_000)
    async with called() as caller:
        stream = io.BytesIO(body)
        while piece := stream.read(77_777):
            await caller.write(piece)
        assert len((await caller.answer()).json["said"]) == 5_000_000


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
