"""The chart on a real API server: what it takes, and what installing and upgrading it does.

There is no kubelet and no controller here: nothing runs, and nothing is waited for.
"""

import base64
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.chart import (
    CHART,
    NAMES,
    RELEASE,
    STORE,
    Helm,
    pods_of,
    require_helm,
    values_of,
)
from cluster.control_plane import GIVEN, ControlPlane, ControlPlaneUnavailable, choose_origin
from cluster.line import eventually
from conftest import unavailable

RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/warn": "restricted",
}
CRDS = [f"{path.stem}.switchboard.dev" for path in sorted((CHART / "files/crds").glob("*.yaml"))]
MANAGED_BY = "app.kubernetes.io/managed-by"
QUIET = ("--set", "admission.enabled=false")
RELEASE_SECRET_BYTES_MAX = 256 * 1024
"""Of the 1 MiB that an API server takes."""
BACKEND = {
    "apiVersion": "switchboard.dev/v1alpha1",
    "kind": "ModelBackend",
    "metadata": {"name": "kept"},
    "spec": {"model": "m", "external": {"provider": "openai", "url": "https://models.example/v1"}},
}
TEXT = {"type": "string"}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def of(type_: str, /, **properties: Any) -> dict[str, Any]:
    return {"type": type_, **({"properties": properties} if properties else {})}


#: Kinds of other projects, as far as the chart writes them: anything else is refused by name.
FOREIGN = {
    ("monitoring.coreos.com", "v1", "ServiceMonitor"): of(
        "object",
        jobLabel=TEXT,
        selector=of("object", matchLabels=TEXTS),
        namespaceSelector=of("object", matchNames={"type": "array", "items": TEXT}),
        endpoints={
            "type": "array",
            "items": of("object", port=TEXT, path=TEXT, interval=TEXT, scrapeTimeout=TEXT),
        },
    ),
    ("monitoring.coreos.com", "v1", "PrometheusRule"): of(
        "object",
        groups={
            "type": "array",
            "items": of(
                "object",
                name=TEXT,
                rules={
                    "type": "array",
                    "items": of(
                        "object",
                        alert=TEXT,
                        expr=TEXT,
                        labels=TEXTS,
                        annotations=TEXTS,
                        **{"for": TEXT},
                    ),
                },
            ),
        },
    ),
    ("cert-manager.io", "v1", "Certificate"): of(
        "object",
        secretName=TEXT,
        commonName=TEXT,
        isCA=of("boolean"),
        duration=TEXT,
        dnsNames={"type": "array", "items": TEXT},
        issuerRef=of("object", name=TEXT, kind=TEXT, group=TEXT),
        privateKey=of(
            "object",
            algorithm=TEXT | {"enum": ["RSA", "ECDSA", "Ed25519"]},
            size=of("integer"),
            rotationPolicy=TEXT | {"enum": ["Never", "Always"]},
        ),
    ),
    ("cert-manager.io", "v1", "Issuer"): of(
        "object", selfSigned=of("object"), ca=of("object", secretName=TEXT)
    ),
}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """An API server of these tests alone: they install and remove what all others share."""
    environ = {name: value for name, value in os.environ.items() if name != GIVEN}
    try:
        origin = choose_origin(environ)
    except ControlPlaneUnavailable as reason:
        unavailable(reason)
    with ControlPlane.start(tmp_path_factory.mktemp("chart-plane"), origin) as plane:
        yield plane


