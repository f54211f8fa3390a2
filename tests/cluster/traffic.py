"""Callers that never stop, and a TCP balancer before data planes, in threads of their own."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp

from cluster.line import Running

T = TypeVar("T")
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]

#: How often the balancer asks who is ready, as an endpoint controller's news would come.
LOOK_S: Final = 0.05
CHUNK: Final = 64 * 1024
#: A caller's patience; no request here is to take as long.
PATIENCE_S: Final = 60.0


class Thread:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run to the end of a coroutine."""
        return asyncio.run_coroutine_threadsafe(main, self._loop).result(120)

    def start(self, main: Coroutine[Any, Any, None]) -> None:
        """Begin a coroutine."""
        asyncio.run_coroutine_threadsafe(main, self._loop)

    async def listen(self, serve: Serve) -> int:
        """Listen at a free port; return it."""
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=256)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """End all that runs in it."""
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        # What is closed is told in the next turns of the loop.
        await asyncio.sleep(0.05)


class Wire:
    """A TCP port that leads to another, in pieces that take ``delay_s`` each way."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self._target = port
        self._thread = Thread()
        self.port = self._thread.run(self._listen())

    def close(self) -> None:
        self._thread.close()

    async def _listen(self) -> int:
        return await self._thread.listen(self._serve)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        await _relay((reader, writer), there, delay=lambda: self.delay_s)


@dataclass
class Target:
    """A data plane behind the balancer, with its connections: all that came, those still open."""

    plane: Running
    ready: bool = False
    came: int = 0
    open: int = 0


class Balancer:
    """New connections go to those that are ready, in turn, and to another where one is refused."""

    def __init__(self) -> None:
        self.targets: dict[str, Target] = {}
        self._turn = 0
        self._thread = Thread()
        self.port = self._thread.run(self._listen())
        self._thread.start(self._look())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, name: str, plane: Running) -> None:
        """Balance over this data plane, too, or in the place of the one of that name."""
        self.targets[name] = Target(plane)
        until = time.monotonic() + PATIENCE_S
        while not self.targets[name].ready:
            assert time.monotonic() < until, f"{name} is never ready"
            time.sleep(LOOK_S)

    async def _look(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                for target in tuple(self.targets.values()):
                    try:
                        async with session.get(f"{target.plane.admin}/readyz") as answer:
                            target.ready = answer.status == 200
                    except aiohttp.ClientError:
                        target.ready = False
                await asyncio.sleep(LOOK_S)

    async def _listen(self) -> int:
        return await self._thread.listen(self._serve)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ready = [one for one in self.targets.values() if one.ready]
        self._turn += 1
        for number in range(len(ready)):
            target = ready[(self._turn + number) % len(ready)]
            port = urlsplit(target.plane.url).port
            try:
                there = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            target.came += 1
            target.open += 1
            try:
                await _relay((reader, writer), there, delay=lambda: 0.0)
            finally:
                target.open -= 1
            return
        writer.close()


_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _relay(here: _Ends, there: _Ends, *, delay: Callable[[], float]) -> None:
    """Carry bytes both ways until either side ends."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(CHUNK):
            if seconds := delay():
                await asyncio.sleep(seconds)
            writer.write(piece)
            await writer.drain()

    ways = (
        asyncio.create_task(carry(here[0], there[1])),
        asyncio.create_task(carry(there[0], here[1])),
    )
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        here[1].close()
        there[1].close()


@dataclass
class Traffic:
    """What callers got: how many were served, and what went wrong, with its time (monotonic)."""

    served: int = 0
    streams: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)

    def check(self, *, at_least: int) -> None:
        """Fail where a request failed, or too few were sent for that to say anything."""
        assert self.failures == []
        assert self.served >= at_least, self.served
        assert self.streams >= at_least // 4, self.streams


@contextmanager
def traffic(
    *urls: str, model: str = "chat", callers: int = 8, every_s: float = 0.0
) -> Iterator[Traffic]:
    """Call on and on: streams and whole answers, on connections that are kept or are not.

    ``callers`` call each URL. Each caller asks once in ``every_s``, or once it is answered where
    that is later.
    """
    said, thread, over = Traffic(), Thread(), threading.Event()
    for url in urls:
        for number in range(callers):
            thread.start(_call(said, url, model, over, kept=number % 2 > 0, every_s=every_s))
    try:
        yield said
    finally:
        over.set()
        thread.run(_ended(over))
        thread.close()


async def _ended(over: threading.Event) -> None:
    """Wait for the requests that are under way."""
    callers = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
    assert over.is_set()
    await asyncio.wait(callers, timeout=PATIENCE_S)


async def _call(
    said: Traffic, url: str, model: str, over: threading.Event, *, kept: bool, every_s: float
) -> None:
    connector = aiohttp.TCPConnector(force_close=not kept)
    async with aiohttp.ClientSession(connector=connector) as session:
        number = 0
        while not over.is_set():
            number += 1
            stream = number % 2 > 0
            began = time.monotonic()
            try:
                await _ask(session, url, model, stream=stream)
            except (aiohttp.ClientError, TimeoutError, AssertionError) as error:
                said.failures.append((time.monotonic(), repr(error)))
            else:
                said.served += 1
                said.streams += stream
            if (rest_s := began + every_s - time.monotonic()) > 0:
                await asyncio.sleep(rest_s)


async def _ask(session: aiohttp.ClientSession, url: str, model: str, *, stream: bool) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    patience = aiohttp.ClientTimeout(total=PATIENCE_S)
    where = f"{url}/v1/chat/completions"
    async with session.post(where, json=body, timeout=patience) as answer:
        text = await answer.text()
        assert answer.status == 200, text
        assert not stream or text.endswith("data: [DONE]\n\n"), text
