"""Edits that open something by a way that is easily overlooked are called what they are, first."""

import re
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from switchboard_cli.__main__ import main as switchboard
from switchboard_cli.review.changes import Change
from switchboard_cli.review.diff_command import differences
from switchboard_cli.review.diff_text import as_markdown, as_text
from switchboard_cli.review.sides import Settings

Objects = list[dict[str, Any]]
GUARDRAIL: Final = {"name": "eu-only", "require": 'backend.jurisdiction == "eu"'}


def made(kind: str, name: str, spec: dict[str, Any], namespace: str = "ai") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {
        "apiVersion": "switchboard.dev/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    }


def backend(name: str, jurisdiction: str, namespace: str = "ai", **spec: Any) -> dict[str, Any]:
    target = {"provider": "openai-compatible", "url": f"https://{jurisdiction}.test/v1"}
    place = {"jurisdiction": jurisdiction}
    said = {"model": "m", "external": target, "locality": place, **spec}
    return made("ModelBackend", name, said, namespace)


def policy(name: str, *backends: str, namespace: str = "ai", **spec: Any) -> dict[str, Any]:
    tiers = [{"name": "t", "backends": [{"name": one} for one in backends]}]
    rules = [{"name": "default", "route": {"tiers": tiers}}]
    return made("RoutingPolicy", name, {"models": ["chat"], "rules": rules, **spec}, namespace)


def residency(name: str = "residency", require: str = GUARDRAIL["require"]) -> dict[str, Any]:
    rails = {"guardrails": [{**GUARDRAIL, "require": require}]}
    return made("RoutingPolicy", name, rails, "platform")


def service(app: str) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": "ai"},
        "spec": {"selector": {"app": app}, "ports": ports},
    }


def client(**data: str) -> dict[str, Any]:
    labels = {"switchboard.dev/secret": "true", "switchboard.dev/client": "true"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "app", "namespace": "ai", "labels": labels},
        "stringData": {"api-key": "sk-sb-" + "a" * 32, **data},
    }


EU, US = backend("eu", "eu"), backend("us", "us")
GUARDED: Final = policy("chat", "eu", "us", guardrails=[GUARDRAIL])
CHAT: Final = policy("chat", "eu")


@pytest.fixture
def told(tmp_path: Path) -> Any:
    def differ(old: Objects, new: Objects) -> list[Change]:
        for side, objects in (("old", old), ("new", new)):
            body = b"\n---\n".join(map(msgspec.json.encode, objects))
            (tmp_path / f"{side}.yaml").write_bytes(body)
        paths = str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml")
        return differences(*paths, settings=Settings())[0]

    return differ


def test_a_guardrail_weakened_with_the_backend_it_forbade_is_loosened(told: Any) -> None:
    old = policy("chat", "eu", guardrails=[GUARDRAIL])
    for rails in ([{**GUARDRAIL, "require": "true"}], []):
        first = told([EU, US, old], [EU, US, policy("chat", "eu", "us", guardrails=rails)])[0]
        assert first.severity == "loosened"
        assert "ai/us becomes reachable for ai/chat" in first.text


def test_a_guardrail_and_a_new_backend_that_meets_it_are_not_loosened(told: Any) -> None:
    old = policy("chat", "eu", guardrails=[GUARDRAIL])
    more = backend("eu2", "eu")
    changes = told([EU, old], [EU, more, policy("chat", "eu", "eu2", guardrails=[GUARDRAIL])])
    assert "loosened" not in {one.severity for one in changes}


@pytest.mark.parametrize("stays", [True, False])
def test_a_name_that_goes_to_a_policy_without_the_guardrail_is_loosened(
    told: Any, *, stays: bool
) -> None:
    heir = policy("another", "eu", "us", priority=1)
    first = told([EU, US, GUARDED], [EU, US, heir, *([GUARDED] if stays else [])])[0]
    assert first.kind == "guardrail no longer holds"
    assert "for the model name chat" in first.text
    assert first.text.endswith("may send to ai/us")


def test_a_name_that_goes_to_a_policy_as_well_guarded_is_only_taken(told: Any) -> None:
    heir = policy("another", "eu", "us", priority=1, guardrails=[GUARDRAIL])
    changes = told([EU, US, GUARDED], [EU, US, heir])
    assert "loosened" not in {one.severity for one in changes}
    assert changes[0].severity == "taken"


def test_a_condition_that_only_begins_as_it_was_is_loosened(told: Any) -> None:
    rail = {**GUARDRAIL, "when": "request.stream"}
    turned = {**rail, "when": "request.stream || true ? false : true"}
    old = policy("chat", "eu", "us", guardrails=[rail])
    first = told([EU, US, old], [EU, US, policy("chat", "eu", "us", guardrails=[turned])])[0]
    assert (first.severity, first.kind) == ("loosened", "guardrail loosened")
    assert "may hold for fewer requests: ai/us becomes reachable" in first.text
    heir = policy("another", "eu", "us", priority=1, guardrails=[turned])
    assert told([EU, US, old], [EU, US, heir])[0].kind == "guardrail no longer holds"


