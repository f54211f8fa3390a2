"""What ratings teach: the tier that answered, where its rule learns, and nobody else."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from fakes.policies import backend, policy, rule, snapshot, tier
from switchboard_dataplane.choosing.context import CONTEXT, context_of
from switchboard_dataplane.choosing.routers import Routers
from switchboard_dataplane.learning import lessons
from switchboard_dataplane.learning.decisions import Decided
from switchboard_dataplane.learning.lessons import Lesson, Lessons, places_of
from switchboard_dataplane.learning.ratings import Rating
from switchboard_dataplane.signals.learned import Offer, Place, Tries
from switchboard_dataplane.signals.thresholds import QualityTargets
from switchboard_policy import ir

AT = datetime(2026, 1, 1, tzinfo=UTC)
HERE = Place("ai/chat", "default")
CHAT = context_of("chat", 100)
EMBEDDING = np.array([1.0, 0.0], np.float32)
OFFERS = (Offer(0, "small", 0.5), Offer(1, "large", 0.5))
GREEDY = Tries(0.0, 0.0)


def learning(select: ir.Select | None) -> Lessons:
    """Lessons for a rule of two tiers."""
    said = policy("chat", rule("default", tier("small", "a"), tier("large", "b"), select=select))
    running = snapshot(said, backend("a"), backend("b", quality=(("default", 800),)))
    return Lessons(lambda: running, QualityTargets(), Routers())


def decided(**fields: Any) -> Decided:
    said = {"tier": "small", "policy": "ai/chat", "rule": "default", "context": CHAT}
    return Decided(id="d", at=AT, **{**said, **fields})


def rating(value: float, **fields: Any) -> Rating:
    return Rating(decision="d", value=value, source="feedback", at=AT, **fields)


def test_a_bandit_learns_of_the_tier_that_answered() -> None:
    taught = learning(ir.Select("Bandit"))
    for _ in range(30):
        taught.learn(decided(tier="large"), rating(0.1), {})
    assert taught.pick(HERE, CHAT, OFFERS, GREEDY, 0.5) == 0
    assert taught.bandit(HERE).estimate(CHAT, OFFERS) == pytest.approx([0.5, 0.1], abs=0.1)


def test_a_bandit_hears_what_was_expected_of_the_tiers_that_did_not_answer_too() -> None:
    taught = learning(ir.Select("Bandit"))
    taught.learn(decided(tier="large"), rating(0.1), {})
    seen = {name: told.sums.seen for name, told in taught.bandit(HERE).told().items()}
    assert seen == {"small": 0.0, "large": 1.0}


def test_what_was_expected_of_a_tier_is_what_its_backends_say() -> None:
    taught = learning(ir.Select("Bandit"))
    for _ in range(5):
        taught.learn(decided(tier="large"), rating(0.8), {})
    promised = (OFFERS[0], Offer(1, "large", 0.8))
    assert taught.bandit(HERE).estimate(CHAT, promised)[1] == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (decided(policy="ai/gone"), rating(0.0)),
        (decided(rule="gone"), rating(0.0)),
        (decided(tier="gone"), rating(0.0)),
        (decided(tier=""), rating(0.0)),
        (decided(context=()), rating(0.0)),
        (decided(context=CHAT[1:]), rating(0.0)),
        (decided(), rating(0.0, backend="ai/mirror")),
    ],
    ids=["policy", "rule", "tier", "no tier", "no context", "another context", "a mirror"],
)
def test_a_rating_of_nothing_that_is_in_force_teaches_nothing(
    decision: Decided, said: Rating
) -> None:
    taught = learning(ir.Select("Bandit"))
    for _ in range(30):
        taught.learn(decision, said, {})
    assert taught.bandit(HERE).estimate(CHAT, OFFERS) == pytest.approx([0.5, 0.5])
    assert not taught.changed


def test_a_rule_that_does_not_learn_is_not_taught() -> None:
    for select in (None, ir.Select("Quality"), ir.Select("Complexity", strong_share_permille=300)):
        taught = learning(select)
        taught.learn(decided(), rating(0.0), {"embedding": EMBEDDING})
        assert not taught.changed
        assert not taught.untold
        assert not taught.targets


def test_neighbours_learn_how_a_tier_did_on_such_requests() -> None:
    taught = learning(ir.Select("Neighbours"))
    assert taught.near(HERE, EMBEDDING, OFFERS) == [0.5, 0.5]
    for _ in range(40):
        taught.learn(decided(), rating(1.0), {"embedding": EMBEDDING})
        taught.learn(decided(tier="large"), rating(0.0), {"embedding": EMBEDDING})
    near, far = taught.near(HERE, EMBEDDING, OFFERS), taught.near(HERE, EMBEDDING[::-1], OFFERS)
    assert near[0] > 0.8
    assert near[1] < 0.2
    assert far == pytest.approx([0.5, 0.5])
    assert taught.near(HERE, EMBEDDING, OFFERS[1:]) == near[1:]


def test_an_outcome_without_an_embedding_teaches_no_neighbour() -> None:
    taught = learning(ir.Select("Neighbours"))
    taught.learn(decided(), rating(1.0), {})
    taught.learn(decided(tier="gone"), rating(1.0), {"embedding": EMBEDDING})
    assert not taught.untold


def test_an_embedding_that_cannot_be_compared_gives_way_to_the_own() -> None:
    taught = learning(ir.Select("Neighbours"))
    running = taught.snapshot()
    assert running is not None
    (ours,) = running.policies["ai/chat"].rules
    foreign = Lesson(HERE, "small", 1.0, np.ones(3, np.float32))
    assert taught.take_near(foreign, ours)
    taught.learn(decided(), rating(0.0), {"embedding": EMBEDDING})
    assert taught.near(HERE, EMBEDDING, OFFERS)[0] < 0.5
    with pytest.raises(ValueError, match="finite"):
        taught.take_near(foreign, ours)


def test_what_waits_to_be_told_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "UNTOLD_MAX", 3)
    taught = learning(ir.Select("Neighbours"))
    for _ in range(10):
        taught.learn(decided(), rating(1.0), {"embedding": EMBEDDING})
    assert len(taught.untold) == 3


def test_a_declared_quality_learns_of_every_answer() -> None:
    taught = learning(ir.Select("Complexity", target_quality_permille=800))
    taught.learn(decided(tier="large"), rating(0.3), {})
    assert taught.targets[HERE, 0.8].moved == pytest.approx(0.01)
    assert taught.changed == {HERE}


def test_what_was_learned_for_a_rule_that_is_gone_is_forgotten() -> None:
    selects = {
        "bandit": ir.Select("Bandit"),
        "near": ir.Select("Neighbours"),
        "held": ir.Select("Complexity", target_quality_permille=800),
    }
    tiers = tier("small", "a"), tier("large", "b")
    rules = [rule(name, *tiers, select=select) for name, select in selects.items()]
    running = snapshot(policy("chat", *rules), backend("a"), backend("b"))
    taught = Lessons(lambda: running, QualityTargets(), Routers())
    for name in selects:
        taught.learn(decided(rule=name), rating(0.0), {"embedding": EMBEDDING})
    assert places_of(running) == {Place("ai/chat", name) for name in selects}
    taught.keep_only(set())
    assert not taught.bandits()
    assert not taught.targets
    assert not taught.changed
    near = Place("ai/chat", "near")
    assert taught.near(near, EMBEDDING, OFFERS) == [0.5, 0.5]
    assert len(CONTEXT) == len(CHAT)
