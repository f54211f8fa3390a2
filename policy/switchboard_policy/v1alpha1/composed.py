"""What takes more than one answer: a cascade, an ensemble, a mirror, a review by people."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from switchboard_policy.v1alpha1.asked import Asked, Judge
from switchboard_policy.v1alpha1.common import (
    CelRule,
    DecimalString,
    Duration,
    Model,
    PositiveShare,
)
from switchboard_policy.v1alpha1.tiers import Reference

#: Beyond five, candidates agree with one of the others and cost as much as a better model.
CANDIDATES_MAX: Final = 5
REGEX_LENGTH_MAX: Final = 512
#: The schema of a form, not of a standard; in characters.
JSON_SCHEMA_LENGTH_MAX: Final = 8_192
#: Held in memory for each request; some 50,000 tokens.
HOLD_CHARS_MAX: Final = 200_000
URL_LENGTH_MAX: Final = 2_048

#: An absolute URL without credentials and without a fragment.
WEBHOOK_PATTERN: Final = r"^https?://[-A-Za-z0-9._~:\[\]]+(/[-A-Za-z0-9._~!$&'()*+,;=:@/%?]*)?$"
#: What each pattern asks for, in words.
PATTERN_WORDS: Final = {
    WEBHOOK_PATTERN: "an absolute URL such as https://reviews.example.com/new, without a password",
}

Expression = Annotated[str, Field(min_length=1, max_length=1024)]


class Accept(Model):
    """What an answer must meet so that no stronger tier is asked: all that is said."""

    cel: ClassVar = (
        CelRule(
            rule=(
                "has(self.confidence) || has(self.agreement) || has(self.regex)"
                " || has(self.jsonSchema) || has(self.when) || has(self.judge)"
            ),
            message="accept is empty, so every answer of the first tier would do",
            fix="give it a check, for instance when: '!answer.refused && !answer.cut'",
            reason="FieldValueRequired",
        ),
    )

    confidence: PositiveShare | None = Field(
        default=None,
        description=(
            "The least mean probability of the answer's tokens. Backends that return no logprobs "
            "are never confident."
        ),
    )
    agreement: Reference | None = Field(
        default=None,
        description="A ModelBackend, cheap as the first, whose answer must come to the same.",
    )
    regex: Annotated[str, Field(min_length=1, max_length=REGEX_LENGTH_MAX)] | None = Field(
        default=None, description="An RE2 expression that is found in the answer's text."
    )
    json_schema: Annotated[str, Field(min_length=1, max_length=JSON_SCHEMA_LENGTH_MAX)] | None = (
        Field(
            default=None,
            description="A JSON Schema, as a text of JSON, that the answer's text meets.",
        )
    )
    when: Expression | None = Field(
        default=None,
        description="A CEL condition over answer.*, the answer that is judged. An error is a no.",
    )
    judge: Judge | None = Field(default=None, description="A model that says how good it is.")


class Hold(Model):
    """How long a streamed answer is held back so that it can be judged whole."""

    chars: Annotated[int, Field(ge=1, le=HOLD_CHARS_MAX)] = Field(
        default=16_000, description="At most so many characters of content."
    )
    time: Duration = Field(default="30s", description="At most so long after it has begun.")
    then: Literal["Send", "Escalate"] = Field(
        default="Send",
        description=(
            "What becomes of an answer that is not whole by then. Send: it goes out unjudged. "
            "Escalate: the next tier is asked."
        ),
    )


class Cascade(Model):
    """The tiers are asked one after another until an answer is good enough; the last one's is."""

    accept: Accept = Field(description="What an answer must meet, unless it is the last tier's.")
    hold: Hold = Field(default=Hold(), description="How long a streamed answer is held back.")


class Ensemble(Model):
    """Several backends answer the same request, and one of the answers goes out."""

    candidates: Annotated[int, Field(ge=2, le=CANDIDATES_MAX)] = Field(
        description=(
            "How many answer: different backends of the tiers, in their order, while there are any."
        )
    )
    judge: Asked | None = Field(
        default=None,
        description="A model that chooses among the answers; without it the most common one wins.",
    )
    max_cost: DecimalString | None = Field(
        default=None,
        description=(
            "US dollars that the candidates of one request may be foreseen to cost in all; a "
            "dearer request is answered by one of them."
        ),
    )


class Mirror(Model):
    """A backend that gets a share of the requests once more; nobody sees its answers."""

    backend: Reference = Field(description="The ModelBackend that is tried.")
    sample: PositiveShare = Field(description="The share of the rule's requests that it gets.")
    max_cost: DecimalString = Field(
        description="US dollars an hour that it may cost, in all data planes together."
    )
    judge: Asked | None = Field(
        default=None, description="A model that says which of the two answers is better."
    )


class Review(Model):
    """People look at the answers: each is marked, and told to a webhook."""

    webhook: Annotated[
        str, Field(pattern=WEBHOOK_PATTERN, min_length=8, max_length=URL_LENGTH_MAX)
    ] = Field(description="Where decisions are posted, as JSON.")
    texts: bool = Field(
        default=False, description="Whether the request's and the answer's texts are posted, too."
    )
