"""The whole line as processes: an operator, data planes and fake models on real parts."""

import base64
import json
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from cluster.control_plane import ControlPlane
from cluster.processes import ChildProcess, free_port, pause
from cluster.redis_server import RedisServer

COMMAND = [sys.executable, "-m", "switchboard_cli"]
WAIT_S = 60.0
POLL_S = 0.05
BUSY = 5
STALL_S = 10.0
"""A machine that tests are run on has other things to do, and stands still at times."""
PATIENT = {"connect": "30s", "firstToken": "60s", "idle": "60s"}
"""Timeouts of a model that is not late, whatever the machine does."""
STEADY_LEASE = {"duration": "16s", "renewDeadline": "12s", "retry": "1s"}
"""No such time makes a leader lose its Lease, and another need not wait for long."""
NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Whom plain HTTP trusts. To load the system's authorities takes 30 ms of a core a request."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Running:
    """A process of ours; ``url`` is its public port, ``admin`` the other one."""

    process: ChildProcess
    url: str
    admin: str

    def chat(self, model: str, text: str = "hi", **headers: str) -> httpx2.Response:
        """Ask for a chat completion."""
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.url}/v1/chat/completions"
        return httpx2.post(url, json=body, headers=said, timeout=WAIT_S, verify=NOBODY)

    def answerer(self, model: str, **headers: str) -> str:
        """Return the name of the fake model that answers, or the status if none does."""
        answer = self.chat(model, **headers)
        if answer.status_code != httpx2.codes.OK:
            return str(answer.status_code)
        return str(answer.json()["system_fingerprint"])

    def ready(self) -> Mapping[str, Any]:
        """Return what /readyz says."""
        found: Mapping[str, Any] = look(f"{self.admin}/readyz").json()
        return found


class Line:
    """One gateway, or more, with everything that it needs, in a namespace of its own.

    ``redis_url`` is where the planes look for the store, if not at ``redis`` itself, or the file
    that says it. The processes are ``forked``, or executed as in a cluster.
    """

    def __init__(
        self,
        folder: Path,
        plane: ControlPlane,
        redis: RedisServer,
        *,
        redis_url: str | Path = "",
        gateways: Sequence[str] = ("default",),
        forked: bool = True,
    ) -> None:
        self._stack = ExitStack()
        self.folder = folder
        self.plane = plane
        self.redis = redis
        flag = "--redis-url-file" if isinstance(redis_url, Path) else "--redis-url"
        self._store = (flag, str(redis_url or redis.url))
        self.gateways = gateways
        self.label = {"line": folder.name.replace("_", "-").strip("-")[:40]}
        self.namespace = plane.create_namespace("line", labels=self.label)
        self._forked = forked
        self._started = 0

    def close(self) -> None:
        """End every process."""
        self._stack.close()

    def start_operator(self, *flags: str, wait: bool = True) -> ChildProcess:
        """Start the operator and wait until it has published."""
        gateways = [
            {
                "name": name,
                "admit": "Selector",
                "selector": self.label,
                "platformNamespace": self.namespace,
            }
            for name in self.gateways
        ]
        config = self.folder / "operator.json"
        config.write_text(json.dumps({"gateways": gateways, "lease": STEADY_LEASE}))
        port = free_port()
        operator = self._start(
            "operator",
            *("operator", "--config", config, *self._store),
            *("--namespace", self.namespace, "--kubeconfig", self.plane.kubeconfig()),
            *("--admin-host", "127.0.0.1", "--admin-port", str(port), *flags),
        )
        if wait:
            operator.wait_for_http(f"http://127.0.0.1:{port}/readyz")
        return operator

    def start_data_plane(
        self, name: str, *flags: str | Path, gateway: str = "default", wait: bool = True
    ) -> Running:
        """Start a data plane; its disk snapshot is in a folder of its name."""
        port, admin = free_port(), free_port()
        running = Running(
            process=self._start(
                name,
                *("dataplane", *self._store, "--scope", f"gw/{gateway}"),
                *("--scope-key-file", self.scope_key_file(gateway), "--pod-name", name),
                *("--state-dir", self.folder / f"state-{name}", "--grace-s", "0"),
                *("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", *flags),
            ),
            url=f"http://127.0.0.1:{port}",
            admin=f"http://127.0.0.1:{admin}",
        )
        if wait:
            running.process.wait_for_http(f"{running.admin}/readyz")
        return running

    def start_fake(self, name: str, *flags: str, host: str = "127.0.0.1", port: int = 0) -> int:
        """Start a fake model that answers for every name; return its port."""
        port = port or free_port()
        fake = self._start(
            f"fake-{name}",
            *("fake-model", "--listen", f"{host}:{port}", "--name", name, "--any-model"),
            *("--answer-tokens", "4", *flags),
        )
        fake.wait_for_log("serves")
        return port

    def scope_key_file(self, gateway: str = "default") -> Path:
        """Write the scope key that the operator made where data planes find it."""
        path = self.folder / f"scope-key-{gateway}.json"
        if not path.exists():
            name = f"switchboard-scope-{gateway}"
            secret = self.plane.get("secret", name, namespace=self.namespace)
            path.write_bytes(base64.b64decode(secret["data"]["scope-key.json"]))
        return path

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects, in the line's namespace where they name none."""
        self.plane.apply(*(self._placed(one) for one in objects))

    def delete(self, kind: str, name: str) -> None:
        """Delete an object of the line's namespace."""
        self.plane.kubectl("delete", kind, name, "-n", self.namespace)

    def condition(self, kind: str, name: str, type_: str) -> Mapping[str, Any]:
        """Return a condition of an object; an empty one if it is not there."""
        status = self.plane.get(kind, name, namespace=self.namespace).get("status", {})
        found = [one for one in status.get("conditions", []) if one["type"] == type_]
        return found[0] if found else {}

    def await_condition(self, kind: str, name: str, type_: str, **wanted: str) -> Mapping[str, Any]:
        """Wait until a condition says what is wanted (status, reason); return it."""

        def there() -> Mapping[str, Any] | None:
            found = self.condition(kind, name, type_)
            current = self.plane.get(kind, name, namespace=self.namespace)["metadata"]["generation"]
            same = all(found.get(key) == value for key, value in wanted.items())
            return found if same and found.get("observedGeneration") == current else None

        return eventually(there, what=f"{kind}/{name} {type_} {wanted}")

    def _placed(self, one: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {"namespace": self.namespace, **one["metadata"]}
        return {**one, "metadata": metadata}

    def _start(self, name: str, *arguments: str | Path) -> ChildProcess:
        self._started += 1
        log = self.folder / f"{self._started:02}-{name}.log"
        return self._stack.enter_context(
            ChildProcess([*COMMAND, *arguments], log=log, forked=self._forked)
        )


def look(url: str) -> httpx2.Response:
    """Get a page of a process of ours, which may take its time."""
    return httpx2.get(url, timeout=WAIT_S, verify=NOBODY)


def patience_s(promised_s: float) -> float:
    """Return how long something may take here that takes so long on a machine of its own."""
    return BUSY * promised_s + STALL_S


def eventually(ask: Callable[[], T | None], *, what: str, timeout_s: float = WAIT_S) -> T:
    """Ask until the answer is true, and return it; fails with the last answer."""
    began = time.monotonic()
    while True:
        answer = ask()
        if answer:
            return answer
        waited_s = time.monotonic() - began
        assert waited_s < timeout_s, f"not within {timeout_s:g} s: {what} ({answer!r})"
        pause(waited_s, at_least_s=POLL_S)
