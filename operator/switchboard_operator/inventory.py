"""What the watches have told so far: raw objects in, the compiler's immutable world out.

The maps of the world are changed in place between compilations and the objects in them are
replaced, never changed. Events may come twice, late, or of an object that was recreated under its
old name: uid and resourceVersion decide what is news. ``take`` says whether a compilation may come
out differently; most events of a busy cluster (endpoints of foreign Services, our own status
patches) do not make it so.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from switchboard_operator.resources import (
    OURS,
    SERVICE_NAME_LABEL,
    Kind,
    Listed,
    ObjectKey,
    Raw,
    part,
    parts,
)
from switchboard_policy.compiler.world import (
    BackendObject,
    CustomResource,
    EndpointSlice,
    Name,
    PolicyObject,
    Secret,
    Service,
    SliceEndpoint,
    World,
)
from switchboard_policy.names import CLIENT_LABEL, LABELLED
from switchboard_policy.v1alpha1.modelbackend import ModelBackendSpec
from switchboard_policy.v1alpha1.parse import Parsed, Parser
from switchboard_policy.v1alpha1.routingpolicy import RoutingPolicySpec

SpecT = TypeVar("SpecT", ModelBackendSpec, RoutingPolicySpec)
OurObject = BackendObject | PolicyObject

_ADDRESS_TYPES: Final = ("IPv4", "IPv6")


@dataclass(frozen=True, slots=True)
class Known:
    """Which object a name stands for, and how new what we know of it is.

    ``service`` is set for EndpointSlices; ``status`` is what the API server holds of our kinds.
    """

    uid: str
    version: int
    service: Name | None = None
    status: Raw = field(default_factory=dict[str, Any])


class Inventory:
    """Every object that the watches have shown, as the compiler wants it."""

    def __init__(
        self, parser: Parser, *, decode_secret: Callable[[Raw], Mapping[str, bytes]]
    ) -> None:
        self._parser = parser
        self._decode_secret = decode_secret
        self._known: dict[Kind, dict[Name, Known]] = {kind: {} for kind in Kind}
        self._backends: dict[Name, BackendObject] = {}
        self._policies: dict[Name, PolicyObject] = {}
        self._services: dict[Name, Service] = {}
        self._slices: dict[Name, dict[str, EndpointSlice]] = {}
        self._secrets: dict[Name, Secret] = {}
        self._clients: dict[Name, Secret] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._used: Counter[tuple[Kind, Name]] = Counter()
        self._kept: dict[str, Any] = {}
        self._edited: set[ObjectKey] = set()
        self._rewritten: set[ObjectKey] = set()
        self.world = World(
            backends=self._backends,
            policies=self._policies,
            services=self._services,
            slices=self._slices,
            secrets=self._secrets,
            clients=self._clients,
            namespaces=self._namespaces,
        )

    def keep(self, uid: str, spec: Any) -> None:
        """Remember the last good spec of an object that will be seen with a bad one."""
        self._kept[uid] = spec

    def take(self, kind: Kind, body: Raw, *, deleted: bool = False) -> bool:
        """Take in one object as it is now, or its end; say whether that may change anything."""
        meta = body["metadata"]
        name = Name(meta.get("namespace", ""), meta["name"])
        uid, version = str(meta["uid"]), int(meta["resourceVersion"])
        known = self._known[kind].get(name)
        if deleted:
            return known is not None and known.uid == uid and self._remove(kind, name)
        if known is not None and version <= known.version:
            return False
        same = known is not None and known.uid == uid
        if same and kind in OURS and part(body, "status") != self._known[kind][name].status:
            self._rewritten.add(ObjectKey(kind, name))
        return self._put(kind, name, body, Known(uid, version))

    def update(self, kind: Kind, body: Raw) -> bool:
        """Take in the answer to a write of our own; say whether that may change anything.

        Of an object that is known alone: one whose end came first stays gone.
        """
        meta = body["metadata"]
        name, version = Name(meta.get("namespace", ""), meta["name"]), int(meta["resourceVersion"])
        known = self._known[kind].get(name)
        if known is None or known.uid != meta["uid"] or version <= known.version:
            return False
        return self._put(kind, name, body, Known(known.uid, version))

    def prune(
        self, kind: Kind, present: Iterable[Listed], version: int, namespace: str = ""
    ) -> bool:
        """Drop what a list of that version did not show; say whether that may change anything.

        A watch that had to start anew never tells what was deleted in between.
        """
        uids = {each.name: each.uid for each in present}
        gone = [
            name
            for name, known in self._known[kind].items()
            if known.version <= version
            and uids.get(name) != known.uid
            and (not namespace or name.namespace == namespace)
        ]
        news = [self._remove(kind, name) for name in gone]
        return any(news)

    def missed(self, kind: Kind, present: Iterable[Listed]) -> set[Listed]:
        """Return what a list shows in a newer form than is known here."""
        known = self._known[kind]
        return {
            each
            for each in present
            if each.name not in known or known[each.name].version < each.version
        }

    def get(self, key: ObjectKey) -> OurObject | None:
        """Return one of our objects."""
        objects = self._backends if key.kind is Kind.BACKEND else self._policies
        return objects.get(key.name)

    def status(self, key: ObjectKey) -> Raw:
        """Return the status that the API server holds of one of our objects."""
        known = self._known[key.kind].get(key.name)
        return {} if known is None else known.status

    def version(self, key: ObjectKey) -> int:
        """Return the resourceVersion that is known of one of our objects; 0 if it is not."""
        known = self._known[key.kind].get(key.name)
        return 0 if known is None else known.version

    def edited(self) -> set[ObjectKey]:
        """Return which of our objects were created, edited or deleted since the last call."""
        edited, self._edited = self._edited, set()
        return edited

    def rewritten(self) -> set[ObjectKey]:
        """Return which of our objects the watches showed with another status since the last call.

        The answer to a write of our own comes before its event, mostly: the rest is of others.
        """
        rewritten, self._rewritten = self._rewritten, set()
        return rewritten

    def counts(self) -> Mapping[Kind, int]:
        """Return how many objects of each kind are known."""
        return {kind: len(known) for kind, known in self._known.items()}

    def _put(self, kind: Kind, name: Name, body: Raw, known: Known) -> bool:
        changed = False
        match kind:
            case Kind.BACKEND | Kind.POLICY:
                return self._put_ours(kind, name, body, known)
            case Kind.SLICE:
                return self._put_slice(name, body, known)
            case Kind.SERVICE:
                service = _read_service(name, body)
                if changed := self._services.get(name) != service:
                    self._services[name] = service
            case Kind.SECRET:
                return self._put_secret(name, body, known)
            case Kind.NAMESPACE:
                labels = dict(part(body["metadata"], "labels"))
                self._known[kind][name] = known
                if changed := self._namespaces.get(name.name) != labels:
                    self._namespaces[name.name] = labels
                return changed
        self._known[kind][name] = known
        return changed and self._used[(kind, name)] > 0

    def _put_ours(self, kind: Kind, name: Name, body: Raw, known: Known) -> bool:
        key, meta = ObjectKey(kind, name), body["metadata"]
        before_known, before = self._known[kind].get(name), self.get(key)
        self._known[kind][name] = Known(known.uid, known.version, status=part(body, "status"))
        same = before_known is not None and before_known.uid == known.uid
        generation, labels = int(meta.get("generation", 0)), dict(part(meta, "labels"))
        if same and before and (before.generation, before.labels) == (generation, labels):
            return False
        self._edited.add(key)
        parse = self._parser
        if kind is Kind.BACKEND:
            backend = self._backends.get(name) if same else None
            good = self._good_before(known.uid, backend, parse.parse_backend)
            self._count_uses(name, -1)
            self._backends[name] = _read_ours(
                name, body, known.uid, parse.parse_backend(body), good
            )
            self._count_uses(name, +1)
        else:
            policy = self._policies.get(name) if same else None
            self._policies[name] = _read_ours(
                name,
                body,
                known.uid,
                parse.parse_policy(body),
                self._good_before(known.uid, policy, parse.parse_policy),
            )
        return True

    def _good_before(
        self,
        uid: str,
        before: CustomResource[SpecT] | None,
        parse: Callable[[object], Parsed[SpecT]],
    ) -> SpecT | None:
        kept = self._kept.pop(uid, None)
        if before is not None and before.effective is not None:
            return before.effective
        return None if kept is None else parse({"spec": kept}).spec

    def _put_slice(self, name: Name, body: Raw, known: Known) -> bool:
        labels = part(body["metadata"], "labels")
        service = Name(name.namespace, labels.get(SERVICE_NAME_LABEL, ""))
        before = self._known[Kind.SLICE].get(name)
        moved = before is not None and before.service != service
        changed = moved and self._remove(Kind.SLICE, name)
        self._known[Kind.SLICE][name] = Known(known.uid, known.version, service)
        found = _read_slice(name, body, service.name)
        slices = self._slices.setdefault(service, {})
        changed |= slices.get(name.name) != found and self._used[(Kind.SERVICE, service)] > 0
        slices[name.name] = found
        return changed

    def _put_secret(self, name: Name, body: Raw, known: Known) -> bool:
        self._known[Kind.SECRET][name] = known
        meta, data = body["metadata"], self._decode_secret(body)
        secret = self._secrets.get(name)
        was_client = name in self._clients
        is_client = part(meta, "labels").get(CLIENT_LABEL) == LABELLED
        same = secret is not None and secret.uid == known.uid and secret.data == data
        if secret is None or not same or was_client != is_client:
            created = str(meta.get("creationTimestamp") or "")
            secret = Secret(name, known.uid, str(known.version), data, created, is_client)
            self._secrets[name] = secret
        # A Secret of which the label is taken away is as good as deleted.
        if is_client:
            self._clients[name] = secret
        elif was_client:
            del self._clients[name]
        if was_client != is_client:
            return True
        return not same and (is_client or self._used[(Kind.SECRET, name)] > 0)

    def _remove(self, kind: Kind, name: Name) -> bool:
        known = self._known[kind].pop(name)
        match kind:
            case Kind.BACKEND:
                self._count_uses(name, -1)
                del self._backends[name]
            case Kind.POLICY:
                del self._policies[name]
            case Kind.SERVICE:
                del self._services[name]
            case Kind.SECRET:
                del self._secrets[name]
                if self._clients.pop(name, None) is not None:
                    return True
            case Kind.NAMESPACE:
                del self._namespaces[name.name]
            case Kind.SLICE:
                service = known.service or Name(name.namespace, "")
                self._slices[service].pop(name.name, None)
                if not self._slices[service]:
                    del self._slices[service]
                return self._used[(Kind.SERVICE, service)] > 0
        if kind in OURS:
            self._edited.add(ObjectKey(kind, name))
            return True
        return kind is Kind.NAMESPACE or self._used[(kind, name)] > 0

    def _count_uses(self, backend: Name, by: int) -> None:
        found = self._backends.get(backend)
        for use in _uses(backend, found.effective if found else None):
            self._used[use] += by
            if not self._used[use]:
                del self._used[use]


def _uses(backend: Name, spec: ModelBackendSpec | None) -> Iterable[tuple[Kind, Name]]:
    if spec is not None and spec.service is not None:
        yield Kind.SERVICE, Name(backend.namespace, spec.service.name)
    if spec is not None and spec.credentials is not None:
        yield Kind.SECRET, Name(backend.namespace, spec.credentials.api_key.secret_name)


def _read_ours(
    name: Name, body: Raw, uid: str, parsed: Parsed[SpecT], last_good: SpecT | None
) -> CustomResource[SpecT]:
    meta = body["metadata"]
    return CustomResource(
        name=name,
        uid=uid,
        generation=int(meta.get("generation", 0)),
        spec=parsed.spec,
        problems=parsed.problems,
        last_good=last_good if parsed.spec is None else None,
        labels=dict(part(meta, "labels")),
    )


def _read_service(name: Name, body: Raw) -> Service:
    ports = parts(part(body, "spec"), "ports")
    return Service(name, {port.get("name", ""): port["port"] for port in ports})


def _read_slice(name: Name, body: Raw, service: str) -> EndpointSlice:
    ports = {
        port.get("name") or "": port["port"]
        for port in parts(body, "ports")
        if port.get("port") is not None
    }
    known = body.get("addressType") in _ADDRESS_TYPES
    endpoints = parts(body, "endpoints") if known else ()
    return EndpointSlice(name, service, ports, tuple(_read_endpoint(each) for each in endpoints))


def _read_endpoint(said: Raw) -> SliceEndpoint:
    conditions = part(said, "conditions")
    # Absent means: ready, serving if ready, not terminating.
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving")
    return SliceEndpoint(
        addresses=tuple(said.get("addresses") or ()),
        ready=ready,
        serving=ready if serving is None else bool(serving),
        terminating=bool(conditions.get("terminating")),
        zone=said.get("zone") or "",
    )
