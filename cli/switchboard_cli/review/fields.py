"""Fields that are not the same any more, in words: ``deadline 60 s → 120 s``."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

import msgspec

#: A dollar in picodollars; prices are told a million tokens.
_PICODOLLARS_A_MILLION: Final = 1_000_000


def changed_fields(old: msgspec.Struct | None, new: msgspec.Struct | None) -> tuple[str, ...]:
    """Return what differs between two forms of a thing, field by field, defaults left out."""
    was, now = flat(old), flat(new)
    every = dict.fromkeys((*was, *now))
    return tuple(
        f"{_name(path)}: {_value(path, was.get(path))} → {_value(path, now.get(path))}"
        for path in every
        if was.get(path) != now.get(path)
    )


def flat(thing: msgspec.Struct | None) -> dict[str, Any]:
    """Return the fields of a thing by their dotted paths; a list is one value."""
    return dict(_flat("", msgspec.to_builtins(thing))) if thing is not None else {}


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, one in cast("dict[str, Any]", value).items():
            yield from _flat(f"{path}.{key}" if path else key, one)
    else:
        yield path, value


def _ms(value: float) -> str:
    return f"{value / 1000:g} s"


def _permille(value: float) -> str:
    return f"{value / 10:g} %"


def _price(value: float) -> str:
    return f"${value / _PICODOLLARS_A_MILLION:g} a million tokens"


def _dollars(value: float) -> str:
    return f"${value / 1e12:g}"


_UNITS: Final[Mapping[str, Callable[[float], str]]] = {
    "_ms": _ms,
    "_permille": _permille,
    "input_picodollars": _price,
    "output_picodollars": _price,
    "_picodollars": _dollars,
}


def _name(path: str) -> str:
    for suffix in ("_ms", "_permille", "_picodollars"):
        path = path.removesuffix(suffix)
    return path.replace("_", " ")


def _value(path: str, value: Any) -> str:
    if value is None or value in ("", [], ()):
        return "(not said)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        unit = next((told for suffix, told in _UNITS.items() if path.endswith(suffix)), None)
        return unit(value) if unit is not None else f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(_item(path, one) for one in cast("list[Any]", value))
    return str(value)


def _item(path: str, value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={one}" for key, one in cast("dict[str, Any]", value).items())
    if isinstance(value, list | tuple):
        return " ".join(map(str, cast("list[Any]", value)))
    return _value(path, value)
