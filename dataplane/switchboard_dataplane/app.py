"""The data plane's stack, top to bottom: everything is built here, started here, and stopped here.

``build`` puts it together around a store; ``run`` is the process of a gateway pod around Redis.
``switchboard dev`` builds one around the in-process store and watches the outcomes.
"""

import asyncio
import logging
import signal
import socket
import ssl
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic
from typing import Final
from urllib.request import getproxies_environment

from aiohttp import web

from switchboard_dataplane.admin import Admin
from switchboard_dataplane.admission import Admission
from switchboard_dataplane.attempts import Attempts
from switchboard_dataplane.choosing.shipped import embed_intents, estimate_complexity
from switchboard_dataplane.failover import Failover
from switchboard_dataplane.front.bodies import Bodies
from switchboard_dataplane.front.port import PublicPort
from switchboard_dataplane.front.routes import PATIENCE, Patience, Routes
from switchboard_dataplane.in_force import InForce
from switchboard_dataplane.lifecycle import LAST_WORDS_S, LiveRequests, shut_down
from switchboard_dataplane.peers import Peers, build_peers
from switchboard_dataplane.process import prepare_process
from switchboard_dataplane.proxy import Proxy
from switchboard_dataplane.reader import Reader
from switchboard_dataplane.settings import Settings, split_address
from switchboard_dataplane.signals.breaker import Ejections
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.scraping import engines_by_backend
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_dataplane.sources.disk import DiskSnapshot
from switchboard_dataplane.sources.follow import Follower
from switchboard_dataplane.sources.key_file import KeyFile
from switchboard_dataplane.sources.redis_source import RedisSource
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_dataplane.telemetry.exporters import Telemetry, build_telemetry
from switchboard_dataplane.telemetry.metrics import Gauges
from switchboard_dataplane.telemetry.outcome import Observer, Outcome, OutcomeQueue
from switchboard_dataplane.telemetry.tracing import Tracing
from switchboard_dataplane.upstream.bound import Bounds
from switchboard_dataplane.upstream.choose import choose_upstream
from switchboard_dataplane.upstream.getting import Getter
from switchboard_dataplane.upstream.probing import Prober, asking
from switchboard_dataplane.upstream.tls import tls_context
from switchboard_dataplane.upstream.transport import Upstream
from switchboard_policy.errors import Malformed
from switchboard_policy.seal import Keyring
from switchboard_policy.store import ZERO, Pod, StoreReader

log = logging.getLogger(__name__)

#: How often the number of live pods and the scope's keys are looked at, in seconds.
REFRESH_S: Final = 5.0
#: Connections that wait to be accepted, for callers that come at once.
BACKLOG: Final = 1_024


