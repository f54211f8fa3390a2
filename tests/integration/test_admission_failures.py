"""The webhook through a rotation, a stop, and times in which it cannot judge."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster.control_plane import ControlPlane
from cluster.line import eventually, look
from cluster.objects import ApiFailed
from cluster.redis_server import RedisServer
from cluster.tls import Authority
from fakes.manifests import external, policy
from integration.admission_bench import AdmissionBench, Replica
from integration.operator_bench import GROUP, OperatorBench
from integration.test_admission import bad, review

EDIT_EVERY_S = 0.02
ROTATED_S = 120.0

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def bench(api: ControlPlane, redis_server: RedisServer, tmp_path: Path) -> Iterator[AdmissionBench]:
    operators = OperatorBench(tmp_path, api, redis_server)
    made = AdmissionBench(operators)
    try:
        yield made
    finally:
        made.close()
        operators.close()


def serving(bench: AdmissionBench, **admission: Any) -> Replica:
    """A replica that the API server asks."""
    replica = bench.start(**admission)
    bench.configure(replica)
    bench.await_calls()
    return replica


@contextmanager
def edits(bench: AdmissionBench) -> Iterator[list[str]]:
    """Edit one policy after another meanwhile; what fails is in the list, and one "" an edit."""
    told: list[str] = []
    stop = threading.Event()

    def go_on() -> None:
        number = 0
        while not stop.wait(EDIT_EVERY_S):
            number += 1
            try:
                bench.bench.apply(policy(f"p{number % 5}", "a", rule=f"r{number}"))
                told.append("")
            except ApiFailed as error:
                told.append(str(error))

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield told
    finally:
        stop.set()
        thread.join()


def test_a_rotation_of_authority_and_certificate_drops_no_edit(bench: AdmissionBench) -> None:
    leader = serving(bench)
    standby = bench.start()
    before, shown = bench.bundles()[0], leader.certificate()
    with edits(bench) as told:
        bench.plane.kubectl(
            *("annotate", "secret", "switchboard-admission", "-n", bench.bench.system),
            "switchboard.dev/rotate=now",
        )
        eventually(
            lambda: before in bench.bundles()[0] != before,
            what="both authorities",
            timeout_s=ROTATED_S,
        )
        assert leader.certificate() == shown
        eventually(
            lambda: leader.certificate() == standby.certificate() != shown,
            what="the new certificate at both replicas",
            timeout_s=ROTATED_S,
        )
        # Which of them the API server asks makes no difference.
        bench.point_at(standby)
        eventually(
            lambda: before not in bench.bundles()[0],
            what="the new authority alone",
            timeout_s=ROTATED_S,
        )
        so_far = len(told)
        eventually(lambda: len(told) > so_far + 20, what="edits afterwards")
    assert {each for each in told if each} == set()
    assert len(set(bench.bundles())) == 1
    bench.await_calls()
    assert standby.metric("switchboard_operator_leader") == 0


def test_a_certificate_is_renewed_by_age(bench: AdmissionBench) -> None:
    fast = {"lifetime": "60s", "settle": "8s", "keepOldFor": "8s"}
    leader = serving(bench, certificates=fast)
    shown = leader.certificate()
    with edits(bench) as told:
        eventually(lambda: leader.certificate() != shown, what="a new one", timeout_s=ROTATED_S)
    assert told
    assert {each for each in told if each} == set()


def test_a_deleted_secret_is_made_again_without_a_dropped_edit(bench: AdmissionBench) -> None:
    leader = serving(bench)
    shown = leader.certificate()
    with edits(bench) as told:
        bench.plane.kubectl(
            *("delete", "secret", "switchboard-admission", "-n", bench.bench.system)
        )
        eventually(lambda: leader.certificate() != shown, what="a new one", timeout_s=ROTATED_S)
    assert {each for each in told if each} == set()
    assert bench.secret()["type"] == "kubernetes.io/tls"


def test_a_replica_that_takes_over_keeps_the_certificate(bench: AdmissionBench) -> None:
    leader = serving(bench)
    standby = bench.start()
    shown, bundles = leader.certificate(), bench.bundles()
    with edits(bench) as told:
        bench.point_at(standby)
        bench.await_asked(standby)
        assert leader.process.stop() == 0
        eventually(
            lambda: standby.metric("switchboard_operator_leader") == 1, what="another leader"
        )
        bench.set_bundles(bundles[0].encode() + b"# edited\n")
        eventually(lambda: bench.bundles() == bundles, what="the caBundles")
    assert {each for each in told if each} == set()
    assert standby.certificate() == shown


def test_a_replica_that_ends_answers_until_nobody_asks(bench: AdmissionBench) -> None:
    leaving = serving(bench, linger="15s")
    staying = bench.start()
    with edits(bench) as told:
        eventually(lambda: len(told) > 5, what="edits")
        leaving.process.interrupt()
        # What a Service does once a replica is not ready.
        eventually(
            lambda: look(f"{leaving.running.admin}/readyz").status_code == 503,
            what="a replica that is not ready",
        )
        bench.point_at(staying)
        assert leaving.process.wait() == 0
        so_far = len(told)
        eventually(lambda: len(told) > so_far + 20, what="edits afterwards")
    assert {each for each in told if each} == set()


def test_without_a_replica_the_failure_policy_decides(bench: AdmissionBench) -> None:
    replica = serving(bench)
    bench.bench.apply(external("a", 1), policy("chat", "a"))
    bench.configure(replica, failure_policy="Fail", conditions=True)
    bench.await_calls()
    assert replica.process.stop() == 0
    eventually(
        lambda: "failed calling webhook" in bench.apply(policy("new", "a")).stderr,
        what="a refusal",
    )
    # Neither labels nor deletions ask anybody, so nothing is stuck.
    namespace = bench.bench.namespace
    label = ("label", "rp", "chat", "team=red", "--overwrite", "-n", namespace)
    # The API server hears of the configuration's conditions a moment later.
    eventually(lambda: bench.plane.try_kubectl(*label).returncode == 0, what="a label")
    assert bench.plane.kubectl("delete", "mb", "a", "-n", namespace)
    bench.configure(replica, failure_policy="Ignore")
    eventually(lambda: bench.apply(bad("bad")).returncode == 0, what="an edit nobody judged")
    bench.start()
    told = bench.bench.await_condition("routingpolicy", "bad", "Accepted", status="False")
    assert "spec.guardrails[0].require" in told["message"]


def test_settings_turn_warnings_into_denials(bench: AdmissionBench) -> None:
    serving(bench, deny=["Unresolved"])
    done = bench.apply(policy("chat", "late"))
    assert done.returncode == 1
    assert "denied the request: BackendNotFound: ModelBackend" in done.stderr
    bench.bench.apply(external("late", 1))
    eventually(lambda: bench.apply(policy("chat", "late")).returncode == 0, what="an admission")


def test_files_of_somebody_else_are_served_and_read_again(
    bench: AdmissionBench, authority: Authority, tmp_path: Path
) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()

    def issue(*, age: timedelta = timedelta()) -> str:
        made = authority.issue("127.0.0.1", age=age)
        (folder / "tls.key").write_bytes(made.key.read_bytes())
        (folder / "tls.crt").write_bytes(made.chain.read_bytes())
        return made.chain.read_text()

    starting = bench.start(wait=False, certDir=str(folder))
    starting.process.wait_for_http(f"{starting.running.admin}/livez")
    ready = f"{starting.running.admin}/readyz"
    eventually(lambda: "no certificate" in look(ready).text, what="a wait for files")
    first = issue()
    starting.process.wait_for_http(ready)
    bench.configure(starting)
    bench.set_bundles(authority.file.read_bytes())
    bench.await_calls()
    assert starting.certificate() == first
    second = issue()
    with edits(bench) as told:
        eventually(lambda: starting.certificate() == second, what="the new file")
        (folder / "tls.key").write_bytes(b"half a key")
        starting.process.wait_for_log("no certificate with a key")
    assert starting.certificate() == second
    assert {each for each in told if each} == set()
    assert set(bench.bundles()) == {authority.file.read_text()}
    secrets = bench.plane.kubectl("get", "secrets", "-n", bench.bench.system, "-o", "name")
    assert "switchboard-admission" not in secrets


def test_a_leader_is_not_ready_before_the_api_server_trusts_it(bench: AdmissionBench) -> None:
    right = bench.plane.get("clusterrole", f"switchboard-operator-admission-{bench.bench.system}")
    right["metadata"] = {"name": right["metadata"]["name"]}
    bench.plane.kubectl("delete", "clusterrole", right["metadata"]["name"])
    kind = "validatingwebhookconfigurations.admissionregistration.k8s.io"
    bench.bench.await_right("patch", kind, name=bench.name, there=False)
    replica = bench.start(wait=False)
    bench.configure(replica)
    replica.process.wait_for_log("admission port")
    ready = f"{replica.running.admin}/readyz"
    told = "[-] admission: the authority is not published"
    eventually(lambda: told in look(ready).text, what="an obstacle")
    bench.plane.apply(right)
    replica.process.wait_for_http(ready)
    bench.await_calls()


def test_before_the_lists_are_read_nothing_is_judged_and_deletions_pass(
    bench: AdmissionBench,
) -> None:
    # By then a leader has made the certificate: who cannot read what there is leads nobody.
    bench.start(configuration=None).process.stop()
    for kind in ("clusterrole", "clusterrolebinding"):
        bench.plane.kubectl("delete", kind, f"switchboard-operator-{bench.bench.system}")
    bench.bench.await_right("list", f"modelbackends.{GROUP}", there=False)
    replica = bench.start(wait=False, configuration=None)
    replica.process.wait_for_log("admission port")
    ready = look(f"{replica.running.admin}/readyz")
    assert ready.status_code == 503
    authorities = base64.b64decode(bench.secret()["data"]["ca.crt"]).decode()
    namespace = bench.bench.namespace
    found = replica.post(review(policy("chat", "a"), namespace), bundle=authorities)
    assert found.status_code == 503
    assert "nothing can be judged yet" in found.text
    gone = review(external("a", 1), namespace, operation="DELETE")
    assert replica.post(gone, bundle=authorities).json()["response"]["allowed"] is True
