"""ModelBackend: one model behind one or more endpoints."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from switchboard_policy.v1alpha1.capacity import Capacity, Wake
from switchboard_policy.v1alpha1.common import (
    LABEL_VALUE_PATTERN,
    NAME_PATTERN,
    PATH_PATTERN,
    SET,
    CelRule,
    ConnectDuration,
    DecimalString,
    Duration,
    IntOrString,
    Label,
    Model,
    ObjectName,
)
from switchboard_policy.v1alpha1.health import Health
from switchboard_policy.v1alpha1.quality import Quality
from switchboard_policy.v1alpha1.telemetry import Telemetry

Api = Literal["chat", "completions", "embeddings"]
Modality = Literal["text", "image", "audio", "video", "file"]

#: Where a provider has one address for everybody, ``external.url`` may be left out.
PROVIDER_URLS: Final = {"openai": "https://api.openai.com/v1"}

#: An order of magnitude above the largest context of any model.
TOKENS_MAX: Final = 100_000_000
URL_LENGTH_MAX: Final = 2048
#: Kubernetes: a prefix of 253, a slash, a name of 63.
LABEL_KEY_LENGTH_MAX: Final = 317

SECRET_KEY_PATTERN: Final = r"^[-._a-zA-Z0-9]+$"  # noqa: S105 - a pattern, not a password
PLACE_PATTERN: Final = r"^[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?$"
LABEL_KEY_PATTERN: Final = (
    r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?$"
)

#: What each pattern asks for, in words.
PATTERN_WORDS: Final = {
    SECRET_KEY_PATTERN: "letters, digits, '-', '_' and '.', as in the keys of a Secret",
    PLACE_PATTERN: "letters, digits, '-', '_' and '.', with a letter or digit at both ends",
    LABEL_KEY_PATTERN: "a label's name such as team or example.com/team",
}

_PORT: Final = (
    "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
)
_HOST: Final = r"([-A-Za-z0-9._]+|\\[[0-9A-Fa-f:.]+\\])"
_WITH_USER: Final = "^[^/]*//[^/]*@"
_URL: Final = rf"^[a-z]+://{_HOST}(:{_PORT})?(/([-A-Za-z0-9._~!$&()*+,;=:@/]|%[0-9A-Fa-f]{{2}})*)?$"

Url = Annotated[
    str,
    Field(min_length=1, max_length=URL_LENGTH_MAX),
    CelRule(
        rule="self.startsWith('http://') || self.startsWith('https://')",
        message='the url "%s" is not absolute',
        values=("self",),
        fix="start it with https:// or http://",
    ),
    CelRule(
        # Without the value: a query may hold a key.
        rule="!self.contains('?') && !self.contains('#')",
        message="the url has a query or a fragment",
        fix="end it with the path, for instance /v1",
    ),
    CelRule(
        # Without the value: what stands before the @ may be a password.
        rule=f"!self.matches('{_WITH_USER}')",
        message="the url has a user or a password before the host",
        fix="leave it out and name a Secret in spec.credentials",
    ),
    CelRule(
        rule=(
            f"self.matches('{_URL}') || self.matches('{_WITH_USER}')"
            " || self.contains('?') || self.contains('#')"
            " || !(self.startsWith('http://') || self.startsWith('https://'))"
        ),
        message='the url "%s" is malformed',
        values=("self",),
        fix="write it as https://host:port/path with a port in 1..65535 and no spaces",
    ),
]

Port = Annotated[
    int | str,
    IntOrString(max_length=15),
    CelRule(
        rule=(
            "type(self) == int ? self >= 1 && self <= 65535"
            " : self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.matches('[a-z]')"
        ),
        message="the port %s is neither a number in 1..65535 nor the name of a port",
        values=("self",),
        fix="write the Service's port: its number (without quotes) or its name",
    ),
]

Place = Annotated[str, Field(pattern=PLACE_PATTERN, min_length=1, max_length=63)]
Tokens = Annotated[int, Field(ge=1, le=TOKENS_MAX)]
LabelKey = Annotated[
    str, Field(pattern=LABEL_KEY_PATTERN, min_length=1, max_length=LABEL_KEY_LENGTH_MAX)
]
LabelValue = Annotated[str, Field(pattern=LABEL_VALUE_PATTERN, max_length=63)]


class ServiceTarget(Model):
    """A Service of the backend's own namespace; its EndpointSlices give the endpoints."""

    name: Label = Field(description="The Service, in the backend's namespace.")
    port: Port = Field(description="A port of the Service: its number or its name.")
    scheme: Literal["http", "https"] = Field(
        default="http",
        description="How it is spoken to; https checks the certificate for NAME.NAMESPACE.svc.",
    )
    path: Annotated[str, Field(pattern=PATH_PATTERN, max_length=256)] = Field(
        default="/v1",
        description="What comes before /chat/completions in the path of a request.",
    )


