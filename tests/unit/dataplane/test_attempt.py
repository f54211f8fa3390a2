"""One attempt against an upstream that says too much, or nothing that makes sense."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import repeat

import pytest

from fakes.policies import backend, policy, rule, snapshot, tier
from switchboard_dataplane.decision.running import Endpoint
from switchboard_dataplane.errors import (
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamProtocol,
    UpstreamRateLimited,
    UpstreamReset,
)
from switchboard_dataplane.upstream.attempt import (
    ANSWER_BYTES_MAX,
    OPENING_BYTES_MAX,
    Request,
    StreamedAnswer,
    WholeAnswer,
    open_answer,
)
from switchboard_dataplane.upstream.bound import Bound, Bounds
from switchboard_dataplane.upstream.transport import UpstreamResponse

PIECE = b"x" * 1024 * 1024
KEEP_ALIVE = b": " + b"x" * 1021 + b"\n\n"


@dataclass
class Said:
    """An upstream with one answer, in pieces."""

    pieces: Iterable[bytes]
    media_type: str = "application/json"
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    read_bytes: int = 0
    closed: bool = field(default=False, init=False)

    async def send(
        self,
        endpoint: Endpoint,
        path: str,
        *,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        bound: Bound,
    ) -> UpstreamResponse:
        self._rest = iter(self.pieces)
        return self

    async def read(self) -> bytes:
        piece = next(self._rest, b"")
        self.read_bytes += len(piece)
        return piece

    async def pour(
        self, take: Callable[[bytes], bool], ready: Callable[[], Awaitable[None]]
    ) -> None:
        while piece := await self.read():
            if not take(piece):
                await ready()

    def close(self) -> None:
        self.closed = True


class Upstream:
    """Gives what was said, whatever is asked."""

    def __init__(self, said: Said) -> None:
        self.send = said.send

    async def close(self) -> None:
        return


async def attempt(said: Said, *, stream: bool = False) -> WholeAnswer | StreamedAnswer:
    running = snapshot(policy("chat", rule("default", tier("only", "one"))), backend("one"))
    (endpoint,) = running.backends["ai/one"].endpoints
    loop = asyncio.get_running_loop()
    bound = Bounds(clock=loop.time, call_later=loop.call_later).until(loop.time() + 60)
    try:
        return await open_answer(
            Upstream(said),
            endpoint,
            Request("/chat/completions", (), b"{}", stream=stream, hides_usage=False),
            bound,
            clock=lambda: 0.0,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        )
    finally:
        bound.stop()


async def test_an_answer_without_end_is_given_up_at_the_limit() -> None:
    said = Said(repeat(PIECE))
    with pytest.raises(UpstreamProtocol, match="exceeds"):
        await attempt(said)
    assert said.closed
    assert said.read_bytes <= ANSWER_BYTES_MAX + len(PIECE)


async def test_a_stream_that_never_comes_to_its_content_is_given_up_at_the_limit() -> None:
    said = Said(repeat(KEEP_ALIVE), media_type="text/event-stream")
    with pytest.raises(UpstreamProtocol, match="no content within"):
        await attempt(said, stream=True)
    assert said.closed
    assert said.read_bytes <= OPENING_BYTES_MAX + 2 * len(KEEP_ALIVE)


async def test_a_stream_that_ends_before_its_content_was_broken_off() -> None:
    said = Said([KEEP_ALIVE], media_type="text/event-stream")
    with pytest.raises(UpstreamReset):
        await attempt(said, stream=True)
    assert said.closed


async def test_a_stream_where_a_whole_answer_was_asked_for_is_no_answer() -> None:
    said = Said([b"data: {}\n\n"], media_type="text/event-stream")
    with pytest.raises(UpstreamProtocol, match="asked for whole"):
        await attempt(said)
    assert said.closed


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"a":1', b'{"error": nope}'])
async def test_a_success_that_is_no_json_object_is_no_success(body: bytes) -> None:
    with pytest.raises(UpstreamProtocol, match="no JSON"):
        await attempt(Said([body]))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "coding"), [(200, "gzip"), (400, "br"), (200, " GZip ")])
async def test_a_compressed_answer_is_refused_by_that_name(
    status: int, coding: str, *, stream: bool
) -> None:
    said = Said(
        [b"\x1f\x8b..."],
        media_type="text/event-stream" if stream else "application/json",
        status=status,
        headers=[("content-type", "whatever"), ("content-encoding", coding)],
    )
    with pytest.raises(UpstreamProtocol) as refused:
        await attempt(said, stream=stream)
    assert refused.value.message == (
        f"backend ai/one sent content-encoding {coding.strip().lower()} though identity was asked "
        "for"
    )
    assert said.closed
    assert said.read_bytes == 0


async def test_an_unknown_coding_is_refused_without_the_upstreams_words() -> None:
    said = Said([b"{}"], headers=[("content-encoding", "secret")])
    with pytest.raises(UpstreamProtocol, match="sent content-encoding of another kind though"):
        await attempt(said)


@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
async def test_an_answer_that_says_it_is_not_compressed_is_taken(coding: str) -> None:
    answer = await attempt(Said([b"{}"], headers=[("content-encoding", coding)]))
    assert isinstance(answer, WholeAnswer)


async def test_a_failure_counts_as_what_its_status_says_though_it_is_compressed() -> None:
    with pytest.raises(UpstreamFailed):
        await attempt(Said([b"\x1f\x8b"], status=500, headers=[("content-encoding", "gzip")]))


@pytest.mark.parametrize("before", [b"", b'"id": "%b", ' % (b"x" * 2_000)])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (b'{"message": "sorry"}', UpstreamFailed),
        (b'"sorry"', UpstreamFailed),
        (b'{"message": "slow down", "code": 429}', UpstreamRateLimited),
        (b'{"message": "no money", "code": "insufficient_quota"}', UpstreamAuth),
    ],
)
async def test_an_error_under_a_status_of_success_is_the_failure_that_it_names(
    error: bytes, kind: type[UpstreamError], before: bytes
) -> None:
    with pytest.raises(kind):
        await attempt(Said([b' {%b"error": %b}' % (before, error)]))


@pytest.mark.parametrize("code", [b"400", b'"content_filter"', b'"context_length_exceeded"'])
async def test_the_callers_error_under_a_status_of_success_is_told_as_one(code: bytes) -> None:
    body = b'{"error":{"message":"no","code":%b}}' % code
    answer = await attempt(Said([body], headers=[("content-type", "text/plain"), ("x-id", "7")]))
    assert isinstance(answer, WholeAnswer)
    assert (answer.status, answer.body) == (400, body)
    assert answer.headers == [("x-id", "7"), ("content-type", "application/json")]


@pytest.mark.parametrize("framing", ["content-length", "transfer-encoding"])
async def test_an_answer_that_ends_with_its_connection_is_read_to_see_whether_it_is_whole(
    framing: str,
) -> None:
    """It may have been cut behind a brace; where its length was told the transport knows."""
    cut = b'{"choices":[{"message":{"content":"hi"}'
    with pytest.raises(UpstreamProtocol, match="no JSON"):
        await attempt(Said([cut]))
    told = await attempt(Said([cut], headers=[(framing, "...")]))
    assert isinstance(told, WholeAnswer)


@pytest.mark.parametrize("first", [b"\xef\xbb\xbf", b""])
async def test_a_byte_order_mark_hides_nothing_of_what_follows_it(first: bytes) -> None:
    mark, error = b"\xef\xbb\xbf", b'data: {"error":{"message":"slow down","code":429}}\n\n'
    pieces = [first, error, b"data: [DONE]\n\n"] if first else [mark + error, b"data: [DONE]\n\n"]
    with pytest.raises(UpstreamRateLimited):
        await attempt(Said(pieces, media_type="text/event-stream"), stream=True)


async def test_a_byte_order_mark_is_dropped() -> None:
    said = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
    answer = await attempt(
        Said([b"\xef\xbb\xbf" + said], media_type="text/event-stream"), stream=True
    )
    assert isinstance(answer, StreamedAnswer)
    assert (answer.opening, answer.events.content_events) == (said, 1)
    answer.response.close()


async def test_an_empty_error_is_none() -> None:
    answer = await attempt(Said([b'{"error":null,', b'"choices":[]}']))
    assert isinstance(answer, WholeAnswer)
    assert answer.body == b'{"error":null,"choices":[]}'
