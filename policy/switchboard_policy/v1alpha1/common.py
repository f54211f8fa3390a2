"""What both kinds are made of: strict models, CEL rules, list types, bounded strings."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

#: The schema keywords under which rules and list types travel from the models to the CRD.
RULES: Final = "x-kubernetes-validations"
LIST_TYPE: Final = "x-kubernetes-list-type"
LIST_KEYS: Final = "x-kubernetes-list-map-keys"
INT_OR_STRING: Final = "x-kubernetes-int-or-string"

#: Not FieldValueDuplicate: of such an error the API server does not show the message.
RuleReason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"]


@dataclass(frozen=True, slots=True)
class CelRule:
    """A rule in CEL over ``self``, said once: the API server and the parser both run it.

    ``message`` has a ``%s`` for each of ``values``, which are CEL expressions; ``fix`` says what
    to do. ``field`` is the path below ``self`` that is to blame (".selector"). Only what cel-go
    and cel-cpp have in common may be used: no ``self.namespace``, no two-variable ``all``.
    """

    rule: str
    message: str
    fix: str
    values: tuple[str, ...] = ()
    field: str = ""
    reason: RuleReason = "FieldValueInvalid"

    @property
    def plain_message(self) -> str:
        """The message without values."""
        return self.message.replace("%s", "…")

    def message_expression(self, *, ending: str = "") -> str:
        """Return the CEL expression of the message with its values and ``ending``.

        ``format`` and not ``+``: the API server takes the length of ``string(1)`` for unlimited.
        """
        text = self.message + ending.replace("%", "%%")
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}".format([{", ".join(self.values)}])'

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the rule to the schema of what is annotated with it."""
        schema = handler(core)
        schema[RULES] = [*schema.get(RULES, []), self]
        return schema


@dataclass(frozen=True, slots=True)
class ListType:
    """How server-side apply merges a list, and what must be unique in it.

    A ``set`` has no equal items, a ``map`` no two items with equal ``keys``; the order of an
    ``atomic`` list bears meaning, so it has one owner.
    """

    kind: Literal["atomic", "map", "set"]
    keys: tuple[str, ...] = ()

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the list type to the schema of the list."""
        schema = handler(core)
        schema[LIST_TYPE] = self.kind
        if self.keys:
            schema[LIST_KEYS] = list(self.keys)
        return schema


@dataclass(frozen=True, slots=True)
class IntOrString:
    """A value that may be a number or a name, as in Kubernetes."""

    max_length: int

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Accept an integer or a string of bounded length, and nothing else."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Say it as Kubernetes does."""
        return {INT_OR_STRING: True, "maxLength": self.max_length}

    def _check(self, value: object) -> int | str:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise PydanticCustomError("int_or_string", "neither a number nor a name")
        if isinstance(value, str) and len(value) > self.max_length:
            limit = {"max_length": self.max_length}
            raise PydanticCustomError("string_too_long", "too long", limit)
        return value


SET: Final = ListType("set")
ATOMIC: Final = ListType("atomic")
BY_NAME: Final = ListType("map", ("name",))


class Model(BaseModel):
    """A strict, immutable part of a custom resource: camelCase outside, snake_case inside."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        strict=True,
    )

    #: Rules over the whole object.
    cel: ClassVar[tuple[CelRule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        """Add the class's rules to its schema."""
        schema = handler(core)
        if cls.cel:
            resolved: dict[str, Any] = handler.resolve_ref_schema(schema)
            resolved[RULES] = list(cls.cel)
        return schema


#: GEP-2257: a subset of Go's durations that people can read; negatives cannot be written.
DURATION_PATTERN: Final = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
#: The 95th percentile, or a duration.
P95_PATTERN: Final = r"^(p95|([0-9]{1,5}(h|m|s|ms)){1,4})$"
#: Six places: a price of "0.000001" dollars a million tokens is one picodollar a token.
DECIMAL_PATTERN: Final = r"^(0|[1-9][0-9]{0,5})(\.[0-9]{1,6})?$"
#: From 0 to 1, in thousandths.
SHARE_PATTERN: Final = r"^(0(\.[0-9]{1,3})?|1(\.0{1,3})?)$"
#: The same without 0.
POSITIVE_SHARE_PATTERN: Final = r"^(0\.([0-9]{0,2}[1-9]|[0-9][1-9]0|[1-9]00?)|1(\.0{1,3})?)$"
#: An absolute path of a URL, as it is sent.
PATH_PATTERN: Final = r"^/([-A-Za-z0-9._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*$"
#: RFC 1123 label: names of objects, ports, tiers, rules.
LABEL_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
#: RFC 1123 subdomain: names of custom resources and Secrets.
SUBDOMAIN_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
#: The value of a Kubernetes label.
LABEL_VALUE_PATTERN: Final = r"^([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)?$"
#: A string that may hold spaces within, but no control characters and no spaces around it.
TEXT_PATTERN: Final = r"^[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?$"
#: Printable ASCII without spaces: the model names that services use.
NAME_PATTERN: Final = r"^[!-~]+$"

