"""`switchboard dev` on the quick start, as a person runs it: the README's promises, one by one."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx2
import pytest
import yaml

from cluster.line import COMMAND, Running, eventually
from cluster.processes import ChildProcess, free_port, port_open
from fakes.manifests import client_secret, endpoint_slice

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICK_START = EXAMPLES / "01-quick-start"
SCALE_TO_ZERO = EXAMPLES / "03-scale-to-zero"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the quick start, on ports that are free here."""
    copy = tmp_path / "quick-start"
    shutil.copytree(QUICK_START, copy)
    for port in ("8101", "8102", "8103"):
        ours = str(free_port())
        for file in copy.iterdir():
            file.write_text(file.read_text().replace(port, ours).replace("ttft_ms = 350", ""))
    return copy


@pytest.fixture
def dev(folder: Path, tmp_path: Path) -> Iterator[Running]:
    port, admin = free_port(), free_port()
    command: list[str | Path] = [*COMMAND, "dev", folder]
    command += ["--fake-models", folder / "fake-models.toml"]
    command += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    with ChildProcess(command, log=tmp_path / "dev.log") as process:
        url = f"http://127.0.0.1:{admin}"
        process.wait_for_http(f"{url}/readyz")
        process.wait_for_log("Ctrl-C ends everything")
        yield Running(process=process, url=f"http://127.0.0.1:{port}", admin=url)


def test_the_printed_lines_can_be_typed_and_the_terminal_shows_each_request(dev: Running) -> None:
    lines = re.findall(r"^  (curl .*)$", dev.process.log_text(), re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True)
        assert "answering" in done.stdout, done.stdout
    dev.process.wait_for_log("guardrail eu-only")
    text = dev.process.log_text()
    assert re.search(r"^200 +chat +code +strong +large +large +\d+ ms +~?\$0\.\d+$", text, re.M)


def test_a_flaky_model_is_never_noticed_by_the_caller(dev: Running) -> None:
    answers = [dev.chat("chat", "x" * 9_000) for _ in range(12)]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["x-switchboard-rule"] for answer in answers} == {"long"}
    assert any(answer.headers["x-switchboard-attempts"] != "1" for answer in answers)
    dev.process.wait_for_log("flaky overloaded →")


def test_a_guardrail_holds_while_its_backends_fail(dev: Running) -> None:
    served = {dev.answerer("chat-eu") for _ in range(12)}
    assert "large" not in served
    assert served <= {"small", "flaky"}


def test_an_edit_is_obeyed_and_a_bad_one_is_told_and_changes_nothing(
    dev: Running, folder: Path
) -> None:
    policy = folder / "policy.yaml"
    said = policy.read_text()
    policy.write_text(said.replace("match: {tags: [code]}", "match: {tags: [programming]}"))
    eventually(
        lambda: dev.answerer("chat", x_switchboard_tags="programming") == "large",
        what="the new tag is obeyed",
    )
    policy.write_text(said.replace('request.model == "chat-eu"', "request.modell == 1"))
    dev.process.wait_for_log("request.modell")
    assert dev.answerer("chat", x_switchboard_tags="programming") == "large"
    policy.write_text("{ this is: [no yaml")
    dev.process.wait_for_log("no readable YAML")
    assert dev.answerer("chat", x_switchboard_tags="programming") == "large"
    policy.write_text(said)
    eventually(lambda: dev.answerer("chat", x_switchboard_tags="code") == "large", what="healed")


def test_deleting_a_file_withdraws_its_objects(dev: Running, folder: Path) -> None:
    assert dev.answerer("chat") != "404"
    (folder / "policy.yaml").unlink()
    eventually(lambda: dev.answerer("chat") == "404", what="the policy is gone")


def test_the_admin_port_tells_what_runs_without_secrets(dev: Running) -> None:
    assert dev.answerer("chat", x_switchboard_tags="code") == "large"
    for page in ("policy", "backends", "metrics"):
        text = eventually(partial(_page, dev, page), what=f"/{page} names the backend")
        assert "not-a-real-key" not in text


