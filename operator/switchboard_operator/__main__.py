"""The operator, put together: settings, the API server, the store, leadership, the loops."""

import asyncio
import gc
import logging
import random
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final

from switchboard_operator.admin import Admin
from switchboard_operator.admission import Admission
from switchboard_operator.admission_pods import Injection
from switchboard_operator.certificates import Pace as CertificatePace
from switchboard_operator.certificates import service_names
from switchboard_operator.certificates_kept import (
    Certificates,
    FileCertificates,
    KeptCertificates,
)
from switchboard_operator.credentials import Place, ScopeKeys, gateway_place
from switchboard_operator.dataplanes import DataPlanes
from switchboard_operator.errors import ApiAway, KubeError
from switchboard_operator.events import Announcer
from switchboard_operator.handlers import Intake, Watches
from switchboard_operator.injector import Sidecar
from switchboard_operator.inventory import Inventory
from switchboard_operator.kube import Kube, connect, decode_data
from switchboard_operator.lease import Clock, Identity, Leadership, Terms
from switchboard_operator.listing import Listing
from switchboard_operator.patcher import Patcher
from switchboard_operator.propagation import Journeys
from switchboard_operator.publication import Publication
from switchboard_operator.publisher import RedisStore
from switchboard_operator.quarantine import Quarantine
from switchboard_operator.reconciler import Reconciler
from switchboard_operator.reporter import Reporter
from switchboard_operator.resources import Kind, Raw
from switchboard_operator.rotation import Pace
from switchboard_operator.settings import (
    GatewaySettings,
    KeySettings,
    Settings,
    SettingsInvalid,
    read_settings,
)
from switchboard_operator.sidecar_login import Logins
from switchboard_operator.sidecar_scopes import NEVER, Behind, SidecarScopes, Within
from switchboard_operator.store_users import StoreUsers
from switchboard_operator.stores import Stores
from switchboard_operator.telemetry import Telemetry
from switchboard_operator.token_reviews import Reviewing, TokenReviews
from switchboard_policy.compiler.world import Name
from switchboard_policy.errors import Malformed
from switchboard_policy.names import gateway_scope
from switchboard_policy.seal import Keyring
from switchboard_policy.v1alpha1.parse import Parser

