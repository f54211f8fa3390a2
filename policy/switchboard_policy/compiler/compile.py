"""The compiler: a world in; what a gateway publishes and the words of every status out.

It is total (what is wrong with one object is told of that object and changes no other), and it
remembers: a pass looks at every object, but compiles only those whose own inputs are new. What
did not change comes out as the same ``Encoded`` object, so that a publisher compares identities.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from switchboard_policy.compiler.assemble import Assembly, Compilation
from switchboard_policy.compiler.backends import BackendUnit, compile_backend
from switchboard_policy.compiler.claims import Claim, Claims
from switchboard_policy.compiler.clients import Clients
from switchboard_policy.compiler.guardrails import Owned, Requirements
from switchboard_policy.compiler.policies import (
    PolicyUnit,
    Surroundings,
    compile_policy,
    platform_guardrails,
)
from switchboard_policy.compiler.selectors import Labels
from switchboard_policy.compiler.world import Gateway, Name, PolicyObject, World
from switchboard_policy.seal import Keyring

__all__ = ["Compilation", "Compiler"]


@dataclass(slots=True)
class _Memory:
    """What is remembered from pass to pass."""

    backends: dict[Name, BackendUnit] = field(default_factory=dict)
    policies: dict[Name, PolicyUnit] = field(default_factory=dict)
    policies_by_namespace: defaultdict[str, dict[Name, PolicyUnit]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    platform: tuple[Owned, ...] = ()
    world_policies: Mapping[Name, PolicyObject] = field(default_factory=dict[Name, PolicyObject])
    world_namespaces: Mapping[str, Labels] = field(default_factory=dict[str, Labels])
    claims: Claims = field(default_factory=Claims)
    clients: Clients = field(default_factory=Clients)
    assembly: Assembly = field(default_factory=Assembly)
    compilation: Compilation = field(default_factory=lambda: Compilation({}, {}, {}))


class Compiler:
    """The compiler of one gateway: pure, but for what it remembers to be quick.

    For other settings make a new one.
    """

    def __init__(self, gateway: Gateway, keyring: Keyring) -> None:
        self._gateway = gateway
        self._keyring = keyring
        self._requirements = Requirements()
        self._memory = _Memory()
        self._policies_at = 0

    def rekey(self, keyring: Keyring) -> None:
        """Seal with these keys from now on; the next ``compile`` seals and hashes all anew."""
        self._keyring = keyring

    @property
    def claims(self) -> Claims:
        """Who answers for which model names, as of the last pass."""
        return self._memory.claims

    @property
    def policies_at(self) -> int:
        """The number of the pass that changed any policy last."""
        return self._policies_at

    @property
    def weakest_rank(self) -> int:
        """A place after all namespaces in the administrator's order."""
        return len(self._gateway.order) + 1

    def policies_of(self, namespace: str) -> Mapping[Name, PolicyUnit]:
        """Return the policies of a namespace as of the last pass."""
        return self._memory.policies_by_namespace.get(namespace, {})

    def compile(self, world: World) -> Compilation:
        """Compile the world; objects that are the same as in the last pass cost next to nothing.

        The maps of the world may have changed since, its objects only have been replaced. Where
        nothing changed the last compilation is returned.
        """
        # A pass that is interrupted leaves nothing half done: the next one starts from nothing.
        memory, self._memory = self._memory, _Memory()
        edited, moved = self._compile_backends(world, memory)
        recompiled = self._compile_policies(world, memory, moved)
        self._policies_at += recompiled
        if admitted := memory.clients.update(world, self._gateway, self._keyring):
            memory.assembly.place_clients(memory.clients)
        if edited or recompiled or admitted:
            memory.compilation = memory.assembly.compilation()
        self._memory = memory
        return memory.compilation

    def _compile_backends(self, world: World, memory: _Memory) -> tuple[bool, set[Name]]:
        """Bring the backends up to date.

        Returns whether any changed, and the names of those that changed for policies: most
        changes are of endpoints, which policies do not see.
        """
        units = memory.backends
        gone = [name for name in units if name not in world.backends]
        edited, moved = bool(gone), set(gone)
        for name in gone:
            memory.assembly.place_backend(units.pop(name), None)
        for name, backend in world.backends.items():
            old = units.get(name)
            if old is not None and old.stands(backend, world, self._keyring):
                continue
            unit = units[name] = compile_backend(backend, world, self._keyring, old)
            memory.assembly.place_backend(old, unit)
            edited = True
            if old is None or old.known is not unit.known:
                moved.add(name)
        return edited, moved

    def _compile_policies(self, world: World, memory: _Memory, moved: set[Name]) -> bool:
        """Bring the policies up to date; returns whether any changed."""
        # Most passes follow a change of endpoints. Maps of the same objects are compared fast.
        same = world.policies == memory.world_policies
        if same and world.namespaces == memory.world_namespaces and not moved:
            return False
        memory.world_policies = dict(world.policies)
        memory.world_namespaces = dict(world.namespaces)
        units = memory.policies
        platform = platform_guardrails(world, self._gateway)
        stale = platform != memory.platform
        memory.platform = platform
        surroundings = Surroundings(
            gateway=self._gateway,
            requirements=self._requirements,
            platform=platform,
            backends={name: unit.known for name, unit in memory.backends.items()},
        )
        claims: dict[Name, Claim | None] = {}
        for name in [name for name in units if name not in world.policies]:
            memory.assembly.place_policy(units.pop(name), None, memory.backends)
            del memory.policies_by_namespace[name.namespace][name]
            claims[name] = None
        for name, policy in world.policies.items():
            labels = world.namespaces.get(name.namespace)
            old = units.get(name)
            if (
                old is not None
                and not stale
                and old.policy is policy
                and old.labels == labels
                and moved.isdisjoint(old.mentioned)
            ):
                continue
            unit = units[name] = compile_policy(policy, labels, surroundings, last=old)
            memory.assembly.place_policy(old, unit, memory.backends)
            memory.policies_by_namespace[name.namespace][name] = unit
            claims[name] = unit.claim
        for name, lost in memory.claims.update(claims).items():
            if name in units:
                memory.assembly.tell(units[name], lost)
        return bool(claims)
