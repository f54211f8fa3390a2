"""A folder in the place of an API server: edits, deletions, and what nobody could read."""

from pathlib import Path

import pytest

from switchboard_cli.folder import Folder, secret_data
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_policy.compiler.world import Name

BACKEND = """\
apiVersion: switchboard.dev/v1alpha1
kind: ModelBackend
metadata: {name: a, namespace: ai}
spec: {model: m, external: {provider: openai-compatible, url: "http://127.0.0.1:1/v1"}}
"""
A = ObjectKey(Kind.BACKEND, Name("ai", "a"))


def generation(folder: Folder) -> int:
    found = folder.inventory.get(A)
    assert found is not None
    return found.generation


def test_an_edit_is_a_generation_and_a_deletion_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(BACKEND)
    folder = Folder([tmp_path])
    folder.read()
    folder.read()
    assert generation(folder) == 1
    path.write_text(BACKEND.replace("model: m", "model: n"))
    folder.read()
    assert generation(folder) == 2
    path.unlink()
    folder.read()
    assert folder.inventory.get(A) is None


def test_while_a_file_cannot_be_read_nothing_is_taken_for_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(BACKEND)
    folder = Folder([tmp_path])
    folder.read()
    path.write_text("{ this is: [no yaml")
    assert folder.read().problems
    assert generation(folder) == 1


def slice_of(*endpoints: str, ports: str = "[{port: 80}]") -> str:
    return (
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\n"
        f"addressType: IPv4\nports: {ports}\nendpoints: [{', '.join(endpoints)}]\n"
    )


@pytest.mark.parametrize(
    "manifest",
    [
        "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [1]}\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: 7\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: http}]}\n",
        slice_of("{addresses: [5]}"),
        slice_of("{addresses: 10.0.0.1}"),
        slice_of("{addresses: [10.0.0.1], zone: 5}"),
        slice_of("{addresses: [10.0.0.1]}", ports="[{port: http}]"),
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: x, labels: {team: 5}}\n",
    ],
)
def test_an_object_that_no_api_server_would_take_is_told_and_hides_no_other(
    tmp_path: Path, manifest: str
) -> None:
    (tmp_path / "0.yaml").write_text(manifest)
    (tmp_path / "a.yaml").write_text(BACKEND)
    folder = Folder([tmp_path])
    folder.read()
    (told,) = folder.misread
    kind = told.object.removesuffix(" x")
    assert f"kind: {kind}\n" in manifest
    assert told.message == f"it is no well-formed {kind}"
    assert f"kubectl explain {kind.lower()}" in told.fix
    assert generation(folder) == 1


def test_an_object_that_an_api_server_would_take_is_taken(tmp_path: Path) -> None:
    endpoint = "{addresses: ['fd00::7'], zone: null, conditions: {ready: true}, hostname: h}"
    (tmp_path / "a.yaml").write_text(
        f"{slice_of(endpoint)}---\napiVersion: v1\nkind: Service\n"
        "metadata: {name: x, labels: null}\n"
        "spec: {ports: [{port: 80, targetPort: http}, {name: b, port: 81, targetPort: 8000}]}\n"
    )
    folder = Folder([tmp_path])
    folder.read()
    assert folder.misread == []
    name = Name("default", "x")
    assert folder.inventory.world.services[name].ports == {"": 80, "b": 81}


def test_a_secrets_plain_texts_win_and_bad_base64_is_as_good_as_missing() -> None:
    body = {
        "data": {"a": "c2s=", "b": "c2s=", "bad": "?", "none": None},
        "stringData": {"b": "sk-2"},
    }
    assert secret_data(body) == {"a": b"sk", "b": b"sk-2"}
    assert secret_data({}) == {}
