"""An operator with exactly the rights of the chart, on a real API server and a real Redis."""

import base64
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis
import yaml

from cluster.control_plane import SERVICE_ACCOUNT, ControlPlane
from cluster.line import STEADY_LEASE, WAIT_S, Running, eventually
from cluster.processes import ChildProcess, free_port
from cluster.redis_server import RedisServer

CHARTS = Path(__file__).parents[1] / "golden" / "chart"
RIGHTS = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
RELEASE_NAMESPACE = "switchboard"
GROUP = "switchboard.dev"

Json = dict[str, Any]


def chart_rights(case: str, namespaces: Mapping[str, str]) -> Iterator[Json]:
    """Yield what the rendered chart says of rights, in other namespaces."""
    text = (CHARTS / f"{case}.yaml").read_text()
    for before, after in namespaces.items():
        text = text.replace(f"namespace: {before}\n", f"namespace: {after}\n")
        text = text.replace(f"namespace: {before}}}", f"namespace: {after}}}")
        text = text.replace(f'"{before}"', f'"{after}"')
        text = re.sub(rf"(switchboard-operator\S*)-{before}(?=[\n\]])", rf"\1-{after}", text)
    for found in yaml.safe_load_all(text):
        if found and found["kind"] in RIGHTS:
            yield found