EXIT_SETTINGS: Final = 2
RETRY_S: Final = 2.0
FIRST_PASS_S: Final = 5.0
"""kopf's first lists wait for the first publication, but no longer than this."""
LISTING_GC_OBJECTS: Final = 100_000
"""What is listed stays: looking for garbage in it, every 700 objects, took a third of the time."""
STEADY_GC_OBJECTS: Final = (20_000, 20, 20)
"""After it. The usual thresholds took a seventh of the CPU time in which statuses are written."""

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the operator until SIGTERM or SIGINT; return the exit status."""
    try:
        settings = read_settings(sys.argv[1:] if argv is None else argv)
        stores = Stores(settings)
        _set_up_logging(settings.log_level)
        kube = connect(settings.kubeconfig)
    except (SettingsInvalid, ApiAway) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_SETTINGS
    try:
        asyncio.run(_run(settings, kube, stores))
    except (Malformed, OSError, ValueError) as error:
        log.critical("%s", error)
        return 1
    return 0


class Operator:
    """All parts, wired; ``start`` lets them run."""

    def __init__(
        self, settings: Settings, kube: Kube, keys: Mapping[str, ScopeKeys], stores: Stores
    ) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._clock = Clock(
            time.monotonic, lambda: datetime.now(UTC), asyncio.sleep, random.SystemRandom()
        )
        self.telemetry = Telemetry()
        self.store = RedisStore(stores.own, keyrings=partial(self._keyring, keys))
        self._users: StoreUsers | None = None
        self._inventory = Inventory(Parser(), decode_secret=decode_data)
        self._gateways = [
            (
                Publication(gateway, keys[gateway_scope(gateway.name)].keyring, self.store),
                DataPlanes(
                    gateway_scope(gateway.name),
                    self.store,
                    kube,
                    summary=Name(settings.namespace, f"switchboard-status-{gateway.name}"),
                    namespace=settings.namespace,
                    monotonic=self._clock.monotonic,
                ),
                keys[gateway_scope(gateway.name)],
            )
            for gateway in settings.worlds_gateways()
        ]
        self.leadership = Leadership(
            kube,
            Name(settings.namespace, settings.lease.name),
            Identity(settings.pod_name, secrets.token_hex(4)),
            clock=self._clock,
            floor=self._store_epoch,
            terms=Terms(
                int(settings.lease.duration.total_seconds()),
                settings.lease.renew_deadline.total_seconds(),
                settings.lease.retry.total_seconds(),
            ),
        )
        self.reporter = self._build_reporter(kube)
        self._quarantine = Quarantine(kube, self._inventory)
        self._reconciler = Reconciler(
            self._inventory,
            self._gateways,
            self.store,
            reporter=self.reporter,
            quarantine=self._quarantine,
            leadership=self.leadership,
            telemetry=self.telemetry,
            clock=self._clock,
        )
        self._sidecars = self._build_sidecars(kube, stores) if settings.sidecar.enabled else None
        self._reconciler.keep(self._sidecars)
        self._token_reviews = self._build_token_reviews(kube, keys)
        self.listing = Listing(
            kube,
            self._inventory,
            settings.watch_namespaces,
            changed=self._mark,
            stalled=self._restart_watches,
        )
        self.watches = Watches(
            settings.watch_namespaces,
            connection=kube.connection,
            deliver=Intake(loop, self._take),
            began=partial(self._watch_began, loop),
            failed=self.telemetry.watch_failures.inc,
        )
        self.admission = self._build_admission(kube) if settings.admission.port else None

    def _build_reporter(self, kube: Kube) -> Reporter:
        announcer = Announcer(
            kube,
            clock=self._clock,
            leads=lambda: self.leadership.epoch is not None,
            done=lambda outcome: self.telemetry.object_events.labels(outcome).inc(),
        )
        patcher = Patcher(
            kube,
            self._inventory,
            clock=self._clock,
            leads=lambda: self.leadership.epoch is not None,
            done=lambda outcome: self.telemetry.status_patches.labels(outcome).inc(),
            written=announcer.tell,
            changed=self._mark,
        )
        return Reporter(
            self._inventory,
            patcher,
            [(publication, planes) for publication, planes, _ in self._gateways],
            announcer=announcer,
            journeys=Journeys(self.telemetry.programmed_seconds.observe),
            clock=self._clock,
        )

    def _build_token_reviews(self, kube: Kube, keys: Mapping[str, ScopeKeys]) -> TokenReviews:
        gateways = self._settings.gateways
        scopes = {gateway_scope(gateway.name): gateway.access for gateway in gateways}
        return TokenReviews(
            kube,
            self.store,
            [Reviewing(scope, access, keys[scope].keyring) for scope, access in scopes.items()],
            speaker=f"operator/{self._settings.pod_name}",
            leads=lambda: self.leadership.epoch is not None,
            clock=self._clock,
            done=lambda outcome: self.telemetry.token_reviews.labels(outcome).inc(),
        )

    def _keyring(self, keys: Mapping[str, ScopeKeys], scope: str) -> Keyring:
        if scope in keys or self._sidecars is None:
            return keys[scope].keyring()
        return self._sidecars.keyring(scope)

    def _build_sidecars(self, kube: Kube, stores: Stores) -> SidecarScopes:
        settings, said = self._settings, self._settings.sidecar
        serving = next(
            publication
            for publication, _, _ in self._gateways
            if said.gateway in ("", publication.gateway.name)
        )
        pace = next(each.keys for each in settings.gateways if each.name == serving.gateway.name)
        self._users = StoreUsers(stores.own)
        return SidecarScopes(
            kube,
            Logins(
                kube,
                self._users,
                url=stores.of_sidecars,
                own=not stores.shared,
                random_bytes=secrets.token_bytes,
            ),
            Within(
                watched=tuple(settings.watch_namespaces),
                never=NEVER | {settings.namespace},
                scopes_max=said.scopes_max,
                linger_s=said.linger.total_seconds(),
            ),
            Behind(serving, said.gateway_url, self.store, self._inventory.world),
            make_keys=lambda place: _scope_keys(kube, place, pace),
            leads=lambda: self.leadership.epoch is not None,
            changed=self._mark,
            clock=self._clock,
        )

    def _build_injection(self) -> Injection | None:
        if self._sidecars is None:
            return None
        said = self._settings.sidecar
        sidecar = Sidecar(
            image=said.image,
            pull_policy=said.image_pull_policy,
            audience=said.audience,
            flags=said.flags,
            resources=said.resources,
            security_context=said.security_context,
        )
        return Injection(sidecar, self._sidecars.admit)

    def _build_admission(self, kube: Kube) -> Admission:
        settings, said = self._settings, self._settings.admission
        certificates: Certificates = KeptCertificates(
            kube,
            Name(settings.namespace, said.secret),
            configuration=said.configuration or "",
            mutating=settings.sidecar.configuration or "",
            names=service_names(said.service, settings.namespace),
            pace=CertificatePace(
                said.certificates.lifetime,
                said.certificates.settle,
                said.certificates.keep_old_for,
            ),
            leads=lambda: self.leadership.epoch is not None,
            now=self._clock.now,
        )
        if said.cert_dir is not None:
            certificates = FileCertificates(said.cert_dir)
        return Admission(
            said,
            settings.worlds_gateways(),
            certificates,
            world=self._inventory.world,
            hinders=lambda: self.listing.obstacle,
            telemetry=self.telemetry,
            clock=self._clock.monotonic,
            injection=self._build_injection(),
        )

    async def run(self) -> None:
        """Run until cancelled; then release the Lease."""
        gc.set_threshold(LISTING_GC_OBJECTS)
        try:
            async with asyncio.TaskGroup() as group:
                if self.admission is not None:
                    group.create_task(self.admission.run())
                await self._load()
                # Who cannot read what is there leaves the Lease to others.
                group.create_task(self.leadership.run())
                group.create_task(self._reconciler.run())
                group.create_task(self._token_reviews.run())
                await self._first_pass()
                gc.set_threshold(*STEADY_GC_OBJECTS)
                self.watches.start()
                group.create_task(self.listing.run())
        finally:
            await self.watches.stop()
            if self.admission is not None:
                await self.admission.stop()
            await self.store.close()
            if self._users is not None:
                await self._users.close()

    async def _load(self) -> None:
        while True:
            try:
                await self._quarantine.load(self._settings.watch_namespaces or [""])
                break
            except KubeError as error:
                self.listing.obstacle = str(error)
                log.error("cannot list ControllerRevisions: %s", error)  # noqa: TRY400
                await asyncio.sleep(RETRY_S)
        await self.listing.load()
        self.telemetry.synced.set(1)
        counts = self._inventory.counts()
        log.info("listed %s", ", ".join(f"{count} {kind}" for kind, count in counts.items()))
        with suppress(ConnectionError):
            if wrong := await self.store.check_eviction():
                log.error("%s", wrong)

    async def _first_pass(self) -> None:
        """Let what was listed reach the store before kopf lists it all once more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_PASS_S):
                await self._reconciler.published.wait()

    def _mark(self) -> None:
        self._reconciler.mark()

    def _watch_began(self, loop: asyncio.AbstractEventLoop) -> None:
        """Be told on kopf's thread."""
        loop.call_soon_threadsafe(self.listing.watch_began)

    def _restart_watches(self) -> None:
        self.watches.restart()

    def _take(self, kind: Kind, event_type: str | None, body: Raw) -> None:
        self.telemetry.events.labels(str(kind)).inc()
        self.listing.shown(kind, event_type, body)
        if self._inventory.take(kind, body, deleted=event_type == "DELETED"):
            self._reconciler.mark()

    async def _store_epoch(self) -> int:
        try:
            return await self.store.epoch([each.scope for each, _, _ in self._gateways])
        except ConnectionError as error:
            log.warning("the store: %s", error)
            return 0


