"""The Kubernetes API, in the few calls that the operator makes: paths and JSON, no models.

Of the client library only the login is used: its calls are synchronous and take three times the
CPU, which counts when thousands of statuses are written. Errors:

KubeError
├─ ApiAway        no answer: the server is down, or the way to it is
└─ ApiRefused     an answer that says no (status, reason)
   ├─ NotFound
   ├─ Forbidden   names the right that is missing
   └─ Conflict    somebody else wrote first, or the object is another one by now
"""

import asyncio
import base64
import os
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, Literal
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes import client, config
from kubernetes.client.rest import should_bypass_proxies

from switchboard_operator.resources import (
    CONFIG_MAPS,
    CONTROLLER_REVISIONS,
    EVENTS,
    LAST_GOOD_LABEL,
    LEASES,
    PODS,
    SECRETS,
    WATCHED,
    Kind,
    Listed,
    ObjectKey,
    Raw,
    Resource,
    part,
    parts,
)
from switchboard_policy.compiler.world import Name
from switchboard_policy.names import API_VERSION

CONNECTIONS: Final = 8
"""Calls in flight at once: enough for 500 status patches a second, few enough to be polite."""
PAGE_OBJECTS: Final = 500
TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=30.0)
"""To connect, and to wait for an answer; no limit to how long a call waits for a connection."""
LOGIN_EVERY_S: Final = 5.0
"""Tokens age; whether there is a new one is asked this often at most."""
FIELD_MANAGER: Final = "switchboard-operator"
EPOCH_ANNOTATION: Final = "switchboard.dev/epoch"
MANAGED_BY: Final = {"app.kubernetes.io/managed-by": "switchboard"}

_JSON: Final = "application/json"
_MERGE: Final = "application/merge-patch+json"
_APPLY: Final = "application/apply-patch+yaml"
_METADATA_LIST: Final = f"{_JSON};as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,{_JSON}"

Json = dict[str, Any]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class KubeError(Exception):
    """The root of what a call raises."""


class ApiAway(KubeError):
    """No answer from the API server."""


class ApiRefused(KubeError):
    """The API server said no; ``status`` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class NotFound(ApiRefused):
    """No such object, or no such kind."""


class Forbidden(ApiRefused):
    """The operator's Role lacks a right; the text names it."""


class Conflict(ApiRefused):
    """The object changed since it was read, exists already, or has another uid."""


_REFUSALS: Final[Mapping[int, type[ApiRefused]]] = {403: Forbidden, 404: NotFound, 409: Conflict}


@dataclass(frozen=True, slots=True)
class Connection:
    """What another client needs to talk to the same server as the same user."""

    server: str
    ca_path: str | None
    verify: bool
    authorization: str | None
    certificate_path: str | None
    key_path: str | None


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


@dataclass(frozen=True, slots=True)
class LastGood:
    """A kept spec of an object whose newest edit is quarantined."""

    kind: str
    object_name: Name
    uid: str
    spec: Any


