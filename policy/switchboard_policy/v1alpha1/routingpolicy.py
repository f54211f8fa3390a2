"""RoutingPolicy: which backends answer for which public model names, under which rules."""

from typing import Annotated, ClassVar, Final

from pydantic import Field

from switchboard_policy.v1alpha1.common import (
    ATOMIC,
    BY_NAME,
    NAME_PATTERN,
    SET,
    CelRule,
    Label,
    Model,
)
from switchboard_policy.v1alpha1.composed import Cascade, Ensemble, Expression, Mirror, Review
from switchboard_policy.v1alpha1.intents import INTENTS_MAX, Intent
from switchboard_policy.v1alpha1.learning import Arms, Learning
from switchboard_policy.v1alpha1.match import Match
from switchboard_policy.v1alpha1.resilience import Resilience, Stream
from switchboard_policy.v1alpha1.select import Select
from switchboard_policy.v1alpha1.tiers import Tier

#: A person can still read as many; the product bounds the cost of the rules at the API server.
RULES_MAX: Final = 64
TIERS_MAX: Final = 8
MODELS_MAX: Final = 32
GUARDRAILS_MAX: Final = 16
PRIORITY_MAX: Final = 1_000_000


def _unique_names(what: str, place: str) -> CelRule:
    return CelRule(
        rule="self.all(x, self.exists_one(y, y.name == x.name))",
        message=f'two {what}s are named "%s"',
        values=("self.filter(x, !self.exists_one(y, y.name == x.name))[0].name",),
        fix=f"give every {what} of {place} a name of its own",
    )


PublicModel = Annotated[
    str,
    Field(pattern=NAME_PATTERN, min_length=1, max_length=128),
    CelRule(
        rule=r"self.matches('^[^*]*\\*?$')",
        message='the model name "%s" has a * elsewhere than at its end',
        values=("self",),
        fix="write the exact name, or the beginning of it and one *",
    ),
]


class Guardrail(Model):
    """A hard limit on every path: while ``when`` holds, only backends that meet ``require``."""

    name: Label = Field(description="Its name in statuses, headers and metrics.")
    when: Expression | None = Field(
        default=None,
        description=(
            "A CEL condition over request.*; without it the guardrail always applies. An error "
            "counts as true."
        ),
    )
    require: Expression = Field(
        description=(
            "A CEL condition over backend.* that a backend must meet. An error counts as false."
        )
    )


_LAST: Final = "self[size(self) - 1]"


class Route(Model):
    """Tiers in the order in which they are tried."""

    cel: ClassVar = (
        CelRule(
            rule=(
                "(has(self.select) ? 1 : 0) + (has(self.cascade) ? 1 : 0)"
                " + (has(self.ensemble) ? 1 : 0) <= 1"
            ),
            message="the route has more than one of select, cascade and ensemble",
            fix="keep one of them; rules can tell which requests take which",
        ),
        CelRule(
            rule="!has(self.cascade) || size(self.tiers) > 1",
            message="the cascade has one tier, and so nowhere to go on to",
            fix="add a tier, from the cheapest to the strongest, or remove cascade",
            field=".cascade",
        ),
        CelRule(
            rule="!has(self.select) || size(self.tiers) > 1",
            message="select has one tier to choose from",
            fix="add a tier, from the weakest to the strongest, or remove select",
            field=".select",
        ),
        CelRule(
            rule=(
                "!has(self.select) || !has(self.select.thresholds) || size(self.tiers) < 2"
                " || size(self.select.thresholds) == size(self.tiers) - 1"
            ),
            message="%s tiers have %s thresholds between them",
            values=("size(self.tiers)", "size(self.select.thresholds)"),
            fix="write one threshold fewer than tiers",
            field=".select",
        ),
        CelRule(
            rule=(
                "!has(self.select) || size(self.tiers) <= 2"
                " || (!has(self.select.strongShare) && !has(self.select.targetQuality))"
            ),
            message="strongShare and targetQuality divide two tiers, and there are %s",
            values=("size(self.tiers)",),
            fix="write thresholds, or leave two tiers",
            field=".select",
        ),
        CelRule(
            rule=(
                "!has(self.select) || !has(self.select.tasks)"
                " || self.select.tasks.all(t, self.tiers.exists(x, x.name == t.tier))"
            ),
            message='the select names the tier "%s", which the route does not have',
            values=(
                "self.select.tasks.filter(t, !self.tiers.exists(x, x.name == t.tier))[0].tier",
            ),
            fix="name a tier of this route",
            field=".select",
        ),
    )

    tiers: Annotated[
        list[Tier],
        Field(min_length=1, max_length=TIERS_MAX),
        ATOMIC,
        _unique_names("tier", "a route"),
        CelRule(
            rule=f"size(self) == 0 || !has({_LAST}.spill)",
            message='the last tier, "%s", has nowhere to spill to',
            values=(f"{_LAST}.name",),
            fix="remove its spill, or add a tier after it",
            reason="FieldValueForbidden",
        ),
    ] = Field(description="The tiers, in the order in which they are tried.")
    select: Select | None = Field(
        default=None,
        description=(
            "Which tier a request starts with; the tiers stand from the weakest to the strongest. "
            "Without it, the first."
        ),
    )
    cascade: Cascade | None = Field(
        default=None,
        description=(
            "The tiers are asked from the first on until an answer is good enough; chat and "
            "completions only."
        ),
    )
    ensemble: Ensemble | None = Field(
        default=None,
        description="Several backends answer, and one answer goes out; chat and completions only.",
    )
    mirror: Mirror | None = Field(
        default=None, description="A backend that gets a share of the requests once more, unseen."
    )
    review: Review | None = Field(
        default=None, description="Answers are marked and told to a webhook, for people to review."
    )


