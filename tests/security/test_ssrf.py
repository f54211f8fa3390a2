"""Whoever may write a ModelBackend makes the data plane call addresses of the pod or the node.

The prey listens on the loopback, which is refused like link-local and metadata addresses are; what
belongs to which network is in tests/unit/dataplane/test_addresses.py.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from fakes.defences import off, passes, without
from fakes.gateway import Scripted, chat, external, failover, gateway, http, scripted
from fakes.loopback import GUARD
from fakes.policies import endpoints, policy, rule, service, tier
from fakes.upstreams import endpoint_at, keep_answering, peer, post
from switchboard_dataplane.composed.review import webhooks
from switchboard_dataplane.errors import UpstreamError
from switchboard_dataplane.peers import fetching
from switchboard_dataplane.signals.scraping import Target
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_dataplane.upstream.addresses import AddressGuard
from switchboard_dataplane.upstream.aiohttp_upstream import AiohttpUpstream
from switchboard_dataplane.upstream.choose import choose_upstream
from switchboard_dataplane.upstream.getting import Getter
from switchboard_dataplane.upstream.http1 import Http1Upstream
from switchboard_dataplane.upstream.probing import asking
from switchboard_dataplane.upstream.transport import Upstream
from switchboard_policy import ir

SECRET = b'{"AccessKeyId": "prey"}'
NOTHING_ALLOWED = ""

when_connecting = off(AddressGuard, "check", passes())
when_reading = off(SnapshotBuilder, "_why_not", passes(""))
of_endpoints = off(SnapshotBuilder, "_allowed", lambda _, entry: entry)

Resolve = Callable[..., Awaitable[list[Any]]]


@asynccontextmanager
async def prey() -> AsyncGenerator[Scripted]:
    """A service that only the pod itself can reach."""
    async with scripted(http(200, SECRET)) as service:
        yield service


def port_of(service: Scripted) -> int:
    port = urlsplit(service.url).port
    assert port
    return port


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Have names resolved to these addresses, one answer after the other; return what was asked."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        found = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        return [(2, 1, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


async def call(url: str, times: int = 1) -> list[bytes]:
    """Ask for completions at a gateway whose backend is there; return what it answers."""
    backend = external("a", url.removesuffix("/v1"))
    async with gateway(failover("a"), backend, allow_addresses=NOTHING_ALLOWED) as gw:
        return [(await gw.send(chat())).body for _ in range(times)]


# --- the URL of a backend ------------------------------------------------------------------------


@without(when_reading, when_connecting)
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",  # noqa: S104 - it is called, and nothing listens there
        "localhost",
        "user@127.0.0.1",
        "api.example.com:443@127.0.0.1",
        "[::ffff:127.0.0.1]",
        "\uff11\uff12\uff17.0.0.1",
    ],
)
async def test_a_literal_address_of_the_pod_is_not_called(defended: bool, host: str) -> None:
    async with prey() as service:
        (said,) = await call(f"http://{host}:{port_of(service)}")
    assert (said == SECRET) is (not defended)
    assert bool(service.seen) is (not defended)


@without(when_reading)
async def test_the_author_of_a_refused_url_is_told(defended: bool) -> None:
    backend = external("a", "http://169.254.169.254")
    async with gateway(failover("a"), backend, allow_addresses=NOTHING_ALLOWED) as gw:
        refused = gw.plane.follower.state().refused
        told = "169.254.169.254 is link-local" in refused.get("backend/ai/a", "")
        unusable = (await gw.send(chat())).error["message"]
    assert told is defended
    assert ("169.254.169.254 is link-local" in unusable) is defended


# --- what names resolve to -----------------------------------------------------------------------


@without(when_connecting)
async def test_a_name_that_resolves_to_the_pod_is_not_called(
    defended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["127.0.0.1"])
    async with prey() as service:
        (said,) = await call(f"http://model.example:{port_of(service)}")
    assert (said == SECRET) is (not defended)


@without(when_connecting)
async def test_a_name_that_is_rebound_after_a_good_answer_is_not_called(
    defended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is checked is what is connected to: no second resolution lies between them."""
    # An address that answers nobody (RFC 5737), as the machine has no way out of itself.
    asked = resolving(monkeypatch, ["192.0.2.1"], ["127.0.0.1"])
    async with prey() as service:
        said = await call(f"http://model.example:{port_of(service)}", times=3)
    assert (SECRET in said) is (not defended)
    assert len(asked) > 1


@without(when_connecting)
async def test_an_address_of_the_pod_among_good_ones_is_passed_over(
    defended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["127.0.0.1", "192.0.2.1"])
    async with prey() as service:
        (said,) = await call(f"http://model.example:{port_of(service)}")
    assert (said == SECRET) is (not defended)


# --- every way out -------------------------------------------------------------------------------


TRANSPORTS: dict[str, Callable[[ssl.SSLContext], Upstream]] = {
    "ours": lambda tls: Http1Upstream(tls=tls, guard=AddressGuard()),
    "aiohttp": lambda tls: AiohttpUpstream(tls=tls, guard=AddressGuard()),
}


@without(when_connecting)
@pytest.mark.parametrize("kind", TRANSPORTS)
@pytest.mark.parametrize("host", ["127.0.0.1", "model.example"])
async def test_each_transport_looks_at_what_it_connects_to(
    defended: bool, kind: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["127.0.0.1"])
    upstream = TRANSPORTS[kind](ssl.create_default_context())
    async with prey() as service:
        with suppress(UpstreamError):
            (await post(upstream, endpoint_at(f"http://{host}:{port_of(service)}/v1"))).close()
    await upstream.close()
    assert bool(service.seen) is (not defended)