#: What each pattern asks for, in words; the parser says them instead of the pattern.
PATTERN_WORDS: Final = {
    DURATION_PATTERN: "a duration such as 500ms, 30s or 1m30s",
    P95_PATTERN: "p95, or a duration such as 500ms, 30s or 1m30s",
    DECIMAL_PATTERN: "a decimal such as 0.15: at most six digits before and after the point",
    SHARE_PATTERN: "a share from 0 to 1 such as 0.5: at most three digits after the point",
    POSITIVE_SHARE_PATTERN: (
        "a share above 0 and up to 1 such as 0.5: at most three digits after the point"
    ),
    PATH_PATTERN: "a path that starts with '/', without spaces, query and fragment",
    LABEL_PATTERN: "lower-case letters, digits and '-', with a letter or digit at both ends",
    SUBDOMAIN_PATTERN: "lower-case letters, digits, '-' and '.', as in the name of an object",
    LABEL_VALUE_PATTERN: "letters, digits, '-', '_' and '.', with a letter or digit at both ends",
    TEXT_PATTERN: "text without control characters, and without spaces around it",
    NAME_PATTERN: "printable ASCII characters without spaces",
}

DecimalString = Annotated[str, Field(pattern=DECIMAL_PATTERN, min_length=1, max_length=13)]
Share = Annotated[str, Field(pattern=SHARE_PATTERN, min_length=1, max_length=5)]
PositiveShare = Annotated[str, Field(pattern=POSITIVE_SHARE_PATTERN, min_length=1, max_length=5)]
Label = Annotated[str, Field(pattern=LABEL_PATTERN, min_length=1, max_length=63)]
ObjectName = Annotated[str, Field(pattern=SUBDOMAIN_PATTERN, min_length=1, max_length=253)]

DURATION_LENGTH_MAX: Final = 28
_UNIT_MS: Final = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def _longest(limit: str) -> CelRule:
    return CelRule(
        rule=f"duration(self) > duration('0s') && duration(self) <= duration('{limit}')",
        message=f"the duration %s is not within 1ms and {limit}",
        values=("self",),
        fix=f"write at least 1ms and at most {limit}",
    )


_Duration = Annotated[
    str, Field(pattern=DURATION_PATTERN, min_length=2, max_length=DURATION_LENGTH_MAX)
]
#: A request takes minutes at most; an hour is beyond any model's answer.
Duration = Annotated[_Duration, _longest("1h")]
#: A connection that takes longer is a failure by any standard.
ConnectDuration = Annotated[_Duration, _longest("1m")]
#: More often than once a second, every pod asking every endpoint is a load of its own.
IntervalDuration = Annotated[
    _Duration,
    CelRule(
        rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",
        message="the interval %s is not within 1s and 1h",
        values=("self",),
        fix="write at least 1s and at most 1h",
    ),
]
#: "0s" is a start too: at once. After a quarter of an hour nothing is new any more.
StartDuration = Annotated[
    _Duration,
    CelRule(
        rule="duration(self) <= duration('15m')",
        message="the start %s is longer than 15m",
        values=("self",),
        fix="write at most 15m; 0s starts at once",
    ),
]

#: A caller that was not answered for longer has given up; "0s" is a wait too: none.
WaitDuration = Annotated[
    _Duration,
    CelRule(
        rule="duration(self) <= duration('1m')",
        message="the wait %s is longer than 1m",
        values=("self",),
        fix="write at most 1m; 0s never waits",
    ),
]


#: Later than a caller waits for its first token, a second start is of no use.
P95OrDuration = Annotated[
    str,
    Field(pattern=P95_PATTERN, min_length=2, max_length=DURATION_LENGTH_MAX),
    CelRule(
        rule=(
            "self == 'p95' || (duration(self) > duration('0s') && duration(self) <= duration('1m'))"
        ),
        message="the duration %s is not within 1ms and 1m",
        values=("self",),
        fix="write at least 1ms and at most 1m, or p95",
    ),
]


def duration_ms(text: str) -> int:
    """Return the milliseconds of a GEP-2257 duration such as ``1m30s``."""
    return sum(
        int(count) * _UNIT_MS[unit] for count, unit in re.findall(r"([0-9]+)(ms|h|m|s)", text)
    )


def permille(share: str) -> int:
    """Return the thousandths of a share such as ``0.5``."""
    return int(Decimal(share) * 1_000)


def picodollars(dollars: str) -> int:
    """Return the picodollars of an amount in US dollars such as ``0.05``."""
    return int(Decimal(dollars) * 10**12)


def picodollars_per_token(dollars_per_million: str) -> int:
    """Return picodollars a token for a price in US dollars a million tokens."""
    return int(Decimal(dollars_per_million) * 1_000_000)
