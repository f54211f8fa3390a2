"""Through real sockets: what a caller may send, and how it is told what is wrong with it."""

import asyncio
from typing import Any

import openai
import pytest

from fakes.gateway import (
    CHAT,
    HELLO,
    Reply,
    chat,
    external,
    failover,
    fakes,
    gateway,
    http,
    read_request,
    scripted,
    until,
)
from switchboard_dataplane.front.routes import Patience

pytestmark = pytest.mark.usefixtures("each_front")

NOBODY = "http://127.0.0.1:9"
TEXT = "/v1/completions"
EMBED = "/v1/embeddings"
M = {"model": "chat"}
P0 = "messages[0].content"
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}


JSON, TYPE, VALUE = "invalid_json", "invalid_type", "invalid_value"
MISSING = "missing_required_parameter"


def talk(messages: object) -> dict[str, object]:
    return {"model": "chat", "messages": messages}


def user(said: object) -> dict[str, object]:
    return talk([{"role": "user", "content": said}])


def content(*parts: object) -> dict[str, object]:
    return user(list(parts))


BAD_BODIES: list[tuple[str, str, object, str | None, str, str]] = [
    # name, path, body, param, code, a piece of the message
    ("empty", CHAT, b"", None, JSON, "the body is empty"),
    ("spaces", CHAT, b"   ", None, JSON, "not JSON"),
    ("text", CHAT, b"hello", None, JSON, "line 1, column 1"),
    ("half", CHAT, b'{"model": "chat"', None, JSON, "not JSON"),
    ("trailing", CHAT, b'{"model": "chat"} x', None, JSON, "not JSON"),
    ("trailing-comma", CHAT, b'{"model": "chat",}', None, JSON, "not JSON"),
    ("single-quotes", CHAT, b"{'model': 'chat'}", None, JSON, "not JSON"),
    ("comment", CHAT, b'{"model": "chat"} // hi', None, JSON, "not JSON"),
    ("two-objects", CHAT, b"{}{}", None, JSON, "not JSON"),
    ("nan", CHAT, b'{"temperature": NaN}', None, JSON, "not JSON"),
    ("control", CHAT, b'{"model": "a\nb"}', None, JSON, "not JSON"),
    ("bom", CHAT, b'\xef\xbb\xbf{"model": "chat"}', None, JSON, "not JSON"),
    ("latin-1", CHAT, b'{"model": "caf\xe9"}', None, JSON, "byte 14 is 0xe9"),
    ("overlong", CHAT, b'{"model": "\xc0\xaf"}', None, JSON, "not UTF-8"),
    ("utf-16", CHAT, '{"model": "chat"}'.encode("utf-16"), None, JSON, "not UTF-8"),
    ("surrogate", CHAT, b'{"model": "\\ud800"}', None, JSON, "not JSON"),
    ("cut-escape", CHAT, b'{"model": "\\u00', None, JSON, "not JSON"),
    ("deep", CHAT, b'{"a":' * 5000 + b"1" + b"}" * 5000, None, JSON, "not JSON"),
    ("deep-array", CHAT, b"[" * 100_000, None, JSON, "not JSON"),
    ("null", CHAT, b"null", None, JSON, "the body is null"),
    ("array", CHAT, b"[]", None, JSON, "an empty array"),
    ("number", CHAT, b"7", None, JSON, "the number 7"),
    ("string", CHAT, b'"hi"', None, JSON, "the string 'hi'"),
    ("true", CHAT, b"true", None, JSON, "the body is true"),
    ("no-model", CHAT, {"messages": HELLO}, "model", MISSING, "GET /v1/models"),
    ("model-null", CHAT, chat(model=None), "model", MISSING, "is missing"),
    ("model-number", CHAT, chat(model=7), "model", TYPE, "the number 7; send a string"),
    ("model-list", CHAT, chat(model=["chat"]), "model", TYPE, "an array"),
    ("model-empty", CHAT, chat(model=""), "model", VALUE, "an empty string"),
    ("model-long", CHAT, chat(model="m" * 257), "model", VALUE, "1..256"),
    ("no-messages", CHAT, {"model": "chat"}, "messages", MISSING, "messages"),
    ("messages-null", CHAT, talk(None), "messages", MISSING, ""),
    ("messages-text", CHAT, talk("hi"), "messages", TYPE, "'hi'"),
    ("messages-object", CHAT, talk({}), "messages", TYPE, "an object"),
    ("messages-empty", CHAT, talk([]), "messages", VALUE, "at least one"),
    ("message-text", CHAT, talk(["hi"]), "messages[0]", TYPE, "role"),
    ("message-null", CHAT, talk([*HELLO, None]), "messages[1]", TYPE, "null"),
    ("no-role", CHAT, talk([{"content": "x"}]), "messages[0].role", MISSING, "user"),
    ("role-number", CHAT, talk([{"role": 1}]), "messages[0].role", TYPE, "the number 1"),
    ("content-number", CHAT, user(1), P0, TYPE, "content parts"),
    ("content-object", CHAT, user({}), P0, TYPE, "an object"),
    ("part-number", CHAT, content(1), P0 + "[0]", TYPE, "the number 1"),
    ("part-null", CHAT, content(IMAGE, None), P0 + "[1]", TYPE, "null"),
    ("part-no-type", CHAT, content({}), P0 + "[0].type", MISSING, "image_url"),
    ("part-type", CHAT, content({"type": 3}), P0 + "[0].type", TYPE, "the number 3"),
    ("part-text", CHAT, content({"type": "text", "text": 3}),
     P0 + "[0].text", TYPE, "send a string"),
    ("part-no-text", CHAT, content({"type": "text"}), P0 + "[0].text", TYPE, "null"),
    ("stream-text", CHAT, chat(stream="yes"), "stream", TYPE, "'yes'; send true or false"),
    ("stream-number", CHAT, chat(stream=1), "stream", TYPE, "the number 1"),
    ("options-list", CHAT, chat(stream_options=[]),
     "stream_options", TYPE, "an empty array; send an object"),
    ("usage-text", CHAT, chat(stream_options={"include_usage": "no"}),
     "stream_options.include_usage", TYPE, "'no'"),
    ("max-text", CHAT, chat(max_tokens="9"), "max_tokens", TYPE, "'9'"),
    ("max-true", CHAT, chat(max_tokens=True), "max_tokens", TYPE, "is true"),
    ("max-half", CHAT, chat(max_tokens=0.5), "max_tokens", TYPE, "the number 0.5"),
    ("max-negative", CHAT, chat(max_tokens=-1),
     "max_tokens", VALUE, "-1; send a whole number in 0..2147483647"),
    ("max-huge", CHAT, chat(max_completion_tokens=2**40),
     "max_completion_tokens", VALUE, "2147483647"),
    ("max-beyond", CHAT, b'{"model":"chat","messages":[{"role":"user"}],"max_tokens":1e400}',
     None, JSON, ""),
    ("tools-object", CHAT, chat(tools={}), "tools", TYPE, "an object; send an array"),
    ("functions-text", CHAT, chat(functions="f"), "functions", TYPE, "send an array"),
    ("format-text", CHAT, chat(response_format="json"),
     "response_format", TYPE, "'json'; send an object"),
    ("format-type", CHAT, chat(response_format={"type": 1}),
     "response_format.type", TYPE, "the number 1"),
    ("user-number", CHAT, chat(user=1), "user", TYPE, "send a string"),
    ("metadata-list", CHAT, chat(metadata=[1]), "metadata", TYPE, "an array"),
    ("metadata-value", CHAT, chat(metadata={"team": 1}), "metadata.team", TYPE, "the number 1"),
    ("prompt-number", TEXT, {**M, "prompt": 1}, "prompt", TYPE, "token ids"),
    ("prompt-empty", TEXT, {**M, "prompt": []}, "prompt", VALUE, "at least one element"),
    ("prompt-mixed", TEXT, {**M, "prompt": ["a", 1]}, "prompt[1]", TYPE, "one kind"),
    ("prompt-null-in", TEXT, {**M, "prompt": ["a", None]}, "prompt[1]", TYPE, "null"),
    ("prompt-halves", TEXT, {**M, "prompt": [1, 2.5]}, "prompt[1]", TYPE, "2.5"),
    ("prompt-bools", TEXT, {**M, "prompt": [True]}, "prompt[0]", TYPE, "true"),
    ("prompt-nested", TEXT, {**M, "prompt": [[1], ["a"]]}, "prompt[1]", TYPE, "token ids"),
    ("prompt-nested-empty", TEXT, {**M, "prompt": [[]]}, "prompt[0]", TYPE, "an empty array"),
    ("no-input", EMBED, {"model": "chat"}, "input", MISSING, "input is missing"),
    ("input-object", EMBED, {**M, "input": {}}, "input", TYPE, "an object"),
    ("input-empty", EMBED, {**M, "input": []}, "input", VALUE, "at least one"),
]  # fmt: skip

