"""Small GETs beside the requests, at real sockets: kept connections, bounds, and every failure."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.processes import LOOPBACK
from cluster.tls import Authority
from fakes.loopback import GUARD
from fakes.upstreams import Conversation, answering, keep_answering, peer
from switchboard_dataplane.upstream.getting import Getter, Got
from switchboard_dataplane.upstream.tls import tls_context

TEXT = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%s"


@pytest.fixture
async def getter() -> AsyncIterator[Getter]:
    getter = Getter(tls=ssl.create_default_context(), guard=GUARD, pod="pod-1\r\nx: y")
    yield getter
    await getter.close()


async def get(
    getter: Getter, url: str, *, host: str = "", timeout_s: float = 2.0, bytes_max: int = 1000
) -> Got:
    return await getter.get(url, host=host, timeout_s=timeout_s, bytes_max=bytes_max)


async def test_gets_share_a_connection_and_carry_no_credential(getter: Getter) -> None:
    async with peer(keep_answering) as engine:
        for _ in range(3):
            assert await get(getter, f"{engine.url}/metrics?a=b", host="llm.ai.svc") == (200, b"{}")
        assert engine.accepted == 1
    head = engine.requests[0].decode()
    assert head.startswith("GET /v1/metrics?a=b HTTP/1.1\r\nhost: llm.ai.svc\r\n")
    assert "user-agent: switchboard-dataplane/pod-1??x??y\r\n" in head
    assert "authorization" not in head.lower()


async def test_a_connection_that_was_closed_while_it_was_kept_is_replaced(getter: Getter) -> None:
    async with peer(answering(TEXT % (5, b"first"))) as engine:
        assert await get(getter, engine.url) == (200, b"first")
        await asyncio.sleep(0.02)
        assert await get(getter, engine.url) == (200, b"first")
        assert engine.accepted == 2


async def test_an_error_status_is_an_answer(getter: Getter) -> None:
    async with peer(answering(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n")) as engine:
        assert await get(getter, engine.url) == (404, b"")


async def hang(one: Conversation) -> None:
    await one.request()
    await one.gone()


async def hang_in_the_body(one: Conversation) -> None:
    await one.request()
    await one.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nab")
    await one.gone()


async def say_garbage(one: Conversation) -> None:
    await one.request()
    await one.say(b"SSH-2.0-OpenSSH_9.2\r\n")
    await one.gone()


async def say_without_end(one: Conversation) -> None:
    await one.request()
    await one.say(b"HTTP/1.1 200 OK\r\n\r\n", *([b"x" * 1024] * 64))
    await one.gone()


async def leave(one: Conversation) -> None:
    await one.request()


@pytest.mark.parametrize(
    "talk", [hang, hang_in_the_body, say_garbage, say_without_end, leave], ids=lambda t: t.__name__
)
async def test_whatever_goes_wrong_is_an_os_error_in_time_and_leaves_nothing(
    getter: Getter, talk: object
) -> None:
    async with peer(talk) as engine:  # type: ignore[arg-type]
        async with asyncio.timeout(2):
            with pytest.raises(OSError):  # noqa: PT011 - which one, the case says
                await get(getter, engine.url, timeout_s=0.2)
        await asyncio.sleep(0.05)
        assert all(not len(pool) for pool in getter._pools.values())


async def test_nobody_there_and_no_address_are_os_errors(getter: Getter) -> None:
    async with peer(leave) as engine:
        pass
    for url in (engine.url, "http://[::1", "ftp://x/", "http://", "http://h:99999/"):
        with pytest.raises(OSError):  # noqa: PT011 - which one, the case says
            await get(getter, url, timeout_s=0.5)


async def test_a_cancelled_get_closes_its_connection(getter: Getter) -> None:
    async with peer(hang) as engine:
        getting = asyncio.create_task(get(getter, engine.url))
        await asyncio.sleep(0.1)
        getting.cancel()
        await asyncio.wait([getting])
        await asyncio.sleep(0.05)
        assert engine.accepted == 1
        assert all(not len(pool) for pool in getter._pools.values())


async def test_tls_is_verified_by_the_name_of_the_service(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ours")
    certificate = authority.issue("llm.ai.svc")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    getter = Getter(tls=tls_context(str(authority.file)), guard=GUARD)
    async with peer(keep_answering, tls=context) as engine:
        url = f"https://{LOOPBACK}:{engine.port}/metrics"
        assert await get(getter, url, host="llm.ai.svc:8443") == (200, b"{}")
        with pytest.raises(OSError, match="certificate"):
            await get(getter, url)
        await getter.close()
