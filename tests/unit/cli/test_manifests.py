"""Files and folders → objects that know their file and line; nothing is raised."""

import io
from pathlib import Path

import pytest

from switchboard_cli import manifests
from switchboard_cli.manifests import empty_folders, load_manifests

POLICY = "kind: RoutingPolicy\nmetadata: {name: chat, namespace: ai}\nspec:\n  models:\n  - chat\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_folder_is_read_with_all_below_it_in_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a/d.yml", "a/c.json", ".git/hidden.yaml", ".x.yaml", "notes.md"):
        write(tmp_path / name, f"kind: {Path(name).stem}\n")
    found = load_manifests([tmp_path])
    assert [each.kind for each in found.objects] == ["b", "c", "d"]
    assert found.problems == ()


def test_a_folder_behind_a_link_is_told_and_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/a.yaml", POLICY)
    inside = tmp_path / "inside"
    write(inside / "b.yaml", "kind: B\n")
    (inside / "linked").symlink_to(tmp_path / "elsewhere")
    (inside / "round").symlink_to(inside)
    (inside / "c.yaml").symlink_to(tmp_path / "elsewhere/a.yaml")
    found = load_manifests([inside])
    assert [each.kind for each in found.objects] == ["B", "RoutingPolicy"]
    assert [(Path(each.file).name, each.fix) for each in found.problems] == [
        ("linked", "name the folder itself"),
        ("round", "name the folder itself"),
    ]
    assert load_manifests([inside / "linked"]).problems == ()


def test_a_folder_without_manifests_is_empty(tmp_path: Path) -> None:
    write(tmp_path / "full/below/a.yaml", POLICY)
    write(tmp_path / "empty/notes.md", "")
    paths = ["-", *map(str, (tmp_path / "full/below/a.yaml", tmp_path / "full"))]
    assert list(empty_folders(paths)) == []
    assert list(empty_folders([*paths, tmp_path / "empty"])) == [str(tmp_path / "empty")]


def test_a_file_is_read_once_however_often_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", POLICY)
    assert len(load_manifests([path, tmp_path, str(path)]).objects) == 1


def test_an_object_knows_its_name_and_the_lines_of_its_fields(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", f"# first\n---\n{POLICY}")
    (manifest,) = load_manifests([path]).objects
    assert (manifest.kind, manifest.namespace, manifest.name) == ("RoutingPolicy", "ai", "chat")
    assert manifest.title == "RoutingPolicy ai/chat"
    assert manifest.line == 3
    assert manifest.line_of("spec.models[0]") == 7
    assert manifest.line_of("spec.models[3].x") == 6
    assert manifest.line_of("spec.rules") == 5
    assert manifest.line_of("nothing.like.it") == 3


def test_the_items_of_a_list_are_objects(tmp_path: Path) -> None:
    text = "kind: List\nitems:\n- kind: A\n- kind: B\n  spec:\n    x: 1\n- text\n"
    found = load_manifests([write(tmp_path / "a.yaml", text)])
    assert [(each.kind, each.line) for each in found.objects] == [("A", 3), ("B", 4)]
    assert found.objects[1].line_of("spec.x") == 6
    assert [(each.line, each.fix) for each in found.problems] == [(7, "remove it")]


def test_empty_documents_are_nothing_and_scalars_are_problems(tmp_path: Path) -> None:
    found = load_manifests([write(tmp_path / "a.yaml", "---\n---\n# only this\n---\ntext\n")])
    assert found.objects == ()
    assert [each.line for each in found.problems] == [5]


def test_objects_before_the_broken_line_are_kept(tmp_path: Path) -> None:
    found = load_manifests([write(tmp_path / "a.yaml", f"{POLICY}---\na: [\n")])
    assert len(found.objects) == 1
    assert "no readable YAML" in found.problems[0].message


def test_a_file_that_cannot_be_read_is_a_problem_and_the_others_go_on(tmp_path: Path) -> None:
    good = write(tmp_path / "good.yaml", POLICY)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: 1\nb: \xe9\n")
    found = load_manifests([tmp_path / "missing.yaml", latin, good])
    assert len(found.objects) == 1
    assert [(Path(each.file).name, each.line) for each in found.problems] == [
        ("missing.yaml", 0),
        ("latin.yaml", 2),
    ]


def test_a_file_beyond_the_bound_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "FILE_SIZE_MAX", 1024)
    (problem,) = load_manifests([write(tmp_path / "a.yaml", "# \n" * 1000)]).problems
    assert "larger than" in problem.message


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfkind: A\n")
    assert load_manifests([path]).objects[0].kind == "A"


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"kind: A\n")))
    assert load_manifests(["-"]).objects[0].kind == "A"
