"""The tiers of a rule before and after: fallbacks, backends, shares, and what else a route says."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from switchboard_cli.review.changes import Change, listed
from switchboard_cli.review.fields import changed_fields
from switchboard_cli.review.renames import renamed_parts
from switchboard_policy import ir
from switchboard_policy.compiler.guardrails import always_forbidden

#: What weights are often taken to add up to.
_WHOLE: Final = 100
#: Shares that differ by less are the same.
_NEARLY: Final = 1e-9
_COMPOSED: Final = ("select", "cascade", "ensemble", "mirror", "review")


def route_of(rule: ir.Rule) -> str:
    """Return a route in few words: ``ai/a, then ai/b``."""
    chain = [listed(one.backend for one in tier.members) for tier in rule.tiers if tier.members]
    return ", then ".join(chain) or "no backend"


def reachable(policy: ir.Policy, hidden: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return the backends that some request of a policy may be answered by."""
    named = (
        one.backend
        for rule in policy.rules
        if rule.name not in hidden
        for tier in rule.tiers
        for one in tier.members
    )
    return frozenset(named) - always_forbidden(policy.guardrails)


def changed_route(old: ir.Policy, new: ir.Policy, was: ir.Rule, now: ir.Rule) -> Iterator[Change]:
    """Yield what became of a rule's route."""
    names = renamed_parts(was.tiers, now.tiers)
    barred = always_forbidden(old.guardrails), always_forbidden(new.guardrails)
    before = {names.get(tier.name, tier.name): _left(tier, barred[0]) for tier in was.tiers}
    after = {tier.name: _left(tier, barred[1]) for tier in now.tiers}
    lost = [name for name, left in before.items() if left and not after.get(name)]
    come = [name for name, left in after.items() if left and not before.get(name)]
    if any(before.values()) and not any(after.values()):
        yield _refuses(new, now, was)
    else:
        places = [name for name, left in before.items() if left]
        for name in lost:
            yield _lost(new, now, name, before[name], place=places.index(name), left=after)
    places = [name for name, left in after.items() if left]
    if come and not any(before.values()):
        text = f"it refused every request, and serves now: {route_of(now)}"
        yield _change("gained", "rule serves again", new, now, text)
        come = []
    for name in come:
        yield _come(new, now, name, after[name], place=places.index(name))
    yield from _order(new, now, before, after)
    tiers = {names.get(tier.name, tier.name): tier for tier in was.tiers}
    for tier in now.tiers:
        if tier.name in tiers and before[tier.name] and after[tier.name]:
            yield from _members(new, now, before[tier.name], after[tier.name], tier)
            yield from _shares(
                new, now, (tiers[tier.name], before[tier.name]), (tier, after[tier.name])
            )
            yield from _manner(new, now, tiers[tier.name], tier)
    yield from _composed(new, was, now)
    for one, other in names.items():
        yield _change("renamed", "tier renamed", new, now, f'tier "{one}" is called "{other}" now')


def _left(tier: ir.Tier, barred: frozenset[str]) -> tuple[str, ...]:
    """Return the backends of a tier that are not forbidden for good."""
    return tuple(one.backend for one in tier.members if one.backend not in barred)


def _change(
    severity: str, kind: str, policy: ir.Policy, rule: ir.Rule, text: str, *details: str
) -> Change:
    return Change(
        severity=severity,  # type: ignore[arg-type]
        kind=kind,
        text=f'rule "{rule.name}" of policy {policy.name}: {text}',
        policy=policy.name,
        rule=rule.name,
        details=details,
    )


def _refuses(policy: ir.Policy, now: ir.Rule, was: ir.Rule) -> Change:
    return _change(
        "lost",
        "rule refuses every request",
        policy,
        now,
        "none of its backends may serve any more, and its requests are refused",
        f"before: {route_of(was)}",
    )


def _lost(
    policy: ir.Policy,
    rule: ir.Rule,
    name: str,
    members: Sequence[str],
    *,
    place: int,
    left: Mapping[str, Sequence[str]],
) -> Change:
    chain = [listed(one) for one in left.values() if one]
    composed = rule.select is not None or rule.cascade is not None or rule.ensemble is not None
    kind = "tier lost" if composed else "first choice lost" if place == 0 else "fallback lost"
    empty = name in left
    how = f'tier "{name}" ({listed(members)}) ' + ("serves nobody" if empty else "is gone")
    if len(chain) == 1:
        told = f"{how}: {_when_not(left)}, requests fail"
    else:
        told = f"{how}: left are {', then '.join(chain)}"
    return _change("lost", kind, policy, rule, told, *_culprits(policy, members, empty=empty))


def _culprits(policy: ir.Policy, members: Sequence[str], *, empty: bool) -> Iterator[str]:
    """Say which guardrails empty a tier that is still there."""
    for rail in policy.guardrails if empty else ():
        if not rail.when and set(members) & set(rail.forbids):
            yield f'guardrail "{rail.name}" of policy {rail.policy} forbids it'


def _when_not(left: Mapping[str, Sequence[str]]) -> str:
    names = [name for one in left.values() for name in one]
    if len(names) == 1:
        return f"when {names[0]} cannot serve"
    return f"when none of {listed(names)} can serve"


