"""Entries to the running snapshot: what changed is rebuilt, what cannot run is refused."""

import pytest

from fakes.policies import (
    SCOPE,
    backend,
    endpoints,
    keyed,
    keyring,
    policy,
    rule,
    service,
    tier,
    view,
)
from switchboard_dataplane.decision.eligible import abilities_of
from switchboard_dataplane.decision.match import find_policy
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_policy import ir
from switchboard_policy.names import origin
from switchboard_policy.seal import read_keyring, write_key_file

POLICY = policy("chat", rule("default", tier("t", "a")))


def builder(*entries: ir.Entry) -> SnapshotBuilder:
    built = SnapshotBuilder(keyring())
    built.apply(keyed(entries), (), revision="1-1")
    return built


def sealed(spec: ir.Backend, key: str = "sk-1") -> ir.Credential:
    ring = keyring()
    raw = ring.seal(key.encode(), spec.uid, origin(spec.url))
    return ir.Credential(backend=spec.name, key_id=ring.current, sealed=raw)


def test_a_change_of_endpoints_rebuilds_no_policy() -> None:
    running = builder(POLICY, service("a"), endpoints("a", "10.0.0.1:1"), service("b"))
    before = running.snapshot
    chat = before.policies["ai/chat"]
    abilities = abilities_of(before, chat)
    after, _ = running.apply(keyed([endpoints("a", "10.0.0.2:1")]), (), revision="1-2", live_pods=3)
    assert after.policies["ai/chat"] is chat
    assert after.backends["ai/b"] is before.backends["ai/b"]
    assert abilities_of(after, chat) is abilities
    assert [one.url for one in after.backends["ai/a"].endpoints] == ["http://10.0.0.2:1/v1"]
    assert (after.revision, after.live_pods) == ("1-2", 3)


def test_the_snapshot_before_is_left_as_it_was() -> None:
    running = builder(POLICY, service("a"), endpoints("a", "10.0.0.1:1"))
    before = running.snapshot
    running.apply({}, ["policy/ai/chat", "endpoints/ai/a"], revision="1-2")
    assert find_policy(before, "chat") is not None
    assert len(before.backends["ai/a"].endpoints) == 1
    assert find_policy(running.snapshot, "chat") is None


def test_the_index_of_model_names_follows_every_claim() -> None:
    running = builder(POLICY, backend("a"))
    edited = policy("chat", rule("edited", tier("t", "a")))
    after, _ = running.apply(keyed([edited]), (), revision="1-2")
    found = find_policy(after, "chat")
    assert found is not None
    assert found.rules[0].name == "edited"
    renamed = policy("chat", rule("edited", tier("t", "a")), models=("new", "wild-*"))
    after, _ = running.apply(keyed([renamed]), (), revision="1-3")
    assert find_policy(after, "chat") is None
    assert find_policy(after, "new") is not None
    assert find_policy(after, "wild-1") is not None
    stronger = policy("other", rule("default", tier("t", "a")), models=("new",), priority=1)
    after, _ = running.apply(keyed([stronger]), (), revision="1-4")
    assert after.exact["new"].policy == "ai/other"
    after, _ = running.apply({}, ["policy/ai/other"], revision="1-5")
    assert after.exact["new"].policy == "ai/chat"


def test_a_policy_whose_expression_does_not_compile_keeps_its_last_good_form() -> None:
    running = builder(POLICY, backend("a"))
    bad = policy("chat", rule("new", tier("t", "a"), when="request.future > 1"))
    after, refused = running.apply(keyed([bad]), (), revision="1-2")
    assert after.policies["ai/chat"].rules[0].name == "default"
    assert "request.future" in refused["policy/ai/chat"]
    _, refused = running.apply(keyed([POLICY]), (), revision="1-3")
    assert not refused


def test_a_credential_opens_for_its_backend_and_follows_its_rotation() -> None:
    spec = backend("a", credential="credential/ai/a")
    running = builder(POLICY, spec, sealed(spec))
    assert running.snapshot.backends["ai/a"].api_key == "sk-1"
    running.apply(keyed([sealed(spec, "sk-2")]), (), revision="1-2")
    assert running.snapshot.backends["ai/a"].api_key == "sk-2"
    assert "sk-2" not in repr(running.snapshot.backends["ai/a"])