def test_a_condition_that_is_only_written_otherwise_is_a_note(told: Any) -> None:
    rails = ({**GUARDRAIL, "when": one} for one in ("request.stream", "( request.stream )"))
    old, new = (policy("chat", "eu", "us", guardrails=[rail]) for rail in rails)
    assert [one.kind for one in told([EU, US, old], [EU, US, new])] == ["guardrail reworded"]


def test_a_platform_guardrail_is_told_where_no_policy_is_at_hand(told: Any) -> None:
    other = residency("other", require="true")
    assert [one.kind for one in told([residency(), other], [other])] == ["guardrail removed"]
    loosened = told([residency()], [residency(require="true")])
    assert [one.kind for one in loosened] == ["guardrail loosened"]
    assert [one.severity for one in told([other], [residency(), other])] == ["tightened"]
    renamed = told([residency(), other], [residency("renamed"), other])
    assert [one.kind for one in renamed] == ["guardrail renamed"]
    assert told([residency(), CHAT, EU], [residency(), CHAT, EU]) == []


def test_a_policy_that_names_a_twin_elsewhere_is_no_renamed_backend(told: Any) -> None:
    shared = {"from": "All"}
    here = backend("eu", "eu", allowedNamespaces=shared)
    there = backend("eu", "eu", "far", allowedNamespaces=shared)
    moved = policy("chat", "eu")
    moved["spec"]["rules"][0]["route"]["tiers"][0]["backends"][0]["namespace"] = "far"
    kinds = [one.kind for one in told([here, there, CHAT], [here, there, moved])]
    assert "backend renamed" not in kinds
    assert "backend replaced" in kinds


def test_a_policy_that_moves_to_another_namespace_is_no_renamed_one(told: Any) -> None:
    shared = backend("eu", "eu", allowedNamespaces={"from": "All"})
    old, new = (policy("cart", "eu", namespace=one) for one in ("team-a", "ai"))
    for one in (old, new):
        one["spec"]["rules"][0]["route"]["tiers"][0]["backends"][0]["namespace"] = "ai"
    changes = told([shared, old], [shared, new])
    assert changes[0].severity == "taken"
    assert "renamed" not in {one.severity for one in changes}


def test_an_object_of_another_version_never_comes_into_force(told: Any) -> None:
    newer = {**GUARDED, "apiVersion": "switchboard.dev/v9"}
    (one,) = told([EU, US, policy("chat", "eu", "us")], [EU, US, newer])
    assert "would be refused, and its last good form stays in force: apiVersion" in one.text
    (alone,) = told([EU, US], [EU, US, newer])
    assert "would be refused, and nothing of it comes into force: apiVersion" in alone.text


def test_consent_is_told_before_any_policy_uses_it(told: Any) -> None:
    changes = told([EU], [backend("eu", "eu", allowedNamespaces={"from": "All"})])
    assert [one.kind for one in changes] == ["allowed namespaces changed"]


def test_a_namespace_whose_labels_a_backend_admits_is_told(told: Any) -> None:
    def namespace(**labels: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": "sales", "labels": labels},
        }

    allowed = {"from": "Selector", "selector": {"matchLabels": {"trusted": "yes"}}}
    shared = backend("eu", "eu", allowedNamespaces=allowed)
    plain, trusted = namespace(), namespace(trusted="yes")
    (one,) = told([shared, plain], [shared, trusted])
    assert (one.severity, one.kind) == ("access", "allowed namespaces changed")
    assert one.text == "backend ai/eu may now be used from namespace sales, by its labels"
    assert "may no longer be used" in told([shared, trusted], [shared, plain])[0].text
    assert told([shared, plain], [shared, namespace(other="label")]) == []


def test_a_service_that_selects_other_pods_or_goes_is_told(told: Any) -> None:
    target = made("ModelBackend", "eu", {"model": "m", "service": {"name": "s", "port": "http"}})
    old = [target, CHAT, service("vllm")]
    assert [one.kind for one in told(old, [*old[:2], service("other")])] == [
        "Service selects otherwise"
    ]
    alone = service("vllm")
    del alone["spec"]["selector"]
    (one,) = told(old, [*old[:2], alone])
    assert one.text.endswith('stands for no pods of its own, before for {"app":"vllm"}')
    assert "reference broken" in [one.kind for one in told(old, old[:2])]


def test_a_service_that_sends_to_another_port_of_its_pods_is_told(told: Any) -> None:
    target = made("ModelBackend", "eu", {"model": "m", "service": {"name": "s", "port": "http"}})
    old, new = service("vllm"), service("vllm")
    new["spec"]["ports"] = [
        {"name": "http", "port": 80, "targetPort": 9999},
        {"name": "metrics", "port": 81},
    ]
    (one,) = told([target, CHAT, old], [target, CHAT, new])
    assert (one.severity, one.kind) == ("access", "Service port changed")
    assert one.text.endswith("sends to port 9999 of its pods, before to port 80")
    new["spec"]["ports"][0]["targetPort"] = 80
    assert told([target, CHAT, old], [target, CHAT, new]) == []


