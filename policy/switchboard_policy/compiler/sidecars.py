"""What the sidecars of a namespace hold: its own policies and backends, and the way to the gateway.

Taken from what the gateway's compiler found, so a policy says here what it says there. It is here
only while all of its backends are in the namespace; the rest is asked of the gateway, and so is
every model name that the gateway gives to a policy which is not here.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from switchboard_policy import ir, names
from switchboard_policy.codec import Encoded, encode
from switchboard_policy.compiler.assemble import Compilation
from switchboard_policy.compiler.backends import BackendUnit, compile_backend, reuse
from switchboard_policy.compiler.claims import Taken
from switchboard_policy.compiler.compile import Compiler
from switchboard_policy.compiler.policies import PolicyUnit
from switchboard_policy.compiler.world import Name, World
from switchboard_policy.reads import facts_in
from switchboard_policy.seal import Keyring

#: The namespace of the entries that stand for the gateway; none of a cluster gets sidecars if it
#: is called so.
RESERVED: Final = "switchboard"
GATEWAY: Final = Name(RESERVED, "gateway")

#: What a sidecar knows of who calls; the rest is said in the gateway's settings and key Secrets.
_KNOWN_OF_CALLER: Final = frozenset({"client.kind", "client.name", "client.namespace"})
_NEVER: Final = 1_000_000
#: The gateway has tried what there was when it fails, and each of its models fails by itself: it
#: is not left out, and waited for as long as it may take.
_TIMEOUTS: Final = ir.Timeouts(
    connect_ms=2_000, first_token_ms=300_000, idle_ms=300_000, total_ms=600_000
)
_HEALTH: Final = ir.Health(
    breaker=ir.Breaker(consecutive_failures=_NEVER, failure_rate_permille=_NEVER)
)


@dataclass(slots=True)
class _Memory:
    policies_at: int = -1
    served: Mapping[str, Encoded] = field(default_factory=dict[str, Encoded])
    used: frozenset[Name] = frozenset()
    backends: dict[Name, BackendUnit] = field(default_factory=dict[Name, BackendUnit])
    compilation: Compilation = field(default_factory=lambda: Compilation({}, {}, {}))


class SidecarCompiler:
    """The compiler of one namespace's sidecars, after each pass of the gateway's compiler.

    ``gateway_url`` is the base to which ``/chat/completions`` is appended.
    """

    def __init__(
        self, gateway: Compiler, namespace: str, keyring: Keyring, *, gateway_url: str
    ) -> None:
        self.scope = names.namespace_scope(namespace)
        self._gateway = gateway
        self._namespace = namespace
        self._keyring = keyring
        self._way = encode(_gateway_backend(gateway_url))
        self._memory = _Memory()

    def rekey(self, keyring: Keyring) -> None:
        """Seal with these keys from now on."""
        self._keyring = keyring

    def compile(self, world: World) -> Compilation:
        """Compile the world as the gateway's compiler saw it last.

        Where nothing changed the last compilation is returned.
        """
        last, self._memory = self._memory, _Memory()
        served, used = last.served, last.used
        if last.policies_at != self._gateway.policies_at:
            entries, used = self._serve()
            served = {key: reuse(served.get(key), entry) for key, entry in entries.items()}
        policy = {**served, names.backend_key(*GATEWAY): self._way}
        endpoints: dict[str, Encoded] = {}
        backends: dict[Name, BackendUnit] = {}
        for name in sorted(used):
            backend, old = world.backends.get(name), last.backends.get(name)
            if backend is None:
                # It went since the gateway's pass; the next one has its policies without it.
                continue
            if old is None or not old.stands(backend, world, self._keyring):
                old = compile_backend(backend, world, self._keyring, old)
            backends[name] = old
            policy |= old.policy
            endpoints |= old.endpoints
        compilation = last.compilation
        if not (_same(policy, compilation.policy) and _same(endpoints, compilation.endpoints)):
            compilation = Compilation(policy, endpoints, {})
        self._memory = _Memory(self._gateway.policies_at, served, used, backends, compilation)
        return compilation

    def _serve(self) -> tuple[dict[str, ir.Entry], frozenset[Name]]:
        """Return the policies by key, and the backends that they use."""
        policies, claims = self._gateway.policies_of(self._namespace), self._gateway.claims
        local = {name: unit for name, unit in policies.items() if self._is_local(unit)}
        served: dict[str, ir.Entry] = {}
        used: set[Name] = set()
        here: set[Name] = set()
        for name, unit in local.items():
            models = claims.left_to(name, local.keys())
            if models and unit.encoded is not None:
                served[unit.key] = _claiming(unit.encoded.entry, models)
                used |= unit.used
                here.add(name)
        for entry in _stand_ins(claims.taken_from(here, local.keys())):
            served[names.policy_key(*_name_of(entry))] = entry
        rank = self._gateway.weakest_rank
        served[names.policy_key(*GATEWAY)] = _stand_in(GATEWAY, ("*",), rank, 0)
        return served, frozenset(used)

    def _is_local(self, unit: PolicyUnit) -> bool:
        """Say whether a sidecar has all that a policy needs."""
        entry = unit.encoded.entry if unit.encoded is not None else None
        if not isinstance(entry, ir.Policy):
            return False
        if any(name.namespace != self._namespace for name in unit.mentioned):
            return False
        # Routers of a policy's own are files of the gateway's pods.
        if any(rule.select is not None and rule.select.router for rule in entry.rules):
            return False
        conditions = [rule.when for rule in entry.rules] + [one.when for one in entry.guardrails]
        read = {fact for when in conditions for fact in facts_in(when)}
        return all(fact in _KNOWN_OF_CALLER for fact in read if fact.startswith("client."))


def _claiming(entry: ir.Entry, models: tuple[str, ...]) -> ir.Entry:
    if not isinstance(entry, ir.Policy) or entry.models == models:
        return entry
    return msgspec.structs.replace(entry, models=models)


def _stand_ins(taken: Iterable[Taken]) -> Iterator[ir.Policy]:
    """Yield policies that claim in the gateway's order what is not here, and ask the gateway."""
    patterns: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
    for each in taken:
        patterns[each.namespace_rank, each.priority].add(each.pattern)
    for (rank, priority), models in patterns.items():
        name = Name(RESERVED, f"taken-{rank}-{priority}")
        yield _stand_in(name, tuple(sorted(models)), rank, priority)


def _stand_in(name: Name, models: tuple[str, ...], rank: int, priority: int) -> ir.Policy:
    tier = ir.Tier(name="gateway", members=(ir.Member(backend=str(GATEWAY)),))
    return ir.Policy(
        name=str(name),
        models=models,
        rules=(ir.Rule(name="gateway", tiers=(tier,)),),
        namespace_rank=rank,
        priority=priority,
        deadline_ms=_TIMEOUTS.total_ms,
    )


def _name_of(entry: ir.Policy) -> Name:
    return Name(*entry.name.split("/", 1))


def _gateway_backend(url: str) -> ir.Backend:
    return ir.Backend(
        name=str(GATEWAY),
        uid=f"{RESERVED}-gateway",
        model="",
        provider="switchboard",
        external=True,
        url=url.rstrip("/"),
        timeouts=_TIMEOUTS,
        health=_HEALTH,
    )


def _same(one: Mapping[str, Encoded], other: Mapping[str, Encoded]) -> bool:
    return one.keys() == other.keys() and all(one[key] is other[key] for key in one)
