"""What is true now, for a decision that nobody acts on: the same signals, and no trace left.

A decision remembers things in the signals (a turn of the weights, a conversation's tier, the score
of a request). A shadow lets it, and the table that requests are decided by stays as it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from switchboard_dataplane.signals.endpoints import BackendLoad, SignalTable
from switchboard_dataplane.signals.learned import Learner, Offer, Place, Tries
from switchboard_dataplane.signals.tier_loads import TierLoad


@dataclass(frozen=True, slots=True)
class _Quiet:
    """Says what was learned, and tries nothing: what is tried is counted."""

    learner: Learner

    def pick(
        self, place: Place, context: Any, offers: Sequence[Offer], tries: Tries, chance: float
    ) -> int:
        return self.learner.pick(place, context, offers, Tries(0.0, tries.min_quality), chance)

    def near(self, place: Place, embedding: Any, offers: Sequence[Offer]) -> list[float]:
        return self.learner.near(place, embedding, offers)


def shadow_of(
    signals: SignalTable,
    *,
    policy: str,
    rules: Iterable[str],
    conversation: str,
    endpoints: Mapping[str, Iterable[str]],
    now: float,
) -> SignalTable:
    """Return a table in which decisions on one conversation see what they would see.

    ``endpoints`` are the ids of those that it may send to, by backend.
    """
    shadow = SignalTable()
    for name, ids in endpoints.items():
        shadow.update({one: signals[one] for one in ids if one in signals})
        # A load of its own: asking for a queue makes one, which must not be told of what is freed.
        shadow.loads[name] = BackendLoad(signals.backend(name).in_flight, signals.queues.get(name))
    shadow.ejected, shadow.marks = signals.ejected, signals.marks
    shadow.queues.update(signals.queues)
    shadow.waking.update(signals.waking)
    shadow.histories, shadow.learner = signals.histories, _Quiet(signals.learner)
    shadow.turns.update({key: at for key, at in signals.turns.items() if key[0] == policy})
    shadow.tier_loads.update(
        {key: _copied(one) for key, one in signals.tier_loads.items() if key[0] == policy}
    )
    shadow.shares.update(
        {key: deepcopy(one) for key, one in signals.shares.items() if key[0].policy == policy}
    )
    shadow.targets.update(
        {key: deepcopy(one) for key, one in signals.targets.items() if key[0].policy == policy}
    )
    for rule in rules:
        held = signals.sessions.held((policy, rule, conversation), now)
        if held is not None:
            shadow.sessions.hold((policy, rule, conversation), held, now)
    return shadow


def _copied(load: TierLoad) -> TierLoad:
    return TierLoad(
        at=load.at,
        used=load.used,
        capacity=load.capacity,
        in_flight=load.in_flight,
        ttft_s=load.ttft_s,
        engines_wait_s=load.engines_wait_s,
        passed=set(load.passed),
    )
