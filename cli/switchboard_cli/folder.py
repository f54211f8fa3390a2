"""A folder of manifests in the place of an API server: what is in the files is what there is.

It fills the operator's own inventory, so that `dev` and `validate` see the world as the operator
would: an edit that is no good leaves the last good spec in force.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from switchboard_cli.findings import Finding
from switchboard_cli.manifests import Manifest, Manifests, load_manifests
from switchboard_operator.inventory import Inventory
from switchboard_operator.resources import WATCHED, Kind, ObjectKey
from switchboard_policy.compiler.world import Name
from switchboard_policy.names import API_VERSION, GROUP, SECRET_LABEL
from switchboard_policy.v1alpha1.parse import Parser

#: Where objects go whose manifest names no namespace, as with kubectl.
DEFAULT_NAMESPACE: Final = "default"


class _Metadata(msgspec.Struct):
    labels: Mapping[str, str] | None = None


class _Object(msgspec.Struct, rename="camel"):
    """An object of Kubernetes, as far as it is read here: its API server takes no other types."""

    metadata: _Metadata


class ServicePort(msgspec.Struct, rename="camel"):
    """A port of a Service, and the one of its pods that it stands for, if that is another."""

    port: int
    name: str | None = None
    target_port: int | str | None = None


class ServiceSpec(msgspec.Struct, rename="camel"):
    """Which pods, or which host, a Service stands for."""

    ports: tuple[ServicePort, ...] | None = None
    selector: Mapping[str, str] | None = None
    external_name: str | None = None


class Service(_Object):
    """A Service."""

    spec: ServiceSpec | None = None


class _SlicePort(msgspec.Struct):
    name: str | None = None
    port: int | None = None


class _Conditions(msgspec.Struct):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _Endpoint(msgspec.Struct):
    addresses: tuple[str, ...]
    conditions: _Conditions | None = None
    zone: str | None = None


class _EndpointSlice(_Object):
    address_type: str
    endpoints: tuple[_Endpoint, ...] | None = None
    ports: tuple[_SlicePort, ...] | None = None


#: What an API server would take. Of our own kinds the parser tells, of Secrets ``validate``.
_SHAPES: Final[Mapping[Kind, type[_Object]]] = {
    Kind.NAMESPACE: _Object,
    Kind.SERVICE: Service,
    Kind.SLICE: _EndpointSlice,
}


@dataclass(slots=True)
class _Seen:
    """What a file said of an object last, and how often it has said something new."""

    data: Mapping[str, Any]
    body: Mapping[str, Any]
    generation: int


class Folder:
    """The objects of some files and folders, read again whenever they change."""

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self._paths = tuple(paths)
        self._seen: dict[ObjectKey, _Seen] = {}
        self._reads = 0
        self.misread: list[Finding] = []
        self.inventory = Inventory(Parser(), decode_secret=secret_data)

    def read(self) -> Manifests:
        """Read all files, bring the inventory up to date, return what was read."""
        manifests = load_manifests(self._paths)
        self.take(manifests)
        return manifests

    def take(self, manifests: Manifests) -> None:
        """Bring the inventory up to date with what was read."""
        self._reads += 1
        self.misread = []
        there: dict[ObjectKey, Mapping[str, Any]] = {}
        for key, manifest in _watched(manifests.objects):
            there[key] = manifest.data
            if manifest.group == GROUP and manifest.api_version != API_VERSION:
                # No API server has such a version, as `validate` says: what was there stays.
                continue
            try:
                self._put(key, manifest.data)
            except (AttributeError, KeyError, TypeError, ValueError):
                # What an API server would refuse; of our own kinds `validate` says more.
                self.misread.append(_misread(manifest))
        for namespace in sorted({key.name.namespace for key in there}):
            # Nobody writes a manifest for a namespace that has no labels.
            key = ObjectKey(Kind.NAMESPACE, Name("", namespace))
            if key not in there:
                there[key] = {"metadata": {"name": namespace}}
                self._put(key, there[key])
        unreadable = {problem.file for problem in manifests.problems}
        if not unreadable:
            # While a file cannot be read nobody knows what is in it: nothing is taken for gone.
            for key in self._seen.keys() - there.keys():
                self.inventory.take(key.kind, self._seen.pop(key).body, deleted=True)

    def _put(self, key: ObjectKey, data: Mapping[str, Any]) -> None:
        seen = self._seen.get(key)
        if seen is not None and seen.data == data:
            return
        if key.kind in _SHAPES:
            msgspec.convert(data, _SHAPES[key.kind])
        generation = seen.generation + 1 if seen else 1
        metadata: dict[str, Any] = {
            **(data.get("metadata") or {}),
            "namespace": key.name.namespace,
            "uid": hashlib.sha256(str(key).encode()).hexdigest()[:32],
            "resourceVersion": str(self._reads),
            "generation": generation,
        }
        body = {**data, "metadata": metadata}
        self._seen[key] = _Seen(data, body, generation)
        self.inventory.take(key.kind, body)


def secret_data(body: Mapping[str, Any]) -> Mapping[str, bytes]:
    """Return the data of a Secret, ``stringData`` included as the API server would."""
    found: dict[str, bytes] = {}
    data = cast("Mapping[str, Any]", body.get("data") or {})
    for key, text in data.items():
        try:
            found[key] = base64.b64decode(text, validate=True)
        except (binascii.Error, TypeError, ValueError):
            # An API server refuses it; here the key is as good as missing, and told so.
            continue
    plain = cast("Mapping[str, Any]", body.get("stringData") or {})
    for key, text in plain.items():
        found[key] = str(text).encode()
    return found


def _misread(manifest: Manifest) -> Finding:
    return Finding(
        file=manifest.file,
        line=manifest.line,
        object=manifest.title,
        field="",
        message=f"it is no well-formed {manifest.kind}",
        value="",
        fix=f"compare it with `kubectl explain {manifest.kind.lower()}`",
    )


def _watched(manifests: Iterable[Manifest]) -> Iterable[tuple[ObjectKey, Manifest]]:
    kinds = {(resource.group, kind.value): kind for kind, resource in WATCHED.items()}
    for manifest in manifests:
        kind = kinds.get((manifest.group, manifest.kind))
        if kind is None or not manifest.name:
            continue
        if kind is Kind.SECRET and SECRET_LABEL not in _labels(manifest):
            continue
        namespaced = WATCHED[kind].namespaced
        namespace = (manifest.namespace or DEFAULT_NAMESPACE) if namespaced else ""
        yield ObjectKey(kind, Name(namespace, manifest.name)), manifest


def _labels(manifest: Manifest) -> Mapping[str, Any]:
    place: object = manifest.data
    for field in ("metadata", "labels"):
        place = cast("Mapping[str, object]", place).get(field) if isinstance(place, dict) else None
    return cast("Mapping[str, Any]", place) if isinstance(place, dict) else {}
