"""What a policy says but cannot mean: rules never reached, tiers that guardrails empty, and more.

All of it is advice: nothing here changes what is published.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from switchboard_policy import ir
from switchboard_policy.compiler.guardrails import always_forbidden
from switchboard_policy.compiler.report import Finding, listed
from switchboard_policy.names import APIS
from switchboard_policy.v1alpha1.conditions import Reason

#: The APIs of each backend by name; None restricts nothing.
Offers = Mapping[str, Sequence[str] | None]

_STRING_LITERAL: Final = re.compile(
    r"'''.*?'''|\"\"\".*?\"\"\"|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL
)
_CALLERS_WORD: Final = re.compile(
    r"\brequest\s*\.\s*(tags|headers|metadata|user|session|role|stage|latencyClass|minQuality|labels)\b"
)
_QUOTED_MAX: Final = 120


def analyse(policy: ir.Policy, offers: Offers) -> list[Finding]:
    """Return what is worth knowing about a policy as it was lowered."""
    return [
        *_unreachable(policy.rules),
        *_without_backends(policy),
        *_emptied_for_good(policy),
        *_emptied_at_times(policy),
        *_not_offered(policy.rules, offers),
        *trusts_caller([each for each in policy.guardrails if each.policy == policy.name]),
    ]


def trusts_caller(guardrails: Sequence[ir.Guardrail]) -> list[Finding]:
    """Name the guardrails that the caller can escape by what it says of itself."""
    found: list[Finding] = []
    for guardrail in guardrails:
        words = sorted(set(_CALLERS_WORD.findall(_STRING_LITERAL.sub("''", guardrail.when))))
        if words:
            facts = " and ".join(f"request.{word}" for word in words)
            found.append(
                Finding(
                    Reason.GUARDRAIL_TRUSTS_CALLER,
                    f'guardrail "{guardrail.name}" applies only while the caller says so '
                    f"({facts}): a caller that leaves it out escapes; to protect data, leave "
                    '"when" out or use facts that the caller does not choose',
                )
            )
    return found


def _unreachable(rules: Sequence[ir.Rule]) -> Iterator[Finding]:
    for position, rule in enumerate(rules):
        for earlier in rules[:position]:
            if earlier.when in ("", rule.when) and covers(earlier.match, rule.match):
                yield Finding(
                    Reason.UNREACHABLE_RULE,
                    f'rule "{rule.name}" is never reached: rule "{earlier.name}" before it takes '
                    f'every request that it matches; move it up, or narrow "{earlier.name}"',
                )
                break


def covers(outer: ir.Match | None, inner: ir.Match | None) -> bool:
    """Say whether every request that ``inner`` matches is surely matched by ``outer``."""
    outer, inner = outer or ir.Match(), inner or ir.Match()
    return (
        _any_of(outer.apis, inner.apis or APIS)
        and _any_of(outer.tags, inner.tags)
        and _any_of(outer.roles, inner.roles)
        and _any_of(outer.stages, inner.stages)
        and _any_of(outer.arms, inner.arms)
        and _any_of(outer.keywords, inner.keywords)
        and _any_text_of(outer.system_prompt, inner.system_prompt)
        and all(_header_implied(wanted, inner.headers) for wanted in outer.headers)
        and (outer.tokens_min or 0) <= (inner.tokens_min or 0)
        and (
            outer.tokens_max is None
            or (inner.tokens_max is not None and inner.tokens_max <= outer.tokens_max)
        )
    )


def _any_of(outer: Sequence[str], inner: Sequence[str]) -> bool:
    return not outer or (bool(inner) and set(inner) <= set(outer))


def _any_text_of(outer: Sequence[str], inner: Sequence[str]) -> bool:
    # A prompt that contains "you are a coder" contains "coder".
    return not outer or (bool(inner) and all(any(o in text for o in outer) for text in inner))


def _header_implied(wanted: ir.HeaderMatch, headers: Sequence[ir.HeaderMatch]) -> bool:
    return any(
        header.name == wanted.name and wanted.value in (None, header.value) for header in headers
    )


def _without_backends(policy: ir.Policy) -> Iterator[Finding]:
    forbidden = always_forbidden(policy.guardrails)
    for rule in policy.rules:
        named = _members(rule)
        if not named:
            yield Finding(
                Reason.RULE_WITHOUT_BACKENDS,
                f'rule "{rule.name}" refuses every request: none of its backends can be used; '
                "see the references that do not resolve",
            )
        elif named <= forbidden:
            yield Finding(
                Reason.RULE_WITHOUT_BACKENDS,
                f'rule "{rule.name}" refuses every request: {_culprits(policy, named)} '
                "its backends; add one that meets the requirement",
            )


def _emptied_for_good(policy: ir.Policy) -> Iterator[Finding]:
    forbidden = always_forbidden(policy.guardrails)
    for rule in policy.rules:
        if _members(rule) <= forbidden:
            continue
        for tier in rule.tiers:
            named = _names(tier)
            if named and named <= forbidden:
                yield Finding(
                    Reason.TIER_EMPTIED_BY_GUARDRAIL,
                    f'tier "{tier.name}" of rule "{rule.name}" never serves: '
                    f"{_culprits(policy, named)} its backends; remove the tier, or add a backend "
                    "that meets the requirement",
                )


def _culprits(policy: ir.Policy, named: frozenset[str]) -> str:
    guilty = [
        _owned(guardrail, policy)
        for guardrail in policy.guardrails
        if not guardrail.when and named.intersection(guardrail.forbids)
    ]
    verb = "forbids all" if len(guilty) == 1 else "together forbid all"
    return f"{listed(guilty)} {verb} ({listed(sorted(named))}) of"


def _emptied_at_times(policy: ir.Policy) -> Iterator[Finding]:
    """Find the rules that a guardrail with a condition leaves nothing of.

    A tier that it empties while others of the rule serve is what such guardrails are for.
    """
    forbidden = always_forbidden(policy.guardrails)
    for guardrail in policy.guardrails:
        if not guardrail.when or not guardrail.forbids:
            continue
        emptied = [
            f'"{rule.name}"'
            for rule in policy.rules
            if (left := _members(rule) - forbidden) and left <= frozenset(guardrail.forbids)
        ]
        if emptied:
            yield Finding(
                Reason.TIER_EMPTIED_BY_GUARDRAIL,
                f"while {_quoted(guardrail.when)}: {_owned(guardrail, policy)} leaves no backend "
                f"in {'rules' if len(emptied) > 1 else 'rule'} {listed(emptied)}",
            )


def _not_offered(rules: Sequence[ir.Rule], offers: Offers) -> Iterator[Finding]:
    for rule in rules:
        wanted = rule.match.apis if rule.match is not None else ()
        sets = [offers.get(name) for name in _members(rule)]
        if not wanted or not sets or None in sets:
            continue
        offered = {api for each in sets if each is not None for api in each}
        missing = [api for api in wanted if api not in offered]
        if missing:
            yield Finding(
                Reason.API_NOT_OFFERED,
                f'rule "{rule.name}" matches {listed(missing)}, which none of its backends offers '
                "(capabilities.apis): such requests are refused; correct match.apis, or add a "
                "backend that offers it",
            )


def _members(rule: ir.Rule) -> frozenset[str]:
    return frozenset(member.backend for tier in rule.tiers for member in tier.members)


def _names(tier: ir.Tier) -> frozenset[str]:
    return frozenset(member.backend for member in tier.members)


def _owned(guardrail: ir.Guardrail, policy: ir.Policy) -> str:
    of = f" of RoutingPolicy {guardrail.policy}" if guardrail.policy != policy.name else ""
    return f'guardrail "{guardrail.name}"{of}'


def _quoted(expression: str) -> str:
    text = " ".join(expression.split())
    return text if len(text) <= _QUOTED_MAX else text[: _QUOTED_MAX - 1] + "…"
