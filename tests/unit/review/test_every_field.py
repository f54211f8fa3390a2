"""No field of a spec can be changed in silence: each is set otherwise, and the diff tells of it."""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args, get_origin

import msgspec
import pytest
from pydantic import BaseModel

from switchboard_cli.review.diff_command import differences
from switchboard_cli.review.sides import Settings
from switchboard_policy.v1alpha1.modelbackend import ModelBackendSpec
from switchboard_policy.v1alpha1.routingpolicy import RoutingPolicySpec

API: Final = "switchboard.dev/v1alpha1"
SHARED: Final = {"from": "All"}
A, B = {"name": "a"}, {"name": "b"}
TWO: Final = [{"name": "one", "backends": [A]}, {"name": "two", "backends": [B]}]
SELECT: Final = {"tiers": TWO, "select": {"by": "Complexity", "thresholds": ["0.5"]}}
BANDIT: Final = {"learning": {}, "rules[0].route": {"tiers": TWO, "select": {"by": "Bandit"}}}
CLASSIFIER: Final = {
    "rules[0].route": {"tiers": TWO, "select": {"by": "Classifier", "classifier": {"backend": A}}},
    "rules[0].route.select.thresholds": ["0.5"],
}
TASK: Final = {
    "rules[0].route": {
        "tiers": TWO,
        "select": {"by": "Task", "tasks": [{"task": "code", "tier": "one"}]},
    }
}
CASCADE: Final = {
    "rules[0].route": {"tiers": TWO, "cascade": {"accept": {"judge": {"backend": A}}}}
}
ENSEMBLE: Final = {
    "rules[0].route": {
        "tiers": [{"name": "one", "backends": [A, B, {"name": "c"}]}],
        "ensemble": {"candidates": 2, "judge": {"backend": A}},
    }
}
MIRROR: Final = {
    "rules[0].route.mirror": {
        "backend": A,
        "sample": "0.1",
        "maxCost": "1.00",
        "judge": {"backend": A},
    }
}
JUDGED: Final = {"learning": {"judge": {"backend": A, "sample": "0.1", "maxCost": "1.00"}}}
QUALITY: Final = {"rules[0].route": {"tiers": TWO, "select": {"by": "Quality"}}}
ARMS: Final = {"arms": [{"name": "x", "weight": 1}, {"name": "y", "weight": 1}]}
RULES: Final = {
    "rules": [
        {"name": "first", "match": {"tags": ["t"]}, "route": {"tiers": [TWO[0]]}},
        {"name": "default", "route": {"tiers": [TWO[1]]}},
    ]
}
GUARDED: Final = {
    "guardrails": [{"name": "g", "require": 'backend.name != "b"'}],
    "rules[0].route.tiers": TWO,
}
SPILLING: Final = {"rules[0].route.tiers": TWO}
HASHED: Final = {"rules[0].route.tiers[0].balance": {"by": "Hash"}}
SCORED: Final = {
    "rules[0].route.tiers[0].balance": {"by": "Scorers", "scorers": [{"by": "Load", "weight": 1}]}
}
ASKED: Final[dict[str, tuple[Any, Any]]] = {
    "backend.namespace": (None, "far"),
    "backend.name": ("a", "b"),
    "timeout": ("5s", "6s"),
    "instructions": (None, "Mind the tone."),
}


class Instead(NamedTuple):
    """Another field that is set where one is left out that must not be missing."""

    path: str
    value: Any


OTHER_KEY: Final = Instead("rules[0].route.tiers[0].balance.key", {"header": "x-a"})

#: What is there beside the field (None leaves it out), and the field before and after.
Case = tuple[dict[str, Any], Any, Any]


def asked(place: str, given: dict[str, Any]) -> dict[str, Case]:
    return {f"{place}.{name}": (given, *values) for name, values in ASKED.items()}


