"""Every fault over a real socket: what the caller sees, and that it is the only one struck."""

import asyncio
import time
from email.utils import parsedate_to_datetime

import aiohttp
import orjson
import pytest

from fakes.virtual_time import now_s
from unit.fake_model.caller import Fake, StartFake, ask

_BROKEN = (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503, 529])
async def test_the_next_requests_get_a_status(start_fake: StartFake, status: int) -> None:
    fake = await start_fake(faults=[{"kind": "status", "status": status, "count": 2}])
    replies = [await fake.chat(), await fake.chat(stream=True), await fake.chat()]
    assert [reply.status for reply in replies] == [status, status, 200]
    assert set(replies[0].json["error"]) == {"message", "type", "param", "code"}
    assert "retry-after" not in replies[0].headers
    assert (await fake.counters())["errors"] == 2


async def test_a_rate_limit_reads_like_openais(start_fake: StartFake) -> None:
    fake = await start_fake(faults=[{"kind": "status", "status": 429}])
    assert (await fake.chat()).json["error"]["code"] == "rate_limit_exceeded"


async def test_retry_after_comes_in_three_forms(start_fake: StartFake) -> None:
    fake = await start_fake()
    seen: list[dict[str, str]] = []
    began_s = time.time()
    for form in ("seconds", "date", "milliseconds"):
        fault = {"kind": "status", "status": 429, "retry_after_s": 2.5, "retry_after_form": form}
        await fake.send("PATCH", "/control", {"faults": [fault]})
        seen.append((await fake.chat()).headers)
    assert seen[0]["retry-after"] == "2.5"
    # A date has no parts of a second.
    at_s = parsedate_to_datetime(seen[1]["retry-after"]).timestamp()
    assert began_s + 2.5 - 1 < at_s <= time.time() + 2.5
    assert seen[2]["retry-after-ms"] == "2500"


