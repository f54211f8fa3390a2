"""The scopes of sidecars, one a namespace: they come with a label or a pod, and go with the last.

The record of a scope is a Secret in its namespace, which has all that a sidecar needs: the scope's
keys, and the way to the store as a user that sees this scope alone. Any replica makes it, before
the webhook lets the first pod in; the leader finds the Secrets by their label, so it needs no word
from the others, compiles and publishes for each, and takes away what nobody uses.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from switchboard_operator.credentials import Place, ScopeKeys
from switchboard_operator.dataplanes import Cluster as SummaryCluster
from switchboard_operator.dataplanes import DataPlanes
from switchboard_operator.errors import KubeError, UsersRefused
from switchboard_operator.kept import Secrets, announce
from switchboard_operator.lease import Clock
from switchboard_operator.publication import Publication
from switchboard_operator.resources import CONFIG_MAPS, SECRETS, SIDECAR_SECRETS, Listed, Resource
from switchboard_operator.sidecar_login import Logins
from switchboard_policy.compiler.compile import Compiler
from switchboard_policy.compiler.sidecars import RESERVED, SidecarCompiler
from switchboard_policy.compiler.world import Name, World
from switchboard_policy.errors import Malformed
from switchboard_policy.names import (
    INJECT_LABEL,
    INJECTED_LABEL,
    LABELLED,
    SIDECAR_LABEL,
    SIDECAR_SECRET,
    namespace_scope,
)
from switchboard_policy.seal import Keyring
from switchboard_policy.store import StoreRefused, StoreWriter

SUMMARY: Final = "switchboard-status-sidecar"
LOOK_EVERY_S: Final = 2.0
PODS_EVERY_S: Final = 30.0
"""Between two looks whether a namespace that is not labelled has pods with sidecars."""
SHOWN_WITHIN_S: Final = 10.0
"""A Secret that was made is in the list after this; one that is not was deleted."""
KNOWN_FOR_S: Final = 30.0
"""A Secret that was there is not looked at again for each pod of a rollout."""
AWAY_FOR_S: Final = 5.0
"""A store that did not answer is not waited for again by the next pods, only by the upkeep."""
WATCHED_AFTER_S: Final = 120.0
"""A pod may be let in while its scope goes: that is looked for so long, and made good."""
TURNS: Final = 12
"""Every upkeep looks at so great a share of the scopes, one at least; so each has its minute."""
FEW: Final = 12
"""So many have every upkeep."""
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
NEVER: Final = frozenset({"kube-system", RESERVED})

log = logging.getLogger(__name__)


class Cluster(Secrets, SummaryCluster, Protocol):
    """The calls that are made; all may raise KubeError."""

    async def names(self, resource: Resource, namespace: str = "") -> tuple[list[Listed], int]:
        """Return every object's name, and the version of the list."""
        ...

    async def any_pod(self, namespace: str, label: str) -> bool:
        """Say whether a namespace has a Pod with a label."""
        ...

    async def remove(self, resource: Resource, name: Name) -> None:
        """Delete an object, if it is there."""
        ...


@dataclass(slots=True)
class _Scope:
    namespace: str
    publication: Publication
    planes: DataPlanes
    keys: ScopeKeys
    made_at: float
    used_at: float
    looked_at: float
    put: bool


