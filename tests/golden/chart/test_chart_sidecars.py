"""The chart with sidecars: whom the webhook is asked about, and what the operator may do for it."""

import base64
from typing import Any

import pytest
import yaml

from cluster.chart import STORE, Helm, only, require_helm, values_of
from cluster.redis_users import PAGE, documented_users
from switchboard_operator.settings import Settings
from switchboard_operator.store_users import rules

ENABLED = (*STORE, "--set", "sidecar.enabled=true")
KIND = "MutatingWebhookConfiguration"


@pytest.fixture(scope="module")
def helm() -> Helm:
    return require_helm()


@pytest.fixture(scope="module")
def documents(helm: Helm) -> list[dict[str, Any]]:
    return list(helm.documents(*values_of("sidecars")))


def settings_of(documents: list[dict[str, Any]]) -> Settings:
    config = only(documents, "ConfigMap", "switchboard-operator")["data"]["operator.yaml"]
    return Settings.model_validate({"namespace": "switchboard", **yaml.safe_load(config)})


def test_nothing_of_sidecars_is_there_unless_they_are_wanted(helm: Helm) -> None:
    documents = list(helm.documents(*STORE))
    assert not [each for each in documents if each["kind"] == KIND]
    assert (
        "sidecar"
        not in only(documents, "ConfigMap", "switchboard-operator")["data"]["operator.yaml"]
    )


def test_only_pods_that_are_labelled_wait_for_the_operator(documents: list[dict[str, Any]]) -> None:
    by_namespace, by_pod = only(documents, KIND, "switchboard-operator-switchboard")["webhooks"]
    label = {"key": "switchboard.dev/inject", "operator": "In", "values": ["true"]}
    assert label in by_namespace["namespaceSelector"]["matchExpressions"]
    assert by_pod["objectSelector"]["matchExpressions"] == [label]
    for each in (by_namespace, by_pod):
        (never,) = (
            one["values"]
            for one in each["namespaceSelector"]["matchExpressions"]
            if one["key"] == "kubernetes.io/metadata.name"
        )
        assert set(never) == {"kube-system", "switchboard"}
        assert (each["failurePolicy"], each["reinvocationPolicy"]) == ("Fail", "IfNeeded")
        assert each["sideEffects"] == "NoneOnDryRun"
        assert each["rules"] == [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "resources": ["pods"],
                "operations": ["CREATE"],
                "scope": "Namespaced",
            }
        ]


def test_the_operator_is_told_all_that_a_sidecar_needs(documents: list[dict[str, Any]]) -> None:
    said = settings_of(documents).sidecar
    assert (said.enabled, said.scopes_max) == (True, 50)
    assert said.gateway_url == "http://switchboard.switchboard.svc/v1"
    assert said.image.startswith("switchboard-dataplane:")
    assert said.configuration == "switchboard-operator-switchboard"
    restricted = {"allowPrivilegeEscalation", "capabilities", "runAsNonRoot", "seccompProfile"}
    assert restricted <= said.security_context.keys()


def test_values_that_a_cluster_chooses_itself_are_left_out(helm: Helm) -> None:
    nulls = [f"podSecurityContext.{each}=null" for each in ("runAsUser", "runAsGroup", "fsGroup")]
    flags = [part for each in nulls for part in ("--set", each)]
    context = settings_of(list(helm.documents(*ENABLED, *flags))).sidecar.security_context
    assert "runAsUser" not in context
    assert context["runAsNonRoot"] is True


def test_the_operators_user_may_make_those_of_namespaces_as_documented(
    documents: list[dict[str, Any]],
) -> None:
    acl = only(documents, "Secret", "switchboard-redis")["data"]["users.acl"]
    line = next(
        line
        for line in base64.b64decode(acl).decode().splitlines()
        if line.startswith("user operator ")
    )
    added = set(line.split()[4:]) - set(documented_users()["operator"])
    assert f"ACL SETUSER operator {' '.join(sorted(added, key=line.index))}\n" in PAGE.read_text()
    assert set(documented_users()["operator"]) <= set(line.split())


def test_a_namespaces_user_is_a_data_planes_as_documented() -> None:
    documented = documented_users(scope="ns/app")["dataplane"]
    assert set(rules("ns/app", "x")) == {"reset", "on", ">x", *documented}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (("admission.enabled=false",), "sidecar.enabled needs admission.enabled"),
        (("gateway.access.modes={keys}",), "sidecars show tokens: add tokens"),
        (("sidecar.gatewayUrl=http://gateway",), "gatewayUrl"),
        (("sidecar.scopesMax=0",), "scopesMax"),
    ],
)
def test_what_cannot_be_is_refused(helm: Helm, values: tuple[str, ...], told: str) -> None:
    done = helm.template(*ENABLED, *(part for each in values for part in ("--set", each)))
    assert done.returncode != 0
    assert told in done.stderr


def test_with_named_namespaces_there_is_a_role_in_each_and_nowhere_else(helm: Helm) -> None:
    made = list(helm.documents(*ENABLED, "--set", "watchNamespaces={a,b}"))
    name = "switchboard-operator-sidecars-switchboard"
    roles = [each for each in made if each["metadata"]["name"] == name and each["kind"] == "Role"]
    assert {each["metadata"]["namespace"] for each in roles} == {"a", "b"}
    assert not [
        each for each in made if each["kind"] == "ClusterRole" and each["metadata"]["name"] == name
    ]
    for webhook in only(made, KIND, "switchboard-operator-switchboard")["webhooks"]:
        assert {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]} in (
            webhook["namespaceSelector"]["matchExpressions"]
        )
