"""Who answers for a public model name when several policies claim it, and what the losers read.

Precedence: the administrator's order of namespaces, then priority, then exact before wildcard and
longer before shorter, then namespace/name. Never age.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import Final, NamedTuple

from switchboard_policy.compiler.report import Finding, bounded
from switchboard_policy.compiler.world import Name
from switchboard_policy.v1alpha1.conditions import Reason

#: How many of the names that a wildcard does not get its policy is told.
NARROWER_TOLD_MAX: Final = 3
#: Above every character that a model name can have: the end of a prefix's range.
_LAST: Final = "\U0010ffff"


class Claim(NamedTuple):
    """What a policy claims, and by what right; a lower rank and a higher priority win."""

    policy: Name
    namespace_rank: int
    priority: int
    models: tuple[str, ...]


class Lost(NamedTuple):
    """What a policy lost to others, and whether it has no name left to answer for."""

    findings: tuple[Finding, ...] = ()
    nameless: bool = False


class Taken(NamedTuple):
    """A pattern that a policy holds, and by what right."""

    pattern: str
    namespace_rank: int
    priority: int


class _Right(NamedTuple):
    """A claim to one pattern: of two, the smaller wins."""

    namespace_rank: int
    lower_priority: int
    wildcard: bool
    shortness: int
    policy: Name


class Claims:
    """The claims of all policies, in an order in which few have to be looked at for a change."""

    def __init__(self) -> None:
        self._claims: dict[Name, Claim] = {}
        self._rights: dict[str, list[_Right]] = {}
        """The sorted rights to each pattern: the first one holds it."""
        self._patterns: list[str] = []
        self._stem_lengths: Counter[int] = Counter()
        """Of the wildcards."""

    @classmethod
    def lost(cls, claim: Claim, others: Iterable[Claim]) -> Lost:
        """Return what one claim loses to others; those that share no name may be left out."""
        best: dict[str, _Right] = {}
        overlaps = overlap(claim.models)
        for other in others:
            for model in filter(overlaps, other.models):
                right = _right(other, model)
                if model not in best or right < best[model]:
                    best[model] = right
        made = cls()
        made._claims[claim.policy] = claim
        made._enter(claim, {})
        for model, right in best.items():
            made._grant(model, right)
        return made._lost(claim.policy)

    def update(self, changes: Mapping[Name, Claim | None]) -> dict[Name, Lost]:
        """Take in claims, new, changed or gone (None).

        Returns what policies have lost, to whom and why, for all for which it may have changed.
        """
        before: dict[str, _Right | None] = {}
        for name, claim in changes.items():
            old = self._claims.pop(name, None)
            if old is not None:
                self._withdraw(old, before)
            if claim is not None:
                self._claims[name] = claim
                self._enter(claim, before)
        affected = set(changes)
        for pattern, holder in before.items():
            if self._holder(pattern) != holder:
                affected.update(self._concerned(pattern))
        return {name: self._lost(name) for name in affected}

    def left_to(self, name: Name, among: Set[Name]) -> tuple[str, ...]:
        """Return the names of a policy's claim that no policy beyond ``among`` takes as a whole."""
        claim = self._claims.get(name)
        if claim is None:
            return ()
        return tuple(model for model in claim.models if self._winner(model).policy in among)

    def taken_from(self, policies: Iterable[Name], among: Set[Name]) -> set[Taken]:
        """Return what policies beyond ``among`` hold of the names that these policies claim.

        Only what goes before such a claim, by the order of precedence.
        """
        found: set[Taken] = set()
        for claim in (self._claims[name] for name in policies):
            for model in claim.models:
                own = _right(claim, model)
                for pattern in self._overlapping(model):
                    holder = self._rights[pattern][0]
                    if holder < own and holder.policy not in among:
                        rank, lower_priority, *_ = holder
                        found.add(Taken(pattern, rank, -lower_priority))
        return found

    def _withdraw(self, claim: Claim, before: dict[str, _Right | None]) -> None:
        for model in claim.models:
            before.setdefault(model, self._holder(model))
            rights = self._rights[model]
            rights.remove(_right(claim, model))
            if not rights:
                del self._rights[model]
                del self._patterns[bisect_left(self._patterns, model)]
                if model.endswith("*"):
                    self._stem_lengths -= Counter((len(model) - 1,))

    def _enter(self, claim: Claim, before: dict[str, _Right | None]) -> None:
        for model in claim.models:
            before.setdefault(model, self._holder(model))
            self._grant(model, _right(claim, model))

    def _grant(self, model: str, right: _Right) -> None:
        if model not in self._rights:
            self._rights[model] = []
            insort(self._patterns, model)
            if model.endswith("*"):
                self._stem_lengths[len(model) - 1] += 1
        insort(self._rights[model], right)

    def _holder(self, pattern: str) -> _Right | None:
        rights = self._rights.get(pattern)
        return rights[0] if rights else None

    def _concerned(self, pattern: str) -> Iterator[Name]:
        """Yield the policies that may lose or regain names as the pattern has a new holder."""
        yield from (right.policy for right in self._rights.get(pattern, ()))
        yield from (right.policy for right, _ in self._wider(pattern))
        if pattern.endswith("*"):
            for narrower in self._under(pattern[:-1]):
                yield from (right.policy for right in self._rights[narrower])

    def _wider(self, pattern: str) -> Iterator[tuple[_Right, str]]:
        """Yield the holders of the other wildcards that match all that the pattern matches."""
        stem = pattern.removesuffix("*")
        for length in self._stem_lengths:
            wildcard = stem[:length] + "*"
            if length <= len(stem) and wildcard != pattern and wildcard in self._rights:
                yield self._rights[wildcard][0], wildcard

    def _overlapping(self, pattern: str) -> Iterator[str]:
        """Yield the patterns, this one too, that match a name which this one matches."""
        yield from (wildcard for _, wildcard in self._wider(pattern))
        yield from self._under(pattern[:-1]) if pattern.endswith("*") else (pattern,)

    def _winner(self, pattern: str) -> _Right:
        """Return who has all that a pattern matches, but for what narrower ones take of it."""
        return min([self._rights[pattern][0], *(right for right, _ in self._wider(pattern))])

    def _under(self, stem: str) -> list[str]:
        start, end = (bisect_left(self._patterns, edge) for edge in (stem, stem + _LAST))
        return self._patterns[start:end]

    def _lost(self, name: Name) -> Lost:
        claim = self._claims.get(name)
        if claim is None:
            return Lost()
        whole = [self._loses_all_of(claim, model) for model in claim.models]
        messages = [
            text or self._loses_part_of(claim, model)
            for text, model in zip(whole, claim.models, strict=True)
        ]
        findings = [Finding(Reason.MODEL_NAME_CLAIMED, text) for text in messages if text]
        return Lost(bounded(findings), nameless=bool(whole) and all(whole))

    def _loses_all_of(self, claim: Claim, model: str) -> str:
        """Say who takes a name away, a wildcard with all that it matches; "" if nobody does."""
        own = _right(claim, model)
        winner, pattern = min([(self._rights[model][0], model), *self._wider(model)])
        if winner >= own:
            return ""
        fix = "or raise spec.priority"
        if winner.namespace_rank != own.namespace_rank:
            fix = "or have the gateway's administrator change that order"
        return (
            f'the model name "{model}" goes to RoutingPolicy {winner.policy}, which claims '
            f'"{pattern}" and comes first by {_why(winner, own)}: claim another name, {fix}'
        )

    def _loses_part_of(self, claim: Claim, model: str) -> str:
        """Say which of the names that a wildcard matches go elsewhere; "" if none does."""
        own = _right(claim, model)
        taken = list(islice(self._narrower(claim, own, model), NARROWER_TOLD_MAX + 1))
        if not taken:
            return ""
        more = " and others" if len(taken) > NARROWER_TOLD_MAX else ""
        return (
            f'the model names "{model}" come here but for '
            f"{', '.join(taken[:NARROWER_TOLD_MAX])}{more}: to have them too, raise spec.priority"
        )

    def _narrower(self, claim: Claim, own: _Right, model: str) -> Iterator[str]:
        """Yield the narrower patterns that others hold by more than being narrower.

        A wildcard that gives way to an exact name is what people write wildcards for.
        """
        if not own.wildcard:
            return
        for pattern in self._under(model[:-1]):
            winner = self._rights[pattern][0]
            if winner[:2] < own[:2] and pattern not in claim.models:
                yield f'"{pattern}" (RoutingPolicy {winner.policy}, by {_why(winner, own)})'


def overlap(mine: Sequence[str]) -> Callable[[str], bool]:
    """Return whether a pattern matches a model name that one of mine matches too."""
    exact = frozenset(mine)
    stems = tuple(model[:-1] for model in mine if model.endswith("*"))

    def overlaps(theirs: str) -> bool:
        if theirs in exact or theirs.startswith(stems):
            return True
        return theirs.endswith("*") and any(each.startswith(theirs[:-1]) for each in mine)

    return overlaps


def _right(claim: Claim, model: str) -> _Right:
    return _Right(
        claim.namespace_rank, -claim.priority, model.endswith("*"), -len(model), claim.policy
    )


def _why(winner: _Right, loser: _Right) -> str:
    if winner.namespace_rank != loser.namespace_rank:
        return "the gateway's order of namespaces"
    if winner.lower_priority != loser.lower_priority:
        return f"priority ({-winner.lower_priority} over {-loser.lower_priority})"
    if (winner.wildcard, winner.shortness) != (loser.wildcard, loser.shortness):
        return "exactness"
    return "namespace and name, all else being equal"
