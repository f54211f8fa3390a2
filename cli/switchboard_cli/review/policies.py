"""A policy before and after, beside its rules: limits, the experiment, the log, whom it reaches."""

from collections.abc import Iterator, Mapping
from typing import Final

from switchboard_cli.review.changes import Change, Severity, listed
from switchboard_cli.review.fields import changed_fields
from switchboard_cli.review.renames import renamed_parts
from switchboard_cli.review.rules import changed_rules, hidden_rules
from switchboard_cli.review.served import names_of
from switchboard_cli.review.sides import Side
from switchboard_cli.review.tiers import reachable, route_of
from switchboard_policy import ir

#: The limits of a policy: what they are called, their unit, and what a part of it comes to.
_LIMITS: Final[Mapping[str, tuple[str, str, float]]] = {
    "deadline_ms": ("deadline", " s", 1000),
    "attempts": ("attempts", "", 1),
    "retry_budget_permille": ("retry budget", " %", 10),
    "max_retry_after_wait_ms": ("wait for Retry-After", " s", 1000),
    "max_ejected_permille": ("limit of ejections", " %", 10),
    "restart_within_chars": ("restart of streams", " characters", 1),
}


def changed_policies(old: Side, new: Side) -> Iterator[Change]:
    """Yield what became of each policy that is published."""
    for name in sorted(old.policies.keys() | new.policies.keys()):
        was, now = old.policies.get(name), new.policies.get(name)
        if was is None and now is not None:
            yield from _added(now)
        elif was is not None and now is None:
            yield _removed(was)
        elif was is not None and now is not None and was != now:
            yield from _changed(was, now)


def _added(policy: ir.Policy) -> Iterator[Change]:
    yield Change(
        severity="gained",
        kind="policy added",
        text=f"policy {policy.name} is new, for {names_of(policy)}; it reaches "
        f"{listed(sorted(reachable(policy)))}",
        policy=policy.name,
        details=tuple(f'rule "{rule.name}": {route_of(rule)}' for rule in policy.rules),
    )
    nothing = ir.Policy(name=policy.name, models=(), rules=())
    yield from (one for one in changed_rules(nothing, policy) if one.kind == "rule unreachable")


def _removed(policy: ir.Policy) -> Change:
    return Change(
        severity="lost",
        kind="policy removed",
        text=f"policy {policy.name} is gone, which claimed {names_of(policy)}",
        policy=policy.name,
    )


def _changed(was: ir.Policy, now: ir.Policy) -> Iterator[Change]:
    yield from changed_rules(was, now)
    yield from _reached(was, now)
    yield from _limits(was, now)
    yield from _experiment(was, now)
    yield from _log(was, now)
    if was.intents != now.intents:
        told = changed_fields(was, now)
        yield _change(
            "moved",
            "intents changed",
            now,
            "knows other intents, and rules that go by them take other requests",
            *(line for line in told if line.startswith("intents")),
        )
    if was.hedge != now.hedge:
        text = "hedges otherwise" if now.hedge else "hedges no more"
        yield _change(
            "changed", "hedging changed", now, text, *changed_fields(was.hedge, now.hedge)
        )
    if was.priority != now.priority:
        text = f"has priority {now.priority}, before {was.priority}"
        yield _change("note", "priority changed", now, text)


def _change(severity: Severity, kind: str, policy: ir.Policy, text: str, *details: str) -> Change:
    return Change(
        severity=severity,
        kind=kind,
        text=f"policy {policy.name} {text}",
        policy=policy.name,
        details=details,
    )


def _reached(was: ir.Policy, now: ir.Policy) -> Iterator[Change]:
    """Yield the backends that the policy's models reach now, and those that they reach no more."""
    before, after = reachable(was, hidden_rules(was)), reachable(now, hidden_rules(now))
    for severity, kind, names, verb in (
        ("lost", "backend no longer reachable", before - after, "reached no more"),
        ("gained", "backend reachable", after - before, "reachable now"),
    ):
        if names:
            yield Change(
                severity="lost" if severity == "lost" else "gained",
                kind=kind,
                text=f"{listed(sorted(names))} {'is' if len(names) == 1 else 'are'} {verb} for "
                f"{names_of(now)} (policy {now.name})",
                policy=now.name,
                model=now.models[0] if now.models else "",
            )


def _limits(was: ir.Policy, now: ir.Policy) -> Iterator[Change]:
    for field, (name, unit, whole) in _LIMITS.items():
        before, after = getattr(was, field), getattr(now, field)
        if before != after:
            how = "raised" if after > before else "lowered"
            text = f"{name}: {before / whole:g}{unit} → {after / whole:g}{unit}"
            yield Change(
                severity="changed",
                kind=f"{name} {how}",
                text=f"policy {now.name}: {text}",
                policy=now.name,
            )


def _experiment(was: ir.Policy, now: ir.Policy) -> Iterator[Change]:
    if was.arms == now.arms:
        return
    for old, new in renamed_parts(was.arms, now.arms).items():
        yield _change("renamed", "arm renamed", now, f'calls the arm "{old}" "{new}" now')
    if not was.arms:
        kind, text = "experiment begun", f"compares {_arms(now)}"
    elif not now.arms:
        kind, text = "experiment ended", f"compares nothing any more; before, {_arms(was)}"
    else:
        kind, text = "experiment changed", f"compares {_arms(now)}; before, {_arms(was)}"
    yield _change("moved", kind, now, text)


def _arms(policy: ir.Policy) -> str:
    whole = sum(arm.weight for arm in policy.arms) or 1
    return ", ".join(f"{arm.name} {100 * arm.weight / whole:.4g} %" for arm in policy.arms)


def _log(was: ir.Policy, now: ir.Policy) -> Iterator[Change]:
    if was.learning == now.learning:
        return
    texts = [one is not None and one.texts for one in (was.learning, now.learning)]
    if texts[1] and not texts[0]:
        text = "keeps texts of requests and answers in the log of decisions now"
        yield _change("access", "texts logged", now, text)
    elif texts[0] and not texts[1]:
        yield _change("tightened", "texts no longer logged", now, "logs no texts any more")
    told = tuple(one for one in changed_fields(was.learning, now.learning) if "texts:" not in one)
    if now.learning is None:
        yield _change("changed", "log of decisions ended", now, "logs no decisions any more")
    elif was.learning is None:
        yield _change("changed", "log of decisions begun", now, "logs its decisions now")
    elif told:
        yield _change("changed", "learning changed", now, "learns otherwise", *told)
