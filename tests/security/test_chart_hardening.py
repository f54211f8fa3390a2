"""What the chart's pods may do: Pod Security "restricted", and a NetworkPolicy for each of them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest

from cluster.chart import NAMES, STORE, Helm, require_helm, values_of

ON = ("--set", "networkPolicy.enabled=true")
#: Volumes of the profile "restricted".
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
WORKLOADS = ("Deployment", "StatefulSet", "Pod", "Job")


@pytest.fixture(scope="module")
def helm() -> Helm:
    return require_helm()


def pods(documents: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Any, Any]]:
    """Name, labels and spec of every pod that the chart makes, `helm test`'s among them."""
    for one in documents:
        if one["kind"] in WORKLOADS:
            pod = one if one["kind"] == "Pod" else one["spec"]["template"]
            yield one["metadata"]["name"], pod["metadata"].get("labels", {}), pod["spec"]


def offences(spec: Any) -> Iterator[str]:
    """What of a pod the profile "restricted" does not let in."""
    whole = spec.get("securityContext") or {}
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field
    for volume in spec.get("volumes", ()):
        yield from (kind for kind in volume.keys() - {"name"} if kind not in VOLUMES)
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        own = container.get("securityContext") or {}
        yield from (
            f"{container['name']}: {fault}" for fault in _of_container(container, own, whole)
        )


def _of_container(container: Any, own: Any, whole: Any) -> Iterator[str]:
    if not own.get("runAsNonRoot", whole.get("runAsNonRoot")):
        yield "runAsNonRoot"
    if own.get("runAsUser", whole.get("runAsUser")) == 0:
        yield "runAsUser"
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "allowPrivilegeEscalation"
    if (own.get("capabilities") or {}).get("drop") != ["ALL"]:
        yield "capabilities"
    profile = own.get("seccompProfile", whole.get("seccompProfile")) or {}
    if profile.get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    if any("hostPort" in port for port in container.get("ports", ())):
        yield "hostPort"


@pytest.mark.parametrize("case", NAMES)
def test_every_pod_is_let_in_by_pod_security_restricted(case: str, helm: Helm) -> None:
    found = {name: [*offences(spec)] for name, _, spec in pods([*helm.documents(*values_of(case))])}
    assert found.keys() >= {"switchboard-operator", "switchboard-gateway", "switchboard-test"}
    assert {name: said for name, said in found.items() if said} == {}


@pytest.mark.parametrize("taken", ["securityContext", "podSecurityContext"])
def test_without_its_security_context_no_pod_would_be_let_in(taken: str, helm: Helm) -> None:
    documents = [*helm.documents(*STORE, "--set", f"{taken}=null")]
    assert all([*offences(spec)] for _, _, spec in pods(documents))


@pytest.mark.parametrize("case", NAMES)
def test_every_pod_has_a_network_policy_for_both_ways(case: str, helm: Helm) -> None:
    redis = ("--set", "networkPolicy.redis.ports={6379}")
    documents = [*helm.documents(*values_of(case), *ON, *redis)]
    policies = [one["spec"] for one in documents if one["kind"] == "NetworkPolicy"]
    for name, labels, _ in pods(documents):
        ways = {
            way
            for policy in policies
            if policy["podSelector"]["matchLabels"].items() <= labels.items()
            for way in policy["policyTypes"]
        }
        assert ways == {"Ingress", "Egress"}, name


def test_without_the_value_there_is_no_network_policy(helm: Helm) -> None:
    """A cluster whose network knows none would take them for a promise."""
    assert "NetworkPolicy" not in {one["kind"] for one in helm.documents(*STORE)}
