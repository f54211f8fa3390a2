"""What ``switchboard train`` fits, says and writes."""

from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest

from fakes.routers import fitted, rows
from switchboard_cli.train import command
from switchboard_cli.train.command import train
from switchboard_cli.train.decisions import BY, Wanted
from switchboard_cli.train.ridge import PARTS, fit_router, learn_vocabulary, predict_all
from switchboard_cli.train.rows import Row, quality_table
from switchboard_dataplane.choosing.context import CONTEXT, context_of
from switchboard_dataplane.choosing.predict import Router, load_router
from switchboard_dataplane.choosing.routers import file_name
from switchboard_dataplane.learning.decisions import Decided, Rated, rated
from switchboard_dataplane.learning.ratings import Rating
from switchboard_dataplane.reading.lexical import read_lexical
from switchboard_dataplane.signals.bandit import Bandit
from switchboard_dataplane.signals.learned import Offer

AT = datetime(2026, 1, 1, tzinfo=UTC)


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


# --- decisions ------------------------------------------------------------------------------


def decision(number: int, *, texts: bool = True, rule: str = "default", **fields: Any) -> Rated:
    """A decision of which the tier that answered was rated: the small one is bad at code."""
    rng = Random(number)
    code, tier = number % 2 == 0, rng.choice(("small", "large"))
    good = rng.random() < (0.9 if tier == "large" or not code else 0.2)
    words = rng.choice(("theorem", "integral") if code else ("capital", "colour"))
    said = {
        "tier": tier,
        "backend": f"ai/{tier}-1",
        "upstream_model": f"model-{tier}",
        "task": "code" if code else "chat",
        "context": context_of("code" if code else "chat", 100),
        "prompt": f"Tell me about the {words} of {number:04x}." if texts else "",
    }
    rating = Rating(decision=f"d{number}", value=float(good), source="feedback", at=AT)
    made = Decided(id=f"d{number}", at=AT, policy="ai/chat", rule=rule, **{**said, **fields})
    return rated(made, [rating])


def exported(folder: Path, *decisions: Rated) -> Path:
    path = folder / "export.jsonl"
    path.write_bytes(b"\n".join(map(msgspec.json.encode, decisions)))
    return path


def test_decisions_teach_a_router_and_a_bandit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported(tmp_path, *map(decision, range(600)))
    pair = ["--weak", "small", "--strong", "large"]
    assert command.main([str(path), "-o", str(tmp_path), *pair]) == 0
    out = capsys.readouterr().out
    # Nobody knows what the other tier would have said.
    assert "APGR" not in out
    (written,) = tmp_path.glob("*.msgpack")
    router = load_router(written.read_bytes())
    assert file_name(router.digest) == written.name
    assert f"{written}: " in out
    hard, easy = read_lexical("Tell me about the theorem."), read_lexical("Tell me the capital.")
    gains = [router.gain(read, strong="large", weak="small") for read in (hard, easy)]
    assert gains[0] > gains[1] + 0.1
    assert sum(sums.seen for sums in router.rated.values()) == 600


def test_without_any_text_a_bandit_is_taught_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported(tmp_path, *(decision(number, texts=False) for number in range(600)))
    assert command.main([str(path), "-o", str(tmp_path / "router")]) == 0
    assert "too few rows have a text" in capsys.readouterr().out
    router = load_router((tmp_path / "router").read_bytes())
    bandit = Bandit(len(CONTEXT), router.rated)
    qualities = router.qualities(read_lexical("anything at all"))
    offers = [Offer(0, "small", qualities["small"]), Offer(1, "large", qualities["large"])]
    code = bandit.estimate(context_of("code", 100), offers)
    chat = bandit.estimate(context_of("chat", 100), offers)
    assert code[0] < 0.45 < code[1]
    assert chat[0] > 0.65
    assert chat[1] > 0.8


def test_rows_without_a_text_are_left_out_where_enough_have_one() -> None:
    wanted = Wanted()
    rows_of = [wanted.row(msgspec.json.encode(decision(n, texts=n % 3 > 0))) for n in range(300)]
    report, data = train([row for row in rows_of if row is not None])
    assert not report.wordless
    assert sum(sums.seen for sums in load_router(data).rated.values()) == 200


def test_the_tiers_of_several_rules_are_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [decision(number, rule=("a", "b")[number % 2]) for number in range(400)]
    path, output = exported(tmp_path, *both), tmp_path / "router"
    assert command.main([str(path), "-o", str(output)]) == 1
    assert "ai/chat a, ai/chat b" in capsys.readouterr().err
    assert command.main([str(path), "-o", str(output), "--rule", "a"]) == 0
    assert sum(sums.seen for sums in load_router(output.read_bytes()).rated.values()) == 200
    assert command.main([str(path), "-o", str(output), "--by", "backend"]) == 0
    assert load_router(output.read_bytes()).targets == ("ai/large-1", "ai/small-1")
    assert command.main([str(path), "-o", str(output), "--by", "model"]) == 0
    assert load_router(output.read_bytes()).targets == ("model-large", "model-small")
    assert command.main([str(path), "-o", str(output), "--policy", "ai/other"]) == 1


def test_whoever_else_was_asked_is_rated_too() -> None:
    made = decision(1)
    ratings = (
        *made.ratings,
        Rating(decision=made.id, value=0.25, source="escalation", at=AT, tier="tiny"),
        Rating(decision=made.id, value=0.25, source="mirror", at=AT, backend="ai/mirror"),
    )
    line = msgspec.json.encode(msgspec.structs.replace(made, ratings=ratings))
    by = {name: Wanted(name).row(line) for name in BY}
    said = {name: set(row.qualities) for name, row in by.items() if row is not None}
    assert said == {
        "tier": {made.tier, "tiny"},
        "backend": {made.backend, "ai/mirror"},
        "model": {made.upstream_model},
    }
    unrated = msgspec.structs.replace(made, ratings=(), quality=None)
    assert Wanted().row(msgspec.json.encode(unrated)) is None


def test_the_sums_of_ratings_may_be_left_out(tmp_path: Path) -> None:
    path, output = write_export(tmp_path / "export.jsonl"), tmp_path / "router"
    assert command.main([str(path), "-o", str(output), "--no-ratings"]) == 0
    assert load_router(output.read_bytes()).rated == {}
    assert train(list(rows()), ratings=False)[1] == output.read_bytes()
