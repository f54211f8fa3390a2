"""What the compiler says of each object: the raw material of its conditions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from switchboard_policy.compiler.world import Name
from switchboard_policy.v1alpha1.conditions import Reason
from switchboard_policy.v1alpha1.parse import Problem

MODEL_BACKEND: Final = "ModelBackend"
ROUTING_POLICY: Final = "RoutingPolicy"

#: A condition's message holds 32 KiB; a person reads the first few.
FINDINGS_MAX: Final = 16
#: How many names one message lists before it counts the rest.
LISTED_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """A reason and a sentence that names the value and the fix."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class ObjectReport:
    """The verdict on one object in one gateway; empty tuples mean that all is well.

    ``rejected``: why it is not accepted. ``unresolved``: references that do not resolve.
    ``warnings``: what the analysis noticed. ``keys`` are the store's object keys that must be in
    force at a pod for this object to be; empty if nothing of it is published (``published`` says
    why not by its absence: rejected, or a backend that no policy uses). Those of a platform
    guardrail are the policies that carry it.
    ``quarantined``: an edit is rejected and the last good spec is in force. ``nameless``: other
    policies answer for every model name that it claims, so that no request comes here.
    """

    kind: str
    name: Name
    generation: int
    rejected: tuple[Finding, ...] = ()
    unresolved: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    keys: tuple[str, ...] = ()
    quarantined: bool = False
    nameless: bool = False
    endpoints_ready: int = 0
    endpoints_total: int = 0


def rejections(problems: Sequence[Problem]) -> tuple[Finding, ...]:
    """Return an object's own problems as findings."""
    return tuple(Finding(problem.reason, str(problem)) for problem in problems)


def bounded(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Keep the first findings, and say how many there are if that is not all of them."""
    if len(findings) <= FINDINGS_MAX:
        return tuple(findings)
    rest = len(findings) - FINDINGS_MAX + 1
    last = Finding(findings[FINDINGS_MAX - 1].reason, f"and {rest} more findings like these")
    return (*findings[: FINDINGS_MAX - 1], last)


def listed(items: Iterable[str]) -> str:
    """Return ``a, b, c and 4 more``."""
    names = list(items)
    rest = len(names) - LISTED_MAX
    return ", ".join(names[:LISTED_MAX]) + (f" and {rest} more" if rest > 0 else "")
