"""Claims to model names: whoever loses one is told, whatever the order in which claims come."""

from hypothesis import given, settings
from hypothesis import strategies as st

from switchboard_policy.compiler.claims import Claim, Claims, Lost
from switchboard_policy.compiler.world import Name

MODELS = ("*", "g*", "gp*", "gpt", "gpt*", "gpt-4", "gpt-4*", "x")
CONCRETE = ("g", "gpt", "gpt-4", "gpt-4o", "x", "y")

names = st.builds(Name, st.sampled_from(["a", "b"]), st.sampled_from(["p", "q", "r"]))
models = st.lists(st.sampled_from(MODELS), min_size=1, max_size=4, unique=True).map(tuple)


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    name = draw(names)
    return Claim(name, 0 if name.namespace == "b" else 1, draw(st.integers(-1, 1)), draw(models))


changes = st.lists(
    st.one_of(claims().map(lambda claim: (claim.policy, claim)), names.map(lambda n: (n, None))),
    max_size=4,
).map(dict)


def precedence(claim: Claim, model: str) -> tuple[object, ...]:
    return (
        claim.namespace_rank,
        -claim.priority,
        model.endswith("*"),
        -len(model),
        claim.policy,
    )


def winner(held: dict[Name, Claim], asked: str) -> Name | None:
    """The plain reading of the rule: all that match, the first by precedence."""
    matching = [
        (precedence(claim, model), claim.policy)
        for claim in held.values()
        for model in claim.models
        if model == asked or (model.endswith("*") and asked.startswith(model[:-1]))
    ]
    return min(matching)[1] if matching else None


@settings(max_examples=400)
@given(st.lists(changes, max_size=8))
def test_updates_tell_what_a_fresh_look_tells(steps: list[dict[Name, Claim | None]]) -> None:
    index, held, told = Claims(), dict[Name, Claim](), {}
    for step in steps:
        told.update(index.update(step))
        for name, claim in step.items():
            held.pop(name, None)
            if claim is not None:
                held[name] = claim
        fresh = Claims().update(held)
        assert {name: lost for name, lost in told.items() if name in held} == fresh
        assert not any(lost.findings for name, lost in told.items() if name not in held)


@settings(max_examples=200)
@given(st.lists(claims(), max_size=6))
def test_whoever_loses_a_name_is_told_who_has_it(all_claims: list[Claim]) -> None:
    held = {claim.policy: claim for claim in all_claims}
    told = Claims().update(held)
    for claim in held.values():
        said = " ".join(finding.message for finding in told[claim.policy].findings)
        exact = [model for model in claim.models if not model.endswith("*")]
        if exact and len(exact) == len(claim.models):
            gets = [model for model in exact if winner(held, model) == claim.policy]
            assert told[claim.policy].nameless == (not gets)
        for model in exact:
            assert (f'"{model}" goes to' in said) == (winner(held, model) != claim.policy)
        if all(winner(held, asked) in (claim.policy, None) for asked in (*CONCRETE, *exact)):
            assert not said or "*" in said


def test_priority_comes_before_exactness_and_is_named() -> None:
    exact = Claim(Name("a", "exact"), 0, 0, ("gpt-4",))
    wide = Claim(Name("a", "wide"), 0, 7, ("gpt*",))
    told = Claims().update({claim.policy: claim for claim in (exact, wide)})
    assert told[wide.policy] == Lost()
    assert told[exact.policy].nameless
    (finding,) = told[exact.policy].findings
    assert "a/wide" in finding.message
    assert "priority (7 over 0)" in finding.message
