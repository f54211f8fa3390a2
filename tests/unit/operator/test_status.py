"""What a status says: a table of reports and acks against conditions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from switchboard_operator.standing import Standing, combine, stand
from switchboard_operator.status import (
    MESSAGE_CHARACTERS_MAX,
    Difference,
    assess,
    differs,
    merge,
    read,
    render,
)
from switchboard_policy.compiler.report import Finding, ObjectReport
from switchboard_policy.compiler.world import Name
from switchboard_policy.store import Pod, PodSeen, Revision
from switchboard_policy.v1alpha1.conditions import Reason

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = "policy/ai/chat"
AT = {KEY: Revision(3, 17)}


def report(**fields: Any) -> ObjectReport:
    said: dict[str, Any] = {"kind": "RoutingPolicy", "generation": 2, "keys": (KEY,)}
    return ObjectReport(name=Name("ai", "chat"), **(said | fields))


def pod(name: str, sequence: int = 17, *, epoch: int = 3, age_s: float = 1) -> PodSeen:
    return PodSeen(Pod(name=name, revision=Revision(epoch, sequence)), age_ms=int(age_s * 1000))


def refusing(name: str, why: str) -> PodSeen:
    return PodSeen(Pod(name=name, revision=Revision(3, 17), refused={KEY: why}), age_ms=0)


INVALID = (Finding(Reason.INVALID, "spec.rules[0]: is odd: write an even one"),)
DANGLING = (Finding(Reason.BACKEND_NOT_FOUND, "ModelBackend ai/b does not exist: create it"),)
SHADOWED = (Finding(Reason.UNREACHABLE_RULE, "rule b is never reached: move it up"),)

TABLE = {
    "all pods have it": (
        report(),
        stand([pod("a"), pod("b", 20)], AT),
        "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs Programmed=True/Programmed "
        "Ready=True/Ready",
        "2/2 pods at revision 3-17",
    ),
    "a pod is behind": (
        report(),
        stand([pod("a"), pod("b", 16), pod("c", 12, age_s=40)], AT),
        "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs Programmed=False/WaitingForPods "
        "Reconciling=True/WaitingForPods Ready=False/WaitingForPods",
        "1/3 pods at revision 3-17; waiting for b (at 3-16), c (at 3-12, silent for 40 s)",
    ),
    "a pod refuses": (
        report(),
        stand([pod("a"), refusing("b", "unknown format 9")], AT),
        "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs Programmed=False/RefusedByPod "
        "Stalled=True/RefusedByPod Ready=False/RefusedByPod",
        "1/2 pods at revision 3-17; refused by b: unknown format 9 (policy/ai/chat)",
    ),
    "no data plane": (
        report(),
        stand([], AT),
        "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs Programmed=False/NoDataPlanes "
        "Ready=True/Ready",
        "Published at revision 3-17; no data plane runs yet",
    ),
    "a backend that no policy uses": (
        report(kind="ModelBackend", keys=()),
        stand([pod("a")], {}),
        "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs Programmed=False/NotReferenced "
        "Ready=True/Ready",
        "Not published: no policy in force refers to it",
    ),
    "never valid": (
        report(rejected=INVALID, keys=()),
        stand([pod("a")], {}),
        "Accepted=False/Invalid ResolvedRefs=True/ResolvedRefs Programmed=False/Invalid "
        "Stalled=True/Invalid Ready=False/Invalid",
        "Not published: it is not accepted",
    ),
    "a bad edit, the last good spec in force": (
        report(rejected=INVALID, quarantined=True),
        stand([pod("a")], AT),
        "Accepted=False/Invalid ResolvedRefs=True/ResolvedRefs Programmed=True/Programmed "
        "Degraded=True/LastGoodInForce Stalled=True/Invalid Ready=False/Invalid",
        "1/1 pods at revision 3-17",
    ),
    "a reference dangles": (
        report(unresolved=DANGLING),
        stand([pod("a")], AT),
        "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound Programmed=True/Programmed "
        "Ready=False/BackendNotFound",
        "1/1 pods at revision 3-17",
    ),
    "the analysis warns": (
        report(warnings=SHADOWED),
        stand([pod("a")], AT),
        "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs Programmed=True/Programmed "
        "Degraded=True/UnreachableRule Ready=True/Ready",
        "1/1 pods at revision 3-17",
    ),
    "the store is away": (
        report(),
        stand([pod("a")], AT, "Not in the store yet: the store does not answer"),
        "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs Programmed=False/Pending "
        "Reconciling=True/Pending Ready=False/Pending",
        "Not in the store yet: the store does not answer",
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_the_conditions_of_a_case(case: str) -> None:
    said, standing, conditions, programmed = TABLE[case]
    status = assess(said, standing, None)
    assert conditions == " ".join(
        f"{each.type}={each.status}/{each.reason}" for each in status.verdicts
    )
    found = status.verdict("Programmed")
    assert found is not None
    assert found.message == programmed


@pytest.mark.parametrize("case", TABLE)
def test_what_was_written_is_read_back(case: str) -> None:
    said, standing, _, _ = TABLE[case]
    status = assess(said, standing, None, counted=said.kind == "ModelBackend")
    written = read(render(status, [], now=NOW))
    assert written is not None
    assert written == status
    assert differs(written, status) is Difference.NONE


def test_an_object_that_no_operator_has_seen_differs() -> None:
    pending = {"type": "Accepted", "status": "Unknown", "reason": "Pending", "message": "Waiting"}
    assert read({"conditions": [pending]}) is None
    assert differs(None, assess(report(), stand([], AT), None)) is Difference.CONDITIONS


def test_times_move_on_transitions_only() -> None:
    first = render(assess(report(), stand([pod("a", 16)], AT), None), [], now=NOW)
    later = NOW + timedelta(hours=1)
    second = render(assess(report(), stand([pod("a")], AT), None), first["conditions"], now=later)
    times = {each["type"]: each["lastTransitionTime"] for each in second["conditions"]}
    assert times["Accepted"] == "2026-05-01T12:00:00Z"
    assert times["Programmed"] == times["Ready"] == "2026-05-01T13:00:00Z"
    assert "Reconciling" not in times


def test_conditions_of_others_stay() -> None:
    theirs = {"type": "Audited", "status": "True", "lastTransitionTime": "x"}
    written = render(assess(report(), stand([], AT), None), [theirs], now=NOW)
    assert theirs in written["conditions"]


def test_every_condition_says_which_generation_it_speaks_of() -> None:
    written = render(assess(report(generation=7), stand([], AT), None), [], now=NOW)
    assert {each["observedGeneration"] for each in written["conditions"]} == {7}


def test_a_pod_that_comes_or_falls_silent_later_changes_nothing() -> None:
    held = assess(report(), stand([pod("a"), pod("b")], AT), None)
    now = [pod("a"), pod("b", 12, age_s=60), pod("new", 0, epoch=0)]
    assert differs(held, assess(report(), stand(now, AT), held)) is Difference.NONE


def test_an_edit_since_then_is_judged_by_all_pods() -> None:
    held = assess(report(), stand([pod("a"), pod("b")], AT), None)
    now = [pod("a", 18), pod("b", age_s=60)]
    edited = {KEY: Revision(3, 18)}
    status = assess(report(generation=3), stand(now, edited), held)
    programmed = status.verdict("Programmed")
    assert programmed is not None
    assert programmed.message == (
        "1/2 pods at revision 3-18; waiting for b (at 3-17, silent for 60 s)"
    )


def test_a_refusal_turns_a_programmed_object_whatever_was_before() -> None:
    held = assess(report(), stand([pod("a")], AT), None)
    status = assess(report(), stand([pod("a"), refusing("b", "bad seal")], AT), held)
    assert differs(held, status) is Difference.CONDITIONS


def test_a_different_number_of_pods_can_wait() -> None:
    held = assess(report(), stand([pod("a", 16), pod("b", 16)], AT), None)
    status = assess(report(), stand([pod("a"), pod("b", 16)], AT), held)
    assert differs(held, status) is Difference.COUNTS


def test_a_different_number_of_endpoints_can_wait() -> None:
    counted = report(kind="ModelBackend", endpoints_ready=1, endpoints_total=2)
    held = assess(counted, stand([pod("a")], AT), None, counted=True)
    fewer = report(kind="ModelBackend", endpoints_ready=0, endpoints_total=2)
    status = assess(fewer, stand([pod("a")], AT), held, counted=True)
    assert status.endpoints == (0, 2)
    assert differs(held, status) is Difference.COUNTS


def test_another_finding_is_a_transition() -> None:
    held = assess(report(unresolved=DANGLING), stand([pod("a")], AT), None)
    other = (Finding(Reason.BACKEND_NOT_FOUND, "ModelBackend ai/c does not exist: create it"),)
    status = assess(report(unresolved=other), stand([pod("a")], AT), held)
    assert differs(held, status) is Difference.CONDITIONS


def test_messages_are_bounded() -> None:
    many = tuple(Finding(Reason.INVALID, f"spec.rules[{n}]: is odd" * 20) for n in range(50))
    status = assess(report(rejected=many), stand([pod("a")], AT), None)
    assert all(len(each.message) <= MESSAGE_CHARACTERS_MAX for each in status.verdicts)


def test_many_pods_are_named_by_a_few() -> None:
    status = assess(report(), stand([pod(f"p{n:02}", 1) for n in range(40)], AT), None)
    programmed = status.verdict("Programmed")
    assert programmed is not None
    assert programmed.message == (
        "0/40 pods at revision 3-17; "
        "waiting for p00 (at 3-1), p01 (at 3-1), p02 (at 3-1) and 37 more"
    )


def test_the_newest_of_an_objects_entries_counts() -> None:
    keys = {"backend/ai/a": Revision(2, 9), "credential/ai/a": Revision(3, 1)}
    standing = stand([pod("a", 20, epoch=2), pod("b", 1)], keys)
    assert (standing.revision, standing.acked, standing.pods) == (Revision(3, 1), 1, 2)


def test_two_gateways_count_together() -> None:
    both = combine([stand([pod("a")], AT), stand([pod("b", 1)], {KEY: Revision(5, 2)})])
    assert (both.acked, both.pods, both.revision) == (1, 2, Revision(5, 2))
    assert both.behind == ("b (at 3-1)",)
    away = combine([Standing(), Standing(pending="why", store_away=True)])
    assert (away.pending, away.store_away) == ("why", True)


def test_a_gateway_that_does_not_admit_is_silent_if_another_does() -> None:
    not_admitted = report(
        rejected=(Finding(Reason.NAMESPACE_NOT_ADMITTED, "gateway b serves others"),), keys=()
    )
    assert merge({"a": report(), "b": not_admitted}) == report()
    assert merge({"b": not_admitted}) == not_admitted
    joined = merge({"a": report(warnings=SHADOWED), "b": report(unresolved=DANGLING)})
    assert (joined.warnings, joined.unresolved) == (SHADOWED, DANGLING)
