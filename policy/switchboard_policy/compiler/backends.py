"""One ModelBackend: from the object and what it refers to, to its entries and its report."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from switchboard_policy import ir, names
from switchboard_policy.codec import Encoded, encode
from switchboard_policy.compiler.guardrails import Known, as_known
from switchboard_policy.compiler.lower import lower_backend
from switchboard_policy.compiler.report import (
    MODEL_BACKEND,
    Finding,
    ObjectReport,
    rejections,
)
from switchboard_policy.compiler.resolve import Target, resolve_secret, resolve_target
from switchboard_policy.compiler.world import (
    BackendObject,
    EndpointSlice,
    Name,
    Secret,
    Service,
    World,
)
from switchboard_policy.seal import Keyring
from switchboard_policy.v1alpha1.modelbackend import ModelBackendSpec


class Inputs(NamedTuple):
    """What a backend refers to, as it was when the backend was compiled."""

    service: Service | None = None
    slices: tuple[EndpointSlice, ...] = ()
    secret: Secret | None = None


@dataclass(frozen=True, slots=True)
class BackendUnit:
    """A compiled backend; ``policy`` and ``endpoints`` are its entries in the two channels.

    ``service`` and ``secret`` are the names that it refers to; ``sealed_by`` are the keys that its
    credential is sealed with, None without one.
    """

    backend: BackendObject
    known: Known
    service: Name | None
    secret: Name | None
    inputs: Inputs
    report_key: tuple[str, Name]
    report_unused: ObjectReport
    report_used: ObjectReport
    policy: Mapping[str, Encoded] = field(default_factory=dict[str, Encoded])
    endpoints: Mapping[str, Encoded] = field(default_factory=dict[str, Encoded])
    sealed_by: Keyring | None = None

    def stands(self, backend: BackendObject, world: World, keyring: Keyring) -> bool:
        """Say whether a compilation in this world would give the same again."""
        if self.sealed_by is not None and self.sealed_by is not keyring:
            return False
        return self.backend is backend and self.inputs == _look_up(world, self.service, self.secret)


def assess_backend(backend: BackendObject, world: World) -> ObjectReport:
    """Return what a compilation says of a backend that no policy uses; nothing is sealed."""
    spec, namespace = backend.effective, backend.name.namespace
    found: list[Finding] = []
    if spec is not None and spec.service is not None:
        inputs = _look_up(world, Name(namespace, spec.service.name), None)
        found += resolve_target(backend.name, spec, inputs.service, inputs.slices).unresolved
    if spec is not None and spec.credentials is not None:
        said = spec.credentials.api_key
        secret = world.secrets.get(Name(namespace, said.secret_name))
        _, finding = resolve_secret(backend.name, said, secret)
        found += [finding] if finding is not None else []
    return ObjectReport(
        kind=MODEL_BACKEND,
        name=backend.name,
        generation=backend.generation,
        rejected=rejections(backend.problems),
        unresolved=tuple(found),
        quarantined=backend.spec is None and spec is not None,
    )


def _look_up(world: World, service: Name | None, secret: Name | None) -> Inputs:
    return Inputs(
        world.services.get(service) if service is not None else None,
        tuple(world.slices.get(service, {}).values()) if service is not None else (),
        world.secrets.get(secret) if secret is not None else None,
    )


def compile_backend(
    backend: BackendObject, world: World, keyring: Keyring, last: BackendUnit | None
) -> BackendUnit:
    """Compile a backend; what equals the ``last`` is the last, by identity."""
    spec, namespace = backend.effective, backend.name.namespace
    known = as_known(backend)
    if last is not None and last.known.says_the_same_as(known):
        known = last.known
    report = ObjectReport(
        kind=MODEL_BACKEND,
        name=backend.name,
        generation=backend.generation,
        rejected=rejections(backend.problems),
        quarantined=backend.spec is None and spec is not None,
    )
    service = secret = None
    if spec is not None and spec.service is not None:
        service = Name(namespace, spec.service.name)
    if spec is not None and spec.credentials is not None:
        secret = Name(namespace, spec.credentials.api_key.secret_name)
    unit = BackendUnit(
        backend=backend,
        known=known,
        service=service,
        secret=secret,
        inputs=_look_up(world, service, secret),
        report_key=(MODEL_BACKEND, backend.name),
        report_unused=report,
        report_used=report,
    )
    return unit if spec is None else _with_entries(unit, spec, keyring, last)


def _with_entries(
    unit: BackendUnit, spec: ModelBackendSpec, keyring: Keyring, last: BackendUnit | None
) -> BackendUnit:
    backend = unit.backend
    target = resolve_target(backend.name, spec, unit.inputs.service, unit.inputs.slices)
    entry = lower_backend(backend, spec, target)
    entries: dict[str, ir.Entry] = {names.backend_key(*backend.name): entry}
    credential, finding = _credential(backend.name, spec, entry, unit.inputs.secret, keyring)
    if credential is not None:
        entries[entry.credential] = credential
    addresses: dict[str, ir.Entry] = {}
    if target.addresses is not None:
        addresses[names.endpoints_key(*backend.name)] = _endpoints(entry, target)
    report = replace(
        unit.report_unused,
        unresolved=(*target.unresolved, *([finding] if finding is not None else ())),
        endpoints_ready=len(target.addresses or ()),
        endpoints_total=target.total,
    )
    return replace(
        unit,
        report_unused=report,
        report_used=replace(report, keys=tuple(entries)),
        policy=_encoded(entries, last.policy if last is not None else {}),
        endpoints=_encoded(addresses, last.endpoints if last is not None else {}),
        sealed_by=keyring if credential is not None else None,
    )


def _endpoints(entry: ir.Backend, target: Target) -> ir.Endpoints:
    # As kube-proxy does: rather those that are about to go than nobody. But who waits for a backend
    # to wake up waits for one that stays.
    if target.addresses or not target.terminating or entry.wake_hold_ms:
        return ir.Endpoints(backend=entry.name, addresses=target.addresses or ())
    return ir.Endpoints(backend=entry.name, addresses=target.terminating, terminating=True)


def _credential(
    backend: Name,
    spec: ModelBackendSpec,
    entry: ir.Backend,
    secret: Secret | None,
    keyring: Keyring,
) -> tuple[ir.Credential | None, Finding | None]:
    if spec.credentials is None:
        return None, None
    value, finding = resolve_secret(backend, spec.credentials.api_key, secret)
    if value is None:
        return None, finding
    sealed = keyring.seal(value, entry.uid, names.origin(entry.url))
    return ir.Credential(backend=entry.name, key_id=keyring.current, sealed=sealed), None


def _encoded(entries: Mapping[str, ir.Entry], last: Mapping[str, Encoded]) -> Mapping[str, Encoded]:
    return {key: reuse(last.get(key), entry) for key, entry in entries.items()}


def reuse(last: Encoded | None, entry: ir.Entry) -> Encoded:
    """Encode an entry, or return the last encoding if that says the same."""
    return last if last is not None and last.entry == entry else encode(entry)
