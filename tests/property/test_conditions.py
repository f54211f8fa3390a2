"""What is said of two conditions holds of them, whatever the request."""

from itertools import product
from typing import Any, Final

from hypothesis import event, given, settings
from hypothesis import strategies as st

from switchboard_cli.review.conditions import relation
from switchboard_policy.facts import Program, request_facts

FACTS: Final = request_facts()
#: With texts that look like operators, and one that fails where the header is not there.
ATOMS: Final = (
    "request.stream",
    "request.tools",
    "true",
    "false",
    "request.tokens > 3",
    'request.user == "a || b ? c : d && e // f"',
    'request.headers["x"] == "?"',
    "has(request.headers.x)",
    'request.tags.exists(t, t == "a")',
    'request.tags.exists(t, t == "b")',
    '{"a": 1, "b": 2} == {"b": 1}',
    "request.tokens in [1, 7]",
)
WORLDS: Final = tuple(
    FACTS.bind(
        {
            "request.stream": stream,
            "request.tools": tools,
            "request.tokens": tokens,
            "request.user": user,
            "request.headers": headers,
            "request.tags": tags,
        }
    )
    for stream, tools, tokens, user, headers, tags in product(
        (False, True),
        (False, True),
        (1, 5),
        ("", "a || b ? c : d && e // f", "\\"),
        ({}, {"x": "?"}),
        ([], ["a"], ["b"]),
    )
)


#: With and without the brackets that a condition in them would need.
FORMS: Final = (
    *("{0} || {1}", "{1} || {0}", "({0}) || {1}", "{0} && {1}", "({0}) && {1}", "!({0})", "({0})"),
    *("{0} ? ({1}) : {2}", "{0} || {1} ? ({2}) : {0}", "{0}\n&& {1}", "{0} // || true\n"),
)


def joined(first: st.SearchStrategy[str], more: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(str.format, st.sampled_from(FORMS), first, more, more)


ATOM: Final = st.sampled_from(ATOMS)
PAIR: Final = joined(ATOM, ATOM)
CONDITIONS: Final = ATOM | PAIR | joined(PAIR, ATOM)


def compiled(source: str) -> Program:
    return FACTS.compile(source)


def applies(program: Program, world: Any) -> bool:
    """A guardrail whose condition cannot be told applies."""
    return program.holds(world) is not False


@settings(max_examples=500)
@given(data=st.data())
def test_a_condition_that_is_called_wider_applies_wherever_the_other_did(
    data: st.DataObject,
) -> None:
    was = data.draw(CONDITIONS)
    now = data.draw(joined(st.just(was), ATOM | PAIR) | CONDITIONS)
    said = relation(was, now)
    event(said)
    one, other = compiled(was), compiled(now)
    for world in WORLDS:
        before, after = applies(one, world), applies(other, world)
        if said == "same":
            assert before == after
        elif said == "wider":
            assert after or not before
        elif said == "narrower":
            assert before or not after
