"""A compiled policy to its running form: numbers for names, masks for sets, programs for text."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from re import Pattern
from typing import Final

import orjson

from switchboard_dataplane.decision.arms import lower_arms
from switchboard_dataplane.decision.running import Guardrail, Matcher, Policy, Rule, Tier
from switchboard_dataplane.decision.select import ROUTER
from switchboard_policy import ir
from switchboard_policy.facts import REQUEST_FACTS, SIGNAL_PREFIX, Program
from switchboard_policy.reads import headers_in, may_record, metadata_in
from switchboard_policy.schemas import compile_schema

#: Compiles an expression ("" gives None); raises ExpressionError.
Compile = Callable[[str], Program | None]

#: What a select goes by, beside the task, which is what a caller's x-switchboard-min-quality is by.
_SELECT_READINGS: Final[Mapping[ir.SelectBy, tuple[str, ...]]] = {
    "Complexity": ("complexity",),
    "Quality": (),
    "Task": (),
    "Neighbours": ("embedding",),
    "Classifier": ("complexity",),
    "Bandit": ("context",),
}
#: What a router of the policy's own says in the place of the one that ships.
_OF_ROUTER: Final = "complexity"
#: What it takes at worst for each character, measured: to put it into lower case, and to look for a
#: piece of text there; with so many characters of the piece, a nanosecond more.
LOWER_NS: Final = 12
SEARCH_NS: Final = 4
COMPARED_CHARS: Final = 3
#: Signals of the conversation, which nothing in the texts says.
RECALLED: Final = frozenset({"sessionCost", "lastModel"})
#: What no rule reads out of the texts: it is learned, made of other readings, or remembered.
_DERIVED: Final = frozenset({"complexity", "embedding", "context"}) | RECALLED


def lower_policy(spec: ir.Policy, compile_program: Compile, compile_accepts: Compile) -> Policy:
    """Build the running form of a policy; raises ExpressionError where one does not compile.

    ``compile_program`` is for conditions on requests, ``compile_accepts`` for those on answers.
    """
    names = tuple(sorted({name for name in named_backends(spec) if name}))
    numbers = {name: number for number, name in enumerate(names)}
    rules = tuple(_rule(rule, numbers, compile_program, compile_accepts) for rule in spec.rules)
    guardrails = tuple(
        Guardrail(
            name=guardrail.name,
            policy=guardrail.policy,
            when=compile_program(guardrail.when),
            forbids=_mask(guardrail.forbids, numbers),
        )
        for guardrail in spec.guardrails
    )
    # What a cascade asks of answers reads no fact of requests.
    sources = [rule.when for rule in spec.rules] + [rail.when for rail in spec.guardrails]
    # By text: a fact named in a string literal is bound for nothing, which does no harm.
    text = "\n".join(sources)
    facts = tuple(fact for fact in REQUEST_FACTS if fact in text)
    readings = frozenset(_readings(facts, spec))
    return Policy(
        name=spec.name,
        spec=spec,
        backends=names,
        rules=rules,
        guardrails=guardrails,
        facts=facts,
        readings=readings,
        derived=frozenset(one for one in readings if one in _DERIVED or one.startswith(ROUTER)),
        recalls=not RECALLED.isdisjoint(readings),
        arms=lower_arms(spec.arms),
        alone={name: _alone(name, numbers) for name in asked_backends(spec)},
        noted_headers=_noted_headers(spec, sources),
        noted_metadata=tuple(sorted({key for one in sources for key in metadata_in(one).names})),
    )


def _noted_headers(spec: ir.Policy, sources: Iterable[str]) -> tuple[str, ...]:
    matched = (one.name for rule in spec.rules if rule.match for one in rule.match.headers)
    named = (name for source in sources for name in headers_in(source).names)
    return may_record((*matched, *named))


def named_backends(spec: ir.Policy) -> Iterator[str]:
    """Yield the backends that a policy may send anything to, some of them more than once.

    Beside those of its tiers they are the ones that are asked on a request's account: judges,
    classifiers, second opinions, mirrors; "" for one that may not serve.
    """
    for rule in spec.rules:
        for tier in rule.tiers:
            for member in tier.members:
                yield member.backend
    yield from asked_backends(spec)


def asked_backends(spec: ir.Policy) -> Iterator[str]:
    """Yield those that are asked on a request's account."""
    for rule in spec.rules:
        for asked in _asked_by(rule):
            if asked is not None:
                yield asked.backend
        if rule.cascade is not None:
            yield rule.cascade.agreement or ""
        if rule.mirror is not None:
            yield rule.mirror.backend
    if spec.learning is not None and spec.learning.judge is not None:
        yield spec.learning.judge.backend


