"""Which policy answers for a model name, and which of its rules matches a request."""

from collections.abc import Callable
from re import Pattern
from typing import Any, Final

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Matcher, Policy, Rule, Snapshot
from switchboard_policy.facts import Program

#: What of a rule does not hold, beside the fields of its match: its expression is false, or fails.
WHEN: Final = "when"
FAILED: Final = "failed"

#: How each CEL fact is read off a request: one for each of ``facts.REQUEST_FACTS``.
FACT_READERS: Final[dict[str, Callable[[RequestView], Any]]] = {
    "request.model": lambda view: view.model,
    "request.api": lambda view: view.api,
    "request.tokens": lambda view: view.tokens,
    "request.maxTokens": lambda view: view.max_tokens,
    "request.stream": lambda view: view.stream,
    "request.tools": lambda view: view.tools,
    "request.modalities": lambda view: sorted(view.modalities),
    "request.headers": lambda view: view.headers,
    "request.tags": lambda view: list(view.tags),
    "request.metadata": lambda view: view.metadata,
    "request.user": lambda view: view.user,
    "request.session": lambda view: view.session,
    "request.system": lambda view: view.system,
    "request.prompt": lambda view: view.prompt,
    "request.role": lambda view: view.role,
    "request.stage": lambda view: view.stage,
    "request.latencyClass": lambda view: view.latency_class,
    "request.minQuality": lambda view: view.min_quality,
    "request.labels": lambda view: view.labels,
    "request.arm": lambda view: view.arm,
    "client.kind": lambda view: view.client.kind,
    "client.name": lambda view: view.client.name,
    "client.namespace": lambda view: view.client.namespace,
    "client.tier": lambda view: view.client.tier,
    "client.team": lambda view: view.client.team,
    "client.labels": lambda view: view.client.labels,
    "client.models": lambda view: list(view.client.models),
    "client.expires": lambda view: view.client.expires,
    "signals.task": lambda view: view.readings["task"],
    "signals.domain": lambda view: view.readings["domain"],
    "signals.language": lambda view: view.readings["language"],
    # A gain, which the reading has as it was predicted.
    "signals.complexity": lambda view: min(1.0, max(0.0, view.readings["complexity"])),
    "signals.sentiment": lambda view: view.readings["sentiment"],
    "signals.urgent": lambda view: view.readings["urgent"],
    "signals.code": lambda view: view.readings["code"],
    "signals.injection": lambda view: view.readings["injection"],
    "signals.pii": lambda view: list(view.readings["pii"]),
    "signals.secrets": lambda view: list(view.readings["secrets"]),
    "signals.intents": lambda view: list(view.readings["intents"]),
    "signals.sessionCost": lambda view: view.readings["sessionCost"],
    "signals.lastModel": lambda view: view.readings["lastModel"],
}


def find_policy(snapshot: Snapshot, model: str) -> Policy | None:
    """Return the policy with the strongest claim to a model name."""
    exact = snapshot.exact.get(model)
    for wildcard in snapshot.wildcards:
        if exact is not None and exact.order < wildcard.order:
            break
        if model.startswith(wildcard.prefix):
            return snapshot.policies[wildcard.policy]
    return snapshot.policies[exact.policy] if exact is not None else None


class Conditions:
    """The expressions of one policy, evaluated for one request; facts are bound on first use.

    ``errors`` counts evaluations that failed (a missing map key, say).
    """

    __slots__ = ("_bound", "_policy", "_snapshot", "_view", "errors")

    def __init__(self, snapshot: Snapshot, policy: Policy, view: RequestView) -> None:
        self._snapshot = snapshot
        self._policy = policy
        self._view = view
        self._bound: Any = None
        self.errors = 0

    def holds(self, program: Program, *, on_error: bool) -> bool:
        """Evaluate a condition; a failed evaluation is counted and means ``on_error``."""
        if self._bound is None:
            view = self._view
            self._bound = self._snapshot.facts.bind(
                {fact: FACT_READERS[fact](view) for fact in self._policy.facts}
            )
        outcome = program.holds(self._bound)
        if outcome is None:
            self.errors += 1
            return on_error
        return outcome


def find_rule(policy: Policy, view: RequestView, conditions: Conditions) -> Rule | None:
    """Return the first rule that matches; None only where a policy has no default rule."""
    for rule in policy.rules:
        if passed_by(rule, view, conditions) is None:
            return rule
    return None


def passed_by(rule: Rule, view: RequestView, conditions: Conditions) -> str | None:
    """Return the first thing of a rule that does not hold; None where it matches.

    A field of its match, WHEN, or FAILED where its expression cannot be evaluated.
    """
    if rule.matcher is not None:
        field = mismatch(rule.matcher, view)
        if field is not None:
            return field
    if rule.when is not None:
        errors = conditions.errors
        if not conditions.holds(rule.when, on_error=False):
            return WHEN if conditions.errors == errors else FAILED
    return None


def mismatch(matcher: Matcher, view: RequestView) -> str | None:
    """Return the first field of a structured match that does not hold; None if all do.

    Cheap fields come first.
    """
    return (
        _size_mismatch(matcher, view)
        or _agent_mismatch(matcher, view)
        or _text_mismatch(matcher, view)
    )


def _size_mismatch(matcher: Matcher, view: RequestView) -> str | None:
    if matcher.apis and view.api not in matcher.apis:
        return "apis"
    if matcher.tags and matcher.tags.isdisjoint(view.tags):
        return "tags"
    if matcher.tokens_min is not None and view.tokens < matcher.tokens_min:
        return "tokens.min"
    if matcher.tokens_max is not None and view.tokens > matcher.tokens_max:
        return "tokens.max"
    return None


def _agent_mismatch(matcher: Matcher, view: RequestView) -> str | None:
    if matcher.roles and view.role not in matcher.roles:
        return "roles"
    if matcher.stages and view.stage not in matcher.stages:
        return "stages"
    if matcher.arms and view.arm not in matcher.arms:
        return "arms"
    return None


def _text_mismatch(matcher: Matcher, view: RequestView) -> str | None:
    if not _headers_match(matcher, view):
        return "headers"
    if matcher.keywords and not _any_keyword(matcher.keywords, view.prompt_lower):
        return "keywords"
    if matcher.system_prompt and not _in_system_prompt(matcher.system_prompt, view):
        return "systemPrompt"
    return None


def _headers_match(matcher: Matcher, view: RequestView) -> bool:
    for name, value in matcher.headers:
        found = view.headers.get(name)
        if found is None or (value is not None and found != value):
            return False
    return True


def _in_system_prompt(phrases: tuple[str, ...], view: RequestView) -> bool:
    system = view.system.lower()
    return any(phrase in system for phrase in phrases)


def _any_keyword(keywords: tuple[tuple[str, Pattern[str]], ...], prompt: str) -> bool:
    # A substring search is an order of magnitude faster than a pattern, and most words miss.
    return any(word in prompt and whole.search(prompt) is not None for word, whole in keywords)
