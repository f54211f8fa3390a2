"""The transport to upstreams on real sockets: ours, and aiohttp's where both promise the same."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.tls import LIFETIME, Authority
from fakes.upstreams import (
    ANSWER,
    Conversation,
    Peer,
    answering,
    body_of,
    bound_in,
    endpoint_at,
    keep_answering,
    nothing_left,
    peer,
    post,
)
from switchboard_dataplane.errors import UpstreamConnect, UpstreamError, UpstreamReset
from switchboard_dataplane.upstream import http1, pool
from switchboard_dataplane.upstream.aiohttp_upstream import AiohttpUpstream
from switchboard_dataplane.upstream.dial import ADDRESS_DELAY_S
from switchboard_dataplane.upstream.http1 import Http1Upstream
from switchboard_dataplane.upstream.tls import tls_context
from switchboard_dataplane.upstream.transport import Upstream

BIG = bytes(range(256)) * 4096 * 16
"""16 MiB: more than the buffers of both ends take."""
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"
AT_ONCE_S = 0.1

MakeUpstream = Callable[[ssl.SSLContext], Upstream]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ssl.SSLContext:
    return tls_context(str(authority.file))


@asynccontextmanager
async def running(make: Callable[[], Upstream]) -> AsyncGenerator[Upstream]:
    """A transport that leaves nothing behind when it is closed."""
    async with nothing_left():
        upstream = make()
        try:
            yield upstream
        finally:
            await upstream.close()


@pytest.fixture(params=["ours", "aiohttp"])
async def upstream(request: pytest.FixtureRequest, tls: ssl.SSLContext) -> AsyncGenerator[Upstream]:
    kinds: dict[str, Callable[[], Upstream]] = {
        "ours": lambda: Http1Upstream(tls=tls),
        "aiohttp": lambda: AiohttpUpstream(tls=tls),
    }
    async with running(kinds[request.param]) as one:
        yield one


@pytest.fixture
async def ours(tls: ssl.SSLContext) -> AsyncGenerator[Upstream]:
    async with running(lambda: Http1Upstream(tls=tls)) as one:
        yield one


async def until(holds: Callable[[], bool], *, within_s: float = 2.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.001)


# --- what both transports promise ----------------------------------------------------------------


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


ANSWERS = {
    "sized": HEAD % 5 + b"whole",
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"2\r\nwh\r\n3;x=y\r\nole\r\n0\r\nx-sum: 1\r\n\r\n",
    "to-the-end": b"HTTP/1.1 200 OK\r\n\r\nwhole",
    "old": b"HTTP/1.0 200 OK\r\n\r\nwhole",
    "after-interim": b"HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 103 Hint\r\nlink: x\r\n\r\n"
    + HEAD % 5
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
        pytest.param((HEAD % 5 + b"who",), id="half-a-body"),
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


async def test_connections_are_kept_and_used_again(upstream: Upstream) -> None:
    async with peer(keep_answering) as model:
        for _ in range(5):
            await body_of(await post(upstream, endpoint_at(model.url)))
        assert (model.accepted, len(model.requests)) == (1, 5)
        await asyncio.gather(
            *(_post_whole(upstream, model) for _ in range(20)),
        )
        assert model.accepted <= 20
        before = model.accepted
        await asyncio.gather(*(_post_whole(upstream, model) for _ in range(before)))
        assert model.accepted == before


async def _post_whole(upstream: Upstream, model: Peer) -> bytes:
    return await body_of(await post(upstream, endpoint_at(model.url)))


async def test_an_answer_given_up_halfway_takes_its_connection_along(upstream: Upstream) -> None:
    async def talk(one: Conversation) -> None:
        await one.request()
        await one.say(HEAD % 10 + b"half")
        await one.gone()
        one.peer.closed += 1

    async with peer(talk) as model:
        response = await post(upstream, endpoint_at(model.url))
        response.close()
        await until(lambda: model.closed == 1)


async def test_big_bodies_go_both_ways(upstream: Upstream) -> None:
    async def echo(one: Conversation) -> None:
        request = await one.request()
        body = request.partition(b"\r\n\r\n")[2]
        await one.say(HEAD % len(body), body)
        await one.gone()

    async with peer(echo) as model:
        assert await body_of(await post(upstream, endpoint_at(model.url), BIG)) == BIG


async def test_a_reader_that_waits_holds_up_its_own_upstream_and_nobody_else(
    upstream: Upstream,
) -> None:
    async def flood(one: Conversation) -> None:
        await one.request()
        await one.say(HEAD % (2 * len(BIG)))
        for start in range(0, 2 * len(BIG), 65_536):
            await one.say(BIG[start % len(BIG) :][:65_536])
        await one.gone()

    async with peer(flood) as slow, peer(keep_answering) as other:
        response = await post(upstream, endpoint_at(slow.url))
        first = await response.read()
        for _ in range(10):
            await _post_whole(upstream, other)
        await asyncio.sleep(0.05)
        held = slow.said_bytes
        assert held < len(BIG)
        await asyncio.sleep(0.05)
        assert slow.said_bytes == held
        assert len(first) + len(await body_of(response)) == 2 * len(BIG)


# --- time, and leaving ---------------------------------------------------------------------------


async def silent(one: Conversation) -> None:
    """Take the request and say nothing."""
    await one.request()
    await one.gone()
    one.peer.closed += 1


async def deaf(one: Conversation) -> None:
    """Take nothing of the request, until the test says so."""
    await one.peer.listens.wait()
    await one.gone()
    one.peer.closed += 1


async def halting(one: Conversation) -> None:
    """Say half an answer."""
    await one.request()
    await one.say(HEAD % 10 + b"half")
    await one.gone()
    one.peer.closed += 1


async def mute(one: Conversation) -> None:
    """Accept, and leave the handshake to the other side."""
    await one.gone()
    one.peer.closed += 1


async def _send(upstream: Upstream, model: Peer, body: bytes, **said: Any) -> bytes:
    return await body_of(await post(upstream, endpoint_at(model.url), body, **said))


PHASES = {
    "handshake": (mute, b"{}"),
    "writing": (deaf, BIG),
    "head": (silent, b"{}"),
    "body": (halting, b"{}"),
}
each_phase = pytest.mark.parametrize(("talk", "body"), PHASES.values(), ids=list(PHASES))


async def _under_way(model: Peer, talk: object) -> None:
    await until(lambda: model.accepted == 1)
    if talk in (silent, halting):
        await until(lambda: len(model.requests) == 1)
    await asyncio.sleep(0.03)


@each_phase
async def test_cancelling_closes_the_connection_at_once(
    upstream: Upstream, talk: Callable[[Conversation], Awaitable[None]], body: bytes
) -> None:
    async with peer(talk) as model:
        if talk is mute:
            model.scheme = "https"
        sending = asyncio.create_task(_send(upstream, model, body))
        await _under_way(model, talk)
        begun = time.monotonic()
        sending.cancel()
        model.listens.set()
        await until(lambda: model.closed == 1)
        assert time.monotonic() - begun < AT_ONCE_S
        assert sending.cancelled()


@each_phase
async def test_the_bound_ends_every_phase(
    upstream: Upstream, talk: Callable[[Conversation], Awaitable[None]], body: bytes
) -> None:
    async with peer(talk) as model:
        if talk is mute:
            model.scheme = "https"
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            await _send(upstream, model, body, bound=bound_in(0.15))
        model.listens.set()
        assert 0.1 < time.monotonic() - begun < 0.15 + AT_ONCE_S + 0.1
        await until(lambda: model.closed == 1)


async def test_a_handshake_that_takes_too_long_is_no_connection(upstream: Upstream) -> None:
    async with peer(mute) as model:
        url = model.url.replace("http:", "https:")
        begun = time.monotonic()
        with pytest.raises(UpstreamConnect):
            await post(upstream, endpoint_at(url, connect_ms=50))
        assert time.monotonic() - begun < 0.05 + AT_ONCE_S + 0.1
        await until(lambda: model.closed == 1)


# --- connecting ----------------------------------------------------------------------------------


@pytest.fixture
def refused_port() -> Iterator[int]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def test_a_port_that_nobody_listens_at_is_no_connection(
    upstream: Upstream, refused_port: int
) -> None:
    with pytest.raises(UpstreamConnect, match="backend ai/one cannot be reached"):
        await post(upstream, endpoint_at(f"http://127.0.0.1:{refused_port}/v1"))


@pytest.mark.parametrize(
    "error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")]
)
async def test_a_name_that_cannot_be_resolved_is_no_connection(
    upstream: Upstream, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(UpstreamConnect):
        await post(upstream, endpoint_at("http://model.example:8000/v1"))


async def test_a_name_that_takes_too_long_to_resolve_is_no_connection(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(*_: object, **__: object) -> list[object]:
        time.sleep(0.3)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    begun = time.monotonic()
    with pytest.raises(UpstreamConnect):
        await post(upstream, endpoint_at("http://model.example:8000/v1", connect_ms=50))
    assert time.monotonic() - begun < 0.25
    # The thread that resolves cannot be cancelled.
    await asyncio.sleep(0.3)


async def test_an_address_of_ip_version_6_is_called(upstream: Upstream) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    async with peer(keep_answering, host="::1") as model:
        assert await _post_whole(upstream, model) == b"{}"
        assert f"host: [::1]:{model.port}".encode() in model.requests[0].lower()


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``resolves(host, …)``: every name stands for these addresses of ours, in that order."""

    def to(*hosts: str) -> None:
        def getaddrinfo(_: str, port: int, *__: object, **___: object) -> list[Any]:
            kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [(*kind, (host, port)) for host in hosts]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return to


