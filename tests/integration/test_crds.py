"""The CRDs in a real API server: accepted with room to spare, and what people see of them."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from cluster.control_plane import ControlPlane
from switchboard_policy.v1alpha1.crd import KINDS, build_crd

Schema = dict[str, Any]

#: A bound must be able to grow by half before the API server's budget is spent.
HEADROOM_MIN = 1.5
#: What a terminal shows without wrapping.
LINE_CHARACTERS_MAX = 120
#: Where the search ends: at this many times the bound it no longer matters.
HEADROOM_MAX = 64.0
PRECISION = 1.05

BACKEND = {
    "apiVersion": "switchboard.dev/v1alpha1",
    "kind": "ModelBackend",
    "metadata": {"name": "llama-8b"},
    "spec": {"model": "meta-llama/Llama-3.1-8B", "service": {"name": "vllm", "port": 8000}},
}
ROUTE = {"tiers": [{"name": "main", "backends": [{"name": "llama-8b"}]}]}
POLICY: Schema = {
    "apiVersion": "switchboard.dev/v1alpha1",
    "kind": "RoutingPolicy",
    "metadata": {"name": "chat"},
    "spec": {
        "models": ["chat", "gpt-4o*"],
        "rules": [{"name": "default", "route": ROUTE}],
    },
}


def spec_of(crd: Schema) -> Schema:
    versions = crd["spec"]["versions"]
    spec: Schema = versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return spec


def rules_of(crd: Schema) -> Schema:
    rules: Schema = spec_of(crd)["rules"]
    return rules


def tiers_of(crd: Schema) -> Schema:
    tiers: Schema = rules_of(crd)["items"]["properties"]["route"]["properties"]["tiers"]
    return tiers


def backends_of(crd: Schema) -> Schema:
    backends: Schema = tiers_of(crd)["items"]["properties"]["backends"]
    return backends


def expressions_of(crd: Schema) -> Schema:
    allowed: Schema = spec_of(crd)["allowedNamespaces"]["properties"]["selector"]
    expressions: Schema = allowed["properties"]["matchExpressions"]
    return expressions


@pytest.mark.parametrize("kind", KINDS)
def test_the_api_server_accepts_the_crd(kind: str, api: ControlPlane) -> None:
    found = api.get("crd", build_crd(kind)["metadata"]["name"])
    held = {each["type"]: each["status"] for each in found["status"]["conditions"]}
    assert held["Established"] == "True"
    assert held["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in held


@pytest.mark.parametrize(
    ("kind", "name", "place"),
    [
        ("RoutingPolicy", "rules", rules_of),
        ("RoutingPolicy", "tiers", tiers_of),
        ("RoutingPolicy", "backends", backends_of),
        ("ModelBackend", "matchExpressions", expressions_of),
    ],
)
def test_bounds_can_grow_before_the_cost_budget_is_spent(
    kind: str,
    name: str,
    place: Callable[[Schema], Schema],
    api: ControlPlane,
    record_property: Callable[[str, object], None],
) -> None:
    bound = place(build_crd(kind))["maxItems"]

    def accepts(factor: float) -> bool:
        crd = as_new_kind(build_crd(kind))
        place(crd)["maxItems"] = int(bound * factor)
        done = api.try_kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(crd))
        assert done.returncode == 0 or "exceed" in done.stderr, done.stderr
        return done.returncode == 0

    assert accepts(1.0)
    low, high = 1.0, HEADROOM_MAX
    if accepts(high):
        low = high
    while high / low > PRECISION:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if accepts(middle) else (low, middle)
    most = f"at least {int(bound * low)}" if low == HEADROOM_MAX else f"{int(bound * low)}"
    told = f"CEL cost headroom of {kind}: {name} is {bound}, accepted up to {most}"
    record_property("measured", told)
    assert low >= HEADROOM_MIN


def as_new_kind(crd: Schema) -> Schema:
    """Of a CRD that exists, the API server forgives the cost of rules that it holds already."""
    new = copy.deepcopy(crd)
    new["spec"]["group"] = "headroom.switchboard.dev"
    new["metadata"]["name"] = f"{new['spec']['names']['plural']}.headroom.switchboard.dev"
    return new


def test_a_new_object_is_accepted_unknown_and_has_its_defaults(
    api: ControlPlane, namespace: str
) -> None:
    api.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(BACKEND))
    found = api.get("modelbackend", "llama-8b", namespace=namespace)
    conditions = {each["type"]: each for each in found["status"]["conditions"]}
    assert conditions["Accepted"]["status"] == "Unknown"
    assert conditions["Accepted"]["reason"] == "Pending"
    assert found["spec"]["service"] == {
        "name": "vllm",
        "port": 8000,
        "scheme": "http",
        "path": "/v1",
    }
    assert found["spec"]["timeouts"]["firstToken"] == "10s"
    assert found["spec"]["allowedNamespaces"] == {"from": "Same"}


def test_kubectl_get_shows_what_a_person_looks_for_first(api: ControlPlane, namespace: str) -> None:
    for manifest in (BACKEND, POLICY):
        api.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(manifest))
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "WaitingForPods",
        "message": "1 of 3 pods is behind",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    degraded = {**ready, "type": "Degraded", "status": "True", "reason": "LastGoodInForce"}
    status = {"conditions": [ready, degraded], "revision": "7-1742", "pods": "2/3"}
    for kind, name, more in (
        ("modelbackend", "llama-8b", {"endpoints": {"ready": 3, "total": 4}}),
        ("routingpolicy", "chat", {}),
    ):
        patch = json.dumps({"status": {**status, **more}})
        api.kubectl(
            *("patch", kind, name, "-n", namespace),
            *("--subresource=status", "--type=merge", "-p", patch),
        )
    columns = ["REVISION", "PODS", "REASON", "DEGRADED", "AGE"]
    cells = ["7-1742", "2/3", "WaitingForPods", "LastGoodInForce"]
    assert table(api, "mb", namespace) == [
        ["NAME", "READY", "MODEL", "ENDPOINTS", *columns],
        ["llama-8b", "False", "meta-llama/Llama-3.1-8B", "3", *cells],
    ]
    assert table(api, "rp", namespace) == [
        ["NAME", "READY", "MODELS", *columns],
        ["chat", "False", '["chat","gpt-4o*"]', *cells],
    ]
    wide = api.kubectl("get", "rp", "-n", namespace, "-o", "wide")
    assert "1 of 3 pods is behind" in wide
    both = api.kubectl("get", "switchboard", "-n", namespace)
    assert "llama-8b" in both
    assert "chat" in both


def table(api: ControlPlane, kind: str, namespace: str) -> list[list[str]]:
    """The lines of ``kubectl get``, without the age, which passes."""
    header, *lines = api.kubectl("get", kind, "-n", namespace).splitlines()
    assert max(map(len, [header, *lines])) <= LINE_CHARACTERS_MAX
    return [header.split(), *(line.split()[:-1] for line in lines)]


def test_rules_keep_their_order_under_two_appliers(api: ControlPlane, namespace: str) -> None:
    """``rules`` is atomic: in a keyed list a second applier's rule lands after the default."""
    route = ROUTE
    first = {"name": "code", "match": {"tags": ["code"]}, "route": route}
    default = {"name": "default", "route": route}

    def apply(rules: list[Any], manager: str) -> None:
        policy = {**POLICY, "spec": {"models": ["chat"], "rules": rules}}
        api.kubectl(
            *("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}"),
            *("-n", namespace, "-f", "-"),
            input=json.dumps(policy),
        )

    apply([default], "one")
    apply([first, default], "two")
    found = api.get("routingpolicy", "chat", namespace=namespace)
    assert [rule["name"] for rule in found["spec"]["rules"]] == ["code", "default"]
