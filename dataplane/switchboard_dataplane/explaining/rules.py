"""Why a policy answers, and which of its guardrails and rules hold: each asked by itself.

A match is taken apart into matches of one field each, so that the function that decides is the one
that says which fields fail.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from switchboard_dataplane.claims import claims_on
from switchboard_dataplane.decision.arms import arm_at
from switchboard_dataplane.decision.candidates import bits
from switchboard_dataplane.decision.eligible import applies
from switchboard_dataplane.decision.match import FAILED, Conditions, mismatch, passed_by
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Matcher, Policy, Snapshot
from switchboard_dataplane.decision.running import Rule as RunningRule
from switchboard_dataplane.explaining import form

#: By the first place in which two claims differ.
_PRECEDENCE: Final = (
    "the administrator's order of namespaces",
    "its priority is lower",
    "an exact name comes before a pattern",
    "a longer prefix comes before a shorter one",
    "the other policy's name comes first",
)
_NOTHING: Final = Matcher(
    apis=frozenset(),
    tags=frozenset(),
    headers=(),
    keywords=(),
    tokens_min=None,
    tokens_max=None,
    system_prompt=(),
)
_TEXTS: Final = {
    "keywords": "none of them in what the user says",
    "systemPrompt": "none of them in the system prompt",
}
#: The text is too long to look for all of that in it: see ``decision.match.Conditions``.
_UNTOLD: Final = "a text that is too long to tell"
#: So many claims to a model are told of.
CLAIMS_MAX: Final = 50
#: More would fill a screen.
SHOWN_MAX: Final = 8


def claims_of(snapshot: Snapshot, model: str) -> tuple[form.Claim, ...]:
    """Return who claims a model's name: the policy that answers first, and why the others lose."""
    found = claims_on((one.spec for one in snapshot.policies.values()), model)
    told: list[form.Claim] = []
    policies: set[str] = set()
    for claimed, claim in found:
        # One policy may claim a name in several ways: its best counts.
        if claim.policy not in policies and len(told) < CLAIMS_MAX:
            policies.add(claim.policy)
            lost_by = "" if not told else _why_lost(found[0][1].order, claim.order)
            told.append(form.Claim(policy=claim.policy, model=claimed, lost_by=lost_by))
    return tuple(told)


def _why_lost(winner: Sequence[object], loser: Sequence[object]) -> str:
    at = next(at for at, (one, other) in enumerate(zip(winner, loser, strict=True)) if one != other)
    return _PRECEDENCE[at]


def arm_of(policy: Policy, view: RequestView) -> form.Arm | None:
    """Return the arm that the decision has put the request on; None where nothing is compared."""
    if not view.arm:
        return None
    total = sum(arm.weight for arm in policy.arms)
    weight = next((arm.weight for arm in policy.arms if arm.name == view.arm), 0)
    by = "session" if view.session else "user" if view.user else "chance"
    return form.Arm(name=view.arm, by=by, share=weight / total if total else 0.0)


def has_arm(policy: Policy, name: str) -> bool:
    """Say whether anybody is on an arm of that name."""
    return bool(policy.arms) and bool(arm_at([one for one in policy.arms if one.name == name], 0))


def conditions_of(
    snapshot: Snapshot, policy: Policy, view: RequestView, won: str
) -> tuple[tuple[form.Guardrail, ...], tuple[form.Rule, ...]]:
    """Return all guardrails and rules of a policy, and what the request is to each."""
    conditions = Conditions(snapshot, policy, view)
    aside = Conditions(snapshot, policy, view)
    guardrails = _guardrails(policy, conditions)
    return guardrails, _rules(policy, view, conditions, aside, won)


def _guardrails(policy: Policy, conditions: Conditions) -> tuple[form.Guardrail, ...]:
    """Return every guardrail over the policy, and whether it applies to the request."""
    told: list[form.Guardrail] = []
    for guardrail in policy.guardrails:
        errors = conditions.errors
        held = applies(guardrail, conditions)
        told.append(
            form.Guardrail(
                name=guardrail.name,
                policy=guardrail.policy,
                applies=held,
                forbids=tuple(policy.backends[number] for number in bits(guardrail.forbids)),
                when="" if guardrail.when is None else guardrail.when.source,
                failed=conditions.errors > errors,
            )
        )
    return tuple(told)


