"""JSON Schemas that answers are checked against: the one way in which both planes read them.

A schema comes from the author of a policy, what is checked from a model, and neither may hold the
process up. References stay inside the schema: nothing is ever fetched. Patterns run in linear
time, on automata of bounded size. A schema whose references multiply is refused, and so is one that
nests too deep. What a check takes at worst is told for each character of the answer.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, Protocol, cast
from urllib.parse import unquote

import msgspec

from switchboard_policy.costs.patterns import measure_pattern
from switchboard_policy.errors import ExpressionError

SCHEMA_CHARS_MAX: Final = 64 * 1024
#: How many subschemas one has, written out: with what it refers to in place of each reference.
SUBSCHEMAS_MAX: Final = 10_000
#: How deep they nest, references counted.
DEPTH_MAX: Final = 100
AUTOMATON_BYTES_MAX: Final = 1024 * 1024
SCHEMAS_KEPT: Final = 256
#: What a check takes at worst for each character of JSON, measured: whatever the schema, for each
#: subschema, for keywords that take more, and for each value of an enum.
CHECK_NS: Final = 50
SUBSCHEMA_NS: Final = 5
KEYWORDS_NS: Final = {"const": 100, "contains": 100, "multipleOf": 600, "uniqueItems": 200}
SCALAR_NS: Final = 1
VALUE_NS: Final = 80

#: Keywords whose value is an object of schemas, by names of the author's.
_BY_NAME: Final = ("properties", "patternProperties", "dependentSchemas", "dependencies")
#: Keywords whose value holds no schema, or (definitions) only such as something else refers to.
_NO_SCHEMAS: Final = frozenset(
    {"$defs", "$ref", "const", "default", "definitions", "enum", "examples", *_BY_NAME}
)
#: Keywords that make a reference mean something else than a place in this text.
_MOVED: Final = ("$dynamicRef", "$recursiveRef")


class _Validator(Protocol):
    def is_valid(self, instance: Any) -> bool: ...


class Schema:
    """A compiled schema; ``ns`` is what a check takes at worst for each character."""

    def __init__(self, source: str, validator: _Validator, ns: int) -> None:
        self.source: Final = source
        self.ns: Final = ns
        self._validator: Final = validator

    def holds(self, value: object) -> bool:
        """Say whether a JSON value meets the schema; one that cannot be checked does not."""
        try:
            return self._validator.is_valid(value)
        except ValueError:
            # It nests deeper than the library compares values.
            return False


@lru_cache(SCHEMAS_KEPT)
def compile_schema(source: str) -> Schema:
    """Compile a schema from its JSON text, by the draft that it names, or 2020-12.

    Raises ExpressionError with the reason where it is none, refers to anything outside itself, or
    could take too long.
    """
    if len(source) > SCHEMA_CHARS_MAX:
        raise ExpressionError(f"it has {len(source)} characters, more than {SCHEMA_CHARS_MAX}")
    try:
        value: object = msgspec.json.decode(source)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ExpressionError(f"it is no JSON: {error}") from error
    if not isinstance(value, dict | bool):
        raise ExpressionError("it is no JSON Schema: neither an object nor true or false")
    extent = _Extent(cast("object", value))
    extent.measure()
    # Six megabytes that only those who check schemas need.
    from jsonschema_rs import RegexOptions, validator_for  # noqa: PLC0415

    patterns = RegexOptions(size_limit=AUTOMATON_BYTES_MAX, dfa_size_limit=AUTOMATON_BYTES_MAX)
    try:
        validator = validator_for(
            cast("dict[str, Any] | bool", value), offline=True, pattern_options=patterns
        )
    except ValueError as error:
        raise ExpressionError(str(error).strip().replace("\n\n", "; ")) from error
    return Schema(source, validator, extent.ns)


class _Extent:
    """Counts the subschemas of a schema, written out; what recurs is counted once a round.

    ``ns`` is what they take together, with their patterns.
    """

    def __init__(self, root: object) -> None:
        self.ns = CHECK_NS
        self._root = root
        self._known: dict[str, int] = {}

    def measure(self) -> None:
        """Raise ExpressionError for a schema that is too much."""
        count = self._count(self._root, 1)
        if count > SUBSCHEMAS_MAX:
            raise ExpressionError(
                f"its references written out, it has {count} subschemas, more than {SUBSCHEMAS_MAX}"
            )
        self.ns += count * SUBSCHEMA_NS

    def _count(self, schema: object, depth: int) -> int:
        if depth > DEPTH_MAX:
            raise ExpressionError(f"it nests more than {DEPTH_MAX} deep, references counted")
        if isinstance(schema, list):
            return sum(self._count(one, depth + 1) for one in cast("list[object]", schema))
        if not isinstance(schema, dict):
            return 0
        fields = cast("dict[str, object]", schema)
        if any(word in fields for word in _MOVED) or (schema is not self._root and "$id" in fields):
            raise ExpressionError("only $ref to a place in the same schema is understood (#/…)")
        self.ns += _keywords_ns(fields)
        inner = [value for name, value in fields.items() if name not in _NO_SCHEMAS]
        for keyword in _BY_NAME:
            named = fields.get(keyword)
            if isinstance(named, dict):
                inner += cast("dict[str, object]", named).values()
        count = 1 + sum(self._count(one, depth + 1) for one in inner)
        reference = fields.get("$ref")
        return count + (self._referred(reference, depth) if isinstance(reference, str) else 0)

    def _referred(self, reference: str, depth: int) -> int:
        if reference not in self._known:
            self._known[reference] = 1
            target = _resolve(self._root, reference)
            self._known[reference] = self._count(target, depth + 1)
        return self._known[reference]


def _keywords_ns(schema: dict[str, object]) -> int:
    ns = sum(KEYWORDS_NS.get(keyword, 0) for keyword in schema)
    ns += sum(measure_pattern(one).ns for one in _patterns_in(schema))
    values = schema.get("enum")
    if isinstance(values, list):
        known = cast("list[object]", values)
        each_ns = VALUE_NS if any(isinstance(one, list | dict) for one in known) else SCALAR_NS
        ns += each_ns * len(known)
    return ns


def _patterns_in(schema: dict[str, object]) -> Iterable[str]:
    pattern, named = schema.get("pattern"), schema.get("patternProperties")
    if isinstance(pattern, str):
        yield pattern
    if isinstance(named, dict):
        yield from cast("dict[str, object]", named)


def _resolve(root: object, reference: str) -> object:
    pointer = reference.removeprefix("#")
    if pointer == reference or (pointer and not pointer.startswith("/")):
        raise ExpressionError(
            f"$ref {reference!r}: only a place in the same schema can be named (#/…)"
        )
    found = root
    for step in _steps(pointer):
        if isinstance(found, dict) and step in found:
            found = cast("dict[str, object]", found)[step]
        elif isinstance(found, list) and step in (places := _places(cast("list[object]", found))):
            found = places[step]
        else:
            raise ExpressionError(f"$ref {reference!r}: there is no such place")
    return found


def _places(items: list[object]) -> dict[str, object]:
    return {str(place): item for place, item in enumerate(items)}


def _steps(pointer: str) -> Iterable[str]:
    return (unquote(step).replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])
