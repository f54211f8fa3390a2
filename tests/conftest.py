"""What every kind of test may ask for: golden files, an API server, a Redis."""

import gc
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

from cluster.control_plane import ControlPlane, ControlPlaneUnavailable, Origin, choose_origin
from cluster.redis_server import RedisServer, RedisUnavailable, redis_binary
from cluster.tls import Authority
from fakes import loopback

Golden = Callable[[Path, str], None]

ORIGIN = pytest.StashKey[Origin | ControlPlaneUnavailable]()

LONGEST_FIRST = (
    "test_status_limits",
    "test_status_faults",
    "test_key_rotation",
    "test_access_tokens",
    "test_operator_failures",
    "test_chart_server",
    "test_admission_failures",
    "test_availability_handover",
    "test_availability_sentinel",
    "test_survive_engine",
    "test_api_server_failures",
    "test_dataplane_requests",
    "test_store_contract",
    "test_benchmarks",
    "test_survive_streams",
    "test_redis_tls",
    "test_line",
    "test_gitops",
    "test_survive_drain",
    "test_survive_balance",
    "test_survive_failover",
    "test_redis_cluster",
    "test_dataplane_process",
    "test_dev",
    "test_dataplane_end",
    "test_survive_queue",
    "test_survive_race",
    "test_dataplane_failover",
    "test_exit_statuses",
    "test_cluster_origins",
    "test_exhaustion",
)
"""The modules that take a quarter of a minute and more. Most wait more than they work."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite golden files instead of comparing"
    )


def pytest_configure() -> None:
    # An example may take its time: the machine is busy with other tests, and stands still at times.
    hypothesis.settings.register_profile(
        "unhurried",
        parent=hypothesis.settings(),
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("unhurried")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among what is imported and collected: it stays, and that is a lot."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side, the long modules start first: the run ends when the last of them does."""
    if hasattr(config, "workerinput"):
        ranks = {name: rank for rank, name in enumerate(LONGEST_FIRST)}
        items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Find or build the API server here: a first build outlasts the time limit of any test."""
    if session.config.option.collectonly:
        return
    if any("control_plane" in getattr(item, "fixturenames", ()) for item in session.items):
        try:
            session.config.stash[ORIGIN] = choose_origin()
        except ControlPlaneUnavailable as reason:
            session.config.stash[ORIGIN] = reason


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured: ``record_property("measured", text)``."""
    reports = (one for kind in ("passed", "failed") for one in terminalreporter.getreports(kind))
    said = (text for one in reports for name, text in one.user_properties if name == "measured")
    for text in said:
        terminalreporter.write_line(f"measured: {text}")


@pytest.fixture(scope="session", autouse=True)
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One authority in the place of the system's, here and in children.

    No test needs those, and every gateway would take 20 ms of a core to load them all.
    """
    authority = Authority(tmp_path_factory.mktemp("system-authorities"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(authority.file))
        yield


@pytest.fixture(scope="session", autouse=True)
def _models_on_the_loopback() -> Iterator[None]:
    """Let the data planes that are started as processes call models on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in loopback.ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """``golden(path, text)`` compares with a checked-in file, which ``make golden`` rewrites."""
    update = request.config.getoption("--update-golden")

    def compare(path: Path, text: str) -> None:
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        expected = path.read_text() if path.exists() else ""
        assert text == expected, f"{path.name} differs; read the diff, then `make golden`"

    return compare


@pytest.fixture(scope="session")
def api_server_is_ours(request: pytest.FixtureRequest) -> bool:
    """Whether the API server, if there is one, runs in the network of the tests."""
    origin = request.config.stash.get(ORIGIN, None)
    return not isinstance(origin, Origin) or origin.kind == "binaries"


@pytest.fixture(scope="session")
def control_plane(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """One API server for the session; a test takes a namespace of its own."""
    origin = request.config.stash[ORIGIN]
    if isinstance(origin, ControlPlaneUnavailable):
        unavailable(origin)
    with ControlPlane.start(tmp_path_factory.mktemp("control-plane"), origin) as plane:
        yield plane


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """An empty Redis that forgets everything when it is restarted."""
    require_redis()
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def durable_redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """An empty Redis that keeps what it acknowledged over a crash."""
    require_redis()
    with RedisServer(tmp_path / "durable-redis", appendonly=True) as server:
        yield server


def require_redis() -> None:
    try:
        redis_binary()
    except RedisUnavailable as reason:
        unavailable(reason)


def unavailable(reason: Exception) -> NoReturn:
    """A server that tests need is missing: an error in CI, a skip that is reported elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(str(reason), pytrace=False)
    pytest.skip(str(reason))
