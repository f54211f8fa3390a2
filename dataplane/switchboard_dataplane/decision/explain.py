"""Why every candidate fell: the slow path that turns an empty choice into sentences."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Backend, Guardrail
from switchboard_dataplane.decision.verdict import Fallen, Plan, Rejection
from switchboard_dataplane.signals.endpoints import SignalTable

#: The filters that drop a backend, in the order in which they are told.
GUARDRAIL: Final = "guardrail"
UNPUBLISHED: Final = "unpublished"
UNUSABLE: Final = "unusable"
CAPABILITY: Final = "capability"
TERMINATING: Final = "terminating"
RESTING: Final = "resting"
NO_ENDPOINT: Final = "no_endpoint"
EJECTED: Final = "ejected"
AT_LIMIT: Final = "at_limit"
#: None of them: it may serve, or may again by now.
NOTHING: Final = ""


class Why(NamedTuple):
    """The filter that drops a backend, and in words how."""

    filter: str
    words: str


def reject(
    plan: Plan, guardrails: Sequence[Guardrail], signals: SignalTable, *, now: float
) -> Rejection:
    """Build the rejection of a plan that has no candidate."""
    fallen: list[Fallen] = []
    busy = False
    for tier in plan.rule.tiers:
        for number, name in enumerate(plan.policy.backends):
            if tier.mask >> number & 1:
                why = why_fallen(plan, number, guardrails, signals, now=now)
                busy = busy or why.filter == AT_LIMIT
                fallen.append(Fallen(tier=tier.name, backend=name, reason=why.words))
    told = "; ".join(f"{one.tier}/{one.backend}: {one.reason}" for one in fallen)
    message = f"rule {plan.rule.name} of policy {plan.policy.name} has no backend that may serve"
    return Rejection(
        reason="overloaded" if busy else "no_candidate",
        message=f"{message}: {told or 'none of its tiers names one'}",
        policy=plan.policy.name,
        rule=plan.rule.name,
        fallen=tuple(fallen),
    )


def why_fallen(
    plan: Plan,
    number: int,
    guardrails: Sequence[Guardrail],
    signals: SignalTable,
    *,
    now: float,
) -> Why:
    """Return what drops a backend of a plan, by its number, whose eligible ones are awake."""
    hard = why_forbidden(plan, number, guardrails)
    if hard is not None:
        return hard
    backend = plan.snapshot.backends[plan.policy.backends[number]]
    if not plan.eligible >> number & 1:
        if backend.terminating:
            return Why(TERMINATING, "has no endpoint but those that terminate")
        return Why(RESTING, "is left alone for a while, as it asked for")
    return _why_no_endpoint(backend, signals, now)


def why_forbidden(plan: Plan, number: int, guardrails: Sequence[Guardrail]) -> Why | None:
    """Return the hard limit that a backend falls by, whatever is true now; None if none does."""
    for guardrail in guardrails:
        if guardrail.forbids >> number & 1:
            return Why(GUARDRAIL, f"forbidden by guardrail {guardrail.name} of {guardrail.policy}")
    backend = plan.snapshot.backends.get(plan.policy.backends[number])
    if backend is None:
        return Why(UNPUBLISHED, "not published to this data plane")
    if backend.unusable:
        return Why(UNUSABLE, backend.unusable)
    lacking = _lacking(backend, plan.view)
    return Why(CAPABILITY, lacking) if lacking else None


def _why_no_endpoint(backend: Backend, signals: SignalTable, now: float) -> Why:
    if not backend.endpoints:
        return Why(NO_ENDPOINT, "has no endpoint that is ready")
    standing = [one for one in backend.endpoints if one.id not in signals.ejected]
    if not standing:
        return Why(EJECTED, _all_ejected(backend, signals, now))
    if backend.spec.max_in_flight is None:
        return Why(NOTHING, "became usable while the request was being rejected")
    busy = sum(signals[endpoint.id].in_flight for endpoint in standing)
    queue = signals.queues.get(backend.name)
    waiting = f", {len(queue.waiting)} waiting" if queue is not None else ""
    return Why(AT_LIMIT, f"all endpoints are at maxInFlight ({busy} in flight{waiting})")


def _all_ejected(backend: Backend, signals: SignalTable, now: float) -> str:
    told = [ejected_for(endpoint.id, signals, now) for endpoint in backend.endpoints]
    more = len(told) - 1
    return told[0] + (f", and {more} more of its endpoints are ejected" if more else "")


def ejected_for(endpoint_id: str, signals: SignalTable, now: float) -> str:
    """Say of an endpoint that is ejected by what, and for how long."""
    for_s = max(0.0, now - signals.ejected.get(endpoint_id, now))
    by = "probe" if signals[endpoint_id].breaker.state == "closed" else "breaker"
    return f"ejected by its {by} for {for_s:.0f} s"


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
