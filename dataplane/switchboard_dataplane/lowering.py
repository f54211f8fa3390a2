"""A compiled policy to its running form: numbers for names, masks for sets, programs for text."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from re import Pattern

from switchboard_dataplane.decision.running import Guardrail, Matcher, Policy, Rule, Tier
from switchboard_policy import ir
from switchboard_policy.facts import REQUEST_FACTS, SIGNAL_PREFIX, Program

#: Compiles an expression ("" gives None); raises ExpressionError.
Compile = Callable[[str], Program | None]


def lower_policy(spec: ir.Policy, compile_program: Compile) -> Policy:
    """Build the running form of a policy; raises ExpressionError where one does not compile."""
    names = tuple(
        sorted(
            {
                member.backend
                for rule in spec.rules
                for tier in rule.tiers
                for member in tier.members
            }
        )
    )
    numbers = {name: number for number, name in enumerate(names)}
    rules = tuple(_rule(rule, numbers, compile_program) for rule in spec.rules)
    guardrails = tuple(
        Guardrail(
            name=guardrail.name,
            policy=guardrail.policy,
            when=compile_program(guardrail.when),
            forbids=_mask(guardrail.forbids, numbers),
        )
        for guardrail in spec.guardrails
    )
    sources = [rule.when for rule in spec.rules] + [rail.when for rail in spec.guardrails]
    # By text: a fact named in a string literal is bound for nothing, which does no harm.
    facts = tuple(fact for fact in REQUEST_FACTS if any(fact in source for source in sources))
    return Policy(
        name=spec.name,
        spec=spec,
        backends=names,
        rules=rules,
        guardrails=guardrails,
        facts=facts,
        readings=frozenset(_readings(facts, spec)),
    )


def _readings(facts: Iterable[str], spec: ir.Policy) -> Iterator[str]:
    for fact in facts:
        if fact.startswith(SIGNAL_PREFIX):
            yield fact.removeprefix(SIGNAL_PREFIX)
    for rule in spec.rules:
        if rule.select is not None:
            # What a caller asks for (x-switchboard-min-quality) is by task, whatever selects.
            yield "task"
            if rule.select.by == "Complexity":
                yield "complexity"


def _rule(rule: ir.Rule, numbers: Mapping[str, int], compile_program: Compile) -> Rule:
    tiers = tuple(_tier(tier, numbers) for tier in rule.tiers)
    whole = _of_tiers(rule.name, tiers)
    return replace(
        whole,
        matcher=None if rule.match is None else _matcher(rule.match),
        when=compile_program(rule.when),
        select=rule.select,
        starts=()
        if rule.select is None
        else tuple(
            _of_tiers(rule.name, _from(tiers, start, downgrade=rule.select.downgrade))
            for start in range(len(tiers))
        ),
    )


def _of_tiers(name: str, tiers: tuple[Tier, ...]) -> Rule:
    mask = 0
    for tier in tiers:
        mask |= tier.mask
    spills = any(tier.spill is not None for tier in tiers)
    return Rule(name=name, matcher=None, when=None, tiers=tiers, mask=mask, spills=spills)


def _from(tiers: tuple[Tier, ...], start: int, *, downgrade: bool) -> tuple[Tier, ...]:
    """Return the tiers in the order in which they are tried: up from the start, then down."""
    return tiers[start:] + (tiers[:start][::-1] if downgrade else ())


def _tier(tier: ir.Tier, numbers: Mapping[str, int]) -> Tier:
    weighted = any(member.weight is not None for member in tier.members)
    return Tier(
        name=tier.name,
        mask=_mask((member.backend for member in tier.members), numbers),
        balance=tier.balance,
        weights=tuple(
            # Beside explicit weights, a member without one has the default of the field's peers.
            (numbers[member.backend], 1 if member.weight is None else member.weight)
            for member in tier.members
        )
        if weighted
        else (),
        spill=tier.spill,
    )


def _mask(names: Iterable[str], numbers: Mapping[str, int]) -> int:
    mask = 0
    for name in names:
        if name in numbers:
            mask |= 1 << numbers[name]
    return mask


def _matcher(match: ir.Match) -> Matcher:
    return Matcher(
        apis=frozenset(match.apis),
        tags=frozenset(match.tags),
        headers=tuple((header.name, header.value) for header in match.headers),
        keywords=_keywords(match.keywords),
        tokens_min=match.tokens_min,
        tokens_max=match.tokens_max,
        system_prompt=match.system_prompt,
        roles=frozenset(match.roles),
        stages=frozenset(match.stages),
    )


def _keywords(words: tuple[str, ...]) -> tuple[tuple[str, Pattern[str]], ...]:
    return tuple((word, re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")) for word in words)
