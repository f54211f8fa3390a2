"""A real Kubernetes API server for tests.

In this order: a cluster that the person names (``SWITCHBOARD_TEST_KUBECONFIG``), the binaries in
``KUBEBUILDER_ASSETS``, kind where Docker runs, else binaries built with Go (``cluster.build``).
Binaries are started as etcd and kube-apiserver alone: nothing turns Services into EndpointSlices,
collects garbage or finishes the deletion of a namespace. A test takes a namespace of its own.
"""

import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from cluster import build
from cluster.objects import Objects
from cluster.processes import LOOPBACK, ChildProcess, free_port, http_status
from cluster.tls import Authority

GIVEN = "SWITCHBOARD_TEST_KUBECONFIG"
ASSETS = "KUBEBUILDER_ASSETS"
ADMIN = "admin"
SERVICE_ACCOUNT = "system:serviceaccount:"
KUBECTL_SECONDS = 300
KIND_SECONDS = 600
DOCKER_SECONDS = 60
START_SECONDS = 300
RSA_BITS = 2048
SELDOM_COLLECTED = {"GOGC": "400"}
"""Go looks for garbage a quarter as often: a sixth less of a core, for some more memory."""
OWNER_ONLY = 0o600

JsonObject = dict[str, Any]


class ControlPlaneUnavailable(Exception):
    """No API server can be had on this machine; the text says why and what to do."""


class KubectlFailed(Exception):
    """kubectl ended with an error; the text carries the command and its standard error."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the API server comes from: ``given``, ``binaries`` or ``kind``."""

    kind: str
    kubectl: Path
    folder: Path | None = None
    """The binaries' folder, or the given kubeconfig."""


def choose_origin(
    environ: Mapping[str, str] = os.environ, *, say: build.Say = build.say_on_stderr
) -> Origin:
    """Find a source of an API server, building one if need be (minutes, once).

    Raises ControlPlaneUnavailable.
    """
    try:
        if given := environ.get(GIVEN):
            return Origin("given", find_kubectl(say=say), Path(given).absolute())
        if assets := environ.get(ASSETS):
            folder = Path(assets).absolute()
            if all((folder / name).exists() for name in ("etcd", "kube-apiserver")):
                return Origin("binaries", find_kubectl(folder, say=say), folder)
            say(f"{ASSETS} is set, but {folder} has no etcd and kube-apiserver; looking elsewhere")
        if shutil.which("kind") and docker_runs():
            return Origin("kind", find_kubectl(say=say))
        folder = build.build(say=say)
    except build.BuildUnavailable as reason:
        raise ControlPlaneUnavailable(
            f"no Kubernetes API server: {reason}\n"
            f"Install Go, or name a cluster ({GIVEN}) or a folder of binaries ({ASSETS})."
        ) from reason
    return Origin("binaries", folder / "kubectl", folder)


@dataclass(slots=True)
class Program:
    """A program of a control plane of ours: it can crash, hang, and be started again."""

    command: list[str | Path]
    log: Path
    ready: Callable[[], bool]
    _child: ChildProcess | None = None

    def start(self) -> None:
        """Start it, and return once it is ready. Raises StartFailed with the tail of the log."""
        self._child = ChildProcess(self.command, log=self.log, env=SELDOM_COLLECTED)
        name = Path(self.command[0]).name
        self._child.wait_until(self.ready, what=f"{name} ready", timeout_s=START_SECONDS)

    def stop(self) -> None:
        """End it in the ordinary way."""
        if self._child:
            self._child.stop()

    def kill(self) -> None:
        """A crash."""
        if self._child:
            self._child.kill()

    def pause(self) -> None:
        """A hang: connections are accepted by the kernel, nothing is answered."""
        if self._child:
            self._child.pause()

    def resume(self) -> None:
        if self._child:
            self._child.resume()


