"""What the webhook adds to a pod: the whole of it, once, and nothing that was not asked for."""

import base64
import copy
import json
from typing import Any

import pytest

from switchboard_dataplane.settings import parse_settings
from switchboard_operator.admission_pods import Injection
from switchboard_operator.injector import CONTAINER, Sidecar, Unfit, patch
from switchboard_policy.errors import Malformed

Json = dict[str, Any]

SIDECAR = Sidecar(
    image="dataplane:1",
    pull_policy="IfNotPresent",
    audience="switchboard",
    flags=("--allow-addresses=10.0.0.0/8",),
    resources={"requests": {"cpu": "50m", "memory": "160Mi"}, "limits": {"memory": "512Mi"}},
    security_context={
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
)
BASE_URL = {"name": "OPENAI_BASE_URL", "value": "http://127.0.0.1:11080/v1"}


def pod(*containers: Json, annotations: Json | None = None, **spec: Any) -> Json:
    made = containers or ({"name": "app", "image": "app:1"},)
    meta: Json = {"name": "p"} | ({"annotations": annotations} if annotations else {})
    return {"metadata": meta, "spec": {"containers": list(made), **spec}}


def applied(before: Json, operations: list[Json]) -> Json:
    """Apply additions of a JSON Patch (RFC 6902), as the API server does."""
    after = copy.deepcopy(before)
    for operation in operations:
        assert operation["op"] == "add"
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        place: Any = after
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place[parent]
        value = copy.deepcopy(operation["value"])
        if isinstance(place, list):
            place.insert(len(place) if last == "-" else int(last), value)
        else:
            place[last] = value
    return after


def injected(before: Json) -> Json:
    return applied(before, patch(before, "team-a", SIDECAR))


def sidecar_of(after: Json) -> Json:
    found: Json = next(
        each for each in after["spec"]["initContainers"] if each["name"] == CONTAINER
    )
    return found


def env_of(after: Json, number: int = 0) -> list[Json]:
    found: list[Json] = after["spec"]["containers"][number].get("env", [])
    return found


def test_the_sidecar_is_native_on_the_loopback_and_holds_its_scope_alone() -> None:
    after = injected(pod())
    made = sidecar_of(after)
    assert (made["image"], made["restartPolicy"]) == ("dataplane:1", "Always")
    assert {
        "--scope=ns/team-a",
        "--listen=127.0.0.1:11080",
        "--admin=127.0.0.1:11090",
        "--access=pod",
        "--allow-addresses=10.0.0.0/8",
    } <= set(made["args"])
    assert "ports" not in made
    mounted = {each["name"] for each in made["volumeMounts"]}
    assert mounted == {each["name"] for each in after["spec"]["volumes"]}
    scope, token, *_ = after["spec"]["volumes"]
    sources = [each["secret"] for each in scope["projected"]["sources"]]
    assert {each["name"] for each in sources} == {"switchboard-sidecar"}
    # The URL with the password is a file of this container's alone, which may be replaced.
    assert [each["key"] for each in sources[0]["items"]] == ["scope-key.json", "redis-url"]
    assert all("secretKeyRef" not in each["valueFrom"] for each in made["env"])
    (audience,) = token["projected"]["sources"]
    assert audience["serviceAccountToken"]["audience"] == "switchboard"
    (app,) = after["spec"]["containers"]
    assert app == {"name": "app", "image": "app:1", "env": [BASE_URL]}


def test_the_data_plane_understands_what_it_is_told() -> None:
    made = sidecar_of(injected(pod()))
    env = {each["name"]: "some" for each in made["env"]}
    assert {"SWITCHBOARD_SERVICE_ACCOUNT", "SWITCHBOARD_POD_NAMESPACE"} <= env.keys()
    said = parse_settings(made["args"], env, prog="dataplane")
    assert (said.scope, said.listen, said.access) == ("ns/team-a", "127.0.0.1:11080", "pod")
    assert not said.redis_url
    folders = {each["mountPath"] for each in made["volumeMounts"]}
    for path in (said.scope_key_file, said.redis_url_file, said.gateway_token_file):
        assert path.rpartition("/")[0] in folders
    assert said.state_dir in folders


def test_probes_ask_from_within_and_the_application_waits_for_policy() -> None:
    made = sidecar_of(injected(pod(annotations={"switchboard.dev/admin-port": "9999"})))
    start, live = made["startupProbe"]["exec"]["command"], made["livenessProbe"]["exec"]["command"]
    assert start[-2:] == ["--admin=127.0.0.1:9999", "/readyz"]
    assert live[-2:] == ["--admin=127.0.0.1:9999", "/livez"]
    assert "readinessProbe" not in made


def test_a_restricted_pod_stays_restricted() -> None:
    before = pod(securityContext={"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000})
    after = injected(before)
    assert after["spec"]["securityContext"] == before["spec"]["securityContext"]
    context = sidecar_of(after)["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    allowed = {"projected", "emptyDir"}
    assert {next(iter(each.keys() - {"name"})) for each in after["spec"]["volumes"]} <= allowed


def test_every_container_is_told_and_a_base_url_of_its_own_stays() -> None:
    own = {"name": "OPENAI_BASE_URL", "value": "http://elsewhere/v1"}
    after = injected(
        pod(
            {"name": "a", "env": [{"name": "X", "value": "1"}]},
            {"name": "b", "env": [own]},
            {"name": "c"},
        )
    )
    assert env_of(after, 0) == [{"name": "X", "value": "1"}, BASE_URL]
    assert env_of(after, 1) == [own]
    assert env_of(after, 2) == [BASE_URL]


def test_annotations_choose_containers_ports_resources_and_the_level_of_the_log() -> None:
    said = {
        "switchboard.dev/containers": "b, prepare",
        "switchboard.dev/port": "18080",
        "switchboard.dev/sidecar-cpu": "200m",
        "switchboard.dev/sidecar-memory": "256Mi",
        "switchboard.dev/sidecar-cpu-limit": "1",
        "switchboard.dev/sidecar-memory-limit": "1Gi",
        "switchboard.dev/sidecar-log-level": "debug",
        "someone.else/port": "1",
    }
    before = pod(
        {"name": "a"}, {"name": "b"}, annotations=said, initContainers=[{"name": "prepare"}]
    )
    after = injected(before)
    base = {"name": "OPENAI_BASE_URL", "value": "http://127.0.0.1:18080/v1"}
    assert (env_of(after, 0), env_of(after, 1)) == ([], [base])
    first, prepare = after["spec"]["initContainers"]
    assert (first["name"], prepare) == (CONTAINER, {"name": "prepare", "env": [base]})
    assert first["resources"] == {
        "requests": {"cpu": "200m", "memory": "256Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    }
    assert "--listen=127.0.0.1:18080" in first["args"]
    assert "--log-level=debug" in first["args"]
    # The next pod has what the administrator says.
    assert sidecar_of(injected(pod()))["resources"] == SIDECAR.resources


def test_a_second_look_changes_nothing_but_tells_containers_that_came_since() -> None:
    once = injected(pod(initContainers=[{"name": "prepare"}], volumes=[{"name": "v"}]))
    assert patch(once, "team-a", SIDECAR) == []
    once["spec"]["containers"].append({"name": "late"})
    twice = injected(once)
    assert env_of(twice, 1) == [BASE_URL]
    assert [each["name"] for each in twice["spec"]["initContainers"]] == [CONTAINER, "prepare"]
    assert patch(twice, "team-a", SIDECAR) == []


def listening(port: int, **more: Any) -> Json:
    return pod({"name": "app", "ports": [{"containerPort": port, **more}]})


@pytest.mark.parametrize("fits", [listening(8080), listening(11080, protocol="UDP")])
def test_ports_of_the_application_that_are_others_are_no_trouble(fits: Json) -> None:
    assert [each["name"] for each in injected(fits)["spec"]["initContainers"]] == [CONTAINER]


def test_labels_of_the_pod_stay() -> None:
    before = pod()
    before["metadata"]["labels"] = {"app": "x"}
    assert injected(before)["metadata"]["labels"] == {
        "app": "x",
        "switchboard.dev/injected": "true",
    }


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (pod(hostNetwork=True), "hostNetwork: its loopback is the node's"),
        (pod(annotations={"switchboard.dev/port": "0"}), "port: '0' is no port"),
        (pod(annotations={"switchboard.dev/admin-port": "11080"}), "11080 is the other port, too"),
        (pod(annotations={"switchboard.dev/sidecar-cpu": "lots"}), "'lots' is no quantity"),
        (pod(annotations={"switchboard.dev/containers": "b"}), "the pod has no container b"),
        (pod(annotations={"switchboard.dev/sidecar-log-level": "x"}), "none of debug, info"),
        (pod({"name": CONTAINER}), "has a container or volume switchboard-sidecar"),
        (pod(volumes=[{"name": "switchboard-token"}]), "volume switchboard-token"),
        (pod(initContainers=[{"name": CONTAINER}]), "container or volume switchboard-sidecar"),
        (listening(11080), "container app listens at 11080: say another port for the sidecar"),
        (listening(11090), "annotation switchboard.dev/admin-port"),
    ],
)
def test_a_pod_that_cannot_have_one_is_told_why(before: Json, told: str) -> None:
    with pytest.raises(Unfit) as raised:
        patch(before, "team-a", SIDECAR)
    assert told in str(raised.value)


class Admitting:
    """Says of every namespace the same, and remembers which were asked for."""

    def __init__(self, why: str = "") -> None:
        self.asked: list[str] = []
        self._why = why

    async def __call__(self, namespace: str) -> str:
        self.asked.append(namespace)
        return self._why


def review(of: Json, **said: Any) -> bytes:
    request = {"uid": "u", "namespace": "team-a", "operation": "CREATE", "object": of, **said}
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    ).encode()


async def test_a_pod_is_let_in_once_its_namespace_has_what_it_needs() -> None:
    admit = Admitting()
    body, outcome = await Injection(SIDECAR, admit).answer(review(pod()))
    response = json.loads(body)["response"]
    assert (response["uid"], response["allowed"], outcome) == ("u", True, "injected")
    assert response["patchType"] == "JSONPatch"
    operations = json.loads(base64.b64decode(response["patch"]))
    assert applied(pod(), operations) == injected(pod())
    assert admit.asked == ["team-a"]


async def test_a_namespace_without_a_scope_has_its_pods_denied_in_plain_words() -> None:
    body, outcome = await Injection(SIDECAR, Admitting("the store refuses")).answer(review(pod()))
    response = json.loads(body)["response"]
    assert (response["allowed"], outcome) == (False, "denied")
    assert response["status"]["message"] == "the store refuses"


@pytest.mark.parametrize("place", ["labels", "annotations"])
async def test_a_pod_opts_out_whatever_it_is(place: str) -> None:
    out = pod(hostNetwork=True)
    out["metadata"][place] = {"switchboard.dev/inject": "false"}
    admit = Admitting()
    body, outcome = await Injection(SIDECAR, admit).answer(review(out))
    assert json.loads(body)["response"] == {"uid": "u", "allowed": True}
    assert (outcome, admit.asked) == ("unchanged", [])


async def test_what_a_kubelet_runs_by_itself_is_only_shown_and_stays_as_it_is() -> None:
    mirror = pod(annotations={"kubernetes.io/config.mirror": "3f2a"})
    _, outcome = await Injection(SIDECAR, Admitting("no")).answer(review(mirror))
    assert outcome == "unchanged"


async def test_a_line_of_the_log_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    odd = pod(annotations={"switchboard.dev/containers": "b\nERROR forged"})
    await Injection(SIDECAR, Admitting()).answer(review(odd))
    assert "\n" not in caplog.messages[-1]


async def test_a_dry_run_makes_nothing() -> None:
    admit = Admitting("no")
    body, _ = await Injection(SIDECAR, admit).answer(review(pod(), dryRun=True))
    assert "patch" in json.loads(body)["response"]
    assert admit.asked == []


@pytest.mark.parametrize("operation", ["UPDATE", "DELETE", "CONNECT"])
async def test_only_new_pods_are_changed(operation: str) -> None:
    body, outcome = await Injection(SIDECAR, Admitting()).answer(review(pod(), operation=operation))
    assert (json.loads(body)["response"], outcome) == ({"uid": "u", "allowed": True}, "unchanged")


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", review({"spec": {"containers": 3}}), review({"spec": {"containers": ["x"]}})],
)
async def test_what_is_no_review_of_a_pod_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        await Injection(SIDECAR, Admitting()).answer(raw)
