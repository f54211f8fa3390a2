"""An upstream without sockets: a connection on a plain transport, and an exchange on it."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from fakes.plain_transport import PlainTransport, turns
from switchboard_dataplane.errors import UpstreamError
from switchboard_dataplane.upstream.bound import Bound, Bounds
from switchboard_dataplane.upstream.connection import Connection, Response

REQUEST_HEAD = b"POST / HTTP/1.1\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"content-length: 2\r\n\r\nhi"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


@dataclass
class Wire:
    """A connection on a plain transport; ``told`` are the calls of ``released`` and ``lost``."""

    connection: Connection
    transport: PlainTransport
    told: list[str] = field(default_factory=list)

    async def begin(
        self, body: bytes = b"", *, bound: Bound | None = None
    ) -> asyncio.Task[Response]:
        """Begin an exchange; it waits for its answer when this returns."""
        task = asyncio.create_task(
            self.connection.exchange(REQUEST_HEAD, body, bound or distant_bound())
        )
        await turns()
        return task


def wire(*, stuck: bool = False) -> Wire:
    """Return a connection that is open and idle; call it in an event loop."""
    told: list[str] = []
    connection = Connection(
        asyncio.get_running_loop(),
        released=lambda _: told.append("released"),
        lost=lambda _: told.append("lost"),
    )
    transport = PlainTransport(connection, stuck=stuck)
    connection.connection_made(transport)
    return Wire(connection, transport, told)


def distant_bound() -> Bound:
    """A bound that does not end a test."""
    loop = asyncio.get_running_loop()
    return Bounds(clock=loop.time, call_later=loop.call_later).until(loop.time() + 60)


@dataclass(frozen=True)
class Read:
    """What came of an answer: ``failure`` is the type of what ended it, if anything did."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    failure: type[BaseException] | None = None
    reusable: bool = False


async def read_answer(pieces: Iterable[bytes | None], *, pour: bool = False) -> Read:
    """Run an exchange whose answer arrives in these pieces; None is the end of the connection.

    With ``pour`` the body is poured to a listener that wants a pause after every piece.
    """
    one = wire()
    exchange = await one.begin()
    body: list[bytes] = []

    async def read() -> Response:
        response = await exchange
        if pour:

            def take(piece: bytes) -> bool:
                body.append(piece)
                return False

            await response.pour(take, turns)
        while piece := await response.read():
            body.append(piece)
        return response

    reading = asyncio.create_task(read())
    one.transport.feed(*pieces)
    async with asyncio.timeout(30):
        failure = (await asyncio.gather(reading, return_exceptions=True))[0]
    await turns()
    seen = exchange.result() if exchange.exception() is None else None
    reusable = one.connection.usable() and "released" in one.told
    if not reusable:
        one.transport.abort()
        await turns()
        assert one.told[-1] == "lost"
    return Read(
        status=seen.status if seen is not None else 0,
        headers=tuple(seen.headers) if seen is not None else (),
        body=b"".join(body),
        failure=type(failure) if isinstance(failure, UpstreamError) else None,
        reusable=reusable,
    )
