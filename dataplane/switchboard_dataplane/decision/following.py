"""What comes after an attempt that failed: another candidate, a wait, or nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from switchboard_dataplane.decision.candidates import TRIES_PER_TIER, bits, next_candidate
from switchboard_dataplane.decision.eligible import abilities_of
from switchboard_dataplane.decision.resting import chance_of, next_return
from switchboard_dataplane.decision.running import Backend
from switchboard_dataplane.decision.scene import Rng
from switchboard_dataplane.decision.verdict import Candidate, Plan, Tried
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.marks import spread_of


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is free: wait until ``until`` (the event loop's time), for whoever is free then.

    With ``candidate`` for that one, which asked for it. ``asked_s`` is how long it asked to wait;
    the rest of the time keeps requests from coming back all at once.
    """

    until: float
    asked_s: float
    candidate: Candidate | None = None


class Now:
    """What a step is taken by: time and chance, the end of the deadline, what was waited so far.

    ``allow_repeat`` draws on the retry budget.
    """

    def __init__(
        self,
        now: float,
        until: float,
        rng: Rng,
        waited_s: float,
        allow_repeat: Callable[[], bool],
    ) -> None:
        self.now: Final = now
        self.until: Final = until
        self.rng: Final = rng
        self.waited_s: Final = waited_s
        self.allow_repeat: Final = allow_repeat


def follow(
    plan: Plan, tried: Sequence[Tried], signals: SignalTable, at: Now
) -> Candidate | Wait | None:
    """Return what comes after these attempts, in order; None if nothing is left.

    A backend that stayed silent comes after all others. One that limits its calls, and says for
    how long, is waited for if that is short and its tier has nothing else that is free. Another
    attempt at a backend that has failed this request draws on the retry budget.
    """
    if len(tried) >= plan.policy.spec.attempts:
        return None
    # What was only slower than another has not failed.
    tried = [one for one in tried if one.failure != "lost"]
    found = _past_silence(plan, tried, signals, at)
    wait = _wait_for_last(plan, tried, found, at)
    if wait is not None and at.allow_repeat():
        return wait
    if found is not None and _repeats(found, tried) and not at.allow_repeat():
        spent = [replace(one, again=False, whole_backend=True) for one in tried]
        found = next_candidate(plan, spent, signals, now=at.now, rng=at.rng)
    return found or _wait_for_return(plan, tried, signals, at)


def others_left(plan: Plan, tried: Sequence[Tried]) -> bool:
    """Say whether an attempt is left, and an endpoint that had none, whatever it does now."""
    if len(tried) >= plan.policy.spec.attempts:
        return False
    spent = {one.candidate.endpoint.id for one in tried}
    given_up = {one.candidate.endpoint.backend.name for one in tried if one.whole_backend}
    for number in bits(plan.eligible & plan.rule.mask):
        backend = plan.snapshot.backends.get(plan.policy.backends[number])
        if backend is not None and backend.name not in given_up:
            for endpoint in backend.endpoints:
                if endpoint.id not in spent:
                    return True
    return False


def widen(plan: Plan, backend: Backend, told_tokens: int) -> Plan | None:
    """Return the plan with the backends alone whose window is larger than this one's, if any is.

    ``told_tokens`` is the window that it told of itself, 0 if it did not.
    """
    window = told_tokens or backend.spec.capabilities.context_window_tokens
    if not window:
        return None
    wider = 0
    for tokens, bit in abilities_of(plan.snapshot, plan.policy).windows:
        if tokens > window:
            wider |= bit
    eligible = plan.eligible & wider
    return plan.narrowed(eligible) if eligible else None


def _past_silence(
    plan: Plan, tried: Sequence[Tried], signals: SignalTable, at: Now
) -> Candidate | None:
    if any(one.failure == "timeout" for one in tried):
        others = [
            replace(one, whole_backend=True) if one.failure == "timeout" else one for one in tried
        ]
        found = next_candidate(plan, others, signals, now=at.now, rng=at.rng)
        if found is not None and not found.panic:
            return found
    return next_candidate(plan, tried, signals, now=at.now, rng=at.rng)


def _wait_for_last(
    plan: Plan, tried: Sequence[Tried], found: Candidate | None, at: Now
) -> Wait | None:
    """Return the wait for the last backend that was tried, if it asked for one that can be had."""
    if not tried or (asked_s := tried[-1].retry_after_s) is None:
        return None
    last = tried[-1]
    here = last.candidate.tier_index
    if last.failure == "rate_limited":
        if found is not None and found.tier_index == here:
            return None
    elif last.failure != "overloaded" or found is not None:
        return None
    if sum(1 for one in tried if one.candidate.tier_index == here) >= TRIES_PER_TIER:
        return None
    until = at.now + asked_s + chance_of(plan, at.rng) * spread_of(asked_s)
    return _bounded(plan, Wait(until, asked_s, last.candidate), at)


def _wait_for_return(
    plan: Plan, tried: Sequence[Tried], signals: SignalTable, at: Now
) -> Wait | None:
    back = next_return(plan, tried, signals, now=at.now, rng=at.rng)
    return None if back is None else _bounded(plan, Wait(back.at, back.in_s), at)


def _bounded(plan: Plan, wait: Wait, at: Now) -> Wait | None:
    """Return the wait if the policy allows it, all waits of the request together."""
    most_s = plan.policy.spec.max_retry_after_wait_ms / 1000
    return wait if at.waited_s + wait.asked_s <= most_s and wait.until < at.until else None


def _repeats(candidate: Candidate, tried: Sequence[Tried]) -> bool:
    name = candidate.endpoint.backend.name
    return any(one.candidate.endpoint.backend.name == name for one in tried)
