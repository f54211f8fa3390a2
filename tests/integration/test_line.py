"""The whole line on real parts: apply → operator → Redis → data plane → model."""

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from cluster.control_plane import ControlPlane
from cluster.line import Line, Running, eventually
from cluster.redis_server import RedisServer
from fakes.manifests import (
    endpoint_slice,
    external,
    guardrail_policy,
    policy,
    reference,
    secret,
    served,
    service,
)
from switchboard_policy.store import CHANNELS

#: Twice the time in which a data plane writes at most one snapshot.
SETTLED_S = 2.0


class Served:
    """A line with two data planes and the fake models a and b, shared by this module's tests."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.ports = {name: line.start_fake(name) for name in ("a", "b")}
        self.operator = line.start_operator()
        self.planes = [line.start_data_plane("pod-1"), line.start_data_plane("pod-2")]

    def backend(self, name: str, fake: str, **fields: Any) -> Mapping[str, Any]:
        return external(name, self.ports[fake], **fields)

    def await_answerer(self, model: str, wanted: str, **headers: str) -> None:
        """Wait until every data plane has the model answered by that fake model (or status)."""
        for plane in self.planes:
            eventually(
                _answered(plane, model, wanted, headers),
                what=f"{model} answered by {wanted} at {plane.url}",
            )


def _answered(
    plane: Running, model: str, wanted: str, headers: Mapping[str, str]
) -> Callable[[], bool]:
    return lambda: plane.answerer(model, **headers) == wanted


@pytest.fixture(scope="module")
def line(api: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("line")
    redis = RedisServer(folder / "redis")
    redis.start()
    running = Line(folder, api, redis, forked=False)
    try:
        yield running
    finally:
        running.close()
        redis.stop()


@pytest.fixture(scope="module")
def served_line(line: Line) -> Served:
    return Served(line)


def test_apply_serves_an_edit_moves_and_a_delete_ends(served_line: Served) -> None:
    line = served_line.line
    line.apply(
        served_line.backend("first", "a"),
        served_line.backend("second", "b"),
        policy("moves", "first"),
    )
    served_line.await_answerer("moves", "a")
    line.await_condition("rp", "moves", "Programmed", status="True")
    assert "2/2" in line.condition("rp", "moves", "Programmed")["message"]
    line.apply(policy("moves", "second"))
    served_line.await_answerer("moves", "b")
    line.apply(served_line.backend("second", "a"))
    served_line.await_answerer("moves", "a")
    line.delete("rp", "moves")
    served_line.await_answerer("moves", "404")


def test_the_answer_says_how_it_was_routed(served_line: Served) -> None:
    line = served_line.line
    line.apply(served_line.backend("first", "a"), policy("says", "first"))
    served_line.await_answerer("says", "a")
    answer = served_line.planes[0].chat("says")
    assert answer.headers["x-switchboard-backend"] == f"{line.namespace}/first"
    assert answer.headers["x-switchboard-rule"] == "default"
    assert answer.headers["x-switchboard-tier"] == "only"
    assert answer.headers["x-switchboard-attempts"] == "1"


def test_a_bad_object_stays_alone_and_its_last_good_spec_serves(served_line: Served) -> None:
    line = served_line.line
    line.apply(
        served_line.backend("first", "a"),
        served_line.backend("second", "b"),
        policy("good", "first"),
        policy("edited", "first"),
        policy("never-good", "first", when="request.nope == 1"),
    )
    served_line.await_answerer("good", "a")
    served_line.await_answerer("edited", "a")
    told = line.await_condition("rp", "never-good", "Accepted", status="False")
    assert "spec.rules[0].when" in told["message"]
    assert "request.nope" in told["message"]
    line.apply(policy("edited", "second", when="request.tokens > 'x'"))
    line.await_condition("rp", "edited", "Accepted", status="False")
    line.apply(policy("good", "second"))
    served_line.await_answerer("good", "b")
    assert served_line.planes[0].answerer("edited") == "a"
    assert served_line.planes[0].answerer("never-good") == "404"


def test_a_change_of_an_endpoint_slice_moves_the_traffic(
    served_line: Served, addresses: tuple[str, ...]
) -> None:
    if not addresses:
        pytest.skip("endpoints need a network namespace of the tests' own: run as root")
    line = served_line.line
    two, three = addresses
    port = line.start_fake("two", host=two)
    line.start_fake("three", host=three, port=port)
    line.apply(
        service("engine", port),
        endpoint_slice("engine-1", "engine", port, two),
        served("in-cluster", "engine"),
        policy("sliced", "in-cluster"),
    )
    served_line.await_answerer("sliced", "two")
    line.apply(endpoint_slice("engine-1", "engine", port, three))
    served_line.await_answerer("sliced", "three")
    line.apply(endpoint_slice("engine-1", "engine", port))
    served_line.await_answerer("sliced", "503")


def test_a_rotated_secret_is_used_and_never_told(served_line: Served) -> None:
    line = served_line.line
    locked = line.start_fake("locked", "--api-key", "sk-first")
    line.apply(
        secret("locked", "sk-first"),
        external("locked", locked, credentials={"apiKey": {"secretName": "locked"}}),
        policy("keyed", "locked"),
    )
    served_line.await_answerer("keyed", "locked")
    httpx2.patch(f"http://127.0.0.1:{locked}/control", json={"api_key": "sk-second"})
    served_line.await_answerer("keyed", "502")
    line.apply(secret("locked", "sk-second"))
    served_line.await_answerer("keyed", "locked")
    for text in (
        served_line.operator.log_text(),
        *(plane.process.log_text() for plane in served_line.planes),
        *(httpx2.get(f"{plane.admin}/policy").text for plane in served_line.planes),
        line.plane.kubectl("get", "mb,rp", "-n", line.namespace, "-o", "yaml"),
    ):
        assert "sk-second" not in text
        assert base64.b64encode(b"sk-second").decode() not in text


def test_another_namespace_s_backend_needs_its_consent(served_line: Served) -> None:
    line = served_line.line
    other = line.plane.create_namespace("owner", labels=line.label)
    foreign = served_line.backend("foreign", "a")
    foreign = {**foreign, "metadata": {"name": "foreign", "namespace": other}}
    line.apply(foreign, policy("borrows", reference("foreign", other)))
    told = line.await_condition("rp", "borrows", "ResolvedRefs", status="False")
    assert told["reason"] == "RefNotPermitted"
    served_line.await_answerer("borrows", "503")
    spec = {**foreign["spec"], "allowedNamespaces": {"from": "All"}}
    line.apply({**foreign, "spec": spec})
    served_line.await_answerer("borrows", "a")
    line.await_condition("rp", "borrows", "ResolvedRefs", status="True")
    line.apply(foreign)
    served_line.await_answerer("borrows", "503")


def test_a_platform_guardrail_binds_every_policy(served_line: Served) -> None:
    line = served_line.line
    line.apply(served_line.backend("first", "a"), policy("bound", "first"))
    served_line.await_answerer("bound", "a")
    line.apply(guardrail_policy("rails", require='backend.jurisdiction == "eu"'))
    served_line.await_answerer("bound", "503")
    assert "guardrail" in served_line.planes[0].chat("bound").text
    line.delete("rp", "rails")
    served_line.await_answerer("bound", "a")


def test_a_stopped_data_plane_shows_in_the_status(served_line: Served) -> None:
    line = served_line.line
    line.apply(served_line.backend("first", "a"), policy("counted", "first"))
    line.await_condition("rp", "counted", "Programmed", status="True")
    stopped = served_line.planes[1]
    stopped.process.pause()
    try:
        line.apply(policy("counted", "first", rule="edited"))
        told = line.await_condition("rp", "counted", "Programmed", status="False")
        eventually(
            lambda: "1/2" in line.condition("rp", "counted", "Programmed")["message"],
            what="Programmed says 1/2",
        )
        assert told["reason"] == "WaitingForPods"
    finally:
        stopped.process.resume()
    told = line.await_condition("rp", "counted", "Programmed", status="True")
    assert "2/2" in told["message"]


def test_the_openai_sdk_works_unchanged(served_line: Served) -> None:
    line = served_line.line
    line.apply(served_line.backend("first", "a"), policy("sdk", "first"))
    served_line.await_answerer("sdk", "a")
    client = openai.OpenAI(base_url=f"{served_line.planes[0].url}/v1", api_key="unused")
    messages: Any = [{"role": "user", "content": "hi"}]
    whole = client.chat.completions.create(model="sdk", messages=messages)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 4
    streamed = client.chat.completions.create(model="sdk", messages=messages, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    assert text == whole.choices[0].message.content
    assert client.embeddings.create(model="sdk", input="hi").data[0].embedding
    assert "sdk" in [model.id for model in client.models.list()]


def test_traffic_goes_on_while_the_operator_is_away_and_a_new_one_goes_on(
    served_line: Served,
) -> None:
    line = served_line.line
    line.apply(
        served_line.backend("first", "a"), served_line.backend("second", "b"), policy("op", "first")
    )
    served_line.await_answerer("op", "a")
    served_line.operator.kill()
    line.apply(policy("op", "second"))
    late = line.start_data_plane("pod-late")
    assert late.answerer("op") == "a", "what was published last"
    late.process.stop()
    served_line.operator = line.start_operator()
    served_line.await_answerer("op", "b")
    line.await_condition("rp", "op", "Programmed", status="True")


@pytest.mark.parametrize("keep_data", [True, False], ids=["restarted", "flushed"])
def test_redis_may_restart_and_lose_everything(served_line: Served, *, keep_data: bool) -> None:
    line = served_line.line
    name = f"redis-{keep_data}".lower()
    line.apply(
        served_line.backend("first", "a"), served_line.backend("second", "b"), policy(name, "first")
    )
    served_line.await_answerer(name, "a")
    line.redis.kill()
    assert [plane.answerer(name) for plane in served_line.planes] == ["a", "a"]
    line.redis.restart(keep_data=keep_data)
    line.apply(policy(name, "second"))
    served_line.await_answerer(name, "b")
    line.await_condition("rp", name, "Programmed", status="True")


def test_a_data_plane_starts_from_its_disk_while_redis_is_away(served_line: Served) -> None:
    line = served_line.line
    line.apply(served_line.backend("first", "a"), policy("disk", "first"))
    before = line.start_data_plane("pod-disk")
    eventually(lambda: before.answerer("disk") == "a", what="served by the first process")
    eventually(lambda: _is_settled(line.folder / "state-pod-disk"), what="a snapshot on disk")
    before.process.kill()
    line.redis.kill()
    try:
        after = line.start_data_plane("pod-disk")
        assert after.answerer("disk") == "a"
        assert after.ready()["source"]["connected"] is False
        blank = line.start_data_plane("pod-blank", wait=False)
        blank.process.wait_for_http(f"{blank.admin}/livez")
        assert httpx2.get(f"{blank.admin}/readyz").status_code == 503
        assert blank.answerer("disk") == "503"
        _end(after, blank)
    finally:
        line.redis.restart(keep_data=False)
    served_line.await_answerer("disk", "a")


def _is_settled(folder: Path) -> bool:
    """Say whether there is a snapshot, and none that is still to be written (one a second)."""
    written = [file.stat().st_mtime for file in folder.glob("*.snapshot")]
    return len(written) == len(CHANNELS) and time.time() - max(written) > SETTLED_S


def _end(*planes: Running) -> None:
    for plane in planes:
        plane.process.stop()
