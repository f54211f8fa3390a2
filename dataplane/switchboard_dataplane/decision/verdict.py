"""What a decision says: where to send the request, or why nowhere.

What is made for every request is written with an ``__init__`` of its own, here and elsewhere:
compiled, it costs a fifth of a dataclass's and a tenth of a frozen one's, and a request makes
a dozen. Final attributes are what frozen is: mypy refuses to set them again.
"""

from dataclasses import dataclass
from typing import Final

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Endpoint, Policy, Rule, Snapshot, Tier


class Plan:
    """The part of a decision that holds for all attempts: rule and eligible backends.

    ``eligible`` is a mask over ``policy.backends``: hard filters and guardrails are in it, so no
    attempt can leave them.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        view: RequestView,
        policy: Policy,
        rule: Rule,
        *,
        eligible: int,
        guardrails: tuple[str, ...],
        expression_errors: int,
    ) -> None:
        self.snapshot: Final = snapshot
        self.view: Final = view
        self.policy: Final = policy
        self.rule: Final = rule
        self.eligible: Final = eligible
        self.guardrails: Final = guardrails
        self.expression_errors: Final = expression_errors


class Candidate:
    """An endpoint that was picked, and the tier that it stands in."""

    def __init__(self, endpoint: Endpoint, tier: Tier, tier_index: int) -> None:
        self.endpoint: Final = endpoint
        self.tier: Final = tier
        self.tier_index: Final = tier_index


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt that failed; ``again`` says that the same endpoint may get it once more.

    ``whole_backend`` says that no endpoint of the backend is worth another attempt (a refused
    credential).
    """

    candidate: Candidate
    again: bool = False
    whole_backend: bool = False


class Decision:
    """A plan and the first candidate."""

    def __init__(self, plan: Plan, candidate: Candidate) -> None:
        self.plan: Final = plan
        self.candidate: Final = candidate


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
