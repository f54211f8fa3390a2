"""Scopes of sidecars on a real API server and a real Redis: they come, hold their own, and go."""

import base64
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis

from cluster.control_plane import ControlPlane
from cluster.line import Running, eventually, look
from fakes.manifests import external, policy
from integration.sidecar_bench import (
    CONTAINER,
    INJECT,
    OWN,
    SECRET,
    SUMMARY,
    SidecarBench,
    pod,
    store_of,
)


@pytest.fixture(scope="module")
def bench(api: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarBench]:
    folder = tmp_path_factory.mktemp("sidecars")
    with store_of(folder / "redis") as store:
        made = SidecarBench(folder, api, store)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def operator(bench: SidecarBench) -> Running:
    return bench.start()


@pytest.fixture(autouse=True)
def _well(operator: Running) -> Iterator[None]:
    yield
    assert operator.process.running
    assert "Traceback" not in operator.process.log_text()
    assert "forbidden" not in operator.process.log_text()


def placed(namespace: str, manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


def test_a_labelled_namespace_has_a_scope_that_a_data_plane_can_follow(bench: SidecarBench) -> None:
    namespace = bench.namespace(inject=True)
    bench.await_scope(namespace)
    bench.plane.apply(placed(namespace, external("a", 1)), placed(namespace, policy("chat", "a")))
    added = {f"backend/{namespace}/a", f"policy/{namespace}/chat"}
    eventually(lambda: set(bench.manifest(namespace)) == OWN | added, what="its policy")
    sidecar = bench.start_sidecar(namespace)
    try:
        names = [each["id"] for each in look(f"{sidecar.url}/v1/models").json()["data"]]
        assert "chat" in names

        def in_force() -> bool:
            found = bench.plane.get_all("configmap", namespace=namespace)
            return any(
                each["metadata"]["name"] == SUMMARY and each["data"]["inForce"] == "1/1"
                for each in found
            )

        eventually(in_force, what="the summary of the sidecars")
    finally:
        sidecar.process.stop()


def test_the_user_of_a_scope_sees_and_writes_nothing_else(bench: SidecarBench) -> None:
    mine, other = bench.namespace(inject=True), bench.namespace(inject=True)
    for each in (mine, other):
        bench.await_scope(each)
    with bench.login(mine) as client:
        assert client.hgetall(f"sb:{{ns/{mine}}}:policy:manifest")
        attempts: list[Callable[[], object]] = [
            partial(client.hgetall, f"sb:{{ns/{other}}}:policy:manifest"),
            partial(client.hgetall, "sb:{gw/default}:policy:manifest"),
            partial(client.hset, f"sb:{{ns/{mine}}}:policy:manifest", "policy/x/y", "{}"),
            partial(client.set, f"sb:{{ns/{mine}}}:policy:entry:x", "{}"),
            client.acl_list,
            partial(client.keys, "*"),
            client.flushall,
        ]
        for attempt in attempts:
            with pytest.raises(redis.exceptions.NoPermissionError):
                attempt()


def test_a_pod_is_given_its_sidecar_and_all_that_this_needs(bench: SidecarBench) -> None:
    namespace = bench.namespace(inject=True)
    bench.await_created(namespace, pod("app"))
    made = bench.plane.get("pod", "app", namespace=namespace)
    (sidecar,) = made["spec"]["initContainers"]
    assert (sidecar["name"], sidecar["restartPolicy"]) == (CONTAINER, "Always")
    assert f"--scope=ns/{namespace}" in sidecar["args"]
    (app,) = made["spec"]["containers"]
    assert app["env"] == [{"name": "OPENAI_BASE_URL", "value": "http://127.0.0.1:11080/v1"}]
    assert set(bench.secret(namespace)) == {"scope-key.json", "rotation.json", "redis-url"}
    assert made["metadata"]["labels"]["switchboard.dev/injected"] == "true"


def test_a_restricted_namespace_takes_pods_with_sidecars(bench: SidecarBench) -> None:
    namespace = bench.namespace(inject=True, enforce="restricted")
    context = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    app = {"name": "app", "image": "app:1", "securityContext": context}
    bench.await_created(namespace, pod("app", containers=[app]))
    made = bench.plane.get("pod", "app", namespace=namespace)
    assert [each["name"] for each in made["spec"]["initContainers"]] == [CONTAINER]
    # The level is enforced: the same pod without its own context is refused.
    assert "violates PodSecurity" in bench.create(namespace, pod("loose"))


def test_a_labelled_pod_brings_a_scope_that_goes_after_the_last_one(bench: SidecarBench) -> None:
    namespace = bench.namespace()
    bench.await_created(namespace, pod("plain"))
    assert bench.secret(namespace) == {}
    wants = pod("wants")
    wants["metadata"]["labels"] = {INJECT: "true"}
    bench.await_created(namespace, wants, "--dry-run=server")
    assert bench.secret(namespace) == {}
    bench.await_created(namespace, wants)
    assert bench.secret(namespace)
    assert f"switchboard-ns-{namespace}" in bench.users()
    bench.await_scope(namespace)
    plain = bench.plane.get("pod", "plain", namespace=namespace)
    assert "initContainers" not in plain["spec"]
    bench.plane.kubectl("delete", "pod", "wants", "-n", namespace, "--grace-period=0", "--force")
    eventually(lambda: not bench.secret(namespace), what="the end of the Secret")
    eventually(lambda: not bench.keys(namespace), what="the end of the scope")
    user = f"switchboard-ns-{namespace}"
    eventually(lambda: user not in bench.users(), what="the end of its user")


def test_a_scope_stays_while_pods_use_it_although_the_label_goes(bench: SidecarBench) -> None:
    namespace = bench.namespace(inject=True)
    bench.await_created(namespace, pod("app"))
    bench.await_scope(namespace)
    bench.plane.kubectl("label", "namespace", namespace, f"{INJECT}-")
    # A Secret that somebody deletes is made anew, for the pods that mount it.
    bench.plane.kubectl("delete", "secret", "switchboard-sidecar", "-n", namespace)
    eventually(lambda: bench.secret(namespace), what="the Secret again")
    bench.plane.kubectl("delete", "pod", "app", "-n", namespace, "--grace-period=0", "--force")
    eventually(lambda: not bench.keys(namespace), what="the end of the scope")


def test_users_that_the_store_forgot_are_made_again(bench: SidecarBench) -> None:
    namespace = bench.namespace(inject=True)
    bench.await_scope(namespace)
    with bench.administrator() as client:
        client.acl_deluser(f"switchboard-ns-{namespace}")
        client.flushall()
    eventually(
        lambda: f"switchboard-ns-{namespace}" in bench.users(), what="the user", timeout_s=30
    )
    bench.await_scope(namespace)
    with bench.login(namespace) as client:
        assert client.hgetall(f"sb:{{ns/{namespace}}}:policy:manifest")


def test_a_pod_that_cannot_have_a_sidecar_is_denied_with_the_reason(bench: SidecarBench) -> None:
    namespace = bench.namespace(inject=True)
    eventually(
        lambda: "hostNetwork" in bench.create(namespace, pod("host", hostNetwork=True)),
        what="a denial",
    )
    out = pod("out", hostNetwork=True)
    out["metadata"]["labels"] = {INJECT: "false"}
    bench.await_created(namespace, out)
    made = json.dumps(bench.plane.get("pod", "out", namespace=namespace))
    assert CONTAINER not in made


def test_whatever_a_namespace_writes_in_its_scope_is_trouble_of_its_own(
    bench: SidecarBench, operator: Running
) -> None:
    odd, other = bench.namespace(inject=True), bench.namespace(inject=True)
    for each in (odd, other):
        bench.await_scope(each)
    names = ("", "../../secrets", "x?watch=true", "fine")
    with bench.login(odd) as client:
        for name in names:
            record = {"name": name, "uid": "u", "revision": [1, 1], "namespace": odd}
            client.hset(f"sb:{{ns/{odd}}}:pods", name, json.dumps(record))
            client.zadd(f"sb:{{ns/{odd}}}:seen", {name: 1})
        client.zadd(f"sb:{{ns/{odd}}}:seen", {"fine": "inf"})
    bench.await_upkeep(operator, other)
    with bench.login(odd) as client:
        client.hdel(f"sb:{{ns/{odd}}}:pods", *names)
        client.xadd(f"sb:{{ns/{odd}}}:pods", {"no": "hash"})
    secret = json.dumps({"data": {"redis-url": base64.b64encode(b"redis://[").decode()}})
    bench.plane.kubectl("patch", "secret", SECRET, "-n", odd, "--type=merge", "-p", secret)
    with bench.administrator() as administrator:
        administrator.acl_deluser(f"switchboard-ns-{odd}")
    bench.await_upkeep(operator, other)
    bench.await_created(odd, pod("next"))
    eventually(lambda: f"switchboard-ns-{odd}" in bench.users(), what="its user")
