"""What a decision was made from, as it is logged: enough to make it again, and no word of a prompt.

Of headers and metadata there are those that the policy itself reads, by name, and of a caller's
session and user only whether they were there.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from switchboard_dataplane.decision.request import TEXT_ONLY, RequestView
from switchboard_dataplane.decision.running import Policy

#: A longer value is not kept: it is as if it had not been recorded.
VALUE_CHARS_MAX: Final = 256
#: What no log needs: vectors, and what stands in fields of the decision's own.
_LEFT_OUT: Final = frozenset({"task", "embedding", "context"})
_NO_VALUES: Final[Mapping[str, str | None]] = {}


class Caller(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who called, as rules may know it."""

    kind: str = "anybody"
    name: str = ""
    namespace: str = ""
    tier: str = ""
    team: str = ""
    labels: Mapping[str, str] = {}


class Inputs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a decision was made from, beside the model, the API and whether it streams.

    ``headers`` and ``metadata`` are those that the policy reads, by name; None for one that was not
    there. ``readings`` are the signals that were read, by name.
    """

    tokens: int = 0
    max_tokens: int = 0
    tools: bool = False
    json_schema: bool = False
    modalities: tuple[str, ...] = ("text",)
    tags: tuple[str, ...] = ()
    role: str = ""
    stage: str = ""
    latency_class: str = "interactive"
    min_quality: float | None = None
    priority: int = 0
    labels: Mapping[str, float] = {}
    session: bool = False
    user: bool = False
    headers: Mapping[str, str | None] = {}
    metadata: Mapping[str, str | None] = {}
    client: Caller | None = None
    readings: Mapping[str, Any] = {}


def inputs_of(view: RequestView, policy: Policy | None) -> Inputs:
    """Return what is recorded of a request that this policy decided."""
    readings = view.readings
    return Inputs(
        tokens=view.tokens,
        max_tokens=view.max_tokens,
        tools=view.tools,
        json_schema=view.json_schema,
        modalities=("text",) if view.modalities == TEXT_ONLY else tuple(sorted(view.modalities)),
        tags=view.tags,
        role=view.role,
        stage=view.stage,
        latency_class=view.latency_class,
        # None, and not 0: a default is left out where it is the same object.
        min_quality=view.min_quality or None,
        priority=view.priority,
        labels=view.labels,
        session=bool(view.session),
        user=bool(view.user),
        headers=_NO_VALUES if policy is None else _said(view.headers, policy.noted_headers),
        metadata=_NO_VALUES if policy is None else _said(view.metadata, policy.noted_metadata),
        client=_caller(view),
        readings=_plain(readings) if readings else {},
    )


def _plain(readings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the readings as JSON can say them; what it cannot say is left out."""
    said: dict[str, Any] = {}
    for name, value in readings.items():
        if name in _LEFT_OUT:
            continue
        if isinstance(value, (str, bool, int, tuple)):
            said[name] = value
        elif isinstance(value, float):
            said[name] = float(value)
        elif isinstance(value, Mapping):
            pairs = cast("Mapping[str, float]", value).items()
            said[name] = {key: float(number) for key, number in pairs}
    return said


def _said(values: Mapping[str, str], names: tuple[str, ...]) -> Mapping[str, str | None]:
    if not names:
        return _NO_VALUES
    said = {name: values.get(name) for name in names}
    return {name: one for name, one in said.items() if one is None or len(one) <= VALUE_CHARS_MAX}


def _caller(view: RequestView) -> Caller | None:
    client = view.client
    if client.kind == "anybody":
        return None
    return Caller(
        kind=client.kind,
        name=client.name,
        namespace=client.namespace,
        tier=client.tier,
        team=client.team,
        labels=client.labels,
    )
