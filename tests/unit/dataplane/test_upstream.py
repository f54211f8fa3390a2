"""The taxonomy of failures: statuses, error events, and how long to wait."""

from datetime import UTC, datetime
from typing import Any

import pytest

from switchboard_dataplane import errors
from switchboard_dataplane.upstream.failures import (
    failure_of,
    failure_of_event,
    read_retry_after,
)

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def noon() -> datetime:
    return NOON


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, errors.UpstreamProtocol),
        (401, errors.UpstreamAuth),
        (402, errors.UpstreamAuth),
        (403, errors.UpstreamAuth),
        (404, errors.UpstreamMisconfigured),
        (405, errors.UpstreamMisconfigured),
        (408, errors.UpstreamTimeout),
        (410, errors.UpstreamMisconfigured),
        (429, errors.UpstreamRateLimited),
        (500, errors.UpstreamFailed),
        (501, errors.UpstreamFailed),
        (503, errors.UpstreamOverloaded),
        (504, errors.UpstreamFailed),
        (529, errors.UpstreamOverloaded),
        (599, errors.UpstreamFailed),
        (600, errors.UpstreamProtocol),
        (101, errors.UpstreamProtocol),
    ],
)
def test_a_status_has_one_failure(status: int, kind: type[errors.UpstreamError]) -> None:
    assert type(failure_of(status, now=noon)) is kind


@pytest.mark.parametrize("status", [200, 201, 204, 400, 406, 409, 413, 415, 418, 422, 451])
def test_success_and_the_callers_errors_are_no_failure(status: int) -> None:
    assert failure_of(status, now=noon) is None


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ([], None),
        ([("Retry-After", "7")], 7.0),
        ([("retry-after", " 0.5 ")], 0.5),
        ([("Retry-After", "Thu, 01 Jan 2026 12:00:30 GMT")], 30.0),
        ([("Retry-After", "Thu, 01 Jan 2026 11:00:00 GMT")], 0.0),
        ([("Retry-After", "Thu, 01 Jan 2026 12:00:30 -0000")], 30.0),
        ([("Retry-After-Ms", "250"), ("Retry-After", "7")], 0.25),
        ([("Retry-After-Ms", "x"), ("Retry-After", "7")], 7.0),
        ([("Retry-After", "-1")], None),
        ([("Retry-After", "nan")], None),
        ([("Retry-After", "soon")], None),
        ([("Retry-After", "")], None),
        ([("Retry-After", "1e9")], None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(
    headers: list[tuple[str, str]], wait_s: float | None
) -> None:
    assert read_retry_after(headers, now=noon) == wait_s


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "x"}, errors.UpstreamFailed),
        ({"code": 429}, errors.UpstreamRateLimited),
        ({"code": "503"}, errors.UpstreamOverloaded),
        ({"code": "invalid_api_key"}, errors.UpstreamFailed),
        ({"status": 500}, errors.UpstreamFailed),
        ({"code": 200}, errors.UpstreamFailed),
        ({"code": None}, errors.UpstreamFailed),
        ("boom", errors.UpstreamFailed),
        ({"code": 400}, type(None)),
    ],
)
def test_an_error_event_is_named_by_the_status_in_it(error: Any, kind: type) -> None:
    assert type(failure_of_event({"error": error})) is kind


def test_what_may_be_tried_again_where() -> None:
    kinds = errors.UpstreamError.__subclasses__()
    assert {kind.failure for kind in kinds if kind.again} == {"server_error", "reset"}
    assert {kind.failure for kind in kinds if kind.whole_backend} == {"auth", "misconfigured"}
    assert len({kind.failure for kind in kinds}) == len(kinds) == 9
