"""Recorded requests against a set of policies: what is told, what is not, and what it costs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fakes.decisions import decision
from fakes.worlds import keyring, read_world
from switchboard_cli.review.records import Recorded, read_decisions
from switchboard_cli.review.sides import Side, Unreadable, side_of
from switchboard_cli.review.simulate_command import main, simulate
from switchboard_cli.review.simulation_text import as_json
from switchboard_cli.review.tally import OTHERS, REASONS_MAX, Tally
from switchboard_dataplane.learning.inputs import Caller, Inputs
from switchboard_policy.compiler.compile import Compiler

BACKENDS = """
kind: ModelBackend
metadata: {name: small}
spec:
  model: s
  external: {provider: openai-compatible, url: "https://s.test/v1"}
  pricing: {inputPerMillion: "1.00", outputPerMillion: "2.00"}
  capabilities: {contextWindow: 1000, tools: false}
---
kind: ModelBackend
metadata: {name: large}
spec:
  model: l
  external: {provider: openai-compatible, url: "https://l.test/v1"}
  pricing: {inputPerMillion: "10.00", outputPerMillion: "20.00"}
---
kind: ModelBackend
metadata: {name: free}
spec:
  model: f
  external: {provider: openai-compatible, url: "https://f.test/v1"}
"""


def policies(rules: str, spec: str = "") -> Side:
    """A set with the policy ``ai/chat`` of these rules."""
    text = f"""{BACKENDS}---
kind: RoutingPolicy
metadata: {{name: chat}}
spec:
  models: [chat]
{spec}
  rules:
{rules}
"""
    gateway, world = read_world(text)
    return side_of(world, Compiler(gateway, keyring()).compile(world))


def to(*names: str) -> str:
    backends = ", ".join(f"{{name: {name}}}" for name in names)
    return f"{{tiers: [{{name: only, backends: [{backends}]}}]}}"


def rule(name: str, conditions: str = "", *names: str) -> str:
    return f"  - {{name: {name}, {conditions} route: {to(*names or ('small',))}}}\n"


def record(number: int = 0, /, *, inputs: Inputs | None = None, **fields: Any) -> Recorded:
    said = decision(number, model="chat", input_tokens=1000, output_tokens=100, **fields)
    line = msgspec.structs.replace(said, inputs=inputs)
    return msgspec.json.decode(msgspec.json.encode(line), type=Recorded)


def told(side: Side, *records: Recorded | None) -> Tally:
    return simulate(side, records, seed=0)


def rules_of(tally: Tally) -> dict[str, float]:
    return {rule: row.requests for (_, rule), row in tally.rules.items()}


PLAIN = Inputs(tokens=500)


@pytest.mark.parametrize(
    ("conditions", "inputs", "goes_to"),
    [
        ("match: {tags: [code]},", Inputs(tokens=5, tags=("code",)), "first"),
        ("match: {tags: [code]},", PLAIN, "default"),
        ("match: {tokens: {min: 400}},", PLAIN, "first"),
        ("match: {roles: [planner]},", Inputs(role="planner"), "first"),
        ("match: {headers: [{name: x-team, value: a}]},", Inputs(headers={"x-team": "a"}), "first"),
        (
            "match: {headers: [{name: x-team, value: a}]},",
            Inputs(headers={"x-team": "b"}),
            "default",
        ),
        ("match: {headers: [{name: x-team}]},", Inputs(headers={"x-team": None}), "default"),
        ("match: {headers: [{name: x-team}]},", PLAIN, "the header x-team"),
        ("match: {keywords: [refund]},", PLAIN, "the prompt (keywords)"),
        ("match: {systemPrompt: {contains: [coder]}},", PLAIN, "the system prompt"),
        ("match: {keywords: [refund], tags: [x]},", PLAIN, "default"),
        ("when: 'request.prompt.contains(\"x\")',", PLAIN, "the prompt"),
        ("match: {keywords: [x]}, when: request.stream,", PLAIN, "default"),
        ('when: \'request.headers["x-team"] == "a"\',', Inputs(headers={"x-team": "a"}), "first"),
        (
            'when: \'request.headers["x-team"] == "a"\',',
            Inputs(headers={"x-team": None}),
            "default",
        ),
        ('when: \'request.headers["x-team"] == "a"\',', PLAIN, "the header x-team"),
        ('when: \'request.metadata["t"] == "a"\',', Inputs(metadata={"t": "a"}), "first"),
        ('when: \'request.metadata["t"] == "a"\',', PLAIN, "the metadata t"),
        ("when: 'size(request.headers) > 0',", PLAIN, "request.headers"),
        ("when: request.user == '',", PLAIN, "first"),
        ("when: request.user == '',", Inputs(user=True), "request.user"),
        ("when: request.session == '',", Inputs(session=True), "request.session"),
        ("when: client.tier == 'gold',", Inputs(client=Caller(kind="key", tier="gold")), "first"),
        ("when: client.tier == 'gold',", PLAIN, "default"),
        ("when: signals.urgent,", Inputs(readings={"urgent": True}), "first"),
        ("when: signals.urgent,", PLAIN, "signals.urgent"),
        ("when: size(signals.pii) > 0,", Inputs(readings={"pii": ["email"]}), "first"),
        ("when: size(request.labels) > 0,", Inputs(labels={"value": 2.5}), "first"),
        ("when: request.tokens > 5,", None, "inputs, which this record is too old for"),
        ("match: {tags: [code]},", None, "inputs, which this record is too old for"),
        ("match: {apis: [embeddings]},", None, "default"),
        ("when: request.stream,", None, "default"),
    ],
)
def test_a_rule_is_told_by_what_was_recorded_and_never_guessed(
    conditions: str, inputs: Inputs | None, goes_to: str
) -> None:
    side = policies(rule("first", conditions) + rule("default"))
    tally = told(side, record(inputs=inputs))
    if goes_to in ("first", "default"):
        assert (rules_of(tally), tally.untold_rules) == ({goes_to: 1.0}, {})
    else:
        assert rules_of(tally) == {}
        assert tally.untold_rules == {f'rule "first" of ai/chat needs {goes_to}': 1}
    assert tally.requests == 1


def test_signals_of_the_decision_itself_are_known_in_old_records_too() -> None:
    side = policies(rule("first", "when: signals.task == 'code',") + rule("default"))
    assert rules_of(told(side, record(task="code"), record(task="math"))) == {
        "first": 1.0,
        "default": 1.0,
    }
    assert told(side, record()).untold_rules.total() == 1


def test_a_guardrail_that_cannot_be_told_leaves_the_backend_untold_and_not_the_rule() -> None:
    rails = """  guardrails:
  - {name: private, when: size(signals.pii) > 0, require: backend.name == "small"}