def _rules(
    policy: Policy, view: RequestView, conditions: Conditions, aside: Conditions, won: str
) -> tuple[form.Rule, ...]:
    """Return every rule in its order, and what of it does not hold.

    ``conditions`` has told the guardrails, as it has for a decision: what it cannot tell any more
    it could not tell there. What a decision does not ask is asked of ``aside``.
    """
    told: list[form.Rule] = []
    reached = True
    for rule in policy.rules:
        errors = conditions.errors
        fails = passed_by(rule, view, conditions)
        untold = fails if conditions.errors > errors else None
        told.append(
            form.Rule(
                name=rule.name,
                matches=fails is None,
                won=reached and rule.name == won,
                reached=reached,
                fields=() if fails is None else tuple(_fields(rule, view, aside, untold)),
                when="" if rule.when is None else rule.when.source,
                held=fails is None or (None if untold == FAILED else _held(rule, aside)),
            )
        )
        reached = reached and rule.name != won
    return tuple(told)


def _held(rule: RunningRule, conditions: Conditions) -> bool | None:
    if rule.when is None:
        return True
    errors = conditions.errors
    held = conditions.holds(rule.when, on_error=False)
    return None if conditions.errors > errors else held


def _fields(
    rule: RunningRule, view: RequestView, aside: Conditions, untold: str | None
) -> Iterator[form.Field]:
    """Yield the fields of a rule's match that fail, each with what it asks for."""
    if rule.matcher is None:
        return
    for part, wants in _parts(rule.matcher):
        errors = aside.errors
        field = mismatch(part, view, aside)
        asked = "keywords" if part.keywords else "systemPrompt" if part.system_prompt else ""
        if asked and (asked == untold or aside.errors > errors):
            yield form.Field(field=asked, wants=wants, has=_UNTOLD)
        elif field is not None:
            yield form.Field(field=field, wants=wants, has=_has(field, part, view))


def _parts(matcher: Matcher) -> Iterator[tuple[Matcher, str]]:
    """Yield a match for each field, with what it wants in words."""
    yield replace(_NOTHING, apis=matcher.apis), _one_of(sorted(matcher.apis))
    yield replace(_NOTHING, tags=matcher.tags), _one_of(sorted(matcher.tags))
    yield replace(_NOTHING, tokens_min=matcher.tokens_min), f"at least {matcher.tokens_min}"
    yield replace(_NOTHING, tokens_max=matcher.tokens_max), f"at most {matcher.tokens_max}"
    yield replace(_NOTHING, roles=matcher.roles), _one_of(sorted(matcher.roles))
    yield replace(_NOTHING, stages=matcher.stages), _one_of(sorted(matcher.stages))
    yield replace(_NOTHING, arms=matcher.arms), _one_of(sorted(matcher.arms))
    for name, value in matcher.headers:
        wants = name if value is None else f"{name}: {value}"
        yield replace(_NOTHING, headers=((name, value),)), wants
    words = [word for word, _ in matcher.keywords]
    keywords = replace(_NOTHING, keywords=matcher.keywords, keywords_ns=matcher.keywords_ns)
    yield keywords, _one_of(words)
    phrases, phrases_ns = matcher.system_prompt, matcher.system_prompt_ns
    system_prompt = replace(_NOTHING, system_prompt=phrases, system_prompt_ns=phrases_ns)
    yield system_prompt, _one_of(phrases)


def _has(field: str, part: Matcher, view: RequestView) -> str:
    """Say what a request has in a field; of texts and of headers' values not a word."""
    if field == "headers":
        return "another value" if part.headers[0][0] in view.headers else "no such header"
    if field in _TEXTS:
        return _TEXTS[field]
    has = {
        "apis": view.api,
        "tags": ", ".join(view.tags),
        "tokens.min": str(view.tokens),
        "tokens.max": str(view.tokens),
        "roles": view.role,
        "stages": view.stage,
        "arms": view.arm,
    }
    return has[field] or "none"


def _one_of(words: Sequence[str]) -> str:
    more = len(words) - SHOWN_MAX
    told = ", ".join(words[:SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
    return told if len(words) == 1 else f"one of {told}"
