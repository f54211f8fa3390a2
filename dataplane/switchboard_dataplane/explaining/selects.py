"""With which tier a rule's select begins and why, and what else becomes of a rule's requests."""

from collections.abc import Iterator, Mapping
from math import isfinite

from switchboard_dataplane.decision.running import Rule
from switchboard_dataplane.decision.select import Choice, gain_of, near_offers, offers_of
from switchboard_dataplane.explaining import form
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy import ir

_PICODOLLARS = 1e12


def selected_by(
    choice: Choice, started: Rule, signals: SignalTable, shares: Mapping[str, float]
) -> form.Selected | None:
    """Return the start that a select has chosen; None for a rule that selects nothing.

    ``started`` is the rule with its tiers in the order for the request; ``shares`` are how often
    each tier began when the choice was made many times.
    """
    select = choice.rule.select
    if select is None or not started.tiers:
        return None
    tried = {tier.name for tier in started.tiers}
    by_gain = select.by in ("Complexity", "Classifier")
    return form.Selected(
        by=select.by,
        tier=started.tiers[0].name,
        why="; ".join(_reasons(choice, select)),
        gain=gain_of(choice, select) if by_gain else None,
        offers=tuple(_offers(choice, select, signals)),
        left_out=tuple(tier.name for tier in choice.rule.tiers if tier.name not in tried),
        shares=shares if len(shares) > 1 else {},
    )


def _offers(choice: Choice, select: ir.Select, signals: SignalTable) -> Iterator[form.Offer]:
    if select.by in ("Complexity", "Classifier", "Task"):
        return
    near = select.by == "Neighbours"
    for offer in near_offers(choice, select, signals) if near else offers_of(choice, select):
        dollars = offer.cost / _PICODOLLARS if isfinite(offer.cost) else None
        yield form.Offer(tier=offer.tier, quality=round(offer.quality, 4), dollars=dollars)


def _reasons(choice: Choice, select: ir.Select) -> Iterator[str]:
    match select.by:
        case "Complexity" | "Classifier":
            yield _threshold(select)
        case "Task":
            yield f"the task is {choice.view.readings['task']}"
        case "Quality" | "Neighbours":
            yield _bargain(select)
        case "Bandit":
            said = select.bandit or ir.Bandit()
            yield "what ratings have taught, drawn by chance where it is unsure"
            yield f"up to {said.explore_permille / 10:g} % of requests try another tier"
    if choice.view.min_quality > 0.0:
        yield f"the caller asks for a quality of {choice.view.min_quality:g}"
    if select.sticky and choice.view.session:
        yield "a conversation never goes back to a weaker tier"


def _threshold(select: ir.Select) -> str:
    if select.strong_share_permille is not None:
        return f"the last tier gets {select.strong_share_permille / 10:g} % of the requests"
    if select.target_quality_permille is not None:
        return f"as many go to the last tier as hold {select.target_quality_permille / 1000:g}"
    cuts = ", ".join(f"{cut / 1000:g}" for cut in select.thresholds_permille)
    return (
        f"the next tier from a gain of {cuts} on (unsure within {select.margin_permille / 1000:g})"
    )


def _bargain(select: ir.Select) -> str:
    if select.target_cost_picodollars is not None:
        dollars = select.target_cost_picodollars / _PICODOLLARS
        return f"the best tier for at most ${dollars:.6f} a request"
    loss = select.max_quality_loss_permille / 1000
    return f"the cheapest tier that loses at most {loss:g} of the best quality"


def sequel_of(policy: ir.Policy, rule: Rule) -> Iterator[str]:
    """Yield what a rule does beside sending a request to a tier; nothing of it is done here."""
    spec = rule.spec
    if spec is None:
        return
    if spec.select is not None and spec.select.classifier is not None:
        whom = _whom(spec.select.classifier)
        yield f"a classifier, {whom}, would be asked which tier is needed: it is not asked here"
    if spec.cascade is not None:
        checks = ", ".join(_checks(spec.cascade)) or "nothing"
        yield f"cascade: unless it is the last tier's, an answer has to pass checks: {checks}"
    if spec.ensemble is not None:
        judge = spec.ensemble.judge
        choice = "the most common answer wins" if judge is None else f"{_whom(judge)} chooses"
        yield f"ensemble: {spec.ensemble.candidates} backends are asked at once, {choice}"
    if spec.mirror is not None:
        share = spec.mirror.sample_permille / 10
        yield f"mirror: {share:g} % of the requests are sent to {spec.mirror.backend} too"
    if spec.review is not None:
        yield "review: the answer is marked, and a webhook is told"
    if policy.hedge is not None:
        after = f"{policy.hedge.after_ms} ms" if policy.hedge.after_ms else "the 95th percentile"
        yield f"hedge: after {after} of silence another attempt joins in"


def _checks(cascade: ir.Cascade) -> Iterator[str]:
    if cascade.confidence_permille is not None:
        yield f"confidence of {cascade.confidence_permille / 1000:g}"
    if cascade.agreement is not None:
        yield f"agreement with {cascade.agreement or 'a backend that may not serve'}"
    if cascade.when:
        yield f"when {cascade.when}"
    if cascade.regex:
        yield "a regex"
    if cascade.json_schema:
        yield "a JSON schema"
    if cascade.judge is not None:
        yield f"a score of {cascade.judge.min_permille / 1000:g} by {_whom(cascade.judge.asked)}"


def _whom(asked: ir.Asked) -> str:
    return asked.backend or "a backend that may not serve"
