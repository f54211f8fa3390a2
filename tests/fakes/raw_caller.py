"""A caller that writes its requests byte for byte, and reads answers as they came."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from fakes.gateway import CHAT, Gateway, chat


@dataclass(frozen=True)
class RawAnswer:
    """An answer; ``first`` is its first line, header names are in lower case."""

    first: str
    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1])

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        code: str = self.json["error"]["code"]
        return code


@dataclass
class RawCaller:
    """A connection to a gateway's public port."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def write(self, *data: bytes) -> None:
        for one in data:
            self.writer.write(one)
            await self.writer.drain()

    async def head(self) -> RawAnswer:
        """Read the head of an answer."""
        data = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = data.decode("utf-8", "surrogateescape").rstrip("\r\n").split("\r\n")
        pairs = (line.split(":", 1) for line in lines)
        return RawAnswer(first, {name.lower(): value.strip() for name, value in pairs}, b"")

    async def answer(self, *, bare: bool = False) -> RawAnswer:
        """Read a whole answer; a ``bare`` one has no body, whatever its head says."""
        head = await self.head()
        if bare:
            body = b""
        elif "content-length" in head.headers:
            body = await self.reader.readexactly(int(head.headers["content-length"]))
        elif head.headers.get("transfer-encoding") == "chunked":
            body = b"".join([piece async for piece in self._chunks()])
        else:
            body = await self.reader.read()
        return RawAnswer(head.first, head.headers, body)

    async def ended(self) -> bool:
        """Say whether the gateway ends the connection without another word, soon."""
        async with asyncio.timeout(20):
            return await self.reader.read() == b""

    async def _chunks(self) -> AsyncGenerator[bytes]:
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"


@asynccontextmanager
async def calling(gateway: Gateway) -> AsyncGenerator[RawCaller]:
    """Open a connection to a gateway while the block runs."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.plane.port)
    try:
        yield RawCaller(reader, writer)
    finally:
        writer.transport.abort()


def request(
    text: str = "hello",
    *headers: str,
    target: str = CHAT,
    version: str = "1.1",
    chunked: bool = False,
    **fields: Any,
) -> bytes:
    """A request for a chat completion; ``fields`` are those of its body."""
    body = orjson.dumps(chat(text, **fields))
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
    lines = [f"POST {target} HTTP/{version}", "host: gateway", framing, *headers, "", ""]
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    return "\r\n".join(lines).encode() + sent
