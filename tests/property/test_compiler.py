"""The compiler over any sequence of edits: incremental is full, and errors stay where they are."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.worlds import backend, keyring, policy, put, rule, service_slice, world
from switchboard_policy.codec import Encoded, decode
from switchboard_policy.compiler.compile import Compilation, Compiler
from switchboard_policy.compiler.world import (
    CustomResource,
    Gateway,
    Name,
    Secret,
    Service,
    World,
)
from switchboard_policy.ir import Client
from switchboard_policy.v1alpha1.parse import Problem

NAMESPACES = ("ai", "ml", "platform")
NAMES = ("a", "b", "c")
MODELS = ("*", "m*", "m-1*", "m-1", "m-2", "n")
GATEWAYS = (
    Gateway("default", "ai", order=("ml",), platform_namespace="platform"),
    Gateway("default", "ai", admit="Same", platform_namespace="platform", clients_from="All"),
    Gateway(
        "default",
        "ai",
        admit="Selector",
        selector={"team": "red"},
        clients_from="Selector",
        clients_selector={"team": "red"},
    ),
)
PROBLEM = Problem("spec", "it is wrong", "", "make it right")

Edit = Callable[[World], None]

names = st.builds(Name, st.sampled_from(NAMESPACES), st.sampled_from(NAMES))
generations = st.integers(1, 3)
labels = st.fixed_dictionaries({}, optional={"team": st.sampled_from(["red", "blue"])})


@st.composite
def backends(draw: st.DrawFn) -> Edit:
    name = draw(names)
    spec: dict[str, Any] = {"labels": draw(labels)}
    if draw(st.booleans()):
        spec["service"] = {
            "name": draw(st.sampled_from(NAMES)),
            "port": draw(st.sampled_from(["http", 80])),
        }
    if draw(st.booleans()):
        spec["credentials"] = {"apiKey": {"secretName": draw(st.sampled_from(NAMES))}}
    if draw(st.booleans()):
        spec["capabilities"] = {"apis": [draw(st.sampled_from(["chat", "embeddings"]))]}
    allowed = draw(st.sampled_from(["Same", "All", "Selector"]))
    spec["allowedNamespaces"] = {"from": allowed}
    if allowed == "Selector":
        spec["allowedNamespaces"]["selector"] = {"matchLabels": {"team": "red"}}
    spec["locality"] = {"jurisdiction": draw(st.sampled_from(["eu", "us"]))}
    made = backend(name.name, name.namespace, generation=draw(generations), **spec)
    return _placing(draw(_perhaps_invalid(made)))


@st.composite
def guardrails(draw: st.DrawFn) -> list[dict[str, str]]:
    conditions = ["request.tokens > 5", '"x" in request.tags']
    requirements = [
        'backend.jurisdiction == "eu"',
        'backend.labels["team"] == "red"',
        "!backend.external",
    ]
    made = {"name": "g", "require": draw(st.sampled_from(requirements))}
    if draw(st.booleans()):
        made["when"] = draw(st.sampled_from(conditions))
    return [made] if draw(st.booleans()) else []


@st.composite
def policies(draw: st.DrawFn) -> Edit:
    name = draw(names)
    spec: dict[str, Any] = {"guardrails": draw(guardrails())}
    if draw(st.integers(0, 3)):
        references = st.builds(str, names)
        tiers = st.lists(st.lists(references, min_size=1, max_size=2), min_size=1, max_size=2)
        spec["models"] = draw(st.lists(st.sampled_from(MODELS), min_size=1, unique=True))
        spec["priority"] = draw(st.integers(0, 1))
        spec["rules"] = [
            rule("first", *draw(tiers), match={"apis": ["chat"]}),
            rule("last", *draw(tiers)),
        ]
    made = policy(name.name, name.namespace, generation=draw(generations), **spec)
    return _placing(draw(_perhaps_invalid(made)))


def _perhaps_invalid(made: CustomResource[Any]) -> st.SearchStrategy[CustomResource[Any]]:
    bad = replace(made, spec=None, problems=(PROBLEM,))
    return st.sampled_from([made, made, made, replace(bad, last_good=made.spec)])


def _placing(each: object) -> Edit:
    return lambda made: put(made, each)


@st.composite
def surroundings(draw: st.DrawFn) -> Edit:
    name = draw(names)
    match draw(st.sampled_from(["service", "slice", "secret"])):
        case "service":
            return _placing(Service(name, draw(st.sampled_from([{"http": 80}, {"": 80}, {}]))))
        case "slice":
            addresses = draw(st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"])))
            return _placing(service_slice(name.name, *addresses, namespace=name.namespace))
        case _:
            value = draw(st.sampled_from([b"sk-1\n", b"sk-2", b"", b"\xff"]))
            key = draw(st.sampled_from(["api-key", "other"]))
            return _placing(Secret(name, "u", "1", {key: value}))


@st.composite
def clients(draw: st.DrawFn) -> Edit:
    name, created = draw(names), draw(st.sampled_from(["1", "2"]))
    key = draw(st.sampled_from([b"sk-sb-0123456789-1", b"sk-sb-0123456789-2", b"short"]))
    made = Secret(
        name, "u", "1", {"api-key": key, "tier": draw(st.sampled_from([b"a", b"b"]))}, created
    )

    def place(world: World) -> None:
        known: Any = world.clients
        known[name] = made

    return place


@st.composite
def labellings(draw: st.DrawFn) -> Edit:
    namespace, said = draw(st.sampled_from(NAMESPACES)), draw(st.none() | labels)
    return lambda made: _label(made, namespace, said)


def _label(made: World, namespace: str, said: Mapping[str, str] | None) -> None:
    namespaces: Any = made.namespaces
    if said is None:
        namespaces.pop(namespace, None)
    else:
        namespaces[namespace] = said


@st.composite
def deletions(draw: st.DrawFn) -> Edit:
    kind = draw(
        st.sampled_from(["backends", "policies", "services", "slices", "secrets", "clients"])
    )
    name = draw(names)
    return lambda made: getattr(made, kind).pop(name, None)


edits = st.one_of(backends(), policies(), surroundings(), clients(), labellings(), deletions())
beginnings = st.lists(st.one_of(backends(), policies(), labellings()), min_size=4, max_size=10)


@settings(max_examples=200)
@given(
    st.sampled_from(GATEWAYS),
    st.builds(
        lambda first, rest: [first, *rest],
        beginnings,
        st.lists(st.lists(edits, max_size=3), max_size=8),
    ),
)
def test_an_incremental_pass_finds_what_a_full_one_finds(
    gateway: Gateway, passes: list[list[Edit]]
) -> None:
    compiler, made, before = Compiler(gateway, keyring()), world(), Compilation({}, {}, {})
    for changes in passes:
        for change in changes:
            change(made)
        after = compiler.compile(made)
        assert after == Compiler(gateway, keyring()).compile(made)
        _assert_unchanged_entries_are_the_same_objects(before.policy, after.policy)
        _assert_unchanged_entries_are_the_same_objects(before.endpoints, after.endpoints)
        assert compiler.compile(made) is after
        before = after


def _assert_unchanged_entries_are_the_same_objects(
    before: Mapping[str, Encoded], after: Mapping[str, Encoded]
) -> None:
    for key in before.keys() & after.keys():
        assert (before[key].digest == after[key].digest) == (before[key] is after[key])


@settings(max_examples=100)
@given(st.sampled_from(GATEWAYS), st.lists(edits, max_size=16))
def test_what_is_published_holds_together(gateway: Gateway, changes: list[Edit]) -> None:
    made = world()
    for change in changes:
        change(made)
    found = Compiler(gateway, keyring()).compile(made)
    assert {name for _, name in found.reports} == {*made.backends, *made.policies}
    for encoded in [*found.policy.values(), *found.endpoints.values()]:
        assert decode(encoded.body, digest=encoded.digest) == encoded.entry
    for report in found.reports.values():
        assert all(key in found.policy for key in report.keys)
    digests = [
        each.entry.digest for each in found.policy.values() if isinstance(each.entry, Client)
    ]
    assert len(set(digests)) == len(digests) == found.clients
    assert len(digests) + len(found.refused_clients) == len(made.clients)
    for encoded in found.policy.values():
        for each in getattr(encoded.entry, "rules", ()):
            named = {member.backend for tier in each.tiers for member in tier.members}
            assert {f"backend/{name}" for name in named} <= found.policy.keys()


@settings(max_examples=100)
@given(
    st.sampled_from(GATEWAYS),
    st.lists(edits, max_size=16),
    st.lists(st.sampled_from(NAMESPACES), min_size=1, max_size=3, unique=True),
)
def test_an_invalid_object_never_changes_others(
    gateway: Gateway, changes: list[Edit], namespaces: list[str]
) -> None:
    made = world()
    for change in changes:
        change(made)
    without = Compiler(gateway, keyring()).compile(made)
    bad = {Name(namespace, "bad") for namespace in namespaces}
    for name in bad:
        resource: CustomResource[Any] = CustomResource(name, "u", 1, None, (PROBLEM,))
        places: Any = made
        places.policies[name] = resource
        places.backends[name] = resource
    found = Compiler(gateway, keyring()).compile(made)
    assert (found.policy, found.endpoints) == (without.policy, without.endpoints)
    others = {key: report for key, report in found.reports.items() if key[1] not in bad}
    assert others == without.reports
    assert all(found.reports[kind, name].rejected for kind, name in found.reports if name in bad)
