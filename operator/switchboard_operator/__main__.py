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
from switchboard_operator.credentials import ScopeKeys
from switchboard_operator.dataplanes import DataPlanes
from switchboard_operator.errors import ApiAway, KubeError
from switchboard_operator.handlers import Intake, Watches
from switchboard_operator.inventory import Inventory
from switchboard_operator.kube import Kube, connect, decode_data
from switchboard_operator.lease import Clock, Identity, Leadership
from switchboard_operator.listing import Listing
from switchboard_operator.patcher import Patcher
from switchboard_operator.publication import Publication
from switchboard_operator.publisher import RedisStore
from switchboard_operator.quarantine import Quarantine
from switchboard_operator.reconciler import Reconciler
from switchboard_operator.reporter import Reporter
from switchboard_operator.resources import Kind, Raw
from switchboard_operator.rotation import Pace
from switchboard_operator.settings import GatewaySettings, Settings, SettingsInvalid, read_settings
from switchboard_operator.telemetry import Telemetry
from switchboard_policy.compiler.world import Name
from switchboard_policy.errors import Malformed
from switchboard_policy.names import gateway_scope
from switchboard_policy.v1alpha1.parse import Parser

EXIT_SETTINGS: Final = 2
RETRY_S: Final = 2.0
FIRST_PASS_S: Final = 5.0
"""kopf's first lists wait for the first publication, but no longer than this."""
LISTING_GC_OBJECTS: Final = 100_000
"""What is listed stays: looking for garbage in it, every 700 objects, took a third of the time."""

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the operator until SIGTERM or SIGINT; return the exit status."""
    try:
        settings = read_settings(sys.argv[1:] if argv is None else argv)
        _set_up_logging(settings.log_level)
        kube = connect(settings.kubeconfig)
    except (SettingsInvalid, ApiAway) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_SETTINGS
    try:
        asyncio.run(_run(settings, kube))
    except (Malformed, OSError, ValueError) as error:
        log.critical("%s", error)
        return 1
    return 0


class Operator:
    """All parts, wired; ``start`` lets them run."""

    def __init__(self, settings: Settings, kube: Kube, keys: Mapping[str, ScopeKeys]) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._clock = Clock(
            time.monotonic, lambda: datetime.now(UTC), asyncio.sleep, random.SystemRandom()
        )
        self.telemetry = Telemetry()
        self.store = RedisStore(settings.redis.url, keyrings=lambda scope: keys[scope].keyring())
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
        )
        patcher = Patcher(
            kube,
            self._inventory,
            clock=self._clock,
            leads=lambda: self.leadership.epoch is not None,
            done=lambda outcome: self.telemetry.status_patches.labels(outcome).inc(),
            changed=self._mark,
        )
        self.reporter = Reporter(
            self._inventory,
            patcher,
            [(publication, planes) for publication, planes, _ in self._gateways],
            clock=self._clock,
        )
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

    async def run(self) -> None:
        """Run until cancelled; then release the Lease."""
        usual = gc.get_threshold()
        gc.set_threshold(LISTING_GC_OBJECTS)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.leadership.run())
                await self._load()
                group.create_task(self._reconciler.run())
                await self._first_pass()
                gc.set_threshold(*usual)
                self.watches.start()
                group.create_task(self.listing.run())
        finally:
            await self.watches.stop()
            await self.store.close()

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
        if event_type is None:
            self.listing.relisted(kind)
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

    def metrics(self) -> bytes:
        known = self.operator
        return known.telemetry.render(known.reporter.counts()) if known else b""


async def _run(settings: Settings, kube: Kube) -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - we are in one
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    health = _Health()
    admin = Admin(
        live={"loop": str},
        ready={"lists": health.lists, "watches": health.watches},
        metrics=health.metrics,
    )
    try:
        port = await admin.start(settings.admin_host, settings.admin_port)
        log.info("admin port %d", port)
        keys = {
            gateway_scope(gateway.name): await _load_keys(kube, settings.namespace, gateway)
            for gateway in settings.gateways
        }
        health.operator = Operator(settings, kube, keys)
        await health.operator.run()
    except asyncio.CancelledError:
        log.info("stopped by a signal")
    finally:
        await admin.stop()
        await kube.close()


async def _load_keys(kube: Kube, namespace: str, gateway: GatewaySettings) -> ScopeKeys:
    said = gateway.keys
    keys = ScopeKeys(
        kube,
        namespace,
        gateway.name,
        pace=Pace(said.rotate_after, said.wait_at_most, said.keep_old_for),
        random_bytes=secrets.token_bytes,
        now=lambda: datetime.now(UTC),
    )
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
