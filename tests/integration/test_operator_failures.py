"""The operator through restarts, a lost store, and a leader that stops or sleeps."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.control_plane import ControlPlane
from cluster.line import eventually
from cluster.redis_server import RedisServer
from fakes.manifests import external, policy, secret
from integration.operator_bench import OperatorBench

SETTLED_S = 6.0
"""Longer than the operator's upkeep takes to come round."""
LONG_LEASE = {"duration": "240s", "renewDeadline": "200s", "retry": "2s"}
AT_ONCE_S = 120.0
"""Less than is left of such a Lease."""


@pytest.fixture
def bench(api: ControlPlane, redis_server: RedisServer, tmp_path: Path) -> Iterator[OperatorBench]:
    made = OperatorBench(tmp_path, api, redis_server)
    made.apply(external("a", 1), policy("chat", "a"))
    try:
        yield made
    finally:
        made.close()


def versions(bench: OperatorBench) -> dict[str, str]:
    return {
        name: bench.get(kind, name)["metadata"]["resourceVersion"]
        for kind, name in (("modelbackend", "a"), ("routingpolicy", "chat"))
    }


def test_a_restart_raises_the_epoch_and_writes_nothing_that_is_there(
    bench: OperatorBench,
) -> None:
    first = bench.start()
    for kind, name in (("modelbackend", "a"), ("routingpolicy", "chat")):
        bench.await_condition(kind, name, "Ready", status="True")
    before, digests, head = versions(bench), bench.digests(), bench.head()
    assert first.process.stop() == 0
    assert bench.held_lease()["spec"]["holderIdentity"] == ""
    second = bench.start()
    time.sleep(SETTLED_S)
    epoch = int(bench.held_lease()["metadata"]["annotations"]["switchboard.dev/epoch"])
    assert epoch == head[0] + 1
    assert (versions(bench), bench.digests()) == (before, digests)
    # One line says that a new leader took over; no object moved.
    assert bench.head() == (epoch, head[1] + 1)
    bench.apply(policy("chat", "a", rule="renamed"))
    eventually(lambda: bench.head() == (epoch, head[1] + 2), what="a line of the new epoch")
    assert second.process.running


def test_a_redis_that_comes_back_empty_is_filled_within_seconds(
    bench: OperatorBench, redis_server: RedisServer
) -> None:
    bench.start()
    for kind, name in (("modelbackend", "a"), ("routingpolicy", "chat")):
        bench.await_condition(kind, name, "Ready", status="True")
    digests, head, before = bench.digests(), bench.head(), versions(bench)
    redis_server.restart(keep_data=False)
    eventually(lambda: bench.digests() == digests, what="all objects again")
    assert bench.head() > head
    bench.flush()
    eventually(lambda: bench.digests() == digests, what="all objects again")
    time.sleep(SETTLED_S)
    assert versions(bench) == before


def test_edits_while_redis_is_away_are_told_and_published_when_it_is_back(
    bench: OperatorBench, redis_server: RedisServer
) -> None:
    bench.start()
    bench.await_condition("routingpolicy", "chat", "Ready", status="True")
    redis_server.kill()
    bench.apply(policy("chat", "a", rule="renamed"))
    told = bench.await_condition("routingpolicy", "chat", "Programmed", reason="StoreUnavailable")
    assert "the store does not answer" in told["message"]
    redis_server.start()
    bench.await_condition("routingpolicy", "chat", "Programmed", reason="NoDataPlanes")
    assert "renamed" in bench.entry(bench.key("policy", "chat"))


def test_an_operator_that_starts_without_redis_publishes_once_it_is_there(
    bench: OperatorBench, redis_server: RedisServer
) -> None:
    redis_server.kill()
    bench.start()
    bench.await_condition("routingpolicy", "chat", "Programmed", reason="StoreUnavailable")
    redis_server.start()
    bench.await_key(bench.key("policy", "chat"))
    bench.await_condition("routingpolicy", "chat", "Ready", status="True")


def test_the_last_good_spec_survives_a_restart_and_a_flush(bench: OperatorBench) -> None:
    # The same Pod: its next container need not wait for the Lease of a killed one.
    first = bench.start(pod="operator-0")
    key = bench.key("policy", "chat")
    bench.await_key(key)
    good = bench.digests()[key]
    bench.apply(policy("chat", "a", when="request.nope == 1"))
    bench.await_condition("routingpolicy", "chat", "Degraded", reason="LastGoodInForce")
    listed = ("get", "controllerrevisions", "-n", bench.namespace, "-o", "name")
    eventually(lambda: bench.plane.kubectl(*listed) != "", what="a kept spec")
    first.process.kill()
    bench.flush()
    second = bench.start(pod="operator-0")
    bench.await_key(key)
    assert bench.digests()[key] == good
    bench.apply(policy("chat", "a"))
    eventually(lambda: bench.plane.kubectl(*listed) == "", what="nothing kept")
    bench.await_condition("routingpolicy", "chat", "Ready", status="True")
    assert second.process.running


def test_a_restarted_container_does_not_wait_for_its_own_lease(bench: OperatorBench) -> None:
    bench.lease = LONG_LEASE
    bench.start(pod="operator-0").process.kill()
    began = time.monotonic()
    bench.apply(policy("new", "a"))
    bench.start(pod="operator-0")
    bench.await_key(bench.key("policy", "new"))
    assert time.monotonic() - began < AT_ONCE_S


def test_with_named_namespaces_roles_are_enough_and_nothing_else_is_read(
    bench: OperatorBench,
) -> None:
    label = bench.gateway["selector"]
    other, foreign = (bench.plane.create_namespace("ns", labels=label) for _ in range(2))
    bench.watch_only(other)
    keyed = external("keyed", 1, credentials={"apiKey": {"secretName": "keyed"}})
    bench.apply(secret("keyed", "sk"), keyed, policy("keyed", "keyed"))
    for namespace in (other, foreign):
        for manifest in (external("b", 1), policy("elsewhere", "b")):
            bench.apply({**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}})
    running = bench.start()
    bench.await_key(bench.key("credential", "keyed"))
    bench.await_key(f"policy/{other}/elsewhere")
    bench.await_condition("routingpolicy", "keyed", "Ready", status="True")
    bench.apply(policy("keyed", "keyed", rule="renamed"))
    eventually(
        lambda: "renamed" in bench.entry(bench.key("policy", "keyed")), what="a watched edit"
    )
    assert f"policy/{foreign}/elsewhere" not in bench.digests()
    assert "forbidden" not in running.process.log_text()
