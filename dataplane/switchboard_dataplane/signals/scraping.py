"""Reads engines' metrics beside the requests, and shares what it read with the other pods.

Of each endpoint one pod of the gateway reads the page, and tells the others of all that it read in
one word a second: an engine is asked as often by fifty pods as by one. What is old is not
believed, whoever read it (``EngineLoad.is_fresh``), so nothing here has to be taken back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from random import Random
from typing import Annotated, Final, NamedTuple

import msgspec

from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.engine import (
    REQUESTS_MAX,
    EngineLoad,
    load_of,
    read_page,
)
from switchboard_dataplane.signals.sharers import Sharers
from switchboard_policy.ir import EngineKind

logger = logging.getLogger(__name__)

#: The topic of the words.
TOPIC: Final = "load"
#: How often what is due is begun, and what was read is told, in seconds. Give or take a tenth.
ROUND_S: Final = 1.0
#: The readings of a round begin within this; the rest of it is for their answers, in seconds.
SPREAD_S: Final = 0.6
#: A page that takes longer is given up; engines with much to do answer late, in seconds.
TIMEOUT_S: Final = 2.0
#: Readings at a time.
READINGS_MAX: Final = 64
#: An endpoint that fails is read less and less often, down to once in so many of its intervals.
BACKOFF_MAX: Final = 4
#: A value is believed for so many intervals, and a second for its way.
INTERVALS_BELIEVED: Final = 3
WAY_S: Final = 1.0
#: Working out whose an endpoint is takes 2 µs a pod; requests get their turn in between.
_OWNERS_AT_ONCE: Final = 50
#: Of a backend's failures is told once in this time, in seconds.
_WARN_S: Final = 60.0


class Target(NamedTuple):
    """An endpoint whose engine tells of its load at ``url``.

    ``id`` is ``backend@address``; ``host`` is the name for TLS and Host, "" where the URL's is
    right.
    """

    id: str
    backend: str
    address: str
    engine: EngineKind
    model: str
    url: str
    host: str
    interval_s: float

    @property
    def lasts_s(self) -> float:
        """How long a value is believed."""
        return INTERVALS_BELIEVED * self.interval_s + WAY_S


class EngineTotals(NamedTuple):
    """What the engines of a backend say: requests of all, the fullest cache, the oldest value.

    Values that are no longer believed count by their age alone; ``kv_use`` is None if no engine
    tells it.
    """

    waiting: int
    running: int
    kv_use: float | None
    age_s: float


#: Returns a page; raises OSError.
Fetch = Callable[[Target], Awaitable[bytes]]

_Requests = Annotated[int, msgspec.Meta(ge=0, le=REQUESTS_MAX)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Told(msgspec.Struct, frozen=True, array_like=True):
    """A load between pods; the age is counted until the word was said."""

    waiting: _Requests
    running: _Requests
    kv_use: _Share | None
    age_ms: Annotated[int, msgspec.Meta(ge=0)]


_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_backend_decoder = msgspec.json.Decoder(dict[str, _Told])


class Scraper:
    """Reads this pod's share of the targets until cancelled, and takes in what the others read.

    ``targets`` returns all endpoints to be read, by id, the same mapping until they change;
    ``pods`` the registered pods. ``share`` tells all pods. ``clock`` is the event loop's.
    """

    def __init__(
        self,
        *,
        me: str,
        signals: SignalTable,
        targets: Callable[[], Mapping[str, Target]],
        pods: Callable[[], Collection[str]],
        fetch: Fetch,
        share: Callable[[bytes], None],
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self._me = me
        self._signals = signals
        self._targets = targets
        self._pods = pods
        self._fetch = fetch
        self._share = share
        self._clock = clock
        self._random = random
        self._sharers = Sharers(me)
        self._known: Mapping[str, Target] = {}
        self._backends: frozenset[str] = frozenset()
        self._due: dict[str, float] = {}
        self._misses: dict[str, int] = {}
        self._news: dict[str, EngineLoad] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._free = asyncio.Semaphore(READINGS_MAX)
        self._warn_at: dict[str, float] = {}

    async def run(self) -> None:
        """Read and tell, round by round."""
        try:
            while True:
                await self._round()
        finally:
            for task in self._reading.values():
                task.cancel()
            await asyncio.gather(*self._reading.values(), return_exceptions=True)

    def take(self, pod: str, body: bytes, at: float) -> None:
        """Take in the word of a pod, this one perhaps, said at ``at`` by the event loop's clock.

        Only backends that are in force here are read.
        """
        self._sharers.heard(pod, self._clock())
        if pod == self._me or not self._known:
            return
        try:
            said = _decoder.decode(body)
            for backend in said.keys() & self._backends:
                self._take_backend(backend, _backend_decoder.decode(said[backend]), at)
        except (ValueError, RecursionError) as error:
            if self._may_warn(pod):
                logger.warning("what pod %s says of engines cannot be read: %s", pod, error)

    def _take_backend(self, backend: str, loads: Mapping[str, _Told], at: float) -> None:
        for address, told in loads.items():
            target = self._known.get(f"{backend}@{address}")
            if target is not None:
                load = EngineLoad(
                    waiting=told.waiting,
                    running=told.running,
                    kv_use=told.kv_use,
                    at=at - told.age_ms / 1000,
                    lasts_s=target.lasts_s,
                )
                self._put(target, load)

    def _put(self, target: Target, load: EngineLoad) -> None:
        signal = self._signals[target.id]
        if signal.engine is None or signal.engine.at < load.at:
            signal.engine = load

    async def _round(self) -> None:
        ends_at = self._clock() + ROUND_S * (0.9 + 0.2 * self._random.random())
        self._look()
        if self._known:
            self._sharers.registered(self._pods(), self._clock())
            await self._begin()
        await asyncio.sleep(max(0.0, ends_at - self._clock()))
        if self._known:
            # With nothing to tell, too: it is how the others know that this pod reads its share.
            self._share(self._word())

    def _look(self) -> None:
        """Take in which endpoints there are."""
        targets = self._targets()
        if targets is self._known:
            return
        self._known = targets
        self._backends = frozenset(target.backend for target in targets.values())
        self._sharers.keep_only(targets)
        for gone in self._due.keys() - targets.keys():
            del self._due[gone]
            self._misses.pop(gone, None)

    async def _begin(self) -> None:
        """Begin the readings that are due and this pod's, spread over the round."""
        now = self._clock()
        for count, target in enumerate(tuple(self._known.values()), start=1):
            if count % _OWNERS_AT_ONCE == 0:
                await asyncio.sleep(0)
            if not self._sharers.is_mine(target.id):
                self._due.pop(target.id, None)
            elif target.id not in self._reading:
                due = self._due.get(target.id, now)
                if due <= now + ROUND_S / 2:
                    # Late by more than a round, it has begun anew.
                    since = due if due > now - ROUND_S else now
                    self._reading[target.id] = asyncio.create_task(self._read(target, since))

    async def _read(self, target: Target, since: float) -> None:
        try:
            await asyncio.sleep(SPREAD_S * self._random.random())
            async with self._free:
                load = await self._load(target)
            if load is None:
                misses = self._misses[target.id] = self._misses.get(target.id, 0) + 1
                intervals = min(BACKOFF_MAX, 2 ** min(misses, BACKOFF_MAX))
                self._due[target.id] = since + intervals * target.interval_s
                return
            self._misses.pop(target.id, None)
            self._due[target.id] = since + target.interval_s
            self._put(target, load)
            self._news[target.id] = load
        finally:
            del self._reading[target.id]

    async def _load(self, target: Target) -> EngineLoad | None:
        try:
            page = await self._fetch(target)
        except OSError as error:
            self._warn(target, str(error) or "it does not answer in time")
            return None
        said = read_page(target.engine, page, model=target.model)
        load = load_of(said, at=self._clock(), lasts_s=target.lasts_s)
        if load is None:
            self._warn(target, f"the page has no load of {target.engine}")
        return load

    def _warn(self, target: Target, why: str) -> None:
        if self._may_warn(target.backend):
            logger.warning("the engine of %s does not tell its load: %s", target.id, why)

    def _may_warn(self, about: str) -> bool:
        now = self._clock()
        if about in self._warn_at and now < self._warn_at[about]:
            return False
        self._warn_at = {known: at for known, at in self._warn_at.items() if now < at}
        self._warn_at[about] = now + _WARN_S
        return True

    def _word(self) -> bytes:
        now, news, self._news = self._clock(), self._news, {}
        said: dict[str, dict[str, _Told]] = {}
        for endpoint_id, load in news.items():
            target = self._known.get(endpoint_id)
            if target is not None:
                age_ms = max(0, round((now - load.at) * 1000))
                said.setdefault(target.backend, {})[target.address] = _Told(
                    load.waiting, load.running, load.kv_use, age_ms
                )
        return msgspec.json.encode(said)


def engines_by_backend(signals: SignalTable, now: float) -> Mapping[str, EngineTotals]:
    """Return what is known of the engines, by backend; of backends of which nothing is, nothing."""
    totals: dict[str, EngineTotals] = {}
    # A copy: metrics are read in a thread of their own while endpoints come and go.
    for endpoint_id, signal in signals.copy().items():
        load = signal.engine
        if load is None:
            continue
        backend, age_s = endpoint_id.partition("@")[0], max(0.0, now - load.at)
        before = totals.get(backend, EngineTotals(0, 0, None, 0.0))
        if not load.is_fresh(now):
            totals[backend] = before._replace(age_s=max(before.age_s, age_s))
            continue
        shares = [share for share in (before.kv_use, load.kv_use) if share is not None]
        totals[backend] = EngineTotals(
            waiting=before.waiting + load.waiting,
            running=before.running + load.running,
            kv_use=max(shares, default=None),
            age_s=max(before.age_s, age_s),
        )
    return totals
