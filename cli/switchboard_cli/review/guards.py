"""Guardrails before and after: loosened, removed, tightened, and which backends that lets in."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field

from switchboard_cli.review.changes import Change, Severity, listed
from switchboard_cli.review.conditions import relation
from switchboard_cli.review.served import named
from switchboard_cli.review.sides import Side
from switchboard_dataplane.lowering import named_backends
from switchboard_policy import ir
from switchboard_policy.compiler.guardrails import Requirements, always_forbidden
from switchboard_policy.compiler.world import Name
from switchboard_policy.v1alpha1.routingpolicy import Guardrail

#: Whose guardrail, and its name.
Rail = tuple[str, str]


@dataclass(slots=True)
class _Effect:
    """What became of a guardrail in all policies that carry it: backends, by policy."""

    opened: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    closed: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    still: set[str] = field(default_factory=set[str])
    carriers: list[str] = field(default_factory=list[str])


def changed_guardrails(old: Side, new: Side) -> Iterator[Change]:
    """Yield what became of each guardrail, for policies that are there before and after."""
    before, after = _rails(old, new), _rails(new, old)
    yield from _uncarried(old, new, before.keys() | after.keys())
    for rail, other in _renamed(before, after, old, new).items():
        del before[rail]
        del after[other]
        yield Change(
            severity="renamed",
            kind="guardrail renamed",
            text=f"{_title(rail)} is {_title(other)} now, and is otherwise the same",
            policy=other[0],
        )
    for rail in sorted(before.keys() | after.keys()):
        was, now = before.get(rail, {}), after.get(rail, {})
        effect = _effect(rail, was, now, old, new)
        if not now:
            yield _removed(rail, was, effect)
        elif not was:
            yield _added(rail, now, effect)
        else:
            yield from _edited(rail, was, now, effect, _requires(rail, old, new))


def _rails(side: Side, other: Side) -> dict[Rail, dict[str, ir.Guardrail]]:
    """Return the guardrails by policy, of the policies that both sides have."""
    found: dict[Rail, dict[str, ir.Guardrail]] = {}
    for name, policy in side.policies.items():
        if name in other.policies:
            for rail in policy.guardrails:
                found.setdefault((rail.policy, rail.name), {})[name] = rail
    return found


def _renamed(
    before: Mapping[Rail, Mapping[str, ir.Guardrail]],
    after: Mapping[Rail, Mapping[str, ir.Guardrail]],
    old: Side,
    new: Side,
) -> dict[Rail, Rail]:
    """Return the guardrails that only have another name or owner, by the old ones."""
    came = {
        (_requires(rail, old, new)[1], _body(carried)): rail
        for rail, carried in after.items()
        if rail not in before
    }
    gone = {
        rail: came.pop((_requires(rail, old, new)[0], _body(carried)), None)
        for rail, carried in before.items()
        if rail not in after
    }
    return {rail: other for rail, other in gone.items() if other is not None}


def _body(carried: Mapping[str, ir.Guardrail]) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    return tuple((name, rail.when, rail.forbids) for name, rail in sorted(carried.items()))


def _requires(rail: Rail, old: Side, new: Side) -> tuple[str, str]:
    """Return what a guardrail requires, before and after."""
    said: list[str] = []
    for side in (old, new):
        spec = side.policy_specs.get(rail[0])
        rails = spec.guardrails if spec is not None else ()
        said.append(next((one.require for one in rails if one.name == rail[1]), ""))
    return said[0], said[1]


def _effect(
    rail: Rail,
    was: Mapping[str, ir.Guardrail],
    now: Mapping[str, ir.Guardrail],
    old: Side,
    new: Side,
) -> _Effect:
    effect = _Effect(carriers=sorted(was.keys() | now.keys()))
    for name in effect.carriers:
        mine, members = new.policies[name], _members(new.policies[name])
        shared = members & _members(old.policies[name])
        forbade = frozenset[str]()
        if name in was:
            forbade = frozenset(was[name].forbids) | would_forbid(rail, members - shared, old, new)
        forbids = frozenset(now[name].forbids) if name in now else frozenset[str]()
        opened = (forbade - forbids) & members
        closed = (forbids - forbade) & shared
        there = name in was and name in now
        said = relation(was[name].when, now[name].when) if there else "same"
        if said == "wider":
            closed |= forbade & forbids & shared
        elif said != "same":
            opened |= forbade & forbids & members
        others = always_forbidden([one for one in mine.guardrails if one != now.get(name)])
        effect.still |= opened & others
        if opened - others:
            effect.opened[name] = sorted(opened - others)
        if closed:
            effect.closed[name] = sorted(closed)
    return effect


def would_forbid(rail: Rail, names: Set[str], old: Side, new: Side) -> frozenset[str]:
    """Return the backends that a guardrail, as it was, would forbid if they were named."""
    spec = old.policy_specs.get(rail[0])
    found = [one for one in spec.guardrails if one.name == rail[1]] if spec is not None else []
    known = {
        Name(*name.split("/", 1)): side.known[name]
        for name in names
        for side in ((old if name in old.known else new),)
        if name in side.known
    }
    owner = Name(*rail[0].split("/", 1))
    lowered = Requirements().lower((owner, tuple(found)), known) if known else []
    return frozenset(name for one in lowered for name in one.forbids)


def left_behind(
    old: Side, new: Side, handed: Mapping[tuple[str, str], list[str]]
) -> Iterator[Change]:
    """Yield the guardrails that hold no more for names that another policy answers for now."""
    for (was, now), models in handed.items():
        heir = new.policies[now]
        members = _members(heir)
        told = {(one.policy, one.name) for one in heir.guardrails if now in old.policies}
        for one in old.policies[was].guardrails:
            rail = one.policy, one.name
            if rail in told:
                continue
            mine = _members(old.policies[was])
            forbade = members & frozenset(one.forbids)
            forbade |= would_forbid(rail, members - mine, old, new)
            held = (
                other
                for other in heir.guardrails
                if relation(one.when, other.when) in ("same", "wider")
            )
            opened = forbade - {name for other in held for name in other.forbids}
            if opened:
                when = (f"it held while {one.when}",) if one.when else ("it held always",)
                yield Change(
                    severity="loosened",
                    kind="guardrail no longer holds",
                    text=f"{_title(rail)} no longer holds for {named(models)}: policy {now} "
                    f"answers now, and may send to {listed(sorted(opened))}",
                    policy=now,
                    model=models[0],
                    details=when,
                )


def _uncarried(old: Side, new: Side, carried: Set[Rail]) -> Iterator[Change]:
    """Yield what became of platform guardrails that no policy here carries before and after.

    Whom they hold for stands in other repositories.
    """
    before, after = _platform_rails(old), _platform_rails(new)
    came = {_said(one): rail for rail, one in after.items() if rail not in before}
    gone = (rail for rail in before if rail not in after and rail not in carried)
    names = {rail: came.pop(said) for rail in gone if (said := _said(before[rail])) in came}
    nobody = "no policy of these manifests carries it"
    for rail in sorted((before.keys() | after.keys()) - carried):
        was, now = before.get(rail), after.get(rail)
        if was == now or rail in names.values():
            continue
        severity: Severity = "loosened"
        if rail in names:
            severity, kind = "renamed", "guardrail renamed"
            told = f"is {_title(names[rail])} now, and is otherwise the same"
        elif now is None:
            kind, told = "guardrail removed", f"is gone; {nobody}"
        elif was is None:
            severity, kind, told = "tightened", "guardrail added", f"is new; {nobody}"
        else:
            kind, told = "guardrail loosened", f"is another one, and may forbid less; {nobody}"
        yield Change(
            severity=severity,
            kind=kind,
            text=f"{_title(rail)} {told}",
            policy=rail[0],
            details=() if rail in names else tuple(_reworded(was, now)),
        )


def _said(rail: Guardrail) -> tuple[str, str]:
    return rail.when or "", rail.require


def _reworded(was: Guardrail | None, now: Guardrail | None) -> Iterator[str]:
    for name in ("when", "require"):
        before, after = (getattr(one, name) if one is not None else None for one in (was, now))
        if before != after:
            yield f"{name}: {before or '(not said)'} → {after or '(not said)'}"


def _platform_rails(side: Side) -> dict[Rail, Guardrail]:
    """Return the guardrails that hold for policies of every namespace, as they are written."""
    return {
        (owner, rail.name): rail
        for owner, spec in side.policy_specs.items()
        if owner.partition("/")[0] == side.platform_namespace
        for rail in spec.guardrails
    }


def _members(policy: ir.Policy) -> frozenset[str]:
    """Return whom a policy may send anything to: judges and mirrors, too."""
    return frozenset(named_backends(policy))


def _removed(rail: Rail, was: Mapping[str, ir.Guardrail], effect: _Effect) -> Change:
    when = next(iter(was.values())).when
    return _change(
        "loosened",
        "guardrail removed",
        rail,
        f"{_title(rail)} is gone: {_let_in(effect)}",
        effect,
        f"it held while {when}" if when else "it held always",
        now=False,
    )


def _added(rail: Rail, now: Mapping[str, ir.Guardrail], effect: _Effect) -> Change:
    when = next(iter(now.values())).when
    shut = _shut_out(effect)
    told = f"while {when}, {shut}" if when else shut
    return _change("tightened", "guardrail added", rail, f"{_title(rail)} is new: {told}", effect)


def _edited(
    rail: Rail,
    was: Mapping[str, ir.Guardrail],
    now: Mapping[str, ir.Guardrail],
    effect: _Effect,
    requires: tuple[str, str],
) -> Iterator[Change]:
    one, other = next(iter(was.values())), next(iter(now.values()))
    details: list[str] = []
    if one.when != other.when:
        details.append(f"when: {one.when or '(always)'} → {other.when or '(always)'}")
    if requires[0] != requires[1]:
        details.append(f"require: {requires[0]} → {requires[1]}")
    if effect.opened or effect.still:
        text = f"{_title(rail)} {_how_less(one.when, other.when, requires)}: {_let_in(effect)}"
        yield _change("loosened", "guardrail loosened", rail, text, effect, *details)
    if effect.closed:
        text = f"{_title(rail)} forbids more: {_shut_out(effect)}"
        yield _change("tightened", "guardrail tightened", rail, text, effect, *details)
    if details and not (effect.opened or effect.still or effect.closed):
        text = f"{_title(rail)} is written otherwise; it changes nothing for today's backends"
        yield _change("note", "guardrail reworded", rail, text, effect, *details)


def _how_less(was: str, now: str, requires: tuple[str, str]) -> str:
    match relation(was, now):
        case "narrower":
            return "holds for fewer requests"
        case "other":
            return "may hold for fewer requests"
        case "same" if requires[0] == requires[1]:
            return "is as it was, but backends have changed"
        case _:
            return "forbids less"


def _change(
    severity: Severity,
    kind: str,
    rail: Rail,
    text: str,
    effect: _Effect,
    *details: str,
    now: bool = True,
) -> Change:
    told = list(details)
    if now and effect.carriers != [rail[0]]:
        told.append(f"it holds for {listed(effect.carriers)}")
    if effect.still and effect.opened:
        told.append(f"still forbidden by other guardrails: {listed(sorted(effect.still))}")
    return Change(severity=severity, kind=kind, text=text, policy=rail[0], details=tuple(told))


def _title(rail: Rail) -> str:
    return f'guardrail "{rail[1]}" of policy {rail[0]}'


def _let_in(effect: _Effect) -> str:
    if effect.opened:
        return f"{_by_policy(effect.opened)} under it"
    if effect.still:
        return f"{listed(sorted(effect.still))} is still forbidden by other guardrails"
    return "no backend becomes reachable that was not"


def _by_policy(found: Mapping[str, list[str]]) -> str:
    if len({tuple(names) for names in found.values()}) == 1:
        names = next(iter(found.values()))
        verb = "becomes" if len(names) == 1 else "become"
        return f"{listed(names)} {verb} reachable for {listed(found)}"
    told = (f"{listed(names)} for {policy}" for policy, names in found.items())
    return f"backends become reachable: {'; '.join(told)},"


def _shut_out(effect: _Effect) -> str:
    names = sorted({name for every in effect.closed.values() for name in every})
    if not names:
        return "it forbids no backend that is in use"
    return f"{listed(names)} may not serve for {listed(effect.closed)}"