async def test_an_address_that_refuses_is_followed_by_the_next_at_once(
    ours: Upstream, resolves: Callable[..., None]
) -> None:
    resolves("127.0.0.2", "127.0.0.3", "127.0.0.1")
    async with peer(keep_answering) as model:
        begun = time.monotonic()
        url = f"http://model.example:{model.port}/v1"
        assert await body_of(await post(ours, endpoint_at(url))) == b"{}"
        assert time.monotonic() - begun < ADDRESS_DELAY_S


@pytest.fixture
async def mute_port() -> AsyncGenerator[int]:
    """A port at 127.0.0.2 whose queue is full: who connects waits."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        for one in (first, second):
            one.settimeout(0.0)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_an_address_that_says_nothing_is_joined_by_the_next(
    ours: Upstream, resolves: Callable[..., None], mute_port: int
) -> None:
    resolves("127.0.0.2", "127.0.0.1")

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWER)
        writer.close()

    url = f"http://model.example:{mute_port}/v1"
    begun = time.monotonic()
    async with await asyncio.start_server(serve, "127.0.0.1", mute_port):
        with pytest.raises(UpstreamConnect):
            await post(ours, endpoint_at(url, connect_ms=50))
        response = await post(ours, endpoint_at(url))
        assert response.status == 200
        response.close()
    assert ADDRESS_DELAY_S < time.monotonic() - begun < ADDRESS_DELAY_S + 0.5


async def test_a_name_none_of_whose_addresses_answers_is_no_connection(
    ours: Upstream, resolves: Callable[..., None], refused_port: int
) -> None:
    url = f"http://model.example:{refused_port}/v1"
    for hosts in ((), ("127.0.0.1",), ("127.0.0.2", "127.0.0.1")):
        resolves(*hosts)
        with pytest.raises(UpstreamConnect):
            await post(ours, endpoint_at(url))


# --- TLS -----------------------------------------------------------------------------------------


async def test_a_certificate_is_verified_and_its_name_is_asked_for(
    upstream: Upstream, authority: Authority
) -> None:
    context = authority.issue("localhost").context()
    async with peer(keep_answering, tls=context) as model:
        url = f"https://localhost:{model.port}/v1"
        assert await body_of(await post(upstream, endpoint_at(url))) == b"{}"
        assert await body_of(await post(upstream, endpoint_at(url))) == b"{}"
        assert (model.names, model.accepted) == (["localhost"], 1)


async def test_an_endpoint_of_a_service_is_verified_by_the_services_name(
    upstream: Upstream, authority: Authority
) -> None:
    context = authority.issue("llm.ai.svc").context()
    async with peer(keep_answering, tls=context) as model:
        endpoint = endpoint_at(model.url, host="llm.ai.svc:8443")
        assert await body_of(await post(upstream, endpoint)) == b"{}"
        assert model.names == ["llm.ai.svc"]
        assert b"\r\nhost: llm.ai.svc:8443\r\n" in model.requests[0].lower()
        # The same address under another name is another origin.
        with pytest.raises(UpstreamConnect):
            await post(upstream, endpoint_at(model.url, host="other.ai.svc:8443"))


async def test_an_address_is_verified_as_an_address(
    upstream: Upstream, authority: Authority
) -> None:
    context = authority.issue("127.0.0.1").context()
    async with peer(keep_answering, tls=context) as model:
        assert await _post_whole(upstream, model) == b"{}"


@pytest.mark.parametrize("wrong", ["name", "authority", "expired", "no-tls", "old-tls"])
async def test_who_cannot_be_verified_is_not_connected_to(
    upstream: Upstream, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    match wrong:
        case "name":
            context: ssl.SSLContext | None = authority.issue("other.example").context()
        case "authority":
            context = Authority(tmp_path).issue("localhost").context()
        case "expired":
            context = authority.issue("localhost", age=2 * LIFETIME).context()
        case "old-tls":
            context = authority.issue("localhost").context()
            context.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="TLSv1"):
                context.minimum_version = ssl.TLSVersion.TLSv1
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                context.maximum_version = ssl.TLSVersion.TLSv1_1
        case _:
            context = None
    async with peer(keep_answering, tls=context) as model:
        url = f"https://localhost:{model.port}/v1"
        with pytest.raises(UpstreamConnect):
            await post(upstream, endpoint_at(url, connect_ms=300))
        assert model.requests == []


async def test_big_bodies_go_both_ways_under_tls(upstream: Upstream, authority: Authority) -> None:
    async def echo(one: Conversation) -> None:
        request = await one.request()
        body = request.partition(b"\r\n\r\n")[2]
        await one.say(HEAD % len(body), body)
        await one.gone()

    context = authority.issue("127.0.0.1").context()
    async with peer(echo, tls=context) as model:
        assert await _send(upstream, model, BIG) == BIG


async def test_a_reader_that_waits_holds_up_its_upstream_under_tls(
    upstream: Upstream, authority: Authority
) -> None:
    async def flood(one: Conversation) -> None:
        await one.request()
        await one.say(HEAD % len(BIG))
        for start in range(0, len(BIG), 65_536):
            await one.say(BIG[start:][:65_536])
        await one.gone()

    async with peer(flood, tls=authority.issue("127.0.0.1").context()) as model:
        response = await post(upstream, endpoint_at(model.url))
        await asyncio.sleep(0.1)
        assert model.said_bytes < len(BIG)
        assert await body_of(response) == BIG


@pytest.mark.parametrize("phase", ["writing", "head", "body"])
async def test_cancelling_closes_the_connection_at_once_under_tls(
    upstream: Upstream, authority: Authority, phase: str
) -> None:
    talk, body = PHASES[phase]
    async with peer(talk, tls=authority.issue("127.0.0.1").context()) as model:
        sending = asyncio.create_task(_send(upstream, model, body))
        await _under_way(model, talk)
        begun = time.monotonic()
        sending.cancel()
        model.listens.set()
        await until(lambda: model.closed == 1)
        assert time.monotonic() - begun < AT_ONCE_S


# --- what ours promises beyond -------------------------------------------------------------------


async def test_a_connection_that_went_stale_is_made_up_for_once(ours: Upstream) -> None:
    async def talk(one: Conversation) -> None:
        await one.request()
        await one.say(ANSWER)
        if one.number == 1:
            # It takes the next request, and is closed then without a word.
            await one.request()
        else:
            await one.request()
            await one.say(ANSWER)

    async with peer(talk) as model:
        assert await _post_whole(ours, model) == b"{}"
        assert await _post_whole(ours, model) == b"{}"
        assert (model.accepted, len(model.requests)) == (2, 3)


async def test_a_stale_connection_is_made_up_for_only_once(ours: Upstream) -> None:
    async def talk(one: Conversation) -> None:
        await one.request()
        if one.number == 1:
            await one.say(ANSWER)
            await one.request()

    async with peer(talk) as model:
        await _post_whole(ours, model)
        with pytest.raises(UpstreamReset):
            await _post_whole(ours, model)
        assert (model.accepted, len(model.requests)) == (2, 3)


async def test_what_has_begun_to_answer_is_not_asked_again(ours: Upstream) -> None:
    async def talk(one: Conversation) -> None:
        await one.request()
        await one.say(ANSWER)
        await one.request()
        await one.say(b"H")

    async with peer(talk) as model:
        await _post_whole(ours, model)
        with pytest.raises(UpstreamReset):
            await _post_whole(ours, model)
        assert (model.accepted, len(model.requests)) == (1, 2)


async def test_a_new_connection_that_is_closed_is_not_made_up_for(ours: Upstream) -> None:
    async with peer(answering()) as model:
        with pytest.raises(UpstreamReset):
            await _post_whole(ours, model)
        assert model.accepted == 1


async def test_a_connection_closed_while_it_was_idle_costs_no_request(ours: Upstream) -> None:
    async with peer(answering(ANSWER)) as model:
        for count in range(1, 4):
            await _post_whole(ours, model)
            await asyncio.sleep(0.02)
            assert (model.accepted, len(model.requests)) == (count, count)


async def test_idle_connections_are_closed_and_their_pools_forgotten(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "KEEPALIVE_S", 0.1)
    monkeypatch.setattr(http1, "REAP_S", 0.02)
    monkeypatch.setattr(http1, "POOL_FORGOTTEN_S", 0.2)

    async with running(lambda: Http1Upstream(tls=tls)) as ours, peer(keep_answering) as model:
        assert isinstance(ours, Http1Upstream)
        await _post_whole(ours, model)
        await asyncio.sleep(0.05)
        assert model.closed == 0
        await until(lambda: model.closed == 1)
        assert len(ours._pools) == len(ours._routes) == 1
        await until(lambda: not ours._pools and not ours._routes)
        await _post_whole(ours, model)
        assert model.accepted == 2


async def test_requests_beyond_the_cap_stand_in_line(
    ours: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CONNECTIONS_MAX", 3)
    most = 0

    async def talk(one: Conversation) -> None:
        nonlocal most
        while True:
            await one.request()
            most = max(most, one.peer.accepted - one.peer.closed)
            await asyncio.sleep(0.002)
            await one.say(ANSWER)

    async with peer(talk) as model:
        bodies = await asyncio.gather(*(_post_whole(ours, model) for _ in range(30)))
        assert bodies == [b"{}"] * 30
        assert (model.accepted, most) == (3, 3)


async def test_a_place_in_line_is_bounded_and_can_be_left(
    ours: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CONNECTIONS_MAX", 1)
    async with peer(silent) as model:
        first = asyncio.create_task(_post_whole(ours, model))
        await until(lambda: len(model.requests) == 1)
        with pytest.raises(TimeoutError):
            await post(ours, endpoint_at(model.url), bound=bound_in(0.05))
        with pytest.raises(UpstreamConnect):
            await post(ours, endpoint_at(model.url, connect_ms=50))
        third = asyncio.create_task(_post_whole(ours, model))
        await asyncio.sleep(0.02)
        third.cancel()
        last = asyncio.create_task(_post_whole(ours, model))
        await asyncio.sleep(0.02)
        first.cancel()
        await until(lambda: len(model.requests) == 2)
        last.cancel()
        assert model.accepted == 2


async def test_an_upstream_that_refuses_a_big_body_unread_is_heard(ours: Upstream) -> None:
    async def refuse(one: Conversation) -> None:
        await one.reader.readuntil(b"\r\n\r\n")
        await one.say(b"HTTP/1.1 413 Too much\r\ncontent-length: 2\r\n\r\nno")
        await asyncio.sleep(5)

    async with peer(refuse) as model:
        begun = time.monotonic()
        response = await post(ours, endpoint_at(model.url), BIG)
        assert (response.status, await body_of(response)) == (413, b"no")
        assert time.monotonic() - begun < 1.0


async def test_an_upstream_that_ends_the_connection_unread_is_a_reset(ours: Upstream) -> None:
    async def end(one: Conversation) -> None:
        one.writer.write_eof()
        await asyncio.sleep(5)

    async with peer(end) as model:
        begun = time.monotonic()
        with pytest.raises(UpstreamReset):
            await _send(ours, model, BIG)
        assert time.monotonic() - begun < 1.0


async def test_a_server_that_wants_a_certificate_of_ours_is_a_failure(
    ours: Upstream, authority: Authority
) -> None:
    context = authority.issue("127.0.0.1").context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    async with peer(keep_answering, tls=context) as model:
        begun = time.monotonic()
        # Under TLS 1.3 it says so after our side of the handshake is over.
        with pytest.raises((UpstreamReset, UpstreamConnect)):
            await _send(ours, model, b"{}")
        assert time.monotonic() - begun < 1.0


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nx: y", "a\r\n\r\nPOST / HTTP/1.1", "a\r"])
async def test_a_line_break_in_a_header_goes_nowhere(ours: Upstream, value: str) -> None:
    async with peer(keep_answering) as model:
        with pytest.raises(UpstreamConnect):
            await post(ours, endpoint_at(model.url), headers=[("x-name", value)])
        assert model.accepted == 0


@pytest.mark.parametrize(
    "url", ["http:///v1", "http://model:0/v1", "http://model:99999/v1", "ftp://model/v1", "model"]
)
async def test_what_is_no_address_is_told(ours: Upstream, url: str) -> None:
    with pytest.raises(UpstreamConnect, match="cannot be called"):
        await post(ours, endpoint_at(url))


async def test_closing_ends_what_is_under_way(tls: ssl.SSLContext, authority: Authority) -> None:
    for context in (None, authority.issue("127.0.0.1").context()):
        async with nothing_left():
            ours = Http1Upstream(tls=tls)
            async with peer(halting, tls=context) as model:
                response = await post(ours, endpoint_at(model.url))
                await ours.close()
                assert await response.read() == b"half"
                with pytest.raises(UpstreamReset):
                    await response.read()
                await until(lambda: model.closed == 1)


async def test_many_requests_at_once_leave_nothing_behind(ours: Upstream) -> None:
    async def talk(one: Conversation) -> None:
        while True:
            await one.request()
            if len(one.peer.requests) % 5 == 0:
                return
            await one.say(HEAD % 10)
            await asyncio.sleep(0.001)
            await one.say(b"0123456789")

    async with peer(talk) as model:

        async def one(number: int) -> bool:
            try:
                async with asyncio.timeout(number / 10_000 if number % 3 == 0 else 5.0):
                    return len(await _post_whole(ours, model)) == 10
            except (TimeoutError, UpstreamReset):
                return False

        outcomes = await asyncio.gather(*(one(number) for number in range(300)))
        assert sum(outcomes) > 50