BAD_HEADERS = [
    ("deadline-text", "x-switchboard-deadline-ms", "soon", "'soon'; send a whole number"),
    ("deadline-zero", "x-switchboard-deadline-ms", "0", "1..3600000"),
    ("deadline-negative", "x-switchboard-deadline-ms", "-5", "'-5'"),
    ("deadline-half", "x-switchboard-deadline-ms", "1.5", "'1.5'"),
    ("deadline-huge", "x-switchboard-deadline-ms", "9" * 12, "1..3600000"),
    ("deadline-arabic", "x-switchboard-deadline-ms", "\u0665\u0660", "send a whole number"),
    ("tag-space", "x-switchboard-tags", "a b", "'a b'"),
    ("tag-symbol", "x-switchboard-tags", "ok,$", "'$'"),
    ("tag-long", "x-switchboard-tags", "t" * 64, "at most 63"),
    ("tag-many", "x-switchboard-tags", ",".join("t" * 33), "33 tags; send at most 32"),
    ("session-long", "x-switchboard-session", "s" * 257, "at most 256"),
]


def check(reply: Reply, param: str | None, code: str, piece: str, status: int = 400) -> None:
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    assert (reply.error["param"], reply.error["code"]) == (param, code)
    assert piece in reply.error["message"]
    assert len(reply.error["message"]) < 600
    assert reply.error["type"] == "invalid_request_error"
    assert reply.headers["x-switchboard-reason"] == code


