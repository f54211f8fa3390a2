"""The decision: which rule answers a request, and which endpoint gets each attempt.

Pure: the snapshot, the request, the signals, the time and chance are arguments. In order: the
policy by model name, the caller's arm, guardrails and rules, the mask of eligible backends, a tier,
an endpoint.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from switchboard_dataplane.decision.arms import arm_for
from switchboard_dataplane.decision.candidates import next_candidate
from switchboard_dataplane.decision.eligible import abilities_of, able, guardrails_in_force
from switchboard_dataplane.decision.explain import reject
from switchboard_dataplane.decision.match import Conditions, find_policy, find_rule
from switchboard_dataplane.decision.patience import place, retry_after_s, wait_for
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.resting import has_endpoints, leave_resting
from switchboard_dataplane.decision.running import Abilities, Guardrail, Snapshot
from switchboard_dataplane.decision.scene import Rng
from switchboard_dataplane.decision.select import Choice, start_rule
from switchboard_dataplane.decision.verdict import Decision, Plan, Rejection, Resting, Waiting
from switchboard_dataplane.signals.admission import Waiter
from switchboard_dataplane.signals.endpoints import SignalTable


def decide(
    snapshot: Snapshot,
    view: RequestView,
    signals: SignalTable,
    *,
    now: float,
    rng: Rng,
    waiter: Waiter | None = None,
) -> Decision | Waiting | Resting | Rejection:
    """Decide where a request goes first; a rejection says why every candidate fell.

    ``waiter`` stands for a request that has waited already.
    """
    opened = open_plan(snapshot, view, signals, now=now, rng=rng, first=waiter is None)
    if isinstance(opened, Rejection):
        return opened
    return seek(opened, signals, now=now, rng=rng, waiter=waiter)


class Opened:
    """A plan that nobody was picked for yet, with what it was made of.

    ``allowed`` are the backends that may serve at all, before a select leaves out some of them.
    """

    def __init__(
        self,
        plan: Plan,
        abilities: Abilities,
        guardrails: tuple[Guardrail, ...],
        allowed: int,
    ) -> None:
        self.plan: Final = plan
        self.abilities: Final = abilities
        self.guardrails: Final = guardrails
        self.allowed: Final = allowed


def open_plan(
    snapshot: Snapshot,
    view: RequestView,
    signals: SignalTable,
    *,
    now: float,
    rng: Rng,
    first: bool,
) -> Opened | Rejection:
    """Find the rule for a request, and who may serve it at all; ``first``: nobody asked before."""
    policy = find_policy(snapshot, view.model)
    if policy is None:
        return Rejection(
            reason="model_not_found",
            message=f"no policy answers for the model {view.model!r}; GET /v1/models lists names",
        )
    if policy.arms or view.arm:
        view.arm = arm_for(policy, view, rng)
    conditions = Conditions(snapshot, policy, view)
    guardrails = guardrails_in_force(policy, conditions)
    rule = find_rule(policy, view, conditions)
    if rule is None:
        return Rejection(
            reason="no_rule",
            message=f"no rule of policy {policy.name} matches, and it has no default rule",
            policy=policy.name,
        )
    abilities = abilities_of(snapshot, policy)
    forbidden = 0
    for guardrail in guardrails:
        forbidden |= guardrail.forbids
    eligible = allowed = able(abilities, view) & rule.mask & ~forbidden
    if rule.select is not None:
        choice = Choice(snapshot, policy, rule, view, eligible)
        rule = start_rule(choice, signals, now=now, rng=rng, first=first)
        eligible &= rule.mask
    plan = Plan(
        snapshot,
        view,
        policy,
        rule,
        eligible=eligible,
        guardrails=tuple(guardrail.name for guardrail in guardrails),
        expression_errors=conditions.errors,
        forbidden=forbidden,
    )
    return Opened(plan, abilities, guardrails, allowed)


def seek(
    opened: Opened,
    signals: SignalTable,
    *,
    now: float,
    rng: Rng,
    waiter: Waiter | None = None,
) -> Decision | Waiting | Resting | Rejection:
    """Return where a request goes first by its plan, what it waits for, or why it goes nowhere."""
    plan, abilities = opened.plan, opened.abilities
    if plan.rule.spills or abilities.wakes & plan.eligible:
        found = place(plan, abilities, signals, waiter, now=now, rng=rng)
    else:
        found = next_candidate(plan, (), signals, now=now, rng=rng)
        if found is None and abilities.queues & plan.eligible:
            found = wait_for(plan, abilities, signals, waiter, now=now, rng=rng)
    if isinstance(found, Waiting):
        return found
    if found is None:
        return _refuse(plan, abilities, opened.guardrails, signals, now=now, rng=rng)
    return Decision(plan, found)


def _refuse(
    plan: Plan,
    abilities: Abilities,
    guardrails: Sequence[Guardrail],
    signals: SignalTable,
    *,
    now: float,
    rng: Rng,
) -> Resting | Rejection:
    awake = leave_resting(plan, (), signals, now=now, rng=rng)
    if awake is not plan and not has_endpoints(awake):
        return Resting(plan=plan)
    rejection = reject(awake, guardrails, signals, now=now)
    if rejection.reason != "overloaded" or not abilities.queues & plan.eligible:
        return rejection
    later_s = retry_after_s(awake, abilities, signals, now=now)
    return replace(rejection, retry_after_s=later_s)
