"""Things that have another name and are the same: found, and taken by their new name before."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from typing import Any, TypeVar, cast

import msgspec

from switchboard_cli.review.changes import Change
from switchboard_cli.review.sides import Side
from switchboard_policy import ir

Entry = TypeVar("Entry", ir.Policy, ir.Backend)
Named = TypeVar("Named", ir.Rule, ir.Tier, ir.Arm)


def renamed_objects(old: Side, new: Side) -> tuple[Side, list[Change]]:
    """Return the old set with the names of the new one, and what was renamed."""
    backends = _pairs(old.backends, new.backends, new.backend_specs.keys())
    taken = _with_names(old, backends)
    policies = _pairs(taken.policies, new.policies, new.policy_specs.keys())
    taken = _with_names(taken, policies)
    changes = [*_told("backend", backends), *_told("policy", policies)]
    return taken, changes


def renamed_parts(old: tuple[Named, ...], new: tuple[Named, ...]) -> dict[str, str]:
    """Return the new names, by the old ones, of parts that are the same but for their name."""
    here = {one.name for one in new}
    there = {one.name for one in old}
    added = {_nameless(one): one.name for one in new if one.name not in there}
    found: dict[str, str] = {}
    for one in old:
        name = added.get(_nameless(one)) if one.name not in here else None
        if name is not None and name not in found.values():
            found[one.name] = name
    return found


def _nameless(part: ir.Rule | ir.Tier | ir.Arm) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(part, name=""))


def _pairs(old: Mapping[str, Entry], new: Mapping[str, Entry], there: Set[str]) -> dict[str, str]:
    """Return the new names of entries that are gone, by the old ones, where one came for each.

    What is still ``there``, and only used no more, was not renamed; nor what is another
    namespace's now, and so in other hands.
    """
    came: dict[tuple[str, bytes], list[str]] = {}
    for name in new.keys() - old.keys():
        came.setdefault((_namespace(name), _body(new[name])), []).append(name)
    pairs: dict[str, str] = {}
    for name in sorted(old.keys() - new.keys() - there):
        same = came.get((_namespace(name), _body(old[name])), [])
        if len(same) == 1:
            pairs[name] = same.pop()
    return pairs


def _namespace(name: str) -> str:
    return name.partition("/")[0]


def _body(entry: ir.Policy | ir.Backend) -> bytes:
    if isinstance(entry, ir.Backend):
        secret = "a Secret" if entry.credential else ""
        bare = msgspec.structs.replace(entry, name="", uid="", credential=secret)
        return msgspec.json.encode(bare)
    policy = msgspec.structs.replace(entry, rules=tuple(map(_bare, entry.rules)))
    return msgspec.json.encode(_put(msgspec.to_builtins(policy), {entry.name: ""}))


def _bare(rule: ir.Rule) -> ir.Rule:
    """Return a rule without its own name and those of its tiers."""
    tiers = tuple(msgspec.structs.replace(tier, name="") for tier in rule.tiers)
    return msgspec.structs.replace(rule, name="", tiers=tiers)


def _with_names(side: Side, names: Mapping[str, str]) -> Side:
    if not names:
        return side
    policies = {
        names.get(name, name): msgspec.convert(_put(msgspec.to_builtins(one), names), ir.Policy)
        for name, one in side.policies.items()
    }
    backends = {
        names.get(name, name): msgspec.structs.replace(one, name=names.get(name, name))
        for name, one in side.backends.items()
    }
    endpoints = {
        names.get(name, name): msgspec.structs.replace(one, backend=names.get(name, name))
        for name, one in side.endpoints.items()
    }
    return replace(
        side,
        policies=policies,
        backends=backends,
        endpoints=endpoints,
        policy_specs={names.get(name, name): one for name, one in side.policy_specs.items()},
        backend_specs={names.get(name, name): one for name, one in side.backend_specs.items()},
        known={names.get(name, name): one for name, one in side.known.items()},
    )


def _put(value: Any, names: Mapping[str, str]) -> Any:
    """Put names in the place of others, wherever objects are named: not in public model names."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, dict):
        said = cast("dict[str, Any]", value)
        return {key: one if key == "models" else _put(one, names) for key, one in said.items()}
    if isinstance(value, list | tuple):
        return [_put(one, names) for one in cast("list[Any]", value)]
    return value


def _told(noun: str, pairs: Mapping[str, str]) -> Iterator[Change]:
    for old, new in pairs.items():
        yield Change(
            severity="renamed",
            kind=f"{noun} renamed",
            text=f"{noun} {old} is called {new} now, and is otherwise the same",
            policy=new if noun == "policy" else "",
            backend=new if noun == "backend" else "",
        )
