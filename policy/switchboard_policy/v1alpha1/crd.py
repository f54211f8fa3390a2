"""Model → CustomResourceDefinition: structural schemas with CEL rules, names and columns.

pydantic's JSON Schema is not structural: references are inlined here, optional fields become
fields that are not required, one-valued types enumerations, and what the API server refuses or
ignores is dropped. A keyword that is not known to be fine is an error, never passed on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from switchboard_policy.names import GROUP, VERSION
from switchboard_policy.v1alpha1.common import (
    INT_OR_STRING,
    LIST_KEYS,
    LIST_TYPE,
    RULES,
    CelRule,
    Model,
)
from switchboard_policy.v1alpha1.conditions import DEGRADED, READY
from switchboard_policy.v1alpha1.modelbackend import ModelBackendSpec
from switchboard_policy.v1alpha1.routingpolicy import RoutingPolicySpec
from switchboard_policy.v1alpha1.status import (
    ModelBackendStatus,
    RoutingPolicyStatus,
    pending_status,
)

Schema: TypeAlias = dict[str, Any]
Column: TypeAlias = dict[str, str | int]

#: Said otherwise here, or of no use to the API server.
_DROPPED: Final = frozenset({"$defs", "additionalProperties", "default", "propertyNames", "title"})
_KEPT: Final = frozenset(
    {
        "description",
        "enum",
        "format",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "required",
        "type",
        INT_OR_STRING,
        LIST_KEYS,
        LIST_TYPE,
        RULES,
    }
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What there is to say of a kind beside its fields; ``facts`` are columns after READY."""

    name: str
    plural: str
    short: str
    summary: str
    spec: type[Model]
    status: type[Model]
    facts: tuple[Column, ...]


KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind(
            name="ModelBackend",
            plural="modelbackends",
            short="mb",
            summary="ModelBackend is one model behind one or more endpoints.",
            spec=ModelBackendSpec,
            status=ModelBackendStatus,
            facts=(
                {"name": "Model", "type": "string", "jsonPath": ".spec.model"},
                {"name": "Endpoints", "type": "integer", "jsonPath": ".status.endpoints.ready"},
            ),
        ),
        Kind(
            name="RoutingPolicy",
            plural="routingpolicies",
            short="rp",
            summary="RoutingPolicy says which backends answer for which public model names.",
            spec=RoutingPolicySpec,
            status=RoutingPolicyStatus,
            facts=({"name": "Models", "type": "string", "jsonPath": ".spec.models"},),
        ),
    )
}


def structural_schema(model: type[Model]) -> Schema:
    """Return the structural schema of a model.

    Rules stand in it as ``CelRule`` objects: :func:`build_crd` writes them out, the parser runs
    them. Raises ValueError for a keyword that a structural schema has no place for.
    """
    raw = model.model_json_schema(by_alias=True)
    return _structural(raw, raw.get("$defs", {}))


def build_crd(kind: str) -> Schema:
    """Return the CustomResourceDefinition of ``ModelBackend`` or ``RoutingPolicy``, JSON-like."""
    what = KINDS[kind]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{what.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "categories": ["switchboard"],
                "kind": what.name,
                "listKind": f"{what.name}List",
                "plural": what.plural,
                "shortNames": [what.short],
                "singular": what.name.lower(),
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(what),
                    "schema": {"openAPIV3Schema": _object_schema(what)},
                }
            ],
        },
    }


#: Columns of ``kubectl get -o wide``: an older Observed than Generation is a stale status.
_WIDE: Final[tuple[Column, ...]] = tuple(
    {"name": name, "type": type_, "jsonPath": path, "priority": 1}
    for name, type_, path in (
        ("Generation", "integer", ".metadata.generation"),
        ("Observed", "integer", ".status.observedGeneration"),
        ("Propagation", "string", ".status.propagation"),
    )
)


def _columns(kind: Kind) -> list[Column]:
    ready = _condition(READY)
    return [
        {"name": "Ready", "type": "string", "jsonPath": f"{ready}.status"},
        *kind.facts,
        {"name": "Revision", "type": "string", "jsonPath": ".status.revision"},
        {"name": "Pods", "type": "string", "jsonPath": ".status.pods"},
        {"name": "Reason", "type": "string", "jsonPath": f"{ready}.reason"},
        # Ready and Degraded may be true at once: this is where a person sees it.
        {"name": "Degraded", "type": "string", "jsonPath": f"{_condition(DEGRADED)}.reason"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        *_WIDE,
        {"name": "Message", "type": "string", "jsonPath": f"{ready}.message", "priority": 1},
    ]


def _condition(of: str) -> str:
    return f'.status.conditions[?(@.type=="{of}")]'


def _object_schema(kind: Kind) -> Schema:
    spec, status = (_written_out(structural_schema(part)) for part in (kind.spec, kind.status))
    return {
        "description": kind.summary,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": f"{GROUP}/{VERSION}", "type": "string"},
            "kind": {"description": kind.name, "type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": {**status, "default": pending_status()},
        },
    }


def _structural(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    node = _inlined(node, definitions)
    schema: Schema = {}
    for keyword, value in node.items():
        match keyword:
            case "properties":
                schema[keyword] = {
                    name: _structural(child, definitions) for name, child in value.items()
                }
            case "items":
                schema[keyword] = _structural(value, definitions)
            case "const":
                schema["enum"] = [value]
            case "patternProperties":
                # The pattern of the keys has no place in a structural schema.
                (values,) = value.values()
                schema["additionalProperties"] = _structural(values, definitions)
            case _ if keyword in _KEPT:
                schema[keyword] = value
            case _ if keyword in _DROPPED:
                pass
            case _:
                raise ValueError(f"a structural schema has no place for {keyword}: {value!r}")
    if (default := _default(node, schema)) is not None:
        schema["default"] = default
    return schema


def _inlined(node: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Put what a reference or an optional type stands for in its place; what is beside it wins."""
    node = dict(node)
    if options := node.pop("anyOf", None):
        (option,) = [option for option in options if option != {"type": "null"}]
        return {**_inlined(option, definitions), **node}
    if reference := node.pop("$ref", None):
        return {**definitions[reference.rpartition("/")[2]], **node}
    return node


def _default(node: Schema, schema: Schema) -> object:
    """Return the default that the API server fills in; None where it would say nothing.

    An object's is spelled out: the server checks it against the rules before it fills it in.
    """
    default = node.get("default")
    if default is not None and schema.get("type") == "object":
        fields = schema.get("properties", {})
        default = {name: field["default"] for name, field in fields.items() if "default" in field}
    return None if default in ([], {}) else default


def _written_out(schema: Schema) -> Schema:
    """Return the schema with its rules as Kubernetes writes them."""
    written: Schema = {}
    for keyword, value in schema.items():
        match keyword:
            case "properties":
                written[keyword] = {name: _written_out(child) for name, child in value.items()}
            case "items" | "additionalProperties":
                written[keyword] = _written_out(value)
            case _ if keyword == RULES:
                written[keyword] = [_validation(rule) for rule in value]
            case _:
                written[keyword] = value
    return written


def _validation(rule: CelRule) -> Schema:
    validation: Schema = {
        "rule": rule.rule,
        "message": f"{rule.plain_message}: {rule.fix}",
        "reason": rule.reason,
    }
    if rule.values:
        validation["messageExpression"] = rule.message_expression(ending=f": {rule.fix}")
    if rule.field:
        validation["fieldPath"] = rule.field
    return validation
