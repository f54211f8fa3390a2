"""Two models that take turns, and a gateway before them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fakes.gateway import (
    Gateway,
    external,
    failover,
    gateway,
    until,
)
from fakes.taking_turns import TakingTurns, answered
from fakes.upstreams import nothing_left
from switchboard_policy import ir

GOOD = answered("good")


@asynccontextmanager
async def served(*entries: ir.Entry) -> AsyncGenerator[Gateway]:
    """Run a gateway; after the block nothing is in flight, and nothing of it is left."""
    async with nothing_left(), gateway(*entries) as gw:
        yield gw
        signals = gw.plane.in_force.signals
        await until(lambda: not any(signal.in_flight for signal in signals.values()))
        await until(lambda: not len(gw.plane.live))


def two(bad: TakingTurns, good: TakingTurns, **fields: Any) -> tuple[ir.Entry, ...]:
    """A policy whose second tier is good."""
    return (
        failover("bad", "good", **fields),
        external("bad", bad.url),
        external("good", good.url),
    )


def alone(model: TakingTurns, **fields: Any) -> tuple[ir.Entry, ...]:
    return failover("model", **fields), external("model", model.url)
