"""Backends before and after: where requests and credentials go, and who may use them."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from switchboard_cli.review.changes import Change, Severity
from switchboard_cli.review.fields import changed_fields
from switchboard_cli.review.sides import Side
from switchboard_policy import ir
from switchboard_policy.v1alpha1.modelbackend import ModelBackendSpec

#: What a field of a backend is about: its kind of change, and how much that matters.
_KINDS: Final[Mapping[str, tuple[Severity, str]]] = {
    "url": ("access", "backend address changed"),
    "external": ("access", "backend address changed"),
    "provider": ("access", "backend address changed"),
    "region": ("access", "residency changed"),
    "zone": ("access", "residency changed"),
    "jurisdiction": ("access", "residency changed"),
    "model": ("moved", "model changed"),
    "capabilities": ("changed", "capabilities changed"),
    "pricing": ("changed", "price changed"),
    "quality": ("changed", "quality changed"),
    "max_in_flight": ("changed", "capacity changed"),
    "queue": ("changed", "capacity changed"),
    "wake_hold_ms": ("changed", "capacity changed"),
    "timeouts": ("changed", "timeouts changed"),
    "health": ("changed", "health changed"),
    "telemetry": ("changed", "telemetry changed"),
}
_OTHER: Final[tuple[Severity, str]] = ("changed", "backend changed")
#: Said otherwise, or by what they are made of.
_NOT_SHOWN: Final = ("name", "uid", "credential")


def changed_backends(old: Side, new: Side) -> Iterator[Change]:
    """Yield what became of the backends that policies use before and after."""
    for name in sorted(old.backends.keys() & new.backends.keys()):
        was, now = old.backends[name], new.backends[name]
        kinds: dict[tuple[Severity, str], list[str]] = {}
        for field in ir.Backend.__struct_fields__:
            if field not in _NOT_SHOWN and getattr(was, field) != getattr(now, field):
                kinds.setdefault(_KINDS.get(field, _OTHER), []).append(field)
        for (severity, kind), fields in kinds.items():
            yield _change(severity, kind, name, was, now, fields)
        yield from _secret(name, old.backend_specs.get(name), new.backend_specs.get(name))
        yield from _selected(name, old, new)
    for name in sorted(old.backend_specs.keys() & new.backend_specs.keys()):
        # Who may use one matters before anybody does: policies of other repositories may.
        yield from _consent(name, old.backend_specs[name], new.backend_specs[name])


def _change(
    severity: Severity, kind: str, name: str, was: ir.Backend, now: ir.Backend, fields: list[str]
) -> Change:
    kept = {
        field: getattr(was, field) for field in ir.Backend.__struct_fields__ if field not in fields
    }
    details = changed_fields(was, msgspec.structs.replace(now, **kept))
    return Change(
        severity=severity,
        kind=kind,
        text=f"backend {name}: {'; '.join(details[:2])}",
        backend=name,
        details=details[2:],
    )


def _secret(
    name: str, was: ModelBackendSpec | None, now: ModelBackendSpec | None
) -> Iterator[Change]:
    if was is None or now is None:
        return
    if was.credentials != now.credentials:
        before, after = _secret_of(was), _secret_of(now)
        kind = "credential changed"
        if not after:
            kind = "credential removed"
        elif not before:
            kind = "credential added"
        yield Change(
            severity="access",
            kind=kind,
            text=f"backend {name} is called with {after or 'no credential'}, before with "
            f"{before or 'none'}",
            backend=name,
        )


def _selected(name: str, old: Side, new: Side) -> Iterator[Change]:
    """Yield that the Service of a backend, which is the same one, stands for other pods."""
    services = [_service(name, side) for side in (old, new)]
    was, now = (side.selected.get(services[1], "") for side in (old, new))
    if services[0] == services[1] and was and now and was != now:
        yield Change(
            severity="access",
            kind="Service selects otherwise",
            text=f"backend {name}: its Service {services[1]} stands for {now}, before for {was}",
            backend=name,
        )


def _service(backend: str, side: Side) -> str:
    spec = side.backend_specs.get(backend)
    if spec is None or spec.service is None:
        return ""
    return f"{backend.partition('/')[0]}/{spec.service.name}"


def _consent(name: str, was: ModelBackendSpec, now: ModelBackendSpec) -> Iterator[Change]:
    if was.allowed_namespaces != now.allowed_namespaces:
        yield Change(
            severity="access",
            kind="allowed namespaces changed",
            text=f"backend {name} may be used from {_allowed(now)}, before from {_allowed(was)}",
            backend=name,
        )


def _secret_of(spec: ModelBackendSpec) -> str:
    if spec.credentials is None:
        return ""
    key = spec.credentials.api_key
    return f"{key.key} of Secret {key.secret_name}"


def _allowed(spec: ModelBackendSpec) -> str:
    said = spec.allowed_namespaces.model_dump(by_alias=True, exclude_none=True)
    match said.get("from"):
        case "All":
            return "all namespaces"
        case "Selector":
            return f"namespaces with {said.get('selector')}"
        case _:
            return "its own namespace"
