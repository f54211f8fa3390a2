"""The rules of a policy before and after: which win, which vanish, which are never reached."""

from collections.abc import Iterator, Mapping, Sequence, Set

from switchboard_cli.review.changes import Change, listed
from switchboard_cli.review.renames import renamed_parts
from switchboard_cli.review.tiers import changed_route, route_of
from switchboard_policy import ir
from switchboard_policy.compiler.analyse import covers


def changed_rules(old: ir.Policy, new: ir.Policy) -> Iterator[Change]:
    """Yield what became of the rules of a policy."""
    names = renamed_parts(old.rules, new.rules)
    was = {names.get(rule.name, rule.name): rule for rule in old.rules}
    now = {rule.name: rule for rule in new.rules}
    hidden_before = {names.get(one, one): by for one, by in _hidden(old.rules).items()}
    hidden = _hidden(new.rules)
    for before, after in names.items():
        yield Change(
            severity="renamed",
            kind="rule renamed",
            text=f'rule "{before}" of policy {new.name} is called "{after}" now',
            policy=new.name,
            rule=after,
        )
    for name, rule in was.items():
        if name not in now:
            later = frozenset(list(was)[list(was).index(name) + 1 :])
            yield _removed(new, rule, later, hidden=name in hidden_before)
    for place, (name, rule) in enumerate(now.items()):
        if name in hidden:
            if name not in hidden_before:
                yield _unreachable(new, rule, hidden[name], fresh=name not in was)
        elif name not in was:
            yield _added(new, place)
        else:
            if name in hidden_before:
                yield _reachable(new, rule, hidden_before[name])
            yield from _condition(new, was[name], rule)
        if name in was:
            yield from changed_route(old, new, was[name], rule)
    yield from _order(new, list(was), list(now), hidden)


def hidden_rules(policy: ir.Policy) -> frozenset[str]:
    """Return the rules that no request reaches."""
    return frozenset(_hidden(policy.rules))


def _hidden(rules: Sequence[ir.Rule]) -> dict[str, str]:
    """Return the rules that are never reached, and which earlier one takes all that they match."""
    found: dict[str, str] = {}
    for place, rule in enumerate(rules):
        for earlier in rules[:place]:
            if earlier.when in ("", rule.when) and covers(earlier.match, rule.match):
                found[rule.name] = earlier.name
                break
    return found


def _unreachable(policy: ir.Policy, rule: ir.Rule, by: str, *, fresh: bool) -> Change:
    winner = next(one for one in policy.rules if one.name == by)
    again = "the new rule" if fresh else "rule"
    return Change(
        severity="lost",
        kind="rule unreachable",
        text=f'{again} "{rule.name}" of policy {policy.name} is never reached: rule "{by}" before '
        "it takes every request that it matches",
        policy=policy.name,
        rule=rule.name,
        details=(f'its requests go by rule "{by}" to {route_of(winner)}, not to {route_of(rule)}',),
    )


def _reachable(policy: ir.Policy, rule: ir.Rule, by: str) -> Change:
    return Change(
        severity="moved",
        kind="rule wins",
        text=f'rule "{rule.name}" of policy {policy.name} is reached now: rule "{by}" took every '
        f"request that it matches; they go to {route_of(rule)}",
        policy=policy.name,
        rule=rule.name,
    )


def _removed(policy: ir.Policy, rule: ir.Rule, later: Set[str], *, hidden: bool) -> Change:
    heir = next(
        (one for one in policy.rules if not one.when and covers(one.match, rule.match)), None
    )
    if hidden:
        text = f'rule "{rule.name}" of policy {policy.name} is gone; no request reached it'
        return Change(
            severity="note", kind="unreachable rule removed", text=text, policy=policy.name
        )
    where = "whichever rule matches next"
    if heir is not None:
        place = policy.rules.index(heir)
        between = [one.name for one in policy.rules[:place] if one.name in later]
        unless = f", where {listed(between)} takes none of them" if between else ""
        where = f'rule "{heir.name}", to {route_of(heir)}{unless}'
    return Change(
        severity="lost",
        kind="rule removed",
        text=f'rule "{rule.name}" of policy {policy.name} is gone: its requests go by {where}',
        policy=policy.name,
        rule=rule.name,
        details=(f"before: {route_of(rule)}", *_asked(rule)),
    )


