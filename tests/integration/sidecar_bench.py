"""An operator that injects sidecars, with the chart's rights and webhooks, on real servers."""

import base64
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis
import yaml

from cluster.control_plane import ControlPlane, KubectlFailed
from cluster.line import WAIT_S, Running, eventually
from cluster.processes import ChildProcess, free_port
from cluster.redis_server import RedisServer
from cluster.redis_users import documented_users
from integration.operator_bench import CHARTS, RELEASE_NAMESPACE, OperatorBench, chart_rights

Json = dict[str, Any]

INJECT = "switchboard.dev/inject"
SECRET = "switchboard-sidecar"
SUMMARY = "switchboard-status-sidecar"
CONTAINER = "switchboard-sidecar"


#: What every scope has.
OWN = {"backend/switchboard/gateway", "policy/switchboard/gateway"}
#: What docs/operations/redis.md adds to the operator's user where there are sidecars.
FOR_SIDECARS = ("~sb:{ns/*}:*", "+acl|setuser", "+acl|deluser", "+acl|users")


def store_of(folder: Path) -> RedisServer:
    """A Redis that the operator may do no more with than is documented."""
    rules = (*documented_users()["operator"], *FOR_SIDECARS)
    options = ("--user", "operator", "on", ">secret", *rules)
    return RedisServer(folder, options=options, login="operator:secret")


def rendered(kind: str, name: str = "") -> Json:
    """Return an object of the chart with sidecars."""
    made: Json = next(
        each
        for each in yaml.safe_load_all((CHARTS / "sidecars.yaml").read_text())
        if each and each["kind"] == kind and each["metadata"]["name"].endswith(name)
    )
    return made


def chart_settings() -> Json:
    """Return what the chart tells the operator of sidecars."""
    config = rendered("ConfigMap", "switchboard-operator")["data"]["operator.yaml"]
    said: Json = yaml.safe_load(config)["sidecar"]
    return said


