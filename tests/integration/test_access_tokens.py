"""Tokens of real ServiceAccounts: asked for at the API server, reviewed by the operator over Redis.

The operator has exactly the rights of the chart, so its right to review is tried, too.
"""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import httpx2
import pytest

from cluster.control_plane import ControlPlane
from cluster.line import PATIENT, Running, eventually, look, patience_s
from cluster.redis_server import RedisServer
from fakes.manifests import external, policy
from integration.operator_bench import OperatorBench

AUDIENCE = "switchboard"
WAIT_MAX_S = 3.0
FORGOTTEN_MAX_S = 60.0
LEADER_MAX_S = 15.0
"""What is promised of a machine of one's own; this one may take several times as long."""

pytestmark = pytest.mark.timeout(600)


class Callers:
    """ServiceAccounts that call, and who lets them in."""

    def __init__(self, bench: OperatorBench) -> None:
        self.bench = bench
        self._made = 0

    def make(self, name: str = "") -> str:
        """Make a ServiceAccount; return its name."""
        self._made += 1
        name = name or f"caller-{self._made}"
        self.bench.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        return name

    def token(self, name: str, *, audience: str = AUDIENCE) -> str:
        """Ask for a token, as a pod's projected volume does."""
        asked = ("create", "token", name, "-n", self.bench.namespace, "--audience", audience)
        return self.bench.plane.kubectl(*asked).strip()

    def told(self, plane: Running, token: str) -> tuple[int, str]:
        """Call until somebody has said who it is: on a machine that stands still nobody may."""
        away = (503, "access_unavailable")
        return eventually(
            lambda: said if (said := self.call(plane, token)) != away else None, what="an answer"
        )

    def call(self, plane: Running, token: str) -> tuple[int, str]:
        """Return the status, and the code of the refusal or who it was."""
        answer = plane.chat("chat", authorization=f"Bearer {token}")
        if answer.status_code != httpx2.codes.OK:
            return answer.status_code, answer.json()["error"]["code"]
        decision = answer.headers["x-switchboard-decision"]
        return answer.status_code, client_of(plane, decision)

    def seconds(self, plane: Running, token: str) -> tuple[int, float]:
        """Return the status, and how long it took."""
        began = time.monotonic()
        return self.call(plane, token)[0], time.monotonic() - began


def client_of(plane: Running, decision: str) -> str:
    """Return whom a pod remembers a decision to be for."""
    url = f"{plane.admin}/decisions"

    def there() -> dict[str, Any] | None:
        lines = look(url).text.splitlines()
        return next((one for one in map(json.loads, lines) if one["id"] == decision), None)

    return str(eventually(there, what="the decision").get("client", ""))


@pytest.fixture(scope="module")
def callers(
    api: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Callers, RedisServer]]:
    folder = tmp_path_factory.mktemp("tokens")
    with RedisServer(folder / "redis") as redis:
        bench = OperatorBench(folder, api, redis)
        bench.gateway["access"] = {
            "audience": AUDIENCE,
            "serviceAccounts": [
                {"namespace": bench.namespace, "name": "picky", "models": ["other"]},
                {"namespace": bench.namespace, "tier": "gold", "team": "shop"},
            ],
        }
        # A route for the facts that the rule gives.
        gold = policy("chat", "a", when="client.tier == 'gold'")
        gold["spec"]["learning"] = {}
        try:
            bench.apply(external("a", bench.start_fake("a"), timeouts=PATIENT), gold)
            yield Callers(bench), redis
        finally:
            bench.close()


@pytest.fixture
def operator(callers: tuple[Callers, RedisServer]) -> Iterator[Running]:
    running = callers[0].bench.start()
    yield running
    running.process.stop()


@pytest.fixture
def ours(callers: tuple[Callers, RedisServer]) -> Callers:
    return callers[0]


@pytest.fixture(scope="module")
def pods(callers: tuple[Callers, RedisServer]) -> list[Running]:
    """Two pods of one gateway; an operator has made the scope's key before."""
    bench = callers[0].bench
    first = bench.start()
    planes = [bench.start_data_plane(name, "--access", "tokens") for name in ("pod-1", "pod-2")]
    first.process.stop()
    return planes


def test_a_service_account_is_known_by_its_token(
    ours: Callers, pods: list[Running], operator: Running
) -> None:
    name = ours.make()
    token = ours.token(name)
    for pod in pods:
        assert ours.told(pod, token) == (200, f"{ours.bench.namespace}/{name}")
        answer = pod.chat("chat", authorization=f"Bearer {token}")
        assert answer.headers["x-switchboard-rule"] == "conditional"


