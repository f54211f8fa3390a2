"""The API server in memory, as far as the operator's parts call it."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from switchboard_operator.errors import ApiAway, Conflict, KubeError, NotFound
from switchboard_operator.inventory import Inventory
from switchboard_operator.kube import (
    NO_LABELS,
    LastGood,
    LeaseRecord,
    SecretRecord,
    WebhooksRecord,
    last_good_name,
)
from switchboard_operator.resources import (
    OURS,
    SIDECAR_SECRETS,
    WATCHED,
    Kind,
    Listed,
    ObjectKey,
    Resource,
)
from switchboard_policy.compiler.world import Name
from switchboard_policy.names import SIDECAR_LABEL

Json = dict[str, Any]
EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(slots=True)
class HeldSecret:
    """A Secret; who changes it raises the version."""

    data: dict[str, bytes]
    annotations: dict[str, str] = field(default_factory=dict)
    created: datetime = EPOCH
    version: int = 1
    type: str = "Opaque"
    labels: dict[str, str] = field(default_factory=dict)


class Cluster:
    """Objects by kind and name, with uids and versions as the API server gives them.

    ``trouble`` is raised by every call while it is set.
    """

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[Kind, dict[Name, Json]] = {kind: {} for kind in Kind}
        self.patches: list[tuple[ObjectKey, Json]] = []
        self.replaced: list[ObjectKey] = []
        self.lease: LeaseRecord | None = None
        self.secrets: dict[Name, HeldSecret] = {}
        self.kept: dict[Name, LastGood] = {}
        self.pods: dict[Name, str] = {}
        self.labelled_pods: set[tuple[str, str]] = set()
        self.config_maps: dict[Name, dict[str, str]] = {}
        self.events: list[tuple[str, str]] = []
        self.object_events: list[tuple[str, str, str]] = []
        self.trouble: KubeError | None = None
        self.webhooks: dict[str, dict[str, bytes]] = {}
        self.mutating_webhooks: dict[str, dict[str, bytes]] = {}
        self.webhooks_version = 1
        self.mutating_version = 1
        self.webhooks_trouble: KubeError | None = None
        self.webhooks_hidden: KubeError | None = None

    def put(self, kind: Kind, manifest: Mapping[str, Any], *, uid: str = "") -> Json:
        """Create or edit an object; return it as a watch would show it."""
        self.version += 1
        meta = manifest["metadata"]
        name = Name("" if kind is Kind.NAMESPACE else meta.get("namespace", "ai"), meta["name"])
        before = self.objects[kind].get(name)
        uid = uid or (before["metadata"]["uid"] if before else f"{kind}-{name.name}-1")
        edited = before is None or before.get("spec") != manifest.get("spec")
        generation = (before["metadata"]["generation"] if before else 0) + edited
        metadata = {
            **meta,
            **({"namespace": name.namespace} if name.namespace else {}),
            "uid": uid,
            "resourceVersion": str(self.version),
            "generation": generation,
        }
        status = {"status": before["status"]} if before and "status" in before else {}
        self.objects[kind][name] = {**manifest, **status, "metadata": metadata}
        return self.objects[kind][name]

    def delete(self, kind: Kind, name: Name) -> Json:
        """Delete an object; return its last form, at the version of the deletion."""
        self.version += 1
        gone = self.objects[kind].pop(name)
        return {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}

    def fill(self, inventory: Inventory) -> None:
        """Show everything to an inventory."""
        for kind in WATCHED:
            for each in self.objects[kind].values():
                inventory.take(kind, each)

    async def replace_status(self, key: ObjectKey, *, uid: str, version: int, status: Json) -> Json:
        self._check()
        found = self.objects[key.kind].get(key.name)
        if found is not None and found["metadata"]["resourceVersion"] != str(version):
            raise Conflict(409, "it changed")
        now_is = await self.patch_status(key, uid=uid, status=status)
        self.replaced.append(key)
        return now_is

    async def patch_status(self, key: ObjectKey, *, uid: str, status: Json) -> Json:
        self._check()
        found = self.objects[key.kind].get(key.name)
        if found is None:
            raise NotFound(404, str(key))
        if found["metadata"]["uid"] != uid:
            raise Conflict(409, "the UID differs")
        self.version += 1
        self.patches.append((key, status))
        merged = {**found.get("status", {}), **status}
        found = {
            **found,
            "status": {name: value for name, value in merged.items() if value is not None},
            "metadata": {**found["metadata"], "resourceVersion": str(self.version)},
        }
        self.objects[key.kind][key.name] = found
        return found

    async def get_lease(self, name: Name) -> LeaseRecord | None:
        self._check()
        return self.lease

    async def create_lease(self, name: Name, record: LeaseRecord) -> LeaseRecord:
        self._check()
        if self.lease is not None:
            raise Conflict(409, "there is one")
        return self._write_lease(record)

    async def update_lease(self, name: Name, record: LeaseRecord) -> LeaseRecord:
        self._check()
        if self.lease is None or self.lease.version != record.version:
            raise Conflict(409, "it changed")
        return self._write_lease(record)

    async def get_secret(self, name: Name) -> SecretRecord | None:
        self._check()
        held = self.secrets.get(name)
        return None if held is None else self._record(name, held)

    async def create_secret(
        self,
        name: Name,
        data: Mapping[str, bytes],
        *,
        type_: str = "Opaque",
        labels: Mapping[str, str] = NO_LABELS,
    ) -> None:
        self._check()
        if name in self.secrets:
            raise Conflict(409, "there is one")
        self.secrets[name] = HeldSecret(dict(data), type=type_, labels=dict(labels))

    async def patch_secret(
        self,
        name: Name,
        data: Mapping[str, bytes | None],
        *,
        version: str,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> SecretRecord:
        self._check()
        held = self.secrets[name]
        if version != str(held.version):
            raise Conflict(409, "it changed")
        merged = {**held.data, **data}
        held.data = {key: value for key, value in merged.items() if value is not None}
        held.labels |= labels
        held.version += 1
        return self._record(name, held)

    async def get_webhooks(self, name: str, *, mutating: bool = False) -> WebhooksRecord | None:
        self._check()
        if self.webhooks_hidden is not None:
            raise self.webhooks_hidden
        held = (self.mutating_webhooks if mutating else self.webhooks).get(name)
        version = self.mutating_version if mutating else self.webhooks_version
        return None if held is None else WebhooksRecord(dict(held), str(version))

    async def patch_webhooks(
        self, name: str, bundles: Mapping[str, bytes], *, version: str, mutating: bool = False
    ) -> None:
        self._check()
        if self.webhooks_trouble is not None:
            raise self.webhooks_trouble
        if version != str(self.mutating_version if mutating else self.webhooks_version):
            raise Conflict(409, "it changed")
        (self.mutating_webhooks if mutating else self.webhooks)[name] |= bundles
        self.mutating_version += mutating
        self.webhooks_version += not mutating

    async def last_good(self, namespace: str = "") -> list[LastGood]:
        self._check()
        return list(self.kept.values())

    async def keep_last_good(self, key: ObjectKey, *, uid: str, generation: int, spec: Any) -> None:
        self._check()
        self.kept[last_good_name(key, uid)] = LastGood(str(key.kind), key.name, uid, spec)

    async def drop_last_good(self, name: Name) -> None:
        self._check()
        self.kept.pop(name, None)

    async def pod_uid(self, name: Name) -> str | None:
        self._check()
        return self.pods.get(name)

    async def config_map(self, name: Name) -> Mapping[str, str] | None:
        self._check()
        return self.config_maps.get(name)

    async def apply_config_map(self, name: Name, data: Mapping[str, str]) -> str:
        self._check()
        self.config_maps[name] = dict(data)
        return "uid"

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
        self._check()
        if kind in OURS:
            self.object_events.append((about.name, reason, message))
        else:
            self.events.append((reason, message))

    async def pages(self, resource: Resource, namespace: str = "") -> AsyncIterator[list[Json]]:
        self._check()
        found = self._of(resource)
        yield [each for name, each in found.items() if namespace in ("", name.namespace)]

    async def any_pod(self, namespace: str, label: str) -> bool:
        self._check()
        return (namespace, label) in self.labelled_pods

    async def remove(self, resource: Resource, name: Name) -> None:
        self._check()
        held: dict[str, dict[Name, Any]] = {
            "secrets": self.secrets,
            "configmaps": self.config_maps,
        }
        held[resource.plural].pop(name, None)

    async def names(self, resource: Resource, namespace: str = "") -> tuple[list[Listed], int]:
        self._check()
        if resource == SIDECAR_SECRETS:
            labelled = [name for name, each in self.secrets.items() if SIDECAR_LABEL in each.labels]
            return [Listed(name, "uid", 1) for name in labelled], self.version
        found = [
            Listed(name, each["metadata"]["uid"], int(each["metadata"]["resourceVersion"]))
            for name, each in self._of(resource).items()
            if namespace in ("", name.namespace)
        ]
        return found, self.version

    async def get_namespace(self, name: str) -> Json | None:
        self._check()
        return self.objects[Kind.NAMESPACE].get(Name("", name))

    @staticmethod
    def _record(name: Name, held: HeldSecret) -> SecretRecord:
        return SecretRecord(
            data=dict(held.data),
            annotations=dict(held.annotations),
            created=held.created,
            uid=f"uid of {name}",
            version=str(held.version),
            labels=dict(held.labels),
        )

    def _of(self, resource: Resource) -> dict[Name, Json]:
        return next(self.objects[kind] for kind, each in WATCHED.items() if each == resource)

    def _write_lease(self, record: LeaseRecord) -> LeaseRecord:
        self.version += 1
        self.lease = replace(record, version=str(self.version))
        return self.lease

    def _check(self) -> None:
        if self.trouble is not None:
            raise self.trouble


AWAY = ApiAway("nobody answers")
