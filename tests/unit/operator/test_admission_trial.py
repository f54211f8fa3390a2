"""What is denied, what is warned of, and what nobody may stand in the way of."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from fakes.manifests import external, guardrail_policy, policy, reference, served
from fakes.worlds import backend, parser, put, rule, world
from fakes.worlds import policy as policy_object
from switchboard_operator.admission_review import Request, Verdict, read_review
from switchboard_operator.admission_trial import Trial, at_once, freeze
from switchboard_operator.inventory import Inventory
from switchboard_operator.kube import decode_data
from switchboard_operator.resources import Kind
from switchboard_policy.compiler.world import Gateway, Name, Service, World
from switchboard_policy.errors import Malformed
from unit.operator.kube_fakes import Cluster

Json = Mapping[str, Any]
GATEWAY = Gateway("default", "system")
CPU_MAX_S = 0.05
ON_THE_LOOP_MAX_S = 0.02


def request(operation: str, now: Json | None, before: Json | None = None, **fields: Any) -> Request:
    """A request as the API server sends it, for an object of namespace ``ai``."""
    named = now or before or {}
    group, _, version = named["apiVersion"].rpartition("/")
    said = {
        "uid": "u",
        "kind": {"group": group, "version": version, "kind": named["kind"]},
        "operation": operation,
        "name": named["metadata"]["name"],
        "namespace": "ai",
        "object": now,
        "oldObject": before,
        **fields,
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": said}
    return read_review(msgspec.json.encode(review))


def judge(
    asked: Request, made: World, *, deny: tuple[str, ...] = (), gateway: Gateway = GATEWAY
) -> Verdict:
    return at_once(asked) or Trial([gateway], deny).judge(asked, freeze(made, asked))


def reasons(verdict: Verdict) -> list[str]:
    return [str(each.reason) for each in verdict.warnings]


def bad(name: str = "bad") -> dict[str, Any]:
    return policy(name, "a", when="request.nope == 1")


def edited(manifest: Json, **metadata: Any) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], **metadata}}


HAPPY = world(backend("a"), backend("b"))


def test_a_good_object_is_admitted_without_a_word() -> None:
    assert judge(request("CREATE", policy("chat", "a")), HAPPY) == Verdict()
    assert judge(request("CREATE", external("c", 1)), HAPPY) == Verdict()


def test_an_objects_own_errors_are_denied_all_of_them_with_field_value_and_fix() -> None:
    wrong = bad()
    wrong["spec"]["guardrails"] = [{"name": "g", "require": "backend.zone = 1"}]
    verdict = judge(request("CREATE", wrong), HAPPY)
    assert verdict.code == 422
    assert [cause.field for cause in verdict.causes] == [
        "spec.guardrails[0].require",
        "spec.rules[0].when",
    ]
    assert "request.nope" in verdict.message
    assert "write request." in verdict.message


def test_a_denial_has_the_words_of_the_status() -> None:
    problems = parser().parse_policy(bad()).problems
    assert judge(request("CREATE", bad()), HAPPY).message == "; ".join(map(str, problems))


def test_a_backends_own_errors_are_denied() -> None:
    wrong = external("c", 1)
    wrong["spec"]["external"]["url"] = "no url"
    verdict = judge(request("CREATE", wrong), HAPPY)
    assert [cause.field for cause in verdict.causes] == ["spec.external.url"]


def test_an_object_without_a_spec_is_denied() -> None:
    empty = {**policy("chat", "a"), "spec": None}
    assert judge(request("CREATE", empty), HAPPY).outcome == "denied"


def test_a_policy_may_come_before_its_backend() -> None:
    verdict = judge(request("CREATE", policy("chat", "late")), HAPPY)
    assert reasons(verdict) == ["BackendNotFound", "RuleWithoutBackends"]
    assert "ModelBackend ai/late" in verdict.warnings[0].message
    assert verdict.outcome == "warned"


def test_a_missing_consent_is_a_warning() -> None:
    made = world(backend("a", "elsewhere"))
    chat = policy("chat", reference("a", "elsewhere"))
    assert reasons(judge(request("CREATE", chat), made))[0] == "RefNotPermitted"


def test_a_model_name_that_another_policy_holds_is_a_warning() -> None:
    made = world(backend("a"), policy_object("a-chat", models=["chat"], rules=[rule("r", ["a"])]))
    assert reasons(judge(request("CREATE", policy("chat", "a")), made)) == ["ModelNameClaimed"]


def test_an_object_is_no_rival_of_its_own_former_self() -> None:
    made = world(backend("a"), policy_object("chat", models=["chat"], rules=[rule("r", ["a"])]))
    now, before = policy("chat", "a", rule="new"), policy("chat", "a")
    assert judge(request("UPDATE", now, before), made) == Verdict()


def test_a_service_and_a_secret_that_are_to_come_are_warnings() -> None:
    keyed = served("c", "engine", credentials={"apiKey": {"secretName": "key"}})
    assert reasons(judge(request("CREATE", keyed), HAPPY)) == ["ServiceNotFound", "SecretNotFound"]
    made = world(Service(Name("ai", "engine"), {"http": 80}))
    assert reasons(judge(request("CREATE", keyed), made)) == ["SecretNotFound"]


def test_what_the_analysis_notices_is_a_warning() -> None:
    twice = policy("chat", "a")
    twice["spec"]["rules"] = [
        {**twice["spec"]["rules"][0], "name": name, **match}
        for name, match in [("x", {"match": {"tags": ["x"]}}), ("y", {"match": {"tags": ["x"]}})]
    ] + twice["spec"]["rules"]
    assert reasons(judge(request("CREATE", twice), HAPPY)) == ["UnreachableRule"]


def test_a_namespace_that_no_gateway_admits_is_a_warning() -> None:
    gateway = replace(GATEWAY, admit="Same")
    verdict = judge(request("CREATE", policy("chat", "a")), HAPPY, gateway=gateway)
    assert reasons(verdict) == ["NamespaceNotAdmitted"]


def test_a_namespace_that_one_of_two_gateways_admits_is_no_warning() -> None:
    asked = request("CREATE", policy("chat", "a"))
    trial = Trial([replace(GATEWAY, admit="Same"), replace(GATEWAY, name="other")], ())
    assert trial.judge(asked, freeze(HAPPY, asked)) == Verdict()


def test_a_platform_guardrail_elsewhere_is_a_warning() -> None:
    guard = guardrail_policy("guard", require="!backend.external")
    assert reasons(judge(request("CREATE", guard), HAPPY)) == ["NotPlatformNamespace"]
    gateway = replace(GATEWAY, platform_namespace="ai")
    assert judge(request("CREATE", guard), HAPPY, gateway=gateway) == Verdict()


@pytest.mark.parametrize("deny", ["Unresolved", "BackendNotFound"])
def test_a_kind_of_finding_can_be_a_denial(deny: str) -> None:
    verdict = judge(request("CREATE", policy("chat", "late")), HAPPY, deny=(deny,))
    assert (verdict.outcome, verdict.code) == ("denied", 403)
    assert verdict.message.startswith("BackendNotFound: ModelBackend ai/late does not exist")
    assert reasons(verdict) == ["RuleWithoutBackends"]


@pytest.mark.parametrize(
    ("deny", "asked", "gateway"),
    [
        ("Analysis", policy("chat", "late"), GATEWAY),
        ("RuleWithoutBackends", policy("chat", "late"), GATEWAY),
        ("NotAdmitted", policy("chat", "a"), replace(GATEWAY, admit="Same")),
        ("Conflicts", policy("taken", "a"), GATEWAY),
        ("Unresolved", served("c", "engine"), GATEWAY),
    ],
)
def test_every_group_can_be_denied(deny: str, asked: Json, gateway: Gateway) -> None:
    holder = policy_object("a-taken", models=["taken"], rules=[rule("r", ["a"])])
    made = world(backend("a"), holder)
    assert judge(request("CREATE", asked), made, deny=(deny,), gateway=gateway).code == 403
    others = tuple({"Unresolved", "NotAdmitted", "Conflicts", "Analysis"} - {deny})
    if not (deny == "RuleWithoutBackends" or asked["metadata"]["name"] == "chat"):
        found = judge(request("CREATE", asked), made, deny=others, gateway=gateway)
        assert found.outcome == "warned"


@pytest.mark.parametrize("deny", [(), ("Unresolved", "Conflicts", "Analysis", "NotAdmitted")])
def test_an_edit_that_leaves_the_spec_alone_passes_whatever_is_wrong(deny: tuple[str, ...]) -> None:
    labelled = edited(bad(), labels={"team": "red"}, finalizers=[])
    asked = request("UPDATE", labelled, edited(bad(), finalizers=["x/y"]))
    assert judge(asked, HAPPY, deny=deny) == Verdict()


def test_an_edit_of_the_spec_that_stays_wrong_is_denied() -> None:
    worse = bad()
    worse["spec"]["priority"] = 1
    assert judge(request("UPDATE", worse, bad()), HAPPY).outcome == "denied"


def test_an_object_in_deletion_passes_whatever_becomes_of_it() -> None:
    going = edited(bad(), deletionTimestamp="2026-08-01T00:00:00Z")
    assert judge(request("UPDATE", going, policy("bad", "a")), HAPPY) == Verdict()


def test_a_write_of_the_status_passes() -> None:
    asked = request("UPDATE", bad(), policy("bad", "a"), subResource="status")
    assert judge(asked, HAPPY) == Verdict()


def test_the_deletion_of_a_backend_that_policies_name_is_a_warning_and_never_denied() -> None:
    made = world(backend("a"), policy_object("chat", models=["chat"], rules=[rule("r", ["a"])]))
    asked = request("DELETE", None, external("a", 1))
    verdict = judge(asked, made, deny=("Unresolved", "BackendNotFound"))
    assert verdict.outcome == "warned"
    assert "RoutingPolicy ai/chat still names ModelBackend ai/a" in verdict.warnings[0].message
    assert judge(request("DELETE", None, external("b", 1)), made) == Verdict()
    assert judge(request("DELETE", None, policy("chat", "a")), made) == Verdict()


def test_a_withdrawn_consent_is_a_warning_that_names_who_loses_it() -> None:
    shared = backend("a", allowedNamespaces={"from": "All"})
    chat = policy_object("chat", "team", models=["chat"], rules=[rule("r", ["ai/a"])])
    now = external("a", 1, allowedNamespaces={"from": "Same"})
    verdict = judge(request("UPDATE", now, external("a", 1)), world(shared, chat))
    assert reasons(verdict) == ["RefNotPermitted"]
    assert "RoutingPolicy team/chat" in verdict.warnings[0].message


def test_an_object_of_another_kind_is_denied_with_what_to_correct() -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    verdict = judge(request("CREATE", config), HAPPY)
    assert verdict.code == 400
    assert "ConfigMap of v1 is not reviewed here" in verdict.message
    assert "ValidatingWebhookConfiguration" in verdict.message
    newer = {**policy("chat", "a"), "apiVersion": "switchboard.dev/v9"}
    assert judge(request("CREATE", newer), HAPPY).code == 400


def test_a_creation_without_an_object_is_malformed() -> None:
    with pytest.raises(Malformed):
        at_once(request("CREATE", None, policy("chat", "a")))


def test_an_object_whose_name_is_yet_to_be_generated_is_judged() -> None:
    nameless = edited(policy("chat", "late"), name="")
    assert judge(request("CREATE", nameless), HAPPY).outcome == "warned"


def test_a_trial_changes_nothing_that_is_in_force() -> None:
    made = world(backend("a"), policy_object("chat", models=["chat"], rules=[rule("r", ["a"])]))
    before = [dict(each) for each in (made.backends, made.policies, made.services, made.slices)]
    trial = Trial([GATEWAY], ())
    for asked in (
        request("CREATE", policy("new", "a")),
        request("UPDATE", policy("chat", "b"), policy("chat", "a")),
        request("UPDATE", external("a", 9), external("a", 1)),
        request("CREATE", served("s", "engine")),
        request("DELETE", None, external("a", 1)),
    ):
        trial.judge(asked, freeze(made, asked))
    assert before == [made.backends, made.policies, made.services, made.slices]
    assert made.policies[Name("ai", "chat")] is before[1][Name("ai", "chat")]


def test_a_trial_sees_what_changed_since_the_last_one() -> None:
    made, trial = world(), Trial([GATEWAY], ())
    asked = request("CREATE", policy("chat", "a"))
    assert trial.judge(asked, freeze(made, asked)).outcome == "warned"
    put(made, backend("a"))
    assert trial.judge(asked, freeze(made, asked)) == Verdict()
    put(made, backend("a", capabilities={"apis": ["embeddings"]}))
    wants = policy("chat", "a")
    wants["spec"]["rules"].insert(
        0, {**wants["spec"]["rules"][0], "name": "c", "match": {"apis": ["chat"]}}
    )
    asked = request("CREATE", wants)
    assert reasons(trial.judge(asked, freeze(made, asked))) == ["ApiNotOffered"]


def test_a_review_among_two_thousand_policies_takes_little_and_hardly_any_of_it_on_the_loop() -> (
    None
):
    cluster, inventory = Cluster(), Inventory(parser(), decode_secret=decode_data)
    for number in range(500):
        cluster.put(Kind.BACKEND, external(f"b{number}", number + 1))
    for number in range(2_000):
        cluster.put(Kind.POLICY, policy(f"p{number}", f"b{number % 500}", f"b{number % 499}"))
    cluster.fill(inventory)
    trial = Trial([GATEWAY], ())
    on_loop: list[float] = []
    on_thread: list[float] = []
    for number in range(200):
        one = [
            request("UPDATE", policy(f"p{number}", f"b{number}", "gone"), policy(f"p{number}")),
            request("UPDATE", external(f"b{number}", 9), external(f"b{number}", 1)),
            request("DELETE", None, external(f"b{number}", 1)),
        ][number % 3]
        began = time.thread_time()
        at_once(one)
        world_then = freeze(inventory.world, one)
        frozen = time.thread_time()
        trial.judge(one, world_then)
        on_loop.append(frozen - began)
        on_thread.append(time.thread_time() - frozen)
    assert sorted(on_thread)[197] < CPU_MAX_S
    assert sorted(on_loop)[197] < ON_THE_LOOP_MAX_S
