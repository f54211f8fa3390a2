"""`switchboard report`: a table and a verdict, the same as JSON, and what it refuses."""

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fakes.decisions import line
from switchboard_cli.__main__ import main
from switchboard_dataplane.learning.decisions import Rated


def experiment(callers: int = 800, *, cheap_quality: int = 8) -> list[Rated]:
    """A cheap arm at a third of the cost: so many answers of ten are liked, of control's eight."""
    lines: list[Rated] = []
    for caller in range(callers):
        cheap = caller % 2 == 0
        liked = caller // 2 % 10 < (cheap_quality if cheap else 8)
        arm: dict[str, Any] = {
            "arm": "cheap" if cheap else "control",
            "tier": "small" if cheap else "large",
            "cost_microdollars": (300.0 if cheap else 900.0) + caller % 7,
            "duration_s": 1.0 + caller % 13 / 10,
        }
        lines.append(line(caller, (float(liked), "feedback"), session=f"s{caller}", **arm))
    return lines


def written(folder: Path, lines: list[Rated]) -> Path:
    path = folder / "export.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in lines))
    return path


def test_the_table_and_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, experiment(4_000))
    assert main(["report", str(path), "--margin", "0.04", "--resamples", "200"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("ai/chat: 4,000 decisions, 2025-03-01 00:00 to 2025-03-01 01:06 UTC\n")
    assert "quality is rated by feedback 4,000\n" in text
    cells = [line.split() for line in text.splitlines()[3:8]]
    assert cells[:4] == [
        ["ARM", "cheap", "control"],
        ["requests", "2,000", "2,000"],
        ["callers", "2,000", "2,000"],
        ["rated", "2,000", "2,000"],
    ]
    assert (cells[4][0], cells[4][1], cells[4][4]) == ("quality", "0.800", "0.800")
    assert "cost a request  $0.000303 [$0.0003" in text
    assert "  cost a request  -66.4% [-66" in text
    assert "  cheap wins: quality at most 0.0" in text
    assert text.endswith("cost a request better\n\nIntervals in brackets hold 95% each.\n")


def test_a_loss_of_quality_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, experiment(cheap_quality=6))
    assert main(["report", str(path), "--resamples", "200"]) == 0
    text = capsys.readouterr().out
    assert "cheap trades one thing for another: quality worse, cost a request better" in text


def test_what_is_not_decided_says_what_is_lacking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, experiment(200))
    assert main(["report", str(path), "--resamples", "200"]) == 0
    text = capsys.readouterr().out
    assert "cheap is not decided: some " in text
    assert " callers an arm with a rating would tell whether the quality is lower by less" in text
    unrated = [line(number, arm="ab"[number % 2]) for number in range(100)]
    assert main(["report", str(written(tmp_path, unrated)), "--resamples", "200"]) == 0
    text = capsys.readouterr().out
    assert "nothing is rated, so no quality is known" in text
    assert "b is not decided: answers of both arms must be rated first" in text


def test_parts_of_the_arms_are_told_in_a_table_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, experiment(100))
    assert main(["report", str(path), "--by", "tier", "--resamples", "200"]) == 0
    head, cheap, control = capsys.readouterr().out.splitlines()[-5:-2]
    assert head.split()[:5] == ["ARM", "TIER", "REQUESTS", "RATED", "QUALITY"]
    assert cheap.split() == ["cheap", "small", "50", "50", "0.800", *cheap.split()[5:]]
    assert control.split() == ["control", "large", "50", "50", "0.800", *control.split()[5:]]


def test_json_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, experiment())
    assert main(["report", str(path), "--json", "--resamples", "200"]) == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    assert (told["level"], told["margin"], told["rated_by"]) == (0.95, 0.02, ["feedback", "judge"])
    (policy,) = told["policies"]
    assert (policy["policy"], policy["decisions"]) == ("ai/chat", 800)
    assert policy["from"] == "2025-03-01T00:00:00+00:00"
    cheap = policy["arms"][0]
    assert (cheap["arm"], cheap["requests"], cheap["rated"]) == ("cheap", 400, 400)
    quality = cheap["figures"]["quality"]
    assert quality["low"] < quality["value"] == 0.8 < quality["high"]
    assert cheap["figures"]["first_token"] == {
        "value": None,
        "low": None,
        "high": None,
        "callers": 0,
    }
    (found,) = policy["comparisons"]
    assert (found["arm"], found["baseline"], found["verdict"]) == ("cheap", "control", "undecided")
    cost = found["differences"]["cost"]
    assert (cost["judgement"], cost["relative"]) == ("better", True)
    assert cost["low"] < cost["value"] < cost["high"] < -0.6


def test_an_export_comes_by_the_standard_input_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, experiment(100))
    assert main(["report", str(path), "--resamples", "200"]) == 0
    said = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert main(["report", "-", "--resamples", "200"]) == 0
    assert capsys.readouterr().out == said


def test_a_line_that_is_no_decision_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, experiment(2))
    path.write_bytes(path.read_bytes() + b'\n{"kind": "decision", "id": 3}\n')
    assert main(["report", str(path)]) == 1
    assert f"switchboard report: {path}:4: " in capsys.readouterr().err


def test_an_export_without_decisions_or_that_is_not_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(written(tmp_path, []))]) == 1
    assert "switchboard report: no decisions" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [["--margin", "1"], ["--resamples", "5"], ["--by", "arm"], ["--rated-by", "me"]]
)
def test_wrong_flags_are_refused(flags: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["report", str(written(tmp_path, experiment(2))), *flags])
    assert refused.value.code == 2
