"""The rendered chart: reviewed as text, and the source of the rights that other tests run under."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from cluster.chart import (
    CASES,
    CHART,
    NAMES,
    STORE,
    Helm,
    only,
    pods_of,
    require_helm,
    values_of,
)
from cluster.redis_users import documented_users
from conftest import Golden
from switchboard_dataplane.ground import guard_of
from switchboard_dataplane.settings import parse_settings
from switchboard_operator.settings import DENIABLE, Settings, read_settings

REPO = CHART.parents[1]
MADE_AT_RANDOM = re.compile(r"^(  (?:\w+-password|\w+-url|users\.acl): )\S+$", re.MULTILINE)
CLOSE_S = 10
"""What a pod needs after its drain: to export what it counted, to take leave of the store."""


@pytest.fixture(scope="module")
def helm() -> Helm:
    return require_helm()


@pytest.mark.parametrize("case", NAMES)
def test_the_chart_renders_as_reviewed(case: str, helm: Helm, golden: Golden) -> None:
    # Two that are long have tests of their own.
    without = ("--set", "crds.install=false", "--set", "metrics.dashboard.enabled=false")
    done = helm.template(*values_of(case), *without)
    assert done.returncode == 0, done.stderr
    golden(CASES / f"{case}.yaml", MADE_AT_RANDOM.sub(r"\1MADE-AT-RANDOM", done.stdout))


@pytest.mark.parametrize("case", NAMES)
def test_the_chart_passes_lint(case: str, helm: Helm) -> None:
    done = helm.run("lint", "--strict", str(CHART), *values_of(case))
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_one_golden_file_for_each_values_file() -> None:
    rendered = {path.stem for path in CASES.glob("*.yaml") if ".values" not in path.name}
    assert rendered == set(NAMES)


def test_the_crds_are_the_generated_ones_and_outlive_the_release(helm: Helm) -> None:
    kind = "CustomResourceDefinition"
    found = [each for each in helm.documents(*STORE) if each["kind"] == kind]
    made = [yaml.safe_load(path.read_text()) for path in sorted((REPO / "crds").glob("*.yaml"))]
    assert [(each["metadata"]["name"], each["spec"]) for each in found] == [
        (each["metadata"]["name"], each["spec"]) for each in made
    ]
    for each in found:
        assert each["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_a_gateway_is_told_which_addresses_models_may_be_called_at(helm: Helm) -> None:
    (gateway,) = [
        each
        for each in helm.documents(*STORE, "--set", "gateway.allowAddresses={127.0.0.0/8,::1}")
        if each["kind"] == "Deployment" and each["metadata"]["name"] == "switchboard-gateway"
    ]
    (container,) = gateway["spec"]["template"]["spec"]["containers"]
    assert "--allow-addresses=127.0.0.0/8,::1" in container["args"]
    said = parse_settings(container["args"], {}, prog="dataplane")
    assert guard_of(said).refusal("127.0.0.1") == ""


def test_no_key_is_ever_part_of_a_release_with_a_redis_that_exists(helm: Helm) -> None:
    assert "Secret" not in {each["kind"] for each in helm.documents(*STORE)}


@pytest.mark.parametrize("case", NAMES)
def test_the_operator_takes_its_settings(case: str, helm: Helm, tmp_path: Path) -> None:
    documents = list(helm.documents(*values_of(case)))
    config = only(documents, "ConfigMap", "switchboard-operator")["data"]["operator.yaml"]
    (tmp_path / "operator.yaml").write_text(config)
    settings = read_settings([f"--config={tmp_path}/operator.yaml"], {"SWITCHBOARD_NAMESPACE": "x"})
    webhooks = [each for each in documents if each["kind"].startswith("Validating")]
    assert settings.admission.port == (9443 if webhooks else 0)
    if settings.admission.port and not settings.admission.cert_dir:
        assert settings.admission.configuration == webhooks[0]["metadata"]["name"]
        role = only(documents, "Role", "switchboard-operator")
        assert settings.admission.secret in {
            name for rule in role["rules"] for name in rule.get("resourceNames", ())
        }


@pytest.mark.parametrize("case", NAMES)
def test_a_data_plane_takes_its_flags(case: str, helm: Helm) -> None:
    spec = dict(pods_of(helm.documents(*values_of(case))))["switchboard-gateway"]
    settings = parse_settings(spec["containers"][0]["args"], {}, prog="dataplane")
    assert spec["terminationGracePeriodSeconds"] >= settings.grace_s + settings.drain_s + CLOSE_S


@pytest.mark.parametrize(
    ("access", "told", "not_told"),
    [
        ((), ("switchboard key NAME --namespace switchboard", "kubectl create token"), "NO KEY"),
        (("gateway.access.modes={none}",), ("whoever reaches it may call",), "switchboard key"),
        (
            ("watchNamespaces={team-a}", "gateway.access.modes={keys}"),
            ("switchboard key NAME", "NO KEY WORKS YET"),
            "kubectl create token",
        ),
    ],
)
def test_the_notes_say_how_to_be_let_in(
    helm: Helm, access: tuple[str, ...], told: tuple[str, ...], not_told: str
) -> None:
    flags = [part for each in access for part in ("--set", each)]
    done = helm.must(
        *("install", "sb", str(CHART), "--dry-run=client", "--namespace", "switchboard"),
        *(*STORE, "--set", "crds.install=false", *flags),
    )
    notes = done.partition("NOTES:")[2]
    assert all(each in notes for each in told)
    assert not_told not in notes


@pytest.mark.parametrize("case", NAMES)
def test_pods_are_as_small_as_they_can_be(case: str, helm: Helm) -> None:
    pods = dict(pods_of(helm.documents(*values_of(case))))
    assert {"switchboard-operator", "switchboard-gateway", "switchboard-test"} <= set(pods)
    for name, spec in pods.items():
        assert spec["automountServiceAccountToken"] is (name == "switchboard-operator")
        assert spec["securityContext"]["runAsNonRoot"]
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert name == "switchboard-test" or {"livenessProbe", "readinessProbe"} < set(
                container
            )


@pytest.mark.parametrize(("user", "role"), [("operator", "operator"), ("gateway", "dataplane")])
def test_the_users_of_the_bundled_redis_have_the_rights_of_the_documents(
    helm: Helm, user: str, role: str
) -> None:
    documents = list(helm.documents(*values_of("bundled-redis")))
    secret = only(documents, "Secret", "switchboard-redis")["data"]
    acl = base64.b64decode(secret["users.acl"]).decode()
    rights = next(line for line in acl.splitlines() if line.startswith(f"user {user} "))
    password = base64.b64decode(secret[f"{user}-password"]).decode()
    assert rights.split()[2:] == ["on", f">{password}", *documented_users()[role]]


def test_a_changed_right_restarts_the_bundled_redis_and_other_passwords_do_not(helm: Helm) -> None:
    def rendered(*values: str) -> tuple[dict[str, str], dict[str, str]]:
        flags = ("--set", "redis.bundled.enabled=true", *values)
        documents = list(helm.documents(*flags))
        template = only(documents, "Deployment", "switchboard-redis")["spec"]["template"]
        secrets = [each for each in documents if each["kind"] == "Secret"]
        return template["metadata"]["annotations"], secrets[0]["data"] if secrets else {}

    once, again, renamed = rendered(), rendered(), rendered("--set", "gateway.name=other")
    assert once[1]["users.acl"] != again[1]["users.acl"]
    assert once[0] == again[0]
    assert once[0]["checksum/users"] != renamed[0]["checksum/users"]
    # Users of a Secret of one's own are one's own to watch.
    given, _ = rendered("--set", "redis.bundled.existingSecret=users")
    assert given.keys() == {"checksum/config"}


def test_edits_go_unchecked_meanwhile_where_the_values_say_so(helm: Helm) -> None:
    documents = helm.documents(*STORE, "--set", "admission.failurePolicy=Ignore")
    (found,) = (each for each in documents if each["kind"].startswith("Validating"))
    assert {each["failurePolicy"] for each in found["webhooks"]} == {"Ignore"}


def test_releases_that_watch_one_namespace_share_no_object_there(helm: Helm) -> None:
    flags = (*STORE, "--set", "watchNamespaces={team-a}")
    one, other = (
        {
            (each["kind"], each["metadata"]["name"])
            for each in helm.documents(*flags, "--set", "crds.install=false", namespace=namespace)
            if each["metadata"].get("namespace") != namespace
        }
        for namespace in ("one", "two")
    )
    assert {kind for kind, _ in one} >= {"Role", "RoleBinding"}
    assert one & other == set()


def test_a_security_context_can_leave_fields_out(helm: Helm) -> None:
    unset = (
        "podSecurityContext.runAsUser=null,podSecurityContext.runAsGroup=null,"
        "podSecurityContext.fsGroup=null,securityContext.capabilities=null"
    )
    bundled = ("--set", "redis.bundled.enabled=true")
    pods = dict(pods_of(helm.documents(*bundled, "--set", unset)))
    assert len(pods) == 4
    for spec in pods.values():
        assert spec["securityContext"].keys() == {"runAsNonRoot", "seccompProfile"}
        (container,) = spec["containers"]
        assert container["securityContext"].keys() == {
            "allowPrivilegeEscalation",
            "readOnlyRootFilesystem",
        }
    none = ("--set", "podSecurityContext=null,securityContext=null")
    for spec in dict(pods_of(helm.documents(*bundled, *none))).values():
        assert "securityContext" not in spec
        assert "securityContext" not in spec["containers"][0]


def test_whoever_may_edit_a_namespace_writes_objects_and_never_a_status(helm: Helm) -> None:
    roles = {
        each["metadata"]["name"]: each
        for each in helm.documents(*STORE)
        if each["kind"] == "ClusterRole" and "operator" not in each["metadata"]["name"]
    }
    assert roles.keys() == {"switchboard-view-switchboard", "switchboard-edit-switchboard"}
    writes = {"create", "update", "patch", "delete", "deletecollection"}
    for name, role in roles.items():
        (rule,) = role["rules"]
        assert rule["resources"] == ["modelbackends", "routingpolicies"]
        to_view = "rbac.authorization.k8s.io/aggregate-to-view" in role["metadata"]["labels"]
        assert to_view is name.startswith("switchboard-view")
        assert set(rule["verbs"]) == ({"get", "list", "watch"} if to_view else writes)
    without = helm.documents(*STORE, "--set", "rbac.aggregate=false")
    assert not roles.keys() & {each["metadata"]["name"] for each in without}


def test_each_plane_may_have_a_key_of_its_own_in_a_secret(helm: Helm) -> None:
    def keys(*values: str) -> dict[str, str]:
        secret = ("--set", "redis.existingSecret.name=store")
        pods = dict(pods_of(helm.documents(*secret, *values)))
        names = ("switchboard-operator", "switchboard-gateway")
        return {name: mounted_keys(pods[name])["store"] for name in names}

    assert keys() == {"switchboard-operator": "url", "switchboard-gateway": "url"}
    one = keys("--set", "redis.existingSecret.gatewayKey=reader")
    assert one == {"switchboard-operator": "url", "switchboard-gateway": "reader"}


def mounted_keys(pod: dict[str, Any]) -> dict[str, str]:
    """The keys of Secrets whose one file is a URL that a variable names: by the Secret's name."""
    (container,) = pod["containers"]
    named = {each["value"] for each in container["env"] if each["name"].endswith("REDIS_URL_FILE")}
    found = {
        each["secret"]["secretName"]: each["secret"]["items"][0]["key"]
        for each in pod["volumes"]
        for mount in container["volumeMounts"]
        if mount["name"] == each["name"] and f"{mount['mountPath']}/url" in named
    }
    assert len(found) == len(named)
    assert not any("REDIS_URL" in each["name"] for each in container["env"] if "value" not in each)
    return found


