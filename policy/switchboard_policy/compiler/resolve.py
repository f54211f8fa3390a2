"""References to what they mean now: backends with consent, services with endpoints, secrets."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from switchboard_policy import ir
from switchboard_policy.compiler.guardrails import Known
from switchboard_policy.compiler.report import Finding, bounded, listed
from switchboard_policy.compiler.selectors import Labels, consents
from switchboard_policy.compiler.world import EndpointSlice, Name, PolicyObject, Secret, Service
from switchboard_policy.names import CLIENT_LABEL, SECRET_LABEL
from switchboard_policy.v1alpha1.conditions import Reason
from switchboard_policy.v1alpha1.modelbackend import (
    PROVIDER_URLS,
    ExternalTarget,
    ModelBackendSpec,
    SecretKey,
    ServiceTarget,
)
from switchboard_policy.v1alpha1.routingpolicy import Route, RoutingPolicySpec
from switchboard_policy.v1alpha1.tiers import Reference


def referent(policy: Name, reference: Reference) -> Name:
    """Return the full name of a referenced backend."""
    return Name(reference.namespace or policy.namespace, reference.name)


def mentions(policy: Name, spec: RoutingPolicySpec) -> frozenset[Name]:
    """Return all backends that a policy names, there or not."""
    return frozenset(name for name, _ in _places(policy, spec))


def _places(policy: Name, spec: RoutingPolicySpec) -> Iterator[tuple[Name, str]]:
    for rule in spec.rules or ():
        for tier in rule.route.tiers:
            for member in tier.backends:
                yield referent(policy, member), f"rule {rule.name}, tier {tier.name}"
        for reference, what in _asides(rule.route):
            yield referent(policy, reference), f"rule {rule.name}, {what}"
    if spec.learning is not None and spec.learning.judge is not None:
        yield referent(policy, spec.learning.judge.backend), "learning.judge"


def _asides(route: Route) -> Iterator[tuple[Reference, str]]:
    """Yield the backends that a route asks beside those of its tiers, and what for."""
    if route.select is not None and route.select.classifier is not None:
        yield route.select.classifier.backend, "select.classifier"
    if route.cascade is not None:
        accept = route.cascade.accept
        if accept.agreement is not None:
            yield accept.agreement, "cascade.accept.agreement"
        if accept.judge is not None:
            yield accept.judge.backend, "cascade.accept.judge"
    if route.ensemble is not None and route.ensemble.judge is not None:
        yield route.ensemble.judge.backend, "ensemble.judge"
    if route.mirror is not None:
        yield route.mirror.backend, "mirror"
        if route.mirror.judge is not None:
            yield route.mirror.judge.backend, "mirror.judge"


def resolve_references(
    policy: PolicyObject,
    mentioned: frozenset[Name],
    backends: Mapping[Name, Known],
    labels: Labels | None,
) -> tuple[dict[Name, Known], tuple[Finding, ...]]:
    """Return those of the mentioned backends that may serve a policy, and why others may not.

    ``labels`` are those of the policy's namespace, None if that is not known.
    """
    available: dict[Name, Known] = {}
    obstacles: dict[Name, Finding] = {}
    for name in sorted(mentioned):
        found = backends.get(name)
        obstacle = _obstacle(policy.name, name, found, labels)
        if found is not None and obstacle is None:
            available[name] = found
        elif obstacle is not None:
            obstacles[name] = obstacle
    unresolved = [
        Finding(obstacle.reason, f"{obstacle.message} (used in {_where(policy, name)})")
        for name, obstacle in obstacles.items()
    ]
    return available, bounded(unresolved)


def _where(policy: PolicyObject, backend: Name) -> str:
    spec = policy.effective
    places = _places(policy.name, spec) if spec is not None else ()
    used = [place for name, place in places if name == backend]
    return used[0] + (f" and {len(used) - 1} more" if len(used) > 1 else "")


def _obstacle(
    policy: Name, name: Name, found: Known | None, labels: Labels | None
) -> Finding | None:
    if found is None:
        return Finding(
            Reason.BACKEND_NOT_FOUND,
            f"ModelBackend {name} does not exist: create it, or correct the reference",
        )
    if found.allowed is None:
        return Finding(
            Reason.BACKEND_INVALID,
            f"ModelBackend {name} is invalid and never was valid: its Accepted condition says why",
        )
    if name.namespace == policy.namespace or consents(found.allowed, policy.namespace, labels):
        return None
    return Finding(
        Reason.REF_NOT_PERMITTED,
        f"ModelBackend {name} does not admit policies of namespace {policy.namespace} (its "
        f"allowedNamespaces.from is {found.allowed.from_}): its owner can set All, or a Selector "
        "that matches the namespace's labels",
    )


@dataclass(frozen=True, slots=True)
class Target:
    """Where a backend answers: ``addresses`` is None for an external one.

    ``terminating`` are those that still serve, but not for long. ``total`` counts the addresses of
    the Service's slices, ready or not.
    """

    url: str
    addresses: tuple[ir.Endpoint, ...] | None = None
    terminating: tuple[ir.Endpoint, ...] = ()
    total: int = 0
    unresolved: tuple[Finding, ...] = ()


def resolve_target(
    backend: Name,
    spec: ModelBackendSpec,
    service: Service | None,
    slices: Iterable[EndpointSlice],
) -> Target:
    """Find the URL and the addresses of a backend; ``service`` is the one that it names."""
    if spec.service is None:
        return Target(_external_url(spec.external))
    said = spec.service
    name = Name(backend.namespace, said.name)
    if service is None:
        finding = Finding(
            Reason.SERVICE_NOT_FOUND,
            f"Service {name} does not exist: create it, or correct spec.service.name",
        )
        return Target(_service_url(backend, said, said.port), (), unresolved=(finding,))
    port = _port(service, said.port)
    if port is None:
        there = listed(
            f"{key} ({number})" if key else f"{number}" for key, number in service.ports.items()
        )
        finding = Finding(
            Reason.PORT_NOT_FOUND,
            f"Service {name} has no port {said.port}; it has {there or 'none'}: "
            "correct spec.service.port",
        )
        return Target(_service_url(backend, said, said.port), (), unresolved=(finding,))
    url = _service_url(backend, said, service.ports[port])
    return _with_addresses(url, slices, port)


def _external_url(external: ExternalTarget | None) -> str:
    if external is None:
        return ""
    return (external.url or PROVIDER_URLS.get(external.provider, "")).rstrip("/")


def _service_url(backend: Name, said: ServiceTarget, port: int | str) -> str:
    # A port's name without a number leaves the scheme's default; nothing is sent there.
    number = f":{port}" if isinstance(port, int) else ""
    path = said.path.strip("/")
    host = f"{said.name}.{backend.namespace}.svc{number}"
    return f"{said.scheme}://{host}" + (f"/{path}" if path else "")


def _port(service: Service, said: int | str) -> str | None:
    """Return the name ("" if unnamed) of the Service's port that was said by name or number."""
    if isinstance(said, str):
        return said if said in service.ports else None
    return next((name for name, number in service.ports.items() if number == said), None)