def _added(policy: ir.Policy, place: int) -> Change:
    rule = policy.rules[place]
    later = policy.rules[place + 1 :]
    before = f', before rule "{later[0].name}"' if later else ", as the last one"
    return Change(
        severity="moved",
        kind="rule added",
        text=f'rule "{rule.name}" is new in policy {policy.name}{before}: its requests go to '
        f"{route_of(rule)}",
        policy=policy.name,
        rule=rule.name,
        details=_asked(rule),
    )


def _asked(rule: ir.Rule) -> tuple[str, ...]:
    told = [f"match: {_match(rule.match)}"] if rule.match is not None else []
    told += [f"when: {rule.when}"] if rule.when else []
    return tuple(told)


def _condition(policy: ir.Policy, was: ir.Rule, now: ir.Rule) -> Iterator[Change]:
    if (was.match, was.when) == (now.match, now.when):
        return
    wider, narrower = covers(now.match, was.match), covers(was.match, now.match)
    more = (wider and not narrower) or (wider and not now.when and bool(was.when))
    less = (narrower and not wider) or (narrower and not was.when and bool(now.when))
    same_when = was.when == now.when
    kind, told = "rule condition changed", "matches other requests now"
    if more and (same_when or not now.when):
        kind, told = "rule widened", "takes more requests now"
    elif less and (same_when or not was.when):
        kind, told = "rule narrowed", "takes fewer requests now"
    details: list[str] = []
    if was.match != now.match:
        details.append(f"match: {_match(was.match)} → {_match(now.match)}")
    if not same_when:
        details.append(f"when: {was.when or '(always)'} → {now.when or '(always)'}")
    yield Change(
        severity="moved",
        kind=kind,
        text=f'rule "{now.name}" of policy {policy.name} {told}; they go to {route_of(now)}',
        policy=policy.name,
        rule=now.name,
        details=tuple(details),
    )


def _match(match: ir.Match | None) -> str:
    if match is None:
        return "(every request)"
    said: list[str] = []
    for field in ("apis", "tags", "roles", "stages", "arms", "keywords", "system_prompt"):
        words: Sequence[str] = getattr(match, field)
        if words:
            said.append(f"{field.replace('_', ' ')} {'/'.join(words)}")
    said += [
        f"header {header.name}" + (f"={header.value}" if header.value else "")
        for header in match.headers
    ]
    if match.tokens_min is not None:
        said.append(f"tokens from {match.tokens_min:,}")
    if match.tokens_max is not None:
        said.append(f"tokens up to {match.tokens_max:,}")
    return ", ".join(said) or "(every request)"


def _order(
    policy: ir.Policy, was: list[str], now: list[str], hidden: Mapping[str, str]
) -> Iterator[Change]:
    before = [name for name in was if name in now]
    after = [name for name in now if name in was]
    if before == after:
        return
    moved = [name for name in after if before.index(name) > after.index(name)]
    moved = [name for name in moved if name not in hidden] or moved
    first = moved[0]
    yield Change(
        severity="moved",
        kind="rule order changed",
        text=f'rule "{first}" of policy {policy.name} comes earlier now, and wins over '
        + ", ".join(
            f'"{name}"' for name in before[: before.index(first)] if _behind(after, name, first)
        ),
        policy=policy.name,
        rule=first,
        details=(f"before: {' → '.join(before)}", f"now: {' → '.join(after)}"),
    )


def _behind(order: list[str], name: str, first: str) -> bool:
    return order.index(name) > order.index(first)
