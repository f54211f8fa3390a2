"""Many streams at once: a client that does little more than count what arrives, and when."""

import asyncio
import re
import time
from array import array
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from gateways import asks

from cluster.processes import LOOPBACK

#: The wait for first events once all streams were asked for.
OPEN_S = 5.0
#: Streams go on after the block for as long, so that none ends in it.
END_S = 2.0
#: New streams a second: callers do not all come in the same millisecond.
OPENED_PER_SECOND = 500

_CONTENT = re.compile(rb" (\d{7})@(\d{19})")
_SIGN = b"@"
_STAMP_DIGITS = 19


@dataclass(slots=True)
class Tally:
    """What all streams of a load have seen so far; delays are from the model's write, in ms."""

    begun: int = 0
    broken: int = 0
    reads: int = 0
    events: int = 0
    over: bool = False
    delays_ms: "array[float]" = field(default_factory=lambda: array("d"))


class Counting(asyncio.Protocol):
    """One stream: it counts content events by the sign that each of them has."""

    def __init__(self, tally: Tally, request: bytes) -> None:
        self._tally = tally
        self._request = request
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        tally = self._tally
        count = data.count(_SIGN)
        if not count:
            return
        tally.reads += 1
        tally.events += count
        at = data.rfind(_SIGN) + 1
        stamp = data[at : at + _STAMP_DIGITS]
        # A read may end within the stamp.
        if len(stamp) == _STAMP_DIGITS:
            tally.delays_ms.append((time.time_ns() - int(stamp)) / 1e6)
        if not self._begun:
            self._begun = True
            tally.begun += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._tally.over:
            self._tally.broken += 1


async def _until(holds: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:  # noqa: ASYNC110 - many set it, none knows
        await asyncio.sleep(0.01)


@asynccontextmanager
async def streaming(
    port: int, *, streams: int, per_second: int, seconds: float
) -> AsyncGenerator[Tally]:
    """Hold so many streams open for the block, which lasts ``seconds``; then let them end.

    The block starts when every stream has had its first event, or after ``OPEN_S``: a gateway that
    has more to do than it can may never come so far.
    """
    tally, transports = Tally(), list[asyncio.BaseTransport]()
    opening_s = streams / OPENED_PER_SECOND
    events = round((opening_s + seconds + END_S) * per_second)
    request = asks.http(asks.stream(events=events, per_second=per_second), port)
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        for number in range(streams):
            transport, _ = await loop.create_connection(
                lambda: Counting(tally, request), LOOPBACK, port
            )
            transports.append(transport)
            await asyncio.sleep(began + number / OPENED_PER_SECOND - loop.time())
        await _until(lambda: tally.begun == streams, OPEN_S)
        yield tally
        # A stream that is cut off may be a burden to a gateway for long after.
        await _until(lambda: tally.events == streams * events, opening_s + 2 * END_S)
    finally:
        tally.over = True
        for each in transports:
            each.close()


@dataclass(slots=True)
class Heard:
    """One whole stream: the numbers, writing times and arrival times of its content events.

    ``together`` counts the events that came in one read with the one before them.
    """

    numbers: list[int] = field(default_factory=list)
    written_ns: list[int] = field(default_factory=list)
    arrived_ns: list[int] = field(default_factory=list)
    together: int = 0
    done: bool = False

    def faults(self, events: int) -> list[str]:
        """What is wrong with it."""
        found: list[str] = []
        if self.numbers != list(range(events)):
            found.append(f"{len(self.numbers)} events of {events}, or not in order")
        if any(later < earlier for earlier, later in pairwise(self.written_ns)):
            found.append("times of writing go backwards")
        if any(later < earlier for earlier, later in pairwise(self.arrived_ns)):
            found.append("times of arrival go backwards")
        if self.together:
            found.append(f"{self.together} events came together with the one before")
        if not self.done:
            found.append("no [DONE]")
        return found


async def hear(port: int, *, events: int, per_second: int) -> Heard:
    """Listen to one stream to its end."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(asks.http(asks.stream(events=events, per_second=per_second), port))
    heard, pending = Heard(), b""
    async with asyncio.timeout(OPEN_S + events / per_second):
        while not heard.done and (data := await reader.read(65_536)):
            now_ns = time.time_ns()
            pending += data
            found = list(_CONTENT.finditer(pending))
            for match in found:
                heard.numbers.append(int(match[1]))
                heard.written_ns.append(int(match[2]))
                heard.arrived_ns.append(now_ns)
            heard.together += max(0, len(found) - 1)
            heard.done = b"data: [DONE]\n\n" in pending
            pending = pending[found[-1].end() :] if found else pending
    writer.close()
    return heard
