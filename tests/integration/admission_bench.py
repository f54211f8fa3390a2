"""Operators with the webhook, and an API server that calls it at an address of this machine."""

import base64
import json
import ssl
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx2

from cluster.control_plane import KubectlFailed
from cluster.line import WAIT_S, Running, eventually, look
from cluster.processes import free_port
from integration.operator_bench import OperatorBench

Json = dict[str, Any]

#: As the documents advise: what leaves the spec alone is not even asked about.
SPEC_CHANGES = (
    'request.operation != "UPDATE" || '
    "(object.spec != oldObject.spec && !has(object.metadata.deletionTimestamp))"
)
FAST = {"settle": "8s", "keepOldFor": "8s"}
"""Faster than in a cluster, and no faster than an API server hears of what was written."""
EDITS, DELETIONS = "edits.switchboard.dev", "deletions.switchboard.dev"


class AdmissionBench:
    """A bench whose webhooks look after its own namespace and no other test's."""

    def __init__(self, bench: OperatorBench) -> None:
        self.bench = bench
        self.plane = bench.plane
        self.name = f"switchboard-operator-{bench.system}"

    def close(self) -> None:
        """Remove the configuration: it is the cluster's."""
        with suppress(KubectlFailed):
            self.remove()

    def start(self, *, wait: bool = True, **admission: Any) -> "Replica":
        """Start a replica; wait until it is ready."""
        port = free_port()
        said = {
            "port": port,
            "host": "127.0.0.1",
            "configuration": self.name,
            "certificates": FAST,
            "linger": "100ms",
            **admission,
        }
        self.bench.more = {"admission": said}
        return Replica(self, self.bench.start(wait=wait), port)

    def configure(
        self, replica: "Replica", *, failure_policy: str = "Fail", conditions: bool = False
    ) -> None:
        """Have the API server ask a replica, and wait until it knows whom to trust."""
        ours = {"apiGroups": ["switchboard.dev"], "apiVersions": ["v1alpha1"]}
        common = {
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            # A replica that stands still answers in the end.
            "timeoutSeconds": 30,
            "clientConfig": {"url": f"https://127.0.0.1:{replica.port}/validate"},
            "namespaceSelector": {
                "matchLabels": {"kubernetes.io/metadata.name": self.bench.namespace}
            },
        }
        everything = {**ours, "resources": ["modelbackends", "routingpolicies"]}
        edits = {
            **common,
            "name": EDITS,
            "failurePolicy": failure_policy,
            "rules": [{**everything, "operations": ["CREATE", "UPDATE"]}],
        }
        if conditions:
            edits["matchConditions"] = [{"name": "spec-changes", "expression": SPEC_CHANGES}]
        deletions = {
            **common,
            "name": DELETIONS,
            "failurePolicy": "Ignore",
            "rules": [{**ours, "resources": ["modelbackends"], "operations": ["DELETE"]}],
        }
        self.plane.apply(
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": self.name},
                "webhooks": [edits, deletions],
            }
        )

    def remove(self) -> None:
        """Have nobody asked."""
        self.plane.kubectl("delete", "validatingwebhookconfiguration", self.name)

    def bundles(self) -> list[str]:
        """Return the caBundle of each webhook, as PEM."""
        found = self.plane.get("validatingwebhookconfiguration", self.name)
        return [
            base64.b64decode(each["clientConfig"].get("caBundle", "")).decode()
            for each in found["webhooks"]
        ]

    def set_bundles(self, bundle: bytes) -> None:
        """Have somebody write the caBundles."""
        value = base64.b64encode(bundle).decode()
        edits = [
            {"op": "add", "path": f"/webhooks/{number}/clientConfig/caBundle", "value": value}
            for number in range(2)
        ]
        self._patch(edits)

    def point_at(self, replica: "Replica") -> None:
        """Have the API server ask another replica."""
        url = f"https://127.0.0.1:{replica.port}/validate"
        self._patch(
            [
                {"op": "replace", "path": f"/webhooks/{number}/clientConfig/url", "value": url}
                for number in range(2)
            ]
        )

    def secret(self) -> Json:
        """Return the Secret with the certificate."""
        return self.plane.get("secret", "switchboard-admission", namespace=self.bench.system)

    def await_calls(self) -> None:
        """Wait until the API server asks and is answered: it hears of configurations by a watch."""
        probe = json.dumps(placed(self.bench, BAD))
        eventually(
            lambda: "is invalid" in self.try_apply(probe, "--dry-run=server").stderr,
            what="a denial",
        )

    def await_asked(self, replica: "Replica") -> None:
        """Wait until the API server asks this replica, and no other any more."""
        before = replica.denied()
        eventually(
            lambda: self.apply(BAD, "--dry-run=server").returncode and replica.denied() > before,
            what="a denial by this replica",
        )

    def try_apply(self, manifest: str, *flags: str) -> subprocess.CompletedProcess[str]:
        """Run ``kubectl apply -f -``, whatever comes of it."""
        return self.plane.try_kubectl("apply", "-f", "-", *flags, input=manifest)

    def apply(self, manifest: Mapping[str, Any], *flags: str) -> subprocess.CompletedProcess[str]:
        """Apply an object in the bench's namespace as a person does, whatever comes of it."""
        return self.try_apply(json.dumps(placed(self.bench, manifest)), *flags)

    def _patch(self, edits: list[Json]) -> None:
        kind = "validatingwebhookconfiguration"
        self.plane.kubectl("patch", kind, self.name, "--type=json", "-p", json.dumps(edits))


BAD: Json = {
    "apiVersion": "switchboard.dev/v1alpha1",
    "kind": "RoutingPolicy",
    "metadata": {"name": "probe"},
    "spec": {
        "models": ["probe"],
        "rules": [
            {
                "name": "only",
                "when": "request.nope",
                "route": {"tiers": [{"name": "only", "backends": [{"name": "a"}]}]},
            },
            {"name": "last", "route": {"tiers": [{"name": "t", "backends": [{"name": "a"}]}]}},
        ],
    },
}


def placed(bench: OperatorBench, manifest: Mapping[str, Any]) -> Json:
    """Return an object in the bench's namespace."""
    return {**manifest, "metadata": {"namespace": bench.namespace, **manifest["metadata"]}}


class Replica:
    """A replica of the operator, and its webhook as anybody can call it."""

    def __init__(self, bench: AdmissionBench, running: Running, port: int) -> None:
        self.running = running
        self.process = running.process
        self.port = port
        self._bench = bench

    def post(self, body: bytes, *, path: str = "/validate", bundle: str = "") -> httpx2.Response:
        """Call the webhook as the API server does: trusting what it is told to trust."""
        trust = ssl.create_default_context(cadata=bundle or self._bench.bundles()[0])
        return httpx2.post(
            f"https://127.0.0.1:{self.port}{path}",
            content=body,
            headers={"Content-Type": "application/json"},
            verify=trust,
            timeout=WAIT_S,
        )

    def metric(self, name: str) -> float:
        """Return a metric of this replica; 0 if it is not there."""
        for line in look(f"{self.running.admin}/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def denied(self) -> float:
        """Return how many policies it has denied."""
        return self.metric(
            'switchboard_operator_admission_reviews_total{kind="RoutingPolicy",outcome="denied"}'
        )

    def certificate(self) -> str:
        """Return the certificate that it shows, as PEM."""
        return ssl.get_server_certificate(("127.0.0.1", self.port))