@pytest.fixture(scope="module")
def helm(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    home = str(tmp_path_factory.mktemp("helm"))
    return require_helm({"KUBECONFIG": str(plane.kubeconfig()), "HELM_CACHE_HOME": home})


@pytest.fixture(scope="module")
def restricted(plane: ControlPlane) -> str:
    """A namespace where only restricted pods may be, and nothing is installed."""
    return plane.create_namespace("restricted", RESTRICTED)


@pytest.fixture
def namespace(plane: ControlPlane, helm: Helm) -> Iterator[str]:
    """A namespace for a release, which goes in the end, and owns the CRDs that are there.

    They are handed on, not deleted: an API server that made a CRD in the second before can
    hold its deletion for more than a minute.
    """
    name = plane.create_namespace("chart", RESTRICTED)
    if plane.kubectl("get", "crd", "--ignore-not-found", *CRDS):
        own_crds(plane, helm, name)
    yield name
    helm.run("uninstall", RELEASE, "-n", name)


@pytest.fixture(scope="module")
def foreign(plane: ControlPlane) -> None:
    for (group, version, kind), spec in FOREIGN.items():
        plural = f"{kind.lower()}s"
        schema = of("object", spec=spec)
        served = {"name": version, "served": True, "storage": True}
        plane.apply(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{plural}.{group}"},
                "spec": {
                    "group": group,
                    "scope": "Namespaced",
                    "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                    "versions": [served | {"schema": {"openAPIV3Schema": schema}}],
                },
            }
        )
        plane.kubectl(
            "wait", "--for=condition=Established", "--timeout=120s", f"crd/{plural}.{group}"
        )


def applied(plane: ControlPlane, text: str) -> str:
    """What kubectl says of a dry run on the server, warnings included."""
    flags = ("--dry-run=server", "--validate=strict", "-f", "-")
    done = plane.try_kubectl("apply", *flags, input=text)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("case", NAMES)
def test_the_api_server_takes_the_chart(
    case: str, plane: ControlPlane, helm: Helm, restricted: str
) -> None:
    for watched in ("team-a", "team-b"):
        about = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": watched}}
        plane.apply(about)
    done = helm.template(*values_of(case), namespace=restricted)
    said = applied(plane, done.stdout)
    rendered = [found for found in yaml.safe_load_all(done.stdout) if found]
    assert said.count("(server dry run)") == len(rendered)
    assert "Warning" not in said


@pytest.mark.parametrize("case", ["bundled-redis", "highly-available", "two-namespaces"])
def test_pod_security_lets_every_pod_in(
    case: str, plane: ControlPlane, helm: Helm, restricted: str
) -> None:
    documents = helm.documents(*values_of(case), namespace=restricted)
    pods = dict(pods_of(documents))
    applied(plane, yaml.safe_dump_all(pod(*each, restricted) for each in pods.items()))
    for spec in pods.values():
        spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(AssertionError) as refused:
        applied(plane, yaml.safe_dump_all(pod(*each, restricted) for each in pods.items()))
    assert str(refused.value).count('violates PodSecurity "restricted') >= len(pods)