def _come(
    policy: ir.Policy, rule: ir.Rule, name: str, members: Sequence[str], *, place: int
) -> Change:
    if place == 0:
        return _change(
            "moved",
            "first choice changed",
            policy,
            rule,
            f'tier "{name}" ({listed(members)}) is tried first now',
        )
    told = f'tier "{name}" ({listed(members)}) is tried after the others, as a fallback'
    return _change("gained", "fallback added", policy, rule, told)


def _order(
    policy: ir.Policy,
    rule: ir.Rule,
    before: Mapping[str, Sequence[str]],
    after: Mapping[str, Sequence[str]],
) -> Iterator[Change]:
    was = [name for name, left in before.items() if left and after.get(name)]
    now = [name for name, left in after.items() if left and before.get(name)]
    if was != now:
        text = f"tiers are tried in another order: {', then '.join(now)}"
        yield _change(
            "moved", "tier order changed", policy, rule, text, f"before: {', then '.join(was)}"
        )


def _members(
    policy: ir.Policy, rule: ir.Rule, was: Sequence[str], now: Sequence[str], tier: ir.Tier
) -> Iterator[Change]:
    gone = [name for name in was if name not in now]
    come = [name for name in now if name not in was]
    if gone:
        text = f'tier "{tier.name}" has {listed(now)} left, and no longer {listed(gone)}'
        if not come:
            yield _change("lost", "backend lost", policy, rule, text)
        else:
            text = f'tier "{tier.name}" has {listed(come)} in the place of {listed(gone)}'
            yield _change("moved", "backend replaced", policy, rule, text)
    elif come:
        text = f'tier "{tier.name}" has {listed(come)} beside {listed(was)}'
        yield _change("gained", "backend added", policy, rule, text)


def shares_of(tier: ir.Tier, left: Sequence[str]) -> dict[str, float]:
    """Return the share of each backend, in [0, 1]; empty where a tier has no weights."""
    members = [one for one in tier.members if one.backend in left]
    if all(one.weight is None for one in members):
        return {}
    weights = {one.backend: 1 if one.weight is None else one.weight for one in members}
    whole = sum(weights.values())
    return {name: weight / whole for name, weight in weights.items()} if whole else {}


def _shares(
    policy: ir.Policy,
    rule: ir.Rule,
    old: tuple[ir.Tier, Sequence[str]],
    new: tuple[ir.Tier, Sequence[str]],
) -> Iterator[Change]:
    was, now = shares_of(*old), shares_of(*new)
    weights, before = _weights(*new), _weights(*old)
    if (was == now and weights == before) or not (was or now) or len(weights) == 1:
        return
    tier, details = new[0], [f"weights before: {_sum(before)}", f"weights now: {_sum(weights)}"]
    if now and sum(weights.values()) != _WHOLE:
        details.append("weights are not normalised to 100: each backend gets its part of their sum")
    if _same(was, now):
        text = f'tier "{tier.name}" has other weights and the same shares: {_told(now)}'
        yield _change("note", "weights rewritten", policy, rule, text, *details)
        return
    if not now:
        text = f'tier "{tier.name}" has no weights any more: {tier.balance.by} decides'
    else:
        by = old[0].balance.by
        earlier = f"before: {_told(was)}" if was else f"before, {by} decided"
        text = f'tier "{tier.name}" shares requests {_told(now)} ({_sum(weights)}); {earlier}'
    yield _change("moved", "weights changed", policy, rule, text, *details)


def _weights(tier: ir.Tier, left: Sequence[str]) -> dict[str, int]:
    return {
        one.backend: 1 if one.weight is None else one.weight
        for one in tier.members
        if one.backend in left
    }


def _same(was: Mapping[str, float], now: Mapping[str, float]) -> bool:
    return was.keys() == now.keys() and all(abs(was[name] - now[name]) < _NEARLY for name in was)


def _told(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.4g} %" for name, share in shares.items())


def _sum(weights: Mapping[str, int]) -> str:
    told = " + ".join(map(str, weights.values()))
    return f"{told} = {sum(weights.values())}" if len(weights) > 1 else told


def _manner(policy: ir.Policy, rule: ir.Rule, was: ir.Tier, now: ir.Tier) -> Iterator[Change]:
    for field in ("balance", "spill"):
        told = changed_fields(getattr(was, field), getattr(now, field))
        if told:
            text = f'tier "{now.name}" has another {field}'
            yield _change("moved", f"{field} changed", policy, rule, text, *told)


def _composed(policy: ir.Policy, was: ir.Rule, now: ir.Rule) -> Iterator[Change]:
    for field in _COMPOSED:
        one: msgspec.Struct | None = getattr(was, field)
        other: msgspec.Struct | None = getattr(now, field)
        if one == other:
            continue
        if one is None:
            verb, text = "added", f"it has a {field} now"
        elif other is None:
            verb, text = "removed", f"its {field} is gone"
        else:
            verb, text = "changed", f"its {field} is another one"
        details = changed_fields(one, other)
        yield _change("moved", f"{field} {verb}", policy, now, text, *details)
        if field == "review" and _told_texts(other) not in ("", _told_texts(one)):
            told = f"the texts of its requests and answers are told to {_told_texts(other)}"
            yield _change("access", "texts leave the gateway", policy, now, told)


def _told_texts(review: msgspec.Struct | None) -> str:
    """Return the webhook that is told texts; "" where none is."""
    return review.webhook if isinstance(review, ir.Review) and review.texts else ""
