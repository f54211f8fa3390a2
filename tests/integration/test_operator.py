"""The operator on a real API server and a real Redis, with the rights that the chart gives it."""

from collections.abc import Iterator

import pytest

from cluster.control_plane import ControlPlane
from cluster.line import Running, eventually, look
from cluster.redis_server import RedisServer
from fakes.manifests import endpoint_slice, external, policy, reference, secret, served, service
from integration.operator_bench import OperatorBench


@pytest.fixture(scope="module")
def bench(api: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorBench]:
    folder = tmp_path_factory.mktemp("operator")
    with RedisServer(folder / "redis") as store:
        made = OperatorBench(folder, api, store)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def operator(bench: OperatorBench) -> Running:
    return bench.start()


@pytest.fixture(autouse=True)
def _running(operator: Running) -> Iterator[None]:
    yield
    assert operator.process.running
    assert "forbidden" not in operator.process.log_text()


def test_an_applied_object_gets_an_entry_an_edit_moves_it_and_a_deletion_ends_it(
    bench: OperatorBench,
) -> None:
    key = bench.key("policy", "life")
    bench.apply(external("life-a", 1), policy("life", "life-a"), policy("unmoved", "life-a"))
    unmoved = bench.key("policy", "unmoved")
    # A policy may come before its backend: both entries are whole when they name it.
    both = "both entries"
    eventually(lambda: all("life-a" in bench.entry(k) for k in (key, unmoved)), what=both)
    before = bench.digests()
    bench.apply(policy("life", "life-a", rule="renamed"))
    eventually(lambda: "renamed" in bench.entry(key), what="the new entry")
    assert {name for name, digest in bench.digests().items() if before.get(name) != digest} == {key}
    told = bench.await_condition("routingpolicy", "life", "Programmed", reason="NoDataPlanes")
    assert told["status"] == "False"
    assert bench.condition("routingpolicy", "life", "Ready")["status"] == "True"
    bench.delete("routingpolicy", "life")
    bench.await_key(key, there=False)
    bench.await_key(unmoved)


def test_a_bad_object_among_good_ones_stays_alone(bench: OperatorBench) -> None:
    bench.apply(
        external("good-a", 1),
        policy("good", "good-a"),
        policy("bad", "good-a", when="request.nope == 1"),
    )
    bench.await_key(bench.key("policy", "good"))
    told = bench.await_condition("routingpolicy", "bad", "Accepted", status="False")
    assert told["reason"] == "InvalidExpression"
    assert "spec.rules[0].when" in told["message"]
    assert "request.nope" in told["message"]
    assert bench.condition("routingpolicy", "bad", "Stalled")["status"] == "True"
    assert bench.key("policy", "bad") not in bench.digests()
    bench.await_condition("routingpolicy", "good", "Accepted", status="True")


def test_a_dangling_backend_is_told_and_heals(bench: OperatorBench) -> None:
    bench.apply(policy("dangling", "late"))
    told = bench.await_condition("routingpolicy", "dangling", "ResolvedRefs", status="False")
    assert told["reason"] == "BackendNotFound"
    assert f"{bench.namespace}/late" in told["message"]
    bench.apply(external("late", 1))
    bench.await_condition("routingpolicy", "dangling", "ResolvedRefs", status="True")
    bench.await_condition("modelbackend", "late", "Ready", status="True")


def test_a_reference_to_another_namespace_needs_consent_and_loses_it_at_once(
    bench: OperatorBench,
) -> None:
    label = bench.gateway["selector"]
    elsewhere = bench.plane.create_namespace("elsewhere", labels=label)
    shared = external("shared", 1)
    shared["metadata"]["namespace"] = elsewhere
    bench.apply(shared, policy("consent", reference("shared", elsewhere)))
    told = bench.await_condition("routingpolicy", "consent", "ResolvedRefs", status="False")
    assert told["reason"] == "RefNotPermitted"
    shared["spec"]["allowedNamespaces"] = {"from": "All"}
    bench.apply(shared)
    bench.await_condition("routingpolicy", "consent", "ResolvedRefs", status="True")
    assert f"{elsewhere}/shared" in bench.entry(bench.key("policy", "consent"))
    shared["spec"]["allowedNamespaces"] = {"from": "Same"}
    bench.apply(shared)
    eventually(
        lambda: f"{elsewhere}/shared" not in bench.entry(bench.key("policy", "consent")),
        what="the backend out of the policy",
    )


