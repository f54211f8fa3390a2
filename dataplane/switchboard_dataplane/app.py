"""The data plane's stack, top to bottom: everything is built here, started here, and stopped here.

``build`` puts it together around a store: for the process of a gateway pod (``command``) around
Redis, for ``switchboard dev`` around the in-process store.
"""

import asyncio
import logging
import ssl
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from random import Random
from time import monotonic
from typing import Final
from urllib.request import getproxies_environment

from aiohttp import web

from switchboard_dataplane.access.identify import Access
from switchboard_dataplane.admin import Admin
from switchboard_dataplane.admission import Admission
from switchboard_dataplane.attempts import Attempts
from switchboard_dataplane.choosing.shipped import embed_intents, estimate_complexity
from switchboard_dataplane.composed.background import Backgrounds
from switchboard_dataplane.composed.composer import build_composer
from switchboard_dataplane.composed.review import webhooks
from switchboard_dataplane.composed.telling import Telling
from switchboard_dataplane.explaining.explainer import Explainer
from switchboard_dataplane.explaining.port import ExplainPort
from switchboard_dataplane.failover import Failover
from switchboard_dataplane.front.bodies import Bodies
from switchboard_dataplane.front.gateway_models import GatewayModels
from switchboard_dataplane.front.port import PublicPort
from switchboard_dataplane.front.routes import PATIENCE, Elsewhere, Patience, Routes
from switchboard_dataplane.ground import (
    Ground,
    access_of,
    build_follower,
    build_gauges,
    build_in_force,
    build_sharing,
    gateway_token_of,
    guard_of,
    pod_of,
    routers_of,
)
from switchboard_dataplane.in_force import InForce
from switchboard_dataplane.learning.building import Learning, build_learning
from switchboard_dataplane.learning.lesson_sharing import LessonSharing
from switchboard_dataplane.learning.lessons import Lessons
from switchboard_dataplane.lifecycle import LAST_WORDS_S, LiveRequests, shut_down
from switchboard_dataplane.peers import Peers, build_peers
from switchboard_dataplane.proxy import Proxy
from switchboard_dataplane.reader import Reader
from switchboard_dataplane.settings import Settings, naming, split_address
from switchboard_dataplane.sources.follow import Follower
from switchboard_dataplane.sources.sharing import Sharing
from switchboard_dataplane.telemetry.exporters import Telemetry, build_telemetry
from switchboard_dataplane.telemetry.outcome import Observer, Outcome, OutcomeQueue
from switchboard_dataplane.upstream.addresses import AddressGuard
from switchboard_dataplane.upstream.bound import Bounds
from switchboard_dataplane.upstream.choose import choose_upstream
from switchboard_dataplane.upstream.gateway_token import GatewayToken
from switchboard_dataplane.upstream.getting import Getter
from switchboard_dataplane.upstream.probing import Prober, asking
from switchboard_dataplane.upstream.tls import tls_context
from switchboard_dataplane.upstream.transport import Upstream
from switchboard_policy.names import namespace_scope
from switchboard_policy.seal import Keyring
from switchboard_policy.store import StoreReader

log = logging.getLogger(__name__)

#: How often the number of live pods and the scope's keys are looked at, in seconds.
REFRESH_S: Final = 5.0
#: How the scopes of sidecars begin; all others are gateways'.
NAMESPACE_SCOPES: Final = namespace_scope("")
#: What the last decisions may take to be logged at the end, in seconds.
LAST_LOG_S: Final = 1.0
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
        self._tasks.append(asyncio.create_task(self.beside.learning.journal.log.run()))
        self._tasks.append(asyncio.create_task(self.beside.lessons.run()))
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
        # What is learned of the last outcomes may ask a model, too.
        self.outcomes.drain()
        await self.beside.background.close(LAST_WORDS_S)
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
        await self.beside.learning.journal.log.flush(LAST_LOG_S)
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
            await self.in_force.refresh()
            await asyncio.to_thread(self.beside.gateway_token.look)
            if self.settings.routers:
                await asyncio.to_thread(self.beside.lessons.lessons.routers.look)


