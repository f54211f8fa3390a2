"""Connections to upstreams: resolving names, trying addresses, and verifying who answers."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.tls import LIFETIME, Authority
from fakes.gateway import until
from fakes.upstream_phases import BIG, mute
from fakes.upstreams import (
    ANSWER,
    SIZED_HEAD,
    Conversation,
    ask,
    body_of,
    endpoint_at,
    keep_answering,
    peer,
    post,
)
from switchboard_dataplane.errors import UpstreamConnect, UpstreamReset
from switchboard_dataplane.upstream.dial import ADDRESS_DELAY_S
from switchboard_dataplane.upstream.transport import Upstream

LONG_S = 15.0
"""Longer than a machine stands still, and less than anything here waits by itself."""
TRIES = 10


@pytest.mark.parametrize(
    "url", ["http:///v1", "http://model:0/v1", "http://model:99999/v1", "ftp://model/v1", "model"]
)
async def test_what_is_no_address_is_told(ours: Upstream, url: str) -> None:
    with pytest.raises(UpstreamConnect, match="cannot be called"):
        await post(ours, endpoint_at(url))


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
    may_end, ended = threading.Event(), threading.Event()

    def wait(*_: object, **__: object) -> list[object]:
        assert may_end.wait(LONG_S), "the name was waited for"
        ended.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    with pytest.raises(UpstreamConnect):
        await post(upstream, endpoint_at("http://model.example:8000/v1", connect_ms=50))
    # The thread that resolves cannot be cancelled.
    may_end.set()
    await until(ended.is_set)


async def test_an_address_of_ip_version_6_is_called(upstream: Upstream) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    async with peer(keep_answering, host="::1") as model:
        assert await ask(upstream, model) == b"{}"
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
        took_s = [ADDRESS_DELAY_S]
        # A machine that stands still is late once, a dial that waits each time.
        while took_s[-1] >= ADDRESS_DELAY_S and len(took_s) <= TRIES:
            begun = time.monotonic()
            url = f"http://model-{len(took_s)}.example:{model.port}/v1"
            assert await body_of(await post(ours, endpoint_at(url))) == b"{}"
            took_s.append(time.monotonic() - begun)
        assert took_s[-1] < ADDRESS_DELAY_S, took_s


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
    assert ADDRESS_DELAY_S < time.monotonic() - begun < LONG_S


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
        assert await ask(upstream, model) == b"{}"


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
            # Without TLS nothing is said at all.
            await post(upstream, endpoint_at(url, connect_ms=300 if context is None else 20_000))
        assert model.requests == []


async def test_a_handshake_that_takes_too_long_is_no_connection(upstream: Upstream) -> None:
    async with peer(mute) as model:
        url = model.url.replace("http:", "https:")
        begun = time.monotonic()
        with pytest.raises(UpstreamConnect):
            await post(upstream, endpoint_at(url, connect_ms=50))
        assert time.monotonic() - begun < LONG_S
        await until(lambda: model.closed == 1)


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
            await ask(ours, model, b"{}")
        assert time.monotonic() - begun < LONG_S


async def test_big_bodies_go_both_ways_under_tls(upstream: Upstream, authority: Authority) -> None:
    async def echo(one: Conversation) -> None:
        request = await one.request()
        body = request.partition(b"\r\n\r\n")[2]
        await one.say(SIZED_HEAD % len(body), body)
        await one.gone()

    context = authority.issue("127.0.0.1").context()
    async with peer(echo, tls=context) as model:
        assert await ask(upstream, model, BIG) == BIG


async def test_a_reader_that_waits_holds_up_its_upstream_under_tls(
    upstream: Upstream, authority: Authority
) -> None:
    async def flood(one: Conversation) -> None:
        await one.request()
        await one.say(SIZED_HEAD % len(BIG))
        for start in range(0, len(BIG), 65_536):
            await one.say(BIG[start:][:65_536])
        await one.gone()

    async with peer(flood, tls=authority.issue("127.0.0.1").context()) as model:
        response = await post(upstream, endpoint_at(model.url))
        await asyncio.sleep(0.1)
        assert model.said_bytes < len(BIG)
        assert await body_of(response) == BIG
