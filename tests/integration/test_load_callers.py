"""The callers of the end-to-end tests count whatever goes wrong: no failure escapes them."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from cluster.processes import LOOPBACK, free_port
from e2e.inside.callers import Callers, Habit, JsonObject
from e2e.load import pauses, table
from fakes.gateway import until

TOKENS = 2
WHOLE = b'{"choices": [{"finish_reason": "length"}]}'
EVENT = b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": null}]}\n\n'
LAST = b'data: {"choices": [{"delta": {}, "finish_reason": "length"}]}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = EVENT * TOKENS + LAST + DONE


def plain(body: bytes, *, status: str = "200 OK", length: int | None = None) -> bytes:
    """A response of JSON, of another length than it says if need be."""
    told = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {told}\r\n\r\n"
    return head.encode() + body


def chunked(body: bytes, *, cut: bool = False) -> bytes:
    """A response in chunks, the last of which is missing where it is cut."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head + b"%x\r\n%s\r\n" % (len(body), body) + (b"" if cut else b"0\r\n\r\n")


@asynccontextmanager
async def answering(response: bytes) -> AsyncGenerator[str]:
    """A server that answers every request with these bytes, and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-len"))
        await reader.readexactly(int(next(lengths).partition(b":")[2]))
        writer.write(response)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, LOOPBACK, 0) as server:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"


async def calling(url: str, *, stream: bool, kept: bool = False) -> JsonObject:
    """What one caller says of its only step, after two requests or more."""
    habit = Habit("one", callers=1, tokens=TOKENS, stream=stream, kept=kept, pause_s=0.01)
    callers = Callers(url, "any", time.monotonic, habits=[habit])
    callers.begin()
    # A failure must not be a caller's last: the others would go uncounted.
    await until(lambda: callers.steps[0].requests >= 2)
    (step,) = (await callers.end())["steps"]
    return dict(step)


@pytest.mark.parametrize(
    ("response", "stream"),
    [(plain(WHOLE), False), (chunked(STREAM), True)],
    ids=["a whole answer", "a stream"],
)
async def test_what_is_complete_is_no_failure(response: bytes, *, stream: bool) -> None:
    async with answering(response) as url:
        step = await calling(url, stream=stream)
    assert (step["failed"], step["failures"]) == (0, [])
    assert step["streams"] == (step["requests"] if stream else 0)


@pytest.mark.parametrize(
    ("response", "stream", "told"),
    [
        (plain(b"no", status="500 Oh"), False, "500 no"),
        (plain(b"no", status="500 Oh"), True, "500 no"),
        (plain(WHOLE, length=1000), False, "Payload"),
        (plain(b'{"choices": ['), False, "JSONDecodeError"),
        (plain(b"\xff\xff"), False, "UnicodeDecodeError"),
        (plain(b"[]"), False, "TypeError"),
        (plain(b"{}"), False, "KeyError"),
        (plain(b'{"choices": []}'), False, "IndexError"),
        (plain(WHOLE.replace(b"length", b"stop")), False, "not complete"),
        (b"", False, "ServerDisconnected"),
        (b"nonsense\r\n\r\n", False, "Bad"),
        (chunked(EVENT, cut=True), True, "Payload"),
        (chunked(STREAM, cut=True), True, "Payload"),
        (chunked(EVENT * TOKENS + LAST), True, "ended after 2 tokens of 2"),
        (chunked(EVENT * TOKENS + DONE), True, "ended after 2 tokens of 2"),
        (chunked(EVENT + LAST + DONE), True, "ended after 1 tokens of 2"),
        (chunked(STREAM + EVENT), True, "more after the end"),
        (chunked(b'data: {"error": "oh"}\n\n' + STREAM), True, "after 0 tokens: oh"),
        (chunked(b"data: {no\n\n" + STREAM), True, "JSONDecodeError"),
        (chunked(b'data: {"choices": [{"delta": []}]}\n\n' + STREAM), True, "KeyError"),
        (chunked(EVENT.replace(b'{"content": "a"}', b"[]") + STREAM), True, "AttributeError"),
    ],
)
async def test_what_is_not_complete_is_a_failure(
    response: bytes, *, stream: bool, told: str
) -> None:
    async with answering(response) as url:
        step = await calling(url, stream=stream)
    assert step["failed"] == step["requests"] == len(step["failures"])
    assert all(told in text for text in step["failures"]), step["failures"]


async def test_a_refused_connection_is_a_failure() -> None:
    step = await calling(f"http://{LOOPBACK}:{free_port()}", stream=False)
    assert step["failed"] == step["requests"]
    assert "Connect" in step["failures"][0]


@pytest.mark.parametrize("kept", [True, False])
async def test_a_stream_keeps_its_connection_when_it_should(*, kept: bool) -> None:
    connections = list[object]()

    async def answer(request: web.Request) -> web.StreamResponse:
        connections.append(request.transport)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(STREAM)
        return response

    app = web.Application()
    app.add_routes([web.post("/chat/completions", answer)])
    async with served(app) as url:
        step = await calling(url, stream=True, kept=kept)
    assert step["failures"] == []
    assert len(set(map(id, connections))) == (1 if kept else step["requests"])


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, LOOPBACK, port).start()
    try:
        yield f"http://{LOOPBACK}:{port}"
    finally:
        await runner.cleanup()


async def test_a_request_that_outlasts_the_load_is_counted_and_is_no_gap_of_it() -> None:
    release = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response(body=WHOLE, content_type="application/json")

    app = web.Application()
    app.add_routes([web.post("/chat/completions", answer)])
    habit = Habit("one", callers=1, tokens=TOKENS, stream=False, kept=True)
    async with served(app) as url:
        now_s = 0.0
        callers = Callers(url, "any", lambda: now_s, habits=[habit])
        callers.begin()
        now_s = 2.0
        ending = asyncio.create_task(callers.end())
        await asyncio.sleep(0)
        now_s = 9.0
        release.set()
        (step,) = (await ending)["steps"]
    assert (step["requests"], step["failed"], step["seconds"], step["gap_s"]) == (1, 0, 2.0, 0.0)


@pytest.mark.parametrize(("expected", "failed"), [(200, 1), (500, 0)])
async def test_a_single_request_is_counted_too(expected: int, failed: int) -> None:
    callers = Callers("", "any", time.monotonic, habits=[])
    callers.begin()
    async with answering(plain(b"no", status="500 Oh")) as url:
        said = {"url": url, "body": {}, "headers": {}, "expected": expected}
        found = await callers.ask(said)
    (step,) = (await callers.end())["steps"]
    assert (found["status"], found["text"]) == (500, "no")
    assert (step["asked"], step["failed"]) == (1, failed)


def stepped(name: str, requests: int, *, seconds: float = 10.0, gap_s: float = 0.1) -> JsonObject:
    times = {"p50": 1.0, "p99": 2.0}
    return {
        "name": name,
        "seconds": seconds,
        "requests": requests,
        "streams": requests // 2,
        "asked": 1,
        "failed": 0,
        "gap_s": gap_s,
        "slowest": [],
        "answered_ms": times,
        "first_token_ms": times,
    }


def test_a_step_that_asks_for_less_or_not_at_all_is_a_pause() -> None:
    # The first step ends with the first edit, before its third request, the one that streams.
    usual = [stepped("start", 300), stepped("short", 1, seconds=0.1)]
    assert pauses({"steps": usual}) == []
    slow, gap = stepped("slow", 60), stepped("gap", 300, gap_s=30.0)
    none, silent = stepped("none", 0, seconds=1.0), {**stepped("silent", 300), "streams": 0}
    names = [
        text.partition(":")[0] for text in pauses({"steps": [*usual, slow, gap, none, silent]})
    ]
    assert names == ["slow", "gap", "none", "silent"]


def test_the_table_has_a_line_for_each_step_and_their_sum() -> None:
    lines = table({"steps": [stepped("start", 300), stepped("upgrade", 100)]}, ["a note"])
    assert [line.split()[:3] for line in lines.splitlines()[1:4]] == [
        ["start", "10", "300"],
        ["upgrade", "10", "100"],
        ["all", "20", "400"],
    ]
