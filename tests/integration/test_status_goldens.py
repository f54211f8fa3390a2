"""What the operator writes to objects on a real API server, kept as golden statuses.

What Argo CD and Flux make of each of them is in tests/golden/status.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.control_plane import ControlPlane
from cluster.line import eventually
from cluster.redis_server import RedisServer
from cluster.traffic import Thread
from conftest import Golden
from fakes.manifests import external, policy
from fakes.simulated_pods import SimulatedPods, simulated_pods
from integration.operator_bench import OperatorBench

FOLDER = Path(__file__).parents[1] / "golden" / "status"
CASES = (
    "claimed",
    "dangling",
    "invalid",
    "no-data-planes",
    "not-referenced",
    "pending",
    "quarantined",
    "ready",
    "ready-backend",
    "refused",
    "secret-missing",
    "stale",
    "store-unavailable",
    "waiting",
    "warned",
)
OF_THE_RUN = (
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-05-01T12:00:00Z"),
    (r"\b[1-9]\d*-[1-9]\d*\b", "1-17"),
    (r"\b\d+(s\d+)?ms\b|\b[1-9]\d*s\b", "41ms"),
    (r"the store does not answer \(.*?\);", "the store does not answer (refused);"),
)
"""What differs from run to run, and what stands for it: revisions, times, durations, errors."""


class Stage:
    """Objects in every state that a person may find them in."""

    def __init__(self, bench: OperatorBench, store: RedisServer) -> None:
        self._bench, self._store = bench, store
        self.found: dict[str, str] = {}

    def play(self, pods: SimulatedPods, thread: Thread) -> None:
        bench = self._bench
        bench.apply(external("a", 1), policy("first", "a"))
        self._take("pending", "routingpolicy", "first")
        operator = bench.start()
        self._await("first", "Programmed", reason="NoDataPlanes")
        self._take("no-data-planes", "routingpolicy", "first")
        thread.run(pods.join("pod-1", "pod-2"))
        self._await("first", "Programmed", status="True")
        self._play_references()
        self._play_edits()
        self._play_pods(pods, thread)
        bench.apply(external("b", 1), policy("b", "b"))
        bench.await_condition("modelbackend", "b", "Programmed", status="True")
        self._take("ready-backend", "modelbackend", "b")
        self._store.kill()
        bench.apply(policy("first", "a", rule="renamed"))
        self._await("first", "Programmed", reason="StoreUnavailable")
        self._take("store-unavailable", "routingpolicy", "first")
        operator.process.kill()
        bench.apply(policy("ready", "a", rule="unseen"))
        self._take("stale", "routingpolicy", "ready")

    def _play_references(self) -> None:
        bench = self._bench
        keyed = external("keyed", 1, credentials={"apiKey": {"secretName": "keyed"}})
        bench.apply(policy("dangling", "nobody"), external("spare", 1))
        bench.apply(keyed, policy("keyed", "keyed"))
        self._await("dangling", "Programmed", status="True")
        self._take("dangling", "routingpolicy", "dangling")
        bench.await_condition("modelbackend", "spare", "Ready", status="True")
        self._take("not-referenced", "modelbackend", "spare")
        bench.await_condition("modelbackend", "keyed", "Programmed", status="True")
        self._take("secret-missing", "modelbackend", "keyed")

    def _play_edits(self) -> None:
        bench = self._bench
        shadowed = policy("warned", "a")
        rule = shadowed["spec"]["rules"][0]
        for name in ("tagged", "tagged-too"):
            shadowed["spec"]["rules"].insert(0, {**rule, "name": name, "match": {"tags": ["eu"]}})
        bench.apply(shadowed, policy("ready", "a"), policy("quarantined", "a"))
        claimed = policy("claimed", "a")
        claimed["spec"] |= {"models": ["ready"], "priority": -1}
        bench.apply(claimed)
        bench.apply(policy("invalid", "a", when="request.nope == 1"))
        self._await("quarantined", "Programmed", status="True")
        bench.apply(policy("quarantined", "a", when="request.nope == 1"))
        self._await("warned", "Programmed", status="True")
        self._take("warned", "routingpolicy", "warned")
        self._await("ready", "Ready", status="True")
        self._take("ready", "routingpolicy", "ready")
        self._await("claimed", "Programmed", status="True")
        self._take("claimed", "routingpolicy", "claimed")
        self._await("invalid", "Stalled", status="True")
        self._take("invalid", "routingpolicy", "invalid")
        self._await("quarantined", "Degraded", status="True")
        self._take("quarantined", "routingpolicy", "quarantined")

    def _play_pods(self, pods: SimulatedPods, thread: Thread) -> None:
        bench = self._bench
        bench.apply(policy("refused", "a"))
        self._await("refused", "Programmed", status="True")
        refused = {bench.key("policy", "refused"): "unknown format 9"}
        thread.run(pods.refuse("pod-2", refused))
        self._await("refused", "Programmed", reason="RefusedByPod", message="1/2 pods")
        self._take("refused", "routingpolicy", "refused")
        thread.run(pods.refuse("pod-2", {}))
        pods.stuck.add("pod-2")
        bench.apply(policy("waiting", "a"))
        self._await("waiting", "Programmed", reason="WaitingForPods", message="1/2 pods")
        self._take("waiting", "routingpolicy", "waiting")
        pods.stuck.clear()
        self._await("waiting", "Programmed", status="True")

    def _await(self, name: str, of: str, *, message: str = "", **wanted: str) -> None:
        """Wait for a condition; its message begins so: one pod may be later than another."""
        eventually(
            lambda: self._bench.await_condition("routingpolicy", name, of, **wanted)[
                "message"
            ].startswith(message),
            what=f"{name}: {of} {message}",
        )

    def _take(self, case: str, kind: str, name: str) -> None:
        self.found[case] = normal(self._bench.get(kind, name), self._bench.namespace)


def normal(found: Mapping[str, Any], namespace: str) -> str:
    """Return an object as YAML, without what differs from run to run."""
    kept = {
        "apiVersion": found["apiVersion"],
        "kind": found["kind"],
        "metadata": {
            "name": found["metadata"]["name"],
            "namespace": namespace,
            "generation": found["metadata"]["generation"],
        },
        "status": found["status"],
    }
    text = json.dumps(kept).replace(namespace, "ai")
    for pattern, stands_for in OF_THE_RUN:
        text = re.sub(pattern, stands_for, text)
    return yaml.safe_dump(json.loads(text), sort_keys=False, width=100)


@pytest.fixture(scope="module")
def played(api: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("statuses")
    with ExitStack() as ending:
        store = ending.enter_context(RedisServer(folder / "redis"))
        bench = OperatorBench(folder, api, store)
        ending.callback(bench.close)
        stage = Stage(bench, store)
        stage.play(*ending.enter_context(simulated_pods(store.url)))
        yield stage.found


@pytest.mark.parametrize("case", CASES)
def test_the_status_is_as_it_was_recorded(
    played: dict[str, str], case: str, golden: Golden
) -> None:
    golden(FOLDER / f"{case}.yaml", played[case])


def test_every_case_is_played(played: dict[str, str]) -> None:
    assert tuple(sorted(played)) == CASES
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == [*CASES]
