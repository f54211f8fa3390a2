"""What a decision says: where to send the request, or why nowhere."""

import msgspec

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Endpoint, Policy, Rule, Snapshot, Tier


class Plan(msgspec.Struct, eq=False):
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


class Candidate(msgspec.Struct, frozen=True):
    """An endpoint that was picked, and the tier that it stands in."""

    endpoint: Endpoint
    tier: Tier
    tier_index: int


class Tried(msgspec.Struct, frozen=True):
    """An attempt that failed; ``again`` says that the same endpoint may get it once more.

    ``whole_backend`` says that no endpoint of the backend is worth another attempt (a refused
    credential).
    """

    candidate: Candidate
    again: bool = False
    whole_backend: bool = False


class Decision(msgspec.Struct, frozen=True):
    """A plan and the first candidate."""

    plan: Plan
    candidate: Candidate


class Fallen(msgspec.Struct, frozen=True):
    """A candidate that may not serve, and the filter that dropped it."""

    tier: str
    backend: str
    reason: str


class Rejection(msgspec.Struct, frozen=True):
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
