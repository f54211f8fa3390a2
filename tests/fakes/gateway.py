"""A whole data plane on real sockets, around the in-process store, with callers and upstreams."""

import asyncio
import io
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from fakes.policies import backend as backend_entry
from fakes.policies import key_of, keyring, policy, rule, tier
from switchboard_cli.fake_model.server import Serving, serve
from switchboard_cli.fake_model.settings import Settings as FakeSettings
from switchboard_cli.fake_model.settings import patch_settings
from switchboard_dataplane import app
from switchboard_dataplane.front.routes import PATIENCE, Patience
from switchboard_dataplane.settings import Settings
from switchboard_dataplane.telemetry.outcome import Outcome
from switchboard_dataplane.upstream.addresses import LOOPBACK
from switchboard_policy import ir
from switchboard_policy.codec import encode
from switchboard_policy.seal import Keyring
from switchboard_policy.store import CHANNELS, Channel
from switchboard_policy.store.memory import MemoryStore

SCOPE = "gw/test"
#: Whether gateways serve by the lane; the fixture ``each_front`` sets it.
LANE = True
CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
EPOCH = 1


def chat(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": text}], **fields}


@dataclass
class Reply:
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    @property
    def events(self) -> list[Any]:
        """What the events of a stream carry, parsed; [DONE] as it is."""
        assert self.body.endswith(b"\n\n"), "a stream ends with a whole event"
        events = self.body[:-2].split(b"\n\n")
        data = [one.removeprefix(b"data: ") for one in events if not one.startswith(b":")]
        return [one.decode() if one == b"[DONE]" else orjson.loads(one) for one in data]

    @property
    def text(self) -> str:
        """The content of a chat stream."""
        return "".join(
            choice["delta"].get("content") or ""
            for event in self.events
            if isinstance(event, dict)
            for choice in event.get("choices", ())
        )


@dataclass
class Gateway:
    """A running data plane, a caller of it, and what it told of its requests."""

    plane: app.DataPlane
    session: aiohttp.ClientSession
    store: MemoryStore
    outcomes: list[Outcome] = field(default_factory=list)
    keys: list[Keyring] = field(default_factory=lambda: [keyring(SCOPE)])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.plane.port}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.plane.admin_port}"

    async def send(
        self, body: object, path: str = CHAT, *, method: str = "POST", **headers: str
    ) -> Reply:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        # A file, because the client warns of large bodies in one piece.
        sent = io.BytesIO(data) if method == "POST" else None
        async with self.session.request(
            method, self.url + path, data=sent, headers=named
        ) as response:
            return await reply_of(response)

    async def get(self, path: str) -> Reply:
        return await self.send(b"", path, method="GET")

    async def admin(self, path: str) -> Reply:
        async with self.session.get(self.admin_url + path) as response:
            return await reply_of(response)

    async def outcome(self, number: int = 0) -> Outcome:
        """Wait for the outcome of the request of that number."""
        await until(lambda: len(self.outcomes) > number)
        return self.outcomes[number]

    async def publish(self, *entries: ir.Entry) -> None:
        """Make the store hold exactly these, and wait until they are in force."""
        writer = self.store.writer(keyrings=lambda _: self.keys[-1])
        for channel in CHANNELS:
            contents = {
                key_of(entry): encode(entry) for entry in entries if channel_of(entry) == channel
            }
            await writer.replace(SCOPE, channel, epoch=EPOCH, contents=contents)
        heads = [self.store.channel(SCOPE, channel).revision for channel in CHANNELS]
        state = self.plane.follower.state
        await until(lambda: state().synced and [*state().revisions.values()] == heads)


async def reply_of(response: aiohttp.ClientResponse) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status, headers, await response.read())


def channel_of(entry: ir.Entry) -> Channel:
    return "endpoints" if isinstance(entry, ir.Endpoints) else "policy"


async def until(holds: Callable[[], bool], *, within_s: float = 30.0) -> None:
    """Wait until something holds; fail where it never does."""
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.002)


