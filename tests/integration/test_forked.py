"""A command of ours that is forked is told from one that is executed by its start alone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.line import COMMAND, eventually
from cluster.processes import ChildProcess, free_port, http_status

TESTS = Path(__file__).parents[1]
each_start = pytest.mark.parametrize("forked", [True, False], ids=["forked", "executed"])


def fake_model(folder: Path, listen: object, *, forked: bool) -> ChildProcess:
    return ChildProcess(
        [*COMMAND, "fake-model", "--listen", f"127.0.0.1:{listen}"],
        log=folder / "log",
        env={"SWITCHBOARD_FAKE_MODEL_NAME": "of-the-environment"},
        cwd=folder,
        forked=forked,
    )


@each_start
def test_it_has_an_environment_and_a_folder_and_a_group_of_its_own(
    tmp_path: Path, forked: bool
) -> None:
    with fake_model(tmp_path, 0, forked=forked) as child:
        child.wait_for_log("fake-model of-the-environment serves")
        assert Path(f"/proc/{child.pid}/cwd").readlink() == tmp_path
        assert os.getpgid(child.pid) == os.getsid(child.pid) == child.pid
        command_line = Path(f"/proc/{child.pid}/cmdline").read_text()
    assert child.returncode == 0
    assert ("fake-model" in command_line) is not forked


@each_start
def test_what_it_cannot_do_is_its_exit_status_and_its_last_words(
    tmp_path: Path, forked: bool
) -> None:
    with fake_model(tmp_path, "nowhere", forked=forked) as child:
        assert child.wait() == 2
    assert child.log_text().startswith("switchboard fake-model: ")


@each_start
def test_it_hangs_goes_on_and_crashes_by_signals(tmp_path: Path, forked: bool) -> None:
    port = free_port()
    with fake_model(tmp_path, port, forked=forked) as child:
        child.wait_for_log("serves")
        child.pause()
        assert http_status(f"http://127.0.0.1:{port}/health") is None
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout_s=0.05)
        child.resume()
        child.wait_for_http(f"http://127.0.0.1:{port}/health")
        assert child.kill() == -signal.SIGKILL
        assert http_status(f"http://127.0.0.1:{port}/health") is None


@each_start
def test_it_dies_with_a_killed_parent(tmp_path: Path, forked: bool) -> None:
    program = (
        "import time; from pathlib import Path; from integration.test_forked import fake_model;"
        f"child = fake_model(Path({str(tmp_path)!r}), 0, forked={forked});"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        eventually(lambda: "serves" in (tmp_path / "log").read_text(), what="a model")
        parent.kill()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), what="the end of it")