def _asked_by(rule: ir.Rule) -> Iterator[ir.Asked | None]:
    if rule.select is not None:
        yield rule.select.classifier
    if rule.cascade is not None and rule.cascade.judge is not None:
        yield rule.cascade.judge.asked
    if rule.ensemble is not None:
        yield rule.ensemble.judge
    if rule.mirror is not None:
        yield rule.mirror.judge


def _readings(facts: Iterable[str], spec: ir.Policy) -> Iterator[str]:
    for fact in facts:
        if fact.startswith(SIGNAL_PREFIX):
            yield fact.removeprefix(SIGNAL_PREFIX)
    for rule in spec.rules:
        if rule.select is not None:
            yield "task"
            asked = _SELECT_READINGS[rule.select.by]
            if rule.select.router:
                yield ROUTER + rule.select.router
                asked = tuple(one for one in asked if one != _OF_ROUTER)
            yield from asked


def routers_of(spec: ir.Policy) -> Iterator[str]:
    """Yield the digests of the routers that a policy names."""
    for rule in spec.rules:
        if rule.select is not None and rule.select.router:
            yield rule.select.router


def _rule(
    rule: ir.Rule, numbers: Mapping[str, int], compile_program: Compile, compile_accepts: Compile
) -> Rule:
    tiers = tuple(_tier(tier, numbers) for tier in rule.tiers)
    whole = _of_tiers(rule, tiers)
    if rule.cascade is not None and rule.cascade.json_schema:
        # Its compiled form is remembered: one that is none is refused here, and not at a request.
        compile_schema(rule.cascade.json_schema)
    return replace(
        whole,
        matcher=None if rule.match is None else _matcher(rule.match),
        when=compile_program(rule.when),
        select=rule.select,
        starts=()
        if rule.select is None
        else tuple(
            _of_tiers(rule, _from(tiers, start, downgrade=rule.select.downgrade))
            for start in range(len(tiers))
        ),
        accepts=None if rule.cascade is None else compile_accepts(_accepts(rule.cascade)),
        steps=_steps(rule, tiers, numbers),
    )


def _steps(rule: ir.Rule, tiers: tuple[Tier, ...], numbers: Mapping[str, int]) -> tuple[Rule, ...]:
    if rule.cascade is not None:
        return tuple(_of_tiers(rule, (tier,)) for tier in tiers)
    if rule.ensemble is not None:
        return tuple(
            _of_tiers(rule, (replace(tier, mask=_mask((member.backend,), numbers), weights=()),))
            for said, tier in zip(rule.tiers, tiers, strict=True)
            for member in said.members
        )
    return ()


def _alone(name: str, numbers: Mapping[str, int]) -> Rule:
    """Return a rule that sends to one backend; to none for one that may not serve."""
    mask = _mask((name,), numbers)
    tier = Tier(name=name, mask=mask, balance=ir.Balance())
    return Rule(name=name, matcher=None, when=None, tiers=(tier,), mask=mask)


def _accepts(cascade: ir.Cascade) -> str:
    """Return the condition that an answer must meet, "" for none: a regex is one, too."""
    # JSON's strings are CEL's, so far as a pattern can say.
    pattern = (
        f"answer.text.matches({orjson.dumps(cascade.regex).decode()})" if cascade.regex else ""
    )
    if pattern and cascade.when:
        return f"{pattern} && ({cascade.when})"
    return pattern or cascade.when


def _of_tiers(rule: ir.Rule, tiers: tuple[Tier, ...]) -> Rule:
    mask = 0
    for tier in tiers:
        mask |= tier.mask
    spills = any(tier.spill is not None for tier in tiers)
    return Rule(
        name=rule.name,
        matcher=None,
        when=None,
        tiers=tiers,
        mask=mask,
        spills=spills,
        spec=rule,
        composed=any((rule.cascade, rule.ensemble, rule.mirror, rule.review)),
        classifies=rule.select is not None and rule.select.classifier is not None,
    )


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
        arms=frozenset(match.arms),
        keywords_ns=_search_ns(match.keywords),
        system_prompt_ns=_search_ns(match.system_prompt),
    )


def _search_ns(pieces: tuple[str, ...]) -> int:
    return LOWER_NS + sum(SEARCH_NS + len(piece) // COMPARED_CHARS for piece in pieces)


def _keywords(words: tuple[str, ...]) -> tuple[tuple[str, Pattern[str]], ...]:
    return tuple((word, re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")) for word in words)
