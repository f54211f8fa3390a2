"""Bad input, by reason: it is refused with field, value and fix, and other traffic is untouched.

The corpus is the table of invalid objects, the requests that a data plane refuses, and the objects
that the API server takes but the operator does not. The table has its own test against the API
server (``test_validation_table``). Here the rest goes through a real line, while a client makes
good requests all the time.
"""

import http.client
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from cluster.control_plane import ControlPlane
from cluster.line import Line, Running, eventually
from cluster.processes import ChildProcess
from cluster.redis_server import RedisServer
from fakes.bad_requests import bad_requests
from fakes.manifests import external, guardrail_policy, policy, reference, secret, served, service
from fakes.validation_table import INVALID, findings_of, read_row, reason_of
from fakes.wire_requests import CHAT, MODEL, WHOLE, BadRequest, chunked, wire
from switchboard_cli.manifests import load_manifests
from switchboard_cli.validate import validate

Manifest = Mapping[str, Any]

INPUTS_MIN = 300
REASONS_MIN = 60
INPUTS_A_REASON_MAX = 8

REQUESTS = list(bad_requests())
#: The API server takes them; the one that kubectl itself mends does not reach the operator.
ONLY_FOR_THE_OPERATOR = [
    path for path in INVALID if read_row(path).server_accepts and path.stem != "policy-key-twice"
]


@dataclass(frozen=True, slots=True)
class Refused:
    """Objects that are valid by themselves, and what a condition of the last one says."""

    reason: str
    condition: str
    objects: Callable[[str], list[Manifest]]
    told: tuple[str, ...]
    """Pieces of the message: the field or the object it names, the value, the fix."""

    @property
    def status(self) -> str:
        return "True" if self.condition == "Degraded" else "False"


def keyed(name: str, key: str = "api-key") -> Manifest:
    return external(name, 9, credentials={"apiKey": {"secretName": name, "key": key}})


REFUSED = [
    Refused(
        "BackendNotFound", "ResolvedRefs",
        lambda _: [policy("no-backend", "nowhere")],
        ("ModelBackend", "/nowhere does not exist", "create it, or correct the reference"),
    ),
    Refused(
        "BackendInvalid", "ResolvedRefs",
        lambda _: [
            external("bad-labels", 9, allowedNamespaces={
                "from": "Selector", "selector": {"matchLabels": {"a b": "c"}},
            }),
            policy("bad-backend", "bad-labels"),
        ],
        ("ModelBackend", "/bad-labels is invalid", "its Accepted condition says why"),
    ),
    Refused(
        "RefNotPermitted", "ResolvedRefs",
        lambda other: [
            {**external("foreign", 9), "metadata": {"name": "foreign", "namespace": other}},
            policy("borrows", reference("foreign", other)),
        ],
        ("allowedNamespaces.from is Same", "/foreign does not admit", "its owner can set All"),
    ),
    Refused(
        "ServiceNotFound", "ResolvedRefs",
        lambda _: [served("no-service", "nowhere")],
        ("spec.service.name", "/nowhere does not exist", "create it, or correct"),
    ),
    Refused(
        "PortNotFound", "ResolvedRefs",
        lambda _: [
            {**service("engine", 8000), "spec": {"ports": [{"name": "grpc", "port": 8000}]}},
            served("no-port", "engine"),
        ],
        ("spec.service.port", "has no port http; it has grpc (8000)", "correct"),
    ),
    Refused(
        "SecretNotFound", "ResolvedRefs",
        lambda _: [keyed("no-secret")],
        ("Secret", "/no-secret does not exist", "create it, and run `kubectl label secret"),
    ),
    Refused(
        "SecretKeyMissing", "ResolvedRefs",
        lambda _: [secret("no-key", "sk"), keyed("no-key", "token")],
        ("spec.credentials.apiKey.key", 'has no key "token"; it has api-key', "add it, or correct"),
    ),
    Refused(
        "SecretInvalid", "ResolvedRefs",
        lambda _: [secret("bad-bytes", "a\nb"), keyed("bad-bytes")],
        ('Key "api-key" of Secret', "holds bytes that no header can carry", "as printable ASCII"),
    ),
    Refused(
        "ModelNameClaimed", "Degraded",
        lambda _: [{**policy(MODEL, "good"), "metadata": {"name": "zz-late"}}],
        ("spec.priority", f'"{MODEL}"', "or raise"),
    ),
    Refused(
        "NotPlatformNamespace", "Accepted",
        lambda other: [
            {**guardrail_policy("rails", require="backend.external"),
             "metadata": {"name": "rails", "namespace": other}},
        ],
        ("models and rules", "whose platform namespace is", "move it there"),
    ),
]  # fmt: skip


