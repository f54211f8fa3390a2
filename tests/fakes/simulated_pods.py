"""Data planes that take over whatever the store holds: the contract's own client, no policy."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

from cluster.traffic import Thread
from switchboard_dataplane.sources.redis_source import RedisSource
from switchboard_policy.store import Pod, Revision

HEARTBEAT_S = 5.0
LINES_MS = 1_000
AWAY_S = 0.2
GATHER_S = 0.05
"""A burst of lines is one ack a pod, as it is of data planes."""


class SimulatedPods:
    """Pods by name, all in this process: each acks the newest revision of the policy channel.

    One connection reads the log for all; each pod registers for itself, as a data plane does.
    A pod that is ``stuck`` goes on with its heartbeats and takes nothing over.
    """

    def __init__(self, url: str, *names: str, scope: str = "gw/default") -> None:
        self._source = RedisSource(url, scope=scope)
        self._revisions = dict.fromkeys(names, Revision(0, 0))
        self.refused: dict[str, Mapping[str, str]] = {}
        self.stuck = set[str]()
        self._running: asyncio.Task[None] | None = None
        self.acks = 0

    async def join(self, *names: str) -> None:
        """Have more pods come."""
        self._revisions |= dict.fromkeys(names, Revision(0, 0))
        await self._follow()

    async def leave(self, *names: str) -> None:
        """Have pods go, and say so."""
        for name in names:
            del self._revisions[name]
            await self._source.goodbye(name)

    def silence(self, *names: str) -> None:
        """Have pods go without a word."""
        for name in names:
            del self._revisions[name]

    async def refuse(self, name: str, reasons: Mapping[str, str]) -> None:
        """Have a pod refuse these objects, for these reasons."""
        self.refused[name] = reasons
        await self._register(name)

    async def run(self) -> None:
        """Follow, ack and beat until cancelled."""
        self._running = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again(self._follow_lines))
            group.create_task(self._again(self._beat))

    async def close(self) -> None:
        """Vanish, without a goodbye."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        await self._source.close()

    async def _again(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except ConnectionError:
                await asyncio.sleep(AWAY_S)

    async def _follow_lines(self) -> None:
        await self._follow()
        newest = max(self._revisions.values(), default=Revision(0, 0))
        await self._source.lines({"policy": newest}, timeout_ms=LINES_MS)
        await asyncio.sleep(GATHER_S)

    async def _follow(self) -> None:
        head = await self._source.head("policy")
        if head is None:
            await asyncio.sleep(0.1)
            return
        due = [
            name
            for name, revision in self._revisions.items()
            if revision < head.revision and name not in self.stuck
        ]
        for name in due:
            self._revisions[name] = head.revision
        await self._register(*due)

    async def _beat(self) -> None:
        await self._register(*self._revisions)
        await asyncio.sleep(HEARTBEAT_S)

    async def _register(self, *names: str) -> None:
        for name in names:
            if name in self._revisions:
                refused = self.refused.get(name, {})
                pod = Pod(name=name, revision=self._revisions[name], refused=refused)
                await self._source.register(pod)
                self.acks += 1


@contextmanager
def simulated_pods(url: str, *names: str) -> Iterator[tuple[SimulatedPods, Thread]]:
    """Run simulated pods in a thread, through which they are told what to do."""
    thread, pods = Thread(), SimulatedPods(url, *names)
    thread.start(pods.run())
    try:
        yield pods, thread
    finally:
        thread.run(pods.close())
        thread.close()
