"""Who answers for a model name: the claims of all policies, kept from edit to edit.

Precedence: the administrator's order of namespaces, then priority, then exact before wildcard and
longer before shorter, then the policy's name.
"""

from collections.abc import Iterable, Iterator, Mapping

from switchboard_dataplane.decision.running import Exact, Wildcard
from switchboard_policy import ir


class ClaimIndex:
    """The claims to model names; an edit looks at the names of its own policy alone.

    ``exact`` and ``wildcards`` are what a snapshot has: they are replaced, never changed.
    """

    def __init__(self) -> None:
        self.exact: dict[str, Exact] = {}
        self.wildcards: tuple[Wildcard, ...] = ()
        self._policies: dict[str, ir.Policy] = {}
        self._exact: dict[str, dict[str, Exact]] = {}
        self._holders: dict[str, Exact] = {}
        self._wildcards: dict[tuple[str, str], Wildcard] = {}
        self._moved = False
        self._wildcards_moved = False

    def put(self, policy: ir.Policy) -> None:
        """Take in what a policy claims now."""
        before = self._policies.get(policy.name)
        if before is None or _claims(before) != _claims(policy):
            self.drop(policy.name)
            self._enter(policy)
        self._policies[policy.name] = policy

    def drop(self, name: str) -> None:
        """Forget the claims of a policy, if it has any."""
        before = self._policies.pop(name, None)
        if before is not None:
            self._withdraw(before)

    def settle(self) -> None:
        """Bring ``exact`` and ``wildcards`` up to date."""
        if self._moved:
            self.exact, self._moved = self._holders.copy(), False
        if self._wildcards_moved:
            self.wildcards = tuple(sorted(self._wildcards.values(), key=lambda one: one.order))
            self._wildcards_moved = False

    def _enter(self, policy: ir.Policy) -> None:
        for model, claim in claims_of(policy):
            if isinstance(claim, Wildcard):
                self._wildcards[model, policy.name] = claim
                self._wildcards_moved = True
            else:
                claims = self._exact.setdefault(model, {})
                claims[policy.name] = claim
                self._hold(model, claims)

    def _withdraw(self, policy: ir.Policy) -> None:
        for model in policy.models:
            if model.endswith("*"):
                self._wildcards.pop((model, policy.name), None)
                self._wildcards_moved = True
                continue
            claims = self._exact.get(model, {})
            claims.pop(policy.name, None)
            self._hold(model, claims)

    def _hold(self, model: str, claims: Mapping[str, Exact]) -> None:
        self._moved = True
        if claims:
            self._holders[model] = min(claims.values(), key=lambda one: one.order)
        else:
            self._exact.pop(model, None)
            self._holders.pop(model, None)


def claims_of(policy: ir.Policy) -> Iterator[tuple[str, Exact | Wildcard]]:
    """Yield what a policy claims: each name or pattern, and its place in the precedence."""
    rank, name = (policy.namespace_rank, -policy.priority), policy.name
    for model in policy.models:
        prefix = model.removesuffix("*")
        if prefix == model:
            yield model, Exact(order=(*rank, 0, 0, name), policy=name)
        else:
            order = (*rank, 1, -len(prefix), name)
            yield model, Wildcard(prefix=prefix, order=order, policy=name)


def claims_on(policies: Iterable[ir.Policy], model: str) -> list[tuple[str, Exact | Wildcard]]:
    """Return the claims that cover a model name, the one that holds it first."""
    found = [
        (claimed, claim)
        for policy in policies
        for claimed, claim in claims_of(policy)
        if (model.startswith(claim.prefix) if isinstance(claim, Wildcard) else model == claimed)
    ]
    return sorted(found, key=lambda one: one[1].order)


def _claims(policy: ir.Policy) -> tuple[tuple[str, ...], int, int]:
    return policy.models, policy.namespace_rank, policy.priority
