"""What integration tests share: real peers, each in a namespace and a folder of its own."""

import os
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster.control_plane import ControlPlane
from cluster.network import NetworkUnavailable, enter_own_network
from cluster.processes import ChildProcess
from cluster.tls import Authority
from fakes import gateway
from fakes.loopback import GUARD
from fakes.upstreams import leaving_nothing
from switchboard_dataplane import app
from switchboard_dataplane.sources import redis_source
from switchboard_dataplane.upstream.aiohttp_upstream import AiohttpUpstream
from switchboard_dataplane.upstream.http1 import Http1Upstream
from switchboard_dataplane.upstream.tls import tls_context
from switchboard_dataplane.upstream.transport import Upstream
from switchboard_operator import publisher, store_users

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


@pytest.fixture(scope="session", autouse=True)
def _patient_clients() -> Iterator[None]:
    """Let clients of the store in this process wait: not for each of their calls is tried again.

    What a store does that hangs is tested with the product's own patience.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (publisher, redis_source, store_users):
            patch.setattr(module, "TIMEOUT_S", 30.0)
        yield


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


@pytest.fixture(params=["ours", "aiohttp"])
def each_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test's gateways with both transports to upstreams."""
    if request.param == "aiohttp":
        monkeypatch.setattr(
            app, "choose_upstream", lambda tls, guard, **_: AiohttpUpstream(tls=tls, guard=guard)
        )


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The certificate authority that transports to upstreams trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def client_tls(authority: Authority) -> ssl.SSLContext:
    """What transports to upstreams verify servers by."""
    return tls_context(str(authority.file))


@pytest.fixture(params=["ours", "aiohttp"])
async def upstream(
    request: pytest.FixtureRequest, client_tls: ssl.SSLContext
) -> AsyncGenerator[Upstream]:
    """Each transport to upstreams in turn, for what both promise."""
    kinds: dict[str, Callable[[], Upstream]] = {
        "ours": lambda: Http1Upstream(tls=client_tls, guard=GUARD),
        "aiohttp": lambda: AiohttpUpstream(tls=client_tls, guard=GUARD),
    }
    async with leaving_nothing(kinds[request.param]) as one:
        yield one


@pytest.fixture
async def ours(client_tls: ssl.SSLContext) -> AsyncGenerator[Upstream]:
    """Our own transport to upstreams, for what it promises beyond."""
    async with leaving_nothing(lambda: Http1Upstream(tls=client_tls, guard=GUARD)) as one:
        yield one


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
