"""Which tier a request starts with, where a rule selects among its tiers."""

from random import Random
from typing import Any

import pytest

from fakes.policies import backend, policy, rule, snapshot, tier, view
from switchboard_dataplane.decision.candidates import next_candidate
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Decision, Rejection, Tried
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.sessions import SESSION_S
from switchboard_policy import ir

NAMES = ("small", "medium", "large")


def running(select: ir.Select, *guardrails: ir.Guardrail, **backends: Any) -> Snapshot:
    """Three tiers of one backend each, from the weakest to the strongest."""
    tiers = [tier(name, name) for name in NAMES]
    entries = [backend(name, **backends.get(name, {})) for name in NAMES]
    said = policy("chat", rule("default", *tiers, select=select), guardrails=guardrails)
    return snapshot(said, *entries)


def tiers_of(
    made: Snapshot,
    signals: SignalTable | None = None,
    *,
    now: float = 0.0,
    task: str = "chat",
    complexity: float = 0.5,
    **fields: Any,
) -> list[str]:
    """The tiers in the order in which a request that fails everywhere reaches them."""
    table = SignalTable() if signals is None else signals
    seen = view(readings={"task": task, "complexity": complexity}, **fields)
    verdict = decide(made, seen, table, now=now, rng=Random(7))
    assert isinstance(verdict, Decision), verdict
    found, tried = [verdict.candidate.tier.name], [Tried(verdict.candidate)]
    while following := next_candidate(verdict.plan, tried, table, now=now, rng=Random(7)):
        found.append(following.tier.name)
        tried.append(Tried(following))
    return found


BY_COMPLEXITY = ir.Select("Complexity", thresholds_permille=(300, 600), margin_permille=0)


@pytest.mark.parametrize(
    ("complexity", "expected"),
    [
        (0.0, ["small", "medium", "large"]),
        (0.299, ["small", "medium", "large"]),
        (0.3, ["medium", "large", "small"]),
        (0.599, ["medium", "large", "small"]),
        (0.6, ["large", "medium", "small"]),
        (1.0, ["large", "medium", "small"]),
    ],
)
def test_complexity_selects_by_thresholds_then_up_then_down(
    complexity: float, expected: list[str]
) -> None:
    assert tiers_of(running(BY_COMPLEXITY), complexity=complexity) == expected


@pytest.mark.parametrize(("stronger", "expected"), [(True, "medium"), (False, "small")])
def test_within_the_margin_the_declared_side_wins(*, stronger: bool, expected: str) -> None:
    select = ir.Select("Complexity", thresholds_permille=(300, 600), stronger_when_unsure=stronger)
    assert tiers_of(running(select), complexity=0.29)[0] == expected
    assert tiers_of(running(select), complexity=0.31)[0] == expected
    assert tiers_of(running(select), complexity=0.27)[0] == "small"
    assert tiers_of(running(select), complexity=0.33)[0] == "medium"


def test_without_downgrade_no_weaker_tier_ever_serves() -> None:
    select = ir.Select("Complexity", thresholds_permille=(300, 600), downgrade=False)
    assert tiers_of(running(select), complexity=0.5) == ["medium", "large"]
    forbids = ir.Guardrail("no", "ai/chat", forbids=("ai/medium", "ai/large"))
    seen = view(readings={"task": "chat", "complexity": 0.5})
    verdict = decide(running(select, forbids), seen, SignalTable(), now=0.0, rng=Random(7))
    assert isinstance(verdict, Rejection)


def test_a_guardrail_holds_whatever_is_selected() -> None:
    forbids = ir.Guardrail("no-large", "ai/chat", forbids=("ai/large",))
    assert tiers_of(running(BY_COMPLEXITY, forbids), complexity=0.9) == ["medium", "small"]


