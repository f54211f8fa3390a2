"""An export, line by line, and which part a question is in."""

from pathlib import Path

import numpy as np
import pytest

from switchboard_cli.train.decisions import Wanted
from switchboard_cli.train.rows import (
    Row,
    RowRefused,
    fold_of,
    quality_table,
    read_rows,
    stem,
    stem_number,
    targets_of,
)


def export(folder: Path, text: str) -> Path:
    path = folder / "export.jsonl"
    path.write_text(text)
    return path


def test_rows_are_read_line_by_line(tmp_path: Path) -> None:
    first = '{"prompt": "a", "qualities": {"m": 1}, "extra": 1}'
    second = '{"prompt": "b", "qualities": {"m": 0.5}}'
    assert read_rows(export(tmp_path, f"{first}\n\n{second}\n"), Wanted().row) == [
        Row("a", {"m": 1.0}),
        Row("b", {"m": 0.5}),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"prompt": "a"}',
        '{"prompt": 1, "qualities": {"m": 1}}',
        '{"prompt": "a", "qualities": {}}',
        '{"prompt": "a", "qualities": {"m": 1.5}}',
        '{"prompt": "a", "qualities": {"m": -0.1}}',
        '{"prompt": "a", "qualities": {"m": null}}',
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str) -> None:
    good = '{"prompt": "a", "qualities": {"m": 1}}\n'
    with pytest.raises(RowRefused, match=":2:"):
        read_rows(export(tmp_path, good + line), Wanted().row)


def test_a_question_is_the_same_with_other_options_and_other_punctuation() -> None:
    assert stem("What is it?\nA. this\nB. that") == stem("what is it\n (A) other") == "what is it"


def test_the_same_question_is_always_in_the_same_part() -> None:
    asked, again = "What is it?\nA. this", "WHAT IS IT\nA. that"
    assert stem_number(asked) == stem_number(again)
    for folds in (2, 5, 10):
        assert fold_of(asked, folds) == fold_of(again, folds) < folds


def test_parts_are_about_equal_and_another_salt_cuts_otherwise() -> None:
    asked = [f"question {number}" for number in range(2_000)]
    parts = np.array([fold_of(one, 5) for one in asked])
    assert np.bincount(parts).min() > 340
    assert any(fold_of(one, 5) != fold_of(one, 5, "other") for one in asked)


def test_what_was_not_asked_is_unknown() -> None:
    rows = [Row("a", {"x": 1.0}), Row("b", {"y": 0.0})]
    assert targets_of(rows) == ("x", "y")
    table = quality_table([row.qualities for row in rows], ("x", "y"))
    assert np.array_equal(table, [[1.0, np.nan], [np.nan, 0.0]], equal_nan=True)
