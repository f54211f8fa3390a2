"""What ``switchboard train`` fits, says and writes."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from fakes.routers import fitted, rows
from switchboard_cli.train import command
from switchboard_cli.train.command import train
from switchboard_cli.train.ridge import PARTS, fit_router, learn_vocabulary, predict_all
from switchboard_cli.train.rows import Row, quality_table
from switchboard_dataplane.choosing.predict import Router, load_router
from switchboard_dataplane.reading.lexical import read_lexical


def write_export(path: Path) -> Path:
    path.write_bytes(b"\n".join(msgspec.json.encode(row) for row in rows()))
    return path


def test_a_rule_in_the_outcomes_is_learned() -> None:
    report, data = train(list(rows()), weak="small", strong="large")
    assert report.trained + report.tested == len(rows())
    assert report.apgr is not None
    assert report.apgr > 0.7
    assert report.calibration_error < 0.1
    assert load_router(data).targets == ("large", "small")


def test_all_at_once_predicts_what_one_by_one_does() -> None:
    reads = [read_lexical(row.prompt) for row in rows()[:20]]
    router = Router(fitted().fit, "")
    one_by_one = np.array([router.scores(read) for read in reads])
    assert predict_all(fitted().fit, reads) == pytest.approx(one_by_one, abs=1e-4)


def test_predictions_for_left_out_rows_do_not_know_them() -> None:
    """Noise can be learned by heart; left out, it is worth nothing."""
    rng = np.random.default_rng(1)
    reads = [
        read_lexical(f"prompt {' '.join(map(chr, rng.integers(97, 123, 8)))}") for _ in range(300)
    ]
    noise = rng.random((300, 2))
    unseen = fit_router(reads, noise, ("a", "b"), [row % PARTS for row in range(300)]).unseen
    gains, said = noise[:, 1] - noise[:, 0], unseen[:, 1] - unseen[:, 0]
    assert abs(np.corrcoef(gains, said)[0, 1]) < 0.2


def test_an_outcome_that_is_missing_is_not_a_bad_one() -> None:
    known = rows()
    reads = [read_lexical(row.prompt) for row in known]
    qualities = quality_table([row.qualities for row in known], ("large", "small"))
    qualities[::2, 0] = np.nan
    parts = [row % PARTS for row in range(len(known))]
    fit = fit_router(reads, qualities, ("large", "small"), parts).fit
    assert fit.intercepts[0] == pytest.approx(np.nanmean(qualities[:, 0]), abs=1e-4)


def test_a_row_that_counts_twice_counts_as_two() -> None:
    reads = [read_lexical(row.prompt) for row in rows()[:60]]
    qualities = quality_table([row.qualities for row in rows()[:60]], ("large", "small"))
    counts = np.array([1.0 + row % 2 for row in range(60)])
    fit = fit_router(
        reads, qualities, ("large", "small"), [row % PARTS for row in range(60)], counts=counts
    ).fit
    expected = (counts[:, None] * qualities).sum(axis=0) / counts.sum()
    assert fit.intercepts == pytest.approx(expected, abs=1e-4)


def test_a_word_of_one_prompt_is_not_learned() -> None:
    reads = [read_lexical(text) for text in ("the red cat", "the red dog", "the blue cat")]
    vocabulary = learn_vocabulary(reads, 2)
    assert vocabulary.words == ("cat", "red", "the")
    assert [(vocabulary.words[a], vocabulary.words[b]) for a, b in vocabulary.pairs] == [
        ("the", "red")
    ]


def test_the_command_writes_an_artifact_and_says_how_good_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export, output = write_export(tmp_path / "export.jsonl"), tmp_path / "router.msgpack"
    args = [str(export), "-o", str(output), "--weak", "small", "--strong", "large"]
    assert command.main(args) == 0
    router = load_router(output.read_bytes())
    said = capsys.readouterr().out
    assert router.digest in said
    assert "APGR 0." in said
    assert "calibration error 0." in said


def test_the_same_export_gives_the_same_bytes() -> None:
    assert train(list(rows()))[1] == train(list(rows()))[1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "at least 50"),
        ([Row("the same", {"m": 1.0})] * 60, "all of one question"),
    ],
)
def test_rows_that_teach_nothing_are_refused(given: list[Row], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        train(given)


def test_a_pair_that_no_row_names_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = write_export(tmp_path / "export.jsonl")
    args = [str(export), "-o", str(tmp_path / "router"), "--weak", "tiny"]
    assert command.main(args) == 1
    assert "no row has an outcome of tiny; there are large, small" in capsys.readouterr().err
    assert not (tmp_path / "router").exists()


def test_a_missing_export_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = [str(tmp_path / "none"), "-o", str(tmp_path / "router")]
    assert command.main(args) == 1
    assert "none" in capsys.readouterr().err
