"""Two sets of manifests, compiled by the real compiler as one gateway would, one after the other.

The second set comes as an edit of the first: an object that would be refused keeps its last good
spec, as in a cluster.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from switchboard_cli.compiling import compiler_of_files
from switchboard_cli.findings import Finding
from switchboard_cli.folder import DEFAULT_NAMESPACE, Folder, Service
from switchboard_cli.manifests import Manifests, load_manifests
from switchboard_cli.validate import validate
from switchboard_policy import ir
from switchboard_policy.compiler.compile import Compilation
from switchboard_policy.compiler.guardrails import Known, as_known
from switchboard_policy.compiler.report import ObjectReport
from switchboard_policy.compiler.world import Name, World
from switchboard_policy.v1alpha1.modelbackend import ModelBackendSpec
from switchboard_policy.v1alpha1.routingpolicy import RoutingPolicySpec

_GATEWAY: Final = "review"


class Unreadable(Exception):
    """A set of manifests cannot be read; says where and why, a line each."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is said of the gateway; ``order`` lists namespaces, the strongest first."""

    platform_namespace: str = "platform"
    order: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Side:
    """A set as it would be in force; names are ``namespace/name``.

    ``policies`` and ``backends`` are compiled and published; ``policy_specs`` and ``backend_specs``
    are all that are there, as they were written; ``known`` is what guardrails see of backends.
    ``services`` are those of the manifests, ``namespaces`` the labels of those that hold objects.
    ``findings`` say what is wrong with objects.
    """

    policies: Mapping[str, ir.Policy]
    backends: Mapping[str, ir.Backend]
    endpoints: Mapping[str, ir.Endpoints]
    clients: Mapping[str, ir.Client]
    policy_specs: Mapping[str, RoutingPolicySpec]
    backend_specs: Mapping[str, ModelBackendSpec]
    reports: Mapping[tuple[str, Name], ObjectReport]
    known: Mapping[str, Known] = field(default_factory=dict[str, Known])
    platform_namespace: str = ""
    findings: tuple[Finding, ...] = ()
    services: Mapping[str, Service] = field(default_factory=dict[str, Service])
    namespaces: Mapping[str, Mapping[str, str]] = field(
        default_factory=dict[str, Mapping[str, str]]
    )


def read_side(paths: Sequence[str], settings: Settings) -> Side:
    """Read and compile one set; raises Unreadable."""
    return _Compiling(settings).take(_read(paths))


def read_sides(old: Sequence[str], new: Sequence[str], settings: Settings) -> tuple[Side, Side]:
    """Read and compile both sets; raises Unreadable."""
    before, after = _read(old), _read(new)
    compiling = _Compiling(settings)
    return compiling.take(before, check=False), compiling.take(after)


def _read(paths: Iterable[str]) -> Manifests:
    manifests = load_manifests(paths)
    if manifests.problems:
        told = (
            f"{f'{one.file}:{one.line}' if one.line else one.file}: {one.message}; {one.fix}"
            for one in manifests.problems
        )
        raise Unreadable("\n".join(told))
    return manifests


class _Compiling:
    """One gateway's compiler, and the folder that it sees the world through."""

    def __init__(self, settings: Settings) -> None:
        self._compiler = compiler_of_files(
            _GATEWAY, platform_namespace=settings.platform_namespace, order=settings.order
        )
        self._folder = Folder(())
        self._platform_namespace = settings.platform_namespace

    def take(self, manifests: Manifests, *, check: bool = True) -> Side:
        """Bring the world to these manifests, and compile it; ``check`` each object, too."""
        self._folder.take(manifests)
        findings = (*validate(manifests).findings, *self._folder.misread) if check else ()
        world = self._folder.inventory.world
        side = side_of(world, self._compiler.compile(world), findings)
        return replace(
            side, platform_namespace=self._platform_namespace, services=_services(manifests)
        )


def _services(manifests: Manifests) -> dict[str, Service]:
    """Return the Services by their names, but for what is none: a finding says so."""
    found: dict[str, Service] = {}
    for one in manifests.objects:
        if one.kind == "Service" and not one.group:
            with suppress(msgspec.ValidationError):
                name = f"{one.namespace or DEFAULT_NAMESPACE}/{one.name}"
                found[name] = msgspec.convert(one.data, Service)
    return found


def side_of(world: World, compilation: Compilation, findings: tuple[Finding, ...] = ()) -> Side:
    """Return a set of what was compiled, with what is wrong with its objects."""
    policies: dict[str, ir.Policy] = {}
    backends: dict[str, ir.Backend] = {}
    endpoints: dict[str, ir.Endpoints] = {}
    clients: dict[str, ir.Client] = {}
    for encoded in (*compilation.policy.values(), *compilation.endpoints.values()):
        match encoded.entry:
            case ir.Policy() as policy:
                policies[policy.name] = policy
            case ir.Backend() as backend:
                backends[backend.name] = backend
            case ir.Endpoints() as addresses:
                endpoints[addresses.backend] = addresses
            case ir.Client() as client:
                clients[client.name] = client
            case ir.Credential():
                pass
    return Side(
        policies=policies,
        backends=backends,
        endpoints=endpoints,
        clients=clients,
        policy_specs={
            str(name): one.effective for name, one in world.policies.items() if one.effective
        },
        backend_specs={
            str(name): one.effective for name, one in world.backends.items() if one.effective
        },
        reports=dict(compilation.reports),
        known={str(name): as_known(one) for name, one in world.backends.items()},
        findings=findings,
        namespaces=dict(world.namespaces),
    )
