"""Whatever scores, words and bytes are: shares hold, figures stay in range, loading is total."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.routers import fitted, rows
from switchboard_cli.train.evaluate import recovery
from switchboard_cli.train.store import store_fit
from switchboard_dataplane.choosing.artifact import ArtifactRefused
from switchboard_dataplane.choosing.predict import load_router
from switchboard_dataplane.reading.embedding import shipped_embedder
from switchboard_dataplane.reading.lexical import read_lexical
from switchboard_dataplane.signals.thresholds import ShareTracker, threshold_for

SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=60)
SHARE = st.integers(0, 100).map(lambda percent: percent / 100)
ARTIFACT = store_fit(fitted().fit, rows())
ROUTER = load_router(ARTIFACT)


@given(SCORES, SHARE)
def test_a_threshold_makes_exactly_the_declared_share_strong(
    scores: list[float], share: float
) -> None:
    threshold = threshold_for(scores, share)
    above = sum(score > threshold.score for score in scores)
    equal = sum(score == threshold.score for score in scores)
    assert math.isclose(above + equal * threshold.of_equals, share * len(scores), abs_tol=1e-9)


@given(SCORES, SHARE, st.integers(1, 20))
def test_a_tracker_knows_just_the_last_scores(
    scores: list[float], share: float, window: int
) -> None:
    tracker = ShareTracker(share, start=scores, window=window)
    assert tracker.threshold() == threshold_for(scores[-window:], share)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-1, 1)), min_size=1, max_size=50))
def test_recovery_runs_from_nothing_to_all(pairs: list[tuple[int, int]]) -> None:
    scores = np.array([float(score) for score, _ in pairs])
    gains = np.array([float(gain) for _, gain in pairs])
    if gains.sum() <= 0:
        return
    for quantiles in (None, 10):
        found = recovery(scores, gains, quantiles=quantiles)
        assert (np.diff(found.shares) > 0).all()
        assert (found.shares[0], found.recovered[0]) == (0.0, 0.0)
        assert (found.shares[-1], found.recovered[-1]) == (1.0, 1.0)
        assert 0.0 <= found.cpt(0.5) <= found.cpt(0.8) <= 1.0


@given(st.text(max_size=500))
def test_any_prompt_is_read_and_predicted(text: str) -> None:
    read = read_lexical(text)
    assert all(map(math.isfinite, read.features))
    assert np.isfinite(ROUTER.scores(read)).all()
    vector = shipped_embedder().embed(text)
    assert float(vector @ vector) < 1.0001


@settings(max_examples=300)
@given(st.integers(0, len(ARTIFACT) - 1), st.binary(min_size=1, max_size=4))
def test_bytes_that_were_tampered_with_are_refused_or_run(place: int, patch: bytes) -> None:
    try:
        router = load_router(ARTIFACT[:place] + patch + ARTIFACT[place + len(patch) :])
    except ArtifactRefused:
        return
    assert np.isfinite(router.scores(read_lexical("Prove the theorem, name the animal."))).all()


@given(st.binary(max_size=200))
def test_random_bytes_are_no_router(data: bytes) -> None:
    try:
        load_router(data)
    except ArtifactRefused:
        return
    raise AssertionError(data)