class Kube:
    """The API server as the user of the configuration."""

    def __init__(self, configuration: client.Configuration) -> None:
        self._configuration = configuration
        direct = should_bypass_proxies(configuration.host, configuration.no_proxy or "")
        self._proxy: str | None = None if direct else configuration.proxy
        self._session: aiohttp.ClientSession | None = None
        self._login: tuple[float, str | None] = (float("-inf"), None)

    def connection(self) -> Connection:
        """Return the credentials as they are now (tokens are renewed when they age)."""
        known = self._configuration
        return Connection(
            server=known.host,
            ca_path=known.ssl_ca_cert,
            verify=known.verify_ssl,
            authorization=self._authorization(),
            certificate_path=known.cert_file,
            key_path=known.key_file,
        )

    async def close(self) -> None:
        """Drop the connections."""
        if self._session is not None:
            await self._session.close()

    async def pages(self, resource: Resource, namespace: str = "") -> AsyncIterator[list[Json]]:
        """Yield all objects, a page at a time; all pages are of one moment."""
        query = {"limit": str(PAGE_OBJECTS), "labelSelector": resource.selector}
        while True:
            page = await self._call("GET", resource.path(namespace), query=query)
            items: list[Json] | None = page.get("items")
            yield items or []
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return

    async def names(self, resource: Resource, namespace: str = "") -> tuple[list[Listed], int]:
        """Return every object's name, uid and version, and the version of the list.

        Served from the API server's cache: cheap, and at most a moment old.
        """
        query = {"resourceVersion": "0", "labelSelector": resource.selector}
        answer = await self._call(
            "GET", resource.path(namespace), query=query, accept=_METADATA_LIST
        )
        found: list[Listed] = []
        for item in parts(answer, "items"):
            meta = item["metadata"]
            name = Name(meta.get("namespace", ""), meta["name"])
            found.append(Listed(name, meta["uid"], int(meta["resourceVersion"])))
        return found, int(answer["metadata"]["resourceVersion"])

    async def get_namespace(self, name: str) -> Json | None:
        """Return one Namespace (a right that a Role of that namespace can give); None if gone."""
        return await self._get(WATCHED[Kind.NAMESPACE].path(name=name))

    async def patch_status(self, key: ObjectKey, *, uid: str, status: Json) -> Json:
        """Merge into the status of this very object; return it as it is then.

        Raises Conflict where the name belongs to another object by now.
        """
        path = WATCHED[key.kind].path(*key.name) + "/status"
        body = {"metadata": {"uid": uid}, "status": status}
        return await self._call("PATCH", path, body=body, content_type=_MERGE)

    async def get_lease(self, name: Name) -> LeaseRecord | None:
        """Return the Lease; None if there is none yet."""
        found = await self._get(LEASES.path(*name))
        return None if found is None else _read_lease(found)

    async def create_lease(self, name: Name, record: LeaseRecord) -> LeaseRecord:
        """Create the Lease. Raises Conflict if another replica was faster."""
        path = LEASES.path(name.namespace)
        return _read_lease(await self._call("POST", path, body=_write_lease(name, record)))

    async def update_lease(self, name: Name, record: LeaseRecord) -> LeaseRecord:
        """Replace the Lease of ``record.version``. Raises Conflict if it changed since."""
        path = LEASES.path(*name)
        return _read_lease(await self._call("PUT", path, body=_write_lease(name, record)))

    async def get_secret(self, name: Name) -> SecretRecord | None:
        """Return a Secret; None if there is none."""
        found = await self._get(SECRETS.path(*name))
        return None if found is None else _read_secret(found)

    async def create_secret(self, name: Name, data: Mapping[str, bytes]) -> None:
        """Create a Secret. Raises Conflict if there is one."""
        body = _object("v1", "Secret", name) | {"type": "Opaque", "data": _encode_data(data)}
        await self._call("POST", SECRETS.path(name.namespace), body=body)

    async def patch_secret(
        self, name: Name, data: Mapping[str, bytes], *, version: str
    ) -> SecretRecord:
        """Replace parts of a Secret's data. Raises Conflict if it is of another version."""
        body = {"metadata": {"resourceVersion": version}, "data": _encode_data(data)}
        path = SECRETS.path(*name)
        return _read_secret(await self._call("PATCH", path, body=body, content_type=_MERGE))

    async def apply_config_map(self, name: Name, data: Mapping[str, str]) -> str:
        """Create or update a ConfigMap; return its uid."""
        body = _object("v1", "ConfigMap", name) | {"data": dict(data)}
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
        """Post an Event about a ConfigMap or a Secret; ``at`` is RFC 3339."""
        namespace = about.namespace
        involved = {"apiVersion": "v1", "kind": kind, "uid": uid}
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
        }
        await self._call("POST", EVENTS.path(namespace), body=event)

    async def _get(self, path: str) -> Json | None:
        try:
            return await self._call("GET", path)
        except NotFound:
            return None

    async def _call(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> Json:
        known = self._configuration
        said = {key: value for key, value in (query or {}).items() if value}
        url = f"{known.host}{path}" + (f"?{urlencode(said)}" if said else "")
        headers = {"Accept": accept, "Content-Type": content_type}
        if authorization := await self._current_authorization():
            headers["Authorization"] = authorization
        try:
            async with self._connected().request(
                method,
                url,
                headers=headers,
                data=None if body is None else msgspec.json.encode(body),
                proxy=self._proxy,
                server_hostname=known.tls_server_name,
                allow_redirects=False,
            ) as answer:
                raw = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            raise ApiAway(f"{method} {url}: {error}") from error
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            refusal = _REFUSALS.get(answer.status, ApiRefused)
            raise refusal(answer.status, f"{method} {url}: {_message(raw)}")
        return msgspec.json.decode(raw, type=dict[str, Any])

    def _connected(self) -> aiohttp.ClientSession:
        """Return the session of the running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=_tls(self._configuration), limit=CONNECTIONS),
                # A large list would be packed: seconds of the API server's CPU for a near network.
                headers={"User-Agent": FIELD_MANAGER, "Accept-Encoding": "identity"},
                timeout=TIMEOUT,
            )
        return self._session

    async def _current_authorization(self) -> str | None:
        asked_at, authorization = self._login
        if time.monotonic() - asked_at >= LOGIN_EVERY_S:
            # On a thread: a kubeconfig may name a program that is run for a new token.
            authorization = await asyncio.to_thread(self._authorization)
            self._login = (time.monotonic(), authorization)
        return authorization

    def _authorization(self) -> str | None:
        known = self._configuration
        if known.username:
            basic: str | None = known.get_basic_auth_token()
            return basic
        token: str | None = known.get_api_key_with_prefix("BearerToken")
        return token


def connect(kubeconfig: str | None = None) -> Kube:
    """Log in: the given file, else $KUBECONFIG, else the pod's ServiceAccount, else ~/.kube/config.

    Raises ApiAway naming what was tried.
    """
    # The loaders are not typed.
    load: Any = config
    found = client.Configuration()
    try:
        if kubeconfig or os.environ.get("KUBECONFIG"):
            load.load_kube_config(kubeconfig, client_configuration=found)
        else:
            try:
                load.load_incluster_config(client_configuration=found)
            except config.ConfigException:
                load.load_kube_config(client_configuration=found)
    except (config.ConfigException, OSError) as error:
        raise ApiAway(
            f"no way to log in to Kubernetes ({error}); run in a pod with a ServiceAccount, or "
            "name a kubeconfig file with --kubeconfig"
        ) from error
    return Kube(found)


def decode_data(secret: Raw) -> dict[str, bytes]:
    """Return the data of a Secret as bytes."""
    return {key: base64.b64decode(text) for key, text in part(secret, "data").items()}


def _encode_data(data: Mapping[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(value).decode() for key, value in data.items()}


def _read_secret(found: Json) -> SecretRecord:
    meta = found["metadata"]
    return SecretRecord(
        data=decode_data(found),
        annotations=part(meta, "annotations"),
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        uid=meta["uid"],
        version=meta["resourceVersion"],
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


def _tls(known: client.Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=known.ssl_ca_cert)
    if not known.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if known.cert_file:
        context.load_cert_chain(known.cert_file, known.key_file)
    return context


def _message(raw: bytes) -> str:
    try:
        return str(msgspec.json.decode(raw, type=dict[str, Any]).get("message", ""))
    except msgspec.MsgspecError:
        return raw[:200].decode(errors="replace")
