"""Custom resources and what they refer to, as manifests, in a line each; no namespace is named."""

import base64
from collections.abc import Mapping
from typing import Any

API_VERSION = "switchboard.dev/v1alpha1"


def external(name: str, port: int, **fields: Any) -> dict[str, Any]:
    """A backend at a port of this machine."""
    url = f"http://127.0.0.1:{port}/v1"
    target = {"external": {"provider": "openai-compatible", "url": url}}
    return _backend(name, **target, **fields)


def served(name: str, service_name: str, *, scheme: str = "http", **fields: Any) -> dict[str, Any]:
    """A backend behind the Service's port ``http``."""
    target = {"name": service_name, "port": "http", "scheme": scheme}
    return _backend(name, service=target, **fields)


def _backend(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelBackend",
        "metadata": {"name": name},
        "spec": {"model": f"{name}-model", **spec},
    }


def reference(name: str, namespace: str) -> dict[str, str]:
    return {"name": name, "namespace": namespace}


def policy(
    name: str, *backends: str | Mapping[str, str], rule: str = "default", when: str = ""
) -> dict[str, Any]:
    """A policy for the model of its name: one rule, one tier; with ``when`` a rule before it."""
    refs = [{"name": one} if isinstance(one, str) else one for one in backends]
    route = {"tiers": [{"name": "only", "backends": refs}]}
    rules: list[dict[str, Any]] = [{"name": rule, "route": route}]
    if when:
        rules.insert(0, {"name": "conditional", "when": when, "route": route})
    return {
        "apiVersion": API_VERSION,
        "kind": "RoutingPolicy",
        "metadata": {"name": name},
        "spec": {"models": [name], "rules": rules},
    }


def failover_policy(name: str, *backends: str) -> dict[str, Any]:
    """A policy for the model of its name, each backend in a tier of its own."""
    made = policy(name)
    tiers = [{"name": one, "backends": [{"name": one}]} for one in backends]
    made["spec"]["rules"][0]["route"]["tiers"] = tiers
    return made


def guardrail_policy(name: str, *, require: str) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "RoutingPolicy",
        "metadata": {"name": name},
        "spec": {"guardrails": [{"name": name, "require": require}]},
    }


def secret(name: str, api_key: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {"switchboard.dev/secret": "true"}},
        "data": {"api-key": base64.b64encode(api_key.encode()).decode()},
    }


def client_secret(
    name: str,
    api_key: str,
    *,
    namespace: str = "system",
    created: str = "2026-01-01T00:00:00Z",
    **said: str,
) -> dict[str, Any]:
    """A Secret that makes a client; ``said`` is the rest of its data."""
    plain = {"api-key": api_key, **said}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"switchboard.dev/secret": "true", "switchboard.dev/client": "true"},
            "creationTimestamp": created,
        },
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in plain.items()},
    }


def service(name: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"name": "http", "port": port}]},
    }


def endpoint_slice(name: str, of: str, port: int, *addresses: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}],
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": True}} for address in addresses
        ],
    }
