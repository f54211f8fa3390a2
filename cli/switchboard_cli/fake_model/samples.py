"""Small values that fit a JSON schema, for structured answers and tool arguments. Pure."""

from typing import cast

_DEPTH_MAX = 16  # a schema that refers to itself ends here


def sample(schema: dict[str, object], *, text: str) -> object:
    """Return a small value of a JSON schema's types, constants and properties; bounds are not read.

    Strings are `text`.
    """
    return _sample(schema, root=schema, text=text, depth=0)


def _sample(schema: object, *, root: dict[str, object], text: str, depth: int) -> object:
    if not isinstance(schema, dict) or depth > _DEPTH_MAX:
        return None
    rules = cast("dict[str, object]", schema)
    elsewhere = _elsewhere(rules, root)
    if elsewhere is not None:
        return _sample(elsewhere, root=root, text=text, depth=depth + 1)
    if "const" in rules:
        return rules["const"]
    choices = rules.get("enum")
    if isinstance(choices, list) and choices:
        return cast("list[object]", choices)[0]
    return _sample_type(rules, root=root, text=text, depth=depth)


def _sample_type(
    rules: dict[str, object], *, root: dict[str, object], text: str, depth: int
) -> object:
    kind = rules.get("type")
    if isinstance(kind, list):
        kind = cast("list[object]", kind)[0] if kind else None
    if kind == "object" or "properties" in rules:
        return {
            key: _sample(inner, root=root, text=text, depth=depth + 1)
            for key, inner in _mapping(rules.get("properties")).items()
        }
    if kind == "array":
        return [_sample(rules.get("items"), root=root, text=text, depth=depth + 1)]
    scalars: dict[object, object] = {"string": text, "integer": 1, "number": 0.5, "boolean": True}
    return scalars.get(kind)


def _elsewhere(rules: dict[str, object], root: dict[str, object]) -> object:
    """Return the schema that a local reference or a choice stands for, or None."""
    reference = rules.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        found: object = root
        for part in reference.split("/")[1:]:
            found = _mapping(found).get(part)
        return found
    for key in ("anyOf", "oneOf", "allOf"):
        choices = rules.get(key)
        if isinstance(choices, list) and choices:
            return cast("list[object]", choices)[0]
    return None


def _mapping(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
