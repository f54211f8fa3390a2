"""Models whose streams break, and what a caller and a gateway have of them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from fakes.gateway import (
    CHAT,
    Gateway,
    chat,
    said,
)
from switchboard_policy import ir

Script = Sequence[bytes | float | None]


#: Longer than what is sent at once takes to arrive, so that it has gone out when the rest comes.
SOON = 0.1


END = said(finish_reason="stop")


DONE = b"data: [DONE]\n\n"


ROLE = said(delta={"role": "assistant"})


PRICES = ir.Pricing(input_picodollars=1_000_000, output_picodollars=2_000_000)


def in_flight(gw: Gateway) -> int:
    return sum(signal.in_flight for signal in gw.plane.in_force.signals.values())


def errors_of(gw: Gateway, name: str) -> float:
    signals = gw.plane.in_force.signals
    return sum(one.errors for key, one in signals.items() if key.startswith(f"ai/{name}@"))


async def metric(gw: Gateway, name: str) -> dict[str, float]:
    """The samples of a metric by their labels."""
    lines = (await gw.admin("/metrics")).body.decode().splitlines()
    found = (line.rpartition(" ") for line in lines if line.startswith(name + "{"))
    return {labels.removeprefix(name): float(value) for labels, _, value in found}


async def ask(gw: Gateway, **fields: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gw.plane.port, limit=1024)
    body = orjson.dumps(chat("x" * 40, **{"stream": True, **fields}))
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    return reader, writer
