"""Client Secrets: what they may say, whose key counts, and that only its keyed hash goes on."""

from dataclasses import replace
from typing import Any

import pytest

from fakes.worlds import backend, keyring, policy, rule, world
from switchboard_policy import ir
from switchboard_policy.compiler.clients import (
    DUPLICATE,
    FIELDS,
    INVALID,
    NOT_ADMITTED,
    ClientSpec,
    read_client,
)
from switchboard_policy.compiler.compile import Compilation, Compiler
from switchboard_policy.compiler.world import Gateway, Name, Secret, World
from switchboard_policy.seal import KEY_BYTES, read_keyring, write_key_file

GATEWAY = Gateway("default", "switchboard")
KEY = "sk-sb-0123456789"
CART = Name("switchboard", "cart")


def client(
    name: str = "cart",
    key: str = KEY,
    *,
    namespace: str = "switchboard",
    created: str = "",
    **said: str,
) -> Secret:
    data = {"api-key": key.encode(), **{field: text.encode() for field, text in said.items()}}
    return Secret(Name(namespace, name), f"uid-{name}", "1", data, created, is_client=True)


def world_of(*clients: Secret, namespaces: Any = None) -> World:
    made = world(
        backend("a"),
        policy("chat", models=["chat"], rules=[rule("default", ["a"])]),
        namespaces=namespaces,
    )
    return replace(made, clients={each.name: each for each in clients})


def compiled(*clients: Secret, gateway: Gateway = GATEWAY, namespaces: Any = None) -> Compilation:
    return Compiler(gateway, keyring()).compile(world_of(*clients, namespaces=namespaces))


def entry(found: Compilation, name: str = "switchboard/cart") -> ir.Client:
    made = found.policy[f"client/{name}"].entry
    assert isinstance(made, ir.Client)
    return made


def test_a_client_is_its_secret_without_the_key() -> None:
    said = {
        "tier": "gold",
        "team": "shop\n",
        "labels": "b=2, a=1",
        "models": "chat,gpt-4o*",
        "expires": "2027-01-31T01:00:00+01:00",
    }
    found = compiled(client(**said))
    assert entry(found) == ir.Client(
        name="switchboard/cart",
        key_id="k1",
        digest=keyring().hash_key("k1", KEY.encode()),
        tier="gold",
        team="shop",
        labels=(("a", "1"), ("b", "2")),
        models=("chat", "gpt-4o*"),
        expires_ms=1_801_353_600_000,
    )
    assert found.clients == 1
    assert KEY.encode() not in found.policy["client/switchboard/cart"].body


def test_a_key_from_a_file_that_ends_in_a_newline_is_the_key() -> None:
    assert entry(compiled(client(key=f"{KEY}\r\n"))) == entry(compiled(client()))


@pytest.mark.parametrize(
    ("said", "expires_ms"),
    [
        ("1970-01-01T00:00:01Z", 1_000),
        ("1970-01-01t00:00:01.5z", 1_500),
        ("1970-01-01T00:00:00.123456789Z", 123),
        ("1970-01-01T00:00:00-01:00", 3_600_000),
    ],
)
def test_a_time_is_one_of_rfc_3339(said: str, expires_ms: int) -> None:
    assert entry(compiled(client(expires=said))).expires_ms == expires_ms


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "data.api-key: is missing"),
        ({"api-key": "s" * 15}, "data.api-key: is not of 16 to 512"),
        ({"api-key": "s" * 513}, "data.api-key: is not of 16 to 512"),
        ({"api-key": "sk-secret with-spaces"}, "data.api-key: is not of"),
        ({"api-key": "sk-secret-\u00fcmlaut-here"}, "data.api-key: is not of"),
        ({"api-key": "eyJhbGciOi.eyJhdWQiOi.c2VjcmV0"}, "data.api-key: has the form of a Service"),
        ({"tier": "very gold"}, "data.tier: is not well-formed"),
        ({"team": "-"}, "data.team: is not well-formed"),
        ({"team": "x" * 64}, "data.team: is not well-formed"),
        ({"team": "\u00fc"}, "data.team: is not ASCII"),
        ({"labels": "a"}, "data.labels: label 1 is not well-formed"),
        ({"labels": "a=b,=c"}, "data.labels: label 2 is not well-formed"),
        ({"labels": "a=b,a=c"}, "data.labels: label 2 is there twice"),
        ({"labels": ",".join(f"l{n}=1" for n in range(65))}, "data.labels: has 65 labels"),
        ({"models": "chat,,gpt"}, "data.models: name 2 is not well-formed"),
        ({"models": "a*b"}, "data.models: name 1 is not well-formed"),
        ({"models": "x" * 129}, "data.models: name 1 is not well-formed"),
        ({"models": ",".join(f"m{n}" for n in range(257))}, "data.models: has 257 names"),
        ({"expires": "tomorrow"}, "data.expires: is no time"),
        ({"expires": "2027-01-31"}, "data.expires: is no time"),
        ({"expires": "2027-01-31T00:00:00"}, "data.expires: is no time"),
        ({"expires": "2027-02-31T00:00:00Z"}, "data.expires: is no time"),
        ({"model": "chat"}, "data: has a key that no client has"),
        ({"models": " \n"}, "data.models: is empty"),
        ({"expires": ""}, "data.expires: is empty"),
    ],
)
def test_a_wrong_secret_makes_no_client_and_says_which_field(
    data: dict[str, str], field: str
) -> None:
    whole = data if not data or "api-key" in data else {"api-key": KEY, **data}
    spec, problems = read_client({name: text.encode() for name, text in whole.items()})
    assert spec is None
    (problem,) = problems
    assert str(problem).startswith(field)
    assert problem.fix
    assert whole.get("api-key", KEY) not in str(problem)


