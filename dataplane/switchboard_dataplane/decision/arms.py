"""Which arm of a policy's comparison a caller is on: the same one in every pod, for as long as it
is there.

Every arm draws a waiting time that belongs to it and to the caller, exponential at the rate of its
weight; the shortest wins. So shares are those of the weights, and a change of weights moves hardly
more callers than the shares that change: at most 2d / (1 + d) of them, where d of them have to
move, which is as few as can be without remembering anybody (Manasse, McSherry and Talwar, 2010;
Bavarian et al., 2020).
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from math import log
from typing import Final

from switchboard_dataplane.decision.hashing import mixed, place_of
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Arm, Policy
from switchboard_dataplane.decision.scene import Rng
from switchboard_policy import ir

#: As many bits as a float holds of a number in (0, 1).
_BITS: Final = 53


def lower_arms(arms: Iterable[ir.Arm]) -> tuple[Arm, ...]:
    """Return the running form of the arms that anybody is on."""
    return tuple(
        Arm(name=arm.name, weight=arm.weight, place=place_of(arm.name.encode()))
        for arm in arms
        if arm.weight > 0
    )


def arm_for(policy: Policy, view: RequestView, rng: Rng) -> str:
    """Return the arm of a request's session, else of its user; without either one by chance.

    "" where the policy compares nothing. What an earlier decision on the same request drew by
    chance stays.
    """
    arms = policy.arms
    if not arms:
        return ""
    caller = view.session or view.user
    if caller:
        return arm_at(arms, _place_of(policy.name, caller))
    if view.arm and any(arm.name == view.arm for arm in arms):
        return view.arm
    return arm_at(arms, int(rng.random() * 2.0**64))


def arm_at(arms: Sequence[Arm], place: int) -> str:
    """Return the arm of the caller at a place, a number of 64 bits; "" without arms."""
    best, least = "", 0.0
    for arm in arms:
        share = (mixed(arm.place ^ place) >> 64 - _BITS) + 0.5
        waits = (_BITS * log(2.0) - log(share)) / arm.weight
        if not best or waits < least:
            best, least = arm.name, waits
    return best


def _place_of(policy: str, caller: str) -> int:
    # With the policy's name: comparisons are independent, and of where affinity sends a caller.
    key = f"{policy}\0{caller}".encode(errors="replace")
    return int.from_bytes(blake2b(key, digest_size=8).digest())
