"""The compiler: a world in; what a gateway publishes and the words of every status out.

It is total (what is wrong with one object is told of that object and changes no other), and it
remembers: a pass looks at every object, but compiles only those whose own inputs are new. What
did not change comes out as the same ``Encoded`` object, so that a publisher compares identities.
"""

from dataclasses import dataclass, field

from switchboard_policy.compiler.assemble import Assembly, Compilation
from switchboard_policy.compiler.backends import BackendUnit, compile_backend
from switchboard_policy.compiler.claims import Claim, Claims
from switchboard_policy.compiler.guardrails import Owned, Requirements
from switchboard_policy.compiler.policies import (
    PolicyUnit,
    Surroundings,
    compile_policy,
    guards_only,
)
from switchboard_policy.compiler.world import Gateway, Name, World
from switchboard_policy.seal import Keyring

__all__ = ["Compilation", "Compiler"]


@dataclass(slots=True)
class _Memory:
    """What is remembered from pass to pass."""

    backends: dict[Name, BackendUnit] = field(default_factory=dict)
    policies: dict[Name, PolicyUnit] = field(default_factory=dict)
    platform: tuple[Owned, ...] = ()
    claims: Claims = field(default_factory=Claims)
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

    def rekey(self, keyring: Keyring) -> None:
        """Seal with these keys from now on; the next ``compile`` seals all credentials anew."""
        self._keyring = keyring

    def compile(self, world: World) -> Compilation:
        """Compile the world; objects that are the same as in the last pass cost next to nothing.

        The maps of the world may have changed since, its objects only have been replaced. Where
        nothing changed the last compilation is returned.
        """
        # A pass that is interrupted leaves nothing half done: the next one starts from nothing.
        memory, self._memory = self._memory, _Memory()
        edited, moved = self._compile_backends(world, memory)
        recompiled = self._compile_policies(world, memory, moved)
        if edited or recompiled:
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
        units = memory.policies
        platform = _platform_guardrails(world, self._gateway)
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
            claims[name] = unit.claim
        for name, lost in memory.claims.update(claims).items():
            if name in units:
                memory.assembly.tell(units[name], lost)
        return bool(claims)


def _platform_guardrails(world: World, gateway: Gateway) -> tuple[Owned, ...]:
    found: list[Owned] = []
    for name, policy in world.policies.items():
        if name.namespace == gateway.platform_namespace:
            spec = policy.effective
            if spec is not None and guards_only(spec):
                found.append((name, tuple(spec.guardrails)))
    return tuple(sorted(found, key=lambda owned: owned[0]))
