"""Hard limits: which backends of a policy may serve a request at all, whatever the path.

Capabilities need no policy: API, modality, tools, JSON schema, context window. Guardrails are
the policy's. Both end in a mask that no attempt can leave.
"""

from collections.abc import Iterable

from switchboard_dataplane.decision.match import Conditions
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Abilities, Backend, Guardrail, Policy, Snapshot
from switchboard_policy.names import APIS, MODALITIES


def abilities_of(snapshot: Snapshot, policy: Policy) -> Abilities:
    """Return the masks of what the policy's backends can do, remembered by the snapshot."""
    known = snapshot.abilities.get(policy)
    if known is None:
        backends = tuple(snapshot.backends.get(name) for name in policy.backends)
        known = snapshot.abilities[policy] = build_abilities(backends)
    return known


def build_abilities(backends: Iterable[Backend | None]) -> Abilities:
    """Build the masks; a backend that is not there (None) can do nothing."""
    usable = tools = json_schema = queues = wakes = 0
    apis: dict[str, int] = dict.fromkeys(APIS, 0)
    modalities: dict[str, int] = dict.fromkeys(MODALITIES, 0)
    windows: list[tuple[int, int]] = []
    for number, backend in enumerate(backends):
        if backend is None or backend.unusable:
            continue
        bit = 1 << number
        can = backend.spec.capabilities
        usable |= bit
        queues |= bit if backend.spec.queue is not None else 0
        wakes |= bit if backend.spec.wake_hold_ms else 0
        for api in APIS if can.apis is None else can.apis:
            apis[api] |= bit
        for modality in MODALITIES if can.modalities is None else can.modalities:
            modalities[modality] |= bit
        tools |= 0 if can.tools is False else bit
        json_schema |= 0 if can.json_schema is False else bit
        if can.context_window_tokens is not None:
            windows.append((can.context_window_tokens, bit))
    return Abilities(
        usable=usable,
        apis=apis,
        modalities=modalities,
        tools=tools,
        json_schema=json_schema,
        windows=tuple(sorted(windows)),
        queues=queues,
        wakes=wakes,
    )


def able(abilities: Abilities, view: RequestView) -> int:
    """Return the mask of backends that can do what the request asks for."""
    mask = abilities.usable & abilities.apis[view.api]
    for modality in view.modalities:
        mask &= abilities.modalities[modality]
    if view.tools:
        mask &= abilities.tools
    if view.json_schema:
        mask &= abilities.json_schema
    wanted = view.tokens + view.max_tokens
    for window, bit in abilities.windows:
        if window >= wanted:
            break
        mask &= ~bit
    return mask


def guardrails_in_force(policy: Policy, conditions: Conditions) -> tuple[Guardrail, ...]:
    """Return the guardrails that apply to the request; one whose ``when`` fails applies."""
    return tuple(guardrail for guardrail in policy.guardrails if applies(guardrail, conditions))


def applies(guardrail: Guardrail, conditions: Conditions) -> bool:
    """Say whether a guardrail applies to the request; where its ``when`` fails it does."""
    return guardrail.when is None or conditions.holds(guardrail.when, on_error=True)