def test_endpoints_that_are_others_are_told_of_a_renamed_backend_too(told: Any) -> None:
    def slice_of(*addresses: str) -> dict[str, Any]:
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "s-1",
                "namespace": "ai",
                "labels": {"kubernetes.io/service-name": "s"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 80}],
            "endpoints": [{"addresses": [one]} for one in addresses],
        }

    def world(name: str, *addresses: str) -> Objects:
        spec = {"model": "m", "service": {"name": "s", "port": "http"}}
        slices = [slice_of(*addresses)] if addresses else []
        return [made("ModelBackend", name, spec), policy("chat", name), service("vllm"), *slices]

    (one,) = told(world("eu", "10.0.0.1"), world("eu", "203.0.113.5"))
    assert (one.severity, one.kind) == ("access", "endpoints changed")
    assert one.text == "backend ai/eu has the endpoints 203.0.113.5:80, before 10.0.0.1:80"
    assert told(world("eu"), world("eu", "203.0.113.5"))[0].text.endswith("before nothing")
    kinds = [one.kind for one in told(world("eu", "10.0.0.1"), world("us", "203.0.113.5"))]
    assert kinds == ["endpoints changed", "backend renamed"]
    assert [one.kind for one in told(world("eu", "10.0.0.1"), world("us", "10.0.0.1"))] == [
        "backend renamed"
    ]


def test_texts_that_go_to_another_webhook_leave_the_gateway_anew(told: Any) -> None:
    def reviewed(host: str) -> dict[str, Any]:
        made_of = policy("chat", "eu")
        route = made_of["spec"]["rules"][0]["route"]
        route["review"] = {"webhook": f"https://{host}.test/x", "texts": True}
        return made_of

    first = told([EU, reviewed("ours")], [EU, reviewed("theirs")])[0]
    assert (first.severity, first.kind) == ("access", "texts leave the gateway")
    assert "https://theirs.test/x" in first.text


def test_a_name_that_is_claimed_in_vain_is_told(told: Any) -> None:
    other = policy("zzz", "eu", models=["own"])
    more = policy("zzz", "eu", models=["own", "chat"])
    changes = told([EU, CHAT, other], [EU, CHAT, more])
    assert [(one.severity, one.kind) for one in changes] == [("note", "model name not won")]


@pytest.mark.parametrize(
    ("before", "after", "kind", "words"),
    [
        ({"models": "chat"}, {}, "client may use more models", "may use all models; before"),
        ({"models": "chat"}, {"models": "ch*"}, "client may use more models", "may use ch*"),
        ({}, {"models": "chat"}, "client may use fewer models", "may use chat; before"),
        ({"models": "a"}, {"models": "b"}, "client may use other models", "may use b"),
        ({"tier": "free"}, {"tier": "gold"}, "client known otherwise", "tier free → tier gold"),
        (
            {"expires": "2030-01-01T00:00:00Z"},
            {},
            "client expiry changed",
            "never expires; before: expires 2030-01-01 00:00 UTC",
        ),
        (
            {"expires": "9999-12-31T23:59:59Z"},
            {"expires": "9999-12-31T23:59:59-05:00"},
            "client expiry changed",
            "expires after the year 9999; before: expires 9999-12-31 23:59 UTC",
        ),
    ],
)
def test_what_a_client_may_do_is_told_in_words(
    told: Any, before: dict[str, str], after: dict[str, str], kind: str, words: str
) -> None:
    (one,) = told([client(**before)], [client(**after)])
    assert one.kind == kind
    assert words in one.text


def test_nothing_in_a_kind_or_a_text_is_markup_or_a_command_of_a_terminal() -> None:
    evil = Change(severity="taken", kind="by <img> *", text="a\x1b[2J\u202eb &lt;i&gt; `c`\n# d")
    page, text = as_markdown([evil], None), as_text([evil], None)
    assert not re.search(r"(?<!\\)[<`*]", page.partition("\n")[0])
    assert "&amp;lt;i&amp;gt;" in page
    for said in (page, text):
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert "\n#" not in said.partition("\n")[2]


def test_a_reader_that_has_enough_gets_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_bytes(msgspec.json.encode(EU))

    class Closed:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

        def fileno(self) -> int:
            return spare.fileno()

    with (tmp_path / "spare").open("w") as spare:
        monkeypatch.setattr("sys.stdout", Closed())
        path = str(tmp_path / "a.yaml")
        assert switchboard(["diff", path, path]) == 141
        assert switchboard(["validate", path]) == 141


def test_the_heirs_of_a_rule_that_is_gone_are_named(told: Any) -> None:
    def ruled(*names: str) -> dict[str, Any]:
        found = policy("chat", "eu")
        (last,) = found["spec"]["rules"]
        first = [{"name": one, "match": {"tags": [one]}, "route": last["route"]} for one in names]
        found["spec"]["rules"] = [*first, last]
        return found

    removed = told([EU, ruled("a", "b")], [EU, ruled("b")])[0]
    assert removed.text.endswith('go by rule "default", to ai/eu, where b takes none of them')
