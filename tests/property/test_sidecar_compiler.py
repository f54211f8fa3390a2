"""What sidecars hold, in any world: their namespace's own, and the gateway's word on every name."""

from typing import Any, cast

from hypothesis import event, given, settings
from hypothesis import strategies as st

from fakes.policies import snapshot
from fakes.worlds import backend, keyring, policy, put, rule, world
from switchboard_dataplane.decision.match import find_policy
from switchboard_policy import ir
from switchboard_policy.codec import Encoded, decode
from switchboard_policy.compiler.compile import Compilation, Compiler
from switchboard_policy.compiler.sidecars import SidecarCompiler
from switchboard_policy.compiler.world import Gateway, Name, Secret, World
from switchboard_policy.names import namespace_scope

MINE, URL = "b", "http://gateway.test/v1"
NAMESPACES = ("a", MINE, "c")
GATEWAYS = (
    Gateway("default", "a", platform_namespace="a"),
    Gateway("default", "a", order=("c", MINE)),
    Gateway("default", "a", admit="Selector", selector={"team": "red"}),
)
PATTERNS = ("*", "g*", "gp*", "gpt", "gpt*", "gpt-4", "gpt-4*", "x")
ASKED = ("g", "gp", "gpt", "gpt-4", "gpt-4o", "gpto", "x", "y")
NAMES = ("p", "q", "r")
WHEN = ("", "request.tokens > 5", 'client.name == "n"', 'client.tier == "gold"')

