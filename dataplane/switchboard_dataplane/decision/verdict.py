"""What a decision says: where to send the request, or why nowhere."""

from dataclasses import dataclass

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Endpoint, Policy, Rule, Snapshot, Tier


@dataclass(slots=True)
class Plan:
    """The part of a decision that holds for all attempts: rule and eligible backends.

    ``eligible`` is a mask over ``policy.backends``: hard filters and guardrails are in it, so no
    attempt can leave them.
    """

    snapshot: Snapshot
    view: RequestView
    policy: Policy
    rule: Rule
    eligible: int
    guardrails: tuple[str, ...]
    expression_errors: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint that was picked, and the tier that it stands in."""

    endpoint: Endpoint
    tier: Tier
    tier_index: int


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt that failed; ``again`` says that the same endpoint may get it once more.

    ``whole_backend`` says that no endpoint of the backend is worth another attempt (a refused
    credential).
    """

    candidate: Candidate
    again: bool = False
    whole_backend: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """A plan and the first candidate."""

    plan: Plan
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Fallen:
    """A candidate that may not serve, and the filter that dropped it."""

    tier: str
    backend: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """Nothing may serve the request: ``reason`` is a stable code, ``message`` a sentence.

    Codes: ``model_not_found`` (no policy answers for the name), ``no_rule`` (no rule matches),
    ``no_candidate`` (the rule's backends all fell; ``fallen`` says why), ``overloaded`` (some of
    them only because they are at their limit).
    """

    reason: str
    message: str
    policy: str = ""
    rule: str = ""
    fallen: tuple[Fallen, ...] = ()
