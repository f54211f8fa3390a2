"""How the commands end where they cannot do what they are told: status 2, and a line that says why.

A mistake in the settings is told before anything is started; nobody sees a traceback.
"""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.processes import LOOPBACK
from fakes.policies import KEY
from switchboard_operator.__main__ import EXIT_SETTINGS, main
from switchboard_policy.seal import write_key_file


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--config", "nowhere.yaml"], "--config nowhere.yaml: "),
        (["--config", "list.yaml"], "the file must be a map"),
        (["--config", "broken.yaml"], "--config broken.yaml: "),
        (["--redis-url", "http://:secret@host"], "redis.url"),
        (["--admin-port", "99999"], "adminPort"),
    ],
)
def test_wrong_settings_of_an_operator_are_its_last_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    told: str,
) -> None:
    (tmp_path / "list.yaml").write_text("- a\n")
    (tmp_path / "broken.yaml").write_text("{ this is: [no yaml")
    monkeypatch.chdir(tmp_path)
    assert main(["--namespace", "system", *flags]) == EXIT_SETTINGS
    said = capsys.readouterr().err
    assert told in said
    assert "secret" not in said


def test_an_operator_that_cannot_log_in_says_how_it_could(tmp_path: Path) -> None:
    flags = ["--namespace", "system", "--kubeconfig", "nowhere"]
    done = run(tmp_path, "switchboard_operator", *flags)
    assert done.returncode == EXIT_SETTINGS, done.stderr
    assert "name a kubeconfig file with --kubeconfig" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("flag", ["--listen", "--admin"])
def test_a_data_plane_whose_port_is_taken_ends_and_names_it(tmp_path: Path, flag: str) -> None:
    keys = tmp_path / "keys.json"
    keys.write_bytes(write_key_file("k1", {"k1": KEY}))
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        places = {"--listen": f"{LOOPBACK}:0", "--admin": f"{LOOPBACK}:0"}
        places[flag] = f"{LOOPBACK}:{port}"
        said = [part for place in places.items() for part in place]
        command = ["switchboard_dataplane", "--scope-key-file", "keys.json", *said]
        done = run(tmp_path, *command, "--redis-url", "redis://127.0.0.1:9")
    assert done.returncode == 1, done.stderr
    assert "cannot listen" in done.stderr
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("fakes", "status", "told"),
    [
        ('[small]\nlisten = "8101"\n', 2, 'small.listen: write "HOST:PORT"'),
        ('[small]\nlisten = "127.0.0.1:{taken}"\n', 1, "{taken}"),
    ],
    ids=["no-address", "port-taken"],
)
def test_dev_with_fake_models_that_cannot_be_says_so(
    tmp_path: Path, fakes: str, status: int, told: str
) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = str(taken.getsockname()[1])
        (tmp_path / "fakes.toml").write_text(fakes.replace("{taken}", port))
        done = run(tmp_path, "switchboard_cli", "dev", ".", "--fake-models", "fakes.toml")
    assert done.returncode == status, done.stderr
    assert told.replace("{taken}", port) in done.stderr
    assert "Traceback" not in done.stderr
