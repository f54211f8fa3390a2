"""Upstreams that answer each request with the next of their answers, the last one for ever."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from fakes.gateway import STREAM_HEAD, http, read_request, said
from fakes.virtual_time import now_s

#: What an answer may be: bytes to say, None to break the connection off, or silence.
Turn = bytes | None | float


@dataclass
class TakingTurns:
    """An upstream; ``seen`` are the requests, ``seen_at`` when they came, in seconds.

    A number among ``turns`` is silence, in seconds.
    """

    turns: list[Turn]
    url: str = ""
    seen: list[bytes] = field(default_factory=list)
    seen_at: list[float] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.append(await read_request(reader))
        self.seen_at.append(now_s())
        turn = self.turns[min(len(self.seen), len(self.turns)) - 1]
        if isinstance(turn, float):
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(), turn)
        elif turn is None:
            writer.transport.abort()
        else:
            writer.write(turn)
            await writer.drain()


@asynccontextmanager
async def taking_turns(*turns: Turn) -> AsyncGenerator[TakingTurns]:
    """Run an upstream with a connection for each request."""
    upstream = TakingTurns([*turns])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await upstream.answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield upstream


def answered(text: str, *headers: str) -> bytes:
    """A whole chat answer whose model is named after its text."""
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    return http(200, orjson.dumps({"model": f"the-{text}", "choices": [choice]}), *headers)


def streamed(text: str) -> bytes:
    """A whole chat stream."""
    return STREAM_HEAD + said(text) + said(finish_reason="stop") + b"data: [DONE]\n\n"


def refused(status: int, *headers: str, **error: Any) -> bytes:
    """An error answer."""
    return http(status, orjson.dumps({"error": {"message": "no", **error}}), *headers)
