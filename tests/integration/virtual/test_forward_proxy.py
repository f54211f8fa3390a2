"""Backends outside the cluster are reached through the proxy that the environment names."""

import base64
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import pytest

from cluster.tls import Authority
from fakes.gateway import chat, external, failover, gateway, http
from fakes.loopback import GUARD
from fakes.upstreams import (
    Conversation,
    Peer,
    answering,
    body_of,
    bound_in,
    endpoint_at,
    forward,
    keep_answering,
    nothing_left,
    peer,
    post,
)
from switchboard_dataplane.errors import UpstreamConnect
from switchboard_dataplane.upstream.choose import choose_upstream
from switchboard_dataplane.upstream.tls import tls_context
from switchboard_dataplane.upstream.transport import Upstream


@asynccontextmanager
async def chosen(proxies: Mapping[str, str], authority: Authority) -> AsyncGenerator[Upstream]:
    async with nothing_left():
        upstream = choose_upstream(
            tls=tls_context(str(authority.file)), proxies=proxies, guard=GUARD
        )
        try:
            yield upstream
        finally:
            await upstream.close()


def url_of(proxy: Peer, *, user: str = "") -> str:
    return f"http://{user}127.0.0.1:{proxy.port}"


async def test_an_external_backend_is_reached_through_the_proxy(authority: Authority) -> None:
    async with peer(forward) as proxy, peer(keep_answering) as model:
        url = f"http://model.example:{model.port}/v1"
        async with chosen({"http": url_of(proxy)}, authority) as upstream:
            for _ in range(2):
                assert await body_of(await post(upstream, endpoint_at(url))) == b"{}"
        line = proxy.requests[0].partition(b"\r\n")[0]
        assert line == f"POST {url}/chat/completions HTTP/1.1".encode()
        assert (proxy.accepted, len(model.requests)) == (1, 2)


async def test_one_under_tls_is_reached_through_a_tunnel_and_verified(
    authority: Authority,
) -> None:
    context = authority.issue("model.example").context()
    async with peer(forward) as proxy, peer(keep_answering, tls=context) as model:
        proxies = {"https": url_of(proxy, user="me:p%40ss@")}
        url = f"https://model.example:{model.port}/v1"
        async with chosen(proxies, authority) as upstream:
            for _ in range(2):
                assert await body_of(await post(upstream, endpoint_at(url))) == b"{}"
            with pytest.raises(UpstreamConnect):
                await post(upstream, endpoint_at(f"https://other.example:{model.port}/v1"))
        head = proxy.requests[0].lower()
        assert head.startswith(f"connect model.example:{model.port} http/1.1\r\n".encode())
        credential = base64.b64encode(b"me:p@ss").lower()
        assert b"proxy-authorization: basic " + credential in head
        assert model.names[0] == "model.example"
        assert b"proxy-authorization" not in model.requests[0].lower()
        assert len(model.requests) == 2


async def test_services_and_what_is_exempt_go_straight(authority: Authority) -> None:
    async with peer(answering()) as proxy, peer(keep_answering) as model:
        proxies = {"http": url_of(proxy), "https": url_of(proxy), "no": "127.0.0.0/8"}
        async with chosen(proxies, authority) as upstream:
            service = endpoint_at(model.url, host="llm.ai.svc:8000")
            assert await body_of(await post(upstream, service)) == b"{}"
            assert await body_of(await post(upstream, endpoint_at(model.url))) == b"{}"
            local = f"http://localhost:{model.port}/v1"
            assert await body_of(await post(upstream, endpoint_at(local))) == b"{}"
        assert proxy.accepted == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 502 Cannot\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_no_connection(
    authority: Authority, answer: bytes
) -> None:
    async with (
        peer(answering(answer)) as proxy,
        chosen({"https": url_of(proxy)}, authority) as upstream,
    ):
        with pytest.raises(UpstreamConnect, match="cannot be reached"):
            await post(upstream, endpoint_at("https://model.example/v1"))


async def test_a_proxy_that_is_away_or_silent_is_no_connection(authority: Authority) -> None:
    async def silent(one: Conversation) -> None:
        await one.gone()

    async with peer(silent) as proxy, chosen({"https": url_of(proxy)}, authority) as upstream:
        endpoint = endpoint_at("https://model.example/v1", connect_ms=50)
        with pytest.raises(UpstreamConnect):
            await post(upstream, endpoint)
        with pytest.raises(TimeoutError):
            await post(upstream, endpoint_at("https://model.example/v1"), bound=bound_in(0.05))
    async with chosen({"https": url_of(proxy)}, authority) as upstream:
        with pytest.raises(UpstreamConnect):
            await post(upstream, endpoint_at("https://model.example/v1"))


async def test_a_gateway_obeys_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer(forward) as proxy, peer(answering(http(200, b"{}"))) as model:
        monkeypatch.setenv("HTTP_PROXY", url_of(proxy))
        monkeypatch.setenv("NO_PROXY", "elsewhere.example")
        url = f"http://model.example:{model.port}"
        async with gateway(failover("model"), external("model", url)) as gw:
            assert (await gw.send(chat())).status == 200
            outcome = await gw.outcome()
        assert outcome.backend == "ai/model"
        assert proxy.accepted == 1
