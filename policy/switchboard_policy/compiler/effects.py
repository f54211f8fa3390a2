"""What a tier says that can do nothing with the backends that it has: no object alone shows it.

As ``analyse``, all of it is advice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from switchboard_policy import ir
from switchboard_policy.compiler.guardrails import always_forbidden
from switchboard_policy.compiler.report import Finding, listed
from switchboard_policy.compiler.traits import Traits
from switchboard_policy.v1alpha1.conditions import Reason


@dataclass(frozen=True, slots=True)
class _Place:
    """A tier of a rule, with those of its backends that may serve, by name."""

    rule: ir.Rule
    tier: ir.Tier
    backends: Mapping[str, Traits]

    def finding(self, what: str, why: str, fix: str) -> Finding:
        """Say what has no effect here, why, and what mends it."""
        return Finding(
            Reason.NO_EFFECT,
            f'in tier "{self.tier.name}" of rule "{self.rule.name}", {what} has no effect: '
            f"{why} ({listed(sorted(self.backends))}); {fix}",
        )


def without_effect(policy: ir.Policy, traits: Mapping[str, Traits]) -> list[Finding]:
    """Return what is said of tiers and their backends, and does nothing.

    ``traits`` are those of the backends that the policy may use, by name.
    """
    found: list[Finding] = []
    for place in _places(policy, traits):
        found += _spills(place)
        found += _balances(place)
        found += _wakes(place)
        found += _outlasting(place, policy.deadline_ms)
    found += _never_asked(policy)
    return found


def _never_asked(policy: ir.Policy) -> Iterator[Finding]:
    """Find the models that are asked about requests and answers, and may never be."""
    forbidden = always_forbidden(policy.guardrails)
    for rule in policy.rules:
        for what, backend, then in _asked_by(rule):
            if backend in forbidden:
                yield Finding(
                    Reason.NO_EFFECT,
                    f'in rule "{rule.name}", {what} asks {backend}, which guardrails without '
                    f'"when" forbid: {then}; name another backend, or remove it',
                )


def _asked_by(rule: ir.Rule) -> Iterator[tuple[str, str, str]]:
    if rule.select is not None and rule.select.classifier is not None:
        yield "select.classifier", rule.select.classifier.backend, "thresholds decide"
    if rule.cascade is not None:
        never = "no answer of a tier but the last is ever accepted"
        yield "cascade.accept.agreement", rule.cascade.agreement or "", never
        if rule.cascade.judge is not None:
            yield "cascade.accept.judge", rule.cascade.judge.asked.backend, never
    if rule.ensemble is not None and rule.ensemble.judge is not None:
        yield "ensemble.judge", rule.ensemble.judge.backend, "the most common answer is taken"
    if rule.mirror is not None:
        yield "mirror", rule.mirror.backend, "it gets no request"


def _places(policy: ir.Policy, traits: Mapping[str, Traits]) -> Iterator[_Place]:
    forbidden = always_forbidden(policy.guardrails)
    for rule in policy.rules:
        for tier in rule.tiers:
            named = {member.backend for member in tier.members} - forbidden
            if named:
                yield _Place(rule, tier, {name: traits[name] for name in named})


def _spills(place: _Place) -> Iterator[Finding]:
    said, every = place.tier.spill, place.backends.values()
    if said is None:
        return
    if said.in_flight_permille is not None and not any(one.limited for one in every):
        yield place.finding(
            "spill.inFlight",
            "none of its backends has a capacity.maxInFlight",
            "set it, or remove spill.inFlight",
        )
    if said.queue_wait_ms is not None and not any(one.queues or one.telemetry for one in every):
        yield place.finding(
            "spill.queueWait",
            "none of its backends has a capacity.queue, or telemetry that tells of its engine's",
            "set one of them, or remove spill.queueWait",
        )
    if said.ttft_ms is not None and not any(one.streams for one in every):
        yield place.finding(
            "spill.ttft",
            "none of its backends offers an API that streams (capabilities.apis)",
            "remove spill.ttft",
        )


def _balances(place: _Place) -> Iterator[Finding]:
    said, every = place.tier.balance, place.backends.values()
    counted: dict[str, str] = {one.by: f"the scorer by: {one.by}" for one in said.scorers}
    counted.setdefault(said.by, f"balance.by: {said.by}")
    if "Cost" in counted and not any(one.priced for one in every):
        yield place.finding(
            counted["Cost"],
            "none of its backends has a pricing",
            "set it, or balance by something else",
        )
    if "Locality" in counted and not any(one.placed for one in every):
        yield place.finding(
            counted["Locality"],
            "its backends are external, and none has a locality.zone or locality.region",
            "set one of them, or balance by something else",
        )


def _wakes(place: _Place) -> Iterator[Finding]:
    sleepers = sorted(name for name, one in place.backends.items() if one.hold_ms)
    awake = sorted(name for name, one in place.backends.items() if one.external)
    if sleepers and awake:
        yield place.finding(
            f"the wake of {listed(sleepers)}",
            f"{listed(awake)}, which is external, is never without an endpoint, and requests wait "
            "only where no backend of the tier has one",
            "move it to a tier of its own",
        )


def _outlasting(place: _Place, deadline_ms: int) -> Iterator[Finding]:
    """Find the waits that the deadline ends, and with them the request: no next tier gets it."""
    waits = {f"wake.hold of {name}": one.hold_ms for name, one in sorted(place.backends.items())}
    if place.tier.spill is not None:
        waits["spill.queueWait"] = place.tier.spill.queue_wait_ms or 0
    for what, wait_ms in waits.items():
        if wait_ms >= deadline_ms:
            yield Finding(
                Reason.NO_EFFECT,
                f'in tier "{place.tier.name}" of rule "{place.rule.name}", {what} is '
                f"{wait_ms / 1000:g} s, and resilience.deadline ends the request with 504 after "
                f"{deadline_ms / 1000:g} s: no other tier gets one that waits so long; make the "
                "deadline longer, or the wait shorter",
            )