def pod(name: str, spec: dict[str, Any], namespace: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


# --- install, upgrade, roll back, uninstall ---------------------------------------------------


def test_a_release_leaves_nothing_but_the_crds(
    plane: ControlPlane, helm: Helm, namespace: str
) -> None:
    before = everything(plane)
    flags = ("-n", namespace, "--set", "redis.bundled.enabled=true")
    helm.must("install", RELEASE, str(CHART), *flags)
    passwords = plane.get("secret", "switchboard-redis", namespace=namespace)["data"]
    helm.must("upgrade", RELEASE, str(CHART), *flags, "--set", "gateway.replicas=5")
    assert replicas(plane, namespace) == 5
    helm.must("rollback", RELEASE, "1", "-n", namespace)
    assert replicas(plane, namespace) == 2
    assert plane.get("secret", "switchboard-redis", namespace=namespace)["data"] == passwords
    helm.must("uninstall", RELEASE, "-n", namespace)
    crds = {f"customresourcedefinition.apiextensions.k8s.io/{name}" for name in CRDS}
    left = everything(plane)
    assert left - before <= crds <= left
    # No webhook is left that would have to answer.
    plane.apply(in_namespace(namespace))


def test_a_release_is_far_from_what_a_secret_may_hold(
    plane: ControlPlane, helm: Helm, namespace: str, record_property: Any
) -> None:
    dashboard = ("--set", "metrics.dashboard.enabled=true")
    helm.must("install", RELEASE, str(CHART), "-n", namespace, *STORE, *dashboard)
    secret = plane.get("secret", f"sh.helm.release.v1.{RELEASE}.v1", namespace=namespace)
    size = len(base64.b64decode(secret["data"]["release"]))
    record_property("measured", f"a release of the chart takes {size // 1024} KiB of a Secret")
    assert size < RELEASE_SECRET_BYTES_MAX


def test_an_upgrade_upgrades_the_crds_and_a_rollback_takes_them_back(
    plane: ControlPlane, helm: Helm, namespace: str, tmp_path: Path
) -> None:
    helm.must("install", RELEASE, str(CHART), "-n", namespace, *STORE, *QUIET)
    plane.apply(in_namespace(namespace))
    before = plane.get("modelbackend", "kept", namespace=namespace)
    newer = shutil.copytree(CHART, tmp_path / "newer")
    crd = newer / "files" / "crds" / "modelbackends.yaml"
    crd.write_text(crd.read_text().replace("    - mb\n", "    - mb\n    - newer\n"))
    helm.must("upgrade", RELEASE, str(newer), "-n", namespace, *STORE, *QUIET)
    assert short_names(plane) == ["mb", "newer"]
    helm.must("rollback", RELEASE, "1", "-n", namespace)
    assert short_names(plane) == ["mb"]
    assert plane.get("modelbackend", "kept", namespace=namespace) == before


@pytest.mark.parametrize("how", ["flag", "commands"])
def test_crds_of_a_release_that_did_not_own_them_are_adopted(
    how: str, plane: ControlPlane, helm: Helm, namespace: str, tmp_path: Path
) -> None:
    older = shutil.copytree(CHART, tmp_path / "older")
    (older / "files" / "crds").rename(older / "crds")
    (older / "templates" / "crds.yaml").unlink()
    if plane.kubectl("get", "crd", "--ignore-not-found", *CRDS):
        plane.kubectl("label", "crd", *CRDS, f"{MANAGED_BY}-")
    helm.must("install", RELEASE, str(older), "-n", namespace, *STORE, *QUIET)
    plane.apply(in_namespace(namespace))
    uid = plane.get("modelbackend", "kept", namespace=namespace)["metadata"]["uid"]

    upgrade = ("upgrade", RELEASE, str(CHART), "-n", namespace, *STORE, *QUIET)
    refused = helm.run(*upgrade)
    assert "invalid ownership metadata" in refused.stderr
    if how == "flag":
        helm.must(*upgrade, "--take-ownership")
    else:
        annotations = [f"{name}={value}" for name, value in owner(namespace).items()]
        plane.kubectl("label", "crd", *CRDS, f"{MANAGED_BY}=Helm")
        plane.kubectl("annotate", "--overwrite", "crd", *CRDS, *annotations)
        helm.must(*upgrade)

    helm.must("uninstall", RELEASE, "-n", namespace)
    assert plane.get("modelbackend", "kept", namespace=namespace)["metadata"]["uid"] == uid


def test_a_second_release_leaves_the_crds_to_the_first(
    plane: ControlPlane, helm: Helm, namespace: str
) -> None:
    helm.must("install", RELEASE, str(CHART), "-n", namespace, *STORE)
    other = plane.create_namespace("other")
    install = ("install", RELEASE, str(CHART), "-n", other, *STORE)
    assert "invalid ownership metadata" in helm.run(*install).stderr
    helm.must(*install, "--set", "crds.install=false")
    # They move to the other when the first gives them up.
    given_up = ("--set", "crds.install=false")
    helm.must("upgrade", RELEASE, str(CHART), "-n", namespace, *STORE, *given_up)
    helm.must("upgrade", RELEASE, str(CHART), "-n", other, *STORE, "--take-ownership")
    helm.must("uninstall", RELEASE, "-n", other)
    assert short_names(plane) == ["mb"]


def test_a_reinstalled_release_takes_its_crds_again(
    plane: ControlPlane, helm: Helm, namespace: str
) -> None:
    install = ("install", RELEASE, str(CHART), "-n", namespace, *STORE)
    helm.must(*install)
    helm.must("uninstall", RELEASE, "-n", namespace)
    helm.must(*install)
    assert short_names(plane) == ["mb"]


def test_an_upgrade_leaves_what_others_write(
    plane: ControlPlane, helm: Helm, namespace: str
) -> None:
    """The operator writes the webhook's caBundle, a HorizontalPodAutoscaler the replicas."""
    scaled = (*STORE, "--set", "gateway.autoscaling.enabled=true")
    helm.must("install", RELEASE, str(CHART), "-n", namespace, *scaled)
    name = f"switchboard-operator-{namespace}"
    bundle = base64.b64encode(b"an authority").decode()
    before = plane.get("validatingwebhookconfiguration", name)["webhooks"]
    trust = {"clientConfig": {"caBundle": bundle}}
    webhooks = [{"name": each["name"], **trust} for each in before]
    patch = yaml.safe_dump({"webhooks": webhooks})
    plane.kubectl("patch", "validatingwebhookconfiguration", name, "-p", patch)
    plane.kubectl("scale", "deployment/switchboard-gateway", "-n", namespace, "--replicas=7")
    helm.must("upgrade", RELEASE, str(CHART), "-n", namespace, *scaled, "--set", "service.port=81")
    found = plane.get("validatingwebhookconfiguration", name)
    assert [each["clientConfig"]["caBundle"] for each in found["webhooks"]] == [bundle, bundle]
    assert replicas(plane, namespace) == 7


def test_autoscaling_begins_with_the_replicas_there_are(
    plane: ControlPlane, helm: Helm, namespace: str
) -> None:
    """As docs/operations/upgrade.md has it: else Kubernetes would begin with one."""
    helm.must("install", RELEASE, str(CHART), "-n", namespace, *STORE)
    plane.kubectl("scale", "deployment/switchboard-gateway", "-n", namespace, "--replicas=3")
    scaled = ("--set", "gateway.autoscaling.enabled=true")
    helm.must("upgrade", RELEASE, str(CHART), "-n", namespace, *STORE, *scaled)
    assert replicas(plane, namespace) == 3


def test_the_notes_name_commands_that_work(plane: ControlPlane, helm: Helm, namespace: str) -> None:
    said = helm.must("install", RELEASE, str(CHART), "-n", namespace, *STORE)
    assert f"http://switchboard.{namespace}.svc/v1" in said
    lines = [line.strip() for line in said.splitlines()]
    commands = [line.split()[1:] for line in lines if line.startswith("kubectl ")]
    # The operator makes the summary, and a Secret's name is the reader's to say.
    theirs = {"configmap", "secret"}
    tried = [each for each in commands if each[0] in {"explain", "get"} and theirs.isdisjoint(each)]
    assert len(tried) >= 3
    for command in tried:
        # What a new kind looks like is told a moment after it is served.
        works = partial(succeeds, plane, command)
        eventually(works, what=" ".join(command))


def succeeds(plane: ControlPlane, command: list[str]) -> bool:
    return plane.try_kubectl(*command).returncode == 0


def in_namespace(namespace: str) -> dict[str, Any]:
    return BACKEND | {"metadata": {"name": "kept", "namespace": namespace}}


def replicas(plane: ControlPlane, namespace: str) -> int:
    found: int = plane.get("deployment", "switchboard-gateway", namespace=namespace)["spec"][
        "replicas"
    ]
    return found


def owner(namespace: str) -> dict[str, str]:
    return {"meta.helm.sh/release-name": RELEASE, "meta.helm.sh/release-namespace": namespace}


def own_crds(plane: ControlPlane, helm: Helm, namespace: str) -> None:
    """Give the CRDs to a release there, as if it had installed them."""
    crds = list(helm.documents("-s", "templates/crds.yaml", *STORE, namespace=namespace))
    for crd in crds:
        crd["metadata"].setdefault("labels", {})[MANAGED_BY] = "Helm"
        crd["metadata"].setdefault("annotations", {}).update(owner(namespace))
    apply = ("apply", "--server-side", "--force-conflicts", "--field-manager=helm", "-f", "-")
    plane.kubectl(*apply, input=yaml.safe_dump_all(crds))


def short_names(plane: ControlPlane) -> list[str]:
    found: list[str] = plane.get("crd", "modelbackends.switchboard.dev")["spec"]["names"][
        "shortNames"
    ]
    return found


def everything(plane: ControlPlane) -> set[str]:
    """Every object there is, but those that are the API server's own and come and go."""
    kinds = plane.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    passing = {"events", "events.events.k8s.io", "leases.coordination.k8s.io"}
    listed = ",".join(kind for kind in kinds if kind not in passing)
    found = plane.kubectl("get", listed, "-A", "-o", "name", "--ignore-not-found").split()
    return {name for name in found if not name.startswith("apiservice.")}
