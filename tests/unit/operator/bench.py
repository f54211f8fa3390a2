"""All parts of the operator on an API server and a store in memory, in virtual time."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from fakes.manifests import external, policy
from fakes.virtual_time import VirtualTimeLoop, eventually
from fakes.worlds import parser
from switchboard_operator.credentials import ScopeKeys, gateway_place
from switchboard_operator.dataplanes import DataPlanes
from switchboard_operator.events import Announcer
from switchboard_operator.inventory import Inventory
from switchboard_operator.kube import decode_data
from switchboard_operator.lease import Clock, Identity, Leadership
from switchboard_operator.listing import Listing
from switchboard_operator.patcher import Patcher
from switchboard_operator.propagation import Journeys
from switchboard_operator.publication import Publication
from switchboard_operator.quarantine import Quarantine
from switchboard_operator.reconciler import Reconciler
from switchboard_operator.reporter import Reporter
from switchboard_operator.resources import Kind
from switchboard_operator.rotation import Pace
from switchboard_operator.telemetry import Telemetry
from switchboard_policy.compiler.world import Gateway, Name
from switchboard_policy.store import ZERO, Channel, Pod, Revision
from switchboard_policy.store.memory import MemoryStore, MemoryWriter
from unit.operator.kube_fakes import Cluster, Json

SCOPE = "gw/default"
PACE = Pace(
    rotate_after=timedelta(days=30),
    wait_at_most=timedelta(minutes=15),
    keep_old_for=timedelta(minutes=5),
)


def in_virtual_time(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario to its end; its sleeps take no time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario())


def loop_clock() -> Clock:
    """A clock of the running loop's time."""
    loop = asyncio.get_running_loop()
    return Clock(
        monotonic=loop.time,
        now=lambda: datetime.fromtimestamp(loop.time(), UTC),
        sleep=asyncio.sleep,
        random=random.Random(1),
    )


def new_store() -> MemoryStore:
    """A store that keeps the running loop's time."""
    loop = asyncio.get_running_loop()
    return MemoryStore(clock_ms=lambda: int(loop.time() * 1000))


class FlakyWriter(MemoryWriter):
    """A writer whose store can be away, and that counts what it was asked to publish."""

    away = False
    published = 0

    async def publish(self, *args: Any, **kwargs: Any) -> Revision:
        self._check()
        FlakyWriter.published += 1
        return await super().publish(*args, **kwargs)

    async def replace(self, *args: Any, **kwargs: Any) -> Revision:
        self._check()
        return await super().replace(*args, **kwargs)

    async def intact(self, scope: str, channel: Channel) -> bool:
        self._check()
        return await super().intact(scope, channel)

    def _check(self) -> None:
        if self.away:
            raise ConnectionError("refused")


