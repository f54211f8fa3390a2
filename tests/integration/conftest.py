"""What integration tests share: real peers, each in a namespace and a folder of its own."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster.control_plane import ControlPlane
from cluster.network import NetworkUnavailable, enter_own_network
from cluster.processes import ChildProcess
from fakes import gateway

REPO = Path(__file__).parents[2]

StartProcess = Callable[..., ChildProcess]


@pytest.fixture(scope="session", autouse=True)
def addresses(*, api_server_is_ours: bool) -> tuple[str, ...]:
    """Addresses for endpoints. Autouse, so that all peers start in the network that has them."""
    if not api_server_is_ours:
        # A cluster that the person names, or one in Docker, cannot be reached from there.
        return ()
    try:
        return enter_own_network()
    except NetworkUnavailable:
        if os.environ.get("CI"):
            raise
        return ()


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> ControlPlane:
    """The API server, with our kinds in it."""
    control_plane.install_kinds(REPO / "crds")
    return control_plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A namespace that no other test uses."""
    return control_plane.create_namespace()


@pytest.fixture(params=[True, False], ids=["lane", "aiohttp"])
def each_front(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test on both forms of the public port."""
    monkeypatch.setattr(gateway, "LANE", request.param)


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[StartProcess]:
    """``start_process(name, command, env=…)``: a peer that ends with the test, its log by name."""
    with ExitStack() as ending:

        def start(
            name: str, command: list[str | Path], *, env: Mapping[str, str] | None = None
        ) -> ChildProcess:
            child = ChildProcess(command, log=tmp_path / f"{name}.log", env=env, cwd=tmp_path)
            return ending.enter_context(child)

        yield start
