"""What a diff says and how it exits; what each kind of change is called is in tests/golden/diff."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from fakes.decisions import decision
from switchboard_cli.__main__ import main as switchboard
from switchboard_cli.review.changes import SEVERITIES, Change, in_order, listed, summary
from switchboard_cli.review.diff_command import main
from switchboard_cli.review.diff_text import as_markdown, as_text
from switchboard_cli.review.fields import changed_fields
from switchboard_dataplane.learning.inputs import Inputs
from switchboard_policy import ir

API = "switchboard.dev/v1alpha1"


def backend(name: str, namespace: str = "ai", **spec: Any) -> dict[str, Any]:
    target = {"provider": "openai-compatible", "url": f"https://{name}.test/v1"}
    return {
        "apiVersion": API,
        "kind": "ModelBackend",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": name, "external": target, **spec},
    }


def policy(
    name: str = "chat", *rules: dict[str, Any], namespace: str = "ai", **spec: Any
) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "RoutingPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"models": ["chat"], "rules": list(rules), **spec},
    }


def rule(name: str, *tiers: str, **said: Any) -> dict[str, Any]:
    route = [{"name": f"t-{one}", "backends": [{"name": one}]} for one in tiers]
    return {"name": name, **said, "route": {"tiers": route}}


class Sets:
    """Two sets of manifests, in folders."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._path = path
        self._capsys = capsys

    def differ(self, old: list[Any], new: list[Any], *flags: str) -> tuple[int, str]:
        for side, objects in (("old", old), ("new", new)):
            (self._path / f"{side}.yaml").write_text(yaml.safe_dump_all(objects))
        status = main([str(self._path / "old.yaml"), str(self._path / "new.yaml"), *flags])
        said = self._capsys.readouterr()
        return status, said.out + said.err

    def kinds(self, old: list[Any], new: list[Any], *flags: str) -> list[str]:
        out = self.differ(old, new, "--output", "json", *flags)[1]
        return [one["kind"] for one in msgspec.json.decode(out)["changes"]]


@pytest.fixture
def sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Sets:
    return Sets(tmp_path, capsys)


A, B = backend("a"), backend("b")
ONE = [A, B, policy("chat", rule("default", "a", "b"))]
LESS = [A, B, policy("chat", rule("default", "a"))]


def test_the_exit_status_is_what_a_pipeline_goes_by(sets: Sets) -> None:
    assert sets.differ(ONE, ONE) == (0, "no change in effect\n")
    assert sets.differ(ONE, LESS)[0] == 1
    assert sets.differ(ONE, LESS, "--fail-on", "loosened,taken")[0] == 1
    assert sets.differ(ONE, LESS, "--fail-on", "loosened,lost")[0] == 3
    assert sets.differ(ONE, [A, policy("chat", rule("default", "a"), models=[1])])[0] == 2


def test_what_cannot_be_read_is_said_and_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.yaml").write_text("")
    (tmp_path / "bad.yaml").write_text("a: [")
    assert main([str(tmp_path / "good.yaml"), str(tmp_path / "bad.yaml")]) == 2
    assert "bad.yaml:2" in capsys.readouterr().err
    assert main([str(tmp_path / "good.yaml"), str(tmp_path / "none.yaml")]) == 2
    with pytest.raises(SystemExit) as stopped:
        main(["a", "b", "--fail-on", "loose"])
    assert stopped.value.code == 2
    assert "choose from refused" in capsys.readouterr().err


def test_an_object_that_is_there_twice_is_called_so(sets: Sets) -> None:
    assert sets.kinds(ONE, [*ONE, ONE[-1]]) == ["object is there twice"]


