"""The Kubernetes API, in the few calls that the operator makes: paths and JSON, no models.

Every call raises KubeError.
"""

import base64
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from switchboard_operator.answers import NAMES, OBJECT, PAGE, Names, Object, Page
from switchboard_operator.errors import Forbidden, KubeError, NotFound
from switchboard_operator.resources import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    EVENTS,
    LAST_GOOD_LABEL,
    LEASES,
    MUTATING_WEBHOOKS,
    OURS,
    PODS,
    SECRETS,
    TOKEN_REVIEWS,
    WATCHED,
    WEBHOOKS,
    Kind,
    Listed,
    ObjectKey,
    Raw,
    Resource,
    part,
    parts,
)
from switchboard_operator.rest import JSON, Connection, Json, Rest, log_in
from switchboard_policy.compiler.world import Name
from switchboard_policy.names import API_VERSION

PAGE_OBJECTS: Final = 500
FIELD_MANAGER: Final = "switchboard-operator"
EPOCH_ANNOTATION: Final = "switchboard.dev/epoch"
MANAGED_BY: Final = {"app.kubernetes.io/managed-by": "switchboard"}
NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})

_MERGE: Final = "application/merge-patch+json"
_APPLY: Final = "application/apply-patch+yaml"
_STRATEGIC: Final = "application/strategic-merge-patch+json"
_METADATA_LIST: Final = f"{JSON};as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,{JSON}"


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A Lease; times as RFC 3339 with microseconds, ``version`` guards an update."""

    holder: str
    duration_s: int
    acquired: str
    renewed: str
    transitions: int
    epoch: int
    version: str = ""


@dataclass(frozen=True, slots=True)
class SecretRecord:
    """A Secret; ``version`` guards an update."""

    data: Mapping[str, bytes] = field(repr=False)
    annotations: Mapping[str, str]
    created: datetime
    uid: str
    version: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class WebhooksRecord:
    """A ValidatingWebhookConfiguration: its webhooks' caBundles (PEM); ``version`` as above."""

    bundles: Mapping[str, bytes]
    version: str


@dataclass(frozen=True, slots=True)
class LastGood:
    """A kept spec of an object whose newest edit is quarantined."""

    kind: str
    object_name: Name
    uid: str
    spec: Any


