"""No condition takes longer than it is told to at worst, and no decision longer than it has."""

import time
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.policies import backend, policy, rule, snapshot, tier, view
from switchboard_dataplane.decision.decide import decide
from switchboard_dataplane.decision.verdict import Decision
from switchboard_dataplane.signals.endpoints import SignalTable
from switchboard_policy.costs.cost import BUDGET_NS, UNBOUNDED_NS, size_of
from switchboard_policy.facts import request_facts

REQUEST = request_facts()
#: The clock of the processor is not only ours, and its caches are not.
SLACK = 4
SLACK_NS = 20_000_000

TEXTS = st.builds(
    lambda seed, letters, size: "".join(Random(seed).choices(letters, k=size)),
    st.integers(0, 1_000),
    st.sampled_from(["a", "ab", "ab", "aé", "ab c"]),
    st.sampled_from([0, 100, 5_000, 60_000]),
)
PARTS = ("a", "b", "[ab]", ".", "a?", "(a|b)", "(ab|b)*", ".*", "a{9}", ".{3}", "[^x]{0,40}", "|")
PATTERNS = st.lists(
    st.sampled_from([*PARTS, r"\\w", r"\\b", "(?:a.){2}"]), min_size=1, max_size=12
).map(lambda parts: "".join(parts) + "x")
LONG = st.sampled_from(["request.prompt", "request.system", "request.user"])
PIECES = st.one_of(
    st.sampled_from(['"a"', '"ab"', "request.session", "client.name"]),
    st.integers(1, 60).map(lambda size: f'"{"a" * size}b"'),
)
PLAIN = st.one_of(
    st.builds("{}.contains({})".format, LONG, PIECES),
    st.builds("!{}.startsWith({})".format, LONG, PIECES),
    st.builds('{}.matches("{}")'.format, LONG, PATTERNS),
    st.builds("({} == {})".format, LONG, LONG),
    st.builds("({}.size() > 7)".format, LONG),
    st.builds("({} in ['a', {}])".format, LONG, LONG),
    st.just('(request.metadata.get("a") != "b")'),
    st.just("(request.tokens > 3)"),
)
CONDITIONS = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.builds("({} && {})".format, inner, inner),
        st.builds("(!{} || {})".format, inner, inner),
        st.builds("request.tags.all(t, t != 'x' && {})".format, inner),
        st.builds("['a', 'b', 'c'].exists(w, !{})".format, inner),
        st.builds("['aab', 'b'].exists(w, request.prompt.contains(w) && {})".format, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(CONDITIONS, TEXTS, TEXTS, st.integers(0, 32))
def test_no_condition_takes_longer_than_it_is_told_to(
    source: str, prompt: str, system: str, tags: int
) -> None:
    program = REQUEST.compile(source)
    facts = {
        "request.prompt": prompt,
        "request.system": system,
        "request.user": prompt[:1_000],
        "request.session": "aab",
        "client.name": "b",
        "request.tags": [f"t{number}" for number in range(tags)],
        "request.metadata": {str(number): "v" for number in range(100)},
        "request.tokens": 7,
    }
    cost = program.cost
    most_ns = cost.ns + sum(ns * size_of(facts[fact]) for fact, ns in cost.per_char)
    assert most_ns < UNBOUNDED_NS
    if most_ns > 20 * BUDGET_NS:
        return
    began = time.thread_time_ns()
    program.holds(REQUEST.bind(facts))
    assert time.thread_time_ns() - began < SLACK * most_ns + SLACK_NS


@settings(max_examples=60, deadline=None)
@given(st.lists(CONDITIONS, min_size=1, max_size=64), TEXTS, st.integers(1, 40))
def test_no_decision_takes_longer_than_it_has(
    sources: list[str], prompt: str, repeated: int
) -> None:
    rules = [rule(f"r{at}", tier("t", "b"), when=one) for at, one in enumerate(sources)]
    running = snapshot(backend("b"), policy("p", *rules, rule("rest", tier("t", "b"))))
    asked = view(prompt * repeated, tags=("t0", "t1"), user=prompt)
    began = time.thread_time_ns()
    decided = decide(running, asked, SignalTable(), now=0.0, rng=Random(1))
    assert time.thread_time_ns() - began < SLACK * BUDGET_NS + SLACK_NS
    assert isinstance(decided, Decision)
