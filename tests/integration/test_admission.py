"""The webhook as a real API server calls it: what kubectl prints, and what gets in."""

import json
import ssl
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from cluster.control_plane import ControlPlane
from cluster.line import eventually, look
from cluster.meters import cpu_s
from cluster.redis_server import RedisServer
from fakes.manifests import external, policy
from integration.admission_bench import AdmissionBench, Replica
from integration.operator_bench import OperatorBench

Json = dict[str, Any]

JUDGED_MAX_S = 5.0
"""The chart has the API server wait for so long."""


@pytest.fixture(scope="module")
def bench(api: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdmissionBench]:
    folder = tmp_path_factory.mktemp("admission")
    with RedisServer(folder / "redis") as store:
        operators = OperatorBench(folder, api, store)
        made = AdmissionBench(operators)
        try:
            yield made
        finally:
            made.close()
            operators.close()


@pytest.fixture(scope="module")
def leader(bench: AdmissionBench) -> Replica:
    """The replica that leads, and that the API server asks."""
    replica = bench.start()
    bench.configure(replica)
    bench.await_calls()
    bench.bench.apply(external("a", 1), policy("chat", "a"))
    bench.bench.await_condition("routingpolicy", "chat", "Ready", status="True")
    return replica


@pytest.fixture(autouse=True)
def _running(leader: Replica) -> Iterator[None]:
    yield
    assert leader.process.running
    assert "Traceback" not in leader.process.log_text()
    assert "forbidden" not in leader.process.log_text()


def bad(name: str) -> Json:
    made = policy(name, "a", when="request.nope == 1")
    made["spec"]["guardrails"] = [{"name": "g", "require": "backend.zone == 1"}]
    return made


def review(
    manifest: Json, namespace: str, operation: str = "CREATE", *, before: Json | None = None
) -> bytes:
    group, _, version = manifest["apiVersion"].rpartition("/")
    said = {
        "uid": "u",
        "kind": {"group": group, "version": version, "kind": manifest["kind"]},
        "operation": operation,
        "name": manifest["metadata"]["name"],
        "namespace": namespace,
        "object": manifest,
        "oldObject": before,
    }
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": said}
    ).encode()


def test_a_bad_object_is_denied_where_it_is_applied_with_every_field_and_fix(
    bench: AdmissionBench, leader: Replica
) -> None:
    done = bench.apply(bad("denied"))
    assert done.returncode == 1
    assert 'RoutingPolicy "denied" is invalid' in done.stderr
    assert "spec.guardrails[0].require: " in done.stderr
    assert "spec.rules[0].when: undeclared reference to 'request.nope'" in done.stderr
    assert "write request." in done.stderr
    there = bench.plane.try_kubectl("get", "rp", "denied", "-n", bench.bench.namespace)
    assert "NotFound" in there.stderr
    told = f"denied RoutingPolicy {bench.bench.namespace}/denied: spec.guardrails[0].require"
    assert told in leader.process.log_text()
    assert leader.denied() >= 1


def test_a_dry_run_is_judged_as_the_real_thing(bench: AdmissionBench) -> None:
    assert "is invalid" in bench.apply(bad("tried"), "--dry-run=server").stderr
    done = bench.apply(policy("tried", "nowhere"), "--dry-run=server")
    assert done.returncode == 0
    assert "Warning: BackendNotFound: " in done.stderr


def test_an_edit_that_spoils_an_object_leaves_it_as_it_was(bench: AdmissionBench) -> None:
    assert bench.apply(policy("spoiled", "a")).returncode == 0
    assert bench.apply(bad("spoiled")).returncode == 1
    assert "guardrails" not in bench.bench.get("routingpolicy", "spoiled")["spec"]


def test_manifests_may_come_in_any_order(bench: AdmissionBench) -> None:
    done = bench.apply(policy("early", "late"))
    assert done.returncode == 0
    where = f"ModelBackend {bench.bench.namespace}/late does not exist: create it"
    assert f"Warning: BackendNotFound: {where}" in done.stderr
    done = bench.apply(external("late", 1))
    assert (done.returncode, done.stderr) == (0, "")
    bench.bench.await_condition("routingpolicy", "early", "Ready", status="True")
    done = bench.apply(policy("early", "late", rule="renamed"))
    assert (done.returncode, done.stderr) == (0, "")


def test_deleting_a_backend_in_use_warns_and_goes_on(bench: AdmissionBench) -> None:
    bench.bench.apply(external("used", 1), policy("user", "used"))
    bench.bench.await_condition("routingpolicy", "user", "Ready", status="True")
    done = bench.plane.try_kubectl("delete", "mb", "used", "-n", bench.bench.namespace)
    assert done.returncode == 0
    assert f"RoutingPolicy {bench.bench.namespace}/user still names" in done.stderr