@dataclass(slots=True)
class ControlPlane:
    """An API server that answers, until :meth:`stop`; its files and logs are in ``folder``.

    ``etcd``, ``api_server`` and ``clients``, which vouches for users with certificates, are there
    where the origin is binaries.
    """

    folder: Path
    origin: Origin
    etcd: Program | None = None
    api_server: Program | None = None
    clients: Authority | None = None
    _objects: Objects | None = None
    _kubeconfigs: dict[str, Path] = field(default_factory=dict)
    _ending: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def start(cls, folder: Path, origin: Origin | None = None) -> Self:
        """Start one in ``folder`` (made if missing), about 5 s; or join the given cluster.

        Raises ControlPlaneUnavailable, and StartFailed with the tail of the log.
        """
        origin = origin or choose_origin()
        folder.mkdir(parents=True, exist_ok=True)
        plane = cls(folder, origin)
        try:
            if origin.kind == "given" and origin.folder:
                plane._kubeconfigs[ADMIN] = origin.folder
            elif origin.kind == "kind":
                plane._start_kind()
            elif origin.folder:
                plane._start_binaries(origin.folder)
        except BaseException:
            plane.stop()
            raise
        return plane

    def stop(self) -> None:
        """End what :meth:`start` began; a given cluster is left as it is."""
        self._ending.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def kubeconfig(self, user: str = ADMIN) -> Path:
        """A kubeconfig file for ``admin`` or for ``system:serviceaccount:NAMESPACE:NAME``.

        A ServiceAccount must exist; its token comes from the API server, so that RBAC treats the
        bearer exactly as it treats a pod. Raises KubectlFailed.
        """
        if user not in self._kubeconfigs:
            if not user.startswith(SERVICE_ACCOUNT):
                raise ValueError(f"{user!r} is neither {ADMIN!r} nor {SERVICE_ACCOUNT}NS:NAME")
            namespace, name = user.removeprefix(SERVICE_ACCOUNT).split(":")
            token = self.kubectl("create", "token", name, "-n", namespace, "--duration=24h")
            # Flattened: a person's kubeconfig may name files relative to itself.
            view = ("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
            config = json.loads(self.kubectl(*view))
            config["users"][0]["user"] = {"token": token.strip()}
            path = self.folder / f"{namespace}-{name}.kubeconfig"
            self._kubeconfigs[user] = write_private(path, json.dumps(config))
        return self._kubeconfigs[user]

    def kubectl(self, *args: str, input: str | None = None, user: str = ADMIN) -> str:  # noqa: A002
        """Run kubectl as ``user``; return its standard output. Raises KubectlFailed."""
        done = self.try_kubectl(*args, input=input, user=user)
        if done.returncode:
            raise KubectlFailed(f"kubectl {' '.join(args)} ({user}): {done.stderr.strip()}")
        return done.stdout

    def try_kubectl(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002
        user: str = ADMIN,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as ``user``, whatever comes of it."""
        options = [f"--kubeconfig={self.kubeconfig(user)}", f"--cache-dir={self.folder}/cache"]
        return subprocess.run(
            [self.origin.kubectl, *options, *args],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=KUBECTL_SECONDS,
            check=False,
        )

    def apply(self, *manifests: JsonObject) -> None:
        """Server-side apply of objects. Raises ApiFailed."""
        for manifest in manifests:
            self._calls().apply(manifest)

    def get(self, kind: str, name: str, *, namespace: str = "default") -> JsonObject:
        """One object, as JSON. Raises ApiFailed."""
        return self._calls().get(kind, name, namespace)

    def get_all(self, kind: str, *, namespace: str = "default") -> list[JsonObject]:
        """All objects of a kind in a namespace, as JSON. Raises ApiFailed."""
        found: list[JsonObject] = self._calls().get_all(kind, namespace)["items"]
        return found

    def may(
        self, user: str, verb: str, resource: str, *, name: str = "", namespace: str = ""
    ) -> bool:
        """Say whether a user may do this with ``RESOURCE.GROUP``. Raises ApiFailed."""
        return self._calls().may(user, verb, resource, name=name, namespace=namespace)

    def create_namespace(
        self, prefix: str = "test", labels: Mapping[str, str] | None = None
    ) -> str:
        """A namespace that nothing else uses, gone after :meth:`stop`."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        metadata = {"name": name, "labels": dict(labels or {})}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        if self.origin.kind == "given":
            self._ending.callback(self.kubectl, "delete", "namespace", name, "--wait=false")
        return name

    def install_kinds(self, folder: Path) -> None:
        """Install the CustomResourceDefinitions of a folder; return once they are served."""
        self.kubectl("apply", "--server-side", "-f", str(folder))
        served = ("wait", "--for=condition=Established", "--timeout=120s", "-f", str(folder))
        self.kubectl(*served)

    def _calls(self) -> Objects:
        if self._objects is None:
            self._objects = Objects(self.kubeconfig())
        return self._objects

    def _start_kind(self) -> None:
        name = f"switchboard-test-{secrets.token_hex(4)}"
        path = self.folder / "admin.kubeconfig"
        self._ending.callback(_run, "kind", "delete", "cluster", "--name", name)
        _run("kind", "create", "cluster", "--name", name, "--kubeconfig", str(path))
        self._kubeconfigs[ADMIN] = path

    def _start_binaries(self, binaries: Path) -> None:
        etcd_port, peer_port, port = free_port(), free_port(), free_port()
        self.etcd = Program(
            etcd_command(binaries, self.folder, port=etcd_port, peer_port=peer_port),
            log=self.folder / "etcd.log",
            ready=lambda: http_status(f"http://{LOOPBACK}:{etcd_port}/health") == HTTPStatus.OK,
        )
        self._ending.callback(self.etcd.stop)
        self.etcd.start()
        token = secrets.token_hex(16)
        url, authority = f"https://{LOOPBACK}:{port}", self.folder / "certs" / "apiserver.crt"
        self.clients = Authority(self.folder / "clients")
        command = _api_server_command(
            binaries, self.folder, port=port, etcd_port=etcd_port, admin_token=token
        )
        self.api_server = Program(
            [*command, f"--client-ca-file={self.clients.file}"],
            log=self.folder / "kube-apiserver.log",
            ready=lambda: _is_ready(url, authority=authority, token=token),
        )
        self._ending.callback(self.api_server.stop)
        self.api_server.start()
        config = client_config(url, authority=authority, token=token)
        self._kubeconfigs[ADMIN] = write_private(
            self.folder / "admin.kubeconfig", json.dumps(config)
        )


def find_kubectl(folder: Path | None = None, *, say: build.Say = build.say_on_stderr) -> Path:
    """The kubectl of ``folder``, else the one on PATH, else one built with Go."""
    if folder and (folder / "kubectl").exists():
        return folder / "kubectl"
    found = shutil.which("kubectl")
    return Path(found) if found else build.build(["kubectl"], say=say) / "kubectl"


def docker_runs() -> bool:
    docker = shutil.which("docker")
    if not docker:
        return False
    try:
        done = subprocess.run(
            [docker, "info"], capture_output=True, timeout=DOCKER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=KIND_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise ControlPlaneUnavailable(str(late)) from late
    if done.returncode:
        raise ControlPlaneUnavailable(f"{' '.join(command)}: {done.stderr.strip()}")


def etcd_command(binaries: Path, folder: Path, *, port: int, peer_port: int) -> list[str | Path]:
    """The command of an etcd on loopback ports, with its data in ``folder``."""
    url, peer_url = f"http://{LOOPBACK}:{port}", f"http://{LOOPBACK}:{peer_port}"
    return [
        binaries / "etcd",
        f"--data-dir={folder}/etcd",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
        "--unsafe-no-fsync",
    ]


def _api_server_command(
    binaries: Path, folder: Path, *, port: int, etcd_port: int, admin_token: str
) -> list[str | Path]:
    tokens = write_private(
        folder / "tokens.csv", f'{admin_token},{ADMIN},{ADMIN},"system:masters"\n'
    )
    key = write_private(folder / "service-accounts.key", new_rsa_key())
    return [
        binaries / "kube-apiserver",
        f"--etcd-servers=http://{LOOPBACK}:{etcd_port}",
        f"--secure-port={port}",
        f"--bind-address={LOOPBACK}",
        f"--advertise-address={LOOPBACK}",
        f"--cert-dir={folder}/certs",
        f"--token-auth-file={tokens}",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=RBAC",
        # Its plugin waits for a controller to make the default ServiceAccount of a namespace.
        "--disable-admission-plugins=ServiceAccount",
        "--allow-privileged=true",
        "--endpoint-reconciler-type=none",
    ]


def new_rsa_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


def _is_ready(url: str, *, authority: Path, token: str) -> bool:
    try:
        trust = ssl.create_default_context(cafile=str(authority))
    except (FileNotFoundError, ssl.SSLError):
        # The server makes it when it starts, and writes it after it made the file.
        return False
    bearer = {"Authorization": f"Bearer {token}"}
    return http_status(f"{url}/readyz", headers=bearer, trust=trust) == HTTPStatus.OK


def client_config(url: str, *, authority: Path, token: str) -> JsonObject:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "test", "cluster": {"server": url, "certificate-authority": str(authority)}}
        ],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }


def write_private(path: Path, text: str) -> Path:
    path.touch(mode=OWNER_ONLY)
    path.write_text(text)
    return path


if __name__ == "__main__":
    began = time.monotonic()
    try:
        chosen = choose_origin()
    except ControlPlaneUnavailable as reason:
        sys.exit(str(reason))
    place = chosen.folder or chosen.kind
    print(f"API server for tests: {place} ({time.monotonic() - began:.1f} s)")
