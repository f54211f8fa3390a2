"""YAML as kubectl reads it, with lines, and with a bound on everything."""

import time
from typing import Any

import pytest

from switchboard_cli.yaml_documents import DEPTH_MAX, UnreadableYaml, read_documents


def value_of(text: str) -> Any:
    (document,) = read_documents(text)
    return document.value


def refused(text: str) -> tuple[str, int]:
    with pytest.raises(UnreadableYaml) as caught:
        list(read_documents(text))
    return str(caught.value), caught.value.line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", True),
        ("No", False),
        ("nUll", "nUll"),
        ("~", None),
        ("0777", 511),
        ("0o17", 15),
        ("0x1F", 31),
        ("-0b1", -1),
        ("1_000", 1000),
        ("08", 8.0),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1e400", "1e400"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("'on'", "on"),
        ('"5"', "5"),
        ("!!str 5", "5"),
        ('!!int "7"', 7),
        ("|-\n  1", "1"),
        ("9" * 500, "9" * 500),
    ],
)
def test_a_scalar_means_what_it_means_to_kubectl(text: str, value: object) -> None:
    found = value_of(f"x: {text}\n")["x"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text_as_in_json() -> None:
    assert value_of("{1: a, on: b, 1.5: c}") == {"1": "a", "true": "b", "1.5": "c"}


def test_every_field_knows_its_line() -> None:
    (document,) = read_documents("spec:\n  rules:\n  - name: a\n    when: x\n  - name: b\n")
    assert document.lines["spec"] == 1
    assert document.lines["spec.rules[0].when"] == 4
    assert document.lines["spec.rules[1]"] == 5


def test_every_document_knows_where_it_begins() -> None:
    documents = list(read_documents("# a comment\na: 1\n---\n\nb: 2\n---\n"))
    assert [(each.value, each.line) for each in documents] == [
        ({"a": 1}, 2),
        ({"b": 2}, 5),
        (None, 7),
    ]


def test_aliases_and_merges_work() -> None:
    text = "a: &a {u: 1, v: 2}\nb: *a\nc: {<<: *a, v: 3}\nd: {<<: [*a, {v: 9, w: 4}]}\n"
    assert value_of(text) == {
        "a": {"u": 1, "v": 2},
        "b": {"u": 1, "v": 2},
        "c": {"u": 1, "v": 3},
        "d": {"u": 1, "v": 2, "w": 4},
    }


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", 'the key "a" is there twice', 3),
        ("a: 1\n1: 2\n'1': 3\n", 'the key "1" is there twice', 3),
        ("a: *b\n", "the alias *b has no anchor before it", 1),
        ("a: &a [*a]\n", "the anchor &a contains itself", 1),
        ("a: !!python/object:os.system x\n", "is not read here", 1),
        ("a: 1\n? [b]\n: c\n", "a key is a list or a map", 2),
        ("a: 1\n~: 2\n", "a key is empty", 2),
        ("a: !!int x\n", "'x' is no int", 1),
        ("a:\n  - b\n c\n", "", 3),
        ("a: {\n", "", 2),
        ("a: 1\nb: \x07\n", "a character is not allowed", 2),
        ("<<: 1\n", "<< takes a map", 1),
    ],
)
def test_what_is_refused_names_the_line(text: str, message: str, line: int) -> None:
    said, where = refused(text)
    assert message in said
    assert where == line


def test_documents_before_the_broken_one_are_read() -> None:
    found: list[object] = []
    with pytest.raises(UnreadableYaml):
        found.extend(each.value for each in read_documents("a: 1\n---\nb: [\n"))
    found.clear()
    documents = read_documents("a: 1\n---\nb: [\n")
    assert next(documents).value == {"a": 1}


def test_an_alias_bomb_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    began = time.process_time()
    said, line = refused("\n".join(lines))
    assert "do aliases multiply" in said
    assert line < 10
    assert time.process_time() - began < 1.0


def test_a_bomb_of_merges_is_refused() -> None:
    lines = ["a0: &a0 {x: [1, 2, 3, 4, 5, 6, 7, 8, 9]}"]
    lines += [
        f"a{n}: &a{n} {{{', '.join(f'k{i}: *a{n - 1}' for i in range(9))}}}" for n in range(1, 12)
    ]
    lines += [f"b{n}: {{<<: *a11}}" for n in range(3)]
    assert "do aliases multiply" in refused("\n".join(lines))[0]


@pytest.mark.parametrize(("start", "end"), [("[", "]"), ("{a: ", "}"), ("- ", "")])
def test_depth_is_bounded_not_the_stack(start: str, end: str) -> None:
    deep = 50_000 if start != "- " else 2_000
    said, _ = refused(start * deep + "x" + end * deep)
    assert f"more than {DEPTH_MAX} deep" in said
    assert list(read_documents(start * DEPTH_MAX + "x" + end * DEPTH_MAX))
