"""What a decision was made from is recorded by name, and nothing that was said in a request."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from fakes.decisions import decision
from fakes.policies import keyring, policy, rule, tier
from switchboard_dataplane.decision.client import Client
from switchboard_dataplane.decision.request import RequestView
from switchboard_dataplane.decision.running import Policy
from switchboard_dataplane.learning.decisions import Decided, Rated, rated, read_rated
from switchboard_dataplane.learning.inputs import VALUE_CHARS_MAX, Inputs, inputs_of
from switchboard_dataplane.snapshot import SnapshotBuilder
from switchboard_policy import ir

SECRET = "my-key-and-my-words"


def running(*rules: ir.Rule) -> Policy:
    made = policy("chat", *rules, rule("default", tier("only", "a")))
    return (
        SnapshotBuilder(keyring())
        .apply({"policy/ai/chat": made}, (), revision="1")[0]
        .policies["ai/chat"]
    )


def view(headers: dict[str, str] | None = None, **fields: Any) -> RequestView:
    body = {"messages": [{"role": "user", "content": SECRET}]}
    made = RequestView("chat", "m", body, headers or {})
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def reading(when: str = "", *headers: ir.HeaderMatch) -> Policy:
    match = ir.Match(headers=headers) if headers else None
    return running(rule("first", tier("only", "a"), when=when, match=match))


def test_headers_are_recorded_that_the_policy_reads_and_that_are_missing_too() -> None:
    reads = reading('request.headers.get("x-team") == "a"', ir.HeaderMatch("x-app"))
    said = inputs_of(view({"x-team": "a", "x-other": SECRET}), reads)
    assert said.headers == {"x-team": "a", "x-app": None}
    assert inputs_of(view({"x-team": "a"}), reading()).headers == {}
    assert inputs_of(view({"x-team": "a"}), None).headers == {}


def test_no_credential_is_recorded_though_a_rule_reads_it() -> None:
    reads = reading(
        'request.headers["authorization"] == "x" || "cookie" in request.headers',
        ir.HeaderMatch("x-api-key"),
        ir.HeaderMatch("x-team"),
    )
    headers = {"authorization": SECRET, "cookie": SECRET, "x-api-key": SECRET, "x-team": "a"}
    said = inputs_of(view(headers), reads)
    assert said.headers == {"x-team": "a"}
    assert SECRET not in msgspec.json.encode(said).decode()


def test_metadata_is_recorded_that_the_policy_reads_unless_it_is_long() -> None:
    reads = reading('request.metadata["team"] == "a" && request.metadata["long"] != ""')
    metadata = {"team": "a", "name": SECRET, "long": "x" * (VALUE_CHARS_MAX + 1)}
    assert inputs_of(view(metadata=metadata), reads).metadata == {"team": "a"}


def test_sessions_and_users_are_recorded_as_there_or_not() -> None:
    said = inputs_of(view(session=SECRET, user=SECRET), None)
    assert (said.session, said.user) == (True, True)
    assert SECRET not in msgspec.json.encode(said).decode()


def test_a_client_is_recorded_as_rules_know_it() -> None:
    client = Client("key", "app", "team-a", tier="gold", team="a", labels={"env": "prod"})
    said = inputs_of(view(client=client), None).client
    assert said is not None
    assert (said.kind, said.namespace, said.name) == ("key", "team-a", "app")
    assert (said.tier, said.team, said.labels) == ("gold", "a", {"env": "prod"})
    assert inputs_of(view(), None).client is None


def test_readings_are_recorded_as_json_can_say_them_and_no_vector_is() -> None:
    class Float(float):
        """As numpy's are."""

    said = inputs_of(
        view(
            readings={
                "task": "code",
                "context": (1.0,),
                "embedding": [0.5] * 64,
                "complexity": Float(1.25),
                "pii": ("email",),
                "urgent": True,
                "router:abc": {"small": Float(0.5)},
            }
        ),
        None,
    ).readings
    expected = {"complexity": 1.25, "pii": ["email"], "urgent": True, "router:abc": {"small": 0.5}}
    assert msgspec.json.decode(msgspec.json.encode(said)) == expected


def test_a_line_of_the_version_before_is_read_and_has_no_inputs() -> None:
    line = b'{"kind":"decision","id":"d","at":"2026-01-01T00:00:00Z","task":"code"}'
    said = read_rated(line)
    assert said.inputs is None
    assert said.task == "code"


def test_the_version_before_reads_a_line_with_inputs() -> None:
    class Before(msgspec.Struct, tag_field="kind", tag="decision"):
        id: str
        at: datetime
        policy: str = ""

    made = rated(decision(inputs=Inputs(tokens=5, tags=("a",))), ())
    line = msgspec.json.encode(made)
    assert msgspec.json.decode(line, type=Before).policy == made.policy
    assert msgspec.json.decode(line, type=Rated).inputs == Inputs(tokens=5, tags=("a",))


def test_inputs_of_most_requests_take_few_bytes() -> None:
    bare = Decided(id="d", at=datetime(2026, 1, 1, tzinfo=UTC))
    full = msgspec.structs.replace(bare, inputs=inputs_of(view(tokens=900), reading()))
    assert len(msgspec.json.encode(full)) - len(msgspec.json.encode(bare)) < 40