def test_the_corpus_is_large_and_has_many_reasons() -> None:
    """What is beyond eight inputs of a reason does not count."""
    objects = (
        reason_of(found)
        for path in INVALID
        for found in findings_of(path)
        if read_row(path).is_told_by(found)
    )
    requests = (f"{one.reason.code}: {one.reason.name}" for one in REQUESTS)
    found = Counter(chain(objects, requests, (one.reason for one in REFUSED)))
    counted = {reason: min(many, INPUTS_A_REASON_MAX) for reason, many in found.items()}
    assert len(counted) >= REASONS_MIN
    assert sum(counted.values()) >= INPUTS_MIN
    assert max(Counter(one.reason for one in REQUESTS).values()) <= INPUTS_A_REASON_MAX


@dataclass
class Traffic:
    """A client that makes good requests, whole answers and streams in turn, until it is stopped."""

    url: str
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    _told: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._told.set()
        self._thread.join()

    def check(self) -> None:
        """Assert that nothing failed, and that it still goes on."""
        before = self.answers
        eventually(lambda: self.answers > before or self.failures, what="good traffic goes on")
        assert not self.failures

    def _run(self) -> None:
        with httpx2.Client(base_url=self.url, timeout=100) as client:
            while not self._told.is_set():
                try:
                    self._ask(client)
                except httpx2.HTTPError as error:
                    self.failures.append(repr(error))

    def _ask(self, client: httpx2.Client) -> None:
        stream = self.answers % 2 == 1
        body = {**json.loads(WHOLE), "stream": stream}
        answer = client.post(CHAT, json=body)
        ending = "data: [DONE]\n\n" if stream else "}"
        if answer.status_code != httpx2.codes.OK or not answer.text.endswith(ending):
            self.failures.append(f"{answer.status_code} {answer.text[:200]}")
        self.answers += 1


@dataclass
class Served:
    """A line whose one policy serves ``good``, its processes, and a second namespace."""

    line: Line
    plane: Running
    operator: ChildProcess
    traffic: Traffic
    other: str

    @property
    def port(self) -> int:
        return int(self.plane.url.rpartition(":")[2])


