"""A Service that speaks https: its endpoints are called by address, and verified by its name."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from cluster.control_plane import ControlPlane
from cluster.line import Line, Running, eventually
from cluster.redis_server import RedisServer
from cluster.tls import Authority, Certificate, TlsDoor
from fakes.manifests import endpoint_slice, external, failover_policy, served, service


@dataclass
class Secured:
    """A line whose data plane trusts one more authority; the fake models a and b serve it."""

    line: Line
    ours: Authority
    stranger: Authority
    address: str
    behind: int
    data_plane: Running
    doors: ExitStack

    def offer(self, name: str, certificate: Certificate) -> None:
        """Put the fake model a behind a Service of that name, with that certificate."""
        door = self.doors.enter_context(
            TlsDoor(self.address, to_port=self.behind, certificate=certificate)
        )
        self.line.apply(
            service(name, door.port),
            endpoint_slice(f"{name}-1", name, door.port, self.address),
            served(name, name, scheme="https"),
            failover_policy(name, name, "plain"),
        )


@pytest.fixture(scope="module")
def secured(
    api: ControlPlane, addresses: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    if not addresses:
        pytest.skip("endpoints need a network namespace of the tests' own: run as root")
    folder = tmp_path_factory.mktemp("service-tls")
    ours = Authority(folder / "ours")
    with RedisServer(folder / "redis") as redis, ExitStack() as doors:
        line = Line(folder, api, redis)
        doors.callback(line.close)
        line.apply(external("plain", line.start_fake("b")))
        line.start_operator()
        yield Secured(
            line,
            ours=ours,
            stranger=Authority(folder / "stranger"),
            address=addresses[0],
            behind=line.start_fake("a"),
            data_plane=line.start_data_plane("pod", "--upstream-ca-file", ours.file),
            doors=doors,
        )


def test_the_certificate_of_an_endpoint_is_that_of_its_service(secured: Secured) -> None:
    name = f"right.{secured.line.namespace}.svc"
    secured.offer("right", secured.ours.issue(name))
    eventually(lambda: secured.data_plane.answerer("right") == "a", what="answered over TLS")
    answer = secured.data_plane.chat("right")
    assert answer.headers["x-switchboard-reason"] == "primary"
    assert answer.headers["x-switchboard-backend"] == f"{secured.line.namespace}/right"
    (seen,) = httpx2.get(f"http://127.0.0.1:{secured.behind}/control/requests?last=1").json()
    assert seen["headers"]["host"].partition(":")[0] == name


@pytest.mark.parametrize("wrong", ["name", "address", "authority"])
def test_an_endpoint_with_another_certificate_is_not_connected_to(
    secured: Secured, wrong: str
) -> None:
    backend = f"wrong-{wrong}"
    name = f"{backend}.{secured.line.namespace}.svc"
    certificate = {
        "name": lambda: secured.ours.issue(f"other.{secured.line.namespace}.svc"),
        "address": lambda: secured.ours.issue(secured.address),
        "authority": lambda: secured.stranger.issue(name),
    }[wrong]()
    secured.offer(backend, certificate)

    def refused() -> httpx2.Response | None:
        answer = secured.data_plane.chat(backend)
        return answer if answer.headers["x-switchboard-reason"] == "fallback:connect" else None

    answer = eventually(refused, what="the endpoint known, and not connected to")
    assert answer.json()["system_fingerprint"] == "b"
    assert answer.headers["x-switchboard-backend"] == f"{secured.line.namespace}/plain"
    assert answer.headers["x-switchboard-attempts"] == "2"


def test_a_file_of_authorities_that_is_none_ends_the_process_with_its_name(
    secured: Secured, tmp_path: Path
) -> None:
    plane = secured.line.start_data_plane(
        "pod-misled", "--upstream-ca-file", tmp_path / "absent.pem", wait=False
    )
    assert plane.process.wait() == 2
    assert "--upstream-ca-file" in plane.process.log_text()
    assert "Traceback" not in plane.process.log_text()