POLICY: Final[dict[str, Case]] = {
    "models": ({}, ["chat"], ["chat", "chat-large"]),
    "priority": ({}, 0, 1),
    "guardrails[].name": (GUARDED, "g", "h"),
    "guardrails[].when": (GUARDED, None, "request.stream"),
    "guardrails[].require": (GUARDED, 'backend.name != "b"', "true"),
    "rules[].name": ({}, "default", "other"),
    "rules[].match.apis": (RULES, None, ["chat"]),
    "rules[].match.tags": (RULES, ["t"], ["u"]),
    "rules[].match.headers[].name": (RULES, "x-a", "x-b"),
    "rules[].match.headers[].value": (
        {**RULES, "rules[0].match.headers": [{"name": "x-a"}]},
        "1",
        "2",
    ),
    "rules[].match.keywords": (RULES, ["a"], ["b"]),
    "rules[].match.tokens.min": (RULES, 1, 2),
    "rules[].match.tokens.max": (RULES, 1, 2),
    "rules[].match.systemPrompt.contains": (RULES, ["a"], ["b"]),
    "rules[].match.roles": (RULES, ["a"], ["b"]),
    "rules[].match.stages": (RULES, ["a"], ["b"]),
    "rules[].match.arms": ({**RULES, **ARMS}, ["x"], ["y"]),
    "rules[].when": (RULES, None, "request.stream"),
    "rules[].route.tiers[].name": ({}, "one", "first"),
    "rules[].route.tiers[].backends[].namespace": ({}, None, "far"),
    "rules[].route.tiers[].backends[].name": ({}, "a", "b"),
    "rules[].route.tiers[].backends[].weight": (
        {"rules[0].route.tiers[0].backends": [A, B]},
        1,
        2,
    ),
    "rules[].route.tiers[].balance.by": ({}, "Load", "Cost"),
    "rules[].route.tiers[].balance.key.header": (HASHED, "x-a", "x-b"),
    "rules[].route.tiers[].balance.key.user": (HASHED, True, OTHER_KEY),
    "rules[].route.tiers[].balance.key.session": (HASHED, True, OTHER_KEY),
    "rules[].route.tiers[].balance.key.promptPrefix": (HASHED, 100, 200),
    "rules[].route.tiers[].balance.scorers[].by": (SCORED, "Load", "Cost"),
    "rules[].route.tiers[].balance.scorers[].weight": (
        {
            "rules[0].route.tiers[0].balance": {
                "by": "Scorers",
                "scorers": [{"by": "Load"}, {"by": "Cost"}],
            }
        },
        1,
        2,
    ),
    "rules[].route.tiers[].spill.queueWait": (SPILLING, "1s", "2s"),
    "rules[].route.tiers[].spill.inFlight": (SPILLING, "0.5", "0.6"),
    "rules[].route.tiers[].spill.ttft": (SPILLING, "1s", "2s"),
    "rules[].route.select.by": (
        {"learning": {}, "rules[0].route": {"tiers": TWO, "select": {"maxQualityLoss": "0.1"}}},
        "Quality",
        "Neighbours",
    ),
    "rules[].route.select.thresholds": ({"rules[0].route": SELECT}, ["0.5"], ["0.6"]),
    "rules[].route.select.strongShare": (
        {"rules[0].route": {"tiers": TWO, "select": {"by": "Complexity"}}},
        "0.5",
        "0.6",
    ),
    "rules[].route.select.targetQuality": (
        {"learning": {}, "rules[0].route": {"tiers": TWO, "select": {"by": "Complexity"}}},
        "0.5",
        "0.6",
    ),
    "rules[].route.select.maxQualityLoss": (QUALITY, "0.1", "0.2"),
    "rules[].route.select.targetCost": (QUALITY, "0.1", "0.2"),
    "rules[].route.select.tasks[].task": (TASK, "code", "math"),
    "rules[].route.select.tasks[].tier": (TASK, "one", "two"),
    **asked("rules[].route.select.classifier", CLASSIFIER),
    "rules[].route.select.bandit.explore": (BANDIT, "0.1", "0.2"),
    "rules[].route.select.bandit.costWeight": (BANDIT, "0.1", "0.2"),
    "rules[].route.select.bandit.minQuality": (BANDIT, "0.1", "0.2"),
    "rules[].route.select.router": (
        {"rules[0].route": SELECT},
        f"sha256:{'a' * 64}",
        f"sha256:{'b' * 64}",
    ),
    "rules[].route.select.whenUnsure": ({"rules[0].route": SELECT}, "Stronger", "Weaker"),
    "rules[].route.select.margin": ({"rules[0].route": SELECT}, "0.1", "0.2"),
    "rules[].route.select.downgrade": ({"rules[0].route": SELECT}, "Allow", "Deny"),
    "rules[].route.select.sticky": ({"rules[0].route": SELECT}, "Session", "None"),
    "rules[].route.cascade.accept.confidence": (CASCADE, "0.5", "0.6"),
    "rules[].route.cascade.accept.agreement.namespace": (
        {**CASCADE, "rules[0].route.cascade.accept.agreement": {"name": "c"}},
        None,
        "far",
    ),
    "rules[].route.cascade.accept.agreement.name": (CASCADE, "b", "c"),
    "rules[].route.cascade.accept.regex": (CASCADE, "a", "b"),
    "rules[].route.cascade.accept.jsonSchema": (CASCADE, "{}", '{"type": "object"}'),
    "rules[].route.cascade.accept.when": (CASCADE, "!answer.cut", "!answer.empty"),
    **asked("rules[].route.cascade.accept.judge", CASCADE),
    "rules[].route.cascade.accept.judge.min": (CASCADE, "0.5", "0.6"),
    "rules[].route.cascade.hold.chars": (CASCADE, 10, 20),
    "rules[].route.cascade.hold.time": (CASCADE, "1s", "2s"),
    "rules[].route.cascade.hold.then": (CASCADE, "Send", "Escalate"),
    "rules[].route.ensemble.candidates": (ENSEMBLE, 2, 3),
    **asked("rules[].route.ensemble.judge", ENSEMBLE),
    "rules[].route.ensemble.maxCost": (ENSEMBLE, "0.10", "0.20"),
    "rules[].route.mirror.backend.namespace": (MIRROR, None, "far"),
    "rules[].route.mirror.backend.name": (MIRROR, "a", "b"),
    "rules[].route.mirror.sample": (MIRROR, "0.1", "0.2"),
    "rules[].route.mirror.maxCost": (MIRROR, "1.00", "2.00"),
    **asked("rules[].route.mirror.judge", MIRROR),
    "rules[].route.review.webhook": ({}, "https://a.test/x", "https://b.test/x"),
    "rules[].route.review.texts": (
        {"rules[0].route.review": {"webhook": "https://a.test/x"}},
        False,
        True,
    ),
    "intents[].name": ({"intents": [{"name": "i", "examples": ["e"]}]}, "i", "j"),
    "intents[].examples": ({"intents": [{"name": "i"}]}, ["e"], ["f"]),
    "intents[].threshold": ({"intents": [{"name": "i", "examples": ["e"]}]}, "0.4", "0.5"),
    "arms[].name": (ARMS, "x", "z"),
    "arms[].weight": (ARMS, 1, 2),
    "learning.log.texts": ({}, False, True),
    **asked("learning.judge", JUDGED),
    "learning.judge.sample": (JUDGED, "0.1", "0.2"),
    "learning.judge.maxCost": (JUDGED, "1.00", "2.00"),
    "resilience.attempts": ({}, 3, 4),
    "resilience.deadline": ({}, "10s", "20s"),
    "resilience.retryBudget": ({}, "0.1", "0.2"),
    "resilience.maxRetryAfterWait": ({}, "1s", "2s"),
    "resilience.maxEjected": ({}, "0.1", "0.2"),
    "resilience.hedge.after": ({}, "1s", "2s"),
    "resilience.hedge.budget": ({}, "0.1", "0.2"),
    "stream.onBreak": ({}, "Error", "Restart"),
    "stream.restartWithin": ({"stream.onBreak": "Restart"}, 10, 20),
}

