"""Compiled entries and running snapshots for tests, in a line or two each."""

from collections.abc import Iterable, Mapping
from typing import Any

from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Snapshot
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_policy import ir
from switchboard_policy.names import backend_key, client_key, endpoints_key, policy_key
from switchboard_policy.seal import Keyring, read_keyring, write_key_file

SCOPE = "gw/test"
KEY = b"k" * 32


def keyring(scope: str = SCOPE) -> Keyring:
    return read_keyring(scope, write_key_file("k1", {"k1": KEY}))


def backend(name: str, **fields: Any) -> ir.Backend:
    """An external backend ``ai/NAME`` unless the fields say otherwise."""
    said: dict[str, Any] = {
        "name": f"ai/{name}",
        "uid": f"uid-{name}",
        "model": f"upstream-{name}",
        "provider": "openai-compatible",
        "external": True,
        "url": f"http://{name}.example:8000/v1",
    }
    return ir.Backend(**(said | fields))


def service(name: str, **fields: Any) -> ir.Backend:
    return backend(name, external=False, url=f"http://{name}.ai.svc:8000/v1", **fields)


def endpoints(name: str, *addresses: str | tuple[str, str]) -> ir.Endpoints:
    """The endpoints of ``ai/NAME``: addresses, or (address, zone)."""
    return ir.Endpoints(
        backend=f"ai/{name}",
        addresses=tuple(
            ir.Endpoint(address=one) if isinstance(one, str) else ir.Endpoint(*one)
            for one in addresses
        ),
    )


def tier(name: str, *members: str | tuple[str, int], **fields: Any) -> ir.Tier:
    return ir.Tier(
        name=name,
        members=tuple(
            ir.Member(f"ai/{one}") if isinstance(one, str) else ir.Member(f"ai/{one[0]}", one[1])
            for one in members
        ),
        **fields,
    )


def rule(name: str, *tiers: ir.Tier, **fields: Any) -> ir.Rule:
    return ir.Rule(name=name, tiers=tiers, **fields)


def policy(
    name: str, *rules: ir.Rule, models: tuple[str, ...] = ("chat",), **fields: Any
) -> ir.Policy:
    return ir.Policy(name=f"ai/{name}", models=models, rules=rules, **fields)


def client(
    name: str, key: str, *, ring: Keyring | None = None, key_id: str = "k1", **fields: Any
) -> ir.Client:
    """A client ``apps/NAME`` with that key."""
    digest = (ring or keyring()).hash_key(key_id, key.encode())
    return ir.Client(name=f"apps/{name}", key_id=key_id, digest=digest, **fields)


def key_of(entry: ir.Entry) -> str:
    match entry:
        case ir.Policy():
            return policy_key(*entry.name.split("/"))
        case ir.Backend():
            return backend_key(*entry.name.split("/"))
        case ir.Endpoints():
            return endpoints_key(*entry.backend.split("/"))
        case ir.Credential():
            return "credential/" + entry.backend
        case ir.Client():
            return client_key(*entry.name.split("/"))


def keyed(entries: Iterable[ir.Entry]) -> Mapping[str, ir.Entry]:
    return {key_of(entry): entry for entry in entries}


def snapshot(*entries: ir.Entry, zone: str = "", live_pods: int = 1) -> Snapshot:
    builder = SnapshotBuilder(keyring(), zone=zone, has_router=lambda _: True)
    built, refused = builder.apply(keyed(entries), (), revision="1-1", live_pods=live_pods)
    assert not refused
    return built


def view(text: str = "hello", **fields: Any) -> RequestView:
    payload = fields.pop("payload", {"messages": [{"role": "user", "content": text}]})
    said = {"api": "chat", "model": "chat", "payload": payload, "headers": {}}
    made = RequestView(**{name: fields.pop(name, value) for name, value in said.items()})
    for name, value in fields.items():
        assert hasattr(made, name), f"a request has no {name}"
        setattr(made, name, value)
    return made