class Bench:
    """One replica of the operator."""

    def __init__(
        self,
        cluster: Cluster,
        store: MemoryStore,
        *,
        name: str = "replica",
        gateways: tuple[str, ...] = ("default",),
    ) -> None:
        self.cluster, self.store, clock = cluster, store, loop_clock()
        self._name, self._names = name, gateways
        self.inventory = Inventory(parser(), decode_secret=decode_data)
        self.keys = ScopeKeys(
            cluster,
            gateway_place("system", "default"),
            pace=PACE,
            random_bytes=random.Random(name).randbytes,
            now=clock.now,
        )
        self.writer = FlakyWriter(store, keyrings=lambda _: self.keys.keyring())
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read the keys, list, elect, reconcile."""
        await self.keys.load()
        self._build()
        await self.quarantine.load([""])
        await self.listing.load()
        for part in (self.leadership, self.reconciler):
            self._tasks.append(asyncio.create_task(part.run()))

    def _build(self) -> None:
        cluster, clock = self.cluster, self._clock
        gateways = [self._gateway(name) for name in self._names]
        self.publication, self.planes = gateways[0]
        self.leadership = Leadership(
            cluster,
            Name("system", "lease"),
            Identity("", self._name),
            clock=clock,
            floor=self._floor,
        )
        self.outcomes: list[str] = []
        self.told: list[str] = []
        self.took_s: list[float] = []
        announcer = Announcer(
            cluster,
            clock=clock,
            leads=lambda: self.leadership.epoch is not None,
            done=self.told.append,
        )
        self.patcher = Patcher(
            cluster,
            self.inventory,
            clock=clock,
            leads=lambda: self.leadership.epoch is not None,
            done=self.outcomes.append,
            written=announcer.tell,
            changed=self._changed,
        )
        self.reporter = Reporter(
            self.inventory,
            self.patcher,
            gateways,
            announcer=announcer,
            journeys=Journeys(self.took_s.append),
            clock=clock,
        )
        self.quarantine = Quarantine(cluster, self.inventory)
        self.telemetry = Telemetry()
        self.reconciler = Reconciler(
            self.inventory,
            [(*each, self.keys) for each in gateways],
            self.writer,
            reporter=self.reporter,
            quarantine=self.quarantine,
            leadership=self.leadership,
            telemetry=self.telemetry,
            clock=clock,
        )
        self.listing = Listing(
            cluster, self.inventory, [], changed=self.reconciler.mark, stalled=lambda: None
        )

    def _gateway(self, name: str) -> tuple[Publication, DataPlanes]:
        publication = Publication(Gateway(name, "system"), self.keys.keyring, self.writer)
        return publication, DataPlanes(
            publication.scope,
            self.writer,
            self.cluster,
            summary=Name("system", f"switchboard-status-{name}"),
            namespace="system",
            monotonic=self._clock.monotonic,
        )

    async def stop(self) -> None:
        """End it, as a signal does."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    def apply(self, kind: Kind, *manifests: Mapping[str, Any]) -> None:
        """Have somebody apply objects, and the watch show them."""
        for manifest in manifests:
            if self.inventory.take(kind, self.cluster.put(kind, manifest)):
                self.reconciler.mark()

    def delete(self, kind: Kind, name: str) -> None:
        """Have somebody delete an object, and the watch show it."""
        gone = self.cluster.delete(kind, Name("ai", name))
        if self.inventory.take(kind, gone, deleted=True):
            self.reconciler.mark()

    def in_store(self) -> set[str]:
        """The objects in the store's policy channel."""
        return set(self.store.channel(SCOPE, "policy").fields)

    def status(self, kind: Kind, name: str) -> Json:
        status: Json = self.cluster.objects[kind][Name("ai", name)].get("status", {})
        return status

    def condition(self, kind: Kind, name: str, of: str) -> Json:
        """A condition of an object; an empty one if it is not there."""
        found = self.status(kind, name).get("conditions", [])
        return next((each for each in found if each["type"] == of), {})

    def patches_of(self, name: str) -> int:
        """How many status patches an object got."""
        return sum(key.name.name == name for key, _ in self.cluster.patches)

    def _changed(self) -> None:
        self.reconciler.mark()

    async def _floor(self) -> int:
        return await self.writer.epoch([SCOPE])


class DataPlane:
    """A data plane that acks whatever the store holds, while it runs.

    One that is told where it is ``at`` stays there as long as it ``ignores`` the store.
    """

    def __init__(
        self, store: MemoryStore, name: str, *, uid: str = "", at: Revision | None = None
    ) -> None:
        self.refused: dict[str, str] = {}
        self.key_ids: tuple[str, ...] = ()
        self.ignores = at is not None
        self._store, self._at = store, at or ZERO
        self._name, self._uid = name, uid
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Fall silent."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        reader, revision = self._store.reader(SCOPE), self._at
        while True:
            head = await reader.head("policy")
            if head is not None and not self.ignores:
                revision = head.revision
            pod = Pod(
                name=self._name,
                revision=revision,
                refused=self.refused,
                key_ids=self.key_ids,
                uid=self._uid,
            )
            await reader.register(pod)
            if self.ignores:
                await asyncio.sleep(1)
            else:
                await reader.lines({"policy": revision}, timeout_ms=1000)


def small_cluster() -> Cluster:
    """A cluster with a backend ``a`` and a policy ``chat`` over it."""
    cluster = Cluster()
    cluster.put(Kind.NAMESPACE, {"metadata": {"name": "ai"}})
    cluster.put(Kind.BACKEND, external("a", 1))
    cluster.put(Kind.POLICY, policy("chat", "a"))
    return cluster


async def started(cluster: Cluster | None = None) -> Bench:
    """A replica on a new store, once it has published what is there."""
    bench = Bench(cluster or small_cluster(), new_store())
    await bench.start()
    await eventually(bench.reconciler.published.is_set)
    return bench


def programmed(bench: Bench, name: str, reason: str = "Programmed") -> bool:
    """Whether a policy is programmed, or not for this reason."""
    return bool(bench.condition(Kind.POLICY, name, "Programmed").get("reason") == reason)
