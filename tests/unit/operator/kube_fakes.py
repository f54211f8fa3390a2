"""The API server in memory, as far as the operator's parts call it."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from switchboard_operator.errors import ApiAway, Conflict, KubeError, NotFound
from switchboard_operator.inventory import Inventory
from switchboard_operator.kube import LastGood, LeaseRecord, SecretRecord, last_good_name
from switchboard_operator.resources import WATCHED, Kind, Listed, ObjectKey, Resource
from switchboard_policy.compiler.world import Name

Json = dict[str, Any]
EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(slots=True)
class HeldSecret:
    """A Secret; who changes it raises the version."""

    data: dict[str, bytes]
    annotations: dict[str, str] = field(default_factory=dict)
    created: datetime = EPOCH
    version: int = 1


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
        self.config_maps: dict[Name, dict[str, str]] = {}
        self.events: list[tuple[str, str]] = []
        self.trouble: KubeError | None = None

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

    async def create_secret(self, name: Name, data: Mapping[str, bytes]) -> None:
        self._check()
        if name in self.secrets:
            raise Conflict(409, "there is one")
        self.secrets[name] = HeldSecret(dict(data))

    async def patch_secret(
        self, name: Name, data: Mapping[str, bytes], *, version: str
    ) -> SecretRecord:
        self._check()
        held = self.secrets[name]
        if version != str(held.version):
            raise Conflict(409, "it changed")
        held.data |= data
        held.version += 1
        return self._record(name, held)

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
        self.events.append((reason, message))

    async def pages(self, resource: Resource, namespace: str = "") -> AsyncIterator[list[Json]]:
        self._check()
        found = self._of(resource)
        yield [each for name, each in found.items() if namespace in ("", name.namespace)]

    async def names(self, resource: Resource, namespace: str = "") -> tuple[list[Listed], int]:
        self._check()
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