def test_both_commands_are_commands_of_the_command_line(
    sets: Sets, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sets.differ(ONE, ONE)
    old = str(tmp_path / "old.yaml")
    assert switchboard(["diff", old, old]) == 0
    (tmp_path / "log.jsonl").write_bytes(msgspec.json.encode(decision(model="chat")))
    assert switchboard(["simulate", old, "--log", str(tmp_path / "log.jsonl")]) == 0
    assert "1 recorded request" in capsys.readouterr().out


def test_the_order_of_namespaces_decides_who_takes_a_name(sets: Sets) -> None:
    shared = backend("s", allowedNamespaces={"from": "All"})
    route = {"tiers": [{"name": "t", "backends": [{"name": "s", "namespace": "ai"}]}]}
    other = policy("own", {"name": "default", "route": route}, namespace="sales")
    old, new = [shared, policy("chat", rule("default", "s"))], [other]
    kinds = sets.kinds(old, [*old, *new], "--order", "sales,ai")
    assert kinds[0] == "model name taken over by namespace sales"
    assert sets.kinds(old, [*old, *new], "--order", "ai,sales") == [
        "policy added",
        "model name not won",
    ]


def test_platform_guardrails_are_those_of_the_namespace_that_is_said(sets: Sets) -> None:
    rail = policy("rails", namespace="secure", guardrails=[{"name": "g", "require": "false"}])
    rail["spec"].pop("models")
    rail["spec"].pop("rules")
    kinds = sets.kinds(ONE, [*ONE, rail], "--platform-namespace", "secure")
    assert "guardrail added" in kinds
    assert "guardrail added" not in sets.kinds(ONE, [*ONE, rail])


def test_a_rule_that_is_reached_again_wins(sets: Sets) -> None:
    hidden = [A, B, policy("chat", rule("wide", "a"), rule("last", "b"))]
    tagged = rule("wide", "a", match={"tags": ["x"]})
    freed = [A, B, policy("chat", tagged, rule("last", "b"))]
    narrow = rule("few", "b", match={"tags": ["x"]})
    assert sets.kinds(freed, [A, B, policy("chat", narrow, tagged, rule("last", "b"))])[0] == (
        "rule unreachable"
    )
    assert sets.differ(hidden, hidden)[0] in (0, 2)
    back = sets.kinds([A, B, policy("chat", narrow, tagged, rule("last", "b"))], freed)
    assert {"rule wins", "rule removed"} <= set(back)


def test_a_condition_that_takes_more_or_less_is_called_so(sets: Sets) -> None:
    def matching(**match: Any) -> list[Any]:
        return [A, B, policy("chat", rule("some", "a", match=match), rule("default", "b"))]

    few, many = matching(tags=["x"]), matching(tags=["x", "z"])
    assert sets.kinds(few, many) == ["rule widened"]
    assert sets.kinds(many, few) == ["rule narrowed"]
    assert sets.kinds(few, matching(roles=["x"])) == ["rule condition changed"]


def test_weights_with_the_same_shares_change_nothing_but_the_text(sets: Sets) -> None:
    def weighed(*weights: int) -> list[Any]:
        members = [
            {"name": name, "weight": weight} for name, weight in zip("ab", weights, strict=True)
        ]
        tiers = [{"name": "t", "backends": members}]
        return [A, B, policy("chat", {"name": "default", "route": {"tiers": tiers}})]

    assert sets.kinds(weighed(50, 50), weighed(70, 70)) == ["weights rewritten"]
    status, said = sets.differ(weighed(70, 30), weighed(70, 70))
    assert status == 1
    assert "not normalised to 100" in said
    assert "ai/a 50 %, ai/b 50 %" in said
    assert "not normalised" not in sets.differ(weighed(70, 30), weighed(60, 40))[1]


def test_recorded_requests_that_go_elsewhere_are_told_with_the_change_in_cost(
    sets: Sets, tmp_path: Path
) -> None:
    prices = {"inputPerMillion": "1.00", "outputPerMillion": "1.00"}
    cheap, dear = backend("a", pricing=prices), backend("b", pricing=prices)
    dear["spec"]["pricing"] = {"inputPerMillion": "3.00", "outputPerMillion": "3.00"}
    old = [cheap, dear, policy("chat", rule("default", "a"))]
    long = rule("long", "b", match={"tokens": {"min": 100}})
    new = [cheap, dear, policy("chat", long, rule("default", "a"))]
    lines = [
        decision(
            number,
            model="chat",
            input_tokens=1000,
            output_tokens=0,
            inputs=Inputs(tokens=tokens) if tokens else None,
        )
        for number, tokens in enumerate((50, 200, 0))
    ]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
    status, said = sets.differ(old, new, "--log", str(tmp_path / "log.jsonl"), "--output", "json")
    log = msgspec.json.decode(said)["log"]
    assert status == 1
    assert (log["requests"], log["moved"], log["without_inputs"]) == (3, 1.0, 1)
    assert list(log["untold"].values()) == [1]
    assert log["ways"] == [
        {
            "from": 'ai/chat rule "default": ai/a',
            "to": 'ai/chat rule "long": ai/b',
            "requests": 1.0,
            "cost_before_microdollars": [1000.0, 1000.0],
            "cost_after_microdollars": [3000.0, 3000.0],
            "unpriced": 0,
        }
    ]


def test_what_is_only_renamed_sends_no_recorded_request_elsewhere(
    sets: Sets, tmp_path: Path
) -> None:
    new = [A, B, policy("other", rule("all", "a", "b"))]
    line = decision(model="chat", inputs=Inputs(tokens=5))
    (tmp_path / "log.jsonl").write_bytes(msgspec.json.encode(line))
    log = ("--log", str(tmp_path / "log.jsonl"))
    out = sets.differ(ONE, new, *log, "--output", "json")[1]
    assert msgspec.json.decode(out)["log"]["moved"] == 0
    assert sets.kinds(ONE, new, *log) == ["policy renamed", "rule renamed"]


def test_the_most_important_comes_first_and_each_change_once() -> None:
    made = [Change(severity=one, kind=one, text="x") for one in reversed(SEVERITIES)]
    assert [one.severity for one in in_order([*made, *made])] == list(SEVERITIES)
    assert summary([made[0], made[0], made[1]]) == "note (2), renamed"


def test_nothing_in_a_manifest_is_markup_or_a_command() -> None:
    text = "policy `x` **now** <b> | @everyone \x1b[31m [a](b)"
    change = Change(severity="note", kind="warning", text=text, details=("# a\nb",))
    told = as_markdown([change], None)
    assert "\\`x\\` \\*\\*now\\*\\* \\<b\\> \\| &#64;everyone" in told
    assert "\x1b" not in told + as_text([change], None)
    assert "\n  - \\# a b\n" in told


def test_names_are_listed_up_to_a_few() -> None:
    assert (listed([]), listed("a"), listed("ab")) == ("nothing", "a", "a and b")
    assert listed("abcdefgh") == "a, b, c, d, e, f and 2 more"


def test_fields_are_told_in_units_that_people_read() -> None:
    was = ir.Policy(name="a", models=(), rules=(), deadline_ms=1500)
    now = ir.Policy(name="a", models=(), rules=(), retry_budget_permille=125)
    assert changed_fields(was, now) == (
        "deadline: 1.5 s → (not said)",
        "retry budget: (not said) → 12.5 %",
    )
    price = ir.Pricing(input_picodollars=50_000)
    assert changed_fields(None, price) == ("input: (not said) → $0.05 a million tokens",)


def test_clients_that_come_go_or_are_known_otherwise_are_told_without_their_keys(
    sets: Sets,
) -> None:
    def client(key: str, **data: str) -> dict[str, Any]:
        labels = {"switchboard.dev/secret": "true", "switchboard.dev/client": "true"}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "app", "namespace": "ai", "labels": labels},
            "stringData": {"api-key": key, **data},
        }

    one, other = client("sk-sb-" + "a" * 32), client("sk-sb-" + "b" * 32, tier="gold")
    assert sets.kinds(ONE, [*ONE, one]) == ["client added"]
    assert sets.kinds([*ONE, one], ONE) == ["client removed"]
    said = sets.differ([*ONE, one], [*ONE, other])[1]
    assert "client key changed: client ai/app has another key" in said
    assert "client known otherwise: client ai/app tier (none) → tier gold" in said
    assert "aaaa" not in said + sets.differ([*ONE, one], [*ONE, other], "--output", "json")[1]


