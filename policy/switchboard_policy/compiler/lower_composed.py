"""What a route says beside its tiers, to the compiled form: who else is asked, and what for.

A backend that is asked and may not serve the policy is "": what hangs on its word then goes on
without it.
"""

from collections.abc import Container

from switchboard_policy import ir
from switchboard_policy.compiler.resolve import referent
from switchboard_policy.compiler.world import Name
from switchboard_policy.v1alpha1 import asked, composed, learning, select
from switchboard_policy.v1alpha1.common import duration_ms, permille, picodollars
from switchboard_policy.v1alpha1.routingpolicy import Route
from switchboard_policy.v1alpha1.tiers import Reference


class Backends:
    """The backends that one policy may use."""

    def __init__(self, policy: Name, available: Container[Name]) -> None:
        self._policy = policy
        self._available = available

    def name(self, reference: Reference) -> str:
        """Return the full name of a backend, "" if it may not serve."""
        name = referent(self._policy, reference)
        return str(name) if name in self._available else ""

    def asked(self, said: asked.Asked) -> ir.Asked:
        """Lower a model that the gateway asks."""
        return ir.Asked(
            backend=self.name(said.backend),
            timeout_ms=duration_ms(said.timeout),
            instructions=said.instructions or "",
        )


def lower_select(route: Route, backends: Backends) -> ir.Select | None:
    """Lower the choice of a tier to start with."""
    said = route.select
    if said is None:
        return None
    numbers = {tier.name: number for number, tier in enumerate(route.tiers)}
    return ir.Select(
        by=said.by,
        thresholds_permille=tuple(permille(one) for one in said.thresholds or ()),
        strong_share_permille=_permille(said.strong_share),
        target_quality_permille=_permille(said.target_quality),
        max_quality_loss_permille=permille(said.max_quality_loss or "0"),
        target_cost_picodollars=_picodollars(said.target_cost),
        tasks=tuple((one.task, numbers[one.tier]) for one in said.tasks or ()),
        classifier=None if said.classifier is None else backends.asked(said.classifier),
        bandit=_bandit(said.bandit or select.Bandit()) if said.by == "Bandit" else None,
        router=said.router or "",
        margin_permille=permille(said.margin),
        stronger_when_unsure=said.when_unsure == "Stronger",
        downgrade=said.downgrade == "Allow",
        sticky=said.sticky == "Session",
    )


def _bandit(said: select.Bandit) -> ir.Bandit:
    return ir.Bandit(
        explore_permille=permille(said.explore),
        cost_weight_permille=permille(said.cost_weight),
        min_quality_permille=permille(said.min_quality),
    )


def lower_cascade(said: composed.Cascade | None, backends: Backends) -> ir.Cascade | None:
    """Lower the checks of a cascade."""
    if said is None:
        return None
    accept, hold = said.accept, said.hold
    judge = accept.judge
    return ir.Cascade(
        confidence_permille=_permille(accept.confidence),
        agreement=None if accept.agreement is None else backends.name(accept.agreement),
        when=accept.when or "",
        regex=accept.regex or "",
        json_schema=accept.json_schema or "",
        judge=None if judge is None else ir.Judge(backends.asked(judge), permille(judge.min)),
        hold_chars=hold.chars,
        hold_ms=duration_ms(hold.time),
        send_unjudged=hold.then == "Send",
    )


def lower_ensemble(said: composed.Ensemble | None, backends: Backends) -> ir.Ensemble | None:
    """Lower how many answer, and who chooses."""
    if said is None:
        return None
    return ir.Ensemble(
        candidates=said.candidates,
        judge=None if said.judge is None else backends.asked(said.judge),
        max_cost_picodollars=_picodollars(said.max_cost),
    )


def lower_mirror(said: composed.Mirror | None, backends: Backends) -> ir.Mirror | None:
    """Lower a mirror; None where its backend may not serve."""
    name = "" if said is None else backends.name(said.backend)
    if said is None or not name:
        return None
    return ir.Mirror(
        backend=name,
        sample_permille=permille(said.sample),
        max_cost_picodollars=picodollars(said.max_cost),
        judge=None if said.judge is None else backends.asked(said.judge),
    )


def lower_review(said: composed.Review | None) -> ir.Review | None:
    """Lower where answers are told to people."""
    return None if said is None else ir.Review(webhook=said.webhook, texts=said.texts)


def lower_learning(said: learning.Learning | None, backends: Backends) -> ir.Learning | None:
    """Lower what is kept of decisions, and who rates them."""
    if said is None:
        return None
    judge = said.judge
    if judge is None:
        return ir.Learning(texts=said.log.texts)
    return ir.Learning(
        texts=said.log.texts,
        judge=backends.asked(judge),
        judge_sample_permille=permille(judge.sample),
        judge_max_cost_picodollars=picodollars(judge.max_cost),
    )


def _permille(share: str | None) -> int | None:
    return None if share is None else permille(share)


def _picodollars(dollars: str | None) -> int | None:
    return None if dollars is None else picodollars(dollars)