@dataclass(frozen=True, slots=True)
class Beside:
    """What runs beside the requests: probes, engines' metrics, what peers tell each other, what is
    learned, and what follows answers.
    """

    getter: Getter
    peers: Peers
    prober: Prober
    learning: Learning
    lessons: LessonSharing
    background: Backgrounds
    gateway_token: GatewayToken


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
    ground = Ground(
        settings=settings,
        source=source,
        keyring=keyring,
        pod=pod_of(settings),
        clock=clock,
        # Chance spreads load and jitters waits; nothing secret hangs on it.
        rng=Random(),  # noqa: S311
        routers=routers_of(settings),
        guard=guard_of(settings),
        gateway_token=gateway_token_of(settings),
    )
    live = LiveRequests()
    in_force = build_in_force(ground, live_pods=lambda: follower.state().live_pods)
    gauges = build_gauges(
        in_force,
        refused=lambda: len(follower.state().refused),
        dropped=lambda: outcomes.dropped,
        logged=lambda: learning.journal.counts,
    )
    telemetry = build_telemetry(gauges, pod=ground.pod.name, otlp=settings.otlp)
    follower = build_follower(ground, in_force, telemetry)
    sharing = build_sharing(ground)
    learning = _learning(ground, telemetry, sharing)
    outcomes = OutcomeQueue(
        observers=(telemetry.metrics.fold, learning.journal.fold, *observers),
        later=asyncio.get_running_loop().call_later,
    )
    tls = _tls(settings)
    upstream = _upstream(tls, ground.guard)
    getter = Getter(tls=tls, guard=ground.guard, pod=ground.pod.name)
    proxy = _proxy(
        settings,
        access=access_of(ground, in_force, sharing, telemetry),
        attempts=_attempts(ground, in_force, upstream),
        getter=getter,
        observe=outcomes.put,
        live=live,
        learning=learning,
        telemetry=telemetry,
    )
    return DataPlane(
        settings=settings,
        public=_public(ground, in_force, proxy, live, learning, getter, patience),
        admin=_admin(in_force, follower, live, learning, telemetry, proxy.reader),
        follower=follower,
        in_force=in_force,
        live=live,
        outcomes=outcomes,
        telemetry=telemetry,
        upstream=upstream,
        beside=_beside(ground, in_force, follower, learning, getter, proxy.composer.background),
    )


@asynccontextmanager
async def serving(plane: DataPlane) -> AsyncGenerator[DataPlane]:
    """Run a data plane while the block runs; live requests are cut off at its end."""
    try:
        await plane.start()
        yield plane
    finally:
        await plane.stop()


def form() -> str:
    """Say whether the hot path runs "compiled" or "interpreted": see ``hatch_build.py``."""
    source = sys.modules[Proxy.__module__].__file__ or ""
    return "interpreted" if source.endswith(".py") else "compiled"


def _learning(ground: Ground, telemetry: Telemetry, sharing: Sharing) -> Learning:
    return build_learning(
        ground.source,
        sharing=sharing,
        keyring=ground.keyring,
        keep=ground.settings.decision_log,
        choices=telemetry.metrics.choices,
        clock=ground.clock,
        today=ground.today,
        random=ground.rng,
    )


def _proxy(
    settings: Settings,
    *,
    access: Access,
    attempts: Attempts,
    getter: Getter,
    observe: Callable[[Outcome], None],
    live: LiveRequests,
    learning: Learning,
    telemetry: Telemetry,
) -> Proxy:
    failover = attempts.failover
    rate, choices = learning.journal.rate, telemetry.metrics.choices
    telling = Telling(
        choices=choices,
        rate=lambda said, value, source, whose: rate(said, value, source, backend=whose),
        log=learning.journal.log.put,
        today=attempts.today,
        later=asyncio.get_running_loop().call_later,
    )
    composer = build_composer(
        attempts,
        post=webhooks(getter),
        mirrored=telling.mirrored,
        reviewed=telling.reviewed,
    )
    learning.journal.judge = composer.samples(telling).begin
    return Proxy(
        access=access,
        snapshot=failover.admission.snapshot,
        signals=failover.signals,
        failover=failover,
        reader=failover.admission.reader,
        admission=failover.admission,
        attempts=attempts,
        composer=composer,
        observe=observe,
        shutting_down=lambda: live.expired,
        clock=failover.clock,
        rng=failover.rng,
        notes=learning.notes,
        tracing=telemetry.tracing,
        detail_headers=settings.detail_headers,
    )