def test_the_end_leaves_nothing_running(dev: Running, folder: Path) -> None:
    ports = [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", _texts(folder))]
    assert all(port_open(port) for port in ports)
    dev.process.interrupt()
    assert dev.process.wait() == 0
    assert not any(port_open(port) for port in ports)
    assert "nothing is left running" in dev.process.log_text()


def test_with_access_by_keys_only_the_clients_of_the_folder_may_call(
    folder: Path, tmp_path: Path
) -> None:
    made = client_secret("cart", "sk-sb-0123456789", namespace="ai", models="chat")
    (folder / "client.yaml").write_text(yaml.safe_dump(made))
    port, admin = free_port(), free_port()
    command: list[str | Path] = [*COMMAND, "dev", folder, "--access", "keys"]
    command += ["--fake-models", folder / "fake-models.toml"]
    command += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    with ChildProcess(command, log=tmp_path / "dev.log") as process:
        dev = Running(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}")
        process.wait_for_log("Ctrl-C ends everything")
        assert dev.answerer("chat") == "401"
        key = "Bearer sk-sb-0123456789"
        assert dev.chat("chat", authorization=key).status_code == 200
        assert dev.answerer("chat-eu", authorization=key) == "403"
        (folder / "client.yaml").unlink()
        eventually(lambda: dev.answerer("chat", authorization=key) == "401", what="revoked")
        assert "0123456789" not in process.log_text()


def test_an_access_that_needs_a_cluster_is_refused(folder: Path) -> None:
    command: list[str | Path] = [*COMMAND, "dev", folder, "--access", "tokens"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--access 'tokens' is nothing here; say none or keys" in done.stderr


def test_a_request_for_what_is_scaled_to_zero_waits_for_the_endpoint_that_an_edit_brings(
    tmp_path: Path,
) -> None:
    folder, port, admin, model = tmp_path / "zero", free_port(), free_port(), free_port()
    shutil.copytree(SCALE_TO_ZERO, folder)
    fakes = tmp_path / "fakes.toml"
    fakes.write_text(f'[woken]\nlisten = "127.0.0.1:{model}"\nmodels = ["{LLAMA}"]\n')
    command: list[str | Path] = [*COMMAND, "dev", folder, "--fake-models", fakes]
    command += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"]
    with ChildProcess(command, log=tmp_path / "dev.log") as process:
        process.wait_for_log("Ctrl-C ends everything")
        process.wait_for_log("ai/llama-8b: no endpoint of its Service is ready")
        said = re.findall(r"^  (curl .*)$", process.log_text(), re.MULTILINE)
        assert len(said) == 2
        assert all('"model": "assistant"' in line for line in said)
        with ThreadPoolExecutor() as beside:
            asked = beside.submit(
                subprocess.check_output, ["/bin/sh", "-c", said[0]], text=True, timeout=60
            )
            waits = 'switchboard_wake_waiting{backend="ai/llama-8b"} 1.0'
            metrics = f"http://127.0.0.1:{admin}/metrics"
            eventually(lambda: waits in httpx2.get(metrics).text, what="the request waits")
            assert not asked.done()
            ready = endpoint_slice("vllm-llama-8b-1", "vllm-llama-8b", model, "127.0.0.1")
            ready["metadata"]["namespace"] = "ai"
            (folder / "endpoints.yaml").write_text(yaml.safe_dump(ready))
            assert "answering" in asked.result()


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [*map(str, COMMAND), "dev", str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "nowhere is no folder" in done.stderr


def _texts(folder: Path) -> str:
    return (folder / "fake-models.toml").read_text()


def _page(dev: Running, page: str) -> str:
    text = httpx2.get(f"{dev.admin}/{page}").text
    return text if "ai/large" in text else ""