class _Health:
    """What the admin port tells of an operator that may not be there yet."""

    def __init__(self) -> None:
        self.operator: Operator | None = None

    def lists(self) -> str:
        return self.operator.listing.obstacle if self.operator else "no scope key was read yet"

    def watches(self) -> str:
        running = self.operator is not None and self.operator.watches.alive
        return "" if running else "the watches do not run yet"

    def admission(self) -> str:
        known = self.operator.admission if self.operator else None
        return known.obstacle if known else ""

    def metrics(self) -> bytes:
        known = self.operator
        return known.telemetry.render(known.reporter.counts()) if known else b""


async def _run(settings: Settings, kube: Kube, stores: Stores) -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - we are in one
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    health = _Health()
    admin = Admin(
        live={"loop": str},
        ready={"lists": health.lists, "watches": health.watches, "admission": health.admission},
        metrics=health.metrics,
    )
    try:
        port = await admin.start(settings.admin_host, settings.admin_port)
        log.info("admin port %d", port)
        await _belong(kube, settings)
        keys = {
            gateway_scope(gateway.name): await _load_keys(kube, settings.namespace, gateway)
            for gateway in settings.gateways
        }
        health.operator = Operator(settings, kube, keys, stores)
        await health.operator.run()
    except asyncio.CancelledError:
        log.info("stopped by a signal")
    finally:
        await admin.stop()
        await kube.close()


async def _belong(kube: Kube, settings: Settings) -> None:
    while settings.owner:
        try:
            await kube.belong_to(Name(settings.namespace, settings.owner))
        except KubeError as error:
            log.error("the owner: ConfigMap %s: %s", settings.owner, error)  # noqa: TRY400
            await asyncio.sleep(RETRY_S)
        else:
            return


def _scope_keys(kube: Kube, place: Place, said: KeySettings) -> ScopeKeys:
    return ScopeKeys(
        kube,
        place,
        pace=Pace(said.rotate_after, said.wait_at_most, said.keep_old_for),
        random_bytes=secrets.token_bytes,
        now=lambda: datetime.now(UTC),
    )


async def _load_keys(kube: Kube, namespace: str, gateway: GatewaySettings) -> ScopeKeys:
    keys = _scope_keys(kube, gateway_place(namespace, gateway.name), gateway.keys)
    while True:
        try:
            await keys.load()
        except KubeError as error:
            log.error("the scope key of gateway %s: %s", gateway.name, error)  # noqa: TRY400
            await asyncio.sleep(RETRY_S)
        else:
            return keys


def _set_up_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    # kopf logs every object that it looks at, and warns that the signals are not its own; of the
    # client's retries the caller tells those that matter.
    quiet = {"kopf": "WARNING", "kopf._core.reactor.running": "ERROR", "urllib3": "ERROR"}
    for name, least in quiet.items():
        logging.getLogger(name).setLevel(least)


if __name__ == "__main__":
    sys.exit(main())
