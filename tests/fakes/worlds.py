"""Worlds for the compiler: from manifests as people write them, and from few words."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import yaml

from switchboard_policy.compiler.world import (
    BackendObject,
    CustomResource,
    EndpointSlice,
    Gateway,
    Name,
    PolicyObject,
    Secret,
    Service,
    SliceEndpoint,
    World,
)
from switchboard_policy.names import CLIENT_LABEL
from switchboard_policy.seal import Keyring, read_keyring, write_key_file
from switchboard_policy.v1alpha1.modelbackend import ModelBackendSpec
from switchboard_policy.v1alpha1.parse import Parser
from switchboard_policy.v1alpha1.routingpolicy import RoutingPolicySpec

Raw = Mapping[str, Any]

GATEWAY = Gateway(name="default", namespace="switchboard")


def keyring(scope: str = "gw/default") -> Keyring:
    """A keyring that is the same in every run."""
    return read_keyring(scope, write_key_file("k1", {"k1": bytes(range(32))}))


@cache
def parser() -> Parser:
    return Parser()


def backend(name: str, namespace: str = "ai", *, generation: int = 1, **spec: Any) -> BackendObject:
    """A backend of a spec as in YAML; an external one if nothing else is said."""
    labels = spec.pop("labels", {})
    if "service" not in spec and "external" not in spec:
        spec["external"] = {"provider": "openai-compatible", "url": f"https://{name}.test/v1"}
    return CustomResource(
        name=Name(namespace, name),
        uid=f"uid-{namespace}-{name}",
        generation=generation,
        spec=ModelBackendSpec.model_validate({"model": name, **spec}),
        labels=labels,
    )


def policy(name: str, namespace: str = "ai", *, generation: int = 1, **spec: Any) -> PolicyObject:
    """A policy of a spec as in YAML."""
    return CustomResource(
        name=Name(namespace, name),
        uid=f"uid-{namespace}-{name}",
        generation=generation,
        spec=RoutingPolicySpec.model_validate(spec),
    )


def route(*tiers: Iterable[str]) -> dict[str, Any]:
    """A route of tiers (``t0``, ``t1``…) of backends: ``name`` or ``namespace/name``."""
    return {
        "tiers": [
            {"name": f"t{number}", "backends": [_reference(each) for each in tier]}
            for number, tier in enumerate(tiers)
        ]
    }


def rule(name: str, *tiers: Iterable[str], **conditions: Any) -> dict[str, Any]:
    return {"name": name, "route": route(*tiers), **conditions}


def _reference(text: str) -> dict[str, str]:
    namespace, _, name = text.rpartition("/")
    return {"namespace": namespace, "name": name}


def service_slice(
    service: str, *addresses: str, namespace: str = "ai", port: int = 8000, **endpoint: Any
) -> EndpointSlice:
    """A slice of a Service with one port, named ``http``."""
    return EndpointSlice(
        name=Name(namespace, f"{service}-slice"),
        service=service,
        ports={"http": port},
        endpoints=tuple(SliceEndpoint(addresses=(each,), **endpoint) for each in addresses),
    )


def world(*objects: object, namespaces: Mapping[str, Mapping[str, str]] | None = None) -> World:
    """A world of objects; the namespaces are those that are given (and not those in use)."""
    made = World({}, {}, {}, {}, {}, dict(namespaces or {}))
    for each in objects:
        put(made, each)
    return made


def put(made: World, each: object) -> None:
    """Put an object into a world, in the place of the one of its name."""
    places: Any = made
    match each:
        case CustomResource(name=name) if _is_policy(each):
            places.policies[name] = each
        case CustomResource(name=name):
            places.backends[name] = each
        case Service(name=name):
            places.services[name] = each
        case EndpointSlice(name=name, service=service):
            places.slices.setdefault(Name(name.namespace, service), {})[name.name] = each
        case Secret(name=name):
            places.secrets[name] = each
        case _:
            raise TypeError(f"{each!r} has no place in a world")


def _is_policy(each: CustomResource[Any]) -> bool:
    return isinstance(each.spec or each.last_good, RoutingPolicySpec)


def read_world(text: str) -> tuple[Gateway, World]:
    """Read manifests: ``kind: Gateway`` holds the gateway, ``lastGood`` an earlier valid spec."""
    gateway, made = GATEWAY, world()
    for raw in yaml.safe_load_all(text):
        metadata = raw.get("metadata", {})
        name = Name(metadata.get("namespace", "ai"), metadata["name"])
        places: Any = made
        match raw["kind"]:
            case "Gateway":
                said = dict(raw["spec"])
                said["order"] = tuple(said.get("order", ()))
                gateway = Gateway(name=name.name, **said)
            case "Namespace":
                places.namespaces[name.name] = metadata.get("labels", {})
            case "ModelBackend":
                places.backends[name] = _custom_resource(name, raw, parser().parse_backend)
            case "RoutingPolicy":
                places.policies[name] = _custom_resource(name, raw, parser().parse_policy)
            case "Service":
                ports = {port.get("name", ""): port["port"] for port in raw["spec"]["ports"]}
                put(made, Service(name, ports))
            case "EndpointSlice":
                put(made, _slice(name, raw))
            case "Secret":
                data = {key: value.encode() for key, value in raw["stringData"].items()}
                created = metadata.get("creationTimestamp", "")
                is_client = CLIENT_LABEL in metadata.get("labels", {})
                secret = Secret(name, f"uid-{name}", "1", data, created, is_client)
                put(made, secret)
                if is_client:
                    places.clients[name] = secret
            case kind:
                raise ValueError(f"a world has no {kind}")
    return gateway, made


def _custom_resource(name: Name, raw: Raw, parse: Any) -> CustomResource[Any]:
    parsed = parse({"spec": raw["spec"]})
    last_good = parse({"spec": raw["lastGood"]}).spec if "lastGood" in raw else None
    return CustomResource(
        name=name,
        uid=f"uid-{name}",
        generation=raw["metadata"].get("generation", 1),
        spec=parsed.spec,
        problems=parsed.problems,
        last_good=last_good if parsed.spec is None else None,
        labels=raw["metadata"].get("labels", {}),
    )


def _slice(name: Name, raw: Raw) -> EndpointSlice:
    return EndpointSlice(
        name=name,
        service=raw["metadata"]["labels"]["kubernetes.io/service-name"],
        ports={port.get("name", ""): port["port"] for port in raw["ports"]},
        endpoints=tuple(
            SliceEndpoint(
                addresses=tuple(each["addresses"]),
                zone=each.get("zone", ""),
                **each.get("conditions", {}),
            )
            for each in raw["endpoints"]
        ),
    )
