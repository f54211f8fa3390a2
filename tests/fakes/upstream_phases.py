"""Upstreams that leave a request at some phase of it, for whoever gives it up there."""

import asyncio

from fakes.gateway import until
from fakes.upstreams import SIZED_HEAD, Conversation, Peer, Talk

BIG = bytes(range(256)) * 4096 * 16
"""16 MiB: more than the buffers of both ends take."""
AT_ONCE_S = 0.5
"""On a busy machine. What waits for the other side waits for as long as that is silent."""


async def mute(one: Conversation) -> None:
    """Accept, and leave the handshake to the other side."""
    await one.gone()
    one.peer.closed += 1


async def deaf(one: Conversation) -> None:
    """Take nothing of the request, until the test says so."""
    await one.peer.listens.wait()
    await one.gone()
    one.peer.closed += 1


async def silent(one: Conversation) -> None:
    """Take the request and say nothing."""
    await one.request()
    await one.gone()
    one.peer.closed += 1


async def halting(one: Conversation) -> None:
    """Say half an answer."""
    await one.request()
    await one.say(SIZED_HEAD % 10 + b"half")
    await one.gone()
    one.peer.closed += 1


PHASES: dict[str, tuple[Talk, bytes]] = {
    "handshake": (mute, b"{}"),
    "writing": (deaf, BIG),
    "head": (silent, b"{}"),
    "body": (halting, b"{}"),
}
"""By the phase that a request stays in: who leaves it there, and the body to send."""


async def under_way(model: Peer, talk: Talk) -> None:
    """Wait until a request has come as far as such a peer lets it."""
    await until(lambda: model.accepted == 1)
    if talk in (silent, halting):
        await until(lambda: len(model.requests) == 1)
    await asyncio.sleep(0.03)