def _with_addresses(url: str, slices: Iterable[EndpointSlice], port: str) -> Target:
    """Return the target with the addresses that take requests, and those that terminate.

    While the control plane moves an endpoint between slices it is in both: ready in one counts.
    """
    ready: dict[str, str] = {}
    terminating: dict[str, str] = {}
    every: set[str] = set()
    for each in slices:
        number = each.ports.get(port)
        if number is None:
            continue
        for endpoint in each.endpoints:
            # The addresses of one endpoint are the same peer: the first stands for it.
            for address in endpoint.addresses[:1]:
                peer = f"[{address}]:{number}" if ":" in address else f"{address}:{number}"
                every.add(peer)
                if endpoint.serving and (endpoint.ready or endpoint.terminating):
                    zones = terminating if endpoint.terminating else ready
                    zones[peer] = zones.get(peer) or endpoint.zone
    return Target(url, _sorted(ready), _sorted(terminating), total=len(every))


def _sorted(zones: Mapping[str, str]) -> tuple[ir.Endpoint, ...]:
    return tuple(ir.Endpoint(address=peer, zone=zones[peer]) for peer in sorted(zones))


def resolve_secret(
    backend: Name, said: SecretKey, secret: Secret | None
) -> tuple[bytes | None, Finding | None]:
    """Return the API key, or why there is none; the key never appears in the message."""
    name = Name(backend.namespace, said.secret_name)
    if secret is None:
        return None, Finding(
            Reason.SECRET_NOT_FOUND,
            f"Secret {name} does not exist, or lacks the label without which the operator may not "
            f"read it: create it, and run `kubectl label secret {name.name} -n {name.namespace} "
            f"{SECRET_LABEL}=true`",
        )
    if secret.is_client:
        # Who writes a backend says where its key is sent, and need not be one who may read Secrets.
        return None, Finding(
            Reason.SECRET_INVALID,
            f"Secret {name} is the API key of a client, which no model gets: keep the model's key "
            f"in another Secret, without the label {CLIENT_LABEL}",
        )
    value = secret.data.get(said.key)
    if value is None:
        there = listed(sorted(secret.data))
        return None, Finding(
            Reason.SECRET_KEY_MISSING,
            f'Secret {name} has no key "{said.key}"; it has {there or "none"}: add it, or correct '
            "spec.credentials.apiKey.key",
        )
    # Files end in a newline, and so do the Secrets that are made from them.
    value = value.strip()
    if not value or not all(0x20 <= byte < 0x7F for byte in value):  # noqa: PLR2004 - ASCII
        fault = "holds bytes that no header can carry" if value else "is empty"
        return None, Finding(
            Reason.SECRET_INVALID,
            f'Key "{said.key}" of Secret {name} {fault}: store the API key as printable ASCII '
            "on one line",
        )
    return value, None