@pytest.mark.parametrize(
    "at", ["before-headers", "after-headers", "before-first-token", "after-tokens"]
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_stall_delays_the_answer_and_loses_nothing(
    start_fake: StartFake, at: str, stream: bool
) -> None:
    fault = {"kind": "stall", "at": at, "stall_ms": 60, "after_tokens": 3, "count": 1}
    fake = await start_fake(faults=[fault])
    started_s = now_s()
    stalled = await fake.chat(stream=stream)
    assert now_s() - started_s >= 0.06
    plain = await fake.chat(stream=stream)
    if stream:
        assert stalled.words == plain.words
        assert stalled.data[-1] == b"[DONE]"
    else:
        assert stalled.json["choices"] == plain.json["choices"]


async def _read_what_comes(reader: asyncio.StreamReader) -> bytes:
    """Read until nothing has come for a while, or the connection has ended."""
    read = b""
    try:
        while data := await asyncio.wait_for(reader.read(65_536), 0.15):
            read += data
    except TimeoutError:
        pass
    return read


@pytest.mark.parametrize(
    ("at", "headers", "role", "words"),
    [
        ("before-headers", False, False, 0),
        ("after-headers", True, False, 0),
        ("before-first-token", True, True, 0),
        ("after-tokens", True, True, 3),
    ],
)
@pytest.mark.parametrize("kind", ["stall", "cut"])
async def test_a_stream_stops_exactly_at_its_point(
    start_fake: StartFake, kind: str, at: str, headers: bool, role: bool, words: int
) -> None:
    fake = await start_fake(faults=[{"kind": kind, "at": at, "after_tokens": 3}])
    reader, writer = await fake.open_stream()
    read = await _read_what_comes(reader)
    assert read.startswith(b"HTTP/1.1 200") is headers
    assert (b'"role"' in read) is role
    assert read.count(b'"delta":{"content":') == words
    assert b"[DONE]" not in read
    assert b"\r\n0\r\n\r\n" not in read, "a stream that breaks off is never ended properly"
    assert reader.at_eof() is (kind == "cut")
    writer.close()
    await fake.settle(in_flight=0)
    counters = await fake.counters()
    assert (counters["cancelled"], counters["cut"]) == ((0, 1) if kind == "cut" else (1, 0))


async def test_a_cut_after_more_tokens_than_there_are_comes_after_the_last(
    start_fake: StartFake,
) -> None:
    fault = {"kind": "cut", "at": "after-tokens", "after_tokens": 99}
    fake = await start_fake(answer_tokens=4, faults=[fault])
    reader, writer = await fake.open_stream()
    read = await _read_what_comes(reader)
    assert read.count(b'"delta":{"content":') == 4
    assert b'"finish_reason":"stop"' not in read
    writer.close()


@pytest.mark.parametrize("at", ["before-headers", "after-headers", "after-tokens"])
async def test_a_cut_breaks_a_whole_answer(start_fake: StartFake, at: str) -> None:
    fake = await start_fake(faults=[{"kind": "cut", "at": at, "count": 1}])
    with pytest.raises(_BROKEN):
        await fake.send("POST", "/v1/chat/completions", ask())
    assert (await fake.chat()).status == 200
    counters = await fake.counters()
    assert (counters["cut"], counters["answered"], counters["cancelled"]) == (1, 1, 0)


async def test_a_reset_connection_is_never_read(start_fake: StartFake) -> None:
    fake = await start_fake(faults=[{"kind": "reset", "count": 1}])
    reader, writer = await fake.connect()
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()
    counters = await fake.counters()
    assert (counters["seen"], counters["faults"]) == (0, {"reset": 1})
    assert (await fake.chat()).status == 200


async def test_garbage_is_not_json(start_fake: StartFake) -> None:
    fake = await start_fake(faults=[{"kind": "garbage"}])
    whole, stream = await fake.chat(), await fake.chat(stream=True)
    assert whole.status == stream.status == 200
    for data in (whole.body, stream.data[0]):
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(data)
    assert orjson.loads(stream.data[1])["choices"][0]["delta"]["role"] == "assistant"


async def test_garbage_comes_after_tokens_too(start_fake: StartFake) -> None:
    fault = {"kind": "garbage", "at": "after-tokens", "after_tokens": 2}
    fake = await start_fake(faults=[fault])
    data = (await fake.chat(stream=True)).data
    assert [item.startswith(b"{") for item in data[:5]] == [True, True, True, False, True]


async def test_a_refusal_is_a_content_filters(start_fake: StartFake) -> None:
    fake = await start_fake(faults=[{"kind": "refusal"}])
    whole = (await fake.chat()).json["choices"][0]
    assert whole["finish_reason"] == "content_filter"
    assert whole["message"]["content"] is None
    stream = await fake.chat(stream=True)
    deltas = [chunk["choices"][0]["delta"] for chunk in stream.chunks]
    said = "".join(delta.get("refusal", "") for delta in deltas)
    assert said == whole["message"]["refusal"] != ""
    assert stream.words == []
    assert stream.chunks[-1]["choices"][0]["finish_reason"] == "content_filter"


async def test_an_error_event_comes_first_in_a_200_and_ends_it(start_fake: StartFake) -> None:
    fake = await start_fake(faults=[{"kind": "error-event"}])
    stream, whole = await fake.chat(stream=True), await fake.chat()
    assert stream.status == whole.status == 200
    error, done = stream.data
    assert orjson.loads(error) == whole.json
    assert whole.json["error"]["type"] == "server_error"
    assert done == b"[DONE]"


async def test_an_error_event_can_come_after_tokens(start_fake: StartFake) -> None:
    fault = {"kind": "error-event", "at": "after-tokens", "after_tokens": 2}
    fake = await start_fake(faults=[fault, {"kind": "no-done"}])
    stream = await fake.chat(stream=True)
    assert "error" in stream.chunks[-1]
    assert stream.data[-1] != b"[DONE]"
    assert len(stream.chunks) == 4


async def test_a_stream_can_lack_its_done(start_fake: StartFake) -> None:
    fake = await start_fake(faults=[{"kind": "no-done", "count": 1}])
    without, plain = await fake.chat(stream=True), await fake.chat(stream=True)
    assert without.chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert without.data[-1] != b"[DONE]"
    assert plain.data[-1] == b"[DONE]"


async def test_faults_at_one_point_strike_in_order(start_fake: StartFake) -> None:
    stall = {"kind": "stall", "stall_ms": 60}
    fake = await start_fake(faults=[stall, {"kind": "status", "status": 503}])
    started_s = now_s()
    assert (await fake.chat()).status == 503
    assert now_s() - started_s >= 0.06


async def test_a_probability_strikes_the_same_requests_again_after_a_reset(
    start_fake: StartFake,
) -> None:
    fake = await start_fake(seed=3, faults=[{"kind": "status", "probability": 0.5}])

    async def statuses(fake: Fake) -> list[int]:
        return [(await fake.chat()).status for _ in range(20)]

    first = await statuses(fake)
    await fake.send("POST", "/control/reset")
    assert await statuses(fake) == first
    assert set(first) == {200, 500}
