"""What a diff and a simulation hold to, whatever the policies and the requests."""

import asyncio
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fakes.virtual_time import VirtualTimeLoop
from fakes.wild_stage import Played, play
from fakes.worlds import keyring, read_world
from switchboard_cli.review.compare import compared
from switchboard_cli.review.diff_text import as_json, as_markdown, as_text
from switchboard_cli.review.records import Recorded
from switchboard_cli.review.replay import Replay
from switchboard_cli.review.running import snapshot_of
from switchboard_cli.review.sides import Side, side_of
from switchboard_dataplane.learning.records import decided
from switchboard_policy import ir
from switchboard_policy.compiler.compile import Compiler

CASES: Final = sorted((Path(__file__).parents[1] / "golden/compiler").glob("*.in.yaml"))
#: Its tier has one backend, with a weight.
TWICE: Final = "same-backend-twice.in.yaml"
#: Worlds that are played; of some a fifth the policy logs its decisions.
WORLDS: Final = range(600)
AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


@cache
def side(case: Path) -> Side:
    gateway, world = read_world(case.read_text())
    return side_of(world, Compiler(gateway, keyring()).compile(world))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name.removesuffix(".in.yaml"))
def test_a_set_does_not_differ_from_itself(case: Path) -> None:
    gateway, world = read_world(case.read_text())
    again = side_of(world, Compiler(gateway, keyring()).compile(world))
    assert compared(side(case), again).changes == []


@settings(max_examples=150)
@example(old=CASES[0].with_name("policy-invalid.in.yaml"), new=CASES[0].with_name(TWICE))
@given(old=st.sampled_from(CASES), new=st.sampled_from(CASES))
def test_any_two_sets_differ_in_words_that_are_the_same_each_time(old: Path, new: Path) -> None:
    found = compared(side(old), side(new)).changes
    assert found == compared(side(old), side(new)).changes
    assert found or _effect(side(old)) == _effect(side(new))
    for form in (as_text, as_markdown, as_json):
        assert all(one.kind in form(found, None) for one in found)


def _effect(one: Side) -> object:
    """Return what is in force but for the claims to names, which may come to the same."""
    return {
        name: msgspec.structs.replace(
            policy, models=(), namespace_rank=0, rules=tuple(map(_rule, policy.rules))
        )
        for name, policy in one.policies.items()
    }


def _rule(rule: ir.Rule) -> ir.Rule:
    """Return a rule without the weights that weigh nothing: those of backends that are alone."""
    tiers = tuple(
        tier
        if len(tier.members) > 1
        else msgspec.structs.replace(
            tier, members=tuple(ir.Member(backend=one.backend) for one in tier.members)
        )
        for tier in rule.tiers
    )
    return msgspec.structs.replace(rule, tiers=tiers)


def test_a_log_replayed_against_its_own_policies_goes_by_the_rules_that_it_went_by() -> None:
    told = untold = 0
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        for number in WORLDS:
            played = runner.run(play(number))
            if played.world.change is not None or played.world.policy.learning is None:
                continue
            replay = Replay(snapshot_of(_side_of(played)), seed=0)
            for record in _records(played):
                outcome = replay.decide(record)
                if outcome.untold and not outcome.rule:
                    untold += 1
                elif record.rule:
                    told += 1
                    assert (outcome.policy, outcome.rule) == (record.policy, record.rule), number
    assert told > 150
    assert 0 < untold < told / 2


def _side_of(played: Played) -> Side:
    every = (played.world.policy, *played.world.entries)
    return Side(
        policies={one.name: one for one in every if isinstance(one, ir.Policy)},
        backends={one.name: one for one in every if isinstance(one, ir.Backend)},
        endpoints={one.backend: one for one in every if isinstance(one, ir.Endpoints)},
        clients={},
        policy_specs={},
        backend_specs={},
        reports={},
    )


def _records(played: Played) -> list[Recorded]:
    """Return the requests of a world as they come out of a log."""
    return [
        msgspec.json.decode(
            msgspec.json.encode(decided(outcome, outcome.noted, pod="one", at=AT)), type=Recorded
        )
        for outcome in played.outcomes.values()
        if outcome.noted is not None
    ]
