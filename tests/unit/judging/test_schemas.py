"""Which JSON Schemas are taken, and that neither they nor what is checked hold anything up."""

import socket
from typing import Any

import orjson
import pytest

from switchboard_policy.errors import ExpressionError
from switchboard_policy.schemas import SCHEMA_CHARS_MAX, SUBSCHEMAS_MAX, compile_schema

LINKED: dict[str, Any] = {
    "$defs": {
        "node": {
            "type": "object",
            "required": ["next"],
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
        }
    },
    "$ref": "#/$defs/node",
}


def holds(schema: object, value: object) -> bool:
    return compile_schema(orjson.dumps(schema).decode()).holds(value)


def refusal(schema: object) -> str:
    text = schema if isinstance(schema, str) else orjson.dumps(schema).decode()
    with pytest.raises(ExpressionError) as refused:
        compile_schema(text)
    return str(refused.value)


def doubling(levels: int) -> dict[str, Any]:
    twice = {
        f"n{level}": {"allOf": [{"$ref": f"#/$defs/n{level + 1}"}] * 2} for level in range(levels)
    }
    return {"$defs": {**twice, f"n{levels}": {"type": "object"}}, "$ref": "#/$defs/n0"}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "object", "required": ["a"]}, {"a": 1}, {}),
        ({"enum": ["a", {"$ref": "b"}]}, {"$ref": "b"}, "c"),
        ({"pattern": "^(a+)+$"}, "aaa", "aab"),
        ({"properties": {"$ref": {"type": "string"}}}, {"$ref": "x"}, {"$ref": 1}),
        ({"prefixItems": [{"const": 1}], "items": {"$ref": "#/prefixItems/0"}}, [1, 1], [1, 2]),
        (LINKED, {"next": {"next": None}}, {"next": {}}),
        (
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "definitions": {"a/b": {"type": "integer"}},
                "additionalProperties": {"$ref": "#/definitions/a~1b"},
            },
            {"x": 1},
            {"x": "1"},
        ),
        (True, 7, None),
    ],
)
def test_a_schema_tells_what_meets_it(schema: Any, good: object, bad: object) -> None:
    assert holds(schema, good)
    assert bad is None or not holds(schema, bad)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("{", "it is no JSON"),
        ("[" * 50_000, "it is no JSON"),
        ("7", "neither an object nor true or false"),
        ({"type": "objct"}, "objct"),
        ({"pattern": "("}, "regex"),
        ({"pattern": "(?=a)b"}, "regex"),
        ({"$ref": "#/$defs/none"}, "there is no such place"),
        ({"$schema": "http://127.0.0.1/mine"}, "Unknown meta-schema"),
        ("{" + " " * SCHEMA_CHARS_MAX + "}", "characters"),
        (doubling(20), f"more than {SUBSCHEMAS_MAX}"),
    ],
)
def test_what_cannot_be_checked_is_refused_with_the_reason(schema: object, said: str) -> None:
    assert said in refusal(schema)


@pytest.mark.parametrize(
    "reference", ["http://127.0.0.1:{port}/s.json", "file:///etc/hostname", "other.json", "#name"]
)
def test_a_reference_to_elsewhere_is_refused_and_nothing_is_fetched(reference: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        reference = reference.replace("{port}", str(server.getsockname()[1]))
        assert "only a place in the same schema" in refusal({"items": {"$ref": reference}})
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("word", ["$dynamicRef", "$recursiveRef", "$id"])
def test_words_that_move_references_are_refused(word: str) -> None:
    assert "only $ref" in refusal({"items": {word: "#x"}})


def test_a_schema_that_nests_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(150):
        schema = {"items": schema}
    assert "nests more than" in refusal(schema)


def test_a_long_chain_of_references_is_refused() -> None:
    chain = {f"n{one}": {"$ref": f"#/$defs/n{one + 1}"} for one in range(200)}
    assert "nests more than" in refusal({"$defs": {**chain, "n200": {}}, "$ref": "#/$defs/n0"})


def test_a_value_that_nests_as_deep_as_any_is_checked() -> None:
    value: Any = 1
    for _ in range(1_000):
        value = [value]
    tree = {"$defs": {"n": {"items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"}
    assert holds(tree, value)


def test_a_value_that_cannot_be_compared_does_not_meet_its_schema() -> None:
    value: Any = 1
    for _ in range(900):
        value = [value]
    assert not holds({"uniqueItems": True}, [value, value])


def test_a_number_beyond_all_bounds_is_checked() -> None:
    assert not holds({"maximum": 10, "multipleOf": 0.5}, 10**400)


def test_a_compiled_schema_is_remembered() -> None:
    assert compile_schema('{"type":"null"}') is compile_schema('{"type":"null"}')
