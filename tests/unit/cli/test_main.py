"""How ``switchboard`` ends where something goes wrong: never with a status that is an answer."""

import errno
import io
from pathlib import Path

import pytest

from switchboard_cli.__main__ import main
from switchboard_cli.review import diff_command

EXAMPLE = str(Path(__file__).parents[3] / "examples" / "01-quick-start")
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: eu-1, namespace: ai}
addressType: IPv4
endpoints: [{addresses: [5]}]
"""


def test_a_defect_is_no_answer_and_says_where_it_is_but_not_what_was_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(paths: object) -> None:
        raise KeyError("a word of a prompt")

    monkeypatch.setattr(diff_command, "empty_folders", broken)
    assert main(["diff", EXAMPLE, EXAMPLE]) == 2
    told = capsys.readouterr().err
    assert told.startswith("switchboard diff: KeyError at test_main.py:")
    assert "prompt" not in told


def test_what_cannot_be_written_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sys.stdout", Full())
    assert main(["diff", EXAMPLE, EXAMPLE]) == 2
    assert "No space left" in capsys.readouterr().err


def test_a_malformed_object_of_kubernetes_is_named_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "slice.yaml"
    path.write_text(SLICE)
    assert main(["diff", EXAMPLE, str(path)]) == 2
    assert "EndpointSlice ai/eu-1 would be refused" in capsys.readouterr().out
    main(["validate", str(path)])
    assert f"{path}:2: warning: EndpointSlice ai/eu-1: it is no well-formed EndpointSlice" in (
        capsys.readouterr().out
    )


def test_a_folder_of_which_nothing_was_read_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", str(tmp_path), str(tmp_path)]) == 0
    told = capsys.readouterr().err
    assert told.count(f"switchboard diff: {tmp_path}: warning: there is no manifest in it\n") == 2
    (tmp_path / "log.jsonl").write_text("")
    assert main(["simulate", str(tmp_path), "--log", str(tmp_path / "log.jsonl")]) == 0
    assert "switchboard simulate: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://127.0.0.1:port", "http://a b:1", "http://\u2100.test", "http://"]
)
def test_an_address_of_an_admin_port_that_is_none_is_told(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "--decision", "d1", "--admin", url]) == 2
    assert capsys.readouterr().err.startswith("switchboard explain: --admin: ")