def test_a_url_in_a_secret_is_a_file_that_may_change(helm: Helm) -> None:
    shared = ("--set", "sidecar.enabled=true", "--set", "sidecar.redis.existingSecret.name=for-all")
    pods = dict(pods_of(helm.documents("--set", "redis.bundled.enabled=true", *shared)))
    assert mounted_keys(pods["switchboard-operator"]) == {
        "switchboard-redis": "operator-url",
        "for-all": "url",
    }
    assert mounted_keys(pods["switchboard-gateway"]) == {"switchboard-redis": "gateway-url"}


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("redis://redis", {6379}),
        ("rediss://user:p%40ss@redis:6380/0", {6380}),
        ("redis://[fd00::1]:7000/0", {7000}),
        ("redis://[fd00::1]/0", {6379}),
        ("redis+cluster://u:p:1@a:7001,b:7002,c:7001", {7001, 7002}),
        ("redis+cluster://a,b:7002?x=@y:1", {6379, 7002}),
    ],
)
def test_the_way_to_redis_is_open_at_the_ports_of_its_url(
    helm: Helm, tmp_path: Path, url: str, ports: set[int]
) -> None:
    values = {
        "redis": {"url": url},
        "networkPolicy": {"enabled": True, "redis": {"to": [{"a": 1}]}},
    }
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    policies = [
        each
        for each in helm.documents("--values", f"{tmp_path}/values.yaml")
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] != "switchboard-test"
    ]
    assert len(policies) == 2
    for policy in policies:
        (found,) = (rule for rule in policy["spec"]["egress"] if "to" in rule)
        assert {each["port"] for each in found["ports"]} == ports


