"""Backends before and after: where requests and credentials go, and who may use them."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from switchboard_cli.folder import Service, ServiceSpec
from switchboard_cli.review.changes import Change, Severity, listed
from switchboard_cli.review.fields import changed_fields
from switchboard_cli.review.sides import Side
from switchboard_policy import ir
from switchboard_policy.compiler.selectors import consents
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
        yield from _traffic(name, old, new)
    for name in sorted(old.backend_specs.keys() & new.backend_specs.keys()):
        # Who may use one matters before anybody does: policies of other repositories may.
        yield from _consent(name, old, new)


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


def _traffic(name: str, old: Side, new: Side) -> Iterator[Change]:
    """Yield where a backend's requests go otherwise, by what stands behind the same address."""
    if not old.backends[name].external and not new.backends[name].external:
        here, there = _endpoints(name, new), _endpoints(name, old)
        if here != there:
            text = f"backend {name} has the endpoints {listed(here)}, before {listed(there)}"
            yield Change(severity="access", kind="endpoints changed", text=text, backend=name)
    services = [_service(name, side) for side in (old, new)]
    before, after = (side.services.get(services[1]) for side in (old, new))
    if services[0] != services[1] or before is None or after is None:
        return
    about = f"backend {name}: its Service {services[1]}"
    was, now = _selected(before), _selected(after)
    if was != now:
        text = f"{about} stands for {now}, before for {was}"
        yield Change(severity="access", kind="Service selects otherwise", text=text, backend=name)
    was, now = (_target(name, side, one) for side, one in ((old, before), (new, after)))
    if was and now and was != now:
        text = f"{about} sends to port {now} of its pods, before to port {was}"
        yield Change(severity="access", kind="Service port changed", text=text, backend=name)


def _endpoints(backend: str, side: Side) -> list[str]:
    """Return the endpoints of a backend that EndpointSlices of the manifests say."""
    found = side.endpoints.get(backend)
    return [
        f"{one.address} in zone {one.zone}" if one.zone else one.address
        for one in (found.addresses if found is not None else ())
    ]


def _selected(service: Service) -> str:
    """Return which pods, or which host, a Service stands for."""
    spec = service.spec or ServiceSpec()
    asked = spec.external_name or spec.selector
    return msgspec.json.encode(asked, order="sorted").decode() if asked else "no pods of its own"


def _target(backend: str, side: Side, service: Service) -> str:
    """Return the port of the pods that a backend's requests go to; "" where there is none."""
    target = side.backend_specs[backend].service
    for port in (service.spec and service.spec.ports) or ():
        if target is not None and target.port in (port.port, port.name):
            return str(port.target_port or port.port)
    return ""


def _service(backend: str, side: Side) -> str:
    spec = side.backend_specs.get(backend)
    if spec is None or spec.service is None:
        return ""
    return f"{backend.partition('/')[0]}/{spec.service.name}"


def _consent(name: str, old: Side, new: Side) -> Iterator[Change]:
    """Yield from where a backend may be used now, by what it says or by the namespaces' labels."""
    was, now = (side.backend_specs[name] for side in (old, new))
    kind = "allowed namespaces changed"
    if was.allowed_namespaces != now.allowed_namespaces:
        text = f"backend {name} may be used from {_allowed(now)}, before from {_allowed(was)}"
        yield Change(severity="access", kind=kind, text=text, backend=name)
        return
    for other in sorted(new.namespaces.keys() - {name.partition("/")[0]}):
        before, after = (
            consents(now.allowed_namespaces, other, side.namespaces.get(other))
            for side in (old, new)
        )
        if before != after:
            may = "may now" if after else "may no longer"
            text = f"backend {name} {may} be used from namespace {other}, by its labels"
            yield Change(severity="access", kind=kind, text=text, backend=name)


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