def test_an_endpoint_slice_moves_its_own_channel_alone(bench: OperatorBench) -> None:
    key = bench.key("endpoints", "sliced")
    bench.apply(
        service("engine", 8000),
        endpoint_slice("engine-1", "engine", 8000, "10.1.0.1"),
        served("sliced", "engine"),
        policy("sliced", "sliced"),
    )
    eventually(lambda: "10.1.0.1:8000" in bench.entry(key, "endpoints"), what="the address")
    bench.await_condition("modelbackend", "sliced", "Ready", status="True")
    before = bench.head()
    bench.apply(endpoint_slice("engine-1", "engine", 8000, "10.1.0.2", "10.1.0.3"))
    eventually(lambda: "10.1.0.3:8000" in bench.entry(key, "endpoints"), what="new addresses")
    assert "10.1.0.1" not in bench.entry(key, "endpoints")
    assert bench.head() == before
    eventually(
        lambda: bench.get("modelbackend", "sliced")["status"]["endpoints"]["total"] == 2,
        what="the counts",
    )


def test_a_rotated_secret_makes_a_new_entry_and_is_never_seen(
    bench: OperatorBench, operator: Running
) -> None:
    keyed = external("keyed", 1, credentials={"apiKey": {"secretName": "keyed"}})
    bench.apply(secret("keyed", "sk-first-secret"), keyed, policy("keyed", "keyed"))
    key = bench.key("credential", "keyed")
    bench.await_key(key)
    before = bench.digests()
    bench.apply(secret("keyed", "sk-second-secret"))
    eventually(lambda: bench.digests()[key] != before[key], what="a new credential")
    bench.await_condition("modelbackend", "keyed", "ResolvedRefs", status="True")
    seen = (
        bench.everything_stored(),
        operator.process.log_text(),
        look(f"{operator.admin}/metrics").text,
        str(bench.get("modelbackend", "keyed")["status"]),
    )
    assert not any("-secret" in text for text in seen)


def test_a_secret_without_the_label_is_told_with_the_command(bench: OperatorBench) -> None:
    unlabelled = secret("plain", "sk-x")
    unlabelled["metadata"]["labels"] = {}
    keyed = external("unlabelled", 1, credentials={"apiKey": {"secretName": "plain"}})
    bench.apply(unlabelled, keyed, policy("unlabelled", "unlabelled"))
    told = bench.await_condition("modelbackend", "unlabelled", "ResolvedRefs", status="False")
    assert "kubectl label secret plain" in told["message"]
    bench.apply(secret("plain", "sk-x"))
    bench.await_condition("modelbackend", "unlabelled", "ResolvedRefs", status="True")


def test_nothing_of_the_operators_is_on_users_objects_but_a_status(bench: OperatorBench) -> None:
    bench.apply(external("clean", 1), policy("clean", "clean"))
    bench.await_condition("routingpolicy", "clean", "Ready", status="True")
    found = bench.plane.kubectl(
        *("get", "routingpolicy", "clean", "-n", bench.namespace, "-o", "json"),
        "--show-managed-fields",
    )
    assert "kopf" not in found
    meta = bench.get("routingpolicy", "clean")["metadata"]
    assert not meta.keys() & {"annotations", "finalizers"}
    listed = ("get", "events", "-n", bench.namespace, "-o", "jsonpath={.items[*].source.component}")
    assert set(bench.plane.kubectl(*listed).split()) <= {"switchboard-operator"}


def test_a_status_that_waits_is_seen_in_the_table_that_people_read(bench: OperatorBench) -> None:
    bench.apply(external("table", 1), policy("table", "table"))
    bench.await_condition("routingpolicy", "table", "Ready", status="True")
    table = bench.plane.kubectl("get", "routingpolicy", "table", "-n", bench.namespace)
    assert "True" in table
    assert str(bench.head()[0]) in table


def test_probes_and_metrics_answer(operator: Running) -> None:
    assert look(f"{operator.admin}/livez").text == "[+] loop\n"
    assert "[+] lists" in look(f"{operator.admin}/readyz").text
    metrics = look(f"{operator.admin}/metrics").text
    assert "switchboard_operator_leader 1.0" in metrics
    assert 'switchboard_operator_events_total{kind="RoutingPolicy"}' in metrics