def test_without_its_credential_a_backend_may_not_serve() -> None:
    spec = backend("a", credential="credential/ai/a")
    running = builder(POLICY, spec, sealed(spec))
    after, refused = running.apply({}, ["credential/ai/a"], revision="1-2")
    assert after.backends["ai/a"].unusable == "its credential is not there"
    assert not refused


def test_a_credential_of_another_origin_is_refused_and_never_sent() -> None:
    spec = backend("a", credential="credential/ai/a")
    moved = backend("a", credential="credential/ai/a", url="http://evil.example/v1")
    running = builder(POLICY, spec, sealed(spec))
    after, refused = running.apply(keyed([moved]), (), revision="1-2")
    assert after.backends["ai/a"].api_key == ""
    assert after.backends["ai/a"].unusable == "its credential does not open"
    assert "credential/ai/a" in refused


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example:99999/v1",
        "https://a.example:0/v1",
        "https://a.example:http/v1",
        "https://[::1/v1",
        "https:///v1",
    ],
)
def test_a_url_that_cannot_be_called_takes_its_own_backend_out_and_no_other(url: str) -> None:
    running = builder(POLICY, backend("a"), backend("b"))
    bad = backend("a", url=url)
    moved = backend("b", url="https://elsewhere.example/v1")
    after, refused = running.apply(keyed([bad, moved]), (), revision="1-2")
    assert after.revision == "1-2"
    assert [one.address for one in after.backends["ai/b"].endpoints] == ["elsewhere.example:443"]
    assert after.backends["ai/a"].endpoints == ()
    assert after.backends["ai/a"].unusable == refused["backend/ai/a"]
    assert "a port that is not in 1..65535" in refused["backend/ai/a"]
    after, refused = running.apply(keyed([backend("a")]), (), revision="1-3")
    assert not refused
    assert [one.address for one in after.backends["ai/a"].endpoints] == ["a.example:8000"]


def test_a_service_that_comes_back_has_no_endpoint_of_its_past() -> None:
    running = builder(POLICY, service("b"), endpoints("b", "10.0.0.1:1"))
    running.apply({}, ["backend/ai/b", "endpoints/ai/b"], revision="1-2")
    after, _ = running.apply(keyed([service("b")]), (), revision="1-3")
    assert after.backends["ai/b"].endpoints == ()


def test_other_keys_open_credentials_from_the_next_snapshot_on() -> None:
    spec = backend("a", credential="credential/ai/a")
    stranger = read_keyring(SCOPE, write_key_file("k2", {"k2": b"x" * 32}))
    running = SnapshotBuilder(stranger)
    entries = keyed([POLICY, spec, sealed(spec)])
    before, refused = running.apply(entries, (), revision="1-1")
    assert before.backends["ai/a"].unusable
    assert "credential/ai/a" in refused
    assert list(running.rekey(keyring()))
    after, refused = running.apply({}, (), revision="1-1")
    assert after.backends["ai/a"].api_key == "sk-1"
    assert not refused


def test_a_backend_that_gains_an_ability_serves_at_once() -> None:
    running = builder(POLICY, backend("a", capabilities=ir.Capabilities(tools=False)))
    chat = running.snapshot.policies["ai/chat"]
    assert abilities_of(running.snapshot, chat).tools == 0
    after, _ = running.apply(keyed([backend("a")]), (), revision="1-2")
    assert abilities_of(after, chat).tools == 1


def test_an_external_url_without_a_port_has_the_scheme_s() -> None:
    running = builder(POLICY, backend("a", url="https://api.example/v1/"))
    (one,) = running.snapshot.backends["ai/a"].endpoints
    assert (one.address, one.url) == ("api.example:443", "https://api.example/v1")


def test_texts_are_read_on_demand_from_every_shape_of_content() -> None:
    seen = view(
        payload={
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "image_url"}]},
                {"role": "assistant", "content": "B"},
                {"role": "user", "content": "C"},
                {"role": ["user"], "content": "nobody's"},
                "no message",
            ]
        }
    )
    assert seen.system == "Be brief."
    assert seen.prompt == "A\nC"
    assert seen.prompt_lower == "a\nc"
    assert view(payload={"prompt": ["x", "y"]}).prompt == "x\ny"
    assert view(payload={"input": "z"}).prompt == "z"


