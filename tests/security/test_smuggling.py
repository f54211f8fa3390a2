"""Requests that two parsers read differently: what is not plain HTTP/1.1 is refused, and no more.

A proxy in front of the gateway and the gateway itself must agree where each request ends. So
whatever could be read in two ways gets a 400, and nothing after it is taken for a request.
"""

import asyncio
import re
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import httptools
import orjson
import pytest

from fakes.defences import off, without
from fakes.echoing_gateway import LIMIT_BYTES, called
from fakes.gateway import chat
from fakes.raw_caller import RawCaller, request
from switchboard_dataplane.front import lane
from switchboard_dataplane.front.lane import Lane

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\n"
BODY = orjson.dumps(chat("seen"))
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
SMUGGLED = request("smuggled")
#: After this, no other answer comes.
SILENCE_S = 1.0
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")

#: What a lenient parser takes for a request with this body.
LENIENT = {
    "length-and-chunks": HEAD + LENGTH + CHUNKED + b"\r\n" + CHUNKS,
    "chunks-and-length": HEAD + CHUNKED + LENGTH + b"\r\n" + CHUNKS,
    "space-before-colon": HEAD + LENGTH.replace(b":", b" :") + b"\r\n" + BODY,
    "folded-line": HEAD + b"x: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY,
    "folded-framing": HEAD + b"transfer-encoding:\r\n chunked\r\n\r\n" + CHUNKS,
    "bare-line-feeds": (HEAD + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "nul-in-a-value": HEAD + b"x: a\0b\r\n" + LENGTH + b"\r\n" + BODY,
    "space-after-chunk-size": HEAD + CHUNKED + b"\r\n" + CHUNKS.replace(b"\r\n{", b" \r\n{", 1),
    "chunk-without-its-end": HEAD + CHUNKED + b"\r\n" + CHUNKS.replace(b"}\r\n0", b"}0"),
}

#: What no parser that is used here has a lenient form for.
STRICT = {
    "two-lengths": HEAD + LENGTH + b"content-length: 0\r\n\r\n" + BODY,
    "one-length-twice": HEAD + LENGTH + LENGTH + b"\r\n" + BODY,
    "lengths-in-a-list": HEAD + b"content-length: 5, 5\r\n\r\n" + BODY,
    "length-with-a-sign": HEAD + LENGTH.replace(b": ", b": +") + b"\r\n" + BODY,
    "length-below-zero": HEAD + b"content-length: -1\r\n\r\n" + BODY,
    "length-in-sixteens": HEAD + b"content-length: 0x%x\r\n\r\n" % len(BODY) + BODY,
    "length-that-overflows": HEAD + b"content-length: 18446744073709551617\r\n\r\n" + BODY,
    "unknown-coding": HEAD + b"transfer-encoding: xchunked\r\n\r\n" + CHUNKS,
    "coding-after-chunks": HEAD + b"transfer-encoding: chunked, identity\r\n\r\n" + CHUNKS,
    "coding-before-chunks": HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "two-codings": HEAD + CHUNKED + b"transfer-encoding: identity\r\n\r\n" + CHUNKS,
    "coding-behind-a-tab": HEAD + b"transfer-encoding: \x0bchunked\r\n\r\n" + CHUNKS,
    "bare-carriage-return": HEAD + b"x: a\rcontent-length: 3\r\n" + LENGTH + b"\r\n" + BODY,
    "bare-line-feed-in-chunks": HEAD + CHUNKED + b"\r\n" + CHUNKS.replace(b"\r\n", b"\n"),
    "chunk-size-with-0x": HEAD + CHUNKED + b"\r\n0x" + CHUNKS,
    "chunk-size-with-a-sign": HEAD + CHUNKED + b"\r\n+" + CHUNKS,
    "chunk-size-below-zero": HEAD + CHUNKED + b"\r\n-" + CHUNKS,
    "chunk-size-that-overflows": HEAD + CHUNKED + b"\r\n1" + b"0" * 15 + CHUNKS,
    "line-feed-in-an-extension": HEAD + CHUNKED + b"\r\n" + CHUNKS.replace(b"\r", b";a\nb\r", 1),
    "two-hosts": HEAD + b"host: other\r\n" + LENGTH + b"\r\n" + BODY,
    "no-host": HEAD.replace(b"host: gateway\r\n", b"") + LENGTH + b"\r\n" + BODY,
    "another-version": HEAD.replace(b"1.1", b"1.2") + LENGTH + b"\r\n" + BODY,
    "no-version": b"POST /v1/chat/completions\r\n\r\n",
    "http-2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


async def answers_to(caller: RawCaller, attack: bytes) -> list[int]:
    """Send an attack with a request behind it; return the statuses of all answers."""
    await caller.write(attack + SMUGGLED)
    told = b""
    with suppress(TimeoutError, ConnectionError):
        while piece := await asyncio.wait_for(caller.reader.read(65_536), SILENCE_S):
            told += piece
    return [int(status) for status in STATUS.findall(told)]


def lenient_parser(protocol: object) -> Any:
    parser: Any = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(
        lenient_headers=True,
        lenient_chunked_length=True,
        lenient_transfer_encoding=True,
        lenient_optional_lf_after_cr=True,
        lenient_optional_cr_before_lf=True,
        lenient_optional_crlf_after_chunk=True,
        lenient_spaces_after_chunk_size=True,
    )
    return parser


LENIENT_HTTPTOOLS = SimpleNamespace(**vars(httptools) | {"HttpRequestParser": lenient_parser})


@without(off(lane, "httptools", LENIENT_HTTPTOOLS))
@pytest.mark.parametrize("attack", LENIENT)
async def test_what_a_lenient_parser_takes_is_refused(defended: bool, attack: str) -> None:
    async with called() as caller:
        first, *others = await answers_to(caller, LENIENT[attack])
    assert (first == 400) is defended
    assert (others == []) is defended


@pytest.mark.usefixtures("each_front")
@pytest.mark.parametrize("attack", LENIENT | STRICT)
async def test_what_can_be_read_in_two_ways_is_refused_with_all_that_follows(attack: str) -> None:
    async with called() as caller:
        assert await answers_to(caller, (LENIENT | STRICT)[attack]) == [400]


def last_host_wins(self: Any, name: bytes, value: bytes) -> None:
    if self._receiving is None:
        self._headers[name.decode("latin-1").lower()] = value.decode()


@without(off(Lane, "on_header", last_host_wins))
async def test_a_request_for_two_hosts_is_for_none(defended: bool) -> None:
    async with called() as caller:
        first, *_ = await answers_to(caller, STRICT["two-hosts"])
    assert (first == 400) is defended


@pytest.mark.usefixtures("each_front")
async def test_nothing_becomes_http_2() -> None:
    upgrade = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    async with called() as caller:
        statuses = await answers_to(
            caller, HEAD + upgrade + LENGTH + b"\r\n" + BODY + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        )
    # One form refuses what is no HTTP/1.1, the other passes it over.
    assert statuses in ([200, 400], [200])


@pytest.mark.usefixtures("each_front")
@pytest.mark.parametrize(
    "framing", [b"content-length: %d\r\n\r\n" % (LIMIT_BYTES + len(SMUGGLED)), CHUNKED + b"\r\n"]
)
async def test_the_body_of_a_refused_request_is_no_request(framing: bytes) -> None:
    """Its caller goes on sending: the connection ends, and reads nothing as a request."""
    body = b" " * LIMIT_BYTES
    if framing.startswith(b"transfer"):
        body = b"%x\r\n%b\r\n" % (LIMIT_BYTES + 1, b" " * (LIMIT_BYTES + 1))
    async with called(body_limit_bytes=LIMIT_BYTES) as caller:
        (status,) = await answers_to(caller, HEAD + framing + body)
    assert status in (413, 400)


@pytest.mark.usefixtures("each_front")
async def test_nothing_follows_a_request_that_ends_its_connection() -> None:
    async with called() as caller:
        statuses = await answers_to(caller, request("seen", "connection: close"))
    assert statuses in ([200], [200, 400], [400])
