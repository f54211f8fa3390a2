"""``switchboard validate``: findings with file, line, field, value and fix, and an exit status."""

import argparse
import json
from pathlib import Path

import pytest

from switchboard_cli import validate
from switchboard_cli.__main__ import main as switchboard

POLICY = """\
apiVersion: switchboard.dev/v1alpha1
kind: RoutingPolicy
metadata: {name: chat, namespace: ai}
spec:
  models: [chat]
  rules:
  - name: default
    route:
      tiers:
      - name: main
        backends: [{name: llama-8b}]
"""
BACKEND = """\
apiVersion: switchboard.dev/v1alpha1
kind: ModelBackend
metadata: {name: llama-8b, namespace: ai}
spec:
  model: llama
  external: {provider: openai}
"""
OTHER = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: 1}\n"


def run(path: Path, text: str, *flags: str, output: str = "text") -> int:
    path.write_text(text)
    parser = argparse.ArgumentParser()
    validate.add_parser(parser.add_subparsers())
    args = parser.parse_args(["validate", str(path), "--output", output, *flags])
    status: int = args.run(args)
    return status


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "policies.yaml"


def test_valid_manifests_exit_0(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file, f"{POLICY}---\n{BACKEND}---\n{OTHER}", "--strict") == 0
    assert capsys.readouterr().out == "2 objects checked, 0 problems, 0 warnings\n"


def test_a_folder_without_manifests_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert switchboard(["validate", str(empty)]) == 0
    assert f"{empty}: warning: there is no manifest in it\n" in capsys.readouterr().out
    assert switchboard(["validate", str(empty), "--strict"]) == 1


def test_what_objects_say_together_is_a_warning_unless_strict(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(file, POLICY) == 0
    told = capsys.readouterr().out
    assert f"{file}:1: warning: RoutingPolicy ai/chat: BackendNotFound" in told
    assert "ai/llama-8b" in told
    assert run(file, POLICY, "--strict") == 1


def test_two_policies_that_claim_a_name_are_told_of_each_other(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = POLICY.replace("name: chat,", "name: later,")
    assert run(file, f"{POLICY}---\n{other}---\n{BACKEND}") == 0
    assert "ai/later: ModelNameClaimed" in capsys.readouterr().out


def test_a_platform_guardrail_belongs_in_the_platform_namespace(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guardrail = (
        "apiVersion: switchboard.dev/v1alpha1\nkind: RoutingPolicy\n"
        "metadata: {name: rails, namespace: rules}\n"
        "spec: {guardrails: [{name: eu, require: '!backend.external'}]}\n"
    )
    assert run(file, guardrail, "--strict") == 1
    assert "NotPlatformNamespace" in capsys.readouterr().out
    assert run(file, guardrail, "--strict", "--platform-namespace", "rules") == 0


def test_a_problem_exits_1_and_names_file_line_field_value_and_fix(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(file, POLICY.replace("llama-8b", "Llama")) == 1
    assert capsys.readouterr().out == (
        f"{file}:11: RoutingPolicy ai/chat: spec.rules[0].route.tiers[0].backends[0].name: "
        'it is malformed (found "Llama")\n'
        "  fix: write lower-case letters, digits, '-' and '.', as in the name of an object\n"
        "1 object checked, 1 problem, 0 warnings\n"
    )


def test_json_has_the_same_findings(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file, POLICY.replace("[chat]", '["a*b"]'), output="json") == 1
    body = json.loads(capsys.readouterr().out)
    assert body["valid"] is False
    assert body["checked"] == 1
    (problem,) = body["problems"]
    assert problem["file"] == str(file)
    assert problem["line"] == 5
    assert problem["object"] == "RoutingPolicy ai/chat"
    assert problem["field"] == "spec.models[0]"
    assert problem["value"] == '"a*b"'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (POLICY.replace("RoutingPolicy", "RoutingPolice"), "kind: there is no such kind"),
        (POLICY.replace("v1alpha1", "v2"), "apiVersion: there is no such version"),
        (POLICY.replace("kind: RoutingPolicy\n", ""), "kind: it is missing"),
        (POLICY.replace("name: chat", "name: Chat"), "metadata.name: it is malformed"),
        (POLICY + "sepc: {}\n", "sepc: there is no such field"),
        (POLICY + "---\n" + POLICY, "metadata.name: RoutingPolicy ai/chat is there already"),
        (POLICY + "---\na: [\n", "no readable YAML"),
    ],
)
def test_what_is_wrong_with_an_object_as_a_whole(
    file: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    assert run(file, text) == 1
    assert said in capsys.readouterr().out


def test_objects_of_other_groups_are_passed_over(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(file, OTHER.replace("v1", "apps/v1")) == 0
    assert "0 objects checked" in capsys.readouterr().out


def test_findings_come_in_the_order_of_the_lines(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = POLICY.replace("[chat]", "[]").replace("name: main", "name: Main")
    run(file, f"{broken}---\na: 1\na: 2\n", output="json")
    lines = [each["line"] for each in json.loads(capsys.readouterr().out)["problems"]]
    assert lines == [5, 10, 14]