def test_an_object_that_was_bad_before_can_be_labelled_reported_and_removed(
    bench: AdmissionBench, leader: Replica
) -> None:
    namespace = bench.bench.namespace
    bench.remove()
    old = bad("old")
    old["metadata"]["finalizers"] = ["test.switchboard.dev/hold"]
    eventually(lambda: bench.apply(old).returncode == 0, what="an object past the webhook")
    bench.configure(leader)
    bench.await_calls()
    # Its status is written all the while.
    bench.bench.await_condition("routingpolicy", "old", "Accepted", status="False")
    assert bench.plane.kubectl("label", "rp", "old", "team=red", "-n", namespace)
    assert bench.plane.kubectl("delete", "rp", "old", "--wait=false", "-n", namespace)
    released = '{"metadata": {"finalizers": null}}'
    assert bench.plane.kubectl(
        "patch", "rp", "old", "--type=merge", "-p", released, "-n", namespace
    )
    gone = bench.plane.try_kubectl("get", "rp", "old", "-n", namespace)
    assert "NotFound" in gone.stderr


def test_a_bundle_that_somebody_spoils_is_mended_by_the_leader(bench: AdmissionBench) -> None:
    before = bench.bundles()
    bench.set_bundles(b"")
    eventually(lambda: bench.bundles() == before, what="the caBundles")
    bench.await_calls()


def test_a_replica_that_does_not_lead_answers_the_same(
    bench: AdmissionBench, leader: Replica
) -> None:
    standby = bench.start()
    try:
        assert standby.certificate() == leader.certificate()
        bench.point_at(standby)
        bench.await_asked(standby)
        assert "Warning: BackendNotFound" in bench.apply(policy("y", "nowhere")).stderr
        assert standby.metric("switchboard_operator_leader") == 0
        assert leader.metric("switchboard_operator_leader") == 1
    finally:
        bench.point_at(leader)
        bench.await_asked(leader)
        standby.process.stop()


def test_what_is_no_review_is_refused_and_what_is_too_large_is_not_read(
    bench: AdmissionBench, leader: Replica
) -> None:
    assert leader.post(b"{}").status_code == 400
    assert leader.post(b"x" * (7 * 1024 * 1024 + 1)).status_code == 413
    assert leader.post(b"{}", path="/mutate").status_code == 404
    wrong = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    found = leader.post(review(wrong, "ai")).json()["response"]
    assert found["allowed"] is False
    assert "ConfigMap of v1 is not reviewed here" in found["status"]["message"]
    large = policy("large", *(f"b{number}" for number in range(32)))
    large["metadata"]["annotations"] = {"note": "x" * 2_900_000}
    before = {**large, "spec": policy("large", "b0")["spec"]}
    edit = review(large, "ai", "UPDATE", before=before)
    assert leader.post(edit).json()["response"]["allowed"] is True


def test_old_versions_of_tls_and_plain_text_are_refused(leader: Replica) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    url = f"https://127.0.0.1:{leader.port}/validate"
    with pytest.raises(httpx2.ConnectError):
        httpx2.post(url, content=b"", verify=old)
    with pytest.raises(httpx2.HTTPError):
        httpx2.post(url.replace("https", "http"), content=b"")


def test_an_operator_says_when_its_certificate_expires(leader: Replica) -> None:
    name = "switchboard_operator_admission_certificate_expiry_timestamp_seconds"
    days = (leader.metric(name) - time.time()) / 86_400
    assert 89 < days < 91
    assert "[+] admission" in look(f"{leader.running.admin}/readyz").text


def test_a_large_policy_is_judged_in_time(bench: AdmissionBench, leader: Replica) -> None:
    names = [f"b{number}" for number in range(24)]
    large = policy("large", *names)
    route = large["spec"]["rules"][0]["route"]
    tiers = [{**route["tiers"][0], "name": f"t{number}"} for number in range(8)]
    large["spec"]["rules"] = [
        {"name": f"r{number}", "when": f"request.tokens > {number}", "route": {"tiers": tiers}}
        for number in range(40)
    ] + [{"name": "last", "route": {"tiers": tiers}}]
    before = cpu_s(leader.process.pid)
    done = bench.apply(large, "--server-side", "--dry-run=server")
    assert done.returncode == 0, done.stderr
    assert "more findings" in done.stderr
    # Of a core, not by the clock: its neighbours take their time.
    assert cpu_s(leader.process.pid) - before < JUDGED_MAX_S