names = st.builds(Name, st.sampled_from([*NAMESPACES, MINE]), st.sampled_from(NAMES))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A world in which every namespace has backends with keys, and policies over them."""
    made = world(namespaces={MINE: {"team": draw(st.sampled_from(["red", "blue"]))}})
    for namespace in NAMESPACES:
        for name in NAMES:
            spec: dict[str, Any] = {
                "credentials": {"apiKey": {"secretName": "keys"}},
                "allowedNamespaces": {"from": "All"},
                "locality": {"jurisdiction": draw(st.sampled_from(["eu", "us"]))},
            }
            put(made, backend(name, namespace, **spec))
        put(
            made,
            Secret(Name(namespace, "keys"), "u", "1", {"api-key": b"sk-" + namespace.encode()}),
        )
    put(made, policy("guard", "a", guardrails=[_guardrail("")]))
    for each in draw(st.lists(names, min_size=1)):
        put(made, draw(policies(each)))
    return made


def _guardrail(when: str) -> dict[str, str]:
    made = {"name": "g", "require": 'backend.jurisdiction == "eu"'}
    return made | ({"when": when} if when else {})


@st.composite
def policies(draw: st.DrawFn, name: Name) -> Any:
    """A policy, mostly over backends of its own namespace."""
    mostly = st.sampled_from([name.namespace] * 9 + ["c"])
    reference = st.builds("{}/{}".format, mostly, st.sampled_from([*NAMES, "gone"]))
    when = draw(st.sampled_from(WHEN))
    first = {"when": when} if when else {"match": {"apis": ["chat"]}}
    tiers = st.lists(
        st.lists(reference, min_size=1, max_size=2, unique=True), min_size=1, max_size=1
    )
    return policy(
        name.name,
        name.namespace,
        models=draw(st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3, unique=True)),
        priority=draw(st.integers(-1, 1)),
        rules=[rule("first", *draw(tiers), **first), rule("last", *draw(tiers))],
    )


def compilers(gateway: Gateway) -> tuple[Compiler, SidecarCompiler]:
    compiler = Compiler(gateway, keyring())
    ring = keyring(namespace_scope(MINE))
    return compiler, SidecarCompiler(compiler, MINE, ring, gateway_url=URL)


def compile_both(gateway: Gateway, made: World) -> tuple[Compilation, Compilation]:
    compiler, sidecars = compilers(gateway)
    return compiler.compile(made), sidecars.compile(made)


def answerers(compilation: Compilation) -> dict[str, str]:
    """Who answers for each name, as a data plane sees it."""
    entries = (each.entry for each in compilation.policy.values())
    running = snapshot(*(each for each in entries if isinstance(each, ir.Policy)))
    found = {asked: find_policy(running, asked) for asked in ASKED}
    return {asked: each.name if each is not None else "" for asked, each in found.items()}


@settings(max_examples=300)
@given(st.sampled_from(GATEWAYS), worlds())
def test_a_name_is_served_here_just_if_the_gateway_gives_it_to_a_policy_that_is_here(
    gateway: Gateway, made: World
) -> None:
    there, here = compile_both(gateway, made)
    local = {
        each.entry.name
        for key, each in here.policy.items()
        if isinstance(each.entry, ir.Policy) and not key.startswith("policy/switchboard/")
    }
    in_gateway, in_sidecar = answerers(there), answerers(here)
    for asked in ASKED:
        if in_gateway[asked] in local:
            event("served here")
            assert in_sidecar[asked] == in_gateway[asked]
        else:
            assert in_sidecar[asked].startswith("switchboard/")


@settings(max_examples=300)
@given(st.sampled_from(GATEWAYS), worlds())
def test_nothing_of_another_namespace_is_ever_in_a_sidecar(gateway: Gateway, made: World) -> None:
    there, here = compile_both(gateway, made)
    ring = keyring(namespace_scope(MINE))
    for key, encoded in here.policy.items():
        entry = encoded.entry
        assert decode(encoded.body, digest=encoded.digest) == entry
        if key.split("/")[1] == "switchboard":
            assert _goes_to_the_gateway(entry)
            continue
        assert key.split("/")[1] == MINE
        assert not isinstance(entry, ir.Client)
        if isinstance(entry, ir.Credential):
            backend_entry = cast("ir.Backend", here.policy[f"backend/{entry.backend}"].entry)
            origin = f"https://{entry.backend.split('/')[1]}.test"
            opened = ring.unseal(entry.key_id, entry.sealed, backend_entry.uid, origin)
            assert opened == b"sk-" + MINE.encode()
        elif isinstance(entry, ir.Policy):
            _assert_it_is_the_gateways(entry, cast("ir.Policy", there.policy[key].entry))
            event("a policy")
    assert all(key.split("/")[1] == MINE for key in here.endpoints)


def _goes_to_the_gateway(entry: ir.Entry) -> bool:
    if isinstance(entry, ir.Backend):
        return (entry.provider, entry.url, entry.credential) == ("switchboard", URL, "")
    assert isinstance(entry, ir.Policy)
    members = {each.backend for one in entry.rules for tier in one.tiers for each in tier.members}
    return members == {"switchboard/gateway"}


def _assert_it_is_the_gateways(here: ir.Policy, there: ir.Policy) -> None:
    assert (here.rules, here.guardrails) == (there.rules, there.guardrails)
    assert (here.namespace_rank, here.priority) == (there.namespace_rank, there.priority)
    assert set(here.models) <= set(there.models)
    assert here.models
    for each in here.rules:
        assert "client.tier" not in each.when
        for member in (member for tier in each.tiers for member in tier.members):
            assert member.backend.startswith(f"{MINE}/")


@settings(max_examples=150)
@given(st.sampled_from(GATEWAYS), st.lists(worlds(), min_size=1, max_size=4))
def test_an_incremental_pass_finds_what_a_full_one_finds(
    gateway: Gateway, passes: list[World]
) -> None:
    compiler, sidecars = compilers(gateway)
    before = Compilation({}, {}, {})
    for made in passes:
        compiler.compile(made)
        after = sidecars.compile(made)
        assert after == compile_both(gateway, made)[1]
        assert sidecars.compile(made) is after
        _assert_unchanged_entries_are_the_same(before.policy, after.policy)
        before = after


def _assert_unchanged_entries_are_the_same(before: Any, after: Any) -> None:
    for key in before.keys() & after.keys():
        one, other = cast("Encoded", before[key]), cast("Encoded", after[key])
        assert (one.digest == other.digest) == (one is other)