def test_no_other_token_is_let_in(ours: Callers, pods: list[Running], operator: Running) -> None:
    name = ours.make()
    token = ours.token(name)
    elsewhere = ours.token(name, audience="https://kubernetes.default.svc")
    head, _, signature = token.rpartition(".")
    forged = f"{head}.{signature[::-1]}"
    for wrong in (elsewhere, forged, f"{head}.", "a.b.c", "e30.e30.e30"):
        assert ours.told(pods[0], wrong) == (401, "invalid_api_key")
    assert pods[0].chat("chat").json()["error"]["code"] == "missing_api_key"
    picky = ours.token(ours.make("picky"))
    assert ours.told(pods[0], picky) == (403, "model_not_allowed")
    plane = ours.bench.plane
    stranger = plane.create_namespace("stranger")
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    plane.apply({**account, "metadata": {"name": "one", "namespace": stranger}})
    asked = ("create", "token", "one", "-n", stranger, "--audience", AUDIENCE)
    assert ours.told(pods[0], plane.kubectl(*asked).strip()) == (403, "client_not_admitted")


def test_nothing_of_a_token_is_in_redis_or_in_a_log(
    ours: Callers, pods: list[Running], operator: Running
) -> None:
    token = ours.token(ours.make())
    assert ours.told(pods[0], token)[0] == 200
    stored = ours.bench.everything_stored()
    logs = [each.process.log_text() for each in (*pods, operator)]
    for part in token.split("."):
        assert part not in stored
        assert all(part not in text for text in logs)


def test_while_no_operator_runs_strangers_are_refused_in_seconds_and_the_known_go_on(
    ours: Callers, pods: list[Running], operator: Running
) -> None:
    known, new = ours.token(ours.make()), ours.token(ours.make())
    assert ours.told(pods[0], known)[0] == 200
    operator.process.kill()
    status, took_s = ours.seconds(pods[0], new)
    assert status == 503
    assert took_s < patience_s(WAIT_MAX_S)
    assert ours.call(pods[0], known)[0] == 200
    answer = pods[0].chat("chat", authorization=f"Bearer {new}")
    assert answer.json()["error"]["code"] == "access_unavailable"
    assert answer.headers["retry-after"]
    again = ours.bench.start()
    try:
        eventually(lambda: ours.call(pods[0], new)[0] == 200, what="an answer")
    finally:
        again.process.stop()


def test_the_next_leader_answers_where_the_last_one_died(
    ours: Callers, pods: list[Running], operator: Running
) -> None:
    standby = ours.bench.start(wait=False)
    try:
        eventually(lambda: "switchboard_operator_synced 1" in metrics(standby), what="a standby")
        new = ours.token(ours.make())
        operator.process.kill()
        began = time.monotonic()
        answered = partial(ours.call, pods[0], new)
        eventually(
            lambda: answered()[0] == 200,
            what="the next leader's answer",
            timeout_s=patience_s(LEADER_MAX_S),
        )
        assert time.monotonic() - began < patience_s(LEADER_MAX_S)
        assert 'token_reviews_total{outcome="admitted"}' in metrics(standby)
    finally:
        standby.process.stop()


def metrics(running: Running) -> str:
    with suppress(httpx2.HTTPError):
        return look(f"{running.admin}/metrics").text
    return ""


def test_a_store_that_hangs_stops_strangers_alone(
    ours: Callers,
    pods: list[Running],
    operator: Running,
    callers: tuple[Callers, RedisServer],
) -> None:
    redis = callers[1]
    known, new = ours.token(ours.make()), ours.token(ours.make())
    assert ours.told(pods[0], known)[0] == 200
    redis.pause()
    try:
        status, took_s = ours.seconds(pods[0], new)
        assert status == 503
        assert took_s < patience_s(WAIT_MAX_S)
        assert ours.call(pods[0], known)[0] == 200
    finally:
        redis.resume()
    eventually(lambda: ours.call(pods[0], new)[0] == 200, what="an answer")


def test_a_deleted_service_account_is_refused_within_a_minute(
    ours: Callers, pods: list[Running], operator: Running, record_property: Any
) -> None:
    name = ours.make()
    token = ours.token(name)
    assert ours.told(pods[0], token)[0] == 200
    ours.bench.delete("serviceaccount", name)
    began = time.monotonic()
    eventually(
        lambda: ours.call(pods[0], token) == (401, "invalid_api_key"),
        what="a refusal",
        timeout_s=patience_s(FORGOTTEN_MAX_S),
    )
    record_property("measured", f"a deleted ServiceAccount: {time.monotonic() - began:.0f} s")


def test_a_token_made_before_is_asked_about_by_a_pod_that_is_new(
    ours: Callers, pods: list[Running], operator: Running
) -> None:
    token = ours.token(ours.make())
    assert ours.told(pods[0], token)[0] == 200
    new = ours.bench.start_data_plane("pod-3", "--access", "tokens")
    assert ours.told(new, token)[0] == 200
    new.process.stop()
