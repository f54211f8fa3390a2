"""Who is left alone for now: what a plan loses to the marks, and when the first of it returns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from switchboard_dataplane.decision.running import Backend, Endpoint
from switchboard_dataplane.decision.scene import Rng
from switchboard_dataplane.decision.verdict import Plan, Tried
from switchboard_dataplane.errors import Failure, UpstreamAuth, UpstreamError
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.marks import (
    REFUSED_REST_S,
    Mark,
    Marks,
    Rest,
    credential_subject,
)


@dataclass(frozen=True, slots=True)
class Return:
    """The first of those that rest returns in ``in_s`` seconds; to this request at ``at``."""

    failure: Failure
    in_s: float
    at: float


def leave_resting(
    plan: Plan, tried: Sequence[Tried], signals: SignalTable, *, now: float, rng: Rng
) -> Plan:
    """Return the plan without the backends and endpoints that rest: itself if none does.

    What only announced that its limit is used up still serves where nothing else is left, and so
    do endpoints that terminate.
    """
    marks, terminating = signals.marks, plan.snapshot.terminating
    if now >= marks.horizon and not terminating:
        return plan
    chance = chance_of(plan, rng)
    refused, last = 0, _mask_of(plan, terminating)
    resting: set[str] = set()
    for number, backend, rests in _marked(plan, marks):
        rest = _rest_of(backend, rests, now, chance)
        if rest is None:
            resting |= {subject for subject, one in rests.items() if one.ends(chance) > now}
        elif rest.announced:
            last |= 1 << number
        else:
            refused |= 1 << number
    awake = plan.narrowed(plan.eligible & ~refused & ~last, frozenset(resting))
    if last and not has_endpoints(awake, beside=tried):
        awake = plan.narrowed(plan.eligible & ~refused, frozenset(resting))
    return plan if awake.eligible == plan.eligible and not resting else awake


def _mask_of(plan: Plan, names: frozenset[str]) -> int:
    """Return the eligible backends of these names."""
    if not names:
        return 0
    mask = 0
    for number, name in enumerate(plan.policy.backends):
        if name in names:
            mask |= 1 << number
    return mask & plan.eligible


def has_endpoints(plan: Plan, *, beside: Sequence[Tried] = ()) -> bool:
    """Say whether an eligible backend that was not tried has endpoints, whatever they do now."""
    names = {one.candidate.endpoint.backend.name for one in beside}
    return any(
        plan.eligible >> number & 1
        and name not in names
        and (backend := plan.snapshot.backends.get(name)) is not None
        and backend.endpoints
        for number, name in enumerate(plan.policy.backends)
    )


def next_return(
    plan: Plan, tried: Sequence[Tried], signals: SignalTable, *, now: float, rng: Rng
) -> Return | None:
    """Return when the first of the backends that rest, and were not tried yet, may serve again."""
    marks = signals.marks
    if now >= marks.horizon:
        return None
    chance = chance_of(plan, rng)
    names = {one.candidate.endpoint.backend.name for one in tried}
    found = [
        rest
        for _, backend, rests in _marked(plan, marks)
        if backend.name not in names and (rest := _rest_of(backend, rests, now, chance)) is not None
    ]
    if not found:
        return None
    first = min(found, key=lambda rest: rest.ends(chance))
    return Return(first.failure, max(0.0, first.until - now), first.ends(chance))


def mark_of(endpoint: Endpoint, failure: UpstreamError) -> Mark | None:
    """Return what a failure tells of the requests to come; None where it is this one's alone.

    A refused credential, and the limit of an account with a provider, are the credential's; what
    a server of our own sheds is that endpoint's. Without a time a limit is not remembered: the
    next request may find room.
    """
    backend, told_s = endpoint.backend, failure.retry_after_s
    if isinstance(failure, UpstreamAuth):
        if not failure.lasting:
            return None
        for_s = REFUSED_REST_S if told_s is None else told_s
        return Mark(backend.name, "auth", for_s, credential=backend.credential)
    if told_s is None or failure.failure not in ("rate_limited", "overloaded"):
        return None
    if failure.failure == "rate_limited" and backend.spec.external:
        return Mark(backend.name, "rate_limited", told_s, credential=backend.credential)
    return Mark(backend.name, failure.failure, told_s, endpoint=endpoint.id)


def announced_mark(backend: Backend, rest_s: float) -> Mark:
    """Return the mark of an answer that said that its account's limit is used up."""
    return Mark(backend.name, "rate_limited", rest_s, credential=backend.credential, announced=True)


def chance_of(plan: Plan, rng: Rng) -> float:
    """Return the request's chance, drawn once: a request that has waited is not sent back."""
    if plan.chance is None:
        plan.chance = rng.random()
    return plan.chance


def _marked(plan: Plan, marks: Marks) -> Iterator[tuple[int, Backend, Mapping[str, Rest]]]:
    """Yield the eligible backends that have marks, with their numbers."""
    mask = plan.eligible
    while mask:
        lowest = mask & -mask
        mask ^= lowest
        number = lowest.bit_length() - 1
        name = plan.policy.backends[number]
        rests = marks.of(name)
        if rests and (backend := plan.snapshot.backends.get(name)) is not None:
            yield number, backend, rests


def _rest_of(backend: Backend, rests: Mapping[str, Rest], now: float, chance: float) -> Rest | None:
    """Return the rest of a backend as a whole: its credential's, or that of all its endpoints."""
    own = rests.get(credential_subject(backend.credential))
    if own is not None and own.ends(chance) > now:
        return own
    if not backend.endpoints or len(rests) < len(backend.endpoints):
        return None
    found: list[Rest] = []
    for endpoint in backend.endpoints:
        rest = rests.get(endpoint.id)
        if rest is None or rest.ends(chance) <= now:
            return None
        found.append(rest)
    return min(found, key=lambda rest: rest.ends(chance))