class SidecarBench:
    """A bench whose webhooks look after its own namespaces and no other test's."""

    def __init__(self, folder: Path, plane: ControlPlane, store: RedisServer) -> None:
        self.plane, self.store, self.folder = plane, store, folder
        self.bench = OperatorBench(folder, plane, store)
        self.bench.gateway = {"name": "default", "admit": "All"}
        self.name = f"switchboard-operator-{self.bench.system}"
        self.plane.apply(*chart_rights("sidecars", {RELEASE_NAMESPACE: self.bench.system}))

    def close(self) -> None:
        """End the processes, and remove the configuration: it is the cluster's."""
        with suppress(KubectlFailed):
            self.plane.kubectl("delete", "mutatingwebhookconfiguration", self.name)
        self.bench.close()

    def start(self, **sidecar: Any) -> Running:
        """Start a replica, and have the API server ask it."""
        port = free_port()
        self.bench.more = {
            "admission": {"port": port, "host": "127.0.0.1", "linger": "100ms"},
            "sidecar": {
                **chart_settings(),
                "gatewayUrl": "http://127.0.0.1:1/v1",
                "configuration": self.name,
                "linger": "2s",
                **sidecar,
            },
        }
        self.ask(port)
        return self.bench.start()

    def ask(self, port: int) -> None:
        """Have the API server ask a replica about pods, as the chart says."""
        made = rendered("MutatingWebhookConfiguration")
        for webhook in made["webhooks"]:
            # A replica that stands still answers in the end.
            webhook["timeoutSeconds"] = 30
            webhook["clientConfig"] = {"url": f"https://127.0.0.1:{port}/mutate"}
            webhook["namespaceSelector"]["matchLabels"] = {"bench": self.name}
        made["metadata"] = {"name": self.name}
        self.plane.apply(made)

    def namespace(self, *, inject: bool = False, **more: str) -> str:
        """Make a namespace, labelled or not; ``more`` are labels of Kubernetes' own."""
        labels = {"bench": self.name, **({INJECT: "true"} if inject else {})}
        labels |= {f"pod-security.kubernetes.io/{name}": value for name, value in more.items()}
        return self.plane.create_namespace("app", labels=labels)

    def secret(self, namespace: str) -> dict[str, bytes]:
        """Return what the sidecars of a namespace mount; nothing while it is not there."""
        for found in self.plane.get_all("secret", namespace=namespace):
            if found["metadata"]["name"] == SECRET:
                return {key: base64.b64decode(text) for key, text in found["data"].items()}
        return {}

    def await_secret(self, namespace: str) -> dict[str, bytes]:
        """Wait until it is there."""
        return eventually(lambda: self.secret(namespace), what=f"the Secret of {namespace}")

    @contextmanager
    def login(self, namespace: str) -> Iterator["redis.Redis"]:
        """Log in to the store as the sidecars of a namespace do."""
        url = self.await_secret(namespace)["redis-url"].decode()
        with redis.Redis.from_url(url) as client:
            yield client

    def administrator(self) -> "redis.Redis":
        """Log in to the store as nobody in particular, who may do all."""
        return redis.Redis(port=self.store.port)

    def manifest(self, namespace: str) -> dict[str, str]:
        """Return what the scope of a namespace holds: object to digest."""
        raw: Any = {}
        with self.administrator() as client:
            raw = client.hgetall(f"sb:{{ns/{namespace}}}:policy:manifest")
        return {key.decode(): json.loads(field)["digest"] for key, field in raw.items()}

    def await_scope(self, namespace: str) -> None:
        """Wait until the scope of a namespace has what every one has, and no more."""
        eventually(
            lambda: set(self.manifest(namespace)) == OWN,
            what=f"the scope of {namespace}",
        )

    def keys(self, namespace: str) -> list[bytes]:
        """Return the store's keys of a scope."""
        with self.administrator() as client:
            found: Any = client.keys(f"sb:[{{]ns/{namespace}}}:*")
            return list(found)

    def users(self) -> set[str]:
        """Return the store's users."""
        with self.administrator() as client:
            found: Any = client.acl_users()
            return set(found)

    def await_upkeep(self, operator: Running, namespace: str) -> None:
        """Wait until the operator has taken care of a namespace's keys once more."""
        before = self.secret(namespace)["scope-key.json"]
        self.plane.kubectl(
            *("annotate", "secret", SECRET, "-n", namespace, "--overwrite"),
            f"switchboard.dev/rotate={time.monotonic()}",
        )

        def turned() -> bool:
            assert operator.process.running, operator.process.log_text()
            return self.secret(namespace)["scope-key.json"] != before

        eventually(turned, what=f"the next key of {namespace}", timeout_s=120)

    def create(self, namespace: str, pod: Json, *flags: str) -> str:
        """Create a pod; return what kubectl said of its failure, "" if it is there."""
        said = json.dumps({**pod, "metadata": {"namespace": namespace, **pod["metadata"]}})
        return self.plane.try_kubectl("create", "-f", "-", *flags, input=said).stderr

    def await_created(self, namespace: str, pod: Json, *flags: str) -> None:
        """Create a pod, once the API server knows whom to trust and the store answers."""
        until = time.monotonic() + WAIT_S
        while said := self.create(namespace, pod, *flags):
            assert time.monotonic() < until, said

    def mount(self, namespace: str) -> Path:
        """Bring the Secret's files to where a sidecar has them, as kubelet does; return where."""
        folder = self.folder / f"sidecar-{namespace}"
        folder.mkdir(exist_ok=True)
        found = self.await_secret(namespace)
        for name in ("scope-key.json", "redis-url"):
            (folder / f"..{name}").write_bytes(found[name])
            (folder / f"..{name}").rename(folder / name)
        return folder

    def start_sidecar(self, namespace: str, *flags: str | Path) -> Running:
        """Start a data plane with what the Secret has, as the injected container does."""
        folder = self.mount(namespace)
        port, admin = free_port(), free_port()
        process = ChildProcess(
            [
                *(sys.executable, "-m", "switchboard_dataplane"),
                *("--redis-url-file", folder / "redis-url", "--scope", f"ns/{namespace}"),
                *("--scope-key-file", folder / "scope-key.json", "--pod-name", "app-1"),
                *("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"),
                *("--grace-s", "0", "--state-dir", folder / "state", *flags),
            ],
            log=self.folder / f"sidecar-{namespace}.log",
        )
        process.wait_for_http(f"http://127.0.0.1:{admin}/readyz")
        return Running(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}")


def pod(name: str, **spec: Any) -> Json:
    """A pod of an application with one container."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        # The plugin that names it does not run here: see cluster.control_plane.
        "spec": {
            "serviceAccountName": "default",
            "containers": [{"name": "app", "image": "app:1"}],
            **spec,
        },
    }
