"""The sidecar of a pod: what the webhook adds to it, as a JSON Patch. Pure.

Nothing of the pod changes but what is added, and a pod that has it gets nothing twice: the API
server may ask again after other webhooks, which may have added containers.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from switchboard_operator.resources import Raw, part, parts
from switchboard_operator.sidecar_login import AUTHORITIES_KEY, MOUNTED_AT, URL_KEY
from switchboard_policy.names import (
    GROUP,
    INJECT_LABEL,
    INJECTED_LABEL,
    LABELLED,
    SIDECAR_SECRET,
    namespace_scope,
)

CONTAINER: Final = "switchboard-sidecar"
BASE_URL: Final = "OPENAI_BASE_URL"
LOOPBACK: Final = "127.0.0.1"
PORT: Final = 11080
ADMIN_PORT: Final = 11090
TOKEN_FOLDER: Final = "/var/run/secrets/switchboard"  # noqa: S105 - a folder
TOKEN_SECONDS: Final = 3_600
STATE_FOLDER: Final = "/var/lib/switchboard"
COMMAND: Final = ("/opt/dataplane/bin/python", "-m", "switchboard_dataplane")
"""What the image runs: probes run it, too."""
DRAIN_S: Final = 10
"""It is told to stop when the application has ended: then there is little to wait for."""
BODIES_BYTES: Final = 64 * 1024 * 1024
READY_WITHIN_S: Final = 300
MIRROR: Final = "kubernetes.io/config.mirror"

_ANNOTATION: Final = f"{GROUP}/"
_RESOURCES: Final[Mapping[str, tuple[str, str]]] = {
    "sidecar-cpu": ("requests", "cpu"),
    "sidecar-memory": ("requests", "memory"),
    "sidecar-cpu-limit": ("limits", "cpu"),
    "sidecar-memory-limit": ("limits", "memory"),
}
_QUANTITY: Final = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi)?")
_PORTS: Final = range(1, 65_536)
_LOG_LEVELS: Final = ("debug", "info", "warning", "error")

Json = dict[str, Any]


class Unfit(Exception):
    """A pod that cannot have a sidecar; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What the administrator says of all sidecars; the maps are as in a container."""

    image: str
    pull_policy: str
    audience: str
    flags: Sequence[str] = ()
    resources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    security_context: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a pod's annotations say; ``containers`` None is all."""

    port: int
    admin_port: int
    resources: Mapping[str, Mapping[str, Any]]
    log_level: str
    containers: frozenset[str] | None


def opts_out(pod: Raw) -> bool:
    """Say whether a pod wants no sidecar: by its label, or by an annotation of that name.

    What shows a pod that a kubelet runs from a file cannot be changed, and may name no Secrets.
    """
    meta = part(pod, "metadata")
    return MIRROR in part(meta, "annotations") or "false" in (
        part(meta, "labels").get(INJECT_LABEL),
        part(meta, "annotations").get(INJECT_LABEL),
    )


def patch(pod: Raw, namespace: str, sidecar: Sidecar) -> list[Json]:
    """Return the operations that give a pod its sidecar; none where it has it. Raises Unfit."""
    spec = part(pod, "spec")
    wish = _read_wish(pod, sidecar)
    if spec.get("hostNetwork"):
        raise Unfit(
            "the pod has hostNetwork: its loopback is the node's, where everybody could use the "
            f"sidecar; do without hostNetwork, or opt out with the label {INJECT_LABEL}: "
            '"false" and call the gateway'
        )
    operations: list[Json] = []
    if not _has_sidecar(pod):
        _check_names(spec)
        _check_ports(spec, wish)
        made = _container(namespace, sidecar, wish)
        operations += _extend(spec, "/spec", "volumes", _volumes(sidecar))
        # First of all: it runs before other containers that prepare the application start.
        operations += _extend(spec, "/spec", "initContainers", [made], first=True)
        operations += _label(part(pod, "metadata"))
    operations += _tell_containers(spec, wish)
    return operations


def _has_sidecar(pod: Raw) -> bool:
    # A container of the name alone is the application's.
    return part(part(pod, "metadata"), "labels").get(INJECTED_LABEL) == LABELLED and any(
        each.get("name") == CONTAINER for each in parts(part(pod, "spec"), "initContainers")
    )


