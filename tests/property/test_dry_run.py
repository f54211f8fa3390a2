"""The dry run of one object says what a compilation of the whole world says of it."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.worlds import keyring, world
from property.test_compiler import GATEWAYS, Edit, backends, beginnings, edits
from switchboard_policy.compiler.compile import Compiler
from switchboard_policy.compiler.dry_run import DryRun
from switchboard_policy.compiler.report import ObjectReport
from switchboard_policy.compiler.world import Gateway, Name, World


def told(report: ObjectReport) -> ObjectReport:
    """What is said of the object itself, and not of its use."""
    return replace(report, keys=(), endpoints_ready=0, endpoints_total=0)


def copied(of: World) -> World:
    slices = {name: dict(found) for name, found in of.slices.items()}
    return World(
        dict(of.backends),
        dict(of.policies),
        dict(of.services),
        slices,
        dict(of.secrets),
        dict(of.namespaces),
        dict(of.clients),
    )


@settings(max_examples=150)
@given(st.sampled_from(GATEWAYS), beginnings, st.lists(st.lists(edits, max_size=3), max_size=4))
def test_a_dry_run_says_what_a_compilation_of_everything_says(
    gateway: Gateway, beginning: list[Edit], steps: list[list[Edit]]
) -> None:
    made, dry = world(), DryRun([gateway])
    for step in (beginning, *steps):
        for edit in step:
            edit(made)
        before = copied(made)
        reports = Compiler(gateway, keyring()).compile(copied(made)).reports
        for name in made.policies:
            found = dry.policy(name, made)[gateway.name]
            assert told(found) == told(reports["RoutingPolicy", name])
        for name in made.backends:
            assert told(dry.backend(name, made)) == told(reports["ModelBackend", name])
        assert made == before


@settings(max_examples=100)
@given(beginnings, backends())
def test_an_edit_of_a_backend_deprives_the_policies_whose_references_it_refuses_from_then_on(
    beginning: list[Edit], edit: Edit
) -> None:
    made, dry = world(), DryRun(GATEWAYS[:1])
    for each in beginning:
        each(made)
    before = copied(made)
    edit(made)
    for name, backend in made.backends.items():
        was = before.backends.get(name)
        if was is None or was.effective is None or backend.effective is None:
            continue
        lost = {
            policy
            for policy in made.policies
            if refuses(dry, policy, name, made) and not refuses(dry, policy, name, before)
        }
        assert set(dry.deprived(was, name, made)) == lost


def refuses(dry: DryRun, policy: Name, backend: Name, made: World) -> bool:
    """Whether a policy reads that a backend does not admit it."""
    return any(
        finding.reason == "RefNotPermitted" and f"ModelBackend {backend} " in finding.message
        for finding in dry.policy(policy, made)["default"].unresolved
    )
