"""A pass of the compiler: what an edit moves, and what it leaves alone."""

from dataclasses import replace
from typing import Any

import pytest

from fakes.worlds import GATEWAY, backend, keyring, policy, put, rule, service_slice, world
from switchboard_policy import ir, names
from switchboard_policy.compiler import compile as compiling
from switchboard_policy.compiler.compile import Compilation, Compiler
from switchboard_policy.compiler.policies import compile_policy
from switchboard_policy.compiler.report import MODEL_BACKEND, ROUTING_POLICY, ObjectReport
from switchboard_policy.compiler.world import (
    BackendObject,
    Gateway,
    Name,
    PolicyObject,
    Secret,
    Service,
    World,
)
from switchboard_policy.seal import KEY_BYTES, read_keyring, write_key_file
from switchboard_policy.v1alpha1.conditions import Reason

PLATFORM = Gateway("default", "switchboard", platform_namespace="platform")
CREDENTIALS = {"apiKey": {"secretName": "keys"}}


def compiler(gateway: Gateway = GATEWAY) -> Compiler:
    return Compiler(gateway, keyring())


def simple(name: str, *backends: str, namespace: str = "ai", **spec: Any) -> PolicyObject:
    return policy(
        name, namespace, **{"models": [name], "rules": [rule("default", backends)], **spec}
    )


def entry(found: Compilation, name: str) -> ir.Policy:
    made = found.policy[f"policy/{name}"].entry
    assert isinstance(made, ir.Policy)
    return made


def of_policy(found: Compilation, name: str) -> ObjectReport:
    return found.reports[ROUTING_POLICY, Name("ai", name)]


def of_backend(found: Compilation, name: str) -> ObjectReport:
    return found.reports[MODEL_BACKEND, Name("ai", name)]


def members(found: Compilation, name: str) -> list[str]:
    return [
        member.backend
        for each in entry(found, name).rules
        for tier in each.tiers
        for member in tier.members
    ]


def test_an_unchanged_world_gives_the_same_compilation() -> None:
    made, subject = world(backend("a"), simple("chat", "a")), compiler()
    assert subject.compile(made) is subject.compile(made)


def test_a_world_that_is_changed_later_does_not_change_a_compilation() -> None:
    made, subject = world(backend("a"), simple("chat", "a")), compiler()
    before = subject.compile(made)
    copies = dict(before.policy), dict(before.reports)
    put(made, simple("other", "a"))
    subject.compile(made)
    assert (before.policy, before.reports) == copies


def test_an_edit_compiles_only_what_depends_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(
        backend("a"),
        backend("b"),
        *(simple(f"p{number}", "a") for number in range(9)),
        simple("q", "b"),
    )
    subject = compiler()
    subject.compile(made)
    compiled: list[str] = []

    def recording(each: PolicyObject, *args: Any, **kwargs: Any) -> Any:
        compiled.append(each.name.name)
        return compile_policy(each, *args, **kwargs)

    monkeypatch.setattr(compiling, "compile_policy", recording)
    put(made, simple("p3", "a", priority=1))
    subject.compile(made)
    assert compiled == ["p3"]
    put(made, backend("b", timeouts={"total": "9s"}))
    subject.compile(made)
    assert compiled == ["p3"], "policies do not see a backend's timeouts"
    put(made, backend("b", locality={"jurisdiction": "eu"}))
    subject.compile(made)
    assert compiled == ["p3", "q"]


def test_an_edit_that_says_the_same_keeps_the_entry_itself() -> None:
    made, subject = world(backend("a"), simple("chat", "a")), compiler()
    before = subject.compile(made)
    put(made, backend("a", generation=2))
    put(made, simple("chat", "a", generation=2))
    after = subject.compile(made)
    assert after.policy["policy/ai/chat"] is before.policy["policy/ai/chat"]
    assert after.policy["backend/ai/a"] is before.policy["backend/ai/a"]
    assert of_policy(after, "chat").generation == 2


