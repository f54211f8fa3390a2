"""An operator that watches some namespaces, when one of them goes, or its Role does."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.control_plane import ControlPlane
from cluster.line import eventually
from cluster.redis_server import RedisServer
from fakes.manifests import external, policy
from integration.operator_bench import OperatorBench

SETTLED_S = 4.0
"""Longer than a replica that could lead would take to gain a Lease that nobody holds."""


@pytest.fixture
def other(api: ControlPlane) -> str:
    return api.create_namespace("other")


@pytest.fixture
def bench(
    api: ControlPlane, redis_server: RedisServer, tmp_path: Path, other: str
) -> Iterator[OperatorBench]:
    made = OperatorBench(tmp_path, api, redis_server)
    made.watch_only(other)
    made.apply(external("a", 1), policy("chat", "a"))
    try:
        yield made
    finally:
        made.close()


def take_roles(bench: OperatorBench, namespace: str) -> None:
    """Delete all Roles of a namespace, as its deletion does."""
    for kind in ("rolebinding", "role"):
        bench.plane.kubectl("delete", kind, "-n", namespace, "--all")
    bench.await_right("list", "modelbackends.switchboard.dev", namespace=namespace, there=False)


def delete(bench: OperatorBench, namespace: str) -> None:
    """Delete a namespace; where no controller does, end the deletion by hand."""
    take_roles(bench, namespace)
    bench.plane.kubectl("delete", "namespace", namespace, "--wait=false")
    ended = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    bench.plane.try_kubectl(
        *("replace", "--raw", f"/api/v1/namespaces/{namespace}/finalize", "-f", "-"),
        input=json.dumps(ended),
    )
    bench.plane.kubectl("wait", "--for=delete", f"namespace/{namespace}", "--timeout=60s")


def holder(bench: OperatorBench) -> str:
    held: str = bench.held_lease()["spec"]["holderIdentity"]
    return held


def test_a_namespace_that_is_gone_stops_nobody(bench: OperatorBench, other: str) -> None:
    first = bench.start()
    bench.await_condition("routingpolicy", "chat", "Ready", status="True")
    delete(bench, other)
    assert first.process.stop() == 0
    bench.start()
    before = bench.head()
    bench.apply(policy("chat", "a", rule="renamed"))
    eventually(lambda: bench.head() > before, what="the edit in the store")


def test_who_cannot_read_what_is_there_leaves_the_lease_to_others(
    bench: OperatorBench, other: str
) -> None:
    take_roles(bench, other)
    hindered = bench.start(wait=False)
    hindered.process.wait_for_log("cannot list", timeout_s=120)
    time.sleep(SETTLED_S)
    bench.watched.remove(other)
    bench.start()
    assert holder(bench), "the other replica leads"
    bench.await_condition("routingpolicy", "chat", "Ready", status="True")
    assert hindered.process.running