def _attempts(ground: Ground, in_force: InForce, upstream: Upstream) -> Attempts:
    loop, today = asyncio.get_running_loop(), partial(datetime.now, UTC)
    clock, rng, histories = ground.clock, ground.rng, in_force.signals.histories
    reader = Reader(
        complexity=estimate_complexity,
        embed_intents=embed_intents,
        predict=ground.routers.predict,
        past=lambda policy, session: histories.of(policy, session, clock()),
    )
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
    return Attempts(
        failover=failover,
        hedges=in_force.hedges,
        upstream=upstream,
        bounds=Bounds(clock=clock, call_later=loop.call_later),
        clock=clock,
        today=today,
        gateway_token=ground.gateway_token,
    )


def _public(
    ground: Ground,
    in_force: InForce,
    proxy: Proxy,
    live: LiveRequests,
    learning: Learning,
    getter: Getter,
    patience: Patience,
) -> PublicPort:
    settings = ground.settings
    limit = settings.body_limit_bytes
    routes = Routes(
        proxy=proxy,
        feedback=learning.feedback,
        live=live,
        bodies=Bodies(max(limit, settings.bodies_limit_bytes)),
        snapshot=in_force.current,
        body_limit_bytes=limit,
        patience=patience,
        elsewhere=_elsewhere(ground, in_force, getter),
        access=proxy.access,
    )
    return PublicPort(
        routes,
        lane=settings.lane,
        loop=asyncio.get_running_loop(),
        clock=ground.clock,
        today=ground.today,
    )


def _admin(
    in_force: InForce,
    follower: Follower,
    live: LiveRequests,
    learning: Learning,
    telemetry: Telemetry,
    reader: Reader,
) -> Admin:
    decisions = learning.journal.recent
    explainer = Explainer(reader=reader, signals=in_force.signals, clock=in_force.clock)
    return Admin(
        in_force=in_force,
        source=follower.state,
        live=live,
        decisions=decisions,
        exposition=telemetry.exposition,
        explain=ExplainPort(explainer=explainer, snapshot=in_force.current, decisions=decisions),
    )


def _elsewhere(ground: Ground, in_force: InForce, getter: Getter) -> Elsewhere | None:
    """Return what a sidecar lists beside its own names; None in a gateway."""
    if not ground.settings.scope.startswith(NAMESPACE_SCOPES):
        return None
    return GatewayModels(
        snapshot=in_force.current,
        get=getter.get,
        token=lambda: ground.gateway_token.value,
        clock=ground.clock,
    )


def _beside(
    ground: Ground,
    in_force: InForce,
    follower: Follower,
    learning: Learning,
    getter: Getter,
    background: Backgrounds,
) -> Beside:
    peers = build_peers(
        learning.journal.sharing,
        scope=ground.settings.scope,
        in_force=in_force,
        pods=lambda: follower.state().pods,
        getter=getter,
        clock=ground.clock,
        random=ground.rng,
    )
    prober = Prober(
        snapshot=in_force.current,
        signals=in_force.signals,
        ask=asking(getter),
        clock=ground.clock,
        chance=ground.rng.random,
    )
    signals = in_force.signals
    lessons = signals.learner = Lessons(in_force.current, signals.targets, ground.routers)
    learning.journal.learners.append(lessons.learn)
    told = LessonSharing(lessons, learning.journal.sharing, ground.clock)
    return Beside(getter, peers, prober, learning, told, background, ground.gateway_token)


def _tls(settings: Settings) -> ssl.SSLContext:
    with naming(f"--upstream-ca-file {settings.upstream_ca_file}"):
        return tls_context(settings.upstream_ca_file)


def _upstream(tls: ssl.SSLContext, guard: AddressGuard) -> Upstream:
    with naming("the environment"):
        return choose_upstream(tls=tls, proxies=getproxies_environment(), guard=guard)