@dataclass(frozen=True, slots=True)
class Within:
    """Which namespaces may have sidecars, how many, and how long a scope stays unused."""

    watched: tuple[str, ...]
    never: frozenset[str]
    scopes_max: int
    linger_s: float


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind sidecars: the gateway, its base URL, the store, and the world."""

    gateway: Publication
    url: str
    store: StoreWriter
    world: World


class SidecarScopes:
    """The live set of scopes.

    ``make_keys`` returns the keys that are kept at a place, ``leads`` says whether this replica
    publishes, and ``changed`` has a pass made.
    """

    def __init__(
        self,
        cluster: Cluster,
        logins: Logins,
        within: Within,
        behind: Behind,
        *,
        make_keys: Callable[[Place], ScopeKeys],
        leads: Callable[[], bool],
        changed: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._cluster = cluster
        self._logins = logins
        self._within = within
        self._behind = behind
        self._make_keys = make_keys
        self._leads = leads
        self._changed = changed
        self._clock = clock
        self._scopes: dict[str, _Scope] = {}
        self._keys: dict[str, ScopeKeys] = {}
        self._listed = frozenset[str]()
        self._known: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._told: dict[str, str] = {}
        self._making = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._turn = 0
        self._unpublished = False
        self._away_until = float("-inf")

    def keyring(self, scope: str) -> Keyring:
        """Return the keys of a scope of this set."""
        return self._keys[scope].keyring()

    def counts(self) -> Mapping[str, int]:
        """Return how many data planes are in which state, over all scopes."""
        sums = {"scopes": len(self._scopes)}
        for scope in self._scopes.values():
            for state, count in scope.planes.counts(scope.publication.revision).items():
                sums[state] = sums.get(state, 0) + count
        return sums

    async def run(self) -> None:
        """Look what is wanted, until cancelled."""
        while True:
            try:
                await self._look()
            except (KubeError, ConnectionError) as error:
                self._tell_once("", f"the scopes of sidecars: {error}")
            await self._clock.sleep(LOOK_EVERY_S)

    async def admit(self, namespace: str) -> str:
        """Have all there that a sidecar of the namespace needs; return "", or why it has none."""
        if not self._may_have(namespace):
            return f"pods of namespace {namespace} get no sidecar"
        try:
            async with self._making:
                if self._clock.monotonic() - self._known.get(namespace, -KNOWN_FOR_S) < KNOWN_FOR_S:
                    return ""
                if namespace not in self._listed and self._is_full():
                    return self._full()
                await self._ensure(namespace)
        except UsersRefused as error:
            return (
                f"the store refuses a user for the sidecars of namespace {namespace}: {error}; "
                "docs/sidecar.md has the rights that the operator needs there"
            )
        except (KubeError, Malformed, OSError) as error:
            return f"no sidecar for namespace {namespace} now: {error}"
        return ""

    async def publish(self, epoch: int) -> None:
        """Bring the store to what the gateway's pass found. Raises Deposed.

        What the store does not take is tried again: the gateways have no part in it.
        """
        self._unpublished = True
        try:
            async with self._writing:
                scopes = tuple(self._scopes.values())
                refused = [await self._publish(each, epoch) for each in scopes]
            self._unpublished = any(refused)
            self._told.pop("", None)
        except ConnectionError as error:
            self._tell_once("", f"publishing for sidecars: {error}")

    async def _publish(self, scope: _Scope, epoch: int) -> bool:
        """Publish one; say whether the store refused. That it is away is of all."""
        scope.publication.compile(self._behind.world)
        try:
            await scope.publication.publish(epoch)
        except StoreRefused as error:
            self._tell_once(scope.namespace, f"{scope.publication.scope}: {error}")
            return True
        return False

    async def upkeep(self, epoch: int, *, lost: bool) -> None:
        """Repair, report and rotate; ``lost`` says that the store has lost something.

        Raises Deposed.
        """
        try:
            await self._keep_up(epoch, lost=lost)
        except ConnectionError as error:
            self._tell_once("", f"the upkeep of sidecars: {error}")
        if self._unpublished and self._leads():
            self._changed()

    async def _keep_up(self, epoch: int, *, lost: bool) -> None:
        again = await self._put_users()
        due = list(self._scopes.values()) if lost or again else self._due()
        for scope in due:
            try:
                await self._keep_one(scope, epoch, thoroughly=lost or again)
            except (KubeError, StoreRefused) as error:
                # Who is in the namespace writes there, and may write what cannot be read.
                self._tell_once(scope.namespace, f"the sidecars of {scope.namespace}: {error}")

    async def _keep_one(self, scope: _Scope, epoch: int, *, thoroughly: bool) -> None:
        async with self._writing:
            if self._scopes.get(scope.namespace) is not scope:
                return
            await scope.publication.mend(epoch, thoroughly=thoroughly)
            await scope.publication.collect(epoch, now_s=self._clock.monotonic())
        await scope.planes.refresh()
        if self._leads():
            await scope.planes.forget_gone()
            await self._report(scope)
            if await scope.keys.turn(scope.planes.pods, scope.publication.signed):
                self._changed()

    async def _report(self, scope: _Scope) -> None:
        await scope.planes.report(
            scope.publication.revision,
            monotonic_s=self._clock.monotonic(),
            now=self._clock.now(),
        )

    def _due(self) -> list[_Scope]:
        scopes = list(self._scopes.values())
        if len(scopes) <= FEW:
            return scopes
        self._turn = (self._turn + 1) % TURNS
        return scopes[self._turn :: TURNS]

    async def _put_users(self) -> bool:
        """Make the users that the store has forgotten; say whether it had forgotten any."""
        if not self._logins.own or not self._scopes:
            return False
        try:
            there = await self._logins.names()
        except UsersRefused as error:
            self._tell_once("", f"the users of sidecars: {error}")
            return False
        forgotten = False
        for scope in tuple(self._scopes.values()):
            if self._logins.user_of(scope.namespace) in there and scope.put:
                continue
            forgotten = forgotten or scope.put
            try:
                await self._logins.put(scope.namespace)
                scope.put = True
            except UsersRefused as error:
                await self._refused(scope.namespace, error)
            except KubeError as error:
                self._tell_once(scope.namespace, str(error))
        return forgotten

    async def _look(self) -> None:
        self._listed = frozenset(await self._list())
        if not self._leads():
            # What another leader rotates and publishes is read anew.
            async with self._writing:
                for namespace in tuple(self._scopes):
                    self._let_go(namespace)
            return
        now = self._clock.monotonic()
        for namespace in sorted((self._listed | self._labelled()) - self._scopes.keys()):
            if self._may_have(namespace):
                await self._add(namespace)
        for namespace in [each for each, at in self._gone.items() if now - at < WATCHED_AFTER_S]:
            if namespace not in self._scopes and await self._has_pods(namespace):
                await self._add(namespace)
        for scope in tuple(self._scopes.values()):
            await self._consider(scope, now)

    async def _list(self) -> Iterable[str]:
        found: list[Listed] = []
        for namespace in self._within.watched or ("",):
            found += (await self._cluster.names(SIDECAR_SECRETS, namespace))[0]
        return [each.name.namespace for each in found if each.name.name == SIDECAR_SECRET]

    def _labelled(self) -> frozenset[str]:
        return frozenset(
            namespace
            for namespace, labels in self._behind.world.namespaces.items()
            if labels.get(INJECT_LABEL) == LABELLED
        )

    def _may_have(self, namespace: str) -> bool:
        # Anybody may call the webhook, and say any name.
        if not _NAMESPACE.fullmatch(namespace):
            return False
        watched = self._within.watched
        return namespace not in self._within.never and (not watched or namespace in watched)

    def _is_full(self) -> bool:
        return len(self._listed | self._scopes.keys()) >= self._within.scopes_max

    def _full(self) -> str:
        return (
            f"{self._within.scopes_max} namespaces have sidecars, and no more may: raise "
            "sidecar.scopesMax"
        )

    async def _add(self, namespace: str) -> None:
        most = self._within.scopes_max
        known = namespace in self._listed or namespace in self._scopes
        # A Secret that is there counts, but anybody may make some.
        if len(self._scopes.keys() - {namespace}) >= most or (not known and self._is_full()):
            self._tell_once(namespace, f"no sidecars for namespace {namespace}: {self._full()}")
            return
        try:
            async with self._making:
                keys, put = await self._ensure(namespace)
        except UsersRefused as error:
            await self._refused(namespace, error)
            return
        except (KubeError, Malformed, OSError) as error:
            self._tell_once(namespace, f"no sidecars for namespace {namespace}: {error}")
            return
        served = self._behind.gateway.compiler
        assert isinstance(served, Compiler)  # noqa: S101 - of a gateway
        scope, now = namespace_scope(namespace), self._clock.monotonic()
        self._keys[scope] = keys
        compiler = SidecarCompiler(served, namespace, keys.keyring(), gateway_url=self._behind.url)
        self._scopes[namespace] = _Scope(
            namespace,
            Publication(
                self._behind.gateway.gateway, keys.keyring, self._behind.store, sidecars=compiler
            ),
            DataPlanes(
                scope,
                self._behind.store,
                self._cluster,
                summary=Name(namespace, SUMMARY),
                namespace=namespace,
                monotonic=self._clock.monotonic,
            ),
            keys,
            made_at=now,
            used_at=now,
            looked_at=now,
            put=put,
        )
        self._gone.pop(namespace, None)
        self._told.pop(namespace, None)
        log.info("%s: sidecars of namespace %s have a scope", scope, namespace)
        self._changed()

    async def _ensure(self, namespace: str) -> tuple[ScopeKeys, bool]:
        """Have the Secret there, whole, and the user that it names; say whether that is there.

        A store that is away gets it later.
        """
        place = Place(
            namespace_scope(namespace),
            Name(namespace, SIDECAR_SECRET),
            {SIDECAR_LABEL: LABELLED},
            lambda: self._login_for_new_secret(namespace),
        )
        keys = self._make_keys(place)
        await keys.load()
        await self._logins.complete(namespace)
        try:
            if self._clock.monotonic() < self._away_until:
                return keys, False
            if self._logins.own:
                await self._logins.put(namespace)
        except UsersRefused:
            raise
        except ConnectionError as error:
            log.warning("no user for the sidecars of namespace %s yet: %s", namespace, error)
            self._away_until = self._clock.monotonic() + AWAY_FOR_S
            return keys, False
        self._known[namespace] = self._clock.monotonic()
        return keys, True

    def _login_for_new_secret(self, namespace: str) -> Mapping[str, bytes]:
        """Return what a new Secret says of the store: with a password that no user has yet."""
        self._known.pop(namespace, None)
        if namespace in self._scopes:
            self._scopes[namespace].put = False
        return self._logins.make(namespace)

    async def _consider(self, scope: _Scope, now: float) -> None:
        """Take a scope away that nobody has had use for in a while."""
        namespace = scope.namespace
        if namespace in self._labelled():
            scope.used_at = now
        elif now - scope.looked_at >= min(PODS_EVERY_S, self._within.linger_s / 4):
            scope.looked_at = now
            if await self._has_pods(namespace):
                scope.used_at = now
            elif now - scope.used_at >= self._within.linger_s:
                await self._retire(scope, now)
        if scope.used_at == now > scope.made_at + SHOWN_WITHIN_S and namespace not in self._listed:
            # Somebody deleted the Secret that pods there mount.
            await self._add(namespace)
        elif self._scopes.get(namespace) is scope:
            await self._lead_to_store(namespace)

    async def _lead_to_store(self, namespace: str) -> None:
        """Tell sidecars that run of a store that is elsewhere by now."""
        try:
            if not self._logins.is_current(namespace):
                await self._logins.complete(namespace)
        except (KubeError, OSError) as error:
            self._tell_once(namespace, f"the sidecars of {namespace}: {error}")

    async def _has_pods(self, namespace: str) -> bool:
        return await self._cluster.any_pod(namespace, f"{INJECTED_LABEL}={LABELLED}")

    async def _retire(self, scope: _Scope, now: float) -> None:
        namespace = scope.namespace
        async with self._writing:
            self._let_go(namespace)
            self._known.pop(namespace, None)
            self._gone = {
                each: at for each, at in self._gone.items() if now - at < WATCHED_AFTER_S
            } | {namespace: now}
            await self._logins.drop(namespace)
            await self._cluster.remove(CONFIG_MAPS, Name(namespace, SUMMARY))
            await self._cluster.remove(SECRETS, Name(namespace, SIDECAR_SECRET))
        log.info("%s: nobody has use for it any more", namespace_scope(namespace))

    def _let_go(self, namespace: str) -> None:
        """Forget a scope, while nothing is written there."""
        scope = namespace_scope(namespace)
        del self._scopes[namespace], self._keys[scope]
        self._behind.store.let_go(scope)

    async def _refused(self, namespace: str, error: UsersRefused) -> None:
        what = f"the store refuses a user for the sidecars of namespace {namespace}: {error}"
        if not self._tell_once(namespace, what):
            return
        name = Name(namespace, SIDECAR_SECRET)
        record = await self._cluster.get_secret(name)
        if record is not None:
            await announce(
                self._cluster,
                name,
                record,
                reason="StoreUserRefused",
                message=what,
                at=self._clock.now(),
                warning=True,
            )

    def _tell_once(self, namespace: str, what: str) -> bool:
        if self._told.get(namespace) == what:
            return False
        self._told[namespace] = what
        log.warning("%s", what)
        return True