class ExternalTarget(Model):
    """A model service elsewhere."""

    cel: ClassVar = (
        CelRule(
            rule=f"has(self.url) || self.provider in {sorted(PROVIDER_URLS)}",
            message="the provider %s has no url of its own",
            values=("self.provider",),
            fix="set external.url, for instance https://models.example.com/v1",
            field=".url",
            reason="FieldValueRequired",
        ),
    )

    provider: Literal["openai-compatible", "openai"] = Field(
        description="Whose API it is: openai, or any other that speaks the same language."
    )
    url: Url | None = Field(
        default=None,
        description=(
            "The address before /chat/completions: absolute, http or https, without user, query "
            "and fragment. May be left out for openai, which has https://api.openai.com/v1."
        ),
    )


class SecretKey(Model):
    """A key of a Secret in the backend's namespace."""

    secret_name: ObjectName = Field(
        description=(
            "The Secret, in the backend's namespace. It must carry the label "
            "switchboard.dev/secret: the operator reads no other."
        )
    )
    key: Annotated[str, Field(pattern=SECRET_KEY_PATTERN, min_length=1, max_length=253)] = Field(
        default="api-key", description="The key of the Secret whose value is the API key."
    )


class Credentials(Model):
    """How requests are authenticated: a one-of."""

    api_key: SecretKey = Field(description="An API key, sent as a bearer token.")


class Capabilities(Model):
    """What the model can do. What is left out restricts nothing."""

    cel: ClassVar = (
        CelRule(
            rule=(
                "!has(self.maxOutputTokens) || !has(self.contextWindow)"
                " || self.maxOutputTokens <= self.contextWindow"
            ),
            message="maxOutputTokens %s is larger than contextWindow %s",
            values=("self.maxOutputTokens", "self.contextWindow"),
            fix="lower maxOutputTokens or raise contextWindow",
            field=".maxOutputTokens",
        ),
    )

    apis: Annotated[list[Api], Field(min_length=1, max_length=3), SET] | None = Field(
        default=None, description="The APIs that it serves."
    )
    context_window: Tokens | None = Field(
        default=None, description="Tokens of prompt and answer together, at most."
    )
    max_output_tokens: Tokens | None = Field(
        default=None, description="Tokens of one answer, at most."
    )
    modalities: Annotated[list[Modality], Field(min_length=1, max_length=5), SET] | None = Field(
        default=None, description="The kinds of input that it understands."
    )
    tools: bool | None = Field(default=None, description="Whether it can call tools.")
    json_schema: bool | None = Field(
        default=None, description="Whether it can answer in the form of a given JSON schema."
    )


class Pricing(Model):
    """US dollars a million tokens, as decimal strings."""

    input_per_million: DecimalString = Field(description='Tokens of the prompt, such as "0.15".')
    cached_input_per_million: DecimalString | None = Field(
        default=None,
        description="Tokens of the prompt that the provider had cached; without it, as the rest.",
    )
    output_per_million: DecimalString = Field(description="Tokens of the answer.")


class Locality(Model):
    """Where the backend is; a service's endpoints may know their zone better."""

    region: Place | None = Field(default=None, description="A region, such as eu-west-1.")
    zone: Place | None = Field(default=None, description="A zone, such as eu-west-1a.")
    jurisdiction: Place | None = Field(
        default=None, description="Whose law holds there, such as eu: for guardrails."
    )


class Timeouts(Model):
    """Bounds of one attempt."""

    connect: ConnectDuration = Field(
        default="2s", description="Until the connection stands; at most 1m."
    )
    first_token: Duration = Field(
        default="10s",
        description=(
            "Until the first content of a streamed answer; then another candidate is asked beside "
            "it, and the first content wins. At most 1h."
        ),
    )
    idle: Duration = Field(
        default="15s", description="Between two pieces of a streamed answer; at most 1h."
    )
    total: Duration = Field(default="300s", description="For one whole answer; at most 1h.")


class LabelSelectorRequirement(Model):
    """A term of a label selector, as in Kubernetes."""

    cel: ClassVar = (
        CelRule(
            rule=(
                "(self.operator == 'In' || self.operator == 'NotIn')"
                " == (has(self.values) && size(self.values) > 0)"
            ),
            message="values and the operator %s do not fit",
            values=("self.operator",),
            fix="give values to In and NotIn, and none to Exists and DoesNotExist",
            field=".values",
        ),
    )

    key: LabelKey = Field(description="The label's name.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label and the values relate."
    )
    values: Annotated[list[LabelValue], Field(max_length=16), SET] | None = Field(
        default=None, description="For In and NotIn."
    )


