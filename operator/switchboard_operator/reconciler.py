"""The loop: the world changed → compile → publish → report; and the upkeep beside it.

A pass starts as soon as something changed and takes all that came while the last one ran, so the
first edit waits for nothing and a thousand edits do not make a thousand passes. Retries with
backoff are here and nowhere else.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Sequence, Set
from functools import partial
from typing import Final

from switchboard_operator.client_secrets import count_clients
from switchboard_operator.credentials import ScopeKeys
from switchboard_operator.dataplanes import DataPlanes
from switchboard_operator.errors import KubeError
from switchboard_operator.inventory import Inventory
from switchboard_operator.lease import Clock, Leadership
from switchboard_operator.publication import Publication
from switchboard_operator.quarantine import Quarantine
from switchboard_operator.reporter import Reporter
from switchboard_operator.resources import ObjectKey
from switchboard_operator.sidecar_scopes import SidecarScopes
from switchboard_operator.telemetry import Telemetry
from switchboard_policy.errors import Deposed, Malformed
from switchboard_policy.store import StoreWriter

UPKEEP_EVERY_S: Final = 5.0
SUMMARY_TICK_S: Final = 1.0
THOROUGH_EVERY_S: Final = 60.0
ACKS_TIMEOUT_MS: Final = 5_000
ACKS_RETRY_S: Final = 1.0
BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 5.0

log = logging.getLogger(__name__)


class Reconciler:
    """Everything that follows from the inventory, the leadership and the pods' acks.

    Every replica compiles; only the leader publishes, reports and rotates keys.
    """

    def __init__(
        self,
        inventory: Inventory,
        gateways: Sequence[tuple[Publication, DataPlanes, ScopeKeys]],
        store: StoreWriter,
        *,
        reporter: Reporter,
        quarantine: Quarantine,
        leadership: Leadership,
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        self._inventory = inventory
        self._gateways = gateways
        self._store = store
        self._reporter = reporter
        self._quarantine = quarantine
        self._leadership = leadership
        self._telemetry = telemetry
        self._clock = clock
        self._dirty = asyncio.Event()
        self._dirty_since: float | None = None
        self._unreported = set[ObjectKey]()
        self._keyed_epoch: int | None = None
        self._reported_epoch: int | None = None
        self._writing = asyncio.Lock()
        self._away: str | None = None
        """Why the store does not answer, "" if it does; None before an epoch's first upkeep."""
        self._failures = 0
        self._retry: asyncio.TimerHandle | None = None
        self._thorough_at = clock.monotonic()
        self.published = asyncio.Event()
        """Set once this replica published what it knows."""
        self.keep(None)
        leadership.listen(self.mark)

    def keep(self, sidecars: SidecarScopes | None) -> None:
        """Take care of these scopes, too; to be said before ``run``."""
        self._sidecars = sidecars

    def mark(self) -> None:
        """Have a pass: the world changed, or this replica's role did."""
        if self._dirty_since is None:
            self._dirty_since = self._clock.monotonic()
        self._dirty.set()

    async def run(self) -> None:
        """Go on until cancelled; the first lists must have been read."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass_forever())
            group.create_task(self._follow_acks())
            group.create_task(self._keep_up())
            group.create_task(self._keep_summaries())
            group.create_task(self._reporter.run())
            if self._sidecars is not None:
                group.create_task(self._sidecars.run())

    async def _pass_forever(self) -> None:
        self.mark()
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            since, self._dirty_since = self._dirty_since, None
            await self._pass(since)

    async def _pass(self, since: float | None) -> None:
        news = self._inventory.edited()
        await self._load_keys()
        began = time.perf_counter()
        for publication, _, _ in self._gateways:
            if publication.compile(self._inventory.world):
                news |= self._reporter.compiled(publication)
        self._telemetry.compile_seconds.observe(time.perf_counter() - began)
        self._unreported |= news
        epoch = self._leadership.epoch
        self._telemetry.leader.set(epoch is not None)
        if epoch is None or epoch != self._keyed_epoch:
            await self._forget_gone(news)
            return
        self._telemetry.epoch.set(epoch)
        self._quarantine.touch(self._unreported)
        if await self._publish(epoch, since) and self._leads(epoch):
            await self._report(epoch, since)
            await self._quarantine.settle(partial(self._leads, epoch))

    async def _forget_gone(self, news: Set[ObjectKey]) -> None:
        """Forget objects of which nobody will ever ask: a standby may be one for long."""
        gone = {
            key
            for key in news
            if self._inventory.get(key) is None and not self._quarantine.keeps(key)
        }
        self._unreported -= gone
        await self._reporter.report(gone)

    def _leads(self, epoch: int) -> bool:
        return self._leadership.epoch == epoch

    async def _load_keys(self) -> None:
        """Read the keys once an epoch: another leader may have rotated them since the last time."""
        epoch = self._leadership.epoch
        if epoch is None or epoch == self._keyed_epoch:
            return
        try:
            for _, _, keys in self._gateways:
                await keys.load()
        except (KubeError, Malformed) as error:
            log.error("nothing is published: the scope keys: %s", error)  # noqa: TRY400
            self._mark_later(BACKOFF_MAX_S)
        else:
            self._keyed_epoch = epoch

    async def _publish(self, epoch: int, since: float | None) -> bool:
        """Publish; on a failure have another pass later. False where this replica was deposed."""
        began, changed = time.perf_counter(), set[str]()
        try:
            async with self._writing:
                for publication, planes, _ in self._gateways:
                    if self._reported_epoch != epoch:
                        await planes.refresh()
                    changed |= await publication.publish(epoch)
            if self._sidecars is not None:
                await self._sidecars.publish(epoch)
        except Deposed as error:
            self._leadership.step_down(str(error))
            return False
        except ConnectionError as error:
            self._store_failed(error)
        else:
            self._failures, self._reporter.trouble = 0, ""
            if not self.published.is_set():
                # The world as listed stays: without it in view, a collection takes no time.
                gc.freeze()
            self.published.set()
            if changed:
                self._telemetry.publish_seconds.observe(time.perf_counter() - began)
                if since is not None:
                    passed_s = self._clock.monotonic() - since
                    self._telemetry.propagation_seconds.observe(passed_s)
        self._unreported |= self._reporter.dependants(changed)
        return True

    async def _report(self, epoch: int, since: float | None) -> None:
        due, self._unreported = self._unreported, set[ObjectKey]()
        if self._reported_epoch != epoch:
            self._reported_epoch, self._away = epoch, None
            due |= self._reporter.restart()
            for _, planes, _ in self._gateways:
                planes.restart()
        self._reporter.report_clients()
        await self._reporter.report(due, since=since)

    def _store_failed(self, error: ConnectionError) -> None:
        self._failures += 1
        self._telemetry.store_errors.inc()
        delay_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(self._failures, 8))
        delay_s *= 0.5 + self._clock.random.random()
        self._reporter.trouble = f"the store does not answer ({error}); trying again"
        if self._mark_later(delay_s):
            log.warning("the store: %s; again in %.1f s", error, delay_s)

    def _mark_later(self, delay_s: float) -> bool:
        """Have a pass later; False and nothing if one is to come anyway.

        One wait at a time: with one more for each failure, an outage would grow busy.
        """
        loop = asyncio.get_running_loop()
        if self._retry is not None and self._retry.when() > loop.time():
            return False
        self._retry = loop.call_later(delay_s, self.mark)
        return True

    async def _follow_acks(self) -> None:
        planes, away, moved = {each.scope: each for _, each, _ in self._gateways}, False, False
        while True:
            try:
                # One that was away is only asked whether it answers.
                wait_ms = 1 if away else ACKS_TIMEOUT_MS
                news = await self._store.wait_for_acks(list(planes), timeout_ms=wait_ms)
                # Both are told once: what moved before a scope that cannot be read, and its news.
                for scope in planes if away else news or planes:
                    moved |= await planes[scope].refresh(news.get(scope, frozenset()))
            except ConnectionError as error:
                log.debug("waiting for acks: %s", error)
                away = True
                await self._clock.sleep(ACKS_RETRY_S)
                continue
            if away:
                # What could not be published need not wait for its turn.
                away = False
                self.mark()
            if moved and self._leadership.epoch is not None:
                moved = False
                await self._reporter.report(self._reporter.waiting())

    async def _keep_up(self) -> None:
        while True:
            await self._clock.sleep(UPKEEP_EVERY_S)
            epoch = self._leadership.epoch
            self._telemetry.leader.set(epoch is not None)
            if epoch is None:
                # Another replica knows; what this one knew would contradict it.
                self._telemetry.dataplanes.clear()
                self._telemetry.clients.clear()
                self._telemetry.sidecars.clear()
            if epoch is None or epoch != self._reported_epoch:
                continue
            try:
                await self._upkeep(epoch)
            except Deposed as error:
                self._leadership.step_down(str(error))

    async def _keep_summaries(self) -> None:
        """Look at the pods oftener than at all else: who waits for a pod wants to know at once."""
        while True:
            await self._clock.sleep(SUMMARY_TICK_S)
            epoch = self._leadership.epoch
            if epoch is not None and epoch == self._reported_epoch and self._away is not None:
                await self._summarise(epoch, store=self._away)

    async def _upkeep(self, epoch: int) -> None:
        away = ""
        try:
            lost = await self._mend(epoch)
            await _attempt("forgetting pods", self._forget_gone_pods())
            await self._keep_sidecars(epoch, lost=lost)
        except ConnectionError as error:
            self._store_failed(error)
            away = str(error) or type(error).__name__
        if not self._leads(epoch):
            # Another replica may have led for long: this one was stopped, and says nothing old.
            return
        self._away = away
        if not away:
            await self._quarantine.settle(partial(self._leads, epoch))
            await self._rotate_keys()

    async def _keep_sidecars(self, epoch: int, *, lost: bool) -> None:
        if self._sidecars is None or not self._leads(epoch):
            return
        await self._sidecars.upkeep(epoch, lost=lost)
        for state, count in self._sidecars.counts().items():
            self._telemetry.sidecars.labels(state).set(count)

    async def _mend(self, epoch: int) -> bool:
        """Write again what the store lost; say whether it lost anything."""
        now = self._clock.monotonic()
        if thoroughly := now - self._thorough_at >= THOROUGH_EVERY_S:
            self._thorough_at = now
        changed: set[str] = set()
        async with self._writing:
            for publication, _, _ in self._gateways:
                changed |= await publication.mend(epoch, thoroughly=thoroughly)
                await publication.collect(epoch, now_s=now)
        if changed:
            await self._reporter.report(self._reporter.dependants(changed))
        return bool(changed)

    async def _rotate_keys(self) -> None:
        if self._failures:
            # What the data planes said is old, and the store could not take what follows.
            return
        for publication, planes, keys in self._gateways:
            scope, overruled = publication.scope, keys.overruled
            await _attempt(f"the keys of {scope}", self._turn(keys, planes, publication))
            self._telemetry.scope_keys.labels(scope).set(len(keys.keyring().ids))
            self._telemetry.scope_key_created.labels(scope).set(keys.created.timestamp())
            self._telemetry.scope_key_waits.labels(scope).set(len(keys.waiting_for))
            self._telemetry.scope_key_overruled.labels(scope).inc(keys.overruled - overruled)

    async def _turn(self, keys: ScopeKeys, planes: DataPlanes, publication: Publication) -> None:
        if await keys.turn(planes.pods, publication.signed):
            self.mark()

    async def _forget_gone_pods(self) -> None:
        for _, planes, _ in self._gateways:
            if await planes.forget_gone():
                # Who waited for them alone waits no more, and no ack will tell.
                await self._reporter.report(self._reporter.waiting())

    async def _summarise(self, epoch: int, *, store: str) -> None:
        """Tell what is so of each scope; ``store`` says why the store does not answer, or ""."""
        for publication, planes, _ in self._gateways:
            scope, revision = publication.scope, publication.revision
            clients = count_clients(publication.compilation)
            written = planes.report(
                revision,
                store=store,
                clients=clients,
                monotonic_s=self._clock.monotonic(),
                now=self._clock.now(),
            )
            await _attempt(f"the summary of {scope}", written)
            if not self._leads(epoch):
                return
            for state, count in planes.counts(revision).items():
                self._telemetry.dataplanes.labels(scope, state).set(count)
            for state, count in clients._asdict().items():
                self._telemetry.clients.labels(scope, state).set(count)
            self._telemetry.status_patches_waiting.set(self._reporter.patches_waiting)
            self._telemetry.revision.labels(scope).set(revision.sequence)


async def _attempt(what: str, step: Awaitable[object]) -> None:
    """Do a step of the upkeep that no other one depends on."""
    try:
        await step
    except KubeError as error:
        log.warning("%s: %s", what, error)