def test_the_name_of_an_unknown_key_is_not_told_as_it_may_be_an_api_key() -> None:
    _, problems = read_client({KEY: b"api-key"})
    assert problems
    assert not [each for each in problems if KEY in str(each)]


def test_all_that_is_wrong_is_told_at_once() -> None:
    _, problems = read_client({"api-key": b"short", "expires": b"soon", "labels": b"x,y"})
    assert [each.field for each in problems] == [
        "data.api-key",
        "data.labels",
        "data.labels",
        "data.expires",
    ]
    assert set(FIELDS) >= {each.field.removeprefix("data.") for each in problems}


def test_a_wrong_secret_is_refused_alone() -> None:
    found = compiled(client(), client("shop", "short"))
    assert found.policy.keys() > {"client/switchboard/cart", "policy/ai/chat"}
    assert found.clients == 1
    (refusal,) = found.refused_clients.values()
    assert (refusal.uid, refusal.reason) == ("uid-shop", INVALID)


def test_of_two_secrets_with_one_key_the_older_is_the_client() -> None:
    old, new = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"
    found = compiled(client("a", created=new), client("b", created=old))
    assert "client/switchboard/a" not in found.policy
    assert entry(found, "switchboard/b").name == "switchboard/b"
    refusal = found.refused_clients[Name("switchboard", "a")]
    assert refusal.reason == DUPLICATE
    assert "switchboard/b" in refusal.message


def test_of_two_as_old_as_each_other_the_first_by_name_is() -> None:
    found = compiled(client("b"), client("a"))
    assert found.refused_clients.keys() == {Name("switchboard", "b")}


def test_the_next_takes_the_key_over_when_the_first_goes() -> None:
    subject, made = Compiler(GATEWAY, keyring()), world_of(client("a"), client("b"))
    subject.compile(made)
    clients: Any = made.clients
    del clients[Name("switchboard", "a")]
    found = subject.compile(made)
    assert found.policy.keys() & {"client/switchboard/a", "client/switchboard/b"} == {
        "client/switchboard/b"
    }
    assert not found.refused_clients


def test_a_wrong_secret_takes_no_key_from_a_good_one() -> None:
    found = compiled(client("a", created="1", tier="-"), client("b", created="2"))
    assert entry(found, "switchboard/b").name == "switchboard/b"


def test_only_the_gateways_own_namespace_has_clients_unless_more_is_said() -> None:
    foreign = client(namespace="shop")
    found = compiled(foreign)
    assert not [key for key in found.policy if key.startswith("client/")]
    (refusal,) = found.refused_clients.values()
    assert refusal.reason == NOT_ADMITTED
    everybody = replace(GATEWAY, clients_from="All")
    assert entry(compiled(foreign, gateway=everybody), "shop/cart").name == "shop/cart"


def test_a_selector_admits_clients_by_the_labels_of_their_namespace() -> None:
    chosen = replace(GATEWAY, clients_from="Selector", clients_selector={"keys": "yes"})
    subject, made = Compiler(chosen, keyring()), world_of(client(namespace="shop"))
    assert not subject.compile(made).clients
    namespaces: Any = made.namespaces
    namespaces["shop"] = {"keys": "yes"}
    assert subject.compile(made).clients == 1
    namespaces["shop"] = {"keys": "no"}
    assert not subject.compile(made).clients


def test_a_foreign_secret_takes_no_key_from_an_own_one() -> None:
    found = compiled(client("a", namespace="evil", created="1"), client("b", created="2"))
    assert entry(found, "switchboard/b").name == "switchboard/b"
    assert found.refused_clients[Name("evil", "a")].reason == NOT_ADMITTED


def test_a_new_scope_key_hashes_all_anew_and_an_added_one_nothing() -> None:
    keys = {"k1": bytes(range(32)), "k2": bytes(KEY_BYTES)}
    added, in_use = (
        read_keyring("gw/default", write_key_file(current, keys)) for current in ("k1", "k2")
    )
    subject, made = Compiler(GATEWAY, keyring()), world_of(client())
    before = subject.compile(made)
    subject.rekey(added)
    same = subject.compile(made).policy["client/switchboard/cart"]
    assert same is before.policy["client/switchboard/cart"]
    subject.rekey(in_use)
    after = entry(subject.compile(made))
    assert after == replace_entry(
        entry(before), key_id="k2", digest=in_use.hash_key("k2", KEY.encode())
    )
    assert after.digest != entry(before).digest


def replace_entry(made: ir.Client, *, key_id: str, digest: str) -> ir.Client:
    return ir.Client(made.name, key_id, digest)


def test_a_pass_without_news_of_clients_gives_the_same_compilation() -> None:
    subject, made = Compiler(GATEWAY, keyring()), world_of(client(), client("b", "short"))
    assert subject.compile(made) is subject.compile(made)


def test_what_a_client_knows_of_its_key_is_not_shown() -> None:
    spec, _ = read_client(client().data)
    assert isinstance(spec, ClientSpec)
    assert KEY not in repr(spec)
    assert KEY not in repr(client())
