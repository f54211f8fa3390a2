"""Why every candidate fell: the slow path that turns an empty choice into sentences."""

from collections.abc import Sequence
from typing import Final

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Backend, Guardrail
from switchboard_dataplane.decision.verdict import Fallen, Plan, Rejection
from switchboard_dataplane.signals.endpoints import SignalTable

_BUSY: Final = "all endpoints are at maxInFlight"


def reject(
    plan: Plan, guardrails: Sequence[Guardrail], signals: SignalTable, *, now: float
) -> Rejection:
    """Build the rejection of a plan that has no candidate."""
    fallen = tuple(
        Fallen(
            tier=tier.name,
            backend=name,
            reason=_why(plan, number, guardrails, signals, now),
        )
        for tier in plan.rule.tiers
        for number, name in enumerate(plan.policy.backends)
        if tier.mask >> number & 1
    )
    busy = any(one.reason.startswith(_BUSY) for one in fallen)
    told = "; ".join(f"{one.tier}/{one.backend}: {one.reason}" for one in fallen)
    message = f"rule {plan.rule.name} of policy {plan.policy.name} has no backend that may serve"
    return Rejection(
        reason="overloaded" if busy else "no_candidate",
        message=f"{message}: {told or 'none of its tiers names one'}",
        policy=plan.policy.name,
        rule=plan.rule.name,
        fallen=fallen,
    )


def _why(
    plan: Plan, number: int, guardrails: Sequence[Guardrail], signals: SignalTable, now: float
) -> str:
    for guardrail in guardrails:
        if guardrail.forbids >> number & 1:
            return f"forbidden by guardrail {guardrail.name} of {guardrail.policy}"
    backend = plan.snapshot.backends.get(plan.policy.backends[number])
    if backend is None:
        return "not published to this data plane"
    lacking = backend.unusable or _lacking(backend, plan.view)
    if lacking:
        return lacking
    if not plan.eligible >> number & 1:
        if backend.terminating:
            return "has no endpoint but those that terminate"
        return "is left alone for a while, as it asked for"
    return _why_no_endpoint(backend, signals, now)


def _why_no_endpoint(backend: Backend, signals: SignalTable, now: float) -> str:
    if not backend.endpoints:
        return "has no endpoint that is ready"
    standing = [one for one in backend.endpoints if one.id not in signals.ejected]
    if not standing:
        return _all_ejected(backend, signals, now)
    if backend.spec.max_in_flight is None:
        return "became usable while the request was being rejected"
    busy = sum(signals[endpoint.id].in_flight for endpoint in standing)
    queue = signals.queues.get(backend.name)
    waiting = f", {len(queue.waiting)} waiting" if queue is not None else ""
    return f"{_BUSY} ({busy} in flight{waiting})"


def _all_ejected(backend: Backend, signals: SignalTable, now: float) -> str:
    told: list[str] = []
    for endpoint in backend.endpoints:
        breaker = signals[endpoint.id].breaker
        for_s = max(0.0, now - signals.ejected.get(endpoint.id, now))
        by = "probe" if breaker.state == "closed" else "breaker"
        told.append(f"ejected by its {by} for {for_s:.0f} s")
    more = len(told) - 1
    return told[0] + (f", and {more} more of its endpoints are ejected" if more else "")


def _lacking(backend: Backend, view: RequestView) -> str:
    can = backend.spec.capabilities
    if can.apis is not None and view.api not in can.apis:
        return f"does not offer the API {view.api}"
    if can.modalities is not None:
        missing = sorted(view.modalities - set(can.modalities))
        if missing:
            return f"does not take {', '.join(missing)}"
    if view.tools and can.tools is False:
        return "does not take tools"
    if view.json_schema and can.json_schema is False:
        return "does not take a JSON schema"
    wanted = view.tokens + view.max_tokens
    window = can.context_window_tokens
    if window is not None and window < wanted:
        return f"its context window of {window} tokens is smaller than the {wanted} asked for"
    return ""
