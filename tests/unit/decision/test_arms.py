"""Arms: who is on which, that it stays so, and that a policy without arms knows none."""

from collections import Counter
from random import Random

import pytest

from fakes.policies import backend, policy, rule, snapshot, tier, view
from switchboard_dataplane.decision.arms import arm_for, lower_arms
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.decision.verdict import Decision, Rejection
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir

ARMS = (ir.Arm("control", 90), ir.Arm("cheap", 10))


def running(*arms: ir.Arm, name: str = "chat") -> Snapshot:
    """A policy whose callers on the arm cheap get the small model, and all others the large one."""
    cheap = rule("cheap", tier("small", "small"), match=ir.Match(arms=("cheap",)))
    said = policy(name, cheap, rule("default", tier("large", "large")), arms=arms)
    return snapshot(said, backend("small"), backend("large"))


def rule_of(made: Snapshot, seen: RequestView, *, seed: int = 7) -> str:
    verdict = decide(made, seen, SignalTable(), now=0.0, rng=Random(seed))
    assert isinstance(verdict, Decision), verdict
    return verdict.plan.rule.name


class Silent:
    """Chance that nobody may ask."""

    def random(self) -> float:
        raise AssertionError("chance was asked")


def test_rules_match_by_arm() -> None:
    made = running(*ARMS)
    seen = [view(session=f"s{number}") for number in range(200)]
    rules = [rule_of(made, one) for one in seen]
    assert rules == ["cheap" if one.arm == "cheap" else "default" for one in seen]
    assert set(rules) == {"cheap", "default"}


def test_conditions_read_the_arm() -> None:
    by_arm = rule("cheap", tier("small", "small"), when='request.arm == "cheap"')
    said = policy("chat", by_arm, rule("default", tier("large", "large")), arms=ARMS)
    made = snapshot(said, backend("small"), backend("large"))
    seen = [view(session=f"s{number}") for number in range(200)]
    assert [rule_of(made, one) == "cheap" for one in seen] == [one.arm == "cheap" for one in seen]


def test_a_session_is_always_on_the_same_arm_whatever_chance_says() -> None:
    made = running(*ARMS)
    for number in range(50):
        fields = {"session": f"s{number}"}
        rules = {rule_of(made, view(**fields, user=f"u{seed}"), seed=seed) for seed in range(5)}
        assert len(rules) == 1


def test_without_a_session_the_user_counts() -> None:
    chosen = running(*ARMS).policies["ai/chat"]
    for number in range(50):
        by_user = arm_for(chosen, view(user=f"c{number}"), Silent())
        assert by_user == arm_for(chosen, view(session=f"c{number}"), Silent())
        assert by_user == arm_for(chosen, view(session=f"c{number}", user="x"), Silent())


def test_without_either_chance_says_and_the_next_decision_on_the_request_keeps_it() -> None:
    made, seen = running(*ARMS), view()
    found = {rule_of(made, view(), seed=seed) for seed in range(100)}
    assert found == {"cheap", "default"}
    first = rule_of(made, seen, seed=1)
    assert {rule_of(made, seen, seed=seed) for seed in range(100)} == {first}


def test_an_arm_that_is_gone_is_left() -> None:
    seen = view()
    rule_of(running(ir.Arm("old")), seen)
    assert seen.arm == "old"
    rule_of(running(*ARMS), seen)
    assert seen.arm in {"control", "cheap"}
    rule_of(running(), seen)
    assert seen.arm == ""


def test_a_policy_without_arms_asks_for_no_chance_and_names_none() -> None:
    seen = view(session="s")
    verdict = decide(running(), seen, SignalTable(), now=0.0, rng=Silent())
    assert isinstance(verdict, Decision)
    assert seen.arm == ""


def test_nobody_is_on_an_arm_without_weight() -> None:
    assert [one.name for one in lower_arms((ir.Arm("off", 0), ir.Arm("on", 1)))] == ["on"]
    chosen = running(ir.Arm("control", 1), ir.Arm("cheap", 0)).policies["ai/chat"]
    found = {arm_for(chosen, view(session=f"s{number}"), Random(1)) for number in range(500)}
    assert found == {"control"}


def test_a_rejected_request_has_an_arm_too() -> None:
    only_cheap = rule("cheap", tier("small", "small"), match=ir.Match(arms=("cheap",)))
    made = snapshot(policy("chat", only_cheap, arms=(ir.Arm("control"),)), backend("small"))
    seen = view(session="s")
    assert isinstance(decide(made, seen, SignalTable(), now=0.0, rng=Random(1)), Rejection)
    assert seen.arm == "control"


def test_comparisons_of_two_policies_are_independent() -> None:
    halves = (ir.Arm("a"), ir.Arm("b"))
    one = running(*halves, name="one").policies["ai/one"]
    other = running(*halves, name="other").policies["ai/other"]
    pairs = Counter(
        (arm_for(one, seen, Silent()), arm_for(other, seen, Silent()))
        for seen in (view(session=f"s{number}") for number in range(4_000))
    )
    assert len(pairs) == 4
    assert all(count == pytest.approx(1_000, abs=120) for count in pairs.values())


@pytest.mark.parametrize("caller", ["ä", "\udcff", "\ud800x", "\0"])
def test_any_text_names_a_caller(caller: str) -> None:
    chosen = running(*ARMS).policies["ai/chat"]
    assert arm_for(chosen, view(session=caller), Silent()) in {"control", "cheap"}
