"""The parser is total, and what it accepts survives being written and read again."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from switchboard_policy.v1alpha1.metadata import metadata_problems
from switchboard_policy.v1alpha1.parse import Parser

PARSER = Parser()

ODD = st.sampled_from(
    ["", "0", "1h", "*", "\ud800", "\x00", "a" * 2000, "Hash", "Selector", "request.tokens > 1"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.integers(min_value=2**63)
    | st.text(max_size=20)
    | ODD
)
KEYS = st.sampled_from(
    [
        *("spec", "metadata", "models", "rules", "name", "route", "tiers", "backends", "balance"),
        *("key", "header", "match", "when", "tokens", "min", "max", "guardrails", "require"),
        *("service", "external", "url", "provider", "port", "model", "capabilities", "apis"),
        *("allowedNamespaces", "from", "selector", "matchLabels", "matchExpressions", "weight"),
        *("labels", "annotations", "namespace", "generateName", "timeouts", "total", "contains"),
    ]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=30,
)

ROUTE = {"tiers": [{"name": "main", "backends": [{"name": "llama-8b"}]}]}
VALID_POLICY: dict[str, Any] = {
    "models": ["chat"],
    "priority": 1,
    "guardrails": [{"name": "eu", "when": "request.stream", "require": "!backend.external"}],
    "rules": [
        {"name": "code", "match": {"tags": ["code"], "tokens": {"min": 1}}, "route": ROUTE},
        {
            "name": "default",
            "route": {
                "tiers": [
                    {
                        "name": "main",
                        "backends": [{"name": "a", "weight": 1}, {"name": "b", "namespace": "x"}],
                        "balance": {"by": "Hash", "key": {"header": "x-team"}},
                    }
                ]
            },
        },
    ],
    "resilience": {"attempts": 2, "deadline": "5s"},
}
VALID_BACKEND: dict[str, Any] = {
    "model": "m",
    "service": {"name": "vllm", "port": 8000},
    "credentials": {"apiKey": {"secretName": "a"}},
    "capabilities": {"apis": ["chat"], "contextWindow": 10, "maxOutputTokens": 5},
    "pricing": {"inputPerMillion": "1", "outputPerMillion": "2"},
    "timeouts": {"total": "5s"},
    "allowedNamespaces": {
        "from": "Selector",
        "selector": {
            "matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}],
        },
    },
}


@given(manifest=JSON)
def test_any_json_value_gives_a_spec_or_problems(manifest: Any) -> None:
    for parse in (PARSER.parse_backend, PARSER.parse_policy):
        parsed = parse(manifest)
        assert (parsed.spec is None) == bool(parsed.problems)
        assert all(problem.field and problem.message and problem.fix for problem in parsed.problems)


@given(metadata=JSON)
def test_any_metadata_gives_a_verdict(metadata: Any) -> None:
    for problem in metadata_problems({"metadata": metadata}):
        assert problem.field.startswith("metadata")


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            found.extend(places(child, (*path, key)))
    return found


def changed(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    if isinstance(value, dict):
        return {k: changed(v, path[1:], new) if k == path[0] else v for k, v in value.items()}
    return [changed(v, path[1:], new) if k == path[0] else v for k, v in enumerate(value)]


@given(path=st.sampled_from(places(VALID_POLICY)), new=JSON)
def test_one_strange_value_anywhere_in_a_policy_is_no_accident(path: Any, new: Any) -> None:
    parsed = PARSER.parse_policy({"spec": changed(VALID_POLICY, path, new)})
    assert (parsed.spec is None) == bool(parsed.problems)
    assert all(problem.field.startswith("spec") for problem in parsed.problems)
    str(parsed.problems).encode("utf-8")


@given(path=st.sampled_from(places(VALID_BACKEND)), new=JSON)
def test_one_strange_value_anywhere_in_a_backend_is_no_accident(path: Any, new: Any) -> None:
    parsed = PARSER.parse_backend({"spec": changed(VALID_BACKEND, path, new)})
    assert (parsed.spec is None) == bool(parsed.problems)
    assert all(problem.field.startswith("spec") for problem in parsed.problems)
    str(parsed.problems).encode("utf-8")


@given(path=st.sampled_from(places(VALID_POLICY)), new=JSON)
def test_what_is_accepted_is_accepted_again_when_written_out(path: Any, new: Any) -> None:
    spec = PARSER.parse_policy({"spec": changed(VALID_POLICY, path, new)}).spec
    if spec is not None:
        written = spec.model_dump(by_alias=True, exclude_none=True)
        assert PARSER.parse_policy({"spec": written}).spec == spec


def test_the_samples_are_valid() -> None:
    assert PARSER.parse_policy({"spec": VALID_POLICY}).problems == ()
    assert PARSER.parse_backend({"spec": VALID_BACKEND}).problems == ()
