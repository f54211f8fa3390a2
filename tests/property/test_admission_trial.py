"""What admission says of an object before it is stored is what its status says afterwards."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.manifests import external, policy, reference, served
from fakes.worlds import keyring, parser
from switchboard_operator.admission_review import bounded_warnings, read_review, write_review
from switchboard_operator.admission_trial import Trial, at_once, freeze
from switchboard_operator.inventory import Inventory
from switchboard_operator.kube import decode_data
from switchboard_operator.resources import Kind, ObjectKey
from switchboard_policy.compiler.compile import Compiler
from switchboard_policy.compiler.world import Gateway, Name
from switchboard_policy.errors import Malformed

Json = dict[str, Any]
NAMESPACES = ("ai", "ml")
NAMES = ("a", "b", "c")
GATEWAYS = (
    Gateway("default", "ai", platform_namespace="ml"),
    Gateway("default", "ai", admit="Same", order=("ml",)),
)


@cache
def trial_of(number: int) -> Trial:
    """One for all examples: what it remembers must make no difference."""
    return Trial(GATEWAYS[number : number + 1], ())


@st.composite
def policies(draw: st.DrawFn) -> Json:
    backends = [reference(draw(st.sampled_from(NAMES)), draw(st.sampled_from(NAMESPACES)))]
    when = draw(st.sampled_from(["", "request.tokens > 5", "request.nope", "request.tokens >"]))
    made = policy(draw(st.sampled_from(NAMES)), *backends, when=when)
    made["spec"] |= draw(
        st.fixed_dictionaries(
            {"models": st.sampled_from([["m"], ["m*"], ["*"], [], "m", ["n", "n"]])},
            optional={
                "priority": st.sampled_from([0, 1, "high", 10**9]),
                "unknown": st.just(1),
                "guardrails": st.sampled_from(
                    [
                        [{"name": "g", "require": "!backend.external"}],
                        [{"name": "g", "require": "backend.size > 1"}],
                        [{"name": "g", "require": "backend.external", "when": "request.stream"}],
                    ]
                ),
            },
        )
    )
    return made


@st.composite
def backends(draw: st.DrawFn) -> Json:
    fields: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "allowedNamespaces": st.sampled_from([{"from": "All"}, {"from": "Nobody"}]),
                "credentials": st.just({"apiKey": {"secretName": "key"}}),
                "capabilities": st.sampled_from([{"apis": ["chat"]}, {"apis": ["smell"]}]),
            },
        )
    )
    name = draw(st.sampled_from(NAMES))
    return draw(st.sampled_from([external(name, 1, **fields), served(name, "engine", **fields)]))


placed = st.tuples(st.one_of(policies(), backends()), st.sampled_from(NAMESPACES))


def review(manifest: Mapping[str, Any], namespace: str) -> bytes:
    said = {
        "uid": "u",
        "kind": {"group": "switchboard.dev", "version": "v1alpha1", "kind": manifest["kind"]},
        "operation": "CREATE",
        "namespace": namespace,
        "object": manifest,
    }
    return msgspec.json.encode(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": said}
    )


@settings(max_examples=100)
@given(st.sampled_from([0, 1]), st.lists(placed, min_size=1, max_size=8))
def test_what_admission_says_is_what_the_compiler_then_says(
    number: int, applied: list[tuple[Json, str]]
) -> None:
    inventory = Inventory(parser(), decode_secret=decode_data)
    trial, compiler = trial_of(number), Compiler(GATEWAYS[number], keyring())
    for version, (manifest, namespace) in enumerate(applied, start=1):
        request = read_review(review(manifest, namespace))
        verdict = at_once(request) or trial.judge(request, freeze(inventory.world, request))
        kind, name = Kind(manifest["kind"]), Name(namespace, manifest["metadata"]["name"])
        inventory.take(
            kind,
            {
                **manifest,
                "metadata": {
                    **manifest["metadata"],
                    "namespace": namespace,
                    "uid": f"{version}",
                    "resourceVersion": f"{version}",
                    "generation": 1,
                },
            },
        )
        report = compiler.compile(inventory.world).reports[str(kind), name]
        taken = inventory.get(ObjectKey(kind, name))
        assert taken is not None
        own = "; ".join(map(str, taken.problems))
        assert verdict.message == own
        if not own:
            found = [*report.rejected, *report.unresolved, *report.warnings]
            said = [each for each in verdict.warnings if "and will no longer" not in each.message]
            assert bounded_warnings(said) == bounded_warnings(found)


texts = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200)
@given(st.one_of(policies(), backends()), st.data())
def test_whatever_is_under_review_gets_a_verdict_or_is_malformed(
    manifest: Json, data: st.DataObject
) -> None:
    field = data.draw(st.sampled_from(["spec", "metadata", *manifest["spec"]]))
    (manifest if field in manifest else manifest["spec"])[field] = data.draw(json_values)
    trial = trial_of(0)
    inventory = Inventory(parser(), decode_secret=decode_data)
    try:
        request = read_review(review(manifest, "ai"))
    except Malformed:
        return
    verdict = at_once(request) or trial.judge(request, freeze(inventory.world, request))
    answer = msgspec.json.decode(write_review(request, verdict))["response"]
    assert answer["allowed"] == (not verdict.causes)
    assert all(text.isprintable() for text in answer.get("warnings", ()))
