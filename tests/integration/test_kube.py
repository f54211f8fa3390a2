"""The operator's calls to the API server, those that no other test needs a whole operator for."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cluster.control_plane import ControlPlane
from cluster.processes import free_port
from fakes.manifests import external
from switchboard_operator.errors import ApiAway, Conflict, NotFound
from switchboard_operator.kube import Kube, LeaseRecord, connect, last_good_name
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_policy.compiler.world import Name

AT = "2026-01-01T12:00:00Z"


@pytest.fixture
async def kube(api: ControlPlane) -> AsyncIterator[Kube]:
    made = connect(str(api.kubeconfig()))
    yield made
    await made.close()


async def test_a_pod_is_known_by_its_uid_until_it_is_gone(
    kube: Kube, api: ControlPlane, namespace: str
) -> None:
    container = {"name": "one", "image": "none"}
    metadata = {"name": "pod-1", "namespace": namespace}
    api.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {"containers": [container]},
        }
    )
    uid = api.get("pod", "pod-1", namespace=namespace)["metadata"]["uid"]
    assert await kube.pod_uid(Name(namespace, "pod-1")) == uid
    api.kubectl("delete", "pod", "pod-1", "-n", namespace, "--grace-period=0", "--force")
    assert await kube.pod_uid(Name(namespace, "pod-1")) is None


async def test_an_event_is_posted_about_the_summary(
    kube: Kube, api: ControlPlane, namespace: str
) -> None:
    about = Name(namespace, "summary")
    uid = await kube.apply_config_map(about, {"pods": "1/2"})
    assert await kube.apply_config_map(about, {"pods": "2/2"}) == uid
    assert api.get("configmap", "summary", namespace=namespace)["data"] == {"pods": "2/2"}
    await kube.record_event(
        about, uid=uid, warning=True, reason="PodsSilent", message="pod-1 is silent", at=AT
    )
    listed = api.kubectl("get", "events", "-n", namespace, "-o", "yaml")
    (event,) = yaml.safe_load(listed)["items"]
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "summary",
        "namespace": namespace,
        "uid": uid,
    }
    assert (event["type"], event["reason"], event["message"], event["firstTimestamp"]) == (
        *("Warning", "PodsSilent", "pod-1 is silent"),
        AT,
    )


async def test_one_last_good_spec_of_an_object_is_kept_until_it_is_dropped(
    kube: Kube, api: ControlPlane, namespace: str
) -> None:
    api.apply({**external("a", 1), "metadata": {"name": "a", "namespace": namespace}})
    uid = api.get("modelbackend", "a", namespace=namespace)["metadata"]["uid"]
    key = ObjectKey(Kind.BACKEND, Name(namespace, "a"))
    for generation in (1, 2):
        await kube.keep_last_good(key, uid=uid, generation=generation, spec={"model": generation})
    (kept,) = await kube.last_good(namespace)
    assert (kept.kind, kept.object_name, kept.uid) == (Kind.BACKEND, key.name, uid)
    assert kept.spec == {"model": 2}
    for _ in range(2):
        await kube.drop_last_good(last_good_name(key, uid))
    assert await kube.last_good(namespace) == []


async def test_of_two_writers_of_a_lease_one_is_refused(kube: Kube, namespace: str) -> None:
    name = Name(namespace, "lease")
    assert await kube.get_lease(name) is None
    at = "2026-01-01T12:00:00.000000Z"
    record = LeaseRecord("one", 15, acquired=at, renewed=at, transitions=0, epoch=7)
    made = await kube.create_lease(name, record)
    assert (made.holder, made.epoch) == ("one", 7)
    with pytest.raises(Conflict):
        await kube.create_lease(name, record)
    await kube.update_lease(name, replace(made, epoch=8))
    with pytest.raises(Conflict, match="the object has been modified"):
        await kube.update_lease(name, replace(made, epoch=9))


async def test_a_status_of_an_object_that_is_gone_is_refused(kube: Kube, namespace: str) -> None:
    key = ObjectKey(Kind.BACKEND, Name(namespace, "gone"))
    with pytest.raises(NotFound, match='"gone" not found'):
        await kube.patch_status(key, uid="u", status={})


async def test_a_status_is_replaced_and_nothing_else_of_the_object_moves(
    kube: Kube, api: ControlPlane, namespace: str
) -> None:
    metadata = {"name": "a", "namespace": namespace, "labels": {"team": "a"}}
    api.apply({**external("a", 1), "metadata": metadata})
    key = ObjectKey(Kind.BACKEND, Name(namespace, "a"))
    before = api.get("modelbackend", "a", namespace=namespace)
    uid, version = before["metadata"]["uid"], int(before["metadata"]["resourceVersion"])
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": AT,
    }
    first = {"conditions": [condition], "pods": "1/1", "endpoints": {"ready": 1, "total": 1}}
    answer = await kube.replace_status(key, uid=uid, version=version, status=first)
    assert answer["status"] == first
    assert answer["spec"] == before["spec"]
    assert answer["metadata"]["labels"] == {"team": "a"}
    assert answer["metadata"]["generation"] == 1
    shown = api.kubectl(
        *("get", "modelbackend", "a", "-n", namespace, "-o", "json", "--show-managed-fields")
    )
    managed = {
        (each["manager"], each.get("subresource")): each["fieldsV1"]
        for each in json.loads(shown)["metadata"]["managedFields"]
    }
    assert "f:spec" in managed["kubectl", None]
    assert set(managed["switchboard-operator", "status"]) == {"f:status"}
    with pytest.raises(Conflict, match="the object has been modified"):
        await kube.replace_status(key, uid=uid, version=version, status=first)
    version = int(answer["metadata"]["resourceVersion"])
    with pytest.raises(Conflict):
        await kube.replace_status(key, uid="another", version=version, status=first)
    second = {"conditions": [condition], "pods": None}
    answer = await kube.replace_status(key, uid=uid, version=version, status=second)
    assert answer["status"] == {"conditions": [condition]}


async def test_a_server_that_does_not_answer_is_away(api: ControlPlane, tmp_path: Path) -> None:
    said = yaml.safe_load(api.kubeconfig().read_text())
    said["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(said))
    kube = connect(str(path))
    try:
        with pytest.raises(ApiAway, match="GET https"):
            await kube.get_namespace("default")
    finally:
        await kube.close()


@pytest.mark.parametrize("text", [None, "kind: Config\n"])
def test_no_way_to_log_in_is_told_with_what_to_do(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ApiAway, match="--kubeconfig"):
        connect(str(path))