"""
    side = policies(rule("default", "", "large", "small"), rails)
    tally = told(side, record(inputs=PLAIN))
    assert rules_of(tally) == {"default": 1.0}
    needs = 'guardrail "private" of ai/chat needs signals.pii'
    assert (tally.untold_backends, tally.placed) == ({needs: 1}, 0)
    elsewhere = policies(rule("default", "", "small"), rails)
    assert told(elsewhere, record(inputs=PLAIN)).placed == 1


def test_guardrails_are_counted_where_they_hold_and_where_they_take_backends() -> None:
    rails = """  guardrails:
  - {name: private, when: size(signals.pii) > 0, require: backend.name == "small"}
"""
    side = policies(
        rule("few", "match: {tags: [few]},", "small") + rule("default", "", "large", "small"), rails
    )
    found = {"pii": ["email"]}
    tally = told(
        side,
        record(inputs=Inputs(readings=found)),
        record(inputs=Inputs(readings=found, tags=("few",))),
        record(inputs=Inputs(readings={"pii": []})),
    )
    assert tally.rails == {("ai/chat", "private"): [2, 1]}
    assert tally.backends["ai/small"].requests == 2
    assert tally.backends["ai/large or ai/small"].requests == 1


def test_weights_share_a_request_by_expectation() -> None:
    weighed = "  - {name: default, route: {tiers: [{name: only, backends: [%s]}]}}"
    members = "{name: small, weight: 70}, {name: large, weight: 70}"
    tally = told(policies(weighed % members), record(inputs=PLAIN), record(inputs=PLAIN))
    assert {name: row.requests for name, row in tally.backends.items()} == {
        "ai/small": 1.0,
        "ai/large": 1.0,
    }
    assert tally.cost == pytest.approx((1200.0 + 12000.0,) * 2)


def test_what_goes_by_load_is_told_as_one_of_several_and_costs_from_to() -> None:
    tally = told(policies(rule("default", "", "small", "large")), record(inputs=PLAIN))
    assert tally.by_load == 1
    assert tally.cost == pytest.approx((1200.0, 12000.0))


def test_a_backend_without_a_price_and_a_record_without_tokens_are_counted() -> None:
    nothing = msgspec.structs.replace(record(inputs=PLAIN), input_tokens=None, output_tokens=None)
    assert told(policies(rule("default", "", "free")), record(inputs=PLAIN)).unpriced == 1
    tally = told(policies(rule("default")), nothing, record(inputs=PLAIN))
    assert (tally.unpriced, tally.placed) == (1, 2)
    assert tally.cost == pytest.approx((1200.0, 1200.0))


def test_tokens_of_what_was_asked_beside_an_answer_are_not_the_answers() -> None:
    beside = decision(input_tokens=1500, output_tokens=120)
    line = (
        msgspec.json.encode(beside)[:-1] + b',"asides":[{"input_tokens":500,"output_tokens":20}]}'
    )
    assert msgspec.json.decode(line, type=Recorded).tokens == (1000, 100)


def test_who_is_refused_is_told_with_the_reason() -> None:
    side = policies(rule("default"))
    tally = told(
        side,
        record(inputs=Inputs(tokens=5000)),
        record(inputs=Inputs(tokens=6000)),
        record(inputs=Inputs(tools=True)),
        msgspec.structs.replace(record(), model="nobody"),
    )
    assert tally.refused == {
        (
            "ai/chat default",
            "",
            "its context window of 1000 tokens is smaller than what was asked for",
        ): 2,
        ("ai/chat default", "", "does not take tools"): 1,
        ("", "nobody", "no policy answers for the model name"): 1,
    }
    assert tally.placed == 0


@pytest.mark.parametrize(
    ("select", "inputs", "fields", "where"),
    [
        ("{by: Complexity, thresholds: ['0.5']}", PLAIN, {"complexity": 0.9}, "ai/large"),
        ("{by: Complexity, thresholds: ['0.5']}", PLAIN, {"complexity": 0.1}, "ai/small"),
        ("{by: Complexity, thresholds: ['0.5']}", PLAIN, {}, "signals.complexity"),
        ("{by: Bandit}", PLAIN, {"complexity": 0.9}, "what was learned of ratings"),
        ("{by: Task, tasks: [{task: code, tier: b}]}", PLAIN, {"task": "code"}, "ai/large"),
        ("{by: Task, tasks: [{task: code, tier: b}]}", PLAIN, {}, "signals.task"),
    ],
)
def test_a_select_goes_by_what_was_read_then(
    select: str, inputs: Inputs, fields: dict[str, Any], where: str
) -> None:
    tiers = "{name: a, backends: [{name: small}]}, {name: b, backends: [{name: large}]}"
    side = policies(
        f"  - {{name: default, route: {{tiers: [{tiers}], select: {select}}}}}\n", "  learning: {}"
    )
    tally = told(side, record(inputs=inputs, **fields))
    if where.startswith("ai/"):
        assert list(tally.backends) == [where]
    else:
        assert tally.untold_backends == {where: 1}
    assert rules_of(tally) == {"default": 1.0}


def test_a_recorded_arm_stays_and_one_that_is_gone_cannot_be_told() -> None:
    arms = "  arms: [{name: control, weight: 1}, {name: cheap, weight: 1}]"
    side = policies(rule("trial", "match: {arms: [cheap]},") + rule("default"), arms)
    tally = told(
        side,
        *(record(inputs=PLAIN, arm="cheap", session="s") for _ in range(3)),
        record(inputs=PLAIN, arm="control", session="s"),
        record(inputs=PLAIN, arm="gone", session="s"),
    )
    assert rules_of(tally) == {"trial": 3.0, "default": 1.0}
    assert tally.untold_rules == {'rule "trial" of ai/chat needs the arm': 1}


def test_the_same_log_comes_to_the_same_whatever_is_drawn() -> None:
    tiers = "{name: a, backends: [{name: small}]}, {name: b, backends: [{name: large}]}"
    select = "{by: Complexity, strongShare: '0.3'}"
    side = policies(f"  - {{name: default, route: {{tiers: [{tiers}], select: {select}}}}}\n")
    records = [
        record(number, inputs=PLAIN, complexity=number * 7919 % 500 / 500) for number in range(500)
    ]
    once, again = (as_json(simulate(side, records, seed=7), []) for _ in range(2))
    assert once == again
    tally = simulate(side, records, seed=7)
    assert tally.backends["ai/large"].requests == pytest.approx(150, abs=75)


def test_what_is_counted_by_its_text_has_a_bound() -> None:
    side = policies(rule("default"))
    records = (
        msgspec.structs.replace(record(), model=f"m{number}") for number in range(2 * REASONS_MAX)
    )
    tally = simulate(side, records, seed=0)
    assert len(tally.refused) == REASONS_MAX + 1
    assert tally.refused["", "", OTHERS] == REASONS_MAX


def test_a_log_is_read_line_by_line(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(msgspec.json.encode(decision(1)) + b"\nno json\n\n{}\n")
    reading = read_decisions(str(log))
    assert isinstance(reading, Iterator)
    first = next(reading)
    assert first is not None
    assert first.id == "decision-1"
    assert list(reading) == [None, None]


@pytest.mark.parametrize(
    "odd",
    [
        {"at": "2026-01-01T00:00:00"},
        {"api": "thoughts"},
        {"input_tokens": 10**400},
        {"inputs": {"modalities": ["text", "3d"]}},
        {"inputs": {"readings": {"pii": 5}}},
        {"inputs": {"readings": {"pii": [5]}}},
        {"inputs": {"readings": {"complexity": "x"}}},
        {"inputs": {"readings": {"urgent": 1}}},
        {"inputs": {"readings": {"classified": "strong"}}},
        {"inputs": {"readings": {"router:sha256:0": 0.5}}},
    ],
)
def test_a_line_that_says_what_is_not_known_here_is_unreadable_and_ends_nothing(
    odd: dict[str, Any], tmp_path: Path
) -> None:
    said = msgspec.to_builtins(decision(1, model="chat"))
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(json.dumps(one) for one in (said, {**said, **odd}, said)))
    reads = "when: 'size(signals.pii) > 0 || signals.complexity > 0.5',"
    side = policies(rule("first", reads) + rule("default"))
    tally = simulate(side, read_decisions(str(log)), seed=0)
    assert (tally.unreadable, tally.requests) == (1, 2)


def test_a_line_with_a_reading_that_is_new_counts_all_the_same(tmp_path: Path) -> None:
    known = {"pii": ["email"], "complexity": 1, "classified": None, "router:x": {"small": 1}}
    line = decision(1, model="chat"), Inputs(readings={**known, "mood": "fine"})
    log = tmp_path / "log.jsonl"
    log.write_bytes(msgspec.json.encode(msgspec.structs.replace(line[0], inputs=line[1])))
    side = policies(rule("first", "when: size(signals.pii) > 0,") + rule("default"))
    assert rules_of(simulate(side, read_decisions(str(log)), seed=0)) == {"first": 1.0}


def test_what_holds_no_decision_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("PNG\n")
    with pytest.raises(Unreadable, match="no export of decisions"):
        list(read_decisions(str(tmp_path / "log.jsonl")))
    (tmp_path / "empty.jsonl").write_text("")
    assert list(read_decisions(str(tmp_path / "empty.jsonl"))) == []


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_the_command_tells_what_cannot_be_told_with_its_share(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set.yaml").write_text(
        (BACKENDS + "---\nkind: RoutingPolicy\nmetadata: {name: chat, namespace: ai}\n")
        .replace("kind: ", "apiVersion: switchboard.dev/v1alpha1\nkind: ")
        .replace("{name: small}\nspec", "{name: small, namespace: ai}\nspec")
        + "spec:\n  models: [chat]\n  rules:\n"
        + rule("asked", "match: {keywords: [refund]},")
        + rule("default")
    )
    lines = [decision(number, model="chat", input_tokens=1, output_tokens=1) for number in range(4)]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
    status = main(
        [str(tmp_path / "set.yaml"), "--log", str(tmp_path / "log.jsonl"), "--output", form]
    )
    out = capsys.readouterr().out
    assert status == 0
    if form == "json":
        said = msgspec.json.decode(out)
        assert (said["requests"], said["told"]) == (4, 0)
        assert said["untold_rules"][0]["requests"] == 4
    else:
        assert "4 (100.0 %) the rule cannot be told" in out
        assert "needs the prompt (keywords)" in out.replace("\\", "")


def test_the_command_cannot_go_on_without_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none"), "--log", "none"]) == 2
    (tmp_path / "set.yaml").write_text("")
    assert main([str(tmp_path / "set.yaml"), "--log", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err