class Rule(Model):
    """A rule: a request that meets ``match`` and ``when`` takes ``route``."""

    name: Label = Field(description="Its name in headers and metrics, unique in the policy.")
    match: Match | None = Field(
        default=None, description="Structured conditions: all fields must hold."
    )
    when: Expression | None = Field(
        default=None,
        description=(
            "A CEL condition over request.*, which must hold beside match. An error counts as no "
            "match."
        ),
    )
    route: Route = Field(description="Where its requests go.")


_OPEN: Final = "!has(x.match) && !has(x.when)"

Rules = Annotated[
    list[Rule],
    Field(min_length=1, max_length=RULES_MAX),
    ATOMIC,
    _unique_names("rule", "the policy"),
    CelRule(
        rule=f"size(self) == 0 || (!has({_LAST}.match) && !has({_LAST}.when))",
        message='the last rule, "%s", has a condition, so some requests would match no rule',
        values=(f"{_LAST}.name",),
        fix="remove its match and when, or add a rule without them at the end",
    ),
    CelRule(
        rule=f"self.filter(x, {_OPEN}).all(x, x.name == {_LAST}.name)",
        message='the rule "%s" has no condition, so the rules after it are never reached',
        values=(f"self.filter(x, {_OPEN})[0].name",),
        fix="give it a match or a when, or move it to the end",
    ),
]


class RoutingPolicySpec(Model):
    """The specification of a RoutingPolicy.

    Without ``models`` and ``rules`` it is a platform guardrail, which the platform's namespace
    alone may hold.
    """

    cel: ClassVar = (
        CelRule(
            rule="!has(self.rules) || has(self.models)",
            message="the policy has rules, but no models that it answers for",
            fix='name them, for instance models: [chat], or ["*"] for all',
            field=".models",
            reason="FieldValueRequired",
        ),
        CelRule(
            rule="!has(self.models) || has(self.rules)",
            message="the policy has models, but no rules that say where they go",
            fix="add rules; one without match and when is enough",
            field=".rules",
            reason="FieldValueRequired",
        ),
        CelRule(
            rule=(
                "has(self.models) || has(self.rules)"
                " || (has(self.guardrails) && size(self.guardrails) > 0)"
            ),
            message="the policy says nothing",
            fix="give it models and rules, or guardrails for the platform",
            reason="FieldValueRequired",
        ),
        CelRule(
            rule="self.stream.onBreak != 'Restart' || self.resilience.attempts > 1",
            message="a restart is an attempt, and attempts is %s",
            values=("self.resilience.attempts",),
            fix="write resilience.attempts: 2 or more, or remove onBreak: Restart",
            field=".stream",
        ),
        CelRule(
            rule=(
                "has(self.learning) || !has(self.rules) || self.rules.all(x, !has(x.route.select)"
                " || (!(x.route.select.by in ['Bandit', 'Neighbours'])"
                " && !has(x.route.select.targetQuality)))"
            ),
            message="a rule selects by ratings, and the policy has no learning that gathers them",
            fix="add learning: {}, and send ratings to POST /v1/feedback, or give it a judge",
            field=".learning",
            reason="FieldValueRequired",
        ),
        CelRule(
            rule=(
                "!has(self.rules) || self.rules.all(x, !has(x.match) || !has(x.match.arms)"
                " || (has(self.arms)"
                " && x.match.arms.all(a, self.arms.exists(y, y.name == a))))"
            ),
            message="a rule matches an arm that the policy does not have",
            fix="add it to arms, or correct match.arms",
            field=".arms",
        ),
    )

    models: Annotated[list[PublicModel], Field(min_length=1, max_length=MODELS_MAX), SET] | None = (
        Field(
            default=None,
            description=(
                "The public model names that it answers for: exact, or the beginning and a *."
            ),
        )
    )
    priority: Annotated[int, Field(ge=-PRIORITY_MAX, le=PRIORITY_MAX)] = Field(
        default=0, description="Where two policies claim a model name, the higher one wins."
    )
    guardrails: Annotated[list[Guardrail], Field(max_length=GUARDRAILS_MAX), BY_NAME] = Field(
        default=[], description="Hard limits on every path of the policy."
    )
    rules: Rules | None = Field(
        default=None,
        description=(
            "The first rule that matches decides. The last, and only the last, has neither match "
            "nor when."
        ),
    )
    intents: Annotated[list[Intent], Field(max_length=INTENTS_MAX), BY_NAME] = Field(
        default=[], description="What its users may want, by examples, for signals.intents."
    )
    arms: Annotated[Arms, BY_NAME] | None = Field(
        default=None,
        description=(
            "The sides of a comparison: a session, or else a user, stays on its arm, by hash; "
            "requests without either are dealt out."
        ),
    )
    learning: Learning | None = Field(
        default=None,
        description="Decisions are logged and can be rated; without it nothing is kept.",
    )
    resilience: Resilience = Field(
        default=Resilience(),
        description="Attempts over all tiers, and the time until content is committed.",
    )
    stream: Stream = Field(
        default=Stream(),
        description="What becomes of a streamed answer that breaks after its first content.",
    )