class Kube:
    """The calls."""

    def __init__(self, rest: Rest) -> None:
        self._call = rest.call
        self._rest = rest
        self._owner: tuple[Name, str] | None = None

    async def belong_to(self, config_map: Name) -> None:
        """Let a ConfigMap own what is made from now on in its namespace: that goes when it goes."""
        found = await self._call("GET", CONFIG_MAPS.path(*config_map))
        self._owner = config_map, found["metadata"]["uid"]

    def connection(self) -> Connection:
        """Return the credentials as they are now, for a client of another kind."""
        return self._rest.connection()

    async def close(self) -> None:
        """Drop the connections."""
        await self._rest.close()

    async def pages(self, resource: Resource, namespace: str = "") -> AsyncIterator[Sequence[Raw]]:
        """Yield all objects, a page at a time; all pages are of one moment.

        A namespace that is gone holds none.
        """
        query = {"limit": str(PAGE_OBJECTS), "labelSelector": resource.selector}
        while True:
            try:
                page: Page = await self._call(
                    "GET", resource.path(namespace), query=query, answer=PAGE
                )
            except Forbidden:
                if await self._is_gone(namespace):
                    return
                raise
            yield page.items or []
            query["continue"] = page.metadata.continued
            if not query["continue"]:
                return

    async def names(self, resource: Resource, namespace: str = "") -> tuple[list[Listed], int]:
        """Return every object's name, uid and version, and the version of the list.

        Served from the API server's cache: cheap, and at most a moment old. A namespace that is
        gone holds none, whatever was there before.
        """
        query = {"resourceVersion": "0", "labelSelector": resource.selector}
        try:
            answer: Names = await self._call(
                "GET", resource.path(namespace), query=query, accept=_METADATA_LIST, answer=NAMES
            )
        except Forbidden:
            if await self._is_gone(namespace):
                return [], sys.maxsize
            raise
        return answer.listed(), int(answer.metadata.version)

    async def get_namespace(self, name: str) -> Json | None:
        """Return one Namespace (a right that a Role of that namespace can give); None if gone."""
        return await self._get(WATCHED[Kind.NAMESPACE].path(name=name))

    async def replace_status(
        self, key: ObjectKey, *, uid: str, version: int, status: Json
    ) -> Object:
        """Replace the status of this very object; return it as it is then.

        Raises Conflict where it is of another version. A fifth cheaper for the API server than a
        patch. Under this path all but the status stays as it is there, so nothing else is sent.
        """
        namespace, name = key.name
        meta = {"namespace": namespace, "name": name, "uid": uid, "resourceVersion": str(version)}
        body = {"apiVersion": API_VERSION, "kind": str(key.kind), "metadata": meta}
        said = {field: value for field, value in status.items() if value is not None}
        path = WATCHED[key.kind].path(*key.name) + "/status"
        found: Object = await self._call("PUT", path, body=body | {"status": said}, answer=OBJECT)
        return found

    async def patch_status(self, key: ObjectKey, *, uid: str, status: Json) -> Object:
        """Merge into the status of this very object; return it as it is then.

        Raises Conflict where the name belongs to another object by now.
        """
        path = WATCHED[key.kind].path(*key.name) + "/status"
        body = {"metadata": {"uid": uid}, "status": status}
        found: Object = await self._call(
            "PATCH", path, body=body, content_type=_MERGE, answer=OBJECT
        )
        return found

    async def get_lease(self, name: Name) -> LeaseRecord | None:
        """Return the Lease; None if there is none yet."""
        found = await self._get(LEASES.path(*name))
        return None if found is None else _read_lease(found)

    async def create_lease(self, name: Name, record: LeaseRecord) -> LeaseRecord:
        """Create the Lease. Raises Conflict if another replica was faster."""
        path = LEASES.path(name.namespace)
        body = await self._owned_anew(_write_lease(name, record), name)
        return _read_lease(await self._call("POST", path, body=body))

    async def update_lease(self, name: Name, record: LeaseRecord) -> LeaseRecord:
        """Replace the Lease of ``record.version``. Raises Conflict if it changed since."""
        path = LEASES.path(*name)
        body = self._owned(_write_lease(name, record), name)
        return _read_lease(await self._call("PUT", path, body=body))

    async def get_secret(self, name: Name) -> SecretRecord | None:
        """Return a Secret; None if there is none."""
        found = await self._get(SECRETS.path(*name))
        return None if found is None else _read_secret(found)

    async def create_secret(
        self,
        name: Name,
        data: Mapping[str, bytes],
        *,
        type_: str = "Opaque",
        labels: Mapping[str, str] = NO_LABELS,
    ) -> None:
        """Create a Secret. Raises Conflict if there is one."""
        body: Json = _object("v1", "Secret", name)
        body |= {"type": type_, "data": _encode_data(data)}
        metadata: Json = body["metadata"]
        metadata["labels"] |= labels
        body = await self._owned_anew(body, name)
        await self._call("POST", SECRETS.path(name.namespace), body=body)

    async def patch_secret(
        self,
        name: Name,
        data: Mapping[str, bytes | None],
        *,
        version: str,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> SecretRecord:
        """Replace parts of a Secret's data (None: remove), and of its labels.

        Raises Conflict if it changed since.
        """
        metadata: Json = {"resourceVersion": version}
        if labels:
            metadata["labels"] = dict(labels)
        body: Json = {"metadata": metadata, "data": _encode_data(data)}
        body, path = self._owned(body, name), SECRETS.path(*name)
        return _read_secret(await self._call("PATCH", path, body=body, content_type=_MERGE))

    async def remove(self, resource: Resource, name: Name) -> None:
        """Delete an object, if it is there."""
        try:
            await self._call("DELETE", resource.path(*name))
        except NotFound:
            return

    async def any_pod(self, namespace: str, label: str) -> bool:
        """Say whether a namespace has a Pod with a label."""
        query = {"labelSelector": label, "limit": "1"}
        answer = await self._call("GET", PODS.path(namespace), query=query, accept=_METADATA_LIST)
        return bool(parts(answer, "items"))

    async def get_webhooks(self, name: str, *, mutating: bool = False) -> WebhooksRecord | None:
        """Return what a configuration of validating or mutating webhooks trusts; None if none."""
        resource = MUTATING_WEBHOOKS if mutating else WEBHOOKS
        found = await self._get(resource.path(name=name))
        return None if found is None else _read_webhooks(found)

    async def patch_webhooks(
        self, name: str, bundles: Mapping[str, bytes], *, version: str, mutating: bool = False
    ) -> None:
        """Replace the caBundle of webhooks, by name. Raises Conflict if it changed since."""
        webhooks = [
            {"name": webhook, "clientConfig": {"caBundle": base64.b64encode(bundle).decode()}}
            for webhook, bundle in bundles.items()
        ]
        body = {"metadata": {"resourceVersion": version}, "webhooks": webhooks}
        resource = MUTATING_WEBHOOKS if mutating else WEBHOOKS
        path = resource.path(name=name)
        await self._call("PATCH", path, body=body, content_type=_STRATEGIC)

    async def config_map(self, name: Name) -> Mapping[str, str] | None:
        """Return the data of a ConfigMap; None if there is none."""
        found = await self._get(CONFIG_MAPS.path(*name))
        return None if found is None else dict(part(found, "data"))

    async def apply_config_map(self, name: Name, data: Mapping[str, str]) -> str:
        """Create or update a ConfigMap; return its uid."""
        body = self._owned(_object("v1", "ConfigMap", name) | {"data": dict(data)}, name)
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        path = CONFIG_MAPS.path(*name)
        answer = await self._call("PATCH", path, query=query, body=body, content_type=_APPLY)
        uid: str = answer["metadata"]["uid"]
        return uid

    async def last_good(self, namespace: str = "") -> list[LastGood]:
        """Return the kept specs."""
        found: list[LastGood] = []
        async for items in self.pages(CONTROLLER_REVISIONS, namespace):
            for item in items:
                meta = item["metadata"]
                for owner in parts(meta, "ownerReferences")[:1]:
                    kind, name = (
                        meta["labels"][LAST_GOOD_LABEL],
                        Name(meta["namespace"], owner["name"]),
                    )
                    found.append(LastGood(kind, name, owner["uid"], item.get("data")))
        return found

    async def keep_last_good(self, key: ObjectKey, *, uid: str, generation: int, spec: Any) -> None:
        """Keep a spec in a ControllerRevision that the object owns, in place of an older one."""
        name = last_good_name(key, uid)
        owner = {"apiVersion": API_VERSION, "kind": str(key.kind), "name": key.name.name}
        body = _object("apps/v1", "ControllerRevision", name)
        body["metadata"]["labels"][LAST_GOOD_LABEL] = str(key.kind)
        body["metadata"]["ownerReferences"] = [owner | {"uid": uid}]
        body |= {"revision": generation, "data": spec}
        await self.drop_last_good(name)
        await self._call("POST", CONTROLLER_REVISIONS.path(name.namespace), body=body)

    async def drop_last_good(self, name: Name) -> None:
        """Delete a kept spec, if it is there."""
        try:
            await self._call("DELETE", CONTROLLER_REVISIONS.path(*name))
        except NotFound:
            return

    async def review_token(self, token: str, *, audience: str) -> str | None:
        """Return the user of a token that is good for an audience; None if it is not."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        found = part(await self._call("POST", TOKEN_REVIEWS.path(), body=body), "status")
        # Who vouches for a token and knows of no audience names none: it is not meant for us.
        if not found.get("authenticated") or audience not in (found.get("audiences") or ()):
            return None
        return str(part(found, "user").get("username", ""))

    async def pod_uid(self, name: Name) -> str | None:
        """Return a Pod's uid; None if it is gone."""
        found = await self._get(PODS.path(*name))
        return None if found is None else str(found["metadata"]["uid"])

    async def record_event(
        self,
        about: Name,
        *,
        uid: str,
        warning: bool,
        reason: str,
        message: str,
        at: str,
        kind: str = "ConfigMap",
    ) -> None:
        """Post an Event about a ConfigMap, a Secret or an object of ours; ``at`` is RFC 3339."""
        namespace = about.namespace
        api_version = API_VERSION if kind in OURS else "v1"
        involved = {"apiVersion": api_version, "kind": kind, "uid": uid}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{about.name}-", "namespace": namespace},
            "involvedObject": involved | {"namespace": namespace, "name": about.name},
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
        }
        await self._call("POST", EVENTS.path(namespace), body=event)

    def _owned(self, body: Json, name: Name) -> Json:
        """Say in an object's body who owns it, if that is in the same namespace."""
        if self._owner is not None and self._owner[0].namespace == name.namespace:
            config_map, uid = self._owner
            owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": config_map.name, "uid": uid}
            body["metadata"]["ownerReferences"] = [owner]
        return body

    async def _owned_anew(self, body: Json, name: Name) -> Json:
        """As ``_owned``, by the owner as it is now: one that was made again has another uid.

        What names a uid that is gone is deleted by Kubernetes: as it should be where the release
        is, and so one that is not found stays the owner.
        """
        if self._owner is not None:
            with suppress(KubeError):
                await self.belong_to(self._owner[0])
        return self._owned(body, name)

    async def _is_gone(self, namespace: str) -> bool:
        """Say whether a namespace was deleted: then its Role is gone too, and lists are refused."""
        try:
            return bool(namespace) and await self.get_namespace(namespace) is None
        except Forbidden:
            return False

    async def _get(self, path: str) -> Json | None:
        try:
            found: Json = await self._call("GET", path)
        except NotFound:
            return None
        return found


