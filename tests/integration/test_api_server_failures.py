"""The API server crashes, hangs, and comes back while the operator runs: it just goes on."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from cluster.control_plane import ControlPlane, Program
from cluster.line import PATIENT, Line, Running, eventually, look, patience_s
from cluster.processes import ChildProcess
from cluster.redis_server import RedisServer
from fakes.manifests import external, policy
from switchboard_dataplane.sources.disk import DiskSnapshot
from switchboard_policy.seal import read_keyring
from switchboard_policy.store import CHANNELS

CRDS = Path(__file__).parents[2] / "crds"
BYSTANDERS = 20
HANG_S = 20.0
"""Longer than the Lease lasts, and than any call of the operator's may take."""
CALM_S = 6.0
"""Longer than the operator's upkeep takes to come round."""
ENDED_MAX_S = 5.0
REQUESTS = 50
SAME_POD = ("--pod-name", "operator-0")
"""A container of the same Pod need not wait for the Lease of a killed one."""


@dataclass
class Struck:
    """A line whose control plane is its own: nobody else's tests are struck with it."""

    line: Line
    redis: RedisServer
    api_server: Program
    etcd: Program
    operator: ChildProcess
    data_plane: Running

    def await_answerer(self, wanted: str) -> None:
        eventually(
            lambda: self.data_plane.answerer("chat") == wanted,
            what=f"answered by {wanted}",
        )

    def statuses(self) -> Mapping[str, str]:
        """Return what shows whether anybody wrote to the bystanders."""
        listed = ("get", "modelbackends", "-n", self.line.namespace, "-o", "json")
        found = json.loads(self.line.plane.kubectl(*listed))["items"]
        return {
            each["metadata"]["name"]: each["metadata"]["resourceVersion"]
            for each in found
            if each["metadata"]["name"].startswith("bystander")
        }

    def calm(self) -> Mapping[str, str]:
        """Return the statuses once every bystander has its last word."""
        for number in range(BYSTANDERS):
            name = f"bystander-{number}"
            self.line.await_condition("mb", name, "Programmed", reason="NotReferenced")
        return self.statuses()


pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def struck(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Struck]:
    if control_plane.origin.kind != "binaries":
        pytest.skip("a given cluster is not ours to crash")
    folder = tmp_path_factory.mktemp("struck")
    with (
        ControlPlane.start(folder / "control-plane", control_plane.origin) as plane,
        RedisServer(folder / "redis") as redis,
    ):
        assert plane.api_server
        assert plane.etcd
        plane.install_kinds(CRDS)
        line = Line(folder, plane, redis)
        try:
            line.apply(
                external("first", line.start_fake("a"), timeouts=PATIENT),
                external("second", line.start_fake("b"), timeouts=PATIENT),
                *(external(f"bystander-{number}", 9) for number in range(BYSTANDERS)),
            )
            yield Struck(
                line,
                redis=redis,
                api_server=plane.api_server,
                etcd=plane.etcd,
                operator=line.start_operator(*SAME_POD),
                data_plane=line.start_data_plane("pod"),
            )
        finally:
            line.close()


@pytest.mark.parametrize("with_etcd", [False, True], ids=["alone", "with etcd"])
def test_edits_after_a_crash_of_the_api_server_are_served(
    struck: Struck, *, with_etcd: bool
) -> None:
    line = struck.line
    line.apply(policy("chat", "first"))
    struck.await_answerer("a")
    before = struck.calm()
    struck.api_server.kill()
    if with_etcd:
        struck.etcd.kill()
        struck.etcd.start()
    assert struck.data_plane.answerer("chat") == "a"
    struck.api_server.start()
    line.apply(policy("chat", "second"))
    struck.await_answerer("b")
    line.await_condition("rp", "chat", "Programmed", status="True")
    time.sleep(CALM_S)
    assert struck.statuses() == before, "nothing of theirs changed, so nothing was written"
    assert struck.operator.running


def test_edits_after_a_hang_of_the_api_server_are_served(struck: Struck) -> None:
    line = struck.line
    line.apply(policy("chat", "first"))
    struck.await_answerer("a")
    before = struck.calm()
    struck.api_server.pause()
    try:
        time.sleep(HANG_S)
        assert struck.data_plane.answerer("chat") == "a"
    finally:
        struck.api_server.resume()
    line.apply(policy("chat", "second"))
    struck.await_answerer("b")
    line.await_condition("rp", "chat", "Programmed", status="True")
    time.sleep(CALM_S)
    assert struck.statuses() == before
    assert struck.operator.running


def test_traffic_goes_on_when_operator_and_redis_and_api_server_are_all_gone(
    struck: Struck,
) -> None:
    line, plane = struck.line, struck.data_plane
    line.apply(policy("chat", "first"))
    struck.await_answerer("a")
    # Its status is written once the pod has it, and nothing is published after that.
    line.await_condition("rp", "chat", "Programmed", status="True")
    eventually(lambda: is_saved(struck), what="all that is in force on the disk")
    before = plane.chat("chat")
    for gone in (struck.operator, struck.redis, struck.api_server, struck.etcd):
        gone.kill()
    eventually(lambda: not plane.ready()["source"]["connected"], what="the store missed")
    for _ in range(REQUESTS):
        told = plane.chat("chat")
        assert told.status_code == httpx2.codes.OK
        assert routed(told) == routed(before), "as it was routed before, by the same revision"
    assert plane.chat("none").json()["error"]["code"] == "model_not_found"
    assert "chat" in look(f"{plane.url}/v1/models").text
    assert look(f"{plane.admin}/readyz").status_code == httpx2.codes.OK
    plane.process.interrupt()
    assert plane.process.wait(timeout_s=patience_s(ENDED_MAX_S)) == 0, (
        "an end waits for nobody who is gone"
    )
    struck.data_plane = line.start_data_plane("pod")
    assert routed(struck.data_plane.chat("chat")) == routed(before), "from the disk"
    for back in (struck.redis, struck.etcd, struck.api_server):
        back.start()
    struck.operator = line.start_operator(*SAME_POD)
    line.apply(policy("chat", "second"))
    struck.await_answerer("b")


def is_saved(struck: Struck) -> bool:
    """Say whether the data plane's snapshots on disk are what it has in force."""
    snapshots = DiskSnapshot(struck.line.folder / "state-pod")
    ring = read_keyring("gw/default", struck.line.scope_key_file().read_bytes())
    held = {channel: snapshots.load(channel, keyring=ring) for channel in CHANNELS}
    saved = {channel: str(one.revision) for channel, one in held.items() if one is not None}
    return bool(saved == struck.data_plane.ready()["source"]["revisions"])


def routed(answer: httpx2.Response) -> dict[str, str]:
    """Return what the answer says of its way."""
    return {
        name: value for name, value in answer.headers.items() if name.startswith("x-switchboard")
    }