@pytest.fixture(scope="module")
def served_line(api: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("bad-input")
    with RedisServer(folder / "redis") as redis:
        line = Line(folder, api, redis)
        try:
            port = line.start_fake("good")
            operator = line.start_operator()
            plane = line.start_data_plane("pod-1", wait=False)
            other = api.create_namespace("other", labels=line.label)
            # The name of the policy is the first in the order of names: nobody takes its model.
            good = {**policy(MODEL, "good"), "metadata": {"name": "aa-good"}}
            line.apply(external("good", port), good)
            eventually(lambda: _serves(plane), what="the good policy is served")
            # All at once: the operator takes them in together.
            line.apply(*(yaml.safe_load(path.read_text()) for path in ONLY_FOR_THE_OPERATOR))
            traffic = Traffic(plane.url)
            try:
                yield Served(line, plane, operator, traffic, other)
            finally:
                traffic.stop()
        finally:
            line.close()


def _serves(plane: Running) -> bool:
    with suppress(httpx2.ConnectError):
        return plane.answerer(MODEL) == "good"
    return False


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


def send(port: int, raw: bytes) -> Reply:
    """Send bytes, whole or until they are refused, and read one answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        # The data plane need not read to its end what it refuses.
        with suppress(ConnectionError):
            connection.sendall(raw)
        response = http.client.HTTPResponse(connection)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, headers, response.read())


@pytest.mark.parametrize("bad", REQUESTS, ids=lambda bad: bad.name)
def test_a_bad_request_is_told_by_field_value_and_fix(served_line: Served, bad: BadRequest) -> None:
    reply = send(served_line.port, bad.raw)
    assert reply.status == bad.reason.status
    assert reply.headers["content-type"] == "application/json"
    body = json.loads(reply.body)
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert (error["param"], error["code"]) == (bad.param, bad.reason.code)
    assert bad.value in error["message"]
    assert bad.reason.fix in error["message"]
    assert len(error["message"]) < 600
    assert served_line.plane.process.running
    assert not served_line.traffic.failures


def test_bad_requests_at_once_do_not_disturb_each_other(served_line: Served) -> None:
    several = REQUESTS[::4]
    statuses: dict[str, int] = {}

    def ask(part: list[BadRequest]) -> None:
        for bad in part:
            statuses[bad.name] = send(served_line.port, bad.raw).status

    threads = [threading.Thread(target=ask, args=(several[start::8],)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == {bad.name: bad.reason.status for bad in several}
    served_line.traffic.check()


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    "raw",
    [b"", b"POST ", wire(WHOLE)[:60], wire(WHOLE)[:-20], chunked(b"9\r\n{")],
    ids=["nothing", "half-a-line", "half-a-head", "half-a-body", "half-a-chunk"],
)
def test_a_caller_that_leaves_midway_leaves_nothing_behind(
    served_line: Served, raw: bytes, *, reset: bool
) -> None:
    with socket.create_connection(("127.0.0.1", served_line.port)) as connection:
        connection.sendall(raw)
        if reset:
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    served_line.traffic.check()


@pytest.mark.parametrize("path", ONLY_FOR_THE_OPERATOR, ids=lambda path: path.stem)
def test_what_only_the_operator_can_refuse_is_told_in_a_condition(
    served_line: Served, path: Path
) -> None:
    row, manifest = read_row(path), yaml.safe_load(path.read_text())
    kind, name = manifest["kind"].lower(), manifest["metadata"]["name"]
    told = served_line.line.await_condition(kind, name, "Accepted", status="False")
    assert row.field in told["message"]
    assert row.message in told["message"]
    assert row.value.strip('"…')[:40] in told["message"]
    assert row.fix in told["message"]
    assert not served_line.traffic.failures


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused.reason)
def test_what_does_not_fit_the_rest_is_told_in_a_condition(
    served_line: Served, refused: Refused
) -> None:
    line = served_line.line
    objects = refused.objects(served_line.other)
    line.apply(*objects)
    last = objects[-1]
    placed = {"namespace": line.namespace, **last["metadata"]}

    def condition() -> Mapping[str, Any] | None:
        seen = line.plane.get(last["kind"].lower(), placed["name"], namespace=placed["namespace"])
        for one in seen.get("status", {}).get("conditions", []):
            if one["type"] == refused.condition and one["reason"] == refused.reason:
                found: Mapping[str, Any] = one
                return found
        return None

    told = eventually(condition, what=refused.reason)
    assert told["status"] == refused.status
    for piece in refused.told:
        assert piece in told["message"]
    served_line.traffic.check()


def test_a_huge_object_is_refused_by_both(api: ControlPlane, tmp_path: Path) -> None:
    huge = external("huge", 9)
    huge["metadata"]["annotations"] = {"note": "x" * (256 * 1024)}
    path = tmp_path / "huge.yaml"
    path.write_text(yaml.safe_dump(huge))
    server = api.try_kubectl("create", "-f", str(path))
    assert server.returncode != 0
    assert "metadata.annotations: Too long" in server.stderr
    (found,) = validate(load_manifests([path])).findings
    assert (found.field, found.message) == ("metadata.annotations", "the annotations are too long")
    assert found.fix == "shorten them to 262144 bytes in all"


def test_a_good_edit_is_served_amid_the_bad_ones(served_line: Served) -> None:
    line = served_line.line
    line.apply(policy("later", "good"))
    eventually(lambda: served_line.plane.answerer("later") == "good", what="a new policy is served")
    line.await_condition("rp", "aa-good", "Ready", status="True")
    served_line.traffic.check()


def test_afterwards_all_is_as_it_was(served_line: Served) -> None:
    """The last of the module: the traffic ends here."""
    traffic, plane = served_line.traffic, served_line.plane
    traffic.check()
    traffic.stop()
    assert not traffic.failures
    assert traffic.answers >= INPUTS_MIN
    assert plane.process.running
    assert served_line.operator.running
    eventually(lambda: plane.ready()["live_requests"] == 0, what="no live requests")
    backends = httpx2.get(f"{plane.admin}/backends").json()["backends"]
    endpoints = [one for backend in backends.values() for one in backend["endpoints"]]
    assert endpoints
    assert {one["in_flight"] for one in endpoints} == {0}
    for process in (plane.process, served_line.operator):
        assert "Traceback" not in process.log_text()
    assert " ERROR " not in plane.process.log_text()
