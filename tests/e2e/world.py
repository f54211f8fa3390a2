"""The cluster of the end-to-end tests, with the product's release and its callers in it."""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from cluster.chart import CHART, Helm
from cluster.node.origins import Cluster
from cluster.processes import pause
from e2e import parts

RELEASE: Final = "switchboard"
NAMESPACE: Final = "switchboard"
URL: Final = "http://switchboard.switchboard.svc/v1"
INSIDE: Final = Path(__file__).parent / "inside"
CALLERS: Final = "/api/v1/namespaces/e2e/pods/callers:8080/proxy"
WAIT_S: Final = 240.0
"""What is waited for comes in seconds, on a machine that has time for it."""
PLANES: Final = ("operator", "gateway")
NEXT: Final = {"switchboard.dev/e2e-release": parts.SECOND}
"""Annotations that the next chart puts on the pods of both planes, by its defaults."""

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request through the Service; status 0 where nothing came."""

    status: int
    headers: Mapping[str, str]
    text: str

    def header(self, name: str) -> str:
        """An x-switchboard-… header; empty where it is not there."""
        said = {key.lower(): value for key, value in self.headers.items()}
        return said.get(f"x-switchboard-{name}", "")


@dataclass(slots=True)
class World:
    """Speaks to the cluster as a person would, by kubectl and helm, and to the callers in it."""

    cluster: Cluster
    helm: Helm
    archives: Mapping[str, Path]
    before: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)

    def kubectl(self, *args: str, input: str | None = None) -> str:  # noqa: A002
        """Run kubectl; return what it says. Raises KubectlFailed."""
        return self.cluster.api.kubectl(*args, input=input)

    def begin_step(self, name: str) -> None:
        """What the callers count from now on counts for this step."""
        self.kubectl("get", "--raw", f"{CALLERS}/steps/{name.replace(' ', '%20')}")

    def ask(
        self,
        model: str,
        *,
        expected: int = 200,
        by: str = CALLERS,
        url: str = URL,
        key: str = "",
        **headers: str,
    ) -> Answer:
        """Send one chat completion through the Service, from inside the cluster.

        It is counted: an answer of another status than the expected is a failure of the run.
        ``by`` is the path of the pod that sends it, ``url`` whom it calls, ``key`` another than
        the pod's own.
        """
        shown = {"authorization": f"Bearer {key}"} if key else {}
        hints = {f"x-switchboard-{name}": value for name, value in headers.items()}
        said = {
            "expected": expected,
            "url": f"{url}/chat/completions",
            "headers": shown | hints,
            "body": {
                "model": model,
                "messages": [{"role": "user", "content": "hi"}],
                "max_tokens": 4,
            },
        }
        create = ("create", "--raw", f"{by}/ask", "-f", "-")
        return Answer(**json.loads(self.kubectl(*create, input=json.dumps(said))))

    def make_key(self, name: str) -> str:
        """Make an API key as the README says, and let the gateway know it; return it."""
        command = (sys.executable, "-m", "switchboard_cli", "key", name, "--namespace", NAMESPACE)
        made = subprocess.run(command, check=True, capture_output=True, text=True)
        self.kubectl("create", "-f", "-", input=made.stdout)
        value = "jsonpath={.data.api-key}"
        said = self.kubectl("get", "secret", name, "-n", NAMESPACE, "-o", value)
        return base64.b64decode(said).decode()

    def apply(self, *manifests: JsonObject) -> None:
        """Apply objects."""
        self.cluster.api.apply(*manifests)

    def wait_for(self, condition: str, what: str, *, namespace: str = NAMESPACE) -> None:
        """``kubectl wait`` for a condition. Raises KubectlFailed."""
        wait = ("wait", f"--for={condition}", "-n", namespace, f"--timeout={WAIT_S:.0f}s")
        self.kubectl(*wait, *what.split())

    def wait_for_models(self, namespace: str) -> None:
        """Wait until the objects of a namespace are ready, and Services have endpoints."""
        self.wait_for("condition=Ready", "modelbackends,routingpolicies --all", namespace=namespace)
        self.until(lambda: self._have_endpoints(namespace), f"endpoints of {namespace}")

    def _have_endpoints(self, namespace: str) -> bool:
        said = json.loads(self.kubectl("get", "modelbackends", "-n", namespace, "-o", "json"))
        inside = (one["status"] for one in said["items"] if "service" in one["spec"])
        return all(status.get("endpoints", {}).get("ready") for status in inside)

    def until(self, true: Callable[[], bool], what: str, *, within_s: float = WAIT_S) -> float:
        """Wait until something is so; return how long it took, in seconds."""
        began = time.monotonic()
        while not true():
            waited_s = time.monotonic() - began
            assert waited_s < within_s, f"{what}: not within {within_s:.0f} s"
            pause(waited_s, at_least_s=0.1)
        return time.monotonic() - began

    def pods(self, component: str) -> list[JsonObject]:
        """The pods of a part of the release, those that are going away too."""
        label = f"app.kubernetes.io/component={component}"
        said = self.kubectl("get", "pods", "-n", NAMESPACE, "-l", label, "-o", "json")
        found: list[JsonObject] = json.loads(said)["items"]
        return found

    def settled(self, component: str, *, count: int | None = None, image: str = "") -> bool:
        """Whether a part has pods, all of them ready and of this image, and none is going away."""
        pods = self.pods(component)
        return (
            bool(pods)
            and (count is None or len(pods) == count)
            and all(_is_ready(pod) for pod in pods)
            and all(image in pod["spec"]["containers"][0]["image"] for pod in pods)
        )

    def kill(self, component: str, *names: str) -> frozenset[str]:
        """Kill pods of a part, all of them unless they are named; return the UIDs of the part."""
        pods = self.pods(component)
        chosen = names or [pod["metadata"]["name"] for pod in pods]
        self.kubectl("delete", "pod", "-n", NAMESPACE, "--grace-period=0", "--force", *chosen)
        return frozenset(pod["metadata"]["uid"] for pod in pods)

    def replaced(self, component: str, dead: frozenset[str]) -> bool:
        """Whether other pods are in the places of those that were killed, and ready."""
        pods = self.pods(component)
        alive = {pod["metadata"]["uid"] for pod in pods if _is_ready(pod)}
        return len(alive - dead) == len(dead) == len(pods)

    def leader(self) -> str:
        """The pod of the operator that leads."""
        holder = "jsonpath={.spec.holderIdentity}"
        said = self.kubectl("get", "lease", "switchboard-operator", "-n", NAMESPACE, "-o", holder)
        names = [pod["metadata"]["name"] for pod in self.pods("operator")]
        return next((name for name in names if name in said), said)

    def logs(self, *, lines: int = 30) -> str:
        """The end of what the release's pods said, and the newest events.

        All of it is kept in the folder of ``SWITCHBOARD_E2E_LOGS``.
        """
        texts = {}
        for part in (*PLANES, "redis"):
            select = ("-l", f"app.kubernetes.io/component={part}", "--prefix", "--tail=5000")
            done = self.cluster.api.try_kubectl("logs", "-n", NAMESPACE, *select)
            texts[part] = done.stdout + done.stderr
        listed = ("get", "events", "-A", "--sort-by=.lastTimestamp")
        texts["events"] = self.cluster.api.try_kubectl(*listed).stdout
        if kept := os.environ.get("SWITCHBOARD_E2E_LOGS"):
            Path(kept).mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                (Path(kept) / f"{name}.log").write_text(text)
        ends = (
            "\n".join([f"== {name}", *text.splitlines()[-lines:]]) for name, text in texts.items()
        )
        return "\n".join(ends)

    def objects(self) -> frozenset[str]:
        """Every object that stays: ``Kind namespace/name``."""
        verbs = ("--verbs=list", "-o", "name")
        kinds = set(self.kubectl("api-resources", *verbs).split()) - _COME_AND_GO
        columns = "custom-columns=K:.kind,S:.metadata.namespace,N:.metadata.name"
        listed = self.kubectl("get", ",".join(sorted(kinds)), "-A", "--no-headers", "-o", columns)
        rows = (line.split() for line in listed.splitlines())
        return frozenset(
            f"{kind} {namespace}/{name}"
            for kind, namespace, name in rows
            if (kind, namespace) not in _HEARTBEATS
        )


_COME_AND_GO: Final = frozenset(
    {"events", "events.events.k8s.io", "componentstatuses", "ipaddresses.networking.k8s.io"}
)
"""Kinds whose objects the cluster itself makes and removes while it runs."""
_HEARTBEATS: Final = frozenset({("Lease", "kube-system"), ("Lease", "kube-node-lease")})
"""Kinds of which it does so in some namespaces alone: Leases elsewhere are somebody's."""


