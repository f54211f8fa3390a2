"""RoutingPolicy: which backends answer for which public model names, under which rules."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from switchboard_policy.v1alpha1.common import (
    ATOMIC,
    BY_NAME,
    NAME_PATTERN,
    SET,
    CelRule,
    Label,
    ListType,
    Model,
    ObjectName,
)
from switchboard_policy.v1alpha1.intents import INTENTS_MAX, Intent
from switchboard_policy.v1alpha1.match import HeaderName, Match
from switchboard_policy.v1alpha1.resilience import Resilience, Stream
from switchboard_policy.v1alpha1.select import Select
from switchboard_policy.v1alpha1.spill import Spill

#: A person can still read as many; the product bounds the cost of the rules at the API server.
RULES_MAX: Final = 64
TIERS_MAX: Final = 8
BACKENDS_MAX: Final = 32
MODELS_MAX: Final = 32
GUARDRAILS_MAX: Final = 16
#: Weights are compared, not summed to anything; a million gives steps of a ten-thousandth percent.
WEIGHT_MAX: Final = 1_000_000
PRIORITY_MAX: Final = 1_000_000
#: The longest system prompts have some ten thousand tokens; in bytes.
PREFIX_BYTES_MAX: Final = 65_536
#: As many as there are.
SCORERS_MAX: Final = 4
#: Shares of a whole: a hundredth is the smallest that anybody can tell.
SCORER_WEIGHT_MAX: Final = 100

#: An empty namespace is the policy's own.
NAMESPACE_PATTERN: Final = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$"
#: What each pattern asks for, in words.
PATTERN_WORDS: Final = {
    NAMESPACE_PATTERN: "lower-case letters, digits and '-', or nothing for the policy's namespace",
}


def _unique_names(what: str, place: str) -> CelRule:
    return CelRule(
        rule="self.all(x, self.exists_one(y, y.name == x.name))",
        message=f'two {what}s are named "%s"',
        values=("self.filter(x, !self.exists_one(y, y.name == x.name))[0].name",),
        fix=f"give every {what} of {place} a name of its own",
    )


Expression = Annotated[str, Field(min_length=1, max_length=1024)]
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


class BackendRef(Model):
    """A ModelBackend; an empty namespace is the policy's own."""

    namespace: Annotated[str, Field(pattern=NAMESPACE_PATTERN, max_length=63)] = Field(
        default="",
        description=(
            "The backend's namespace; empty for the policy's own. Another namespace's backend must "
            "allow it (allowedNamespaces)."
        ),
    )
    name: ObjectName = Field(description="The ModelBackend's name.")
    weight: Annotated[int, Field(ge=0, le=WEIGHT_MAX)] | None = Field(
        default=None,
        description=(
            "Its share of the tier's requests among those that can serve; 1 where only others have "
            "one. Without any weight in the tier, all endpoints of the tier are one set."
        ),
    )


class HashKey(Model):
    """What a Hash balance hashes: exactly one of header, user, session, the prompt's beginning."""

    cel: ClassVar = (
        CelRule(
            rule=(
                "(has(self.header) ? 1 : 0) + (has(self.user) ? 1 : 0)"
                " + (has(self.session) ? 1 : 0) + (has(self.promptPrefix) ? 1 : 0) == 1"
            ),
            message="the key does not name exactly one of header, user, session and promptPrefix",
            fix=(
                "write one of key: {header: NAME}, key: {user: true}, key: {session: true} and"
                " key: {promptPrefix: 1024}"
            ),
        ),
    )

    header: HeaderName | None = Field(default=None, description="The value of this header.")
    user: Literal[True] | None = Field(
        default=None, description="The request's user field, if true."
    )
    session: Literal[True] | None = Field(
        default=None, description="The session (header x-switchboard-session), if true."
    )
    prompt_prefix: Annotated[int, Field(ge=1, le=PREFIX_BYTES_MAX)] | None = Field(
        default=None,
        description=(
            "So many bytes of the prompt's beginning, system prompt and roles included: prompts "
            "that begin alike meet the endpoint whose prefix cache holds that beginning."
        ),
    )


