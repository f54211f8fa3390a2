"""What a decision says: where to send the request, or why nowhere.

What is made for every request is written with an ``__init__`` of its own, here and elsewhere:
compiled, it costs a fifth of a dataclass's and a tenth of a frozen one's, and a request makes
a dozen. Final attributes are what frozen is: mypy refuses to set them again.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Endpoint, Policy, Rule, Snapshot, Tier
from switchboard_dataplane.signals.tier_loads import SpillCause

NOBODY_RESTS: Final[frozenset[str]] = frozenset()


class Spilled(NamedTuple):
    """A tier that hands its requests on, and the threshold that it has passed."""

    tier: str
    cause: SpillCause


class Plan:
    """The part of a decision that holds for all attempts: rule and eligible backends.

    ``eligible`` is a mask over ``policy.backends``: hard filters and guardrails are in it, so no
    attempt can leave them; ``forbidden`` is what the guardrails take from any other request that is
    made on this one's account. ``resting`` are endpoints that are left alone for now, by id;
    ``chance`` in [0, 1) says when what rests returns to this request, None until it matters.
    ``passed`` are tiers that a first attempt leaves out, as a mask; ``spills`` says of which of
    them it does so because they are busy, and by what.
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
        forbidden: int = 0,
    ) -> None:
        self.snapshot: Final = snapshot
        self.view: Final = view
        self.policy: Final = policy
        self.rule: Final = rule
        self.eligible: Final = eligible
        self.guardrails: Final = guardrails
        self.expression_errors: Final = expression_errors
        self.forbidden: Final = forbidden
        self.resting: frozenset[str] = NOBODY_RESTS
        self.chance: float | None = None
        self.passed = 0
        self.spills: tuple[Spilled, ...] = ()

    def narrowed(self, eligible: int, resting: frozenset[str] | None = None) -> "Plan":
        """Return the plan with fewer backends eligible, and maybe other endpoints at rest."""
        plan = Plan(
            self.snapshot,
            self.view,
            self.policy,
            self.rule,
            eligible=eligible,
            guardrails=self.guardrails,
            expression_errors=self.expression_errors,
            forbidden=self.forbidden,
        )
        plan.resting = self.resting if resting is None else resting
        plan.chance = self.chance
        plan.passed, plan.spills = self.passed, self.spills
        return plan


class Candidate:
    """An endpoint that was picked, and the tier that it stands in.

    ``panic`` says that ejections were ignored, for too few endpoints were left.
    """

    def __init__(
        self, endpoint: Endpoint, tier: Tier, tier_index: int, *, panic: bool = False
    ) -> None:
        self.endpoint: Final = endpoint
        self.tier: Final = tier
        self.tier_index: Final = tier_index
        self.panic: Final = panic


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt that failed; ``again`` says that the same endpoint may get it once more.

    ``whole_backend`` says that no endpoint of the backend is worth another attempt (a refused
    credential). ``failure`` is its name in the taxonomy of errors, ``retry_after_s`` how long the
    upstream asked to wait.
    """

    candidate: Candidate
    again: bool = False
    whole_backend: bool = False
    failure: str = ""
    retry_after_s: float | None = None


class Decision:
    """A plan and the first candidate."""

    def __init__(self, plan: Plan, candidate: Candidate) -> None:
        self.plan: Final = plan
        self.candidate: Final = candidate


@dataclass(frozen=True, slots=True)
class Resting:
    """A plan whose candidates have all asked to be left alone, for a while that is known."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing may serve the request now, and something will soon: it waits until ``until``.

    For an endpoint below its limit, of the backends in ``queues`` (with how many may wait for each
    at most), or for the first endpoint of the backends in ``wakes``. ``deadline`` is the request's.
    """

    plan: Plan
    until: float
    deadline: float
    queues: tuple[tuple[str, int], ...] = ()
    wakes: tuple[tuple[str, int], ...] = ()


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
    them only because they are at their limit; ``retry_after_s`` is when that is foreseen to end).
    """

    reason: str
    message: str
    policy: str = ""
    rule: str = ""
    fallen: tuple[Fallen, ...] = ()
    retry_after_s: float | None = None
