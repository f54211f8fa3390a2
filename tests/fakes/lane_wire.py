"""The lane without sockets: a connection on a plain transport, whose requests are echoed."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from fakes.plain_transport import PlainTransport, turns
from switchboard_dataplane.errors import RouterError
from switchboard_dataplane.front.bodies import Bodies
from switchboard_dataplane.front.lane import Connections, Lane
from switchboard_dataplane.front.routes import Routes
from switchboard_dataplane.lifecycle import LiveRequests
from switchboard_dataplane.proxy import Caller
from switchboard_dataplane.wire.answers import Answer, error_answer
from switchboard_dataplane.wire.response_heads import ResponseHeads

BODY_LIMIT_BYTES = 1_000
BODIES_LIMIT_BYTES = 2_000


class Echo:
    """Stands where a proxy does, and answers with what it was asked."""

    def __init__(self) -> None:
        self.served = 0
        self.waits: asyncio.Event | None = None
        self.admits: asyncio.Event | None = None
        self.left = 0

    async def serve(self, caller: Caller) -> None:
        try:
            await self._serve(caller)
        except (asyncio.CancelledError, ConnectionError):
            self.left += 1
            raise

    async def _serve(self, caller: Caller) -> None:
        if self.admits is not None:
            await self.admits.wait()
        try:
            body = await caller.read_body()
        except RouterError as error:
            await caller.send(error_answer(error))
            return
        self.served += 1
        if self.waits is not None:
            await self.waits.wait()
        said = {"api": caller.api, "headers": dict(caller.headers), "body": body.hex()}
        await caller.send(Answer(200, (), orjson.dumps(said)))


@dataclass
class PlainLane:
    """A connection to the lane. ``now`` is what its clock says."""

    live: LiveRequests = field(default_factory=LiveRequests)
    echo: Echo = field(default_factory=Echo)
    stuck: bool = False
    now: float = 0.0
    body_limit_bytes: int = BODY_LIMIT_BYTES

    def __post_init__(self) -> None:
        routes = Routes(
            proxy=self.echo,
            feedback=self.echo,
            live=self.live,
            bodies=Bodies(max(BODIES_LIMIT_BYTES, self.body_limit_bytes)),
            snapshot=lambda: None,
            body_limit_bytes=self.body_limit_bytes,
        )
        heads = ResponseHeads(clock=lambda: 0.0, today=lambda: datetime(2026, 1, 1, tzinfo=UTC))
        self.shared = Connections(
            routes=routes,
            heads=heads,
            clock=lambda: self.now,
            create_task=asyncio.get_running_loop().create_task,
        )
        self.lane = Lane(self.shared)
        self.transport = PlainTransport(self.lane, stuck=self.stuck)
        self.lane.connection_made(self.transport)

    async def send(self, *pieces: bytes) -> bytes:
        """Let these bytes arrive; return all that was answered until nothing more happens."""
        for piece in pieces:
            self.transport.feed(piece)
            await turns(1)
        seen = -1
        while seen != len(self.transport.written):
            seen = len(self.transport.written)
            await turns(4)
        return bytes(self.transport.written)

    async def leave(self) -> None:
        """The caller leaves, and what was served for it ends."""
        self.transport.abort()
        await turns(5)
        assert len(self.live) == 0
        assert not self.shared.open


@dataclass(frozen=True)
class Said:
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


def split_answers(data: bytes, *, heads_only: frozenset[int] = frozenset()) -> list[Said]:
    """Take apart whole answers with a Content-Length; those of these numbers have no body."""
    answers: list[Said] = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        size = 0 if len(answers) in heads_only else int(headers["content-length"])
        assert len(data) >= size, "an answer is cut off"
        answers.append(Said(int(first.split(" ")[1]), headers, data[:size]))
        data = data[size:]
    return answers