class Scorer(Model):
    """One of the scorers of a balance by Scorers."""

    by: Literal["Latency", "Load", "Cost", "Locality"] = Field(
        description="What it scores by, as the balance of that name does; once in the list."
    )
    weight: Annotated[int, Field(ge=1, le=SCORER_WEIGHT_MAX)] = Field(
        default=1, description="How much it counts, beside the weights of the others."
    )


class Balance(Model):
    """How a tier picks among its endpoints."""

    cel: ClassVar = (
        CelRule(
            rule="self.by != 'Hash' || has(self.key)",
            message="by: Hash has no key",
            fix="add a key: {session: true}, {user: true} or {header: NAME}",
            field=".key",
            reason="FieldValueRequired",
        ),
        CelRule(
            rule="self.by == 'Hash' || !has(self.key)",
            message="a key is read only where by is Hash, and it is %s",
            values=("self.by",),
            fix="remove the key, or write by: Hash",
            field=".key",
            reason="FieldValueForbidden",
        ),
        CelRule(
            rule="self.by != 'Scorers' || has(self.scorers)",
            message="by: Scorers has no scorers",
            fix="add scorers, for instance [{by: Latency, weight: 3}, {by: Cost}]",
            field=".scorers",
            reason="FieldValueRequired",
        ),
        CelRule(
            rule="self.by == 'Scorers' || !has(self.scorers)",
            message="scorers are read only where by is Scorers, and it is %s",
            values=("self.by",),
            fix="remove the scorers, or write by: Scorers",
            field=".scorers",
            reason="FieldValueForbidden",
        ),
    )

    by: Literal["Latency", "Load", "Cost", "Locality", "Hash", "Scorers"] = Field(
        default="Latency",
        description=(
            "Latency: the quicker of two at random. Load: the less loaded of two. Cost: the "
            "cheapest. Locality: the nearest. Hash: always the same for the same key, unless it "
            "has more than 1.25 times the mean load. Scorers: the best of a few by a weighted list."
        ),
    )
    key: HashKey | None = Field(default=None, description="What is hashed; with by: Hash.")
    scorers: (
        Annotated[
            list[Scorer], Field(min_length=1, max_length=SCORERS_MAX), ListType("map", ("by",))
        ]
        | None
    ) = Field(default=None, description="What counts, and how much; with by: Scorers.")


class Tier(Model):
    """Backends tried together; the next tier follows when this one cannot serve."""

    cel: ClassVar = (
        CelRule(
            rule="self.backends.exists(x, !has(x.weight) || x.weight > 0)",
            message='all weights of the tier "%s" are 0',
            values=("self.name",),
            fix="give one backend a positive weight, or remove the weights",
            field=".backends",
        ),
    )

    name: Label = Field(description="Its name in headers and metrics, unique in the route.")
    backends: Annotated[
        list[BackendRef],
        Field(min_length=1, max_length=BACKENDS_MAX),
        ListType("map", ("namespace", "name")),
    ] = Field(description="The backends that may serve.")
    balance: Balance = Field(
        default=Balance(), description="How the tier picks among its endpoints."
    )
    spill: Spill | None = Field(
        default=None,
        description=(
            "When the next tier takes its requests: where a threshold is passed and a later tier "
            "can serve, until it is below 80 % of it. Without it, when no endpoint is left."
        ),
    )


_LAST: Final = "self[size(self) - 1]"


class Route(Model):
    """Tiers in the order in which they are tried."""

    cel: ClassVar = (
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
            rule=("!has(self.select) || !has(self.select.strongShare) || size(self.tiers) <= 2"),
            message="strongShare divides two tiers, and there are %s",
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
    resilience: Resilience = Field(
        default=Resilience(),
        description="Attempts over all tiers, and the time until content is committed.",
    )
    stream: Stream = Field(
        default=Stream(),
        description="What becomes of a streamed answer that breaks after its first content.",
    )