def connect(kubeconfig: str | None = None) -> Kube:
    """Log in as ``log_in`` does. Raises ApiAway naming what was tried."""
    return Kube(log_in(kubeconfig))


def decode_data(secret: Raw) -> dict[str, bytes]:
    """Return the data of a Secret as bytes."""
    return {key: base64.b64decode(text) for key, text in part(secret, "data").items()}


def _encode_data(data: Mapping[str, bytes | None]) -> dict[str, str | None]:
    return {
        key: None if value is None else base64.b64encode(value).decode()
        for key, value in data.items()
    }


def _read_webhooks(found: Json) -> WebhooksRecord:
    return WebhooksRecord(
        bundles={
            each["name"]: base64.b64decode(part(each, "clientConfig").get("caBundle") or "")
            for each in parts(found, "webhooks")
        },
        version=found["metadata"]["resourceVersion"],
    )


def _read_secret(found: Json) -> SecretRecord:
    meta = found["metadata"]
    return SecretRecord(
        data=decode_data(found),
        annotations=part(meta, "annotations"),
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        uid=meta["uid"],
        version=meta["resourceVersion"],
        labels=part(meta, "labels"),
    )


def last_good_name(key: ObjectKey, uid: str) -> Name:
    """Return the name of the ControllerRevision for the object of this uid."""
    return Name(key.name.namespace, f"{key.kind.lower()}-{uid}")


def _object(api_version: str, kind: str, name: Name) -> Json:
    metadata = {"namespace": name.namespace, "name": name.name, "labels": dict(MANAGED_BY)}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _write_lease(name: Name, record: LeaseRecord) -> Json:
    body = _object("coordination.k8s.io/v1", "Lease", name)
    body["metadata"]["annotations"] = {EPOCH_ANNOTATION: str(record.epoch)}
    if record.version:
        body["metadata"]["resourceVersion"] = record.version
    body["spec"] = {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.duration_s,
        "acquireTime": record.acquired,
        "renewTime": record.renewed,
        "leaseTransitions": record.transitions,
    }
    return body


def _read_lease(found: Json) -> LeaseRecord:
    spec, meta = part(found, "spec"), found["metadata"]
    epoch = str(part(meta, "annotations").get(EPOCH_ANNOTATION, "0"))
    return LeaseRecord(
        holder=spec.get("holderIdentity") or "",
        duration_s=spec.get("leaseDurationSeconds") or 0,
        acquired=spec.get("acquireTime") or "",
        renewed=spec.get("renewTime") or "",
        transitions=spec.get("leaseTransitions") or 0,
        epoch=int(epoch) if epoch.isdigit() else 0,
        version=meta["resourceVersion"],
    )
