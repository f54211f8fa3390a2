"""Which policy answers for a model name, and which of its rules matches a request."""

from collections.abc import Callable
from typing import Any, Final

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Matcher, Policy, Rule, Snapshot
from switchboard_policy.costs.cost import BUDGET_NS, size_of
from switchboard_policy.facts import Program

#: What of a rule does not hold, beside the fields of its match: its expression is false, or fails.
WHEN: Final = "when"
FAILED: Final = "failed"
#: To look for a whole word takes so long at worst, for each character; measured.
WORD_NS: Final = 40

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

    They share a budget of time: what could take longer than is left of it is not evaluated. It is
    charged by what things take at worst, so that a request is always decided alike. ``errors``
    counts what could not be told: that, and evaluations that failed (a missing map key, say).
    """

    __slots__ = ("_bound", "_left_ns", "_policy", "_sizes", "_snapshot", "_view", "errors")

    def __init__(self, snapshot: Snapshot, policy: Policy, view: RequestView) -> None:
        self._snapshot = snapshot
        self._policy = policy
        self._view = view
        self._bound: Any = None
        self._left_ns = BUDGET_NS
        self._sizes: dict[str, int] = {}
        self.errors = 0

    def affords(self, cost_ns: int) -> bool:
        """Say whether there is so much left, and take it; where there is not, it is counted."""
        if cost_ns > self._left_ns:
            self.errors += 1
            return False
        self._left_ns -= cost_ns
        return True

    def holds(self, program: Program, *, on_error: bool) -> bool:
        """Evaluate a condition; what cannot be told is counted and means ``on_error``."""
        cost_ns, per_char = program.cost
        for fact, ns in per_char:
            cost_ns += ns * self._size(fact)
        if not self.affords(cost_ns):
            return on_error
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

    def _size(self, fact: str) -> int:
        size = self._sizes.get(fact)
        if size is None:
            size = self._sizes[fact] = size_of(FACT_READERS[fact](self._view))
        return size


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
        field = mismatch(rule.matcher, view, conditions)
        if field is not None:
            return field
    if rule.when is not None:
        errors = conditions.errors
        if not conditions.holds(rule.when, on_error=False):
            return WHEN if conditions.errors == errors else FAILED
    return None


def mismatch(matcher: Matcher, view: RequestView, conditions: Conditions) -> str | None:
    """Return the first field of a structured match that does not hold; None if all do.

    Cheap fields come first. Texts are looked through within the budget of the conditions.
    """
    return (
        _size_mismatch(matcher, view)
        or _agent_mismatch(matcher, view)
        or _text_mismatch(matcher, view, conditions)
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


def _text_mismatch(matcher: Matcher, view: RequestView, conditions: Conditions) -> str | None:
    if not _headers_match(matcher, view):
        return "headers"
    if matcher.keywords and not _any_keyword(matcher, view, conditions):
        return "keywords"
    if matcher.system_prompt and not _in_system_prompt(matcher, view, conditions):
        return "systemPrompt"
    return None


def _headers_match(matcher: Matcher, view: RequestView) -> bool:
    for name, value in matcher.headers:
        found = view.headers.get(name)
        if found is None or (value is not None and found != value):
            return False
    return True


def _in_system_prompt(matcher: Matcher, view: RequestView, conditions: Conditions) -> bool:
    if not conditions.affords(matcher.system_prompt_ns * len(view.system)):
        return False
    system = view.system.lower()
    return any(phrase in system for phrase in matcher.system_prompt)


def _any_keyword(matcher: Matcher, view: RequestView, conditions: Conditions) -> bool:
    if not conditions.affords(matcher.keywords_ns * len(view.prompt)):
        return False
    prompt = view.prompt_lower
    word_ns = WORD_NS * len(prompt)
    # A substring search is an order of magnitude faster than a pattern, and most words miss.
    return any(
        word in prompt and conditions.affords(word_ns) and whole.search(prompt) is not None
        for word, whole in matcher.keywords
    )