@without(off(AddressGuard, "refusal", passes("")))
@pytest.mark.parametrize("host", ["169.254.169.254", "0xa9fea9fe", "[fd00:ec2::254]"])
async def test_a_literal_address_is_not_asked_for_at_a_proxy(defended: bool, host: str) -> None:
    """A proxy connects from where it is; what it resolves is its own business."""
    async with scripted(http(200, SECRET)) as proxy:
        upstream = choose_upstream(
            tls=ssl.create_default_context(),
            proxies={"http": proxy.url},
            guard=AddressGuard(),
        )
        # What counts is what the proxy has seen.
        with suppress(UpstreamError):
            await post(upstream, endpoint_at(f"http://{host}/v1"))
        await upstream.close()
    assert bool(proxy.seen) is (not defended)


async def probe(getter: Getter, url: str) -> None:
    if not await asking(getter)(endpoint_at(f"{url}/v1"), ir.Probe(path="/latest/meta-data")):
        # A probe only says that it is unwell.
        raise OSError("is loopback")


async def scrape(getter: Getter, url: str) -> None:
    address = urlsplit(url).netloc
    target = Target(
        id=f"ai/a@{address}",
        backend="ai/a",
        address=address,
        url=f"{url}/metrics",
        host="",
        engine="vllm",
        model="m",
        interval_s=1.0,
    )
    await fetching(getter)(target)


async def review(getter: Getter, url: str) -> None:
    await webhooks(getter)(f"{url}/hook", b"{}")


@without(when_connecting)
@pytest.mark.parametrize("ask", [probe, scrape, review])
async def test_the_gateways_own_requests_go_to_no_refused_address(
    defended: bool, ask: Callable[[Getter, str], Awaitable[None]]
) -> None:
    getter = Getter(tls=ssl.create_default_context(), guard=AddressGuard())
    async with prey() as service:
        with pytest.raises(OSError, match="is loopback") if defended else nullcontext():
            await ask(getter, service.url)
    await getter.close()
    assert bool(service.seen) is (not defended)


@without(of_endpoints, when_connecting)
async def test_an_endpoint_slice_leads_to_no_refused_address(defended: bool) -> None:
    """Whoever may write EndpointSlices of a Service says where its backend is."""
    async with prey() as service_of_pod:
        address = f"127.0.0.1:{port_of(service_of_pod)}"
        entries = (failover("a"), service("a"), endpoints("a", address))
        async with gateway(*entries, allow_addresses=NOTHING_ALLOWED) as gw:
            said = (await gw.send(chat())).body
            refused = gw.plane.follower.state().refused
    assert (said == SECRET) is (not defended)
    assert ("endpoints/ai/a" in refused) is defended


@without(when_reading, when_connecting)
async def test_who_is_asked_on_a_requests_account_is_not_at_a_refused_address(
    defended: bool,
) -> None:
    """Classifiers, judges and mirrors are backends, and go the same way."""
    mirror = ir.Mirror(backend="ai/b", sample_permille=1_000, max_cost_picodollars=10**15)
    mirrored = policy("chat", rule("default", tier("t", "a"), mirror=mirror))
    async with prey() as service, peer(keep_answering, host="127.0.0.2") as good:
        backends = external("a", good.url.removesuffix("/v1")), external("b", service.url)
        async with gateway(mirrored, *backends, allow_addresses="127.0.0.2") as gw:
            assert (await gw.send(chat())).status == 200
        # At its end a gateway waits for what follows its answers.
    assert bool(service.seen) is (not defended)


# --- redirects -----------------------------------------------------------------------------------


def following(post: Any) -> Any:
    """A client that follows redirects, as most do."""

    def sent(self: aiohttp.ClientSession, url: str, **options: Any) -> Any:
        return post(self, url, **{**options, "allow_redirects": True})

    return sent


@without(off(aiohttp.ClientSession, "post", following(aiohttp.ClientSession.post)))
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_by_aiohttps_transport(
    defended: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The guard would refuse it too: it is out of the way, to see the one defence alone.
    monkeypatch.setattr(AddressGuard, "check", passes())
    upstream = AiohttpUpstream(tls=ssl.create_default_context(), guard=AddressGuard())
    async with (
        prey() as service,
        scripted(http(status, b"", f"location: {service.url}/")) as model,
    ):
        response = await post(upstream, endpoint_at(f"{model.url}/v1"))
        answered = response.status
        response.close()
    await upstream.close()
    assert (answered == status) is defended
    assert bool(service.seen) is (not defended)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_our_transport_and_the_gateways_own_requests_know_no_redirects(status: int) -> None:
    """Nothing can be switched off here: there is no code that reads ``location``."""
    async with prey() as service, scripted(http(status, b"", f"location: {service.url}/")) as model:
        async with gateway(failover("a"), external("a", model.url)) as gw:
            assert (await gw.send(chat())).status == 502
        getter = Getter(tls=ssl.create_default_context(), guard=GUARD)
        assert (await getter.get(model.url, host="", timeout_s=60, bytes_max=99)).status == status
        assert (await getter.post(model.url, b"{}", timeout_s=60, bytes_max=99)).status == status
        await getter.close()
    assert service.seen == []
