"""Recorded requests that would go elsewhere by another set of policies, and what that costs."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from switchboard_cli.review.costs import NOTHING, Cost, Prices
from switchboard_cli.review.records import Recorded
from switchboard_cli.review.renames import renamed_parts
from switchboard_cli.review.replay import Outcome, Replay
from switchboard_cli.review.sides import Side
from switchboard_dataplane.decision.running import Snapshot

#: More ways than this are counted together.
MOVES_MAX: Final = 500
_OTHERS: Final = ("elsewhere", "elsewhere")


@dataclass(slots=True)
class Move:
    """Requests that go from one place to another, by expectation, and their cost."""

    requests: float = 0.0
    before: Cost = NOTHING
    after: Cost = NOTHING
    unpriced: int = 0


@dataclass(slots=True)
class Moves:
    """All that moved; ``untold`` are those of which it cannot be told, by what is needed."""

    requests: int = 0
    unreadable: int = 0
    without_inputs: int = 0
    moved: float = 0.0
    refused: int = 0
    before: Cost = NOTHING
    after: Cost = NOTHING
    unpriced: int = 0
    untold: Counter[str] = field(default_factory=Counter[str])
    ways: dict[tuple[str, str], Move] = field(default_factory=dict[tuple[str, str], Move])


def moves_of(
    records: Iterable[Recorded | None],
    old: tuple[Side, Snapshot],
    new: tuple[Side, Snapshot],
    *,
    seed: int,
) -> Moves:
    """Replay a log against both sets; memory does not grow with the log."""
    moves = Moves()
    was, now = Replay(old[1], seed=seed), Replay(new[1], seed=seed, moved=_moved(old[0], new[0]))
    prices = Prices(old[0].backends), Prices(new[0].backends)
    names = _rule_names(old[0], new[0])
    for record in records:
        if record is None:
            moves.unreadable += 1
            continue
        moves.requests += 1
        moves.without_inputs += record.inputs is None
        one, other = was.decide(record), now.decide(record)
        untold = one.untold or other.untold
        if untold:
            known = untold in moves.untold or len(moves.untold) < MOVES_MAX
            moves.untold[untold if known else "other things"] += 1
            continue
        costs = prices[0].of(one, record.tokens), prices[1].of(other, record.tokens)
        _take(moves, one, other, names, costs)
    return moves


def _take(
    moves: Moves,
    one: Outcome,
    other: Outcome,
    names: Mapping[tuple[str, str], str],
    costs: tuple[Cost | None, Cost | None],
) -> None:
    before, after = costs
    if before is None or after is None:
        moves.unpriced += 1
    else:
        moves.before += before
        moves.after += after
    share = _share(one, other, names)
    if not share:
        return
    moves.moved += share
    moves.refused += bool(other.refused and not one.refused)
    key = _place(one), _place(other)
    if key not in moves.ways and len(moves.ways) >= MOVES_MAX:
        key = _OTHERS
    way = moves.ways.setdefault(key, Move())
    way.requests += share
    if before is None or after is None:
        way.unpriced += 1
    else:
        way.before += before
        way.after += after


def _share(one: Outcome, other: Outcome, names: Mapping[tuple[str, str], str]) -> float:
    """Return how much of a request goes elsewhere, by another rule or to another backend."""
    rule = names.get((one.policy, one.rule), one.rule)
    same = (one.policy, rule, one.refused) == (other.policy, other.rule, other.refused)
    if not same or set(one.either) != set(other.either):
        return 1.0
    was, now = dict(one.shares), dict(other.shares)
    return sum(max(0.0, share - was.get(name, 0.0)) for name, share in now.items())


def _place(outcome: Outcome) -> str:
    rule = f'{outcome.policy} rule "{outcome.rule}"' if outcome.rule else outcome.policy
    if outcome.refused:
        return f"{rule}: refused ({outcome.refused})".removeprefix(": ")
    if outcome.either:
        return f"{rule}: {' or '.join(outcome.either)}"
    if len(outcome.shares) == 1:
        return f"{rule}: {outcome.shares[0][0]}"
    told = ", ".join(f"{name} {100 * share:.4g} %" for name, share in outcome.shares)
    return f"{rule}: {told}"


def _moved(old: Side, new: Side) -> dict[str, frozenset[str]]:
    """Return the facts that were recorded of another policy than the new one, by policy."""
    found: dict[str, frozenset[str]] = {}
    for name, policy in new.policies.items():
        was = old.policies.get(name)
        if was is not None:
            facts = {"signals.intents"} if was.intents != policy.intents else set[str]()
            facts |= {"request.arm"} if was.arms != policy.arms else set()
            found[name] = frozenset(facts)
    return found


def _rule_names(old: Side, new: Side) -> dict[tuple[str, str], str]:
    return {
        (name, one): other
        for name, policy in new.policies.items()
        if name in old.policies
        for one, other in renamed_parts(old.policies[name].rules, policy.rules).items()
    }
