"""The life of a release, from the README's command to the end, under load that never stops.

The tests are steps of one story, in this order. All requests of the run are counted inside the
cluster; at the end none may have failed.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import pytest

from cluster.control_plane import KubectlFailed
from e2e import parts
from e2e.load import pauses, table
from e2e.models import EXAMPLES, LLAMA, SCALED_TO_ZERO, Example, deployment
from e2e.world import (
    CALLERS,
    INSIDE,
    NAMESPACE,
    NEXT,
    PLANES,
    RELEASE,
    World,
    install_command,
    upgrade_command,
)

pytestmark = pytest.mark.timeout(1800)

EDITS = 20
POLICY = "routingpolicy/load"


def edit(world: World, rule: str) -> None:
    """Name the rule of the callers' policy; answers say which rule they went by."""
    change = [{"op": "replace", "path": "/spec/rules/0/name", "value": rule}]
    world.kubectl("patch", POLICY, "-n", "e2e", "--type=json", "-p", json.dumps(change))


def edit_is_in_force(world: World, rule: str) -> tuple[float, float]:
    """Edit until somebody takes it, and wait for its effect; the seconds that either took."""

    def taken() -> bool:
        try:
            edit(world, rule)
        except KubectlFailed:
            return False
        return True

    taken_s = world.until(taken, f"edit {rule}")
    seen_s = world.until(lambda: world.ask("load").header("rule") == rule, f"{rule} in force")
    return taken_s, seen_s


def edit_after(world: World, step: str) -> None:
    """Edit the policy, and note how long that took: what a person with kubectl sees."""
    taken_s, seen_s = edit_is_in_force(world, step.replace(" ", "-").lower())
    world.notes.append(f"{step}: taken after {taken_s:.1f} s, in force after {seen_s:.1f} s more")