SERVICE: Final = {"external": None, "service": {"name": "s", "port": 80}}
SECRET: Final = {"credentials": {"apiKey": {"secretName": "s"}}}
PRICED: Final = {"pricing": {"inputPerMillion": "1.00", "outputPerMillion": "1.00"}}
PROBED: Final = {"health": {"probe": {"path": "/health"}}}
TOLD: Final = {"telemetry": {"engine": "vllm"}}
CHOSEN: Final = {"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}}
EXPRESSED: Final = {
    "allowedNamespaces": {
        "from": "Selector",
        "selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]},
    }
}
BACKEND: Final[dict[str, Case]] = {
    "model": ({}, "m", "n"),
    "service.name": (SERVICE, "s", "t"),
    "service.port": (SERVICE, 80, 81),
    "service.scheme": (SERVICE, "http", "https"),
    "service.path": (SERVICE, "/v1", "/v2"),
    "external.provider": ({}, "openai-compatible", "openai"),
    "external.url": ({}, "https://a.test/v1", "https://b.test/v1"),
    "credentials.apiKey.secretName": (SECRET, "s", "t"),
    "credentials.apiKey.key": (SECRET, "k", "l"),
    "capabilities.apis": ({}, ["chat"], ["chat", "completions"]),
    "capabilities.contextWindow": ({}, 1000, 2000),
    "capabilities.maxOutputTokens": ({}, 1000, 2000),
    "capabilities.modalities": ({}, ["text"], ["text", "image"]),
    "capabilities.tools": ({}, True, False),
    "capabilities.jsonSchema": ({}, True, False),
    "pricing.inputPerMillion": (PRICED, "1.00", "2.00"),
    "pricing.cachedInputPerMillion": (PRICED, "1.00", "2.00"),
    "pricing.outputPerMillion": (PRICED, "1.00", "2.00"),
    "quality.default": ({}, "0.1", "0.2"),
    **{
        f"quality.{task}": ({"quality": {"default": "0.5"}}, "0.1", "0.2")
        for task in (
            *("code", "math", "reasoning", "extraction", "translation", "summarisation"),
            *("creative", "chat", "factual", "classification", "tools"),
        )
    },
    "locality.region": ({}, "eu-west-1", "us-east-1"),
    "locality.zone": ({}, "a", "b"),
    "locality.jurisdiction": ({}, "eu", "us"),
    "capacity.maxInFlight": ({}, 1, 2),
    "capacity.queue.maxWaiting": ({"capacity": {"maxInFlight": 1}}, 1, 2),
    "capacity.queue.maxWait": ({"capacity": {"maxInFlight": 1}}, "1s", "2s"),
    "wake.hold": (SERVICE, "1s", "2s"),
    "timeouts.connect": ({}, "1s", "3s"),
    "timeouts.firstToken": ({}, "1s", "3s"),
    "timeouts.idle": ({}, "1s", "3s"),
    "timeouts.total": ({}, "1s", "3s"),
    "health.probe.path": (PROBED, "/a", "/b"),
    "health.probe.interval": (PROBED, "6s", "7s"),
    "health.probe.timeout": (PROBED, "1s", "3s"),
    "health.probe.unhealthyAfter": (PROBED, 1, 2),
    "health.probe.healthyAfter": (PROBED, 2, 3),
    "health.breaker.consecutiveFailures": ({}, 1, 2),
    "health.breaker.failureRate": ({}, "0.1", "0.2"),
    "health.breaker.openFor": ({}, "1s", "2s"),
    "health.slowStart": ({}, "1s", "2s"),
    "telemetry.engine": (TOLD, "vllm", "sglang"),
    "telemetry.path": (TOLD, "/a", "/b"),
    "telemetry.interval": (TOLD, "2s", "3s"),
    "allowedNamespaces.from": ({}, "Same", "All"),
    "allowedNamespaces.selector.matchLabels": (CHOSEN, {"a": "b"}, {"a": "c"}),
    "allowedNamespaces.selector.matchExpressions[].key": (EXPRESSED, "a", "c"),
    "allowedNamespaces.selector.matchExpressions[].operator": (EXPRESSED, "In", "NotIn"),
    "allowedNamespaces.selector.matchExpressions[].values": (EXPRESSED, ["b"], ["c"]),
}

#: A name that means nothing to a request: told as one, and not as a change of what is done.
NAMES: Final = {"guardrails[].name", "rules[].name", "rules[].route.tiers[].name"}


def models_in(kind: Any) -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind, ""
    for part in get_args(kind):
        for model, suffix in models_in(part):
            yield model, ("[]" if get_origin(kind) is list else "") + suffix


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = prefix + (field.alias or name)
        within = list(models_in(field.annotation))
        if not within:
            yield path
        for inner, suffix in within:
            yield from fields_of(inner, f"{path}{suffix}.")


def put(spec: dict[str, Any], path: str, value: Any) -> None:
    """Set a field, None to leave it out; ``[]`` and ``[0]`` are a list's first item."""
    *way, last = re.sub(r"\[0?\]", ".0", path).split(".")
    place: Any = spec
    for step, after in pairwise((*way, last)):
        if step == "0":
            if not place:
                place.append({})
            place = place[0]
        else:
            place = place.setdefault(step, [] if after == "0" else {})
    if value is None:
        place.pop(last, None)
    else:
        place[last] = value


def made(base: dict[str, Any], given: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    spec: dict[str, Any] = whole(base)
    for where, what in given.items():
        put(spec, where, whole(what))
    if isinstance(value, Instead):
        put(spec, value.path, value.value)
    else:
        put(spec, path, value)
    return spec


def whole(value: Any) -> Any:
    """Return a copy in which nothing is there twice."""
    return msgspec.json.decode(msgspec.json.encode(value))


def manifest(kind: str, name: str, spec: dict[str, Any], namespace: str = "ai") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}


def external(name: str) -> dict[str, Any]:
    return {
        "model": name,
        "external": {"provider": "openai-compatible", "url": f"https://{name}.test/v1"},
        "allowedNamespaces": SHARED,
    }


BACKENDS: Final = [
    manifest("ModelBackend", name, external(name), namespace)
    for namespace in ("ai", "far")
    for name in "abc"
]
CHAT: Final = {
    "models": ["chat"],
    "rules": [{"name": "default", "route": {"tiers": [{"name": "one", "backends": [A]}]}}],
}


def told(tmp_path: Path, old: list[Any], new: list[Any]) -> list[dict[str, Any]]:
    for side, objects in (("old", old), ("new", new)):
        (tmp_path / f"{side}.yaml").write_text("\n---\n".join(map(json.dumps, objects)))
    found, _ = differences(
        str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml"), settings=Settings()
    )
    return [msgspec.to_builtins(one) for one in found]


def test_every_field_of_both_specs_has_a_case() -> None:
    assert list(POLICY) == list(fields_of(RoutingPolicySpec))
    assert list(BACKEND) == list(fields_of(ModelBackendSpec))


@pytest.mark.parametrize("field", POLICY)
def test_no_field_of_a_policy_changes_in_silence(field: str, tmp_path: Path) -> None:
    given, before, after = POLICY[field]
    specs = [made(CHAT, given, field, value) for value in (before, after)]
    old, new = ([*BACKENDS, manifest("RoutingPolicy", "chat", one)] for one in specs)
    changes = told(tmp_path, old, new)
    assert changes
    assert "refused" not in {one["severity"] for one in changes}, changes
    quiet = {one["severity"] for one in changes} <= {"note", "renamed"}
    assert quiet == (field in NAMES or field == "priority"), changes


@pytest.mark.parametrize("field", BACKEND)
def test_no_field_of_a_backend_changes_in_silence(field: str, tmp_path: Path) -> None:
    given, before, after = BACKEND[field]
    base = {name: value for name, value in external("m").items() if name != "allowedNamespaces"}
    route = {"tiers": [{"name": "one", "backends": [{"name": "m"}]}]}
    chat = {"models": ["chat"], "rules": [{"name": "default", "route": route}]}
    specs = [made(base, given, field, value) for value in (before, after)]
    old, new = (
        [manifest("ModelBackend", "m", one), manifest("RoutingPolicy", "chat", chat)]
        for one in specs
    )
    changes = told(tmp_path, old, new)
    assert changes
    assert not {one["severity"] for one in changes} & {"refused", "note", "renamed"}, changes
    assert all(one["backend"] == "ai/m" for one in changes)
