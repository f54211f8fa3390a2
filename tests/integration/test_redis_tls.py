"""Redis behind TLS, with an authority of its own and an ACL: both planes, as processes."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from cluster.control_plane import ControlPlane
from cluster.line import PATIENT, WAIT_S, Line, Running, eventually
from cluster.processes import LOOPBACK, ChildProcess
from cluster.redis_server import RedisServer
from cluster.tls import Authority
from fakes.manifests import external, policy

PASSWORD = "p@ss:w/rd"
"""What a URL has to quote."""
ACL = (
    *("--user", "switchboard", "on", f">{PASSWORD}", "~sb:{gw/default}:*", "resetchannels"),
    *("+@all", "-@admin", "-@dangerous", "+info", "--user", "default", "off"),
)


@dataclass
class Guarded:
    """A line whose Redis wants TLS and a password, and an authority that vouches for nobody."""

    line: Line
    url: str
    stranger: Authority
    operator: ChildProcess
    data_plane: Running

    @property
    def with_wrong_authority(self) -> str:
        return self.url.partition("?")[0] + f"?ssl_ca_certs={self.stranger.file}"

    @property
    def with_wrong_password(self) -> str:
        return self.url.replace(quote(PASSWORD, safe=""), "wrong-secret")

    def await_answerer(self, wanted: str) -> None:
        eventually(lambda: self.data_plane.answerer("chat") == wanted, what=f"answered by {wanted}")


@pytest.fixture(scope="module")
def guarded(api: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("redis-tls")
    redis = RedisServer(
        folder / "redis",
        certificate=Authority(folder / "ours").issue(LOOPBACK),
        login=f"switchboard:{quote(PASSWORD, safe='')}",
        options=ACL,
    )
    with redis:
        line = Line(folder, api, redis)
        try:
            line.apply(
                external("first", line.start_fake("a"), timeouts=PATIENT),
                external("second", line.start_fake("b"), timeouts=PATIENT),
                policy("chat", "first"),
            )
            yield Guarded(
                line,
                url=redis.url,
                stranger=Authority(folder / "stranger"),
                operator=line.start_operator(),
                data_plane=line.start_data_plane("pod"),
            )
        finally:
            line.close()


def test_what_is_published_over_tls_is_followed_over_tls(guarded: Guarded) -> None:
    line = guarded.line
    line.apply(policy("chat", "first"))
    guarded.await_answerer("a")
    line.apply(policy("chat", "second"))
    guarded.await_answerer("b")
    told = line.await_condition("rp", "chat", "Programmed", status="True")
    assert "1/1" in told["message"]
    said = guarded.operator.log_text() + guarded.data_plane.process.log_text()
    for password in (PASSWORD, quote(PASSWORD, safe="")):
        assert password not in said + str(guarded.data_plane.ready())


def test_a_data_plane_says_which_setting_refuses_the_store(guarded: Guarded) -> None:
    for name, url, wanted in (
        ("wrong-authority", guarded.with_wrong_authority, "--redis-url: …?ssl_ca_certs=FILE"),
        ("no-authority", guarded.url.partition("?")[0], "--redis-url: …?ssl_ca_certs=FILE"),
        ("wrong-host", guarded.url.replace(LOOPBACK, "localhost"), "name the host in --redis-url"),
        ("wrong-password", guarded.with_wrong_password, "the password in --redis-url"),
    ):
        refused = guarded.line.start_data_plane(name, "--redis-url", url, wait=False)
        refused.process.wait_for_http(f"{refused.admin}/livez")
        eventually(partial(gives_reason, refused, wanted), what=f"{name}: {wanted}")
        refused.process.wait_for_http(f"{refused.admin}/readyz", status=503)
        assert wanted in refused.process.log_text()
        assert "wrong-secret" not in refused.process.log_text()
        refused.process.stop()


def gives_reason(plane: Running, wanted: str) -> bool:
    return wanted in plane.ready()["reason"]


def test_an_operator_says_which_setting_refuses_the_store_and_a_right_one_mends_it(
    guarded: Guarded,
) -> None:
    line = guarded.line
    line.apply(policy("chat", "first"))
    guarded.await_answerer("a")
    guarded.operator.stop()
    misled = line.start_operator("--redis-url", guarded.with_wrong_authority)
    line.apply(policy("chat", "second"))
    told = line.await_condition("rp", "chat", "Programmed", reason="StoreUnavailable")
    assert "the store does not answer" in told["message"]
    misled.wait_for_log("--redis-url: …?ssl_ca_certs=FILE")
    assert guarded.data_plane.answerer("chat") == "a"
    misled.stop()
    guarded.operator = line.start_operator()
    guarded.await_answerer("b")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_of_authorities_that_is_none_ends_a_process_with_its_name(
    guarded: Guarded, tmp_path: Path, content: str | None
) -> None:
    authorities = tmp_path / "authorities.pem"
    if content is not None:
        authorities.write_text(content)
    url = f"rediss://{LOOPBACK}:1/0?ssl_ca_certs={authorities}"
    wanted = f"ssl_ca_certs of the store's URL: {authorities} is no file of certificates"
    operator = guarded.line.start_operator("--redis-url", url, wait=False)
    assert operator.wait() != 0
    assert wanted in operator.log_text()
    key_file = guarded.line.scope_key_file()
    command = [sys.executable, "-m", "switchboard_dataplane", "--scope-key-file", str(key_file)]
    done = subprocess.run(
        [*command, "--redis-url", url], capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert done.returncode == 2
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr + operator.log_text()
