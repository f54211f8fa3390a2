"""What a condition costs by its tree: texts, pieces, loops, and what has no bound."""

import pytest
from cel_expr_python import cel

from switchboard_policy.costs.cost import ENTRIES_MAX, UNBOUNDED_NS, Cost, size_of
from switchboard_policy.costs.estimate import (
    CHAR_NS,
    ENTRIES,
    LONG_FACTS,
    NODE_NS,
    ROUNDS_MAX,
    SEARCH_NS,
)
from switchboard_policy.facts import (
    ANSWER_FACTS,
    BACKEND_FACTS,
    REQUEST_FACTS,
    answer_facts,
    request_facts,
)

REQUEST = request_facts()


def cost(source: str) -> Cost:
    return REQUEST.compile(source).cost


def per_char(source: str) -> dict[str, int]:
    return dict(cost(source).per_char)


def test_all_lists_and_maps_have_a_bound() -> None:
    facts = {**REQUEST_FACTS, **ANSWER_FACTS, **BACKEND_FACTS}
    plural = {name for name, kind in facts.items() if kind.name().startswith(("LIST", "MAP"))}
    assert plural
    assert plural == ENTRIES.keys()
    assert facts.keys() >= LONG_FACTS


@pytest.mark.parametrize(
    ("source", "ns"),
    [
        ("request.tokens > 10", {}),
        ('request.model == "a"', {}),
        ('request.tags.exists(t, t.startsWith("a"))', {}),
        ("request.prompt.size() > 10", {"request.prompt": 2 * CHAR_NS}),
        ('request.prompt.contains("word")', {"request.prompt": CHAR_NS + SEARCH_NS}),
        ('.request.prompt.contains("word")', {"request.prompt": CHAR_NS + SEARCH_NS}),
        (
            'request.prompt.contains("a") && request.prompt.contains("b")',
            {"request.prompt": CHAR_NS + 2 * SEARCH_NS},
        ),
        (
            '["a", "b", "c"].exists(w, request.prompt.contains(w))',
            {"request.prompt": CHAR_NS + 3 * SEARCH_NS},
        ),
        (
            "request.prompt == request.system",
            {"request.prompt": 2 * CHAR_NS, "request.system": 2 * CHAR_NS},
        ),
        (
            'request.metadata["a"].contains("b")',
            {"request.metadata": 2 * CHAR_NS + SEARCH_NS},
        ),
        (
            '(request.stream ? request.prompt : "").contains("a")',
            {"request.prompt": 2 * CHAR_NS + SEARCH_NS},
        ),
    ],
)
def test_each_character_costs_what_is_done_with_it(source: str, ns: dict[str, int]) -> None:
    assert per_char(source) == ns
    assert cost(source).ns < 100_000


def test_a_longer_piece_costs_more() -> None:
    short, long = (per_char(f'request.prompt.contains("{"a" * size}")') for size in (10, 900))
    assert short["request.prompt"] < long["request.prompt"] < 5 * short["request.prompt"]


def test_loops_multiply_until_the_engine_ends_them() -> None:
    inner = "a != b"
    for depth, rounds in enumerate((32, 32**2, ROUNDS_MAX, ROUNDS_MAX)):
        names = "abcd"[: depth + 1]
        source = inner if "b" in names else "a != ''"
        for name in reversed(names):
            source = f"request.tags.all({name}, {source})"
        assert rounds * NODE_NS < cost(source).ns < 100 * rounds * NODE_NS


def test_a_loop_over_lists_has_the_rounds_of_all() -> None:
    nested = "[[1, 2, 3], [4, 5]].all(a, a.all(b, request.prompt.size() > b))"
    assert per_char(nested)["request.prompt"] >= 5 * CHAR_NS


@pytest.mark.parametrize(
    "source",
    [
        "request.prompt.contains(request.system)",
        "request.prompt.contains(request.user)",
        'request.prompt.contains(request.metadata["a"])',
        "request.metadata.exists(k, request.prompt.contains(k))",
        '[request.system, "a"].exists(w, request.prompt.contains(w))',
        "request.prompt.matches(request.system)",
        "matches(request.prompt, client.name)",
        "request.tags.exists(t, request.prompt.matches(t))",
        'request.prompt.matches(request.stream ? request.user : "a")',
    ],
)
def test_what_a_caller_looks_for_has_no_bound(source: str) -> None:
    assert cost(source).ns == UNBOUNDED_NS


@pytest.mark.parametrize(
    "source",
    [
        "request.prompt.contains(client.name)",
        "request.tags.exists(t, request.prompt.contains(t))",
        '["a+", "b+"].exists(p, request.prompt.matches(p))',
        "request.user.contains(request.session)",
    ],
)
def test_what_is_short_or_written_out_has_one(source: str) -> None:
    assert cost(source).ns < UNBOUNDED_NS


def test_an_answer_is_read_like_a_prompt() -> None:
    program = answer_facts().compile('answer.text.contains("a") && answer.length > 3')
    assert program.cost.per_char == (("answer.text", CHAR_NS + SEARCH_NS),)
    assert program.cost.on(1_000) == program.cost.ns + 1_000 * (CHAR_NS + SEARCH_NS)


def test_the_size_of_a_text_is_known_without_reading_it() -> None:
    assert size_of("abc") == 3
    assert size_of("äbc") == 6
    assert size_of({"a": "bc", "d": ""}) == 8
    assert size_of(7) == 0
    assert size_of({str(number): "" for number in range(ENTRIES_MAX + 1)}) == UNBOUNDED_NS


def test_the_engines_tree_is_where_it_is_read() -> None:
    """A new version of the engine that hides it fails here, and not by cheap conditions."""
    env = cel.NewEnv(variables={"request.prompt": cel.Type.STRING})
    assert b"request.prompt" in env.compile('request.prompt == "a"').serialize()
    assert per_char('{"k": request.prompt}["k"] == "a"')["request.prompt"] >= CHAR_NS
