"""Shape errors in plain words: what pydantic found, said with the field, the value and the fix."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic_core import ErrorDetails

from switchboard_policy.v1alpha1 import common, composed, match, modelbackend, select, tiers
from switchboard_policy.v1alpha1.json_values import is_list, is_map
from switchboard_policy.v1alpha1.problems import Path, Problem, field_of, show

Schema = Mapping[str, Any]
#: What is wrong and what to do about it.
Words = tuple[str, str]

#: What each pattern of both kinds asks for, in words.
PATTERN_WORDS: Final[Mapping[str, str]] = {
    **common.PATTERN_WORDS,
    **match.PATTERN_WORDS,
    **modelbackend.PATTERN_WORDS,
    **composed.PATTERN_WORDS,
    **select.PATTERN_WORDS,
    **tiers.PATTERN_WORDS,
}
_KEY_MARK: Final = "[key]"


def problem_of(error: ErrorDetails, *, root: Path, schema: Schema) -> Problem:
    """Return the problem that a validation error speaks of; ``schema`` is the whole model's."""
    location = error["loc"]
    of_key = bool(location) and location[-1] == _KEY_MARK
    path = (*root, *(location[:-1] if of_key else location))
    field = field_of(path)
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        message, fix = _unknown_field(str(location[-1]), _at(schema, location[:-1]))
    else:
        words = _WORDS.get(kind)
        message, fix = words(error) if words else (error["msg"], "see the reference")
    if of_key:
        message = f"the key {show(value)}: {message}"
    # A missing field's input is the object around it.
    shown = "" if kind in {"missing", "extra_forbidden"} else show(value, field=field)
    return Problem(field=field, message=message, value=shown, fix=fix)


def _at(schema: Schema, location: tuple[str | int, ...]) -> Schema:
    for part in location:
        children = schema.get("properties", {})
        schema = schema.get("items", {}) if isinstance(part, int) else children.get(part, {})
    return schema


def _unknown_field(name: str, schema: Schema) -> Words:
    known = sorted(schema.get("properties", {}))
    lowered = {field.lower(): field for field in known}
    if near := get_close_matches(name.lower().replace("_", ""), lowered, n=1):
        return "there is no such field", f"write {lowered[near[0]]}"
    return "there is no such field", f"remove it; the fields here are {', '.join(known)}"


def _wrong_type(wanted: str, fix: str) -> Callable[[ErrorDetails], Words]:
    def words(error: ErrorDetails) -> Words:
        return f"{_a(error['input'])} stands where {wanted} should", fix

    return words


def _a(value: object) -> str:
    names: dict[type, str] = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a map",
        type(None): "nothing",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def _integer(error: ErrorDetails) -> Words:
    value = error["input"]
    if isinstance(value, str):
        return "a text stands where a number should", "write a whole number, without quotes"
    return _wrong_type("a whole number", "write a whole number")(error)


def _text(error: ErrorDetails) -> Words:
    value = error["input"]
    quotes = isinstance(value, bool | int | float)
    return _wrong_type("a text", "put it in quotes" if quotes else "write a text")(error)


def _choice(error: ErrorDetails) -> Words:
    expected = str(error.get("ctx", {}).get("expected", ""))
    expected = expected.replace("'", "").replace(" or ", ", ")
    value = error["input"]
    options: list[str] = expected.split(", ")
    if expected == "True":
        return "only true says something here", "write true, or leave it out"
    near = get_close_matches(str(value), options, n=1, cutoff=0.7)
    return f"it is not one of {expected}", f"write {near[0] if near else f'one of {expected}'}"


def _pattern(error: ErrorDetails) -> Words:
    wanted = PATTERN_WORDS[error.get("ctx", {})["pattern"]]
    return "it is malformed", f"write {wanted}"


def _length(error: ErrorDetails) -> Words:
    context = error.get("ctx", {})
    value = error["input"]
    what = "characters" if isinstance(value, str) else "entries"
    count = len(value) if isinstance(value, str) or is_list(value) or is_map(value) else 0
    if "max_length" in context:
        return f"it has more than {context['max_length']} {what}", (
            f"shorten it to at most {context['max_length']}"
        )
    if count == 0:
        return "it is empty", "leave it out, or write something" if what == "entries" else "fill it"
    return f"it has {count} {what}", f"write at least {context['min_length']}"


def _too_small(error: ErrorDetails) -> Words:
    least = error.get("ctx", {})["ge"]
    return f"it is less than {least}", f"write {least} or more"


def _too_large(error: ErrorDetails) -> Words:
    most = error.get("ctx", {})["le"]
    return f"it is more than {most}", f"write {most} or less"


def _missing(_: ErrorDetails) -> Words:
    return "it is missing", "add it"


def _not_unicode(_: ErrorDetails) -> Words:
    return "it is no valid text", "write it in UTF-8"


_WORDS: Final[Mapping[str, Callable[[ErrorDetails], Words]]] = {
    "missing": _missing,
    "string_type": _text,
    "string_unicode": _not_unicode,
    "string_too_short": _length,
    "string_too_long": _length,
    "string_pattern_mismatch": _pattern,
    "too_short": _length,
    "too_long": _length,
    "literal_error": _choice,
    "greater_than_equal": _too_small,
    "less_than_equal": _too_large,
    "int_type": _integer,
    "int_from_float": _integer,
    "int_or_string": _wrong_type("a number or a name", "write a number or a name"),
    "bool_type": _wrong_type("true or false", "write true or false, without quotes"),
    "list_type": _wrong_type("a list", "write a list: each entry on a line that begins with '- '"),
    "dict_type": _wrong_type("a map", "write a map: lines of 'key: value'"),
    "model_type": _wrong_type("a map", "write a map: lines of 'key: value'"),
    "model_attributes_type": _wrong_type("a map", "write a map: lines of 'key: value'"),
    "invalid_key": _wrong_type("the name of a field", "write the name of a field"),
}