@pytest.mark.parametrize(
    ("path", "body", "param", "code", "piece"),
    [case[1:] for case in BAD_BODIES],
    ids=[case[0] for case in BAD_BODIES],
)
async def test_a_bad_body_is_told_by_field_value_and_fix(
    path: str, body: object, param: str | None, code: str, piece: str
) -> None:
    async with gateway(failover("model"), external("model", NOBODY)) as gw:
        check(await gw.send(body, path), param, code, piece)
        outcome = await gw.outcome()
        assert (outcome.error, outcome.attempts, outcome.status) == (code, (), 400)


@pytest.mark.parametrize(
    ("header", "value", "piece"),
    [case[1:] for case in BAD_HEADERS],
    ids=[case[0] for case in BAD_HEADERS],
)
async def test_a_bad_hint_is_told_by_header(header: str, value: str, piece: str) -> None:
    async with gateway(failover("model"), external("model", NOBODY)) as gw:
        check(await gw.send(chat(), **{header: value}), header, "invalid_value", piece)


async def rest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The body of an error, and the end of its connection."""
    body = await reader.readuntil(b"}}")
    # aiohttp waits ten seconds for the body that it has refused, or for the caller's end.
    writer.write_eof()
    assert await reader.read() == b""
    return body


async def test_a_body_beyond_the_limit_is_refused_before_it_is_read() -> None:
    async with gateway(failover("model"), external("model", NOBODY), body_limit_bytes=1000) as gw:
        reader, writer = await asyncio.open_connection("127.0.0.1", gw.plane.port)
        writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 413 " in head
        assert b"connection: close" in head.lower()
        assert b"body_too_large" in await rest(reader, writer)
        writer.close()


async def test_a_chunked_body_beyond_the_limit_is_refused() -> None:
    async with gateway(failover("model"), external("model", NOBODY), body_limit_bytes=1000) as gw:

        async def pieces() -> Any:
            for _ in range(11):
                yield b"x" * 100

        async with gw.session.post(gw.url + CHAT, data=pieces()) as response:
            assert response.status == 413


async def test_a_body_of_the_limit_passes() -> None:
    body = b'{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
    async with (
        fakes({}) as (model,),
        gateway(failover("model"), external("model", model.url), body_limit_bytes=len(body)) as gw,
    ):
        assert (await gw.send(body)).status == 200


async def test_a_large_body_reaches_the_upstream_whole() -> None:
    async with (
        fakes({}) as (model,),
        gateway(failover("model"), external("model", model.url)) as gw,
    ):
        assert (await gw.send(chat("x" * 5_000_000))).status == 200


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    hasty = Patience(body_s=0.1)
    async with gateway(failover("model"), external("model", NOBODY), patience=hasty) as gw:
        reader, writer = await asyncio.open_connection("127.0.0.1", gw.plane.port)
        writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 408 " in head
        assert b"body_timeout" in await rest(reader, writer)
        writer.close()


async def test_a_caller_that_leaves_before_its_body_is_accounted_for() -> None:
    async with gateway(failover("model"), external("model", NOBODY)) as gw:
        _, writer = await asyncio.open_connection("127.0.0.1", gw.plane.port)
        writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{{".encode())
        await until(lambda: len(gw.plane.live) == 1)
        writer.transport.abort()
        outcome = await gw.outcome()
        assert (outcome.caller_left, outcome.attempts) == (True, ())
        assert len(gw.plane.live) == 0


async def test_a_compressed_body_is_refused() -> None:
    async with gateway(failover("model"), external("model", NOBODY)) as gw:
        reply = await gw.send(b"\x1f\x8b\x00", content_encoding="gzip")
        check(reply, "content-encoding", "invalid_value", "send it as it is")


BAD_HEADS = [
    "Content-Length: 1\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 1",
    "Content-Length: 1\r\nContent-Length: 2",
    "Content-Length: +1",
    "Content-Length: 1, 1",
    "Content-Length: 9999999999999999999999",
    "Transfer-Encoding: gzip",
    "Transfer-Encoding: chunked, identity",
    "X-Folded: a\r\n b",
    "X-Bare: a\rb",
    "X-Nul: a\0b",
    "X Space: a",
    "X-Space : a",
    ": nameless",
]


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 70_000 + b"\r\n\r\n",
        b"POST /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(200)) + b"\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        *(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() for head in BAD_HEADS),
    ],
)
async def test_malformed_http_is_told_in_the_same_shape(raw: bytes) -> None:
    async with gateway(failover("model"), external("model", NOBODY)) as gw:
        reader, writer = await asyncio.open_connection("127.0.0.1", gw.plane.port)
        writer.write(raw)
        answer = await reader.read()
        assert b" 400 " in answer.partition(b"\r\n")[0]
        assert b'"code":"malformed_http"' in answer
        writer.close()
        assert (await gw.get("/v1/models")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", CHAT, 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/", 404, "unknown_url"),
        ("POST", "/v1/responses", 404, "unknown_url"),
        ("GET", "/metrics", 404, "unknown_url"),
    ],
)
async def test_what_is_not_served_is_told(method: str, path: str, status: int, code: str) -> None:
    async with gateway(failover("model"), external("model", NOBODY)) as gw:
        reply = await gw.send(chat(), path, method=method)
        assert (reply.status, reply.error["code"]) == (status, code)


async def test_a_model_that_nobody_answers_for_is_told() -> None:
    async with gateway(failover("model"), external("model", NOBODY)) as gw:
        reply = await gw.send(chat() | {"model": "nope"})
        assert (reply.status, reply.error["code"], reply.error["param"]) == (
            404,
            "model_not_found",
            "model",
        )


async def test_models_are_listed_by_their_exact_names() -> None:
    entry = failover("model", models=("small", "big", "gpt-*"))
    async with gateway(entry, external("model", NOBODY)) as gw:
        reply = await gw.get("/v1/models")
        assert reply.json["object"] == "list"
        assert [one["id"] for one in reply.json["data"]] == ["big", "small"]
        assert (await gw.get("/v1/models/small")).json["object"] == "model"
        assert (await gw.get("/v1/models/gpt-4o/mini")).json["id"] == "gpt-4o/mini"
        assert (await gw.get("/v1/models/none")).error["code"] == "model_not_found"


async def test_the_callers_headers_are_clean_when_they_reach_the_upstream() -> None:
    async with (
        fakes({}) as (model,),
        gateway(failover("model"), external("model", model.url)) as gw,
    ):
        await gw.send(
            chat(),
            authorization="Bearer caller",
            cookie="a=b",
            x_api_key="caller",
            api_key="caller",
            openai_organization="org",
            x_switchboard_tags="code",
            x_switchboard_anything="x",
            connection="keep-alive, x-private",
            x_private="1",
            te="trailers",
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            x_request_id="r1",
            accept_encoding="gzip",
            user_agent="caller/1",
        )
        seen = {
            name.lower(): value for name, value in model.engine.records.last(1)[0].headers.items()
        }
        sent = dict(seen)
        assert sent.pop("host").startswith("127.0.0.1")
        assert sent.pop("content-length")
        assert sent == {
            "accept": "*/*",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "user-agent": "caller/1",
            "x-request-id": "r1",
        }


async def test_the_upstreams_headers_are_clean_when_they_reach_the_caller() -> None:
    answer = http(
        200,
        b"{}",
        "server: secret/1",
        "set-cookie: a=b",
        "x-switchboard-backend: forged",
        "x-private: 1",
        "x-request-id: r1",
        "alt-svc: h3",
    ).replace(b"connection: close", b"connection: close, x-private")
    async with (
        scripted(answer) as model,
        gateway(failover("model"), external("model", model.url)) as gw,
    ):
        headers = (await gw.send(chat())).headers
        assert headers["x-switchboard-backend"] == "ai/model"
        assert headers["x-request-id"] == "r1"
        assert not headers.keys() & {"set-cookie", "x-private", "alt-svc"}
        assert "secret" not in headers.get("server", "")


async def test_the_detail_headers_say_how_it_was_routed_and_can_be_switched_off() -> None:
    async with fakes({}) as (model,):
        entries = (failover("model"), external("model", model.url))
        async with gateway(*entries) as gw:
            said = (await gw.send(chat())).headers
            assert {key: value for key, value in said.items() if key.startswith("x-switch")} == {
                "x-switchboard-backend": "ai/model",
                "x-switchboard-rule": "default",
                "x-switchboard-tier": "tier-0",
                "x-switchboard-attempts": "1",
                "x-switchboard-revision": str(gw.plane.in_force.revision),
                "x-switchboard-reason": "primary",
            }
        async with gateway(*entries, detail_headers=False) as gw:
            for body in (chat(), chat(stream=True), b"bad"):
                headers = (await gw.send(body)).headers
                assert not [name for name in headers if name.startswith("x-switchboard")]


async def test_a_header_that_is_no_utf_8_breaks_nothing() -> None:
    async with (
        fakes({}) as (model,),
        gateway(failover("model"), external("model", model.url)) as gw,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", gw.plane.port)
        body = b'{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
        writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode())
        writer.write(b"X-Name: caf\xe9\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert b" 200 " in (await reader.read()).partition(b"\r\n")[0]
        writer.close()


async def test_the_callers_bytes_reach_the_upstream_but_for_the_model() -> None:
    body = (
        b'{ "messages":[{"role":"user","content":"\\u0068i \\"model\\": 1"}],"seed":1.0,\n'
        b' "metadata":{"model":"x"},"\\u006dodel" : "chat", "temperature":0.10 }'
    )
    async with (
        scripted(http(200, b"{}")) as model,
        gateway(failover("model"), external("model", model.url)) as gw,
    ):
        assert (await gw.send(body)).status == 200
        sent = model.seen[0].partition(b"\r\n\r\n")[2]
        assert sent == body.replace(b'"\\u006dodel" : "chat"', b'"\\u006dodel" : "fake-model"')


async def test_requests_on_one_connection_do_not_disturb_each_other() -> None:
    # Two hundred connections at once take a busy machine longer than a caller would wait for one.
    patient = {"connect_ms": 5_000, "total_ms": 30_000}
    async with (
        fakes({}) as (model,),
        gateway(failover("model"), external("model", model.url, timeouts=patient)) as gw,
    ):
        for _ in range(3):
            assert (await gw.send(b"bad")).status == 400
            assert (await gw.send(chat())).status == 200
        replies = await asyncio.gather(*(gw.send(chat(f"n{n}")) for n in range(200)))
        assert {reply.status for reply in replies} == {200}


async def test_openais_own_client_is_served() -> None:
    async with (
        fakes({"answer_text": "one two three"}) as (model,),
        gateway(failover("model"), external("model", model.url)) as gw,
        openai.AsyncOpenAI(base_url=f"{gw.url}/v1", api_key="caller", max_retries=0) as client,
    ):
        messages: Any = HELLO
        whole = await client.chat.completions.create(model="chat", messages=messages)
        assert whole.choices[0].message.content == "one two three"
        stream = await client.chat.completions.create(model="chat", messages=messages, stream=True)
        pieces = [one.choices[0].delta.content or "" async for one in stream]
        assert "".join(pieces) == "one two three"
        vectors = await client.embeddings.create(model="chat", input=["a", "b"])
        assert len(vectors.data) == 2
        assert [one.id async for one in client.models.list()] == ["chat"]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="chat", messages=[])
        assert refused.value.param == "messages"
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="none", messages=messages)


async def test_the_read_of_a_request_is_the_whole_of_it() -> None:
    """The scripted upstream of these tests reads what it is sent: guard the guard."""
    reader = asyncio.StreamReader()
    reader.feed_data(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")
    assert (await read_request(reader)).endswith(b"\r\n\r\nhi")
