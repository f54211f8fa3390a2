"""Model → structural schema: what the API server demands of a schema holds for ours."""

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import Field

from switchboard_policy.v1alpha1.common import Model
from switchboard_policy.v1alpha1.conditions import REASONS, TYPES, Reason
from switchboard_policy.v1alpha1.crd import KINDS, build_crd, structural_schema
from switchboard_policy.v1alpha1.shape import PATTERN_WORDS

FORBIDDEN = {"$ref", "$defs", "anyOf", "const", "title", "uniqueItems", "definitions"}


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield from nodes(schema[keyword], f"{path}[]")


def every_node() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{kind}{path}", node)
        for kind in KINDS
        for path, node in nodes(build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
        if ".metadata" not in path
    ]


def test_no_keyword_is_left_that_a_structural_schema_has_no_place_for() -> None:
    for path, node in every_node():
        assert not FORBIDDEN & node.keys(), path
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path


def test_every_list_map_text_and_number_of_the_specs_is_bounded() -> None:
    for path, node in every_node():
        if ".spec" not in path or "enum" in node:
            continue
        match node.get("type"):
            case "array":
                assert "maxItems" in node, path
            case "string":
                assert "maxLength" in node, path
            case "integer":
                assert {"minimum", "maximum"} <= node.keys(), path
            case "object":
                assert "properties" in node or "maxProperties" in node, path
            case _:
                assert node.get("type") == "boolean" or "maxLength" in node, path


def test_every_field_is_described() -> None:
    for path, node in every_node():
        for name, child in node.get("properties", {}).items():
            if name != "metadata":
                assert child.get("description"), f"{path}.{name}"


def test_every_pattern_of_the_specs_has_words() -> None:
    patterns = {
        node["pattern"] for path, node in every_node() if ".spec" in path and "pattern" in node
    }
    assert patterns <= PATTERN_WORDS.keys()


def test_lists_that_bear_order_are_atomic_and_references_are_keyed() -> None:
    found = dict(every_node())
    rules = found["RoutingPolicy.spec.rules"]
    tiers = found["RoutingPolicy.spec.rules[].route.tiers"]
    backends = found["RoutingPolicy.spec.rules[].route.tiers[].backends"]
    assert rules["x-kubernetes-list-type"] == tiers["x-kubernetes-list-type"] == "atomic"
    assert backends["x-kubernetes-list-map-keys"] == ["namespace", "name"]
    assert backends["items"]["properties"]["namespace"]["default"] == ""


def test_a_message_of_a_rule_names_the_fix_and_its_expression_the_values() -> None:
    for path, node in every_node():
        for rule in node.get("x-kubernetes-validations", ()):
            assert ": " in rule["message"], path
            assert "%s" not in rule["message"], path
            if "messageExpression" in rule:
                assert rule["messageExpression"].endswith("])"), path


def test_a_keyword_that_is_not_known_to_be_fine_is_an_error() -> None:
    class Odd(Model):
        """A model with a constraint that a structural schema spells otherwise."""

        share: Annotated[int, Field(multiple_of=5)]

    with pytest.raises(ValueError, match="multipleOf"):
        structural_schema(Odd)


def test_every_reason_and_condition_type_is_explained() -> None:
    assert set(REASONS) == set(Reason)
    assert "Accepted" in TYPES
