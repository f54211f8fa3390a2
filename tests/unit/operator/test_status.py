"""What a status says: a table of reports and acks against conditions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from switchboard_operator import standing as standings
from switchboard_operator.rendering import read, render
from switchboard_operator.standing import Standing, combine, condemn
from switchboard_operator.status import (
    MESSAGE_CHARACTERS_MAX,
    Difference,
    assess,
    differs,
    merge,
)
from switchboard_policy.compiler.report import Finding, ObjectReport
from switchboard_policy.compiler.world import Name
from switchboard_policy.store import MORE_REFUSED, POLICY_REFUSED, Pod, PodSeen, Revision
from switchboard_policy.v1alpha1.conditions import Reason

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = "policy/ai/chat"
AT = {KEY: Revision(3, 17)}
HEAD = Revision(5, 99)
stand = partial(standings.stand, head=HEAD)


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
CLAIMED = (Finding(Reason.MODEL_NAME_CLAIMED, 'the model name "chat" goes to ai/first'),)

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
        "1/3 pods at revision 3-17; waiting for b (at 3-16), c (at 3-12, silent for 15 s or more)",
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
        "Accepted=False/Invalid ResolvedRefs=True/ResolvedRefs Programmed=False/LastGoodInForce "
        "Degraded=True/LastGoodInForce Stalled=True/Invalid Ready=False/Invalid",
        "The last good spec, not this edit: 1/1 pods at revision 3-17",
    ),
    "a bad edit, the last good spec on its way": (
        report(rejected=INVALID, quarantined=True),
        stand([pod("a", 16)], AT),
        "Accepted=False/Invalid ResolvedRefs=True/ResolvedRefs Programmed=False/WaitingForPods "
        "Degraded=True/LastGoodInForce Stalled=True/Invalid Ready=False/Invalid",
        "The last good spec, not this edit: 0/1 pods at revision 3-17; waiting for a (at 3-16)",
    ),
    "a bad edit, no data plane": (
        report(rejected=INVALID, quarantined=True),
        stand([], AT),
        "Accepted=False/Invalid ResolvedRefs=True/ResolvedRefs Programmed=False/NoDataPlanes "
        "Degraded=True/LastGoodInForce Stalled=True/Invalid Ready=False/Invalid",
        "The last good spec, not this edit: Published at revision 3-17; no data plane runs yet",
    ),
    "all pods have it, and how long that took": (
        report(),
        replace(stand([pod("a")], AT), took_s=0.0412),
        "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs Programmed=True/Programmed "
        "Ready=True/Ready",
        "1/1 pods at revision 3-17 after 41ms",
    ),
    "a reference dangles": (
        report(unresolved=DANGLING),
        stand([pod("a")], AT),
        "Accepted=True/Accepted ResolvedRefs=False/BackendNotFound Programmed=True/Programmed "
        "Ready=False/BackendNotFound",
        "1/1 pods at revision 3-17",
    ),
    "every model name goes to others": (
        report(warnings=CLAIMED, nameless=True),
        stand([pod("a")], AT),
        "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs Programmed=True/Programmed "
        "Degraded=True/ModelNameClaimed Ready=False/ModelNameClaimed",
        "1/1 pods at revision 3-17",
    ),
    "one of its model names goes to another": (
        report(warnings=CLAIMED),
        stand([pod("a")], AT),
        "Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs Programmed=True/Programmed "
        "Degraded=True/ModelNameClaimed Ready=True/Ready",
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


def test_more_pods_since_then_leave_the_words_of_the_time() -> None:
    held = assess(report(), replace(stand([pod("a")], AT), took_s=0.02), None)
    now = stand([pod("a", 20), pod("b", 20), pod("c", 20)], AT)
    status = assess(report(), now, held)
    assert (status.pods, status.propagation) == ("1/1", "20ms")
    assert differs(held, status) is Difference.NONE


def test_more_pods_leave_a_quarantined_edit_alone_too() -> None:
    bad = report(rejected=INVALID, quarantined=True)
    held = assess(bad, stand([pod("a")], AT), None)
    status = assess(bad, stand([pod("a"), pod("b", 3)], AT), held)
    assert differs(held, status) is Difference.NONE


def test_an_edit_that_is_not_in_force_was_never_programmed() -> None:
    held = assess(report(), stand([pod("a")], AT), None)
    status = assess(report(rejected=INVALID, quarantined=True), stand([pod("a")], AT), held)
    programmed = status.verdict("Programmed")
    assert programmed is not None
    assert (programmed.holds, programmed.reason) == (False, "LastGoodInForce")


@pytest.mark.parametrize("case", TABLE)
def test_nothing_is_stalled_and_reconciling_at_once(case: str) -> None:
    said, standing, _, _ = TABLE[case]
    types = {each.type for each in assess(said, standing, None).verdicts}
    assert not {"Stalled", "Reconciling"} <= types


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "1ms"),
        (0.0412, "41ms"),
        (1.0, "1s"),
        (1.2301, "1s230ms"),
        (59.9999, "1m"),
        (125.2, "2m5s"),
        (7384.0, "2h3m"),
    ],
)
def test_a_propagation_is_written_as_people_write_durations(seconds: float, said: str) -> None:
    status = assess(report(), replace(stand([pod("a")], AT), took_s=seconds), None)
    assert status.propagation == said


def test_a_status_of_an_older_generation_or_without_one_differs() -> None:
    status = assess(report(), stand([pod("a")], AT), None)
    written = render(status, [], now=NOW)
    assert written["observedGeneration"] == 2
    del written["observedGeneration"]
    assert differs(read(written), status) is Difference.CONDITIONS


def test_an_edit_since_then_is_judged_by_all_pods() -> None:
    held = assess(report(), stand([pod("a"), pod("b")], AT), None)
    now = [pod("a", 18), pod("b", age_s=60)]
    edited = {KEY: Revision(3, 18)}
    status = assess(report(generation=3), stand(now, edited), held)
    programmed = status.verdict("Programmed")
    assert programmed is not None
    assert programmed.message == (
        "1/2 pods at revision 3-18; waiting for b (at 3-17, silent for 15 s or more)"
    )


def test_a_refusal_turns_a_programmed_object_whatever_was_before() -> None:
    held = assess(report(), stand([pod("a")], AT), None)
    status = assess(report(), stand([pod("a"), refusing("b", "bad seal")], AT), held)
    assert differs(held, status) is Difference.CONDITIONS


def test_a_refusal_of_what_was_before_the_edit_says_nothing_of_the_edit() -> None:
    corrected = {KEY: Revision(3, 18)}
    standing = stand([pod("a", 18), refusing("b", "unknown format 9")], corrected)
    assert (standing.refused, standing.behind) == ((), ("b (at 3-17)",))
    status = assess(report(generation=3), standing, None)
    assert status.verdict("Stalled") is None
    assert status.verdict("Reconciling") is not None
    other = {KEY: Revision(3, 17), "backend/ai/a": Revision(3, 18)}
    assert stand([refusing("b", "unknown format 9")], other).refused != ()


def test_a_pod_that_goes_on_being_silent_changes_nothing() -> None:
    held = assess(report(), stand([pod("a"), pod("b", 16, age_s=20)], AT), None)
    later = assess(report(), stand([pod("a"), pod("b", 16, age_s=500)], AT), held)
    assert differs(held, later) is Difference.NONE


def test_one_more_pod_that_refuses_can_wait() -> None:
    pods = [refusing("a", "unknown format 9"), refusing("b", "unknown format 9"), pod("c")]
    held = assess(report(), stand(pods[:1], AT), None)
    assert differs(held, assess(report(), stand(pods, AT), held)) is Difference.COUNTS


def test_a_policy_is_ready_if_one_gateway_has_a_model_name_for_it() -> None:
    lost = report(warnings=CLAIMED, nameless=True)
    assert not merge({"a": lost, "b": report()}).nameless
    assert merge({"a": lost, "b": lost}).nameless


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


def test_a_quarantined_edit_does_not_hide_the_warnings_of_what_is_in_force() -> None:
    bad = report(rejected=INVALID, warnings=SHADOWED, quarantined=True)
    degraded = assess(bad, stand([pod("a")], AT), None).verdict("Degraded")
    assert degraded is not None
    assert INVALID[0].message in degraded.message
    assert SHADOWED[0].message in degraded.message


def test_pods_that_have_what_was_before_are_not_counted_for_what_is_not_published() -> None:
    assert assess(report(), stand([pod("a")], AT, "the store is away"), None).pods == ""


def test_a_pod_that_refuses_more_than_it_names_is_not_counted_as_having_the_rest() -> None:
    refused = {"policy/ai/other": "unknown format 9", MORE_REFUSED: "1900 more entries are refused"}
    pods = [pod("a"), PodSeen(Pod(name="b", revision=Revision(3, 17), refused=refused), age_ms=0)]
    standing = stand(pods, AT)
    assert (standing.acked, standing.refused) == (1, ())
    assert standing.behind == (
        "b (at 3-17, it may refuse this one: 1900 more entries are refused)",
    )


def test_what_was_programmed_does_not_stay_so_where_a_pod_refuses_more_than_it_names() -> None:
    held = assess(report(), stand([pod("a")], AT), None)
    refused = {"policy/ai/other": "unknown format 9", MORE_REFUSED: "1900 more entries are refused"}
    more = PodSeen(Pod(name="a", revision=Revision(3, 17), refused=refused), age_ms=0)
    for found in (stand([more], AT), combine([stand([pod("b")], AT), stand([more], AT)])):
        programmed = assess(report(), found, held).verdict("Programmed")
        assert programmed is not None
        assert (programmed.holds, programmed.reason) == (False, Reason.WAITING_FOR_PODS)
        assert "1900 more entries are refused" in programmed.message


def test_a_pod_that_stays_ahead_of_a_store_that_went_back_is_behind() -> None:
    held = assess(report(), stand([pod("a")], AT), None)
    went_back = "the store went back to 5-99; 7-123 stays in force"
    # What it refused then says nothing of the entry that the store holds now.
    refused = {POLICY_REFUSED: went_back, KEY: "unknown format 9"}
    ahead = PodSeen(Pod(name="a", revision=Revision(7, 123), refused=refused), age_ms=0)
    standing = stand([ahead], AT)
    assert (standing.acked, standing.refused) == (0, ())
    assert standing.behind == standing.distrusting == (f"a (at 7-123, delete it: {went_back})",)
    programmed = assess(report(), standing, held).verdict("Programmed")
    assert programmed is not None
    assert (programmed.holds, programmed.reason) == (False, Reason.WAITING_FOR_PODS)


def test_a_pod_that_trusts_the_store_may_know_of_more_than_the_operator() -> None:
    assert stand([pod("a", 100, epoch=5)], AT).acked == 1


def test_a_pod_that_lacks_a_key_has_what_it_took_before() -> None:
    refused = {POLICY_REFUSED: "the head is signed by key k2"}
    lacking = PodSeen(Pod(name="a", revision=Revision(3, 17), refused=refused), age_ms=0)
    assert stand([lacking], AT).complete


def test_a_pod_that_does_not_trust_the_store_says_why_it_is_behind() -> None:
    refused = {POLICY_REFUSED: "the head is signed by key k2, which this pod does not have"}
    pods = [PodSeen(Pod(name="b", revision=Revision(3, 16), refused=refused), age_ms=0)]
    (why,) = stand(pods, AT).behind
    assert why == "b (at 3-16, the head is signed by key k2, which this pod does not have)"


def test_a_pod_that_takes_nothing_for_good_refuses_the_object() -> None:
    refused = {POLICY_REFUSED: "the head is signed by key k2"}
    pods = [
        PodSeen(Pod(name=name, revision=Revision(3, 16), refused=refused), age_ms=age_ms)
        for name, age_ms in (("b", 0), ("silent", 60_000))
    ]
    standing = condemn(stand([*pods, pod("slow", 16)], AT))
    assert standing.refused == ("b (at 3-16, the head is signed by key k2)",)
    assert [pod.split()[0] for pod in standing.behind] == ["silent", "slow"]
    assert assess(report(), standing, None).verdict("Stalled") is not None


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