def test_a_credential_that_was_opened_stays_when_its_key_is_dropped_before_the_next_comes() -> None:
    spec = backend("a", credential="credential/ai/a")
    running = builder(POLICY, spec, sealed(spec))
    assert list(running.rekey(read_keyring(SCOPE, write_key_file("k2", {"k2": b"x" * 32}))))
    after, refused = running.apply({}, (), revision="1-2")
    assert after.backends["ai/a"].api_key == "sk-1"
    assert not refused
    after, refused = running.apply(keyed([sealed(spec, "sk-2")]), (), revision="1-3")
    assert after.backends["ai/a"].unusable == "its credential does not open"
    assert "credential/ai/a" in refused


def test_a_dropped_key_opens_nothing_for_another_origin() -> None:
    spec = backend("a", credential="credential/ai/a")
    moved = backend("a", credential="credential/ai/a", url="http://evil.example/v1")
    running = builder(POLICY, spec, sealed(spec))
    assert list(running.rekey(read_keyring(SCOPE, write_key_file("k2", {"k2": b"x" * 32}))))
    after, _ = running.apply(keyed([moved]), (), revision="1-2")
    assert after.backends["ai/a"].api_key == ""


ROUTER = "sha256:" + "a" * 64


def selecting(router: str, *names: str) -> ir.Policy:
    select = ir.Select("Complexity", thresholds_permille=(500,), router=router)
    tiers = [tier(name, name) for name in names]
    return policy("chat", rule("default", *tiers, select=select))


def test_a_policy_whose_router_is_not_there_runs_with_the_one_that_ships_and_says_so() -> None:
    there: set[str] = set()
    running = SnapshotBuilder(keyring(), has_router=there.__contains__)
    entries: list[ir.Entry] = [selecting("", "a", "b"), backend("a"), backend("b"), backend("c")]
    running.apply(keyed(entries), (), revision="1-1")
    _, refused = running.apply(keyed([selecting(ROUTER, "a", "c")]), (), revision="1-2")
    told = f"its router {ROUTER} is not in --routers: the one that ships takes its place"
    assert refused == {"policy/ai/chat": told}
    # Not the last good form: a guardrail that came with the edit is in force.
    assert running.snapshot.policies["ai/chat"].backends == ("ai/a", "ai/c")
    there.add(ROUTER)
    _, refused = running.apply(keyed([selecting(ROUTER, "a", "c")]), (), revision="1-3")
    assert not refused
    assert f"router:{ROUTER}" in running.snapshot.policies["ai/chat"].readings


def refusing(*hosts: str) -> SnapshotBuilder:
    return SnapshotBuilder(
        keyring(), refuses=lambda host: f"{host} is loopback" if host in hosts else ""
    )


def test_a_url_at_a_refused_address_takes_its_backend_out_and_says_how_to_allow_it() -> None:
    running = refusing("127.0.0.1")
    bad = backend("a", url="http://me:secret@127.0.0.1:9/v1")
    after, refused = running.apply(keyed([POLICY, bad, backend("b")]), (), revision="1-1")
    assert "its url may not be called: 127.0.0.1 is loopback" in refused["backend/ai/a"]
    assert "--allow-addresses" in refused["backend/ai/a"]
    assert "secret" not in refused["backend/ai/a"]
    assert after.backends["ai/a"].unusable == refused["backend/ai/a"]
    assert (after.backends["ai/a"].endpoints, after.backends["ai/b"].unusable) == ((), "")


def test_an_endpoint_at_a_refused_address_is_left_out_and_the_others_serve() -> None:
    running = refusing("127.0.0.1", "[::1]")
    there = endpoints("a", "127.0.0.1:1", "10.0.0.1:1", "[::1]:1")
    after, refused = running.apply(keyed([service("a"), there]), (), revision="1-1")
    assert [one.address for one in after.backends["ai/a"].endpoints] == ["10.0.0.1:1"]
    assert "127.0.0.1 is loopback" in refused["endpoints/ai/a"]
    good = endpoints("a", "10.0.0.1:1")
    assert running.apply(keyed([good]), (), revision="1-2")[1] == {}


def test_a_webhook_at_a_refused_address_is_told_and_the_policy_holds() -> None:
    running = refusing("127.0.0.1")
    review = ir.Review(webhook="https://127.0.0.1/hook")
    looked_at = policy("chat", rule("default", tier("t", "a"), review=review))
    after, refused = running.apply(keyed([looked_at]), (), revision="1-1")
    assert "a webhook of its reviews: its url may not be called" in refused["policy/ai/chat"]
    assert find_policy(after, "chat") is not None
