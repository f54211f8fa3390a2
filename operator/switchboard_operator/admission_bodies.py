"""The bodies of reviews, read before a place among those that are judged is taken.

Anybody in the cluster may call the webhooks: who sends slowly, or much, keeps nobody else waiting.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from switchboard_policy.errors import Malformed

OBJECT_BYTES_MAX: Final = 3 * 1024 * 1024
"""What the API server takes of one object."""
BODY_BYTES_MAX: Final = 2 * OBJECT_BYTES_MAX + 1024 * 1024
"""An edit's review has the object twice, as it is and as it was, and who asks."""
BODY_TIMEOUT_S: Final = 2.0
"""The largest takes 0.6 s at 100 Mbit/s; the rest is for a loop that is busy with a compilation.

The API server waits for five, and a store that is away may take two of them.
"""
HELD_BYTES_MAX: Final = 64 * 1024 * 1024
"""Nine of the largest, or thousands as they are."""


class Bodies:
    """The bodies that are read, and those that wait for their answer.

    Where they are too much together, the unfinished one that was begun first is given up: an API
    server's is whole within milliseconds.
    """

    def __init__(self) -> None:
        self._unfinished = dict[asyncio.Timeout, int]()
        self._held = 0

    @asynccontextmanager
    async def read(self, asked: web.Request) -> AsyncGenerator[bytes]:
        """Hold a request's body. Raises Malformed for one that does not come in time."""
        try:
            body = await self._read(asked)
        except TimeoutError as error:
            raise Malformed("the body did not come in time") from error
        self._held += len(body)
        try:
            yield body
        finally:
            self._held -= len(body)

    async def _read(self, asked: web.Request) -> bytes:
        body = bytearray()
        async with asyncio.timeout(BODY_TIMEOUT_S) as patience:
            self._unfinished[patience] = 0
            try:
                async for piece in asked.content.iter_any():
                    body += piece
                    if len(body) > BODY_BYTES_MAX:
                        raise web.HTTPRequestEntityTooLarge(BODY_BYTES_MAX, len(body))
                    self._make_room(patience, len(piece))
            finally:
                self._held -= self._unfinished.pop(patience, 0)
        return bytes(body)

    def _make_room(self, patience: asyncio.Timeout, size: int) -> None:
        if patience not in self._unfinished:
            # Given up already, in the same turn of the loop.
            raise TimeoutError
        self._unfinished[patience] += size
        self._held += size
        while self._held > HELD_BYTES_MAX and self._unfinished:
            first = next(iter(self._unfinished))
            self._held -= self._unfinished.pop(first)
            first.reschedule(asyncio.get_running_loop().time())
