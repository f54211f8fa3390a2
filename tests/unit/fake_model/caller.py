"""A caller of a fake model, and requests to send by hand."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from switchboard_cli.fake_model.server import Serving

CHAT = "/v1/chat/completions"


@dataclass
class Reply:
    """One answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def data(self) -> list[bytes]:
        """What the events of a stream carry, in order."""
        events = self.body.split(b"\n\n")
        assert events.pop() == b"", "a stream ends with a whole event"
        return [event.removeprefix(b"data: ") for event in events]

    @property
    def chunks(self) -> list[Any]:
        """The events of a stream up to its [DONE], parsed."""
        return [orjson.loads(data) for data in self.data if data != b"[DONE]"]

    @property
    def words(self) -> list[str]:
        """The content of a chat stream, chunk by chunk."""
        deltas = [chunk["choices"][0]["delta"] for chunk in self.chunks if chunk["choices"]]
        return [delta["content"] for delta in deltas if delta.get("content")]


@dataclass
class Fake:
    """A running fake model, and how to talk to it."""

    serving: Serving
    session: aiohttp.ClientSession
    headers: dict[str, str] = field(default_factory=dict)

    async def send(self, method: str, path: str, body: object = None) -> Reply:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        async with self.session.request(
            method, self.serving.url + path, data=data, headers=self.headers
        ) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, headers, await response.read())

    async def chat(self, text: str = "hello", **fields: object) -> Reply:
        return await self.send("POST", CHAT, ask(text, **fields))

    async def control(self) -> Any:
        return (await self.send("GET", "/control")).json

    async def counters(self) -> Any:
        return (await self.control())["counters"]

    async def settle(self, **wanted: int) -> None:
        """Wait until the counters say what is wanted; the test's time limit ends a vain wait."""
        while not wanted.items() <= (await self.counters()).items():  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.serving.port)

    async def open_stream(
        self,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a streamed request by hand; the answer has not been read."""
        reader, writer = await self.connect()
        writer.write(raw_request(ask(stream=True)))
        return reader, writer


def ask(text: str = "hello", **fields: object) -> dict[str, object]:
    return {"model": "fake-model", "messages": [{"role": "user", "content": text}], **fields}


def raw_request(body: object, path: str = CHAT) -> bytes:
    data = orjson.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: fake\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


StartFake = Callable[..., Coroutine[Any, Any, Fake]]
