"""A learned router as bytes, from whoever wrote them."""

import msgspec
import numpy as np
import pytest

from fakes.routers import fitted, rows
from switchboard_cli.train.store import store_fit
from switchboard_dataplane.choosing.artifact import (
    BYTES_MAX,
    Artifact,
    ArtifactRefused,
    Rated,
    decode_artifact,
    digest_of,
    encode_artifact,
)
from switchboard_dataplane.choosing.context import CONTEXT
from switchboard_dataplane.choosing.predict import Router, load_router
from switchboard_dataplane.reading.lexical import read_lexical
from switchboard_dataplane.signals.bandit import Sums

EASY = read_lexical("What is the capital of France?")
HARD = read_lexical("Prove the theorem about every integral.")


@pytest.fixture(scope="module")
def data() -> bytes:
    return store_fit(fitted().fit, rows())


def test_a_router_survives_its_bytes(data: bytes) -> None:
    router, whole = load_router(data), Router(fitted().fit, "")
    assert router.scores(HARD) == pytest.approx(whole.scores(HARD), abs=2e-3)


def test_the_same_rows_give_the_same_bytes(data: bytes) -> None:
    assert store_fit(fitted().fit, list(reversed(rows()))) == data
    assert load_router(data).digest == digest_of(data)


def test_an_artifact_holds_no_prompt_and_no_rare_word(data: bytes) -> None:
    artifact = decode_artifact(data)
    assert {"capital", "theorem"} <= set(artifact.words)
    assert "zanzibar" not in artifact.words
    assert all(row.prompt.encode() not in data for row in rows())


def test_a_router_gains_most_where_the_weak_one_fails(data: bytes) -> None:
    router = load_router(data)
    hard = router.gain(HARD, strong="large", weak="small")
    easy = router.gain(EASY, strong="large", weak="small")
    assert hard > easy + 0.1
    assert router.gain(HARD, strong="small", weak="large") == pytest.approx(-hard)
    # By another sum of single floats, whose order is the machine's.
    assert router.complexity(HARD) == pytest.approx(hard, abs=1e-5)
    assert router.complexity(EASY) == pytest.approx(easy, abs=1e-5)


def test_qualities_stay_between_none_and_all(data: bytes) -> None:
    router = load_router(data)
    for read in (EASY, HARD, read_lexical(""), read_lexical("theorem " * 900)):
        assert set(router.qualities(read)) == {"small", "large"}
        assert all(0.0 <= said <= 1.0 for said in router.qualities(read).values())


def test_an_unknown_name_is_a_key_error(data: bytes) -> None:
    with pytest.raises(KeyError):
        load_router(data).gain(EASY, strong="huge", weak="small")


def test_pruning_keeps_what_pairs_need() -> None:
    pruned = decode_artifact(store_fit(fitted().fit, rows(), words=1, pairs=3))
    assert len(pruned.pairs) == 3 * 8
    assert 2 <= len(pruned.words) <= 7
    load_router(encode_artifact(pruned))


def test_too_many_bytes_are_not_even_read() -> None:
    with pytest.raises(ArtifactRefused, match="at most"):
        decode_artifact(bytes(BYTES_MAX + 1))


@pytest.mark.parametrize("junk", [b"", b"\xc1", b"\x80", b"\x91\x01", b"not it"])
def test_bytes_that_are_no_artifact_are_refused(junk: bytes) -> None:
    with pytest.raises(ArtifactRefused, match="no artifact"):
        decode_artifact(junk)


def halves(*numbers: float) -> bytes:
    return np.array(numbers, "<f2").tobytes()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "format 2"),
        ({"features": ("chars",)}, "lexical features"),
        ({"targets": ()}, "targets"),
        ({"targets": ("large", "large")}, "targets"),
        ({"words": ("a", "a")}, "words"),
        ({"words": ("",)}, "words"),
        ({"words": ("a" * 65,)}, "words"),
        ({"intercepts": (0.5,)}, "intercepts"),
        ({"intercepts": (0.5, float("nan"))}, "intercepts"),
        ({"intercepts": (0.5, 1e30)}, "intercepts"),
        ({"pairs": b"123"}, "pairs"),
        ({"pairs": bytes(16)}, "pairs: all different"),
        ({"pairs": b"\xff" * 8}, "pairs: places"),
        ({"pairs": b"\xff\xff\xff\x7f" * 2}, "pairs: places"),
        ({"pairs": bytes(8 * 200_001)}, "pairs: at most"),
        ({"rarity": b""}, "rarity"),
        ({"coefficients": halves(1.0)}, "coefficients"),
        ({"knots": b""}, "knots"),
        ({"means": b""}, "means"),
        ({"bent": b""}, "bent"),
    ],
)
def test_an_artifact_that_does_not_add_up_is_refused(
    data: bytes, changes: dict[str, object], said: str
) -> None:
    changed = msgspec.structs.replace(decode_artifact(data), **changes)
    with pytest.raises(ArtifactRefused, match=said):
        load_router(encode_artifact(changed))


@pytest.mark.parametrize("field", ["rarity", "coefficients", "knots", "means", "scales", "bent"])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), 3e4])
def test_numbers_that_are_none_are_refused(data: bytes, field: str, number: float) -> None:
    artifact = decode_artifact(data)
    raw = getattr(artifact, field)
    changed = msgspec.structs.replace(artifact, **{field: halves(number) + raw[2:]})
    with pytest.raises(ArtifactRefused, match=field):
        load_router(encode_artifact(changed))


@pytest.mark.parametrize("field", ["rarity", "scales"])
def test_what_divides_is_above_zero(data: bytes, field: str) -> None:
    artifact: Artifact = decode_artifact(data)
    raw = getattr(artifact, field)
    changed = msgspec.structs.replace(artifact, **{field: halves(0.0) + raw[2:]})
    with pytest.raises(ArtifactRefused, match="above 0"):
        load_router(encode_artifact(changed))


def rated(target: str = "small", features: int = len(CONTEXT) + 1) -> Rated:
    sums = Sums(features)
    sums.take(np.ones(features), 0.75)
    return Rated(target, sums.pack())


def test_what_was_rated_survives_its_bytes() -> None:
    router = load_router(store_fit(fitted().fit, rows(), rated=(rated(),)))
    assert set(router.rated) == {"small"}
    assert router.rated["small"].seen == 1.0
    assert router.rated["small"].rated == pytest.approx([0.75] * (len(CONTEXT) + 1))


def test_an_artifact_without_ratings_has_the_bytes_that_it_always_had(data: bytes) -> None:
    assert b"rated" not in data
    assert b"context" not in data


@pytest.mark.parametrize(
    ("ratings", "context"),
    [
        ((rated("nobody"),), CONTEXT),
        ((rated(), rated()), CONTEXT),
        ((rated(features=3),), CONTEXT),
        ((rated(),), ("one",)),
        ((Rated("small", b"\xff" * len(rated().sums)),), CONTEXT),
    ],
    ids=["no target", "twice", "other features", "another context", "no numbers"],
)
def test_ratings_that_cannot_be_are_refused(
    data: bytes, ratings: tuple[Rated, ...], context: tuple[str, ...]
) -> None:
    artifact = msgspec.structs.replace(decode_artifact(data), rated=ratings, context=context)
    with pytest.raises(ArtifactRefused, match="rat"):
        load_router(encode_artifact(artifact))
