"""Upstreams on real sockets that say what a test tells them to, and requests to them."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes.gateway import read_request
from fakes.policies import backend, policy, rule, snapshot, tier
from switchboard_dataplane.decision.running import Endpoint
from switchboard_dataplane.upstream.bound import Bound, Bounds
from switchboard_dataplane.upstream.transport import Upstream, UpstreamResponse
from switchboard_policy import ir

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
#: The head of an answer whose body has that many bytes.
SIZED_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"


@dataclass
class Conversation:
    """A connection to a peer; ``number`` counts from 1."""

    number: int
    peer: "Peer"
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """Read a request; raises IncompleteReadError where the other side is gone."""
        request = await read_request(self.reader)
        self.peer.requests.append(request)
        return request

    async def say(self, *data: bytes) -> None:
        for one in data:
            self.writer.write(one)
            await self.writer.drain()
            self.peer.said_bytes += len(one)

    async def gone(self) -> None:
        """Wait until the other side has left, whatever it sends."""
        while await self.reader.read(65_536):
            pass


Talk = Callable[[Conversation], Awaitable[None]]


@dataclass
class Peer:
    """A server; ``accepted`` counts connections, ``closed`` those that the other side has left.

    ``listens`` is for the test to set, where a peer is deaf until then.
    """

    port: int = 0
    host: str = "127.0.0.1"
    scheme: str = "http"
    accepted: int = 0
    closed: int = 0
    said_bytes: int = 0
    requests: list[bytes] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    listens: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/v1"


@asynccontextmanager
async def peer(
    talk: Talk, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Peer]:
    """Run a server that talks like this on each connection, then closes it.

    With ``tls`` it remembers the name that each client asked for.
    """
    running = Peer(host=host, scheme="https" if tls else "http")
    tasks: set[asyncio.Task[None]] = set()
    if tls is not None:
        tls.sni_callback = lambda _, name, __: running.names.append(name)

    async def serve(one: Conversation) -> None:
        try:
            await talk(one)
        except (ConnectionError, asyncio.IncompleteReadError):
            running.closed += 1
        finally:
            one.writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        running.accepted += 1
        task = asyncio.create_task(serve(Conversation(running.accepted, running, reader, writer)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(begin, host, 0, ssl=tls, backlog=512)
    running.port = server.sockets[0].getsockname()[1]
    try:
        async with server:
            yield running
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # What is closed is told in the next turns of the loop.
        await asyncio.sleep(0.01)


async def keep_answering(one: Conversation) -> None:
    """Answer every request on the connection."""
    while True:
        await one.request()
        await one.say(ANSWER)


def answering(*answers: bytes) -> Talk:
    """Answer the requests of a connection with these, in turn, then close it."""

    async def talk(one: Conversation) -> None:
        for answer in answers:
            await one.request()
            await one.say(answer)

    return talk


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def forward(one: Conversation) -> None:
    """A forward proxy, which takes every name for this host."""
    head = await one.reader.readuntil(b"\r\n\r\n")
    one.peer.requests.append(head)
    method, target, _ = head.split(b" ", 2)
    netloc = target if method == b"CONNECT" else target.split(b"/")[2]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(netloc.rpartition(b":")[2]))
    if method == b"CONNECT":
        await one.say(b"HTTP/1.1 200 Connected\r\n\r\n")
    else:
        writer.write(head)
    async with asyncio.TaskGroup() as both:
        both.create_task(_pipe(one.reader, writer))
        both.create_task(_pipe(reader, one.writer))


def endpoint_at(url: str, *, host: str = "", connect_ms: int = 20_000) -> Endpoint:
    """An endpoint of the backend ``ai/one``; with ``host`` it is that of a Service."""
    entry = backend("one", timeouts=ir.Timeouts(connect_ms=connect_ms))
    running = snapshot(policy("chat", rule("default", tier("only", "one"))), entry)
    (endpoint,) = running.backends["ai/one"].endpoints
    return Endpoint(
        id=endpoint.id,
        backend=endpoint.backend,
        address=endpoint.address,
        url=url,
        zone="",
        host=host,
    )


def bound_in(seconds: float) -> Bound:
    """A bound of its own, that many seconds from now."""
    loop = asyncio.get_running_loop()
    return Bounds(clock=loop.time, call_later=loop.call_later).until(loop.time() + seconds)


async def post(
    upstream: Upstream,
    endpoint: Endpoint,
    body: bytes = b"{}",
    *,
    headers: Sequence[tuple[str, str]] = (),
    bound: Bound | None = None,
) -> UpstreamResponse:
    """Send a request; the head of its answer has come when this returns."""
    own = bound or bound_in(60.0)
    try:
        return await upstream.send(
            endpoint, "/chat/completions", headers=headers, body=body, bound=own
        )
    finally:
        if bound is None:
            own.stop()


async def body_of(response: UpstreamResponse) -> bytes:
    """Read an answer to its end."""
    pieces: list[bytes] = []
    try:
        while piece := await response.read():
            pieces.append(piece)
    finally:
        response.close()
    return b"".join(pieces)


async def ask(
    upstream: Upstream, model: Peer, body: bytes = b"{}", *, bound: Bound | None = None
) -> bytes:
    """Send a request to a peer, and read its answer to the end."""
    return await body_of(await post(upstream, endpoint_at(model.url), body, bound=bound))


@asynccontextmanager
async def leaving_nothing(make: Callable[[], Upstream]) -> AsyncGenerator[Upstream]:
    """A transport that leaves nothing behind when it is closed."""
    async with nothing_left():
        upstream = make()
        try:
            yield upstream
        finally:
            await upstream.close()


@asynccontextmanager
async def nothing_left(*, within_s: float = 30.0) -> AsyncGenerator[None]:
    """Check that the block leaves no task running and no socket open."""
    tasks: set[asyncio.Task[Any] | None] = {*asyncio.all_tasks()}
    sockets = _sockets()
    yield
    async with asyncio.timeout(within_s):
        tasks |= {asyncio.current_task()}
        while _sockets() > sockets or asyncio.all_tasks() - tasks:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.005)


def _sockets() -> int:
    count = 0
    for one in Path("/proc/self/fd").iterdir():
        # The folder's own is gone when it is looked at.
        with suppress(OSError):
            count += str(one.readlink()).startswith("socket:")
    return count