class OperatorBench:
    """One gateway's control plane: a namespace of the operator's own, and one for objects.

    The processes are ``forked``, or executed as in a cluster.
    """

    def __init__(
        self, folder: Path, plane: ControlPlane, store: RedisServer, *, forked: bool = True
    ) -> None:
        self.folder, self.plane, self.redis = folder, plane, store
        self._stack = ExitStack()
        self._forked = forked
        self._started = 0
        label = {"bench": folder.name.replace("_", "-").strip("-")[:40]}
        self.system = plane.create_namespace("system")
        self.namespace = plane.create_namespace("bench", labels=label)
        self.watched: list[str] = []
        self.more: Json = {}
        """What else the configuration of a replica that is started next says."""
        self.lease: Json = STEADY_LEASE
        """The terms of its Lease; without any they are the product's own."""
        self.gateway: Json = {"name": "default", "admit": "Selector", "selector": label}
        self.user = f"{SERVICE_ACCOUNT}{self.system}:switchboard-operator"
        self._grant("cluster-wide", {RELEASE_NAMESPACE: self.system})
        self.await_right("list", f"modelbackends.{GROUP}")
        self.await_right("create", "leases.coordination.k8s.io", namespace=self.system)
        self._client: redis.Redis = self._stack.enter_context(
            redis.Redis.from_url(store.url, socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S)
        )

    def close(self) -> None:
        """End every process."""
        self._stack.close()

    def watch_only(self, *others: str) -> None:
        """Give up the ClusterRole for a Role in the own namespace and one more."""
        for kind in ("clusterrole", "clusterrolebinding"):
            self.plane.kubectl("delete", kind, f"switchboard-operator-{self.system}")
        self.watched = [self.namespace, *others]
        renamed = {RELEASE_NAMESPACE: self.system, "team-a": self.namespace, "team-b": others[0]}
        self._grant("two-namespaces", renamed)
        self.await_right("list", f"modelbackends.{GROUP}", there=False)
        for namespace in self.watched:
            self.await_right("list", f"modelbackends.{GROUP}", namespace=namespace)

    def await_right(
        self, verb: str, resource: str, *, name: str = "", namespace: str = "", there: bool = True
    ) -> None:
        """Wait until the operator has a right, or not: the API server hears of roles by watches."""
        eventually(
            lambda: (
                self.plane.may(self.user, verb, resource, name=name, namespace=namespace) == there
            ),
            what=f"the right to {verb} {resource}: {there}",
        )

    def start(self, *, wait: bool = True, pod: str = "") -> Running:
        """Start a replica as the chart's ServiceAccount; wait until it has published."""
        config = self.folder / "operator.yaml"
        said = {"gateways": [self.gateway], "watchNamespaces": self.watched, "lease": self.lease}
        config.write_text(json.dumps(said | self.more))
        port = free_port()
        process = self._process(
            "operator",
            *("-m", "switchboard_operator", "--config", config, "--redis-url", self.redis.url),
            *("--namespace", self.system, "--kubeconfig", self.plane.kubeconfig(self.user)),
            *("--admin-host", "127.0.0.1", "--admin-port", str(port), "--pod-name", pod),
        )
        admin = f"http://127.0.0.1:{port}"
        if wait:
            process.wait_for_http(f"{admin}/readyz")
        return Running(process=process, url=admin, admin=admin)

    def scope_key_file(self) -> bytes:
        """Return the key file in the Secret that the operator made."""
        secret = self.plane.get("secret", "switchboard-scope-default", namespace=self.system)
        return base64.b64decode(secret["data"]["scope-key.json"])

    def mount(self, name: str) -> Path:
        """Give a data plane the key file as it is now: what a kubelet does, some time later."""
        path = self.folder / f"scope-key-{name}.json"
        written = path.with_suffix(".new")
        written.write_bytes(self.scope_key_file())
        return written.replace(path)

    def start_fake(self, name: str, *flags: str) -> int:
        """Start a fake model that answers for every name; return its port."""
        port = free_port()
        fake = self._process(
            f"fake-{name}",
            *("-m", "switchboard_cli", "fake-model", "--listen", f"127.0.0.1:{port}"),
            *("--name", name, "--any-model", "--answer-tokens", "4", *flags),
        )
        fake.wait_for_log("serves")
        return port

    def start_data_plane(self, name: str, *flags: str | Path) -> Running:
        """Start a data plane and wait until it is ready; its snapshot is in a folder of its name.

        Its key file stays as it is if ``mount`` gave it one before.
        """
        key_file = self.folder / f"scope-key-{name}.json"
        if not key_file.exists():
            self.mount(name)
        port, admin = free_port(), free_port()
        process = self._process(
            name,
            *("-m", "switchboard_dataplane", "--redis-url", self.redis.url),
            *("--scope-key-file", key_file, "--pod-name", name, "--grace-s", "0"),
            *("--state-dir", self.folder / f"state-{name}"),
            *("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", *flags),
        )
        running = Running(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}")
        process.wait_for_http(f"{running.admin}/readyz")
        return running

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects, in the bench's namespace where they name none."""
        self.plane.apply(
            *(
                {**one, "metadata": {"namespace": self.namespace, **one["metadata"]}}
                for one in objects
            )
        )

    def delete(self, kind: str, name: str) -> None:
        """Delete an object of the bench's namespace."""
        self.plane.kubectl("delete", kind, name, "-n", self.namespace)

    def get(self, kind: str, name: str) -> Json:
        """Return an object of the bench's namespace."""
        return self.plane.get(kind, name, namespace=self.namespace)

    def condition(self, kind: str, name: str, of: str) -> Json:
        """Return a condition; an empty one if it is not there."""
        found = self.get(kind, name).get("status", {}).get("conditions", [])
        return next((each for each in found if each["type"] == of), {})

    def await_condition(self, kind: str, name: str, of: str, **wanted: str) -> Json:
        """Wait until a condition of the newest generation says what is wanted; return it."""

        def there() -> Json | None:
            generation = self.get(kind, name)["metadata"]["generation"]
            found = self.condition(kind, name, of)
            same = all(found.get(key) == value for key, value in wanted.items())
            return found if same and found.get("observedGeneration") == generation else None

        return eventually(there, what=f"{kind} {name}: {of} {wanted}")

    def digests(self, channel: str = "policy") -> dict[str, str]:
        """Return what the store's manifest says: object to digest."""
        raw: Any = self._client.hgetall(f"sb:{{gw/default}}:{channel}:manifest")
        return {key.decode(): json.loads(field)["digest"] for key, field in raw.items()}

    def entry(self, key: str, channel: str = "policy") -> str:
        """Return the bytes of an object's entry as text; "" if it is not there."""
        digest = self.digests(channel).get(key, "")
        raw: Any = self._client.get(f"sb:{{gw/default}}:{channel}:entry:{digest}")
        return (raw or b"").decode()

    def stored_entries(self, channel: str = "policy") -> set[str]:
        """Return the digests that have an entry."""
        start = f"sb:{{gw/default}}:{channel}:entry:"
        raw: Any = self._client.keys(f"{start.replace('{', '[{]')}*")
        return {key.decode().removeprefix(start) for key in raw}

    def signers(self) -> set[str]:
        """Return the ids of the keys that signed heads and manifests."""
        macs: list[str] = []
        for channel in ("policy", "endpoints"):
            start = f"sb:{{gw/default}}:{channel}"
            head: Any = self._client.hget(f"{start}:head", "mac")
            fields: Any = self._client.hvals(f"{start}:manifest")
            macs += [head.decode(), *(json.loads(field)["mac"] for field in fields)]
        return {mac.partition(":")[0] for mac in macs}

    def head(self, channel: str = "policy") -> tuple[int, int]:
        """Return epoch and sequence of a channel's head."""
        raw: Any = self._client.hgetall(f"sb:{{gw/default}}:{channel}:head")
        return int(raw.get(b"epoch", 0)), int(raw.get(b"sequence", 0))

    def everything_stored(self) -> str:
        """Return all that the store holds, as one text."""
        keys: Any = self._client.keys("*")
        return " ".join(repr(self._client.dump(key)) for key in keys)

    def flush(self) -> None:
        """Lose everything in the store."""
        self._client.flushall()

    def key(self, kind: str, name: str) -> str:
        """Return the store's key of an object of the bench's namespace."""
        return f"{kind}/{self.namespace}/{name}"

    def await_key(self, key: str, *, there: bool = True) -> None:
        """Wait until the store has an object, or has it no more."""
        eventually(
            lambda: (key in self.digests()) == there,
            what=f"{key} in the store: {there}",
        )

    def held_lease(self) -> Json:
        """Return the operators' Lease."""
        return self.plane.get("lease", "switchboard-operator", namespace=self.system)

    def _grant(self, case: str, namespaces: Mapping[str, str]) -> None:
        self.plane.apply(*chart_rights(case, namespaces))

    def _process(self, name: str, *arguments: str | Path) -> ChildProcess:
        self._started += 1
        log = self.folder / f"{self._started:02}-{name}.log"
        child = ChildProcess([sys.executable, *arguments], log=log, forked=self._forked)
        return self._stack.enter_context(child)
