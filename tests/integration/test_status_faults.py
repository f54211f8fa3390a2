"""Each fault, on real parts: what a person sees of it, how soon, and that nothing else changes.

The table in docs/operations/faults.md is made here (``--update-golden`` writes it).
"""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from cluster.control_plane import ControlPlane
from cluster.line import NOBODY, Running, eventually, look
from cluster.redis_server import RedisServer
from fakes.manifests import external, policy, reference, secret
from integration.fault_stage import CALM_S, SUMMARY, Stage
from integration.operator_bench import OperatorBench
from switchboard_operator.lease import DURATION_S

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "faults.md"
BEGIN, END = "<!-- made by the tests: begin -->", "<!-- made by the tests: end -->"
HEAD = ("fault", "what a person sees", "where", "seen after", "at most")
FAULTS = (
    "a bad edit",
    "a dangling reference",
    "withdrawn consent",
    "a missing Secret",
    "a policy whose names others took",
    "a refused entry",
    "a silent pod",
    "an edit while a pod is silent",
    "a dead Redis",
    "an edit while Redis is dead",
    "Redis back, and empty",
    "a flushed Redis",
    "a dead operator",
    "an edit while the operator is dead",
    "a stale leader",
)
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def shared(api: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("faults")
    with ExitStack() as ending:
        store = ending.enter_context(RedisServer(folder / "redis"))
        bench = OperatorBench(folder, api, store)
        ending.callback(bench.close)
        stage = Stage(bench, store)
        with told_with_a_failure(stage):
            stage.start()
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    """The same stage for all: a fault that fails leaves it calm for the next."""
    yield shared
    with told_with_a_failure(shared):
        shared.restore()


@contextmanager
def told_with_a_failure(stage: Stage) -> Iterator[None]:
    """Say what the operators logged meanwhile: pytest shows it where a test failed."""
    try:
        yield
    finally:
        sys.stdout.write(stage.logged())


def test_a_bad_edit(stage: Stage) -> None:
    stage.make("edited")
    with stage.alone("edited"):
        stage.bench.apply(policy("edited", "a", when="request.nope == 1"))
        stage.time_to(
            "a bad edit",
            lambda: (
                stage.says("rp", "edited", "Accepted", status="False", message="request.nope")
                and stage.says("rp", "edited", "Programmed", reason="LastGoodInForce")
            ),
            sees="`Accepted=False` `InvalidExpression` with field, value and fix; "
            "`Degraded=True` `LastGoodInForce`",
            where="the object, an Event",
        )
        assert {pod.answerer("edited") for pod in stage.pods} == {"a"}
        for reason in ("Programmed", "InvalidExpression", "LastGoodInForce"):
            stage.await_event("edited", reason)
    # One Event a transition, and no more for the passes since. Pods that took longer than they are
    # given were waited for.
    told = stage.events("edited")
    del told["WaitingForPods"]
    assert told == {"Programmed": 1, "InvalidExpression": 1, "LastGoodInForce": 1}


def test_a_dangling_reference(stage: Stage) -> None:
    with stage.alone("dangling"):
        stage.bench.apply(policy("dangling", "nobody"))
        stage.time_to(
            "a dangling reference",
            lambda: stage.says("rp", "dangling", "ResolvedRefs", reason="BackendNotFound"),
            sees="`ResolvedRefs=False` `BackendNotFound` with the name",
            where="the object, an Event",
        )


def test_withdrawn_consent(stage: Stage) -> None:
    shared = external("shared", 1, allowedNamespaces={"from": "All"})
    shared["metadata"]["namespace"] = stage.elsewhere
    stage.bench.apply(shared, policy("borrows", reference("shared", stage.elsewhere)))
    stage.await_policy("borrows", "Ready", status="True")
    shared["spec"]["allowedNamespaces"] = {"from": "Same"}
    with stage.alone("borrows"):
        stage.bench.apply(shared)
        stage.time_to(
            "withdrawn consent",
            lambda: stage.says("rp", "borrows", "ResolvedRefs", reason="RefNotPermitted"),
            sees="`ResolvedRefs=False` `RefNotPermitted` with the backend",
            where="the policy that borrowed it, an Event",
        )


def test_a_missing_secret(stage: Stage) -> None:
    keyed = external("keyed", 1, credentials={"apiKey": {"secretName": "keyed"}})
    stage.bench.apply(secret("keyed", "sk"), keyed, policy("keyed", "keyed"))
    stage.bench.await_condition("modelbackend", "keyed", "Programmed", status="True")
    with stage.alone("keyed"):
        stage.bench.delete("secret", "keyed")
        stage.time_to(
            "a missing Secret",
            lambda: stage.says("mb", "keyed", "ResolvedRefs", reason="SecretNotFound"),
            sees="`ResolvedRefs=False` `SecretNotFound` with the command that mends it",
            where="the ModelBackend, an Event",
        )


def test_a_policy_whose_names_others_took(stage: Stage) -> None:
    stage.make("claimed")
    taker = policy("taker", "a")
    taker["spec"] |= {"models": ["claimed"], "priority": 1}
    with stage.alone("claimed", "taker"):
        stage.bench.apply(taker)
        stage.time_to(
            "a policy whose names others took",
            lambda: stage.says(
                "rp", "claimed", "Ready", status="False", reason="ModelNameClaimed", message="taker"
            ),
            sees="`Ready=False` `ModelNameClaimed` with the policy that took them; `Degraded=True`",
            where="the policy that lost them, an Event",
        )
        assert stage.says("rp", "claimed", "Degraded", status="True", reason="ModelNameClaimed")
        stage.await_event("claimed", "ModelNameClaimed")


def test_a_refused_entry(stage: Stage) -> None:
    routed = policy("routed", "a")
    route = routed["spec"]["rules"][0]["route"]
    route["tiers"] = [{"name": name, "backends": [{"name": "a"}]} for name in ("small", "large")]
    route["select"] = {"by": "Complexity", "thresholds": ["0.5"], "router": stage.router}
    with stage.alone("routed"):
        stage.bench.apply(routed)
        stage.time_to(
            "a refused entry",
            lambda: stage.says(
                "rp", "routed", "Programmed", reason="RefusedByPod", message="refused by pod-2: its"
            ),
            sees="`Programmed=False` `RefusedByPod`, `1/2 pods`, with the pod and its reason; "
            "`Stalled=True`",
            where="the object, an Event; the summary",
        )
        # The pod that refuses may speak before the one that takes it over.
        stage.await_policy("routed", "Programmed", reason="RefusedByPod", message="1/2 pods")
        assert stage.bench.get("rp", "routed")["status"]["pods"] == "1/2"
        eventually(
            lambda: stage.summary()["refusals"].startswith("pod-2: policy/"),
            what="the summary",
        )


def test_a_silent_pod(stage: Stage) -> None:
    stage.make("edited")
    silent = stage.pods[1]
    stage.callers.planes.remove(silent)
    with stage.alone("edited"):
        silent.process.pause()
        stage.time_to(
            "a silent pod",
            lambda: stage.summary()["silent"] == "pod-2",
            sees="`live: 1/2`, `silent: pod-2`; Event `PodSilent`",
            where="the summary",
            at_most_s=30,
        )
        stage.bench.apply(policy("edited", "a", rule="renamed"))
        stage.time_to(
            "an edit while a pod is silent",
            lambda: stage.says(
                "rp", "edited", "Programmed", reason="WaitingForPods", message="silent for"
            ),
            sees="`Programmed=False` `WaitingForPods`, `1/2 pods`, with the pod that is silent",
            where="the object, an Event",
        )
        assert stage.pods[0].answerer("edited") == "a"
    stage.await_event(SUMMARY, "PodSilent")
    silent.process.resume()
    stage.await_policy("edited", "Programmed", status="True", message="2/2 pods")
    stage.await_event(SUMMARY, "PodSpeaksAgain")


def test_a_dead_redis(stage: Stage) -> None:
    stage.make("edited")
    with stage.alone("edited"):
        stage.store.kill()
        killed = time.monotonic()
        stage.bench.apply(policy("edited", "a", rule="once-more"))
        stage.time_to(
            "an edit while Redis is dead",
            lambda: stage.says("rp", "edited", "Programmed", reason="StoreUnavailable"),
            sees="`Programmed=False` `StoreUnavailable` with the cause",
            where="the object, an Event",
        )
        stage.time_to(
            "a dead Redis",
            lambda: stage.summary()["store"],
            sees="`store:` the cause; Event `StoreUnavailable`",
            where="the summary",
            at_most_s=15,
            since=killed,
        )
        stage.await_event(SUMMARY, "StoreUnavailable")
    # It comes back empty: what it held is written again, and the edit with it.
    with stage.alone("edited"):
        stage.store.start()
        stage.time_to(
            "Redis back, and empty",
            lambda: stage.says("rp", "edited", "Programmed", status="True", message="2/2 pods"),
            sees="`Programmed=True` `2/2 pods`",
            where="the object that waited; the summary",
            at_most_s=10,
        )


def test_a_flushed_redis(stage: Stage) -> None:
    held = stage.bench.digests()
    with stage.alone():
        stage.bench.flush()
        stage.time_to(
            "a flushed Redis",
            lambda: stage.bench.digests() == held,
            sees="nothing: what is in force stays so; all is written again",
            where="the operator's log",
            at_most_s=15,
        )
        assert set(held.values()) <= stage.bench.stored_entries()
    stage.operators[-1].process.wait_for_log("the store lost part of policy of gw/default")


def hasty_leader(stage: Stage) -> Running:
    """Have a leader by the product's own terms: those are what the table is of."""
    assert stage.operators[-1].process.stop() == 0
    return stage.start_operator("operator-0", lease={})


def lease_age_s(bench: OperatorBench) -> float:
    renewed = datetime.fromisoformat(bench.held_lease()["spec"]["renewTime"])
    return (datetime.now(UTC) - renewed).total_seconds()


def test_a_dead_operator(stage: Stage) -> None:
    bench, operator = stage.bench, hasty_leader(stage)
    stage.make("edited")
    with stage.alone("edited", "new"):
        operator.process.kill()
        bench.apply(policy("edited", "a", rule="unseen"), policy("new", "a"))
        stage.time_to(
            "an edit while the operator is dead",
            lambda: is_stale(bench, "edited"),
            sees="`GENERATION` ahead of `OBSERVED`; a new object: `Accepted=Unknown` `Pending`",
            where="`kubectl get -o wide`",
            at_most_s=1,
        )
        assert bench.condition("rp", "new", "Accepted")["reason"] == "Pending"
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{operator.admin}/metrics", verify=NOBODY)
        stage.time_to(
            "a dead operator",
            lambda: lease_age_s(bench) > DURATION_S,
            sees="`renewTime` older than the Lease lasts; no metrics; "
            "`written` of the summary older than two minutes, in time",
            where="the Lease, Prometheus, the summary",
            at_most_s=10,
        )
        written = stage.summary()["written"]
        assert (datetime.now(UTC) - datetime.fromisoformat(written)).total_seconds() >= CALM_S
        stage.start_operator("operator-0", lease={})
        stage.await_policy("edited", "Programmed", status="True", message="2/2 pods")
        stage.await_policy("new", "Programmed", status="True")


def is_stale(bench: OperatorBench, name: str) -> bool:
    found = bench.get("rp", name)
    seen: int = found["status"]["observedGeneration"]
    generation: int = found["metadata"]["generation"]
    return seen < generation


def test_a_stale_leader(stage: Stage) -> None:
    bench, leader = stage.bench, hasty_leader(stage)
    stage.make("edited")
    standby = stage.start_operator("operator-1")
    with stage.alone("edited"):
        leader.process.pause()
        paused = time.monotonic()
        bench.apply(policy("edited", "a", rule="by-the-next"))
        stage.time_to(
            "a stale leader",
            lambda: (
                bench.held_lease()["spec"]["holderIdentity"].startswith("operator-1")
                and stage.says("rp", "edited", "Programmed", status="True", message="2/2 pods")
            ),
            sees="another `holderIdentity`; edits go on: `Programmed=True`",
            where="the Lease; the object",
            at_most_s=15,
            since=paused,
        )
        before = stage.statuses()
        leader.process.resume()
        leader.process.wait_for_log("no longer the leader")
        time.sleep(CALM_S)
        # Awake, it writes nothing that it believed.
        assert stage.statuses() == before
    assert standby.process.running
    metrics = look(f"{leader.admin}/metrics").text
    assert "switchboard_operator_objects{" not in metrics


def test_the_page_has_the_table(shared: Stage, request: pytest.FixtureRequest) -> None:
    """As far as it was played; a time on the page stays until the table is written anew."""
    start, rest = PAGE.read_text().split(BEGIN)
    table, end = rest.split(END)
    held = dict(read_rows(table))
    if request.config.getoption("--update-golden"):
        late = [row for row in shared.rows.values() if row.seen_s > row.at_most_s]
        assert not late, "the machine had no time: play it again"
        held |= {row.fault: row.cells() for row in shared.rows.values()}
        lines = [HEAD, ("---",) * len(HEAD), *(held[fault] for fault in FAULTS)]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        PAGE.write_text(f"{start}{BEGIN}\n{table}\n{END}{end}")
        return
    assert tuple(held) == FAULTS
    for row in shared.rows.values():
        cells, said = row.cells(), held[row.fault]
        assert (*said[:3], said[4]) == (*cells[:3], cells[4])
        assert float(said[3].removesuffix(" s")) <= row.at_most_s


def read_rows(table: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the rows of a table, below its head, by their first cells."""
    for line in table.strip().splitlines()[2:]:
        cells = tuple(cell.strip() for cell in line.strip("|").split(" | "))
        yield cells[0], cells
