"""Which tier a request starts with, where a rule selects among its tiers."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import pytest

from fakes.policies import backend, policy, rule, snapshot, tier, view
from switchboard_dataplane.decision.candidates import next_candidate
from switchboard_dataplane.decision.client import Client
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Decision, Rejection, Tried
from switchboard_dataplane.signals.admission import Waiter
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.learned import Offer, Place, Tries
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
    readings: Mapping[str, Any] | None = None,
    **fields: Any,
) -> list[str]:
    """The tiers in the order in which a request that fails everywhere reaches them."""
    table = SignalTable() if signals is None else signals
    said = {"task": task, "complexity": complexity, **(readings or {})}
    seen = view(readings=said, **fields)
    verdict = decide(made, seen, table, now=now, rng=Random(7))
    assert isinstance(verdict, Decision), verdict
    found, tried = [verdict.candidate.tier.name], [Tried(verdict.candidate)]
    while following := next_candidate(verdict.plan, tried, table, now=now, rng=Random(7)):
        found.append(following.tier.name)
        tried.append(Tried(following))
    return found


ANOTHER = Client("key", "web", "apps")
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
    other = tiers_of(made, signals, complexity=0.1, session="a", now=2.0, client=ANOTHER)
    assert other[0] == "small"
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


# --- a router of the policy's own -----------------------------------------------------------

OWN = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        # As hard as can be, for all alike: a stronger one is worth nothing.
        ({"small": 0.0, "large": 0.0}, "small"),
        ({"small": 0.5, "large": 0.9}, "medium"),
        ({"large": 0.9, "medium": 0.1, "small": 0.1}, "large"),
        ({"small": 0.9, "large": 0.2}, "small"),
        # It does not know the tiers: its best target over its worst, which stands first.
        ({"a": 0.9, "b": 0.9}, "small"),
        ({"a": 0.4, "b": 9.0, "small": 0.8}, "medium"),
        ({"a": -3.0, "b": 0.1}, "large"),
        # One target alone: what it falls short of.
        ({"a": 0.6}, "medium"),
        ({"small": 0.3}, "large"),
    ],
)
def test_an_own_router_says_what_a_stronger_tier_gains(
    said: Mapping[str, float], expected: str
) -> None:
    select = ir.Select("Complexity", thresholds_permille=(300, 600), margin_permille=0, router=OWN)
    readings = {f"router:{OWN}": said}
    assert tiers_of(running(select), readings=readings, complexity=0.99)[0] == expected


def test_what_gains_less_than_nothing_is_as_unsure_as_what_gains_nothing() -> None:
    select = ir.Select("Complexity", thresholds_permille=(15, 600))
    assert tiers_of(running(select), complexity=0.0)[0] == "medium"
    assert tiers_of(running(select), complexity=-0.4)[0] == "medium"


def test_a_share_orders_what_gains_less_than_nothing_too() -> None:
    select = ir.Select("Complexity", strong_share_permille=300)
    tiers = [tier("small", "small"), tier("large", "large")]
    made = snapshot(
        policy("chat", rule("default", *tiers, select=select)), backend("small"), backend("large")
    )
    rng, signals, strong = Random(11), SignalTable(), list[float]()
    for number in range(1_200):
        gain = -rng.random()
        if tiers_of(made, signals, complexity=gain)[0] == "large" and number >= 200:
            strong.append(gain)
    assert len(strong) == pytest.approx(300, abs=40)
    assert min(strong) > -0.45


def test_a_share_goes_by_what_the_strong_tier_gains_where_the_router_knows_both() -> None:
    select = ir.Select("Complexity", strong_share_permille=300, router=OWN)
    tiers = [tier("small", "small"), tier("large", "large")]
    made = snapshot(
        policy("chat", rule("default", *tiers, select=select)), backend("small"), backend("large")
    )
    rng, signals, strong = Random(11), SignalTable(), list[float]()
    for number in range(1_200):
        gain = rng.random()
        # The hardest for both gain nothing.
        said = {f"router:{OWN}": {"small": 0.5 - gain, "large": 0.5}}
        if tiers_of(made, signals, readings=said)[0] == "large" and number >= 200:
            strong.append(gain)
    assert len(strong) == pytest.approx(300, abs=40)
    assert min(strong) > 0.55


@pytest.mark.parametrize(
    ("most", "expected"), [(5_000, "small"), (20_000, "medium"), (10**9, "large"), (1, "small")]
)
def test_the_best_tier_for_the_money_is_taken_or_else_the_cheapest(
    most: int, expected: str
) -> None:
    select = ir.Select("Quality", target_cost_picodollars=most)
    made = running(select, small=priced(600, 1), medium=priced(790, 50), large=priced(800, 500))
    assert tiers_of(made)[0] == expected


# --- what ratings have taught ---------------------------------------------------------------


class Taught:
    """Takes the offer of that number, and says that qualities are these."""

    def __init__(self, number: int = 0, near: Sequence[float] = ()) -> None:
        self.number = number
        self.qualities = list(near)
        self.asked: list[tuple[Place, Any, Sequence[Offer], Tries]] = []

    def pick(
        self, place: Place, context: Any, offers: Sequence[Offer], tries: Tries, chance: float
    ) -> int:
        self.asked.append((place, context, offers, tries))
        return self.number

    def near(self, place: Place, embedding: Any, offers: Sequence[Offer]) -> list[float]:
        self.asked.append((place, embedding, offers, Tries(0.0, 0.0)))
        return self.qualities


def taught(number: int = 0, near: Sequence[float] = ()) -> tuple[SignalTable, Taught]:
    signals = SignalTable()
    signals.learner = learner = Taught(number, near)
    return signals, learner


BANDIT = ir.Select(
    "Bandit",
    bandit=ir.Bandit(explore_permille=30, cost_weight_permille=200, min_quality_permille=400),
)
CONTEXT = {"context": (1.0, 0.5)}


def test_a_bandit_is_offered_what_may_serve_and_what_it_costs() -> None:
    forbids = ir.Guardrail("no", "ai/chat", forbids=("ai/medium",))
    made = running(BANDIT, forbids, small=priced(600, 10), large=priced(800, 40))
    signals, learner = taught(number=1)
    assert tiers_of(made, signals, readings=CONTEXT) == ["large", "small"]
    ((place, context, offers, tries),) = learner.asked
    assert (place, context) == (Place("ai/chat", "default"), (1.0, 0.5))
    assert [(offer.tier, offer.quality) for offer in offers] == [("small", 0.6), ("large", 0.8)]
    assert [offer.cost for offer in offers] == pytest.approx([0.05, 0.2])
    assert tries == Tries(0.03, 0.4)


def test_a_tier_without_a_price_is_taken_to_be_the_dearest_and_an_unrated_one_to_be_middling() -> (
    None
):
    made = running(BANDIT, small=priced(600, 10))
    signals, learner = taught()
    tiers_of(made, signals, readings=CONTEXT)
    assert [(one.quality, one.cost) for one in learner.asked[0][2]] == [
        (0.6, 0.2),
        (0.5, 0.2),
        (0.5, 0.2),
    ]
    free = running(BANDIT)
    tiers_of(free, signals, readings=CONTEXT)
    assert [one.cost for one in learner.asked[1][2]] == [0.0, 0.0, 0.0]


def test_an_own_router_says_what_a_bandit_may_expect() -> None:
    made = running(ir.Select("Bandit", router=OWN), small=priced(600, 10))
    signals, learner = taught()
    said = {**CONTEXT, f"router:{OWN}": {"small": 0.3, "large": 1.2}}
    tiers_of(made, signals, readings=said)
    place, _, offers, _ = learner.asked[0]
    assert place == Place("ai/chat", "default", OWN)
    assert [offer.quality for offer in offers] == [0.3, 0.5, 1.0]


def test_what_only_one_tier_may_serve_asks_no_bandit() -> None:
    forbids = ir.Guardrail("no", "ai/chat", forbids=("ai/medium", "ai/small"))
    signals, learner = taught()
    assert tiers_of(running(BANDIT, forbids), signals, readings=CONTEXT) == ["large"]
    assert not learner.asked


def test_a_conversation_stays_with_the_tier_that_a_bandit_took() -> None:
    made, (signals, learner) = running(BANDIT), taught(number=1)

    def first(session: str, now: float, made: Snapshot = made) -> str:
        return tiers_of(made, signals, readings=CONTEXT, session=session, now=now)[0]

    assert first("a", 0.0) == "medium"
    learner.number = 2
    assert first("a", 1.0) == "medium"
    assert first("b", 1.0) == "large"
    learner.number = 0
    assert first("b", 2.0) == "large"
    assert first("a", 2 * SESSION_S) == "small"
    asked = len(learner.asked)
    forbids = ir.Guardrail("no", "ai/chat", forbids=("ai/large",))
    assert first("b", 3.0, running(BANDIT, forbids)) == "small"
    assert len(learner.asked) == asked + 1
    # From then on it stays there, though the other one is back.
    assert first("b", 4.0) == "small"


def test_a_request_that_is_decided_again_tries_nothing() -> None:
    made, (signals, learner) = running(BANDIT), taught()
    seen = view(readings={"task": "chat", **CONTEXT})
    waiter = Waiter((0, 0.0, 0), 0.0, lambda: None)
    decide(made, seen, signals, now=0.0, rng=Random(7), waiter=waiter)
    assert learner.asked[0][3] == Tries(0.0, 0.4)


def test_neighbours_select_as_quality_does_by_what_was_seen_nearby() -> None:
    select = ir.Select("Neighbours", max_quality_loss_permille=50)
    made = running(select, small=priced(600, 1), medium=priced(700, 5), large=priced(900, 50))
    signals, learner = taught(near=(0.88, 0.3, 0.9))
    assert tiers_of(made, signals, readings={"embedding": "here"})[0] == "small"
    assert learner.asked[0][1] == "here"
    learner.qualities = [0.2, 0.3, 0.9]
    assert tiers_of(made, signals, readings={"embedding": "here"})[0] == "large"


def test_without_any_lesson_what_is_expected_decides() -> None:
    made = running(BANDIT, small=priced(600, 1), medium=priced(900, 5), large=priced(950, 50))
    assert tiers_of(made, readings=CONTEXT)[0] == "medium"
    select = ir.Select("Neighbours", max_quality_loss_permille=60)
    near = running(select, small=priced(600, 1), medium=priced(900, 5), large=priced(950, 50))
    assert tiers_of(near, readings={"embedding": None})[0] == "medium"


def test_a_quality_is_held_by_moving_the_share() -> None:
    select = ir.Select("Complexity", target_quality_permille=750)
    tiers = [tier("small", "small"), tier("large", "large")]
    made = snapshot(
        policy("chat", rule("default", *tiers, select=select)), backend("small"), backend("large")
    )
    rng, signals, got, strong = Random(11), SignalTable(), list[float](), 0
    for _ in range(3_000):
        score = rng.random()
        taken = tiers_of(made, signals, complexity=score)[0]
        quality = float(rng.random() < (0.9 if taken == "large" else 1.0 - score))
        signals.targets[Place("ai/chat", "default"), 0.75].take(quality)
        got.append(quality)
        strong += taken == "large"
    assert sum(got[1_000:]) / 2_000 == pytest.approx(0.75, abs=0.02)
    # At random it would take more than half.
    assert strong / 3_000 < 0.5


# --- a classifier ---------------------------------------------------------------------------

CLASSIFIER = ir.Select(
    "Classifier",
    thresholds_permille=(300, 600),
    margin_permille=0,
    classifier=ir.Asked("ai/judge"),
)


@pytest.mark.parametrize(
    ("said", "expected"),
    [(0, "small"), (2, "large"), (9, "large"), (-1, "small"), (None, "medium")],
)
def test_a_classifier_names_the_tier_and_the_thresholds_do_where_it_is_silent(
    said: int | None, expected: str
) -> None:
    made = running(CLASSIFIER)
    assert tiers_of(made, complexity=0.4, readings={"classified": said})[0] == expected


def test_what_is_decided_before_the_classifier_was_asked_binds_no_conversation() -> None:
    made, signals = running(CLASSIFIER), SignalTable()
    assert tiers_of(made, signals, complexity=0.9, session="a")[0] == "large"
    said = {"classified": 0}
    assert tiers_of(made, signals, complexity=0.9, readings=said, session="a")[0] == "small"
    said = {"classified": 1}
    assert tiers_of(made, signals, complexity=0.9, readings=said, session="a")[0] == "medium"
    said = {"classified": 0}
    assert tiers_of(made, signals, complexity=0.9, readings=said, session="a")[0] == "medium"
