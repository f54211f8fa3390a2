"""What ``switchboard explain`` prints, as text and as JSON; and what the page about it shows."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from switchboard_cli.explain import command

REPO = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "explain"
WORLD = str(FOLDER / "world.yaml")
PAGE = REPO / "docs" / "explain.md"
TRANSCRIPT = re.compile(r"^```console\n\$ (.*?[^|])\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"echo '(.*)' \|\s+switchboard explain (.*)", re.DOTALL)

SAID = "the secret plan"
CHAT = {"model": "chat", "messages": [{"role": "user", "content": SAID}]}
QUESTIONS = {
    "served": ({"headers": {"x-region": "eu", "x-plan": "none"}, "body": CHAT}, 0),
    "no-headers": (CHAT, 0),
    "rejected": ({"headers": {"x-region": "us"}, "body": {**CHAT, "tools": [{}]}}, 1),
    "unknown-model": ({"body": {**CHAT, "model": "x"}}, 0),
    "not-allowed": (
        {"client": {"name": "app", "namespace": "a", "models": ["b"]}, "body": CHAT},
        1,
    ),
}


def run(question: object, *flags: str, folder: Path) -> int:
    path = folder / "question.json"
    path.write_bytes(orjson.dumps(question))
    return command.main([str(path), *flags])


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_person_reads_why(
    name: str,
    tmp_path: Path,
    golden: Callable[[Path, str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    question, status = QUESTIONS[name]
    assert run(question, "--files", WORLD, folder=tmp_path) == status
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    assert SAID not in text
    golden(FOLDER / f"{name}.txt", text)


def test_a_machine_reads_why(
    tmp_path: Path, golden: Callable[[Path, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    question, status = QUESTIONS["served"]
    assert run(question, "--files", WORLD, "--output", "json", folder=tmp_path) == status
    golden(FOLDER / "served.json", capsys.readouterr().out)


def test_the_page_shows_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPO)
    shown = TRANSCRIPT.findall(PAGE.read_text())
    assert len(shown) >= 2
    for said, output in shown:
        found = COMMAND.fullmatch(said)
        assert found, said
        path = tmp_path / "question.json"
        path.write_text(found[1])
        _, *flags = shlex.split(found[2].replace("\\\n", " "))
        command.main([str(path), *flags])
        assert capsys.readouterr().out == output
