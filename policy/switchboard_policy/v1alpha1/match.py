"""What a rule of a RoutingPolicy matches: structured conditions over a request."""

from typing import Annotated, ClassVar, Final

from pydantic import Field

from switchboard_policy.v1alpha1.common import (
    BY_NAME,
    SET,
    TEXT_PATTERN,
    CelRule,
    Label,
    Model,
)
from switchboard_policy.v1alpha1.modelbackend import TOKENS_MAX, Api

TAG_PATTERN: Final = r"^[A-Za-z0-9][-A-Za-z0-9._:/]*$"
#: RFC 9110: a token.
HEADER_NAME_PATTERN: Final = r"^[-A-Za-z0-9!#$%&'*+.^_`|~]+$"
#: Values reach the rules without the spaces around them.
HEADER_VALUE_PATTERN: Final = r"^[!-~]([ -~]*[!-~])?$"

#: What each pattern asks for, in words.
PATTERN_WORDS: Final = {
    TAG_PATTERN: "letters, digits and '-', '.', '_', ':', '/', with a letter or digit first",
    HEADER_NAME_PATTERN: "the name of an HTTP header: letters, digits and '-'",
    HEADER_VALUE_PATTERN: "printable ASCII characters, without spaces around them",
}

Tag = Annotated[str, Field(pattern=TAG_PATTERN, min_length=1, max_length=63)]
Keyword = Annotated[str, Field(pattern=TEXT_PATTERN, min_length=1, max_length=64)]
Phrase = Annotated[str, Field(pattern=TEXT_PATTERN, min_length=1, max_length=256)]
TokenBound = Annotated[int, Field(ge=0, le=TOKENS_MAX)]

HeaderName = Annotated[
    str,
    Field(pattern=HEADER_NAME_PATTERN, min_length=1, max_length=64),
    CelRule(
        rule="!self.lowerAscii().startsWith('x-switchboard-')",
        message="the header %s is one of the router itself",
        values=("self",),
        fix="use another header; for x-switchboard-tags use match.tags, for -session key.session",
        reason="FieldValueForbidden",
    ),
    CelRule(
        rule=(
            "!(self.lowerAscii() in ['api-key', 'authorization', 'cookie', 'proxy-authorization', "
            "'x-api-key', 'x-forwarded-client-cert', 'x-goog-api-key'])"
        ),
        message="the header %s is what callers prove themselves by, and no policy sees it",
        values=("self",),
        fix="use another header, or in when what is known of the caller, such as client.team",
        reason="FieldValueForbidden",
    ),
]


class HeaderMatch(Model):
    """A request header that must be there, and equal ``value`` if that is given."""

    name: HeaderName = Field(description="The header's name, in any case.")
    value: (
        Annotated[str, Field(pattern=HEADER_VALUE_PATTERN, min_length=1, max_length=256)] | None
    ) = Field(default=None, description="The header's exact value; without it any will do.")


class TokenRange(Model):
    """Inclusive bounds of the estimated prompt tokens."""

    cel: ClassVar = (
        CelRule(
            rule="has(self.min) || has(self.max)",
            message="tokens has neither min nor max",
            fix="set one of them, or remove tokens",
            reason="FieldValueRequired",
        ),
        CelRule(
            rule="!has(self.min) || !has(self.max) || self.min <= self.max",
            message="min %s is larger than max %s",
            values=("self.min", "self.max"),
            fix="lower min or raise max",
            field=".min",
        ),
    )

    min: TokenBound | None = Field(default=None, description="At least as many.")
    max: TokenBound | None = Field(default=None, description="At most as many.")


class SystemPrompt(Model):
    """Text that the system prompt must contain: any of ``contains``, case-insensitive."""

    contains: Annotated[list[Phrase], Field(min_length=1, max_length=16), SET] = Field(
        description="Pieces of text, one of which the system prompt must contain."
    )


class Match(Model):
    """Structured conditions: all fields must hold."""

    cel: ClassVar = (
        CelRule(
            rule=(
                "has(self.apis) || has(self.tags) || has(self.headers) || has(self.keywords)"
                " || has(self.tokens) || has(self.systemPrompt)"
                " || has(self.roles) || has(self.stages) || has(self.arms)"
            ),
            message="the match is empty",
            fix="give it a condition; for a rule that matches everything leave match out",
            reason="FieldValueRequired",
        ),
    )

    apis: Annotated[list[Api], Field(min_length=1, max_length=3), SET] | None = Field(
        default=None, description="The API that was called is one of these."
    )
    tags: Annotated[list[Tag], Field(min_length=1, max_length=16), SET] | None = Field(
        default=None,
        description="One of the request's tags (header x-switchboard-tags) is one of these.",
    )
    headers: (
        Annotated[
            list[HeaderMatch],
            Field(min_length=1, max_length=16),
            BY_NAME,
            CelRule(
                rule="self.all(x, self.exists_one(y, y.name.lowerAscii() == x.name.lowerAscii()))",
                message="a header is matched twice: case does not matter in names",
                fix="keep one of the two; for alternatives write a when",
            ),
        ]
        | None
    ) = Field(default=None, description="All of these headers are there.")
    keywords: Annotated[list[Keyword], Field(min_length=1, max_length=32), SET] | None = Field(
        default=None,
        description="One of these is in the user's messages, as a whole word, in any case.",
    )
    tokens: TokenRange | None = Field(
        default=None, description="The prompt's estimated tokens (bytes / 4) are in this range."
    )
    system_prompt: SystemPrompt | None = Field(
        default=None, description="The system prompt contains a text, in any case."
    )
    roles: Annotated[list[Tag], Field(min_length=1, max_length=16), SET] | None = Field(
        default=None,
        description="The agent's role (header x-switchboard-role) is one of these.",
    )
    stages: Annotated[list[Tag], Field(min_length=1, max_length=16), SET] | None = Field(
        default=None,
        description="The stage of its work (header x-switchboard-stage) is one of these.",
    )
    arms: Annotated[list[Label], Field(min_length=1, max_length=8), SET] | None = Field(
        default=None, description="The caller is on one of these arms of the policy."
    )
