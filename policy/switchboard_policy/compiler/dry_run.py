"""What the compiler says of one object in a world, without a compilation of all the others.

The report is that of a compilation of the whole (a property of the tests). Beside it stands what
an edit of a backend would take away from policies: a compilation tells that of the policies.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from switchboard_policy.compiler.backends import assess_backend
from switchboard_policy.compiler.claims import Claim, Claims, overlap
from switchboard_policy.compiler.guardrails import Known, Requirements, as_known
from switchboard_policy.compiler.policies import (
    Surroundings,
    claim_of,
    compile_policy,
    platform_guardrails,
)
from switchboard_policy.compiler.report import ObjectReport, bounded
from switchboard_policy.compiler.resolve import mentions
from switchboard_policy.compiler.selectors import consents
from switchboard_policy.compiler.world import BackendObject, Gateway, Name, PolicyObject, World

T = TypeVar("T")


class DryRun:
    """Dry runs against worlds that are much the same: pure, but for what is remembered.

    It belongs to one thread.
    """

    def __init__(self, gateways: Sequence[Gateway]) -> None:
        self._gateways = tuple(gateways)
        self._requirements = Requirements()
        self._known: dict[Name, tuple[BackendObject, Known]] = {}
        self._mentioned: dict[Name, tuple[PolicyObject, frozenset[Name]]] = {}

    def policy(self, name: Name, world: World) -> Mapping[str, ObjectReport]:
        """Return what each gateway, by name, says of a policy of the world.

        ``keys`` of a platform guardrail, the policies that carry it, are left out.
        """
        policy = world.policies[name]
        labels = world.namespaces.get(name.namespace)
        spec = policy.effective
        named = mentions(name, spec) if spec is not None else frozenset[Name]()
        backends = {
            each: self._as_known(world.backends[each]) for each in named if each in world.backends
        }
        _forget(self._known, world.backends)
        reports: dict[str, ObjectReport] = {}
        for gateway in self._gateways:
            surroundings = Surroundings(
                gateway=gateway,
                requirements=self._requirements,
                platform=platform_guardrails(world, gateway),
                backends=backends,
            )
            unit = compile_policy(policy, labels, surroundings, last=None)
            report = unit.report
            if unit.claim is not None:
                lost = Claims.lost(unit.claim, _rivals(unit.claim, world, gateway))
                warnings = bounded([*lost.findings, *report.warnings])
                report = replace(report, warnings=warnings, nameless=lost.nameless)
            reports[gateway.name] = report
        return reports

    def backend(self, name: Name, world: World) -> ObjectReport:
        """Return what every gateway says of a backend of the world, as if no policy used it."""
        return assess_backend(world.backends[name], world)

    def referring(self, backend: Name, world: World) -> list[Name]:
        """Return the policies in force that name a backend, there or not."""
        found = [
            name for name, policy in world.policies.items() if backend in self._mentions(policy)
        ]
        _forget(self._mentioned, world.policies)
        return sorted(found)

    def deprived(self, before: BackendObject, name: Name, world: World) -> list[Name]:
        """Return the policies that a backend admitted ``before`` and in this world does not."""
        was, now = before.effective, world.backends[name].effective
        if was is None or now is None:
            return []
        old, new = was.allowed_namespaces, now.allowed_namespaces
        if old == new or new.from_ == "All":
            return []
        return [
            policy
            for policy in self.referring(name, world)
            if policy.namespace != name.namespace
            and consents(old, policy.namespace, labels := world.namespaces.get(policy.namespace))
            and not consents(new, policy.namespace, labels)
        ]

    def _as_known(self, backend: BackendObject) -> Known:
        """Return what policies see of it: the same object while the backend is the same."""
        remembered = self._known.get(backend.name)
        if remembered is None or remembered[0] is not backend:
            remembered = self._known[backend.name] = backend, as_known(backend)
        return remembered[1]

    def _mentions(self, policy: PolicyObject) -> frozenset[Name]:
        remembered = self._mentioned.get(policy.name)
        if remembered is None or remembered[0] is not policy:
            spec = policy.effective
            named = mentions(policy.name, spec) if spec is not None else frozenset[Name]()
            remembered = self._mentioned[policy.name] = policy, named
        return remembered[1]


def _rivals(claim: Claim, world: World, gateway: Gateway) -> Iterator[Claim]:
    """Yield the claims that may take a name from this one."""
    overlaps = overlap(claim.models)
    for name, policy in world.policies.items():
        spec = policy.effective
        if spec is None or name == claim.policy or not any(map(overlaps, spec.models or ())):
            continue
        other = claim_of(policy, world.namespaces.get(name.namespace), gateway)
        if other is not None:
            yield other


def _forget(remembered: dict[Name, T], there: Mapping[Name, object]) -> None:
    """Drop what is gone, once there is more of it than of what is there."""
    if len(remembered) > 2 * len(there):
        for name in remembered.keys() - there.keys():
            del remembered[name]
