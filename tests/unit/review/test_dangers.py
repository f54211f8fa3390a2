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


def test_consent_is_told_before_any_policy_uses_it(told: Any) -> None:
    changes = told([EU], [backend("eu", "eu", allowedNamespaces={"from": "All"})])
    assert [one.kind for one in changes] == ["allowed namespaces changed"]


def test_a_service_that_selects_other_pods_or_goes_is_told(told: Any) -> None:
    target = made("ModelBackend", "eu", {"model": "m", "service": {"name": "s", "port": "http"}})
    old = [target, CHAT, service("vllm")]
    assert [one.kind for one in told(old, [*old[:2], service("other")])] == [
        "Service selects otherwise"
    ]
    assert "reference broken" in [one.kind for one in told(old, old[:2])]


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