def test_who_may_use_a_backend_and_where_it_is_are_matters_of_access(sets: Sets) -> None:
    far = backend("a", locality={"jurisdiction": "us"}, allowedNamespaces={"from": "All"})
    assert sets.kinds(ONE, [far, *ONE[1:]]) == ["allowed namespaces changed", "residency changed"]
    assert sets.differ(ONE, [far, *ONE[1:]], "--fail-on", "access")[0] == 3


def rails(name: str, require: str, **said: Any) -> dict[str, Any]:
    made = policy(name, namespace="platform")
    made["spec"] = {"guardrails": [{"name": "g", "require": require, **said}]}
    return made


def test_a_guardrail_that_changes_its_name_or_owner_alone_is_not_called_loosened(
    sets: Sets,
) -> None:
    old, new = rails("one", "backend.name == 'a'"), rails("two", "backend.name == 'a'")
    assert sets.kinds([*ONE, old], [*ONE, new]) == ["guardrail renamed"]
    loose = rails("two", "backend.name in ['a', 'b']")
    kinds = sets.kinds([*ONE, old], [*ONE, loose])
    assert kinds[0] == "guardrail removed"
    assert "guardrail added" in kinds


def test_a_guardrail_lets_in_mirrors_and_judges_too(sets: Sets) -> None:
    mirrored = rule("default", "a")
    mirrored["route"]["mirror"] = {"backend": {"name": "b"}, "sample": "0.1", "maxCost": "1.00"}
    both = [A, B, policy("chat", mirrored)]
    strict = rails("one", "backend.name == 'a'")
    status, said = sets.differ([*both, strict], both, "--fail-on", "loosened")
    assert status == 3
    assert "ai/b becomes reachable for ai/chat under it" in said


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("", "request.stream", "guardrail loosened"),
        ("request.stream", "request.stream && request.tools", "guardrail loosened"),
        ("request.stream", "request.tools", "guardrail loosened"),
        ("request.stream", "", "guardrail tightened"),
        ("request.stream", "request.stream || request.tools", "guardrail tightened"),
    ],
)
def test_a_guardrail_that_may_hold_for_fewer_requests_is_loosened(
    sets: Sets, before: str, after: str, kind: str
) -> None:
    old, new = (
        rails("one", "backend.name == 'a'", **({"when": when} if when else {}))
        for when in (before, after)
    )
    assert kind in sets.kinds([*ONE, old], [*ONE, new])
    assert sets.kinds([*ONE, old], [*ONE, old]) == []
