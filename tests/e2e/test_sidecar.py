"""Twenty application pods of two teams with sidecars, from their injection to the failures near by.

The tests are steps of one story, in this order. The applications ask without pause, a model of
their own team and one behind the gateway in turn, and tell at their end what came of it.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from cluster.control_plane import KubectlFailed
from e2e import parts
from e2e.load import table
from e2e.teams import (
    PODS_EACH,
    SECRET,
    TEAMS,
    URL,
    JsonObject,
    apply,
    ask,
    counted,
    create_namespace,
    entries_of,
    failures,
    kill_sidecar,
    named,
    pods,
    report_of,
    reports,
    run_in,
    scope_key,
    sidecar_of,
    wait_for_rollouts,
)
from e2e.world import INSIDE, NAMESPACE, RELEASE, World, install_command
from switchboard_policy import ir
from switchboard_policy.errors import BadSeal
from switchboard_policy.names import namespace_scope, origin
from switchboard_policy.seal import read_keyring

pytestmark = pytest.mark.timeout(1800)

#: What an application asks at least until it is replaced.
ASKED_LEAST: Final = 10


@pytest.fixture(scope="module", autouse=True)
def release(world: World) -> Iterator[None]:
    """A release with sidecars for as long as the tests of this module last."""
    world.helm.run("uninstall", RELEASE, "-n", NAMESPACE, "--wait")
    world.helm.must(*install_command(), "--set", "sidecar.enabled=true")
    yield
    for namespace in (*TEAMS, "shared"):
        world.cluster.api.try_kubectl("delete", "namespace", namespace, "--timeout=240s")
    world.helm.run("uninstall", RELEASE, "-n", NAMESPACE, "--wait")


def test_twenty_pods_get_a_sidecar_and_others_none(world: World) -> None:
    create_namespace(world, "shared", "shared.yaml")
    world.wait_for("condition=Ready", "pod/collector", namespace="shared")
    for team in TEAMS:
        create_namespace(world, team, "team.yaml")
    began = time.monotonic()
    for team in TEAMS:
        apply(world, "application.yaml", TEAM=team, PODS=str(PODS_EACH))
    wait_for_rollouts(world)
    world.notes.append(f"20 pods with sidecars: ready after {time.monotonic() - began:.0f} s")
    for team in TEAMS:
        found = pods(world, team)
        assert len(found) == PODS_EACH
        for pod in found:
            sidecar = sidecar_of(pod)
            assert sidecar is not None
            assert sidecar["restartPolicy"] == "Always"
            assert {"name": "OPENAI_BASE_URL", "value": URL} in pod["spec"]["containers"][0]["env"]
        (model,) = pods(world, team, "model")
        assert sidecar_of(model) is None, "it has opted out"
    for name in ("model", "collector"):
        (pod,) = pods(world, "shared", name)
        assert sidecar_of(pod) is None, "its namespace has no label"
        assert not [
            one for one in pod["spec"]["containers"][0].get("env", ()) if "OPENAI" in one["name"]
        ]


def test_own_models_are_asked_directly_and_others_through_the_gateway(world: World) -> None:
    for team in TEAMS:
        pod = pods(world, team)[0]
        own = ask(world, team, pod, team)
        assert (own.status, own.header("backend")) == (200, f"{team}/model"), own
        assert own.header("gateway-backend") == ""
        other = ask(world, team, pod, "shared")
        assert (other.status, other.header("backend")) == (200, "switchboard/gateway"), other
        assert other.header("gateway-backend") == "shared/model"
        nobody = ask(world, team, pod, "nobody-has-it", expected=404)
        assert "model_not_found" in nobody.text


def test_a_pod_lists_its_own_models_and_the_gateways(world: World) -> None:
    program = f"import urllib.request as u; print(u.urlopen('{URL}/models').read().decode())"
    for team in TEAMS:
        said = json.loads(run_in(world, team, pods(world, team)[0], program))
        assert {team, "shared"} <= {one["id"] for one in said["data"]}


def test_every_sidecar_is_limited_to_its_scope(world: World) -> None:
    program = (INSIDE / "intruder.py").read_text()
    for team, other in zip(TEAMS, reversed(TEAMS), strict=True):
        words = ("--others", namespace_scope(other), "gw/default")

        def break_in(pod: JsonObject, team: str = team, words: tuple[str, ...] = words) -> str:
            return run_in(world, team, pod, program, *words)

        with ThreadPoolExecutor(2) as several:
            said = [json.loads(text) for text in several.map(break_in, pods(world, team))]
        assert len(said) == PODS_EACH
        for told in said:
            assert told.pop("scope") == namespace_scope(team)
            # The tries are real ones: what it needs, it gets.
            assert told.pop("own head").startswith("GOT {b")
            assert {name: what for name, what in told.items() if what != "refused"} == {}


def test_the_key_of_a_scope_opens_nothing_of_another(world: World) -> None:
    keys = {team: scope_key(world, team) for team in TEAMS}
    for team, other in zip(TEAMS, reversed(TEAMS), strict=True):
        entries = entries_of(world, namespace_scope(team))
        backends = {one.name: one for one in entries if isinstance(one, ir.Backend)}
        (sealed,) = (one for one in entries if isinstance(one, ir.Credential))
        assert set(backends) == {f"{team}/model", "switchboard/gateway"}
        owner = backends[sealed.backend]
        bound = (sealed.key_id, sealed.sealed, owner.uid, origin(owner.url))
        own = read_keyring(namespace_scope(team), keys[team])
        assert own.unseal(*bound) == f"sk-of-{team}".encode()
        for scope in (namespace_scope(team), namespace_scope(other)):
            with pytest.raises(BadSeal):
                read_keyring(scope, keys[other]).unseal(*bound)


def test_a_rolling_update_of_the_applications_fails_no_request(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    before = {team: {named(pod) for pod in pods(world, team)} for team in TEAMS}
    began = time.monotonic()
    for team in TEAMS:
        world.kubectl("rollout", "restart", "deployment/application", "-n", team)
    wait_for_rollouts(world)
    took_s = time.monotonic() - began
    ended = set().union(*before.values())
    world.until(lambda: ended <= reports(world).keys(), "the reports of all old pods")
    said = {pod: report for pod, report in reports(world).items() if pod in ended}
    for team in TEAMS:
        new = pods(world, team)
        assert not before[team] & {named(pod) for pod in new}
        said |= {named(pod): report_of(world, team, pod) for pod in new}
    asked = counted(said, "requests")
    record_property(
        "measured",
        f"rolling update of {len(ended)} pods with sidecars in {took_s:.0f} s: "
        f"{sum(asked)} requests, {sum(counted(said, 'streams'))} of them streams, "
        f"{sum(counted(said, 'failed'))} failed",
    )
    assert failures(said) == []
    assert min(counted({pod: said[pod] for pod in ended}, "requests")) >= ASKED_LEAST
    assert len(said) == 2 * len(TEAMS) * PODS_EACH


def test_a_sidecar_that_is_killed_comes_back(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    team = TEAMS[0]
    pod, neighbour = pods(world, team)[:2]
    before = sum(counted({"": report_of(world, team, neighbour)}, "failed"))
    began = time.monotonic()
    kill_sidecar(world, team, pod)
    refused = 0

    def answers() -> bool:
        nonlocal refused
        answer = ask(world, team, pod, team)
        refused += answer.status == 0
        return answer.status == 200

    # It may be back before anybody asks.
    world.until(lambda: not answers() or restarts(world, team, pod) == [1], "the sidecar ends")
    gap_s = world.until(answers, "the sidecar is back")
    record_property(
        "measured",
        f"a sidecar that is killed: its pod's requests are refused for {gap_s:.1f} s "
        f"({time.monotonic() - began:.1f} s after it all is well)",
    )
    # What the application hears is that nobody listens: at once, and its client tries again.
    assert refused or failures({named(pod): report_of(world, team, pod)})
    assert restarts(world, team, pod) == [1]
    assert sum(counted({"": report_of(world, team, neighbour)}, "failed")) == before


def restarts(world: World, team: str, pod: JsonObject) -> list[int]:
    """How often the sidecar of a pod has come back."""
    return [
        one["restartCount"]
        for found in pods(world, team)
        if named(found) == named(pod)
        for one in found["status"]["initContainerStatuses"]
    ]


def test_a_secret_that_is_deleted_restarts_nothing(world: World) -> None:
    team = TEAMS[0]
    before = {named(pod): restarts(world, team, pod) for pod in pods(world, team)}
    world.kubectl("delete", "secret", SECRET, "-n", team)
    # The operator makes it anew, with another password and other keys; kubelet brings both.
    for pod in before:
        logs = ("logs", pod, "-n", team, "-c", "switchboard-sidecar")
        anew = partial(world.kubectl, *logs)
        said = "the way to the store was read anew"
        world.until(lambda: said in anew(), f"{pod} logs in anew", within_s=600)  # noqa: B023
    status = ("get", "configmap", "switchboard-status-sidecar", "-n", team, "-o")
    in_force = partial(world.kubectl, *status, "jsonpath={.data.inForce}")
    world.until(lambda: in_force() == f"{PODS_EACH}/{PODS_EACH}", "policy by the new keys")
    assert {named(pod): restarts(world, team, pod) for pod in pods(world, team)} == before


def test_own_models_are_answered_while_the_gateway_is_away(world: World) -> None:
    scale = ("scale", "deployment/switchboard-gateway", "-n", NAMESPACE)
    count = len(world.pods("gateway"))
    world.kubectl(*scale, "--replicas=0")
    world.until(lambda: not world.pods("gateway"), "no gateway")
    for team in TEAMS:
        for pod in pods(world, team)[:3]:
            own = ask(world, team, pod, team)
            assert (own.status, own.header("backend")) == (200, f"{team}/model"), own
            other = ask(world, team, pod, "shared", expected=502)
            assert other.header("reason") == "upstream_connect", other
    world.kubectl(*scale, f"--replicas={count}")
    world.until(lambda: world.settled("gateway", count=count), "gateways")
    for team in TEAMS:
        for pod in pods(world, team)[:3]:
            back = partial(ask, world, team, pod, "shared")
            world.until(lambda: back().status == 200, "the gateway's model")  # noqa: B023


def test_a_pod_of_the_nodes_network_is_refused(world: World) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "near", "labels": {"switchboard.dev/inject": "true"}},
        "spec": {
            "hostNetwork": True,
            "containers": [{"name": "one", "image": parts.TOOLS, "args": ["-c", "pass"]}],
        },
    }
    with pytest.raises(KubectlFailed, match="hostNetwork"):
        world.kubectl("create", "-n", "shared", "-f", "-", input=json.dumps(pod))


def test_what_all_applications_asked_is_told(
    world: World, record_property: Callable[[str, object], None], tmp_path: Path
) -> None:
    for team in TEAMS:
        world.kubectl("delete", "deployment", "application", "-n", team, "--timeout=240s")
    world.until(lambda: len(reports(world)) >= 40, "the reports of all pods")
    steps = [
        {**step, "name": pod, "seconds": max(step["seconds"], 0)}
        for pod, report in reports(world).items()
        for step in report["steps"]
    ]
    record_property("measured", table({"steps": steps}, world.notes))
    (tmp_path / "reports.json").write_text(json.dumps(reports(world)))