def test_tasks_select_by_the_table_and_the_first_tier_takes_the_others() -> None:
    select = ir.Select("Task", tasks=(("code", 2), ("math", 1)))
    assert tiers_of(running(select), task="code")[0] == "large"
    assert tiers_of(running(select), task="math")[0] == "medium"
    assert tiers_of(running(select), task="creative")[0] == "small"


def priced(quality: int, price: int, **tasks: int) -> dict[str, Any]:
    said = tuple(sorted({"default": quality, **tasks}.items()))
    return {
        "quality": said,
        "pricing": ir.Pricing(input_picodollars=price, output_picodollars=price),
    }


@pytest.mark.parametrize(
    ("loss", "task", "expected"),
    [
        (0, "chat", "large"),
        (20, "chat", "medium"),
        (300, "chat", "small"),
        (20, "code", "small"),
        (0, "math", "medium"),
    ],
    ids=["the-best", "near-the-best", "much-may-be-lost", "good-at-it", "equals-the-cheaper"],
)
def test_quality_selects_the_cheapest_that_comes_near_the_best(
    loss: int, task: str, expected: str
) -> None:
    select = ir.Select("Quality", max_quality_loss_permille=loss)
    made = running(
        select,
        small=priced(600, 1, code=790),
        medium=priced(790, 5, math=900),
        large=priced(800, 50, math=900),
    )
    assert tiers_of(made, task=task)[0] == expected


def test_quality_looks_at_what_may_serve_alone() -> None:
    select = ir.Select("Quality", max_quality_loss_permille=20)
    forbids = ir.Guardrail("no", "ai/chat", forbids=("ai/large", "ai/medium"))
    made = running(select, forbids, small=priced(100, 1), large=priced(800, 50))
    assert tiers_of(made) == ["small"]


@pytest.mark.parametrize(
    ("asked", "expected"), [(0.5, "small"), (0.61, "medium"), (0.79, "medium"), (0.95, "large")]
)
def test_what_the_caller_asks_for_is_the_least(asked: float, expected: str) -> None:
    made = running(
        BY_COMPLEXITY, small=priced(600, 1), medium=priced(790, 5), large=priced(800, 50)
    )
    assert tiers_of(made, complexity=0.0, min_quality=asked)[0] == expected


def test_a_conversation_keeps_its_tier_unless_it_needs_a_stronger_one() -> None:
    made, signals = running(BY_COMPLEXITY), SignalTable()

    def first(complexity: float, session: str, now: float) -> str:
        return tiers_of(made, signals, complexity=complexity, session=session, now=now)[0]

    assert first(0.5, "a", 0.0) == "medium"
    assert first(0.1, "a", 1.0) == "medium"
    assert first(0.1, "b", 1.0) == "small"
    assert first(0.9, "a", 2.0) == "large"
    assert first(0.1, "a", 2.0 + SESSION_S - 1) == "large"
    assert first(0.1, "a", 2.0 + 3 * SESSION_S) == "small"
    loose = running(
        ir.Select("Complexity", thresholds_permille=(300, 600), margin_permille=0, sticky=False)
    )
    assert tiers_of(loose, signals, complexity=0.9, session="c")[0] == "large"
    assert tiers_of(loose, signals, complexity=0.1, session="c")[0] == "small"


def test_a_share_is_held_whatever_the_scores_are() -> None:
    select = ir.Select("Complexity", strong_share_permille=300)
    tiers = [tier("small", "small"), tier("large", "large")]
    made = snapshot(
        policy("chat", rule("default", *tiers, select=select)), backend("small"), backend("large")
    )
    rng, signals = Random(11), SignalTable()
    for shift in (0.0, 0.5):
        # Half of the scores are all the same, and after the shift none is as it was.
        scores = [shift + (0.2 if rng.random() < 0.5 else rng.random() / 2) for _ in range(1_600)]
        found = [tiers_of(made, signals, complexity=score)[0] for score in scores]
        assert abs(found[600:].count("large") / 1_000 - 0.3) < 0.04
