"""A transport without sockets, and bytes in pieces."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol


class Receiver(Protocol):
    """What a transport asks of an asyncio.Protocol: the name alone does not make one."""

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class PlainTransport(asyncio.Transport):
    """Keeps what is written, and delivers what is fed unless reading is paused.

    ``ended`` says that no more will be written. ``stuck`` is a peer that takes nothing: what is
    written stays in the buffer.
    """

    def __init__(self, protocol: Receiver, *, stuck: bool = False) -> None:
        super().__init__()
        self.written = bytearray()
        self.ended = False
        self.paused = False
        self.stuck = stuck
        self._protocol = protocol
        self._unsent = 0
        self._closing = False
        self._arrived: list[bytes | None] = []

    def feed(self, *pieces: bytes | None) -> None:
        """Let bytes arrive; None is the end of them."""
        self._arrived.extend(pieces)
        while self._arrived and not self.paused and not self._closing:
            piece = self._arrived.pop(0)
            if piece is not None:
                self._protocol.data_received(piece)
            else:
                self._protocol.eof_received()
                self.abort()

    def break_off(self) -> None:
        """Reset the connection."""
        self._close(ConnectionResetError("reset by peer"))

    def take(self, size: int) -> None:
        """The peer takes some of what waits in the buffer."""
        self._unsent -= size

    def take_all(self) -> None:
        """The peer takes what waits in the buffer."""
        self._unsent = 0
        self._protocol.resume_writing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        if self.stuck and not self._closing:
            self._unsent += len(data)
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        # As a socket does: in another turn of the loop.
        asyncio.get_running_loop().call_soon(self.feed)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._close(None)

    def abort(self) -> None:
        self._close(None)

    def _close(self, error: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self._unsent = 0
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)


async def turns(count: int = 3) -> None:
    """Let the event loop turn a few times: what is ready to run has run then."""
    for _ in range(count):
        await asyncio.sleep(0)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Return the data in pieces, cut at these places."""
    edges = sorted({0, len(data), *(place for place in places if 0 < place < len(data))})
    return [data[a:b] for a, b in pairwise(edges)]
