"""A gateway whose upstream says what the user said, and a caller that writes to it byte by byte."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from fakes.gateway import DONE, STREAM_HEAD, Gateway, external, failover, gateway, said
from fakes.raw_caller import RawCaller, calling
from fakes.upstreams import Conversation, Peer, Talk, peer

GET_MODELS = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
#: A limit for bodies that is soon exceeded.
LIMIT_BYTES = 100_000


async def echo(one: Conversation) -> None:
    """Answer each request with what the user said, whole or as a stream."""
    while True:
        body = orjson.loads((await one.request()).partition(b"\r\n\r\n")[2])
        text = body["messages"][0]["content"]
        if body.get("stream"):
            await one.say(STREAM_HEAD, said(text), said(finish_reason="stop"), DONE)
            return
        answer = orjson.dumps({"said": text})
        await one.say(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        await one.say(b"content-length: %d\r\n\r\n%b" % (len(answer), answer))


@asynccontextmanager
async def serving(talk: Talk = echo, **settings: Any) -> AsyncGenerator[tuple[Gateway, Peer]]:
    """Run a gateway with these settings, and an upstream that talks like this."""
    async with (
        peer(talk) as model,
        gateway(
            failover("model"), external("model", model.url.removesuffix("/v1")), **settings
        ) as gw,
    ):
        yield gw, model


@asynccontextmanager
async def called(talk: Talk = echo, **settings: Any) -> AsyncGenerator[RawCaller]:
    """A caller that is connected to a gateway with an upstream that talks like this."""
    async with serving(talk, **settings) as (gw, _), calling(gw) as caller:
        yield caller
