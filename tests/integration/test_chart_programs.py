"""What the chart gives to programs, given to the real ones: Redis's settings, the test's script."""

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from cluster.chart import CHART, require_helm, values_of
from cluster.control_plane import ControlPlane
from cluster.line import eventually
from cluster.processes import ChildProcess, free_port
from cluster.redis_server import RedisServer, redis_binary
from conftest import require_redis
from integration.operator_bench import OperatorBench

NAMESPACE = "switchboard"


class Bundled:
    """A Redis that reads what the chart renders; only its port and its folders are others."""

    def __init__(self, folder: Path) -> None:
        documents = require_helm().documents(*values_of("bundled-redis"))
        data = {
            each["kind"]: each["data"]
            for each in documents
            if each["metadata"]["name"] == "switchboard-redis" and "data" in each
        }
        self._secret = data["Secret"]
        (folder / "users.acl").write_text(self._said("users.acl"))
        config = data["ConfigMap"]["redis.conf"]
        assert "port 6379\n" in config
        for there, here in (
            ("port 6379\n", f"port {(port := free_port())}\n"),
            ("dir /data\n", f"dir {folder}\n"),
            ("/etc/redis-users/", f"{folder}/"),
        ):
            config = config.replace(there, here)
        (folder / "redis.conf").write_text(config)
        self.port = port
        self.command = [redis_binary(), str(folder / "redis.conf")]
        self.nobody = f"redis://127.0.0.1:{port}/0"

    def url(self, plane: str) -> str:
        """The URL that the chart gives to a plane, with this machine for the Service."""
        said = self._said(f"{plane}-url")
        service = f"@switchboard-redis.{NAMESPACE}.svc:6379/"
        assert service in said
        return said.replace(service, f"@127.0.0.1:{self.port}/")

    def _said(self, key: str) -> str:
        return base64.b64decode(self._secret[key]).decode()


class Store(RedisServer):
    """It is started elsewhere; this is how the operator calls it."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        self._url = url

    @property
    def url(self) -> str:
        return self._url


@pytest.fixture
def bundled(tmp_path: Path) -> Iterator[Bundled]:
    require_redis()
    said = Bundled(tmp_path)
    with ChildProcess(said.command, log=tmp_path / "redis.log") as child:
        child.wait_for_log("Ready to accept connections")
        yield said


def test_whoever_has_no_password_can_only_ping(bundled: Bundled) -> None:
    with redis.Redis.from_url(bundled.nobody) as client:
        assert client.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.get("sb:{gw/default}:policy:head")
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.config_get("requirepass")


def test_a_gateway_reads_policy_and_writes_none(bundled: Bundled) -> None:
    with redis.Redis.from_url(bundled.url("gateway")) as client:
        assert client.hgetall("sb:{gw/default}:policy:head") == {}
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.hset("sb:{gw/default}:policy:head", "epoch", "9")
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.hgetall("sb:{gw/other}:policy:head")


def test_the_bundled_redis_refuses_writes_rather_than_forget(bundled: Bundled) -> None:
    with redis.Redis.from_url(bundled.url("operator")) as client:
        said: Any = client.info()
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.flushall()
    assert said["maxmemory"] == 384 * 1024**2
    assert said["maxmemory_policy"] == "noeviction"
    assert said["aof_enabled"] == 1


def test_both_planes_work_with_their_users_and_the_charts_test_passes_without_a_policy(
    bundled: Bundled, api: ControlPlane, tmp_path: Path
) -> None:
    store = Store(tmp_path, bundled.url("operator"))
    bench = OperatorBench(tmp_path, api, store, forked=False)
    try:
        bench.start()
        bench.redis = Store(tmp_path, bundled.url("gateway"))
        gateway = bench.start_data_plane("one")
        done = run_test(url=gateway.url, admin=gateway.admin)
        assert done.returncode == 0, done.stderr
        assert "models: none yet" in done.stdout
        closed = bench.start_data_plane("two", "--access=keys")
        done = run_test(url=closed.url, admin=closed.admin)
        assert done.returncode == 0, done.stderr
        assert "models: for clients alone" in done.stdout
    finally:
        bench.close()


def test_what_the_operator_makes_goes_with_the_release(
    api: ControlPlane, redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The objects' owner is of the release; a controller, which is not here, deletes them then."""
    bench = OperatorBench(tmp_path, api, redis_server, forked=False)
    about = {"name": "switchboard-operator", "namespace": bench.system}
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": about})
    uid = api.get("configmap", "switchboard-operator", namespace=bench.system)["metadata"]["uid"]
    monkeypatch.setenv("SWITCHBOARD_OWNER", "switchboard-operator")
    try:
        bench.start()
        for kind, name in (
            ("lease", "switchboard-operator"),
            ("secret", "switchboard-scope-default"),
            ("configmap", "switchboard-status-default"),
        ):
            owned = partial(owner_of, api, kind, name, bench.system)
            assert eventually(owned, what=f"{kind} {name} with an owner") == uid
    finally:
        bench.close()


def test_the_charts_test_fails_where_nothing_answers() -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    done = run_test(url=nowhere, admin=nowhere, deadline_s=0)
    assert done.returncode == 1
    assert "not yet: " in done.stderr


def owner_of(api: ControlPlane, kind: str, name: str, namespace: str) -> str:
    owners = "jsonpath={.metadata.ownerReferences[*].uid}"
    return api.try_kubectl("get", kind, name, "-n", namespace, "-o", owners).stdout


def run_test(*, url: str, admin: str, deadline_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run what `helm test` runs."""
    script = (CHART / "files" / "test.py").read_text()
    told = {
        "SWITCHBOARD_URL": url,
        "SWITCHBOARD_ADMIN_URL": admin,
        "SWITCHBOARD_DEADLINE_S": str(deadline_s),
    }
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
