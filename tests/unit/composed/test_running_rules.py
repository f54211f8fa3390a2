"""What a rule that composes answers becomes: who is asked for what, one by one."""

from typing import Any

from fakes.policies import backend, policy, rule, snapshot, tier
from switchboard_dataplane.decision.running import Policy, Rule
from switchboard_policy import ir

TIERS = tier("small", ("a", 90), ("b", 10)), tier("large", "b", "c")


def running(made: ir.Rule, **fields: Any) -> tuple[Policy, Rule]:
    built = snapshot(policy("chat", made, **fields), *map(backend, "abc")).policies["ai/chat"]
    return built, built.rules[0]


def names_of(built: Policy, mask: int) -> set[str]:
    return {name for number, name in enumerate(built.backends) if mask >> number & 1}


def test_a_plain_rule_composes_nothing() -> None:
    built, made = running(rule("default", *TIERS))
    assert (made.composed, made.classifies, made.steps) == (False, False, ())
    assert built.alone == {}


def test_a_cascade_climbs_its_own_tiers() -> None:
    _, made = running(rule("default", *TIERS, cascade=ir.Cascade(when="true")))
    assert made.composed
    assert [step.tiers for step in made.steps] == [(one,) for one in made.tiers]
    assert [step.name for step in made.steps] == ["default", "default"]


def test_an_ensemble_asks_one_backend_at_a_time_whatever_its_weight() -> None:
    built, made = running(rule("default", *TIERS, ensemble=ir.Ensemble(2)))
    asked = [(names_of(built, step.mask), step.tiers[0].name) for step in made.steps]
    assert asked == [
        ({"ai/a"}, "small"),
        ({"ai/b"}, "small"),
        ({"ai/b"}, "large"),
        ({"ai/c"}, "large"),
    ]
    assert not any(step.tiers[0].weights for step in made.steps)


def test_whoever_is_asked_has_a_rule_alone() -> None:
    made = rule(
        "default",
        *TIERS,
        cascade=ir.Cascade(agreement="ai/c", judge=ir.Judge(ir.Asked(""))),
        mirror=ir.Mirror("ai/d", 1_000, 1),
    )
    learning = ir.Learning(judge=ir.Asked("ai/e"))
    built, _ = running(made, learning=learning)
    found = {name: names_of(built, one.mask) for name, one in built.alone.items()}
    assert found == {"ai/c": {"ai/c"}, "": set(), "ai/d": {"ai/d"}, "ai/e": {"ai/e"}}


def test_a_select_by_a_classifier_is_no_composition() -> None:
    select = ir.Select("Classifier", classifier=ir.Asked("ai/c"))
    built, made = running(rule("default", *TIERS, select=select))
    assert (made.composed, made.classifies) == (False, True)
    # What the decision hands on is one of these.
    assert all(start.classifies for start in made.starts)
    assert set(built.alone) == {"ai/c"}