def _is_ready(pod: JsonObject) -> bool:
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}
    return "deletionTimestamp" not in pod["metadata"] and conditions.get("Ready") == "True"


def install_command() -> list[str]:
    """What the README says after `helm`, with the images that were built here."""
    return [*_documented("install", "README.md"), *_IMAGES, *_tags(parts.FIRST)]


def upgrade_command(folder: Path) -> list[str]:
    """What the page on upgrades says after `helm`, to a next chart that is made in ``folder``."""
    said = _documented("upgrade", "docs/operations/upgrade.md")
    chart = str(CHART.relative_to(parts.REPO))
    assert said.count(chart) == 1, said
    said[said.index(chart)] = str(_next_chart(folder))
    return [*said, *_tags(parts.SECOND)]


def _documented(verb: str, page: str) -> list[str]:
    command = re.compile(rf"^helm {verb} {RELEASE} (?:.*\\\n)*.*$", re.MULTILINE)
    found = command.search((parts.REPO / page).read_text())
    assert found, f"{page} has no `helm {verb} {RELEASE}`"
    return shlex.split(found[0].replace("\\\n", " "))[1:]


def _next_chart(folder: Path) -> Path:
    """The chart as its next release might be: another version, and other defaults."""
    made = folder / "switchboard"
    shutil.copytree(CHART, made)
    about = yaml.safe_load((made / "Chart.yaml").read_text())
    about |= {"version": "999.0.0", "appVersion": "999.0.0"}
    (made / "Chart.yaml").write_text(yaml.safe_dump(about))
    values = yaml.safe_load((made / "values.yaml").read_text())
    for plane in PLANES:
        values[plane]["podAnnotations"] |= NEXT
    (made / "values.yaml").write_text(yaml.safe_dump(values))
    return made


def _set(values: Mapping[str, str]) -> list[str]:
    return [part for name, value in values.items() for part in ("--set-string", f"{name}={value}")]


def _tags(tag: str) -> list[str]:
    return _set({"operator.image.tag": tag, "gateway.image.tag": tag})


_IMAGES: Final = _set(
    {
        "operator.image.repository": parts.OPERATOR,
        "gateway.image.repository": parts.DATAPLANE,
        "redis.bundled.image.repository": parts.REDIS,
        "redis.bundled.image.tag": parts.FIRST,
        # Three of them fit on a node of two cores, beside all else.
        "gateway.resources.requests.cpu": "100m",
    }
)