def test_a_pass_that_is_interrupted_leaves_nothing_half_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, subject = world(backend("a"), simple("chat", "a"), simple("other", "a")), compiler()
    subject.compile(made)
    put(made, backend("a", locality={"jurisdiction": "eu"}))

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(compiling, "compile_policy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            subject.compile(made)
    assert subject.compile(made) == compiler().compile(made)


def test_a_dangling_backend_never_changes_other_routes() -> None:
    made, subject = world(backend("a"), backend("b"), simple("chat", "a", "b")), compiler()
    put(made, simple("other", "b"))
    before = subject.compile(made)
    _delete(made, "backends", "a")
    after = subject.compile(made)
    assert members(after, "ai/chat") == ["ai/b"]
    assert after.policy["policy/ai/other"] is before.policy["policy/ai/other"]
    assert [each.reason for each in of_policy(after, "chat").unresolved] == [
        Reason.BACKEND_NOT_FOUND
    ]
    assert "backend/ai/a" not in after.policy
    put(made, backend("a"))
    assert subject.compile(made) == before


def test_withdrawn_consent_acts_at_once() -> None:
    made = world(backend("a", "ml", allowedNamespaces={"from": "All"}), simple("chat", "ml/a"))
    subject = compiler()
    assert members(subject.compile(made), "ai/chat") == ["ml/a"]
    put(made, backend("a", "ml"))
    after = subject.compile(made)
    assert members(after, "ai/chat") == []
    assert [each.reason for each in of_policy(after, "chat").unresolved] == [
        Reason.REF_NOT_PERMITTED
    ]
    assert "backend/ml/a" not in after.policy


def test_consent_follows_the_labels_of_the_namespace() -> None:
    selector = {"from": "Selector", "selector": {"matchLabels": {"team": "red"}}}
    made = world(backend("a", "ml", allowedNamespaces=selector), simple("chat", "ml/a"))
    namespaces: Any = made.namespaces
    subject = compiler()
    assert members(subject.compile(made), "ai/chat") == []
    namespaces["ai"] = {"team": "red"}
    assert members(subject.compile(made), "ai/chat") == ["ml/a"]
    namespaces["ai"] = {"team": "blue"}
    assert members(subject.compile(made), "ai/chat") == []


def test_a_namespace_that_is_admitted_later_is_served_then() -> None:
    gateway = Gateway("default", "switchboard", admit="Selector", selector={"llm": "yes"})
    made, subject = world(backend("a"), simple("chat", "a")), compiler(gateway)
    before = subject.compile(made)
    assert before.policy == {}
    assert [each.reason for each in of_policy(before, "chat").rejected] == [
        Reason.NAMESPACE_NOT_ADMITTED
    ]
    namespaces: Any = made.namespaces
    namespaces["ai"] = {"llm": "yes"}
    assert members(subject.compile(made), "ai/chat") == ["ai/a"]
    namespaces["ai"] = {}
    assert subject.compile(made) == before


def test_a_backend_is_published_while_a_policy_uses_it() -> None:
    made, subject = world(backend("a"), simple("one", "a"), simple("two", "a")), compiler()
    subject.compile(made)
    _delete(made, "policies", "one")
    assert of_backend(subject.compile(made), "a").keys == ("backend/ai/a",)
    _delete(made, "policies", "two")
    after = subject.compile(made)
    assert after.policy == {}
    assert of_backend(after, "a").keys == ()


def test_endpoints_move_without_policies_and_backends() -> None:
    made = world(
        backend("a", service={"name": "vllm", "port": "http"}),
        Service(Name("ai", "vllm"), {"http": 80}),
        service_slice("vllm", "10.0.0.1"),
        simple("chat", "a"),
    )
    subject = compiler()
    before = subject.compile(made)
    put(made, service_slice("vllm", "10.0.0.1", "10.0.0.2"))
    after = subject.compile(made)
    assert after.policy["backend/ai/a"] is before.policy["backend/ai/a"]
    assert after.policy["policy/ai/chat"] is before.policy["policy/ai/chat"]
    addresses = after.endpoints["endpoints/ai/a"].entry
    assert isinstance(addresses, ir.Endpoints)
    assert [each.address for each in addresses.addresses] == ["10.0.0.1:8000", "10.0.0.2:8000"]
    assert of_backend(after, "a").endpoints_ready == 2


class Looked(dict[Name, Any]):
    """Counts how often somebody goes through all of it."""

    times = 0

    def items(self) -> Any:
        self.times += 1
        return super().items()


def test_a_change_of_endpoints_looks_at_no_policy() -> None:
    policies = Looked()
    made = replace(
        world(
            backend("a", service={"name": "vllm", "port": "http"}),
            Service(Name("ai", "vllm"), {"http": 80}),
            service_slice("vllm", "10.0.0.1"),
        ),
        policies=policies,
    )
    put(made, simple("chat", "a"))
    subject = compiler()
    before = subject.compile(made)
    looked = policies.times
    assert looked
    put(made, service_slice("vllm", "10.0.0.2"))
    assert subject.compile(made) is not before
    assert policies.times == looked
    put(made, simple("chat", "a", priority=1))
    subject.compile(made)
    assert policies.times > looked


def test_a_credential_opens_for_its_backend_and_origin_and_nobody_else() -> None:
    made = world(
        backend("a", credentials=CREDENTIALS, external={"provider": "openai"}),
        Secret(Name("ai", "keys"), "u", "1", {"api-key": b" sk-secret\r\n"}),
        simple("chat", "a"),
    )
    found = compiler().compile(made)
    sealed, target = found.policy["credential/ai/a"].entry, found.policy["backend/ai/a"].entry
    assert isinstance(sealed, ir.Credential)
    assert isinstance(target, ir.Backend)
    assert target.credential == "credential/ai/a"
    opened = keyring().unseal(
        sealed.key_id, sealed.sealed, target.uid, names.origin("https://api.openai.com/other")
    )
    assert opened == b"sk-secret"
    assert b"sk-secret" not in found.policy["credential/ai/a"].body


def test_a_revoked_secret_takes_the_credential_and_leaves_the_backend_closed() -> None:
    secret = Secret(Name("ai", "keys"), "u", "1", {"api-key": b"sk-secret"})
    made = world(backend("a", credentials=CREDENTIALS), secret, simple("chat", "a"))
    subject = compiler()
    assert of_backend(subject.compile(made), "a").keys == ("backend/ai/a", "credential/ai/a")
    _delete(made, "secrets", "keys")
    after = subject.compile(made)
    assert "credential/ai/a" not in after.policy
    target = after.policy["backend/ai/a"].entry
    assert isinstance(target, ir.Backend)
    assert target.credential == "credential/ai/a"
    (finding,) = of_backend(after, "a").unresolved
    assert finding.reason is Reason.SECRET_NOT_FOUND
    assert "kubectl label secret keys -n ai switchboard.dev/secret=true" in finding.message


def test_the_key_of_a_client_is_sent_to_no_model() -> None:
    # Who may write backends, and not read Secrets, would have it sent wherever they like.
    data = {"api-key": b"sk-sb-0123456789abcdef"}
    secret = Secret(Name("ai", "keys"), "u", "1", data, is_client=True)
    made = world(backend("a", credentials=CREDENTIALS), secret, simple("chat", "a"))
    found = compiler().compile(made)
    assert "credential/ai/a" not in found.policy
    (finding,) = of_backend(found, "a").unresolved
    assert finding.reason is Reason.SECRET_INVALID
    assert "switchboard.dev/client" in finding.message
    made.secrets[Name("ai", "keys")] = replace(secret, is_client=False)  # type: ignore[index]
    assert "credential/ai/a" in compiler().compile(made).policy


def test_a_secret_never_shows_in_reports() -> None:
    secret = Secret(Name("ai", "keys"), "u", "1", {"api-key": b"sk-\xffsecret", "b": b"sk-other"})
    made = world(backend("a", credentials=CREDENTIALS), secret, simple("chat", "a"))
    assert "sk-" not in str(compiler().compile(made).reports)


def test_platform_guardrails_come_and_go_with_their_policy() -> None:
    made = world(backend("a"), simple("chat", "a"), simple("other", "a"))
    subject = compiler(PLATFORM)
    before = subject.compile(made)
    put(made, policy("guard", "platform", guardrails=[{"name": "none", "require": "false"}]))
    guarded = subject.compile(made)
    for name in ("chat", "other"):
        (guardrail,) = entry(guarded, f"ai/{name}").guardrails
        assert guardrail == ir.Guardrail("none", "platform/guard", ("ai/a",))
    report = guarded.reports[ROUTING_POLICY, Name("platform", "guard")]
    assert report.keys == ("policy/ai/chat", "policy/ai/other")
    _delete(made, "policies", "guard", "platform")
    assert subject.compile(made) == before


def test_a_policy_that_is_new_carries_the_platforms_guardrails() -> None:
    made = world(
        backend("a"),
        policy("guard", "platform", guardrails=[{"name": "none", "require": "false"}]),
    )
    subject = compiler(PLATFORM)
    assert subject.compile(made).reports[ROUTING_POLICY, Name("platform", "guard")].keys == ()
    put(made, simple("chat", "a"))
    after = subject.compile(made)
    assert entry(after, "ai/chat").guardrails[0].policy == "platform/guard"
    assert after.reports[ROUTING_POLICY, Name("platform", "guard")].keys == ("policy/ai/chat",)


def test_guardrails_see_the_backend_as_it_is_now() -> None:
    guardrail = {"name": "eu", "require": 'backend.labels.get("where") == "eu"'}
    made = world(backend("a"), simple("chat", "a", guardrails=[guardrail]))
    subject = compiler()
    assert entry(subject.compile(made), "ai/chat").guardrails[0].forbids == ("ai/a",)
    put(made, backend("a", labels={"where": "eu"}))
    assert entry(subject.compile(made), "ai/chat").guardrails[0].forbids == ()


def test_the_order_of_namespaces_ranks_policies() -> None:
    gateway = Gateway("default", "switchboard", order=("ml", "ai"))
    made = world(
        backend("a"),
        backend("a", "ml"),
        backend("a", "zz"),
        *(simple("chat", "a", namespace=each) for each in ("ai", "ml", "zz")),
    )
    found = compiler(gateway).compile(made)
    ranks = {each: entry(found, f"{each}/chat").namespace_rank for each in ("ml", "ai", "zz")}
    assert ranks == {"ml": 0, "ai": 1, "zz": 2}


def test_a_recreated_backend_gets_a_credential_of_its_own() -> None:
    secret = Secret(Name("ai", "keys"), "u", "1", {"api-key": b"sk-secret"})
    first: BackendObject = backend("a", credentials=CREDENTIALS)
    made, subject = world(first, secret, simple("chat", "a")), compiler()
    before = subject.compile(made)
    put(made, replace(first, uid="another"))
    after = subject.compile(made)
    assert after.policy["credential/ai/a"].body != before.policy["credential/ai/a"].body


def _delete(made: World, kind: str, name: str, namespace: str = "ai") -> None:
    del getattr(made, kind)[Name(namespace, name)]


def test_another_key_seals_credentials_anew_and_moves_nothing_else() -> None:
    secret = Secret(Name("ai", "keys"), "uid", "1", {"api-key": b"sk"})
    made = world(
        backend("a", credentials=CREDENTIALS), backend("b"), secret, simple("chat", "a", "b")
    )
    running = compiler()
    before = running.compile(made)
    others = read_keyring("gw/default", write_key_file("k2", {"k2": b"x" * KEY_BYTES}))
    running.rekey(others)
    after = running.compile(made)
    assert after.policy.keys() == before.policy.keys()
    moved = {key for key in after.policy if after.policy[key] is not before.policy[key]}
    assert moved == {"credential/ai/a"}
    found = after.policy["credential/ai/a"].entry
    assert isinstance(found, ir.Credential)
    assert found.key_id == "k2"
    assert running.compile(made) is after
