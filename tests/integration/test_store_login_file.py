"""A store's URL in a file: the login changes while processes run, and they go on without a restart.

Whoever is logged in stays so until its connection ends: here all connections are ended, so that
nobody goes on by an old login.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from cluster.control_plane import ControlPlane
from cluster.line import PATIENT, Line, Running, eventually, look
from cluster.processes import LOOPBACK
from cluster.redis_sentinel import SentinelRedis
from cluster.redis_server import RedisCluster, RedisServer
from fakes.gateway import until
from fakes.manifests import external, policy
from fakes.stores import OURS, SCOPE, contents
from integration.sidecar_bench import SidecarBench, store_of
from switchboard_dataplane.sources.redis_source import RedisSource
from switchboard_operator.__main__ import EXIT_SETTINGS, main
from switchboard_operator.publisher import RedisStore
from switchboard_policy.seal import write_key_file
from switchboard_policy.store import CHANNELS, ZERO, Channel
from switchboard_policy.store.address import with_login
from switchboard_policy.store.url_file import UrlFile

RIGHTS = ("~sb:*", "resetchannels", "+@all")
REREAD = "the way to the store was read anew"
KEPT = "the way to the store stays as it was"

Servers = Sequence[RedisServer]


def set_user(servers: Servers, name: str, *rules: str) -> None:
    for each in servers:
        with redis.Redis(LOOPBACK, each.port) as client:
            client.execute_command("ACL", "SETUSER", name, *rules)


def end_connections(servers: Servers, name: str) -> None:
    for each in servers:
        with redis.Redis(LOOPBACK, each.port) as client:
            client.execute_command("CLIENT", "KILL", "USER", name)


def logged_in(servers: Servers) -> set[str]:
    """The users, beside this test's own and a replica's, that connections are of."""
    found = set[str]()
    for each in servers:
        with redis.Redis(LOOPBACK, each.port) as client:
            asked: Any = client.client_list()
            found |= {one["user"] for one in asked}
    return found - {"default", "(superuser)"}


class Planes:
    """A line whose processes have their URL from a file."""

    def __init__(self, folder: Path, api: ControlPlane, store: RedisServer) -> None:
        self.file, self._store = folder / "redis-url", store
        self.say("one")
        set_user([store], "planes", "on", ">one", *RIGHTS)
        self.line = Line(folder, api, store, redis_url=self.file)
        self.line.apply(
            *(
                external(name, self.line.start_fake(name), timeouts=PATIENT)
                for name in ("first", "second")
            ),
            policy("chat", "first"),
        )
        self.operator = self.line.start_operator()
        self.plane = self.line.start_data_plane("pod")

    def say(self, password: str) -> None:
        self.file.with_suffix(".new").write_text(
            with_login(self._store.url, "planes", password) + "\n"
        )
        self.file.with_suffix(".new").rename(self.file)

    def await_edit(self, name: str) -> None:
        """An edit goes the whole way: written by one process, read by the other."""
        self.line.apply(policy("chat", name))
        eventually(lambda: self.plane.answerer("chat") == name, what=f"answered by {name}")

    def logs(self) -> Mapping[str, str]:
        return {
            "operator": self.operator.log_text(),
            "data plane": self.plane.process.log_text(),
        }

    def await_log(self, text: str) -> None:
        for process in (self.operator, self.plane.process):
            process.wait_for_log(text)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as made:
        yield made


@pytest.fixture
def planes(api: ControlPlane, store: RedisServer, tmp_path: Path) -> Iterator[Planes]:
    made = Planes(tmp_path, api, store)
    try:
        yield made
        for name, said in made.logs().items():
            assert "Traceback" not in said, name
            assert not any(f":{password}@" in said for password in ("one", "two", "three")), name
        assert made.operator.running
        assert made.plane.process.running
    finally:
        made.line.close()


def test_a_password_is_rotated_under_both_planes(planes: Planes, store: RedisServer) -> None:
    # For a time both are valid, so nobody is ever refused.
    set_user([store], "planes", ">two")
    planes.say("two")
    planes.await_edit("second")
    set_user([store], "planes", "<one")
    planes.await_log(REREAD)
    end_connections([store], "planes")
    planes.await_edit("first")
    assert not any("refuses" in said for said in planes.logs().values())


def test_who_was_locked_out_is_let_in_by_the_file(planes: Planes, store: RedisServer) -> None:
    set_user([store], "planes", "resetpass", ">two")
    end_connections([store], "planes")
    advice = f"correct the user and the password in --redis-url-file {planes.file}"
    eventually(
        lambda: advice in planes.plane.ready()["source"]["reason"], what="what is to be done"
    )
    assert planes.plane.answerer("chat") == "first"
    planes.say("two")
    planes.await_edit("second")


def test_a_file_that_is_gone_or_bad_leaves_the_last_good_login(
    planes: Planes, store: RedisServer
) -> None:
    planes.file.unlink()
    planes.await_log(f"{KEPT}: {planes.file} cannot be read")
    end_connections([store], "planes")
    planes.await_edit("second")
    planes.file.write_text("planes:three@nowhere")
    planes.await_log(f"{KEPT}: {planes.file} holds no URL of a store")
    end_connections([store], "planes")
    planes.await_edit("first")
    for name, said in planes.logs().items():
        assert (name, said.count(KEPT)) == (name, 2)
    set_user([store], "planes", "resetpass", ">two")
    planes.say("two")
    end_connections([store], "planes")
    planes.await_edit("second")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read (No such file or directory): name a file with the store's URL"),
        ("", "holds nothing: write the store's URL into it"),
        ("redis://u:hush/x@h:1", "holds no URL of a store: a store's URL has a port that is none"),
        ("redis://u:hush@h:1?hushed=x", "a store's URL has an option that no store has"),
    ],
)
def test_a_file_that_is_of_no_use_at_the_start_ends_a_process_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, told: str
) -> None:
    file, keys = tmp_path / "url", tmp_path / "keys.json"
    keys.write_bytes(write_key_file("k1", {"k1": bytes(32)}))
    if content is not None:
        file.write_text(content)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "switchboard_dataplane", "--scope-key-file", str(keys)),
            *("--redis-url-file", str(file)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert "cannot start: --redis-url-file: " in done.stderr
    assert told in done.stderr
    assert "hush" not in done.stderr
    assert "Traceback" not in done.stderr
    if content is None or not content:
        assert main(["--namespace", "x", "--redis-url-file", str(file)]) == EXIT_SETTINGS
        assert f"--redis-url-file: {file} {told}" in capsys.readouterr().err


class Reader:
    """A reader whose login is in a file, on servers of some kind."""

    def __init__(self, folder: Path, url: str, servers: Servers) -> None:
        self.servers, self._url, self._file = servers, url, folder / "url"
        self.say("one", "first")
        self.source = RedisSource(UrlFile(self._file), scope=SCOPE)

    def say(self, user: str, password: str) -> None:
        self._file.write_text(with_login(self._url, user, password))

    async def reads(self) -> bool:
        return await self.source.head("policy") is not None


@contextmanager
def running(kind: str, folder: Path) -> Iterator[tuple[str, Servers]]:
    """Servers, and the URL of them all."""
    if kind == "server":
        with RedisServer(folder) as one:
            yield one.url, [one]
    elif kind == "cluster":
        with RedisCluster(folder) as cluster:
            yield cluster.url, cluster.nodes
    else:
        with SentinelRedis(folder) as watched:
            yield watched.url(), watched.servers


@pytest.fixture(params=["server", "sentinel", "cluster"])
async def reader(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Reader]:
    with running(request.param, tmp_path / "redis") as (url, servers):
        set_user(servers, "one", "on", ">first", *RIGHTS)
        writer = RedisStore(url, keyrings=lambda _: OURS)
        for channel in CHANNELS:
            await writer.replace(SCOPE, channel, epoch=1, contents=contents(1))
        await writer.close()
        found = Reader(tmp_path, url, servers)
        yield found
        await found.source.close()


async def test_wherever_the_store_is_the_next_call_has_the_next_login(reader: Reader) -> None:
    assert await reader.reads()
    set_user(reader.servers, "one", "resetpass", ">second")
    end_connections(reader.servers, "one")
    with suppress(ConnectionError):
        assert not await reader.reads()
    reader.say("one", "second")
    assert await reader.reads()


async def test_a_call_under_way_ends_as_it_began_and_its_user_goes(reader: Reader) -> None:
    set_user(reader.servers, "two", "on", ">second", *RIGHTS)
    after: dict[Channel, Any] = {"policy": ZERO}
    revision = (await reader.source.lines(after, timeout_ms=1))["policy"][-1].revision
    waiting = asyncio.create_task(reader.source.lines({"policy": revision}, timeout_ms=2_000))
    await until(lambda: waits(reader.servers))
    reader.say("two", "second")
    assert await reader.reads()
    assert await waiting == {}
    assert await reader.reads()
    assert logged_in(reader.servers) == {"two"}


def waits(servers: Servers) -> bool:
    """Whether a call waits at a server for what is to come."""
    asked: list[Any] = []
    for each in servers:
        with redis.Redis(LOOPBACK, each.port) as client:
            asked.append(client.info("clients"))
    return any(each["blocked_clients"] for each in asked)


async def test_another_host_is_obeyed(tmp_path: Path) -> None:
    file = tmp_path / "url"
    with RedisServer(tmp_path / "a") as first, RedisServer(tmp_path / "b") as second:
        writer = RedisStore(second.url, keyrings=lambda _: OURS)
        await writer.replace(SCOPE, "policy", epoch=1, contents=contents(1))
        await writer.close()
        file.write_text(first.url)
        source = RedisSource(UrlFile(file), scope=SCOPE)
        assert await source.head("policy") is None
        file.write_text(second.url)
        assert await source.head("policy") is not None
        # One that cannot be is not.
        file.write_text(f"{first.url}?of=none")
        assert await source.head("policy") is not None
        await source.close()


@pytest.fixture
def sidecars(api: ControlPlane, tmp_path: Path) -> Iterator[SidecarBench]:
    with store_of(tmp_path / "redis") as made:
        bench = SidecarBench(tmp_path, api, made)
        try:
            yield bench
        finally:
            bench.close()


def test_a_sidecar_goes_on_when_its_secret_was_deleted(sidecars: SidecarBench) -> None:
    operator = sidecars.start()
    namespace = sidecars.namespace(inject=True)
    sidecars.await_scope(namespace)
    sidecar = sidecars.start_sidecar(namespace)
    try:
        before = sidecars.secret(namespace)
        sidecars.plane.kubectl("delete", "secret", "switchboard-sidecar", "-n", namespace)
        eventually(lambda: made_anew(sidecars, namespace, before), what="a Secret made anew")
        eventually(lambda: has_user(sidecars, namespace), what="a user with the new password")
        end_connections([sidecars.store], f"switchboard-ns-{namespace}")
        eventually(
            lambda: "refuses" in sidecar.ready()["source"]["reason"], what="a sidecar locked out"
        )
        sidecars.mount(namespace)
        await_edit(sidecars, namespace, sidecar)
        assert sidecar.process.running
        assert operator.process.running
    finally:
        sidecar.process.stop()


def made_anew(bench: SidecarBench, namespace: str, before: Mapping[str, bytes]) -> bool:
    found = bench.secret(namespace)
    return bool(found) and all(found[key] != before[key] for key in ("scope-key.json", "redis-url"))


def has_user(bench: SidecarBench, namespace: str) -> bool:
    try:
        with bench.login(namespace) as client:
            return bool(client.time())
    except redis.AuthenticationError:
        return False


def await_edit(bench: SidecarBench, namespace: str, sidecar: Running) -> None:
    for each in (external("a", 1), policy("chat", "a")):
        each["metadata"]["namespace"] = namespace
        bench.plane.apply(each)
    eventually(lambda: "chat" in names_of(sidecar), what="an edit in the sidecar")


def names_of(sidecar: Running) -> list[str]:
    return [each["id"] for each in look(f"{sidecar.url}/v1/models").json()["data"]]