@dataclass(slots=True, kw_only=True)
class DataPlane:
    """A data plane that was built. The ports are known once it has started."""

    settings: Settings
    public: PublicPort
    admin: Admin
    follower: Follower
    in_force: InForce
    live: LiveRequests
    outcomes: OutcomeQueue
    telemetry: Telemetry
    upstream: Upstream
    beside: "Beside"
    port: int = 0
    admin_port: int = 0
    _servers: list[PublicPort | web.Server] = field(default_factory=list["PublicPort | web.Server"])
    _listeners: list[asyncio.Server] = field(default_factory=list[asyncio.Server])
    _tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def start(self) -> None:
        """Follow the store and listen; raises OSError where a port is taken."""
        self._tasks.append(asyncio.create_task(self.follower.run()))
        self._tasks.append(asyncio.create_task(self._refresh()))
        self._tasks.append(asyncio.create_task(self.beside.peers.run()))
        self._tasks.append(asyncio.create_task(self.beside.prober.run()))
        # The admin port first: probes are answered before anybody is served.
        self.admin_port = await self._listen(
            web.Server(self.admin.handle, access_log=None), self.settings.admin
        )
        self.port = await self._listen(self.public, self.settings.listen)
        log.info("listening on port %d, admin on port %d, %s", self.port, self.admin_port, form())

    async def stop(self, *, grace_s: float = 0.0, drain_s: float = 0.0) -> None:
        """Go away in order: see ``lifecycle``. The store hears a goodbye."""
        cut_off = await shut_down(
            self.live, stop_listening=self._stop_listening, grace_s=grace_s, drain_s=drain_s
        )
        if cut_off:
            log.warning("%d requests were cut off at the drain deadline", cut_off)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        for server in self._servers:
            await server.shutdown(LAST_WORDS_S)
        await self.upstream.close()
        await self.beside.getter.close()
        self.outcomes.drain()
        await asyncio.to_thread(self.telemetry.shutdown)

    async def wait(self, told: asyncio.Event) -> None:
        """Wait until told to stop; raise what ends the following of the store, if anything does."""
        stop = asyncio.create_task(told.wait())
        try:
            await asyncio.wait((stop, *self._tasks), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        for task in self._tasks:
            if task.done():
                task.result()

    async def _listen(self, server: PublicPort | web.Server, address: str) -> int:
        host, port = split_address(address)
        listener = await asyncio.get_running_loop().create_server(
            server, host or None, port, backlog=BACKLOG
        )
        self._servers.append(server)
        self._listeners.append(listener)
        bound: int = listener.sockets[0].getsockname()[1]
        return bound

    async def _stop_listening(self) -> None:
        # The public one, which started last; the admin port tells of the drain.
        if self._listeners:
            self._listeners[-1].close()
            self._servers[-1].pre_shutdown()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            self.in_force.refresh()


@dataclass(frozen=True, slots=True)
class Beside:
    """What runs beside the requests: probes, engines' metrics, and what peers tell each other."""

    getter: Getter
    peers: Peers
    prober: Prober


def build(
    settings: Settings,
    *,
    source: StoreReader,
    keyring: Callable[[], Keyring],
    observers: Sequence[Observer] = (),
    patience: Patience = PATIENCE,
    clock: Callable[[], float] = monotonic,
) -> DataPlane:
    """Build a data plane around a store; call it in the event loop that will run it.

    ``keyring`` returns the scope's keys of the moment, the same object until they change.
    ``observers`` take in outcomes in batches, after the metrics did. ``patience`` is for callers.
    ``clock`` is what the loop's ``time()`` asks, asked without the detour.
    """
    loop = asyncio.get_running_loop()
    # Chance spreads load and jitters waits; nothing secret hangs on it.
    rng = Random()  # noqa: S311
    live, pod = LiveRequests(), _pod(settings)
    in_force = _in_force(
        settings, keyring, live_pods=lambda: follower.state().live_pods, clock=clock, rng=rng
    )
    gauges = _gauges(
        in_force, refused=lambda: len(follower.state().refused), dropped=lambda: outcomes.dropped
    )
    telemetry = build_telemetry(gauges, pod=pod.name, otlp=settings.otlp)
    follower = Follower(
        source,
        pod=pod,
        keyring=keyring,
        apply=in_force.apply,
        clock=clock,
        random=rng,
        disk=_disk(settings),
        propagated=lambda ms: telemetry.metrics.propagated(ms / 1000),
    )
    outcomes = OutcomeQueue(observers=(telemetry.metrics.fold, *observers), later=loop.call_later)
    tls = _tls(settings)
    upstream = _upstream(tls)
    return DataPlane(
        settings=settings,
        public=_public(
            settings,
            in_force=in_force,
            upstream=upstream,
            observe=outcomes.put,
            live=live,
            tracing=telemetry.tracing,
            rng=rng,
            patience=patience,
        ),
        admin=Admin(
            in_force=in_force, source=follower.state, live=live, exposition=telemetry.exposition
        ),
        follower=follower,
        in_force=in_force,
        live=live,
        outcomes=outcomes,
        telemetry=telemetry,
        upstream=upstream,
        beside=_beside(
            settings,
            sharing=Sharing(source, pod=pod.name, keyring=keyring, clock=clock, random=rng),
            in_force=in_force,
            follower=follower,
            getter=Getter(tls=tls, pod=pod.name),
            rng=rng,
        ),
    )


@asynccontextmanager
async def serving(plane: DataPlane) -> AsyncGenerator[DataPlane]:
    """Run a data plane while the block runs; live requests are cut off at its end."""
    try:
        await plane.start()
        yield plane
    finally:
        await plane.stop()


def run(settings: Settings) -> int:
    """Run the process of a data plane until SIGTERM or SIGINT; return its exit status."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        with _naming("--scope-key-file"):
            if not settings.scope_key_file:
                raise ValueError("is not set; name the file with the scope's keys")
            keys = KeyFile(Path(settings.scope_key_file), scope=settings.scope)
        with _naming("--redis-url"):
            source = RedisSource(settings.redis_url, scope=settings.scope)
        prepare_process()
        return asyncio.run(_run(settings, source=source, keys=keys))
    except _CannotStart as error:
        log.error("cannot start: %s", error)  # noqa: TRY400 - a wrong setting needs no traceback
        return 2


def form() -> str:
    """Say whether the hot path runs "compiled" or "interpreted": see ``hatch_build.py``."""
    source = sys.modules[Proxy.__module__].__file__ or ""
    return "interpreted" if source.endswith(".py") else "compiled"


class _CannotStart(Exception):
    pass


@contextmanager
def _naming(flag: str) -> Generator[None]:
    """Name the setting by which something cannot be made."""
    try:
        yield
    except (OSError, Malformed, ValueError) as error:
        raise _CannotStart(f"{flag}: {error}") from error


async def _run(settings: Settings, *, source: RedisSource, keys: KeyFile) -> int:
    plane = build(settings, source=source, keyring=keys.keyring)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    status = 0
    try:
        await plane.start()
        await plane.wait(told)
    except OSError as error:
        log.error("cannot listen: %s", error)  # noqa: TRY400 - the port is taken, no more to say
        status = 1
    except Exception:
        log.exception("the data plane no longer follows its store")
        status = 1
    finally:
        graceful = told.is_set()
        await plane.stop(
            grace_s=settings.grace_s if graceful else 0.0,
            drain_s=settings.drain_s if graceful else 0.0,
        )
        with suppress(ConnectionError):
            await source.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Whoever says it once more, while the interpreter goes, changes nothing of the status.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
    return status


def _in_force(
    settings: Settings,
    keyring: Callable[[], Keyring],
    *,
    live_pods: Callable[[], int],
    clock: Callable[[], float],
    rng: Random,
) -> InForce:
    signals = SignalTable(Ejections(chance=rng.random))
    builder = SnapshotBuilder(keyring(), zone=settings.zone)
    in_force = InForce(builder, keyring=keyring, live_pods=live_pods, signals=signals, clock=clock)
    signals.ejected.rule_of = in_force.breaker_rule
    signals.ejected.is_there = in_force.is_there
    return in_force


def _public(
    settings: Settings,
    *,
    in_force: InForce,
    upstream: Upstream,
    observe: Callable[[Outcome], None],
    live: LiveRequests,
    tracing: Tracing | None,
    rng: Random,
    patience: Patience,
) -> PublicPort:
    loop, today = asyncio.get_running_loop(), partial(datetime.now, UTC)
    clock = in_force.clock
    reader = Reader(complexity=estimate_complexity, embed_intents=embed_intents)
    admission = Admission(
        snapshot=in_force.current, reader=reader, signals=in_force.signals, clock=clock, rng=rng
    )
    failover = Failover(
        signals=in_force.signals,
        admission=admission,
        budgets=in_force.budgets,
        clock=clock,
        today=today,
        rng=rng,
    )
    proxy = Proxy(
        snapshot=in_force.current,
        signals=in_force.signals,
        failover=failover,
        reader=reader,
        admission=admission,
        attempts=Attempts(
            failover=failover,
            hedges=in_force.hedges,
            upstream=upstream,
            bounds=Bounds(clock=clock, call_later=loop.call_later),
            clock=clock,
            today=today,
        ),
        observe=observe,
        shutting_down=lambda: live.expired,
        clock=clock,
        rng=rng,
        tracing=tracing,
        detail_headers=settings.detail_headers,
    )
    limit = settings.body_limit_bytes
    routes = Routes(
        proxy=proxy,
        live=live,
        bodies=Bodies(max(limit, settings.bodies_limit_bytes)),
        snapshot=in_force.current,
        body_limit_bytes=limit,
        patience=patience,
    )
    return PublicPort(routes, lane=settings.lane, loop=loop, clock=clock, today=today)


def _beside(
    settings: Settings,
    *,
    sharing: Sharing,
    in_force: InForce,
    follower: Follower,
    getter: Getter,
    rng: Random,
) -> Beside:
    peers = build_peers(
        sharing,
        scope=settings.scope,
        in_force=in_force,
        pods=lambda: follower.state().pods,
        getter=getter,
        clock=in_force.clock,
        random=rng,
    )
    prober = Prober(
        snapshot=in_force.current,
        signals=in_force.signals,
        ask=asking(getter),
        clock=in_force.clock,
        chance=rng.random,
    )
    return Beside(getter, peers, prober)


def _gauges(in_force: InForce, *, refused: Callable[[], int], dropped: Callable[[], int]) -> Gauges:
    return Gauges(
        in_flight=in_force.in_flight,
        ejected=in_force.ejected,
        queued=in_force.queued,
        waking=in_force.waking,
        engines=lambda: engines_by_backend(in_force.signals, in_force.clock()),
        revision=in_force.running_revision,
        refused=refused,
        dropped=dropped,
    )


def _tls(settings: Settings) -> ssl.SSLContext:
    with _naming(f"--upstream-ca-file {settings.upstream_ca_file}"):
        return tls_context(settings.upstream_ca_file)


def _upstream(tls: ssl.SSLContext) -> Upstream:
    with _naming("the environment"):
        return choose_upstream(tls=tls, proxies=getproxies_environment())


def _pod(settings: Settings) -> Pod:
    return Pod(
        name=settings.pod_name or socket.gethostname(),
        revision=ZERO,
        namespace=settings.pod_namespace,
        uid=settings.pod_uid,
        zone=settings.zone,
    )


def _disk(settings: Settings) -> DiskSnapshot | None:
    folder = settings.state_path
    if folder is None:
        return None
    with _naming("--state-dir"):
        folder.mkdir(parents=True, exist_ok=True)
    return DiskSnapshot(folder)
