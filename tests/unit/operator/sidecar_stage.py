"""A stage for the scopes of sidecars: a cluster, a store with users, and replicas on them."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fakes.worlds import backend, keyring, policy, put, rule, world
from switchboard_operator.credentials import Place, ScopeKeys
from switchboard_operator.publication import Publication
from switchboard_operator.sidecar_login import URL_KEY, Logins
from switchboard_operator.sidecar_scopes import Behind, SidecarScopes, Within
from switchboard_policy.compiler.world import Gateway, Name, World
from switchboard_policy.names import INJECT_LABEL, INJECTED_LABEL, SIDECAR_SECRET
from switchboard_policy.seal import Keyring
from switchboard_policy.store import Channel, PodSeen, Revision, StoreRefused
from switchboard_policy.store.memory import MemoryStore, MemoryWriter
from unit.operator.bench import PACE, in_virtual_time, loop_clock, new_store
from unit.operator.kube_fakes import Cluster

LABEL = {INJECT_LABEL: "true"}
SECRET = Name("app", SIDECAR_SECRET)
USER = "switchboard-ns-app"
LINGER_S = 600.0


@dataclass(slots=True)
class Users:
    """The store's users in memory; ``trouble`` is raised by every call while it is set.

    To make one takes ``takes_s``.
    """

    held: dict[str, tuple[str, str]] = field(default_factory=dict)
    erased: list[str] = field(default_factory=list)
    trouble: ConnectionError | None = None
    takes_s: float = 0.0

    async def names(self) -> frozenset[str]:
        self._check()
        return frozenset(self.held)

    async def put(self, name: str, scope: str, password: str) -> None:
        await asyncio.sleep(self.takes_s)
        self._check()
        self.held[name] = scope, password

    async def drop(self, name: str) -> None:
        self._check()
        self.held.pop(name, None)

    async def erase(self, scope: str) -> None:
        self._check()
        self.erased.append(scope)

    def _check(self) -> None:
        if self.trouble is not None:
            raise self.trouble


class Writer(MemoryWriter):
    """A writer that a replica may be refused by, all of it or for one scope."""

    def __init__(self, replica: "Replica", store: MemoryStore) -> None:
        super().__init__(store, keyrings=replica.keyring)
        self._replica = replica

    async def publish(self, *args: Any, **said: Any) -> Revision:
        if self._replica.writer_trouble is not None:
            raise self._replica.writer_trouble
        self._check(args[0])
        return await super().publish(*args, **said)

    async def pods(self, scope: str) -> Sequence[PodSeen]:
        self._check(scope)
        return await super().pods(scope)

    async def intact(self, scope: str, channel: Channel) -> bool:
        self._check(scope)
        return await super().intact(scope, channel)

    async def replace(self, scope: str, *args: Any, **said: Any) -> Revision:
        self._check(scope)
        return await super().replace(scope, *args, **said)

    def _check(self, scope: str) -> None:
        if scope == self._replica.refused_scope:
            raise StoreRefused("WRONGTYPE")


class Replica:
    """A replica's scopes, over what all replicas share."""

    def __init__(
        self,
        cluster: Cluster,
        users: Users,
        store: MemoryStore,
        made: World,
        *,
        seed: int = 1,
        address: str = "redis://operator:secret@redis:6379/0",
        shared: str = "",
        scopes_max: int = 3,
    ) -> None:
        self.leads = True
        self.passes = 0
        self.address = address
        self.unfit: ConnectionError | None = None
        self._world = made
        rng = random.Random(seed)
        clock = loop_clock()
        self.writer_trouble: ConnectionError | None = None
        self.refused_scope = ""
        self.writer = writer = Writer(self, store)
        self._gateway = Publication(Gateway("default", "system"), keyring, writer)
        self.scopes = SidecarScopes(
            cluster,
            Logins(
                cluster,
                users,
                url=lambda: shared or self._address(),
                own=not shared,
                random_bytes=rng.randbytes,
            ),
            Within((), frozenset({"system"}), scopes_max, LINGER_S),
            Behind(self._gateway, "http://gateway/v1", writer, made),
            make_keys=lambda place: _keys(cluster, place, rng),
            leads=lambda: self.leads,
            changed=self._changed,
            clock=clock,
        )
        self._tasks = [asyncio.create_task(each) for each in (self.scopes.run(), self._work())]

    def _address(self) -> str:
        if self.unfit is not None:
            raise self.unfit
        return self.address

    def check(self) -> None:
        """Raise what ended one of its loops, if one has ended."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _work(self) -> None:
        """What the reconciler does: a pass, and the upkeep."""
        while True:
            self._gateway.compile(self._world)
            if self.leads:
                await self.scopes.publish(1)
                await self.scopes.upkeep(1, lost=False)
            await asyncio.sleep(5)

    def keyring(self, scope: str) -> Keyring:
        return keyring() if scope == "gw/default" else self.scopes.keyring(scope)

    def _changed(self) -> None:
        self.passes += 1


def _keys(cluster: Cluster, place: Place, rng: random.Random) -> ScopeKeys:
    now = loop_clock().now
    return ScopeKeys(cluster, place, pace=PACE, random_bytes=rng.randbytes, now=now)


class Stage:
    """A cluster, a store and its users, and the replicas on them."""

    def __init__(self) -> None:
        self.cluster, self.users, self.store = Cluster(), Users(), new_store()
        self.world = world(namespaces={"app": dict(LABEL), "other": {}, "system": dict(LABEL)})
        put(self.world, backend("a", "app"))
        put(self.world, policy("chat", "app", models=["chat"], rules=[rule("r", ["app/a"])]))

    def replica(self, **said: Any) -> Replica:
        return Replica(self.cluster, self.users, self.store, self.world, **said)

    def published(self, namespace: str = "app") -> set[str]:
        return set(self.store.channel(f"ns/{namespace}", "policy").fields)

    def label(self, namespace: str, *, inject: bool) -> None:
        labels = self.world.namespaces[namespace]
        assert isinstance(labels, dict)
        labels.update(LABEL) if inject else labels.pop(INJECT_LABEL, None)

    def run_pod(self, namespace: str, *, there: bool = True) -> None:
        pods, pod = self.cluster.labelled_pods, (namespace, f"{INJECTED_LABEL}=true")
        pods.add(pod) if there else pods.discard(pod)

    @property
    def url(self) -> str:
        return self.cluster.secrets[SECRET].data[URL_KEY].decode()


def on_a_stage(scenario: Callable[[Stage], object]) -> Callable[[], None]:
    async def run() -> None:
        before = asyncio.all_tasks()
        try:
            await scenario(Stage())  # type: ignore[misc]
        finally:
            for task in asyncio.all_tasks() - before - {asyncio.current_task()}:
                assert task is not None
                task.cancel()

    def test() -> None:
        in_virtual_time(run)

    test.__name__ = scenario.__name__
    return test