@asynccontextmanager
async def gateway(
    *entries: ir.Entry, patience: Patience = PATIENCE, **settings: Any
) -> AsyncGenerator[Gateway]:
    """Run a data plane with these entries in force; at its end nothing of a request is left."""
    said = {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "scope": SCOPE,
        "lane": LANE,
        "allow_addresses": LOOPBACK,
        **settings,
    }
    # One gateway may stand before another.
    others = asyncio.all_tasks()
    # The loop's, which may be one whose clock jumps.
    clock = asyncio.get_running_loop().time
    store = MemoryStore(clock_ms=lambda: round(clock() * 1000))
    outcomes: list[Outcome] = []
    keys = [keyring(SCOPE)]
    plane = app.build(
        Settings(**said),
        source=store.reader(SCOPE),
        keyring=lambda: keys[-1],
        observers=[outcomes.extend],
        patience=patience,
        clock=clock,
    )
    async with app.serving(plane), aiohttp.ClientSession() as session:
        running = Gateway(plane, session, store, outcomes, keys)
        if entries:
            await running.publish(*entries)
        yield running
    signals = plane.in_force.signals
    held = {name: one for name, one in signals.items() if one.in_flight or one.waiting}
    assert not held, "whatever a request held was given back"
    queues = {**signals.queues, **signals.waking}
    assert not [name for name, queue in queues.items() if queue.waiting], "nobody waits any more"
    assert len(plane.live) == 0
    ours = [task for task in asyncio.all_tasks() - others if "switchboard_dataplane" in repr(task)]
    assert not ours, "no task of the data plane goes on"


def external(name: str, url: str, **fields: Any) -> ir.Backend:
    """A backend ``ai/NAME`` at a fake upstream, with timeouts that no busy machine reaches.

    A test of what is late gives the late backend a short one.
    """
    timeouts = dict.fromkeys(("connect_ms", "first_token_ms", "idle_ms"), 20_000)
    timeouts["total_ms"] = 60_000
    timeouts |= fields.pop("timeouts", {})
    return backend_entry(
        name, url=f"{url}/v1", model="fake-model", timeouts=ir.Timeouts(**timeouts), **fields
    )


def failover(*tiers: str | Sequence[str], **fields: Any) -> ir.Policy:
    """A policy ``ai/chat`` for the model ``chat`` with one rule: these backends, tier by tier."""
    built = [
        tier(f"tier-{number}", *((one,) if isinstance(one, str) else one))
        for number, one in enumerate(tiers)
    ]
    return policy("chat", rule("default", *built), **fields)


@asynccontextmanager
async def fakes(*settings: dict[str, object]) -> AsyncGenerator[list[Serving]]:
    """Run fake models with these settings; they are named a, b, c, …."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                serve(patch_settings(FakeSettings(name=chr(ord("a") + number)), one))
            )
            for number, one in enumerate(settings)
        ]


@dataclass
class Scripted:
    """An upstream that says what it is told to, byte for byte.

    A script is bytes to write, seconds to wait, or None for a reset. ``seen`` are the requests,
    ``closed`` counts connections that the other side closed before the script was over.
    """

    url: str
    seen: list[bytes] = field(default_factory=list)
    closed: int = 0


@asynccontextmanager
async def scripted(*script: bytes | float | None) -> AsyncGenerator[Scripted]:
    """Run an upstream that plays the script on every connection, then closes it."""
    upstream = Scripted("")

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream.seen.append(await read_request(reader))
        gone = asyncio.create_task(reader.read())
        for step in script:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif step is None:
                writer.transport.abort()
            else:
                await asyncio.wait([gone], timeout=step)
                if gone.done():
                    upstream.closed += 1
                    break
        gone.cancel()
        writer.close()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await play(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0, backlog=512)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield upstream


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Return the head and body of an HTTP request with a Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return head + await reader.readexactly(int(value))
    return head


def http(status: int, body: bytes, *headers: str, media_type: str = "application/json") -> bytes:
    """A whole HTTP answer."""
    lines = [
        f"HTTP/1.1 {status} Said",
        f"content-type: {media_type}",
        f"content-length: {len(body)}",
        "connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


#: The head of an event stream that ends with its connection.
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
#: The end of a chat stream.
DONE = b"data: [DONE]\n\n"


def event(**fields: Any) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def said(text: str | None = None, **choice: Any) -> bytes:
    """An event of a chat stream with content, or with whatever the choice says."""
    delta = {"content": text} if text is not None else {}
    return event(choices=[{"index": 0, "delta": delta, "finish_reason": None, **choice}])