class LabelSelector(Model):
    """A label selector, as in Kubernetes; all terms must hold."""

    cel: ClassVar = (
        CelRule(
            rule=(
                "(has(self.matchLabels) && size(self.matchLabels) > 0)"
                " || (has(self.matchExpressions) && size(self.matchExpressions) > 0)"
            ),
            message="the selector is empty",
            fix="name a label in matchLabels or matchExpressions, or write from: All",
            reason="FieldValueRequired",
        ),
    )

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] | None = Field(
        default=None, description="Labels and the values that they must have."
    )
    match_expressions: Annotated[list[LabelSelectorRequirement], Field(max_length=16)] | None = (
        Field(default=None, description="Terms beyond equality.")
    )


class AllowedNamespaces(Model):
    """Which namespaces' policies may refer to this backend."""

    cel: ClassVar = (
        CelRule(
            rule="self.from != 'Selector' || has(self.selector)",
            message="from: Selector has no selector",
            fix="add a selector of the namespaces' labels",
            field=".selector",
            reason="FieldValueRequired",
        ),
        CelRule(
            rule="self.from == 'Selector' || !has(self.selector)",
            message="a selector is read only where from is Selector, and it is %s",
            values=("self.from",),
            fix="remove the selector, or write from: Selector",
            field=".selector",
            reason="FieldValueForbidden",
        ),
    )

    from_: Literal["Same", "All", "Selector"] = Field(
        default="Same",
        alias="from",
        description=(
            "Same: the backend's own namespace. All: every one. Selector: those whose labels the "
            "selector matches."
        ),
    )
    selector: LabelSelector | None = Field(
        default=None, description="The labels of the namespaces; with from: Selector."
    )


class ModelBackendSpec(Model):
    """The specification of a ModelBackend."""

    cel: ClassVar = (
        CelRule(
            rule="has(self.service) || has(self.external)",
            message="the backend has no address",
            fix="set one of spec.service and spec.external",
            reason="FieldValueRequired",
        ),
        CelRule(
            rule="!has(self.service) || !has(self.external)",
            message="the backend has both a service and an external address",
            fix="remove one of spec.service and spec.external",
            reason="FieldValueForbidden",
        ),
        CelRule(
            rule=(
                "!has(self.telemetry) || !has(self.external)"
                " || self.external.provider == 'openai-compatible'"
            ),
            message="the provider %s tells nobody of its engine",
            values=("self.external.provider",),
            fix="remove spec.telemetry, or write provider: openai-compatible for your engine",
            field=".telemetry",
            reason="FieldValueForbidden",
        ),
        CelRule(
            rule="!has(self.wake) || !has(self.external)",
            message="an external backend is never without its endpoint",
            fix="remove spec.wake, or name a Service in spec.service",
            field=".wake",
            reason="FieldValueForbidden",
        ),
    )

    model: Annotated[str, Field(pattern=NAME_PATTERN, min_length=1, max_length=256)] = Field(
        description="The model's name, as it is sent upstream."
    )
    service: ServiceTarget | None = Field(
        default=None, description="A Service of this namespace. One of service and external."
    )
    external: ExternalTarget | None = Field(
        default=None, description="A model service elsewhere. One of service and external."
    )
    credentials: Credentials | None = Field(
        default=None, description="How requests are authenticated; without it they are not."
    )
    capabilities: Capabilities = Field(
        default=Capabilities(),
        description="What the model can do. What is left out restricts nothing.",
    )
    pricing: Pricing | None = Field(
        default=None, description="US dollars a million tokens, as decimal strings."
    )
    quality: Quality | None = Field(
        default=None,
        description=(
            "How good its answers are, from 0 to 1, by task; for routes that select by Quality."
        ),
    )
    locality: Locality = Field(
        default=Locality(),
        description="Where the backend is; a service's endpoints may know their zone better.",
    )
    capacity: Capacity | None = Field(
        default=None,
        description="Limits of one endpoint, and who waits for one; without it there are none.",
    )
    wake: Wake | None = Field(
        default=None,
        description=(
            "What becomes of requests while the Service has no endpoints, because it is scaled to "
            "zero; without it they go to the next tier, or get 503, at once."
        ),
    )
    timeouts: Timeouts = Field(default=Timeouts(), description="Bounds of one attempt.")
    health: Health = Field(
        default=Health(), description="How it is told that an endpoint is unwell."
    )
    telemetry: Telemetry | None = Field(
        default=None,
        description="What the engine says of its load; without it nobody asks the engine.",
    )
    allowed_namespaces: AllowedNamespaces = Field(
        default=AllowedNamespaces(),
        description="Which namespaces' policies may refer to this backend.",
    )