# --- documents of the chart -----------------------------------------------------------------


def properties(schema: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """The schema's fields by path; those of a Kubernetes object are not the chart's."""
    found: dict[str, Any] = {}
    for name, field in schema.get("properties", {}).items():
        found[name] = field
        (named,) = field.get("allOf", [{"$ref": "#/"}])
        inner = whole["definitions"].get(named["$ref"].rpartition("/")[2], field)
        found |= {f"{name}.{path}": each for path, each in properties(inner, whole).items()}
    return found


def leaves(values: dict[str, Any], known: set[str], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        path = f"{prefix}{name}"
        deeper = isinstance(value, dict) and any(each.startswith(f"{path}.") for each in known)
        yield path
        if deeper:
            yield from leaves(value, known, f"{path}.")


def test_every_value_is_in_the_schema_with_a_description() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    fields = properties(schema, schema)
    values = set(leaves(yaml.safe_load((CHART / "values.yaml").read_text()), set(fields)))
    assert values <= set(fields)
    # What has no default: Helm's own, the operator's, and parts of Kubernetes objects.
    elsewhere = r"global|operator\.config\..*|sidecar\.image\.\w+"
    elsewhere += r"|.*\.(affinity|resources|issuerRef|behavior)\.\w+"
    assert {each for each in set(fields) - values if not re.fullmatch(elsewhere, each)} == set()
    assert [path for path, field in fields.items() if not field.get("description")] == []


def test_what_may_be_denied_is_what_the_operator_can_deny() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    deny = schema["properties"]["admission"]["properties"]["deny"]
    assert deny["items"]["enum"] == sorted(DENIABLE)


def settings_of(form: type[BaseModel]) -> Iterator[str]:
    """The fields of the operator's file, by path."""
    for field in form.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from (f"{field.alias}.{path}" for path in settings_of(field.annotation))
        else:
            yield str(field.alias)


def test_every_setting_of_the_operator_can_be_said_with_the_chart() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    config = properties(schema["properties"]["operator"]["properties"]["config"], schema)
    said = {path for path, field in config.items() if "properties" not in field}
    # With values of their own, or because the rest of the chart relies on them.
    said |= {"watchNamespaces", "gateways", "owner", "lease.name", "adminPort", "admission.port"}
    said |= {f"admission.{each}" for each in ("service", "secret", "configuration", "certDir")}
    said |= {"admission.deny"}
    sidecar = ["enabled", "gateway", "gatewayUrl", "configuration", "image", "imagePullPolicy"]
    sidecar += ["resources", "securityContext", "flags", "audience", "scopesMax", "linger"]
    said |= {f"sidecar.{each}" for each in (*sidecar, "redis.address")}
    # As flags and environment of the pod.
    said |= {"namespace", "podName", "redis.url", "logLevel", "kubeconfig"}
    said |= {"redis.urlFile", "sidecar.redis.url", "sidecar.redis.urlFile"}
    assert said == set(settings_of(Settings))


def test_every_object_of_the_schema_is_closed() -> None:
    def opened(node: object, path: str) -> Iterator[str]:
        if isinstance(node, dict):
            if "properties" in node and node.get("additionalProperties") is not False:
                yield path
            for name, inner in node.items():
                yield from opened(inner, f"{path}/{name}")

    schema = json.loads((CHART / "values.schema.json").read_text())
    assert list(opened(schema, "")) == []
