"""Active probes: each endpoint whose backend has a probe is asked by GET whether it is well.

Every data plane asks every such endpoint, for what one pod cannot reach another may: N pods and M
endpoints make N x M probes in each interval. A probe carries no credential.
"""

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from switchboard_dataplane.decision.running import Endpoint, Snapshot
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.upstream.getting import Getter
from switchboard_policy import ir

log = logging.getLogger(__name__)

#: Probes under way at a time; what is due beyond that waits. Bounds sockets and bursts.
PROBES_MAX: Final = 64
#: How often it is looked at what is due, in seconds.
TICK_S: Final = 0.1
#: By how much an interval varies, so that pods and endpoints do not fall into step.
JITTER: Final = 0.1
#: Of the body of an answer, in bytes; who says more than that is not asked for its health.
BODY_BYTES_MAX: Final = 64 * 1024

_WELL: Final = range(200, 400)
#: The endpoint is there: it refuses the one who asks, who has no key and no quota.
_REFUSED: Final = frozenset({401, 403, 429})

#: Says whether an endpoint is well.
Ask = Callable[[Endpoint, ir.Probe], Awaitable[bool]]


@dataclass(slots=True)
class _Watched:
    """An endpoint that is probed; ``passed`` and ``failed`` count probes in a row."""

    endpoint: Endpoint
    probe: ir.Probe
    passed: int = 0
    failed: int = 0


class Prober:
    """Probes the endpoints of the snapshot in force and tells their breakers what they say.

    ``clock`` is the event loop's, ``chance`` returns a number in [0, 1).
    """

    def __init__(
        self,
        *,
        snapshot: Callable[[], Snapshot | None],
        signals: SignalTable,
        ask: Ask,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._snapshot = snapshot
        self._signals = signals
        self._ask = ask
        self._clock = clock
        self._chance = chance
        self._followed: Snapshot | None = None
        self._watched: dict[str, _Watched] = {}
        # (when, the endpoint's id); what is no longer watched is dropped when it is met.
        self._due: list[tuple[float, str]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Probe until cancelled; no probe outlives it."""
        try:
            while True:
                self._follow()
                self._begin_due()
                await asyncio.sleep(TICK_S)
        finally:
            self._due.clear()
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    def _follow(self) -> None:
        snapshot = self._snapshot()
        if snapshot is self._followed or snapshot is None:
            return
        self._followed = snapshot
        now = self._clock()
        before, self._watched = self._watched, {}
        for endpoint, probe in _to_probe(snapshot):
            watched = before.pop(endpoint.id, None)
            if watched is None:
                # Anywhere within the interval: a new pod, or many, asks nobody all at once.
                at = now + self._chance() * probe.interval_ms / 1000
                heapq.heappush(self._due, (at, endpoint.id))
                watched = _Watched(endpoint, probe)
            watched.endpoint, watched.probe = endpoint, probe
            self._watched[endpoint.id] = watched
        for endpoint_id in before:
            # Nobody says any more that it is unwell.
            self._tell(endpoint_id, well=True)

    def _begin_due(self) -> None:
        now = self._clock()
        while self._due and self._due[0][0] <= now and len(self._under_way) < PROBES_MAX:
            _, endpoint_id = heapq.heappop(self._due)
            watched = self._watched.get(endpoint_id)
            if watched is not None:
                task = asyncio.create_task(self._probe(watched))
                self._under_way.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._begin_due()

    async def _probe(self, watched: _Watched) -> None:
        started_at = self._clock()
        endpoint_id = watched.endpoint.id
        try:
            well = await self._ask(watched.endpoint, watched.probe)
        except Exception:
            log.exception("a probe failed by a defect of the data plane")
            well = True
        if self._watched.get(endpoint_id) is not watched:
            return
        interval_s = watched.probe.interval_ms / 1000
        after_s = interval_s * (1 + JITTER * (2 * self._chance() - 1))
        heapq.heappush(self._due, (max(self._clock(), started_at + after_s), endpoint_id))
        watched.passed = watched.passed + 1 if well else 0
        watched.failed = 0 if well else watched.failed + 1
        if watched.passed >= watched.probe.healthy_after:
            self._tell(endpoint_id, well=True)
        elif watched.failed >= watched.probe.unhealthy_after:
            self._tell(endpoint_id, well=False)

    def _tell(self, endpoint_id: str, *, well: bool) -> None:
        if not well:
            self._signals[endpoint_id].breaker.probed(self._clock(), well=False)
        elif (breaker := self._signals.ejected.breaker_of(endpoint_id)) is not None:
            breaker.probed(self._clock(), well=True)


def asking(getter: Getter) -> Ask:
    """Return how an endpoint is asked; what goes wrong on the way says that it is unwell."""

    async def ask(endpoint: Endpoint, probe: ir.Probe) -> bool:
        scheme, _, rest = endpoint.url.partition("://")
        try:
            got = await getter.get(
                f"{scheme}://{rest.partition('/')[0]}{probe.path}",
                host=endpoint.host,
                timeout_s=probe.timeout_ms / 1000,
                bytes_max=BODY_BYTES_MAX,
            )
        except OSError as error:
            log.debug("the probe of %s failed", endpoint.id, exc_info=error)
            return False
        return got.status in _WELL or got.status in _REFUSED

    return ask


def _to_probe(snapshot: Snapshot) -> Iterator[tuple[Endpoint, ir.Probe]]:
    for backend in snapshot.backends.values():
        probe = backend.spec.health.probe
        if probe is not None:
            for endpoint in backend.endpoints:
                yield endpoint, probe
