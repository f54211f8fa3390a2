"""AdmissionReview v1: what is read, how a verdict is written, and warnings that reach a person."""

from typing import Any

import msgspec
import pytest

from switchboard_operator.admission_review import (
    ALLOWED,
    WARNING_CHARACTERS_MAX,
    WARNINGS_CHARACTERS_MAX,
    Cause,
    Verdict,
    bounded_warnings,
    read_review,
    write_review,
)
from switchboard_policy.compiler.report import Finding
from switchboard_policy.errors import Malformed
from switchboard_policy.v1alpha1.conditions import Reason


def review(**request: Any) -> bytes:
    kind = {"group": "switchboard.dev", "version": "v1alpha1", "kind": "RoutingPolicy"}
    said = {"uid": "u-1", "kind": kind, "operation": "CREATE", "name": "chat", **request}
    return msgspec.json.encode(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": said}
    )


def answer(verdict: Verdict) -> Any:
    found = msgspec.json.decode(write_review(read_review(review()), verdict))
    assert (found["apiVersion"], found["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    return found["response"]


def finding(message: str) -> Finding:
    return Finding(Reason.BACKEND_NOT_FOUND, message)


def test_a_request_is_read_with_what_it_replaces() -> None:
    request = read_review(
        review(
            namespace="ai",
            operation="UPDATE",
            object={"metadata": {"name": "chat", "labels": None}, "spec": {"models": ["a"]}},
            oldObject={"metadata": {"deletionTimestamp": "2026-08-01T00:00:00Z"}, "spec": 1},
            userInfo={"username": "somebody"},
        )
    )
    assert request.title == "RoutingPolicy ai/chat"
    assert request.object is not None
    assert request.object.spec == {"models": ["a"]}
    assert request.old_object is not None
    assert request.old_object.metadata.deletion_timestamp == "2026-08-01T00:00:00Z"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        review()[:-1],
        review().replace(b"admission.k8s.io/v1", b"admission.k8s.io/v1beta1"),
        review().replace(b"AdmissionReview", b"ConversionReview"),
        review(operation="BREED"),
        review(uid=None),
        review(kind="RoutingPolicy"),
        review(object={"metadata": {"generation": "many"}}),
        review(object=[]),
    ],
)
def test_what_is_no_review_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed, match=r"admission\.k8s\.io/v1"):
        read_review(raw)


def test_a_title_stays_on_one_line() -> None:
    assert "\n" not in read_review(review(name="a\nb")).title


def test_an_allowed_object_is_answered_under_the_uid_of_its_request() -> None:
    assert answer(ALLOWED) == {"uid": "u-1", "allowed": True}


def test_a_denial_names_every_field_in_its_message_and_as_a_cause() -> None:
    causes = (Cause("it is wrong: mend it", "spec.a"), Cause("it is odd: mend it", "spec.b"))
    found = answer(Verdict(causes, code=422))
    assert found["allowed"] is False
    status = found["status"]
    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert status["message"] == "spec.a: it is wrong: mend it; spec.b: it is odd: mend it"
    assert [each["field"] for each in status["details"]["causes"]] == ["spec.a", "spec.b"]


def test_a_denial_that_no_field_is_to_blame_for_has_no_causes() -> None:
    status = answer(Verdict((Cause("it is not there"),), code=403))["status"]
    assert (status["code"], status["reason"], status["message"]) == (
        *(403, "Forbidden"),
        "it is not there",
    )
    assert "causes" not in status["details"]


def test_a_denial_of_many_words_is_cut() -> None:
    status = answer(Verdict((Cause("x" * 100_000, "spec"),), code=422))["status"]
    assert len(status["message"]) < 20_000


def test_warnings_name_their_reason_and_hold_no_control_character() -> None:
    (text,) = bounded_warnings([finding("line\n  line\ttab\x00end")])
    assert text == "BackendNotFound: line line tab end"


def test_the_same_warning_comes_once() -> None:
    assert len(bounded_warnings([finding("a"), finding("a"), finding("b")])) == 2


def test_a_few_long_warnings_are_not_cut() -> None:
    long = "x" * 1000
    assert bounded_warnings([finding(long)]) == [f"BackendNotFound: {long}"]


@pytest.mark.parametrize(("number", "length"), [(500, 5), (16, 300), (40, 2000), (5, 100_000)])
def test_many_warnings_stay_below_what_the_api_server_drops(number: int, length: int) -> None:
    found = [finding(f"{index} {'x' * length}") for index in range(number)]
    texts = bounded_warnings(found)
    assert sum(map(len, texts)) <= WARNINGS_CHARACTERS_MAX
    assert all(len(text) <= WARNING_CHARACTERS_MAX for text in texts)
    shown = sum(text.startswith("BackendNotFound") for text in texts)
    assert shown == number or texts[-1].startswith(f"and {number - shown} more")


def test_outcomes_are_one_word() -> None:
    warned = Verdict(warnings=(finding("a"),))
    assert [each.outcome for each in (ALLOWED, warned, Verdict((Cause("a"),)))] == [
        *("allowed", "warned", "denied")
    ]
