"""Requests to upstreams and their answers: what is said arrives, and what breaks is told."""

import asyncio

import pytest

from fakes.upstream_phases import BIG
from fakes.upstreams import (
    ANSWER,
    SIZED_HEAD,
    Conversation,
    answering,
    ask,
    body_of,
    endpoint_at,
    keep_answering,
    peer,
    post,
)
from fakes.virtual_time import now_s
from switchboard_dataplane.errors import UpstreamConnect, UpstreamError, UpstreamReset
from switchboard_dataplane.upstream.transport import Upstream


async def test_a_request_arrives_as_it_was_said_and_its_answer_comes_back(
    upstream: Upstream,
) -> None:
    answer = (
        b"HTTP/1.1 429 Slow down\r\nX-Upper: A\r\nX-Twice: 1\r\nX-Twice: 2\r\n"
        b"Content-Type: Application/JSON; charset=utf-8\r\nContent-Length: 4\r\n\r\nbody"
    )
    async with peer(answering(answer)) as model:
        headers = [("x-name", "caf\u00e9"), ("content-type", "application/json")]
        response = await post(upstream, endpoint_at(model.url), b'{"a":1}', headers=headers)
        assert (response.status, response.media_type) == (429, "application/json")
        assert [pair for pair in response.headers if pair[0] != "content-type"] == [
            ("x-upper", "A"),
            ("x-twice", "1"),
            ("x-twice", "2"),
            ("content-length", "4"),
        ]
        assert await body_of(response) == b"body"
        head, _, body = model.requests[0].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /v1/chat/completions HTTP/1.1"
        said = dict(line.lower().split(b": ", 1) for line in lines[1:])
        assert said[b"host"] == f"127.0.0.1:{model.port}".encode()
        assert (said[b"x-name"], said[b"content-length"]) == ("caf\u00e9".encode(), b"7")
        assert body == b'{"a":1}'
        assert not said.keys() & {b"user-agent", b"accept", b"cookie", b"transfer-encoding"}


async def test_the_host_of_a_service_is_its_name(upstream: Upstream) -> None:
    async with peer(answering(ANSWER)) as model:
        await body_of(await post(upstream, endpoint_at(model.url, host="llm.ai.svc:8000")))
        assert b"\r\nhost: llm.ai.svc:8000\r\n" in model.requests[0].lower()
        assert model.requests[0].lower().count(b"\r\nhost:") == 1


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nx: y", "a\r\n\r\nPOST / HTTP/1.1", "a\r"])
async def test_a_line_break_in_a_header_goes_nowhere(ours: Upstream, value: str) -> None:
    async with peer(keep_answering) as model:
        with pytest.raises(UpstreamConnect):
            await post(ours, endpoint_at(model.url), headers=[("x-name", value)])
        assert model.accepted == 0


# --- answers -------------------------------------------------------------------------------------


ANSWERS = {
    "sized": SIZED_HEAD % 5 + b"whole",
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"2\r\nwh\r\n3;x=y\r\nole\r\n0\r\nx-sum: 1\r\n\r\n",
    "to-the-end": b"HTTP/1.1 200 OK\r\n\r\nwhole",
    "old": b"HTTP/1.0 200 OK\r\n\r\nwhole",
    "after-interim": b"HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 103 Hint\r\nlink: x\r\n\r\n"
    + SIZED_HEAD % 5
    + b"whole",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_a_body_is_read_in_all_its_framings(upstream: Upstream, answer: bytes) -> None:
    async with peer(answering(answer)) as model:
        response = await post(upstream, endpoint_at(model.url))
        assert (response.status, await body_of(response)) == (200, b"whole")


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("has_room", [True, False])
async def test_a_body_is_poured_in_all_its_framings(
    upstream: Upstream, answer: bytes, has_room: bool
) -> None:
    poured: list[bytes] = []

    def take(piece: bytes) -> bool:
        poured.append(piece)
        return has_room

    async def ready() -> None:
        assert not has_room
        await asyncio.sleep(0)

    async with peer(answering(answer)) as model:
        response = await post(upstream, endpoint_at(model.url))
        await response.pour(take, ready)
        response.close()
        assert b"".join(poured) == b"whole"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param((), id="nothing"),
        pytest.param((b"HTTP/1.1 200",), id="half-a-head"),
        pytest.param((SIZED_HEAD % 5 + b"who",), id="half-a-body"),
        pytest.param(
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nwho",), id="half-a-chunk"
        ),
    ],
)
@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
async def test_an_answer_that_breaks_off_is_a_reset(
    upstream: Upstream, script: tuple[bytes, ...], reset: bool
) -> None:
    async def talk(one: Conversation) -> None:
        await one.request()
        await one.say(*script)
        if reset:
            await asyncio.sleep(0.02)
            one.writer.transport.abort()

    async with peer(talk) as model:
        with pytest.raises(UpstreamReset):
            await body_of(await post(upstream, endpoint_at(model.url)))
        assert model.accepted == 1


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n"])
async def test_what_is_no_http_is_a_failure_of_the_upstream(
    upstream: Upstream, answer: bytes
) -> None:
    async with peer(answering(answer)) as model:
        with pytest.raises(UpstreamError) as failure:
            await post(upstream, endpoint_at(model.url))
        assert failure.value.failure == "protocol"


async def test_an_upstream_that_refuses_a_big_body_unread_is_heard(ours: Upstream) -> None:
    async def refuse(one: Conversation) -> None:
        await one.reader.readuntil(b"\r\n\r\n")
        await one.say(b"HTTP/1.1 413 Too much\r\ncontent-length: 2\r\n\r\nno")
        await asyncio.sleep(5)

    async with peer(refuse) as model:
        begun = now_s()
        response = await post(ours, endpoint_at(model.url), BIG)
        assert (response.status, await body_of(response)) == (413, b"no")
        assert now_s() - begun < 1.0


async def test_an_upstream_that_ends_the_connection_unread_is_a_reset(ours: Upstream) -> None:
    async def end(one: Conversation) -> None:
        one.writer.write_eof()
        await asyncio.sleep(5)

    async with peer(end) as model:
        begun = now_s()
        with pytest.raises(UpstreamReset):
            await ask(ours, model, BIG)
        assert now_s() - begun < 1.0


# --- much at once --------------------------------------------------------------------------------


async def test_big_bodies_go_both_ways(upstream: Upstream) -> None:
    async def echo(one: Conversation) -> None:
        request = await one.request()
        body = request.partition(b"\r\n\r\n")[2]
        await one.say(SIZED_HEAD % len(body), body)
        await one.gone()

    async with peer(echo) as model:
        assert await body_of(await post(upstream, endpoint_at(model.url), BIG)) == BIG


async def test_a_reader_that_waits_holds_up_its_own_upstream_and_nobody_else(
    upstream: Upstream,
) -> None:
    async def flood(one: Conversation) -> None:
        await one.request()
        await one.say(SIZED_HEAD % (2 * len(BIG)))
        for start in range(0, 2 * len(BIG), 65_536):
            await one.say(BIG[start % len(BIG) :][:65_536])
        await one.gone()

    async with peer(flood) as slow, peer(keep_answering) as other:
        response = await post(upstream, endpoint_at(slow.url))
        first = await response.read()
        for _ in range(10):
            await ask(upstream, other)
        await asyncio.sleep(0.05)
        held = slow.said_bytes
        assert held < len(BIG)
        await asyncio.sleep(0.05)
        assert slow.said_bytes == held
        assert len(first) + len(await body_of(response)) == 2 * len(BIG)
