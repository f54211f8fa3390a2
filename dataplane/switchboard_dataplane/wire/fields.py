"""Reads typed fields off a parsed JSON body; what is wrong is named with its value and the fix."""

from typing import Any, Final, cast

from switchboard_dataplane.errors import InvalidRequest

#: How much of a caller's value an error message repeats, in characters.
SHOWN_CHARS_MAX: Final = 40

Object = dict[str, Any]
Array = list[object]


def missing(param: str, fix: str) -> InvalidRequest:
    """Return the error for a field that must be there."""
    return InvalidRequest(
        f"{param} is missing; send {fix}", param=param, code="missing_required_parameter"
    )


def wrong_type(param: str, value: object, fix: str) -> InvalidRequest:
    """Return the error for a value of another type than the API's."""
    return InvalidRequest(
        f"{param} is {shown(value)}; send {fix}", param=param, code="invalid_type"
    )


def out_of_range(param: str, value: object, fix: str) -> InvalidRequest:
    """Return the error for a value of the right type that cannot be."""
    return InvalidRequest(
        f"{param} is {shown(value)}; send {fix}", param=param, code="invalid_value"
    )


def read_text(payload: Object, key: str, param: str = "") -> str:
    """Return a string, "" where it is absent or null."""
    value = payload.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise wrong_type(param or key, value, "a string")
    return value


def read_switch(payload: Object, key: str, param: str = "") -> bool:
    """Return a boolean, false where it is absent or null."""
    value = payload.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise wrong_type(param or key, value, "true or false")
    return value


def read_object(payload: Object, key: str) -> Object:
    """Return an object, an empty one where it is absent or null."""
    value = payload.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong_type(key, value, "an object")
    return cast("Object", value)


def read_array(payload: Object, key: str) -> Array:
    """Return an array, an empty one where it is absent or null."""
    value = payload.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong_type(key, value, "an array")
    return cast("Array", value)


def read_count(payload: Object, key: str, *, most: int) -> int:
    """Return a whole number in 0..most, 0 where it is absent or null."""
    value = payload.get(key)
    if value is None:
        return 0
    fix = f"a whole number in 0..{most}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(key, value, fix)
    if not 0 <= value <= most:
        raise out_of_range(key, value, fix)
    return value


def shown(value: object) -> str:
    """Say what a value is, short enough for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        cut = value if len(value) <= SHOWN_CHARS_MAX else value[:SHOWN_CHARS_MAX] + "…"
        return f"the string {cut!r}" if cut else "an empty string"
    if isinstance(value, list):
        return "an array" if value else "an empty array"
    if isinstance(value, dict):
        return "an object"
    return f"the number {value!r:.{SHOWN_CHARS_MAX}}"
