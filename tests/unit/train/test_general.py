"""A router for kinds of prompts that nothing was learned of."""

from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest

from switchboard_cli.train import command
from switchboard_cli.train.command import train
from switchboard_cli.train.evaluate import recovery
from switchboard_cli.train.general import fit_general
from switchboard_cli.train.ridge import Doubles, Fitted, fit_router
from switchboard_cli.train.rows import Row, fold_of, quality_table, targets_of
from switchboard_dataplane.choosing.predict import Router, load_router
from switchboard_dataplane.reading.lexical import read_lexical

FILLERS = ("the", "of", "and", "that", "with", "it", "as", "was")


def kind_of(name: str, hard: str, easy: str, *, rows: int = 300, level: float = 0.0) -> list[Row]:
    """Prompts of one kind: the longer and those with its ``hard`` word need the large model."""
    rng = Random(name)
    made: list[Row] = []
    for number in range(rows):
        size = rng.randrange(4, 120)
        word = rng.choice((hard, easy))
        need = 0.1 + 0.3 * (size / 120) + (0.4 if word == hard else 0.0)
        said = {
            "small": float(rng.random() < 0.95 - level - need),
            "large": float(rng.random() < 0.95 - level),
        }
        text = " ".join(rng.choices(FILLERS, k=size))
        made.append(Row(f"{word} {number} {text}", said, task=name, source="made-up"))
    return made


def known_kinds() -> list[Row]:
    """Two kinds in which "red" is hard and "blue" easy."""
    return kind_of("letters", "red", "blue") + kind_of("reports", "red", "blue", level=0.3)


def other_kind() -> list[Row]:
    """A kind in which it is the other way round."""
    return kind_of("songs", "blue", "red", rows=600)


def read_as_general(rows: list[Row]) -> Fitted:
    targets = targets_of(rows)
    return fit_general(
        [read_lexical(row.prompt) for row in rows],
        quality_table([row.qualities for row in rows], targets),
        targets,
        [row.task for row in rows],
        [fold_of(row.prompt, 3) for row in rows],
    )


def read_as_one(rows: list[Row]) -> Fitted:
    targets = targets_of(rows)
    return fit_router(
        [read_lexical(row.prompt) for row in rows],
        quality_table([row.qualities for row in rows], targets),
        targets,
        [fold_of(row.prompt, 3) for row in rows],
    )


def apgr(scores: Doubles, rows: list[Row]) -> float:
    gains = np.array([row.qualities["large"] - row.qualities["small"] for row in rows])
    return recovery(scores, gains).apgr


def complexities(fitted: Fitted, rows: list[Row]) -> Doubles:
    router = Router(fitted.fit, "")
    return np.array([router.complexity(read_lexical(row.prompt)) for row in rows])


def lengths(rows: list[Row]) -> Doubles:
    return np.array([float(len(row.prompt)) for row in rows])


def test_on_a_kind_where_words_mislead_it_orders_about_as_length_does() -> None:
    known, other = known_kinds(), other_kind()
    by_length = apgr(lengths(other), other)
    assert apgr(complexities(read_as_one(known), other), other) < by_length - 0.1
    assert apgr(complexities(read_as_general(known), other), other) >= by_length - 0.02


def test_on_kinds_that_it_knows_it_is_better_than_length() -> None:
    """Held as strongly, words need a few thousand rows before they say anything."""
    known = [row for name in "abcdef" for row in kind_of(name, "red", "blue", rows=500)]
    fresh = kind_of("fresh", "red", "blue", rows=600)
    assert apgr(complexities(read_as_general(known), fresh), fresh) > apgr(lengths(fresh), fresh)


def test_with_no_rule_to_learn_the_longer_prompt_gains_more() -> None:
    rng = Random(1)
    rows = [
        Row(f"note {number} " * rng.randrange(1, 40), {"small": right, "large": 1.0})
        for number in range(120)
        for right in (0.0, 1.0)
    ]
    router = Router(read_as_general(rows).fit, "")
    short, long = (read_lexical(text) for text in ("Tell me.", "Tell me all of it. " * 40))
    assert router.complexity(long) > router.complexity(short) + 0.02
    assert router.ranked_scores(long).keys() == {"small", "large"}


def test_how_good_models_are_at_a_kind_on_the_whole_says_nothing_of_its_words() -> None:
    """Two kinds told by a word, of different gains, and nothing else to learn in them."""
    rng = Random(2)
    rows = [
        Row(
            f"{word} case {number % 50} of {number}",
            {"small": float(rng.random() < right), "large": 1.0},
            task=word,
        )
        for word, right in (("green", 0.2), ("black", 0.9))
        for number in range(600)
    ]
    green, black = (read_lexical(f"{word} case 7") for word in ("green", "black"))
    told, left_out = (
        router.complexity(green) - router.complexity(black)
        for router in (Router(read(rows).fit, "") for read in (read_as_one, read_as_general))
    )
    assert told > 0.4
    assert abs(left_out) < 0.05


def test_the_mean_gain_of_all_rows_stays_what_it_is() -> None:
    rows = known_kinds()
    fitted = read_as_general(rows)
    gains = [row.qualities["large"] - row.qualities["small"] for row in rows]
    assert complexities(fitted, rows).mean() == pytest.approx(np.mean(gains), abs=1e-3)
    assert (fitted.unseen[:, 0] - fitted.unseen[:, 1]).mean() == pytest.approx(
        np.mean(gains), abs=1e-3
    )


def test_an_outcome_that_is_missing_is_not_a_bad_one() -> None:
    rows = known_kinds()
    some = [
        msgspec.structs.replace(row, qualities={"small": row.qualities["small"]})
        if number % 2
        else row
        for number, row in enumerate(rows)
    ]
    whole, part = (Router(read_as_general(known).fit, "") for known in (rows, some))
    read = read_lexical("red the of and")
    assert part.qualities(read)["large"] == pytest.approx(whole.qualities(read)["large"], abs=0.1)


def test_the_command_makes_the_same_bytes_twice_and_others_than_without_the_flag(
    tmp_path: Path,
) -> None:
    export = tmp_path / "export.jsonl"
    export.write_bytes(b"\n".join(msgspec.json.encode(row) for row in known_kinds()))
    written = []
    for number, flags in enumerate((["--general"], ["--general"], [])):
        output = tmp_path / f"{number}.msgpack"
        assert command.main([str(export), "-o", str(output), "--no-ratings", *flags]) == 0
        written.append(output.read_bytes())
    assert written[0] == written[1] != written[2]
    assert load_router(written[0]).targets == ("large", "small")


def test_its_report_is_of_the_same_recipe() -> None:
    rows = known_kinds() + other_kind()
    report, _ = train(rows, weak="small", strong="large", general=True)
    assert report.apgr is not None
    assert report.calibration_error < 0.1