def test_images_add_little_to_their_base(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    sizes_mb = parts.sizes_mb(world.archives)
    told = (f"{image}: {size_mb:.0f} MB" for image, size_mb in sizes_mb.items())
    record_property("measured", "above their base\n" + "\n".join(told))
    assert max(sizes_mb.values()) < parts.BUDGET_MB, sizes_mb


def test_the_command_of_the_readme_installs_it(world: World) -> None:
    said = world.helm.must(*install_command())
    assert "STATUS: deployed" in said
    for plane in PLANES:
        world.until(lambda: world.settled(plane, image=f":{parts.FIRST}"), plane)  # noqa: B023
    world.helm.must("test", RELEASE, "-n", NAMESPACE)


def test_requests_reach_a_model_through_the_service(world: World) -> None:
    world.kubectl("create", "namespace", "e2e")
    programs = (f"--from-file={INSIDE / name}" for name in ("callers.py", "fake_model.py"))
    world.kubectl("create", "configmap", "programs", "-n", "e2e", *programs)
    key = f"--from-literal=api-key={world.make_key('callers')}"
    world.kubectl("create", "secret", "generic", "callers", "-n", "e2e", key)
    tools = (INSIDE / "tools.yaml").read_text().replace("image: TOOLS", f"image: {parts.TOOLS}")
    world.kubectl("apply", "-f", "-", input=tools)
    world.kubectl("apply", "-f", str(INSIDE / "policy.yaml"))
    world.wait_for("condition=Ready", "pod/callers", namespace="e2e")
    world.wait_for("condition=Available", "deployment/model", namespace="e2e")
    world.wait_for_models("e2e")
    world.kubectl("get", "--raw", f"{CALLERS}/begin")
    answer = world.ask("load")
    assert (answer.status, answer.header("rule")) == (200, "default"), answer
    stranger = world.ask("load", expected=401, key="sk-sb-nobodys-key")
    assert "invalid_api_key" in stranger.text


@pytest.fixture
def ai(world: World) -> Iterator[str]:
    """The namespace of the examples, empty again afterwards."""
    world.kubectl("create", "namespace", "ai")
    yield "ai"
    world.kubectl("delete", "namespace", "ai", "--timeout=240s")
    # The client of an example is where the gateway is.
    world.kubectl("delete", "secret", "example-client", "-n", NAMESPACE, "--ignore-not-found")


def apply_example(world: World, example: Example) -> None:
    """Begin its step, and apply it as its README says."""
    world.begin_step(example.name)
    world.kubectl("apply", "-f", str(parts.REPO / "examples" / example.name))


def test_every_example_is_applied() -> None:
    there = {path.name for path in (parts.REPO / "examples").iterdir()} - {"gitops"}
    assert {example.name for example in (*EXAMPLES, SCALED_TO_ZERO)} == there


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_an_example_is_ready_and_answers_as_it_says(
    world: World, ai: str, example: Example
) -> None:
    for service in example.services:
        world.apply(deployment(service))
    apply_example(world, example)
    for service in example.services:
        world.wait_for("condition=Available", f"deployment/{service}", namespace=ai)
    if example.refused:
        world.wait_for("condition=Programmed=False", "modelbackends --all", namespace=ai)
    else:
        world.wait_for_models(ai)
    if example.leaves and world.cluster.kind != "own":
        # Only a node of our own has no way out: a provider would be asked, with no key of its.
        world.notes.append(f"{example.name}: not asked, since requests would leave the cluster")
        return
    for headers, expected in example.asks:
        answer = world.ask(example.model, expected=example.status, **headers)
        found = {name: answer.header(name) for name in expected}
        assert (answer.status, found) == (example.status, expected), answer


def test_a_request_waits_for_a_model_that_is_scaled_to_zero(world: World, ai: str) -> None:
    world.apply(deployment(LLAMA))
    world.kubectl("scale", f"deployment/{LLAMA}", "-n", ai, "--replicas=0")
    apply_example(world, SCALED_TO_ZERO)
    world.wait_for("condition=Ready", "modelbackends,routingpolicies --all", namespace=ai)
    with ThreadPoolExecutor(1) as waiting:
        asked = waiting.submit(world.ask, SCALED_TO_ZERO.model)
        world.kubectl("scale", f"deployment/{LLAMA}", "-n", ai, "--replicas=1")
        answer = asked.result()
    assert (answer.status, answer.header("tier")) == (200, "in-cluster"), answer


def test_edits_of_a_policy_are_in_force(world: World) -> None:
    world.begin_step(f"{EDITS} edits")
    taken = [sum(edit_is_in_force(world, f"edit-{number}")) for number in range(EDITS)]
    world.notes.append(f"{EDITS} edits: median {median(taken):.1f} s, longest {max(taken):.1f} s")


def test_a_bad_edit_is_refused_and_changes_nothing(world: World) -> None:
    rule = world.ask("load").header("rule")
    guardrails = [{"name": "bad", "when": "request.nonsense >", "require": "true"}]
    change = [{"op": "add", "path": "/spec/guardrails", "value": guardrails}]
    patch = ("patch", POLICY, "-n", "e2e", "--type=json", "-p", json.dumps(change))

    def told() -> bool:
        # The kinds' own rules know nothing of expressions: the operator says this, once it answers.
        with pytest.raises(KubectlFailed) as refused:
            world.kubectl(*patch)
        return "Syntax error: mismatched input" in str(refused.value)

    world.until(told, "what is wrong with it")
    assert world.ask("load").header("rule") == rule


def test_both_planes_are_upgraded(world: World, tmp_path: Path) -> None:
    world.begin_step("upgrade")
    world.helm.must(*upgrade_command(tmp_path))
    for plane in PLANES:
        new = f":{parts.SECOND}"
        world.until(lambda: world.settled(plane, image=new), f"the new {plane}")  # noqa: B023
        for pod in world.pods(plane):
            assert NEXT.items() <= pod["metadata"]["annotations"].items()
    world.helm.must("test", RELEASE, "-n", NAMESPACE)
    edit_after(world, "upgrade")


def test_the_leading_operator_is_killed(world: World) -> None:
    world.begin_step("leader killed")
    leader = world.leader()
    world.kill("operator", leader)
    edit_after(world, "leader killed")
    world.until(lambda: world.leader() != leader, "another leader")


def test_all_operators_are_killed(world: World) -> None:
    world.begin_step("operators killed")
    world.kill("operator")
    edit_after(world, "operators killed")
    world.until(lambda: world.settled("operator"), "operators")


def test_redis_is_restarted(world: World) -> None:
    world.begin_step("Redis restarted")
    world.kubectl("rollout", "restart", "deployment/switchboard-redis", "-n", NAMESPACE)
    status = ("rollout", "status", "deployment/switchboard-redis", "-n", NAMESPACE)
    world.kubectl(*status, "--timeout=240s")
    edit_after(world, "Redis restarted")


def test_redis_is_killed_and_comes_back_empty(world: World) -> None:
    world.begin_step("Redis killed")
    killed = world.kill("redis")
    world.until(lambda: world.replaced("redis", killed), "another Redis")
    edit_after(world, "Redis killed")


@pytest.mark.parametrize(("name", "count"), [("to 1", 1), ("1 to 3", 3), ("3 to 1", 1)])
def test_the_gateway_is_scaled(world: World, name: str, count: int) -> None:
    world.begin_step(f"gateways {name}")
    scale = ("scale", "deployment/switchboard-gateway", "-n", NAMESPACE)
    world.kubectl(*scale, f"--replicas={count}")
    world.until(lambda: world.settled("gateway", count=count), f"{count} gateways")
    edit_after(world, f"gateways {name}")


def test_no_request_of_the_whole_run_failed(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    report = json.loads(world.kubectl("get", "--raw", f"{CALLERS}/end"))
    record_property("measured", "the whole run\n" + table(report, world.notes))
    failures = [f"{one['name']}: {text}" for one in report["steps"] for text in one["failures"]]
    logs = world.logs()
    assert failures == [], logs
    assert pauses(report) == []


def test_uninstalling_leaves_nothing_but_the_kinds(world: World) -> None:
    world.kubectl("delete", "namespace", "e2e", "--timeout=240s")
    world.kubectl("delete", "secret", "callers", "-n", NAMESPACE)
    world.helm.must("uninstall", RELEASE, "-n", NAMESPACE, "--wait")
    kinds = ("modelbackends", "routingpolicies")
    expected = {f"CustomResourceDefinition <none>/{kind}.switchboard.dev" for kind in kinds} | {
        "APIService <none>/v1alpha1.switchboard.dev",
        f"Namespace <none>/{NAMESPACE}",
        f"ServiceAccount {NAMESPACE}/default",
        f"ConfigMap {NAMESPACE}/kube-root-ca.crt",
    }
    left = frozenset[str]()

    def only_the_kinds() -> bool:
        nonlocal left
        left = world.objects() - world.before - expected
        return not left

    try:
        world.until(only_the_kinds, "nothing left")
    except AssertionError:
        assert left == frozenset()
