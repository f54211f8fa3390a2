"""Fake models beside a test that is not asynchronous, and what keeps a model busy."""

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final, NamedTuple

import aiohttp

from switchboard_cli.fake_model.server import Serving, serve
from switchboard_cli.fake_model.settings import Settings

#: How often it is looked at who has read the engines' pages, in seconds.
LOOK_S: Final = 0.05
#: How long that is remembered, in seconds.
KEPT_S: Final = 30.0


class _Look(NamedTuple):
    at: float
    read: Mapping[str, Counter[str]]


class Engines:
    """Fake models in a thread of their own, by name, and who read their metrics lately."""

    def __init__(self, serving: Mapping[str, Serving]) -> None:
        self.serving = serving
        self._looks: deque[_Look] = deque(maxlen=round(KEPT_S / LOOK_S))
        self._began_at = time.monotonic()

    def port(self, name: str) -> int:
        return self.serving[name].port

    def readers(self, last_s: float) -> dict[str, Counter[str]] | None:
        """How often each pod has read each engine's page in the last seconds.

        None before that many have passed.
        """
        since = time.monotonic() - last_s
        if since < self._began_at:
            return None
        looks = list(self._looks)
        before = max((one for one in looks if one.at <= since), default=looks[0])
        return {name: read - before.read[name] for name, read in looks[-1].read.items()}

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            read = {
                name: Counter(
                    {who.partition("/")[2]: n for who, n in one.engine.metrics_readers.items()}
                )
                for name, one in self.serving.items()
            }
            self._looks.append(_Look(time.monotonic(), read))
            await asyncio.sleep(LOOK_S)


@contextmanager
def engines(settings: Mapping[str, Settings]) -> Iterator[Engines]:
    """Run fake models until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="engines")
    thread.start()

    def wait_for(what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, loop).result(timeout=30)

    stack = AsyncExitStack()
    try:
        running = Engines(
            {name: wait_for(stack.enter_async_context(serve(s))) for name, s in settings.items()}
        )
        watching = asyncio.run_coroutine_threadsafe(running.watch(), loop)
        try:
            yield running
        finally:
            watching.cancel()
    finally:
        wait_for(stack.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@asynccontextmanager
async def busy(url: str, requests: int, *, key: str = "") -> AsyncIterator[None]:
    """Keep a model busy with so many requests, past any gateway."""
    body = {"model": "fake-model", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession() as session:
        asking = [
            asyncio.create_task(_ask(session, f"{url}/v1/chat/completions", body, headers))
            for _ in range(requests)
        ]
        try:
            yield
        finally:
            for one in asking:
                one.cancel()
            await asyncio.gather(*asking, return_exceptions=True)


async def _ask(
    session: aiohttp.ClientSession, url: str, body: Mapping[str, Any], headers: Mapping[str, str]
) -> None:
    async with session.post(url, json=body, headers=headers) as response:
        await response.read()
