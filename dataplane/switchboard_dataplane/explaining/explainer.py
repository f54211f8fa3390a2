"""Explains a request: decides it as the hot path does, on a shadow of the signals, and tells all.

Nothing is sent to any model, nothing is remembered, and nobody else's turn is taken. What a pick
owes to chance is drawn again and again, with others served between.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

from msgspec.structs import replace

from switchboard_dataplane.access.identify import check_model
from switchboard_dataplane.decision.candidates import bits
from switchboard_dataplane.decision.decide import Opened, open_plan, seek
from switchboard_dataplane.decision.following import Now, Wait, follow
from switchboard_dataplane.decision.match import find_policy
from switchboard_dataplane.decision.patience import deadline_of
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.resting import next_return
from switchboard_dataplane.decision.running import Policy, Rule, Snapshot
from switchboard_dataplane.decision.select import Choice
from switchboard_dataplane.decision.verdict import (
    Candidate,
    Decision,
    Plan,
    Rejection,
    Resting,
    Waiting,
)
from switchboard_dataplane.errors import Forbidden
from switchboard_dataplane.explaining import form
from switchboard_dataplane.explaining.rules import (
    arm_of,
    claims_of,
    conditions_of,
    has_arm,
)
from switchboard_dataplane.explaining.selects import selected_by, sequel_of
from switchboard_dataplane.explaining.tiers import Picked, Stage
from switchboard_dataplane.learning.inputs import inputs_of
from switchboard_dataplane.reader import Reader
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_dataplane.signals.shadow import shadow_of

#: So often a pick is drawn, to see what chance makes of it; so many at a time.
DRAWS: Final = 200
AT_ONCE: Final = 10
#: Names of arms are shorter.
ARM_CHARS_MAX: Final = 63
#: The same request in the same state is explained in the same way.
_SEED: Final = 1

_STATUS: Final = {"model_not_found": 404}
_UNAVAILABLE: Final = 503
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class _Ending:
    """What becomes of a request: see ``form.Explanation``."""

    outcome: form.Outcome
    message: str
    reason: str = ""
    pick: form.Pick | None = None
    first: int | None = None

    @property
    def status(self) -> int:
        return _STATUS.get(self.reason, _UNAVAILABLE) if self.reason else _OK


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What chance made of many decisions: the tiers that began, and who was picked."""

    starts: Counter[str] = field(default_factory=Counter[str])
    picks: Counter[Picked] = field(default_factory=Counter[Picked])

    def shares(self) -> Mapping[Picked, float]:
        draws = self.picks.total()
        return {picked: count / draws for picked, count in self.picks.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    """Explains requests by what is in force. ``clock`` is the event loop's.

    ``unknown`` are backends of which nobody knows the endpoints, each with a stand-in for them.
    """

    reader: Reader
    signals: SignalTable
    clock: Callable[[], float]
    source: str = "pod"
    unknown: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    async def explain(self, snapshot: Snapshot, view: RequestView) -> form.Explanation:
        """Explain what would become of a request now."""
        policy = find_policy(snapshot, view.model)
        now, rng = self.clock(), Random(_SEED)  # noqa: S311 - nothing secret hangs on it
        if policy is None:
            opened = open_plan(snapshot, view, self.signals, now=now, rng=rng, first=True)
            return self._told(snapshot, view, _ended(opened))
        if policy.readings:
            await self.reader.read(policy, view)
        notes: tuple[str, ...] = ()
        if view.arm and not has_arm(policy, view.arm):
            notes = (_no_arm(policy, view.arm),)
            view.arm = ""
        signals = self._shadow(snapshot, policy, view, now)
        opened = open_plan(snapshot, view, signals, now=now, rng=rng, first=True)
        if isinstance(opened, Rejection):
            return self._told(snapshot, view, _ended(opened), policy=policy, notes=notes)
        verdict = seek(opened, signals, now=now, rng=rng)
        drawn = await self._draw(opened, now)
        await asyncio.sleep(0)
        ending = self._ending(opened, verdict, signals, drawn, now=now, rng=rng)
        stage = Stage(
            opened,
            signals,
            now,
            rng,
            drawn.shares(),
            first=ending.first,
            spilled={one.tier: one.cause for one in _plan_of(verdict, opened).spills},
            unknown=self.unknown,
            panic=isinstance(verdict, Decision) and verdict.candidate.panic,
        )
        starts = drawn.starts
        return self._told(
            snapshot, view, ending, policy=policy, stage=stage, starts=starts, notes=notes
        )

    def _shadow(
        self, snapshot: Snapshot, policy: Policy, view: RequestView, now: float
    ) -> SignalTable:
        backends = [snapshot.backends.get(name) for name in policy.backends]
        return shadow_of(
            self.signals,
            policy=policy.name,
            rules=[rule.name for rule in policy.rules],
            conversation=view.conversation,
            endpoints={one.name: [each.id for each in one.endpoints] for one in backends if one},
            now=now,
        )

    async def _draw(self, opened: Opened, now: float) -> _Drawn:
        """Decide many times, and count how often each tier begins and who is picked.

        On the arm that the request is on; the picks are those of the tiers in ``opened``'s order.
        """
        plan = opened.plan
        snapshot, view = plan.snapshot, plan.view
        signals, rng = self._shadow(snapshot, plan.policy, view, now), Random(_SEED)  # noqa: S311
        drawn = _Drawn()
        for number in range(DRAWS):
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
            again = open_plan(snapshot, view, signals, now=now, rng=rng, first=False)
            if isinstance(again, Rejection):
                break
            drawn.starts.update(tier.name for tier in again.plan.rule.tiers[:1])
            if again.plan.rule is not plan.rule:
                continue
            verdict = seek(again, signals, now=now, rng=rng)
            if isinstance(verdict, Decision):
                found = verdict.candidate
                drawn.picks[found.tier.name, found.endpoint.id] += 1
        return drawn

    def _ending(
        self,
        opened: Opened,
        verdict: Decision | Waiting | Resting | Rejection,
        signals: SignalTable,
        drawn: _Drawn,
        *,
        now: float,
        rng: Random,
    ) -> _Ending:
        match verdict:
            case Decision():
                pick = self._pick(verdict.candidate, drawn)
                tiers = [tier.name for tier in opened.plan.rule.tiers]
                likely = " most likely" if pick.share < 1.0 else ""
                told = f"{pick.endpoint} would{likely} serve it"
                return _Ending("served", told, pick=pick, first=tiers.index(pick.tier))
            case Waiting():
                names = ", ".join(name for name, _ in (*verdict.queues, *verdict.wakes))
                what = "to be scaled up" if verdict.wakes else "for a free place"
                for_s = verdict.until - now
                return _Ending("waits", f"it would wait for {names} {what}, {for_s:.1f} s at most")
            case Resting(plan=plan):
                return _rest(plan, signals, now, rng)
            case _:
                return _ended(verdict)

    def _pick(self, found: Candidate, drawn: _Drawn) -> form.Pick:
        picks, draws = drawn.picks, drawn.picks.total()
        here = found.tier.name, found.endpoint.id
        (tier, endpoint), count = picks.most_common(1)[0] if picks else (here, 0)
        backend = endpoint.partition("@")[0]
        why = "nobody else may be picked now"
        if len(picks) > 1:
            why = f"by chance: {count} of {draws} draws among {len(picks)} endpoints"
        return form.Pick(
            endpoint=backend if backend in self.unknown else endpoint,
            backend=backend,
            tier=tier,
            share=count / draws if draws else 1.0,
            draws=draws,
            why=why,
            panic=found.panic,
        )

    def _told(
        self,
        snapshot: Snapshot,
        view: RequestView,
        ending: _Ending,
        *,
        policy: Policy | None = None,
        stage: Stage | None = None,
        starts: Mapping[str, float] | None = None,
        notes: tuple[str, ...] = (),
    ) -> form.Explanation:
        refused = _refused(view)
        if refused is not None:
            ending = _Ending("rejected", refused.message, refused.code, first=ending.first)
        opened = None if stage is None else stage.opened
        rule = None if opened is None else opened.plan.rule
        guardrails, rules = (
            ((), ())
            if policy is None
            else conditions_of(snapshot, policy, view, "" if rule is None else rule.name)
        )
        return form.Explanation(
            outcome=ending.outcome,
            status=ending.status if refused is None else refused.status,
            reason=ending.reason,
            message=ending.message,
            source=self.source,
            revision=snapshot.revision,
            request=_asked(view),
            permission=_permission(view, allowed=refused is None),
            policy="" if policy is None else policy.name,
            claims=claims_of(snapshot, view.model),
            arm=None if policy is None else arm_of(policy, view),
            guardrails=guardrails,
            rules=rules,
            rule="" if rule is None else rule.name,
            select=None if stage is None else _selected(stage, starts or {}),
            eligible=() if opened is None else tuple(_names(opened.plan, opened.plan.eligible)),
            tiers=() if stage is None else tuple(stage.tiers()),
            pick=ending.pick,
            then=()
            if policy is None or rule is None
            else tuple(sequel_of(policy.spec, _whole(policy, rule))),
            notes=(*self.notes, *notes),
        )


def _no_arm(policy: Policy, asked: str) -> str:
    """Say that nobody is on the arm that was asked for."""
    name = asked if len(asked) <= ARM_CHARS_MAX else f"{asked[:ARM_CHARS_MAX]}…"
    if not policy.arms:
        return f"the policy compares no arms: {name} counts for nothing"
    return f"the policy puts nobody on an arm {name}: chance chooses"


def _plan_of(verdict: Decision | Waiting | Resting | Rejection, opened: Opened) -> Plan:
    return opened.plan if isinstance(verdict, Rejection) else verdict.plan


def _ended(found: Rejection | Opened) -> _Ending:
    if isinstance(found, Rejection):
        return _Ending("rejected", found.message, found.reason)
    raise AssertionError("a plan without a policy")


def _rest(plan: Plan, signals: SignalTable, now: float, rng: Random) -> _Ending:
    """Say whether a request waits for what rests: as it does before any attempt."""
    until = deadline_of(plan, None, now)
    step = follow(plan, (), signals, Now(now, until, rng, 0.0, lambda: True))
    back = next_return(plan, (), signals, now=now, rng=rng)
    in_s = 0.0 if back is None else back.in_s
    failure = "" if back is None else f" ({back.failure})"
    told = f"all that may serve asked to be left alone{failure}, the first for {in_s:.1f} s more"
    if isinstance(step, Wait):
        return _Ending("waits", f"{told}: it would wait for that")
    return _Ending("rejected", f"{told}: more than the policy waits", "resting")


def _whole(policy: Policy, rule: Rule) -> Rule:
    """Return a rule with its tiers as the policy has them."""
    return next(one for one in policy.rules if one.name == rule.name)


def _selected(stage: Stage, starts: Mapping[str, float]) -> form.Selected | None:
    plan = stage.opened.plan
    rule = _whole(plan.policy, plan.rule)
    choice = Choice(plan.snapshot, plan.policy, rule, plan.view, stage.opened.allowed)
    shares = {tier: count / DRAWS for tier, count in starts.items()}
    return selected_by(choice, plan.rule, stage.signals, shares)


def _names(plan: Plan, mask: int) -> Iterator[str]:
    for number in bits(mask):
        yield plan.policy.backends[number]


def _refused(view: RequestView) -> Forbidden | None:
    """Return the error for a client that may not use the model, as the proxy raises it."""
    try:
        check_model(view.client, view.model)
    except Forbidden as error:
        return error
    return None


def _permission(view: RequestView, *, allowed: bool) -> form.Permission:
    client = view.client
    return form.Permission(client=client.id or client.kind, allowed=allowed, models=client.models)


def _asked(view: RequestView) -> form.Asked:
    # Without a policy: no header's value is among them.
    inputs = inputs_of(view, None)
    return form.Asked(
        model=view.model,
        api=view.api,
        inputs=replace(inputs, readings=dict(sorted(inputs.readings.items()))),
        stream=view.stream,
        task=str(view.readings.get("task", "")),
        deadline_ms=view.deadline_ms,
        headers=tuple(sorted(view.headers)),
        metadata=tuple(sorted(view.metadata)),
    )