def _read_wish(pod: Raw, sidecar: Sidecar) -> _Wish:
    said = {
        name.removeprefix(_ANNOTATION): value
        for name, value in part(part(pod, "metadata"), "annotations").items()
        if name.startswith(_ANNOTATION)
    }
    port, admin_port = (
        _port(said, name, default) for name, default in (("port", PORT), ("admin-port", ADMIN_PORT))
    )
    if port == admin_port:
        raise Unfit(f"annotation {_ANNOTATION}admin-port: {admin_port} is the other port, too")
    resources: dict[str, Json] = {
        kind: dict(amounts) for kind, amounts in sidecar.resources.items()
    }
    for name, (kind, of) in _RESOURCES.items():
        if name in said:
            if not _QUANTITY.fullmatch(said[name]):
                raise Unfit(f"annotation {_ANNOTATION}{name}: {said[name]!r} is no quantity")
            resources.setdefault(kind, {})[of] = said[name]
    level = said.get("sidecar-log-level", "info")
    if level not in _LOG_LEVELS:
        raise Unfit(
            f"annotation {_ANNOTATION}sidecar-log-level: {level!r} is none of "
            f"{', '.join(_LOG_LEVELS)}"
        )
    return _Wish(port, admin_port, resources, level, _containers(pod, said.get("containers")))


def _port(said: Mapping[str, str], name: str, default: int) -> int:
    text = said.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and int(text) in _PORTS):
        raise Unfit(f"annotation {_ANNOTATION}{name}: {text!r} is no port")
    return int(text)


def _containers(pod: Raw, said: str | None) -> frozenset[str] | None:
    if said is None:
        return None
    names = frozenset(name.strip() for name in said.split(",") if name.strip())
    there = {each.get("name") for _, _, each in _every(part(pod, "spec"))}
    if strange := sorted(names - there):
        raise Unfit(
            f"annotation {_ANNOTATION}containers: the pod has no container {', '.join(strange)}"
        )
    return names


def _check_names(spec: Raw) -> None:
    kinds = ("initContainers", "containers", "volumes")
    taken = {each.get("name") for kind in kinds for each in parts(spec, kind)}
    ours = {CONTAINER, *(name for name, _ in _mounts())}
    if both := sorted(str(name) for name in taken & ours):
        raise Unfit(f"the pod has a container or volume {', '.join(both)}: give it another name")


def _check_ports(spec: Raw, wish: _Wish) -> None:
    """The containers of a pod share the loopback: of two that listen at a port one would fail."""
    ours = {wish.port: "port", wish.admin_port: "admin-port"}
    for _, _, each in _every(spec):
        for said in parts(each, "ports"):
            number = said.get("containerPort")
            if number in ours and said.get("protocol", "TCP") == "TCP":
                raise Unfit(
                    f"container {each.get('name')} listens at {number}: say another port for the "
                    f"sidecar with the annotation {_ANNOTATION}{ours[number]}"
                )


def _mounts() -> Sequence[tuple[str, str]]:
    return (
        ("switchboard-scope", MOUNTED_AT),
        ("switchboard-token", TOKEN_FOLDER),
        ("switchboard-state", STATE_FOLDER),
        ("switchboard-tmp", "/tmp"),  # noqa: S108 - a volume of its own
    )


def _container(namespace: str, sidecar: Sidecar, wish: _Wish) -> Json:
    admin = f"{LOOPBACK}:{wish.admin_port}"
    made: Json = {
        "name": CONTAINER,
        "image": sidecar.image,
        "imagePullPolicy": sidecar.pull_policy,
        # A native sidecar: it starts before the application, and stops after it.
        "restartPolicy": "Always",
        "args": [
            f"--scope={namespace_scope(namespace)}",
            f"--scope-key-file={MOUNTED_AT}/scope-key.json",
            # In a file the login may change while it runs; in a variable it could not.
            f"--redis-url-file={MOUNTED_AT}/{URL_KEY}",
            f"--state-dir={STATE_FOLDER}",
            f"--listen={LOOPBACK}:{wish.port}",
            f"--admin={admin}",
            "--access=pod",
            f"--gateway-token-file={TOKEN_FOLDER}/token",
            "--grace-s=0",
            f"--drain-s={DRAIN_S}",
            f"--bodies-limit-bytes={BODIES_BYTES}",
            f"--log-level={wish.log_level}",
            *sidecar.flags,
        ],
        "env": list(_env_of_pod()),
        "startupProbe": _probe(admin, "/readyz", every_s=1, failures=READY_WITHIN_S),
        "livenessProbe": _probe(admin, "/livez", every_s=10, failures=3),
        "resources": wish.resources,
        "volumeMounts": [
            {"name": name, "mountPath": path}
            | ({"readOnly": True} if path in (MOUNTED_AT, TOKEN_FOLDER) else {})
            for name, path in _mounts()
        ],
    }
    if sidecar.security_context:
        made["securityContext"] = sidecar.security_context
    return made


