"""One RoutingPolicy: from the object and the backends that it names, to its entry and report."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from switchboard_policy import ir, names
from switchboard_policy.codec import Encoded
from switchboard_policy.compiler.analyse import analyse, trusts_caller
from switchboard_policy.compiler.backends import reuse
from switchboard_policy.compiler.claims import Claim
from switchboard_policy.compiler.effects import without_effect
from switchboard_policy.compiler.guardrails import Known, Owned, Requirements
from switchboard_policy.compiler.lower import lower_policy, lower_rules
from switchboard_policy.compiler.report import (
    ROUTING_POLICY,
    Finding,
    ObjectReport,
    bounded,
    rejections,
)
from switchboard_policy.compiler.resolve import mentions, resolve_references
from switchboard_policy.compiler.selectors import Labels, admits
from switchboard_policy.compiler.world import Gateway, Name, PolicyObject, World
from switchboard_policy.v1alpha1.conditions import Reason
from switchboard_policy.v1alpha1.routingpolicy import RoutingPolicySpec


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a policy is compiled against: the same for all policies of a pass."""

    gateway: Gateway
    requirements: Requirements
    platform: tuple[Owned, ...]
    backends: Mapping[Name, Known]


@dataclass(frozen=True, slots=True)
class PolicyUnit:
    """A compiled policy.

    ``labels`` are its namespace's. ``mentioned`` are the backends on which it depends, there or
    not; ``used`` those among them that are in its tiers. ``encoded`` is None if it is rejected,
    and for a ``platform`` guardrail, which the other policies carry.
    """

    policy: PolicyObject
    labels: Labels | None
    key: str
    report_key: tuple[str, Name]
    report: ObjectReport
    mentioned: frozenset[Name] = frozenset()
    used: frozenset[Name] = frozenset()
    rules: tuple[ir.Rule, ...] = ()
    encoded: Encoded | None = None
    claim: Claim | None = None
    platform: bool = False


def guards_only(spec: RoutingPolicySpec) -> bool:
    """Say whether a policy is a platform guardrail: it routes nothing."""
    return not spec.models and not spec.rules


def platform_guardrails(world: World, gateway: Gateway) -> tuple[Owned, ...]:
    """Return the guardrails of the gateway's platform, in the order of their owners' names."""
    found: list[Owned] = []
    for name, policy in world.policies.items():
        if name.namespace == gateway.platform_namespace:
            spec = policy.effective
            if spec is not None and guards_only(spec):
                found.append((name, tuple(spec.guardrails)))
    return tuple(sorted(found, key=lambda owned: owned[0]))


def claim_of(policy: PolicyObject, labels: Labels | None, gateway: Gateway) -> Claim | None:
    """Return what a policy claims in a gateway; None if it is not in force there."""
    spec = policy.effective
    if spec is None or guards_only(spec) or not admits(gateway, policy.name.namespace, labels):
        return None
    rank = _rank(policy.name.namespace, gateway)
    return Claim(policy.name, rank, spec.priority, tuple(spec.models or ()))


def compile_policy(
    policy: PolicyObject,
    labels: Labels | None,
    surroundings: Surroundings,
    *,
    last: PolicyUnit | None,
) -> PolicyUnit:
    """Compile a policy; its entry is the ``last`` one, by identity, if that says the same."""
    spec = policy.effective
    report = ObjectReport(
        kind=ROUTING_POLICY,
        name=policy.name,
        generation=policy.generation,
        rejected=rejections(policy.problems),
    )
    key = names.policy_key(*policy.name)
    unit = PolicyUnit(policy, labels, key, (ROUTING_POLICY, policy.name), report)
    refusal = _refusal(policy.name, spec, surroundings.gateway, labels)
    if refusal is not None:
        return replace(unit, report=replace(report, rejected=(refusal, *report.rejected)))
    if spec is None:
        return unit
    report = replace(report, quarantined=policy.spec is None)
    if guards_only(spec):
        own = surroundings.requirements.lower((policy.name, tuple(spec.guardrails)), {})
        report = replace(report, warnings=bounded(trusts_caller(own)))
        return replace(unit, platform=True, report=report)
    old = last if last is not None and last.encoded is not None else None
    if old is not None and old.policy is not policy:
        old = None
    mentioned = old.mentioned if old is not None else mentions(policy.name, spec)
    available, unresolved = resolve_references(policy, mentioned, surroundings.backends, labels)
    used = frozenset(available)
    if old is not None and old.used == used:
        rules = old.rules
    else:
        rules = lower_rules(policy.name, spec, available)
    entry = lower_policy(
        policy.name,
        spec,
        rules=rules,
        guardrails=_guardrails(policy.name, spec, surroundings, available),
        namespace_rank=_rank(policy.name.namespace, surroundings.gateway),
        available=available,
    )
    offers = {str(name): known.apis for name, known in available.items()}
    traits = {str(name): known.traits for name, known in available.items()}
    return replace(
        unit,
        report=replace(
            report,
            unresolved=unresolved,
            warnings=bounded([*analyse(entry, offers), *without_effect(entry, traits)]),
            keys=(key,),
        ),
        mentioned=mentioned,
        used=used,
        rules=rules,
        encoded=reuse(last.encoded if last is not None else None, entry),
        claim=claim_of(policy, labels, surroundings.gateway),
    )


def _refusal(
    policy: Name, spec: RoutingPolicySpec | None, gateway: Gateway, labels: Labels | None
) -> Finding | None:
    """Say why the gateway does not take the policy; None if it does."""
    if spec is not None and guards_only(spec):
        if policy.namespace == gateway.platform_namespace:
            return None
        where = "which has no platform namespace"
        if gateway.platform_namespace:
            where = f"whose platform namespace is {gateway.platform_namespace}"
        return Finding(
            Reason.NOT_PLATFORM_NAMESPACE,
            "a policy without models and rules adds its guardrails to every policy of gateway "
            f"{gateway.name}, {where}: move it there, or give it models and rules",
        )
    if admits(gateway, policy.namespace, labels):
        return None
    whom = {
        "Same": f"policies of namespace {gateway.namespace} only",
        "Selector": "policies of namespaces with the labels "
        + ", ".join(f"{key}={value}" for key, value in sorted(gateway.selector.items())),
        "All": "all policies",
    }[gateway.admit]
    return Finding(
        Reason.NAMESPACE_NOT_ADMITTED,
        f"gateway {gateway.name} serves {whom}: have its administrator admit namespace "
        f"{policy.namespace}, or move the policy",
    )


def _guardrails(
    policy: Name,
    spec: RoutingPolicySpec,
    surroundings: Surroundings,
    available: Mapping[Name, Known],
) -> list[ir.Guardrail]:
    owners = (*surroundings.platform, (policy, tuple(spec.guardrails)))
    requirements = surroundings.requirements
    return [each for owned in owners for each in requirements.lower(owned, available)]


def _rank(namespace: str, gateway: Gateway) -> int:
    """Return the place of a namespace in the administrator's order; those not named are last."""
    order = gateway.order
    return order.index(namespace) if namespace in order else len(order)
