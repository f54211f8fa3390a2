"""The tiers of a route: which backends serve together, and how one of them is picked."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from switchboard_policy.v1alpha1.common import CelRule, Label, ListType, Model, ObjectName
from switchboard_policy.v1alpha1.match import HeaderName
from switchboard_policy.v1alpha1.spill import Spill

BACKENDS_MAX: Final = 32
#: Weights are compared, not summed to anything; a million gives steps of a ten-thousandth percent.
WEIGHT_MAX: Final = 1_000_000
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


class Reference(Model):
    """A ModelBackend; an empty namespace is the policy's own."""

    namespace: Annotated[str, Field(pattern=NAMESPACE_PATTERN, max_length=63)] = Field(
        default="",
        description=(
            "The backend's namespace; empty for the policy's own. Another namespace's backend must "
            "allow it (allowedNamespaces)."
        ),
    )
    name: ObjectName = Field(description="The ModelBackend's name.")


class BackendRef(Reference):
    """A ModelBackend of a tier."""

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