def _env_of_pod() -> Iterator[Json]:
    for name, path in (
        ("POD_NAME", "metadata.name"),
        ("POD_NAMESPACE", "metadata.namespace"),
        ("POD_UID", "metadata.uid"),
        ("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        ("ZONE", "metadata.labels['topology.kubernetes.io/zone']"),
    ):
        yield {"name": f"SWITCHBOARD_{name}", "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _probe(admin: str, path: str, *, every_s: int, failures: int) -> Json:
    # From within: nobody but the pod reaches its loopback.
    return {
        "exec": {"command": [*COMMAND, "probe", f"--admin={admin}", path]},
        "periodSeconds": every_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _volumes(sidecar: Sidecar) -> list[Json]:
    # Readable by all users: who mounts them is the sidecar alone, and its user may be any.
    token = {"path": "token", "audience": sidecar.audience, "expirationSeconds": TOKEN_SECONDS}
    *items, authority = (
        {"key": key, "path": key} for key in ("scope-key.json", URL_KEY, AUTHORITIES_KEY)
    )
    secret = {"name": SIDECAR_SECRET, "items": items}
    authorities = {"name": SIDECAR_SECRET, "items": [authority], "optional": True}
    return [
        {
            "name": "switchboard-scope",
            "projected": {
                "defaultMode": 0o444,
                "sources": [{"secret": secret}, {"secret": authorities}],
            },
        },
        {
            "name": "switchboard-token",
            "projected": {"defaultMode": 0o444, "sources": [{"serviceAccountToken": token}]},
        },
        {"name": "switchboard-state", "emptyDir": {}},
        {"name": "switchboard-tmp", "emptyDir": {}},
    ]


def _label(meta: Raw) -> list[Json]:
    if not part(meta, "labels"):
        return [_add("/metadata/labels", {INJECTED_LABEL: LABELLED})]
    return [_add(f"/metadata/labels/{_escaped(INJECTED_LABEL)}", LABELLED)]


def _tell_containers(spec: Raw, wish: _Wish) -> Iterator[Json]:
    """Yield what tells the application's containers of the sidecar."""
    variable = {"name": BASE_URL, "value": f"http://{LOOPBACK}:{wish.port}/v1"}
    shift = 0 if any(each.get("name") == CONTAINER for each in parts(spec, "initContainers")) else 1
    for kind, number, each in _every(spec):
        chosen = (
            kind == "containers" if wish.containers is None else each["name"] in wish.containers
        )
        if not chosen or any(one.get("name") == BASE_URL for one in parts(each, "env")):
            continue
        at = number + (shift if kind == "initContainers" else 0)
        yield from _extend(each, f"/spec/{kind}/{at}", "env", [variable])


def _every(spec: Raw) -> Iterator[tuple[str, int, Raw]]:
    """Yield the containers but for the sidecar: of which list, their place in it, and each."""
    for kind in ("initContainers", "containers"):
        for number, each in enumerate(parts(spec, kind)):
            if each.get("name") != CONTAINER:
                yield kind, number, each


def _extend(
    of: Raw, path: str, name: str, items: Sequence[Json], *, first: bool = False
) -> list[Json]:
    """Return operations that add items to a list, which may not be there."""
    if not parts(of, name):
        return [_add(f"{path}/{name}", list(items))]
    place = "0" if first else "-"
    return [_add(f"{path}/{name}/{place}", item) for item in items]


def _add(path: str, value: object) -> Json:
    return {"op": "add", "path": path, "value": value}


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
