"""The taxonomy of failures: statuses, error events, and how long to wait."""

from datetime import UTC, datetime
from typing import Any

import pytest

from switchboard_dataplane import errors
from switchboard_dataplane.upstream.failures import failure_of, failure_of_event, read_error
from switchboard_dataplane.upstream.overflow import find_overflow
from switchboard_dataplane.upstream.rate_limits import read_announced, read_rest

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
        ([("Retry-After", "9" * 400)], 3600.0),
        ([("Retry-After", "Fri, 01 Jan 2027 12:00:30 GMT")], 3600.0),
        ([("Retry-After", "Thu, 99 Jan 2026 12:00:30 GMT")], None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(
    headers: list[tuple[str, str]], wait_s: float | None
) -> None:
    assert read_rest(503, headers, now=noon) == wait_s


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-requests": "12ms"}, 0.012),
        ({"x-ratelimit-reset-tokens": "1s"}, 1.0),
        ({"x-ratelimit-reset-tokens": "1m2.5s"}, 62.5),
        ({"x-ratelimit-reset-tokens": "2h"}, 3600.0),
        ({"x-ratelimit-reset-requests": "7s", "x-ratelimit-reset-tokens": "2s"}, 2.0),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "7s",
                "x-ratelimit-remaining-tokens": "12",
                "x-ratelimit-reset-tokens": "2s",
            },
            7.0,
        ),
        ({"X-RateLimit-Reset": "30"}, 30.0),
        ({"x-ratelimit-reset": str(int(NOON.timestamp()) + 20)}, 20.0),
        ({"x-ratelimit-reset": str(int(NOON.timestamp() * 1000) + 500)}, 0.5),
        ({"x-ratelimit-reset": "1000000001"}, 0.0),
        ({"ratelimit-reset": "5"}, 5.0),
        ({"anthropic-ratelimit-requests-reset": "2026-01-01T12:00:09Z"}, 9.0),
        ({"anthropic-ratelimit-tokens-reset": "2026-01-01T14:00:09+02:00"}, 9.0),
        ({"anthropic-ratelimit-tokens-reset": "2026-01-01T11:00:00Z"}, 0.0),
        ({"x-ratelimit-reset-requests": "6m0s", "retry-after": "2"}, 2.0),
        ({"x-ratelimit-reset-requests": "6m0s", "retry-after": "soon"}, 360.0),
        ({"x-ratelimit-reset-requests": "6m-1s"}, None),
        ({"x-ratelimit-reset-requests": "1.2.3s"}, None),
        ({"x-ratelimit-reset-requests": "s"}, None),
        ({"x-ratelimit-reset-requests": ""}, None),
        ({"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}, None),
    ],
)
def test_a_429_without_retry_after_says_when_its_limit_renews(
    headers: dict[str, str], wait_s: float | None
) -> None:
    assert read_rest(429, headers.items(), now=noon) == pytest.approx(wait_s)
    if "retry-after" not in headers:
        assert read_rest(503, headers.items(), now=noon) is None


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9"}, 9.0),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-01-01T12:00:09Z",
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-01-01T12:00:30Z",
            },
            30.0,
        ),
        ({"x-ratelimit-remaining-requests": "none", "x-ratelimit-reset-requests": "9s"}, None),
        ({"retry-after": "9"}, None),
    ],
)
def test_an_answer_announces_a_limit_only_where_nothing_remains(
    headers: dict[str, str], wait_s: float | None
) -> None:
    assert read_announced(headers.items(), now=noon) == wait_s


@pytest.mark.parametrize(
    ("error", "tokens"),
    [
        ({"code": "context_length_exceeded", "message": "too long"}, 0),
        (
            {
                "code": "context_length_exceeded",
                "message": "This model's maximum context length is 4097 tokens. However, your "
                "messages resulted in 6988 tokens. Please reduce the length of the messages.",
            },
            4097,
        ),
        ({"message": "Your input exceeds the context window of this model"}, 0),
        (
            {
                "message": "This model's maximum context length is 16384 tokens. However, you "
                "requested 122946 tokens (112946 in the messages, 10000 in the completion).",
                "type": "BadRequestError",
                "code": 400,
            },
            16384,
        ),
        (
            {
                "message": "You passed 1193 input tokens and requested 7000 output tokens. "
                "However, the model's context length is only 8192 tokens, resulting in a maximum "
                "input length of 1192 tokens."
            },
            8192,
        ),
        (
            {
                "message": "The decoder prompt (length 5000) is longer than the maximum model "
                "length of 4096. Make sure that `max_model_len` is no smaller."
            },
            4096,
        ),
        ({"message": "max_tokens must be at least 1, got -186."}, 0),
        (
            {
                "message": "The input (61709 tokens) is longer than the model's context length "
                "(40960 tokens)."
            },
            40960,
        ),
        (
            {
                "message": "Requested token count exceeds the model's maximum context length of "
                "131072 tokens. You requested a total of 140000 tokens."
            },
            131072,
        ),
        (
            {
                "message": "Input length (160062 tokens) exceeds the maximum allowed length "
                "(59862 tokens). Use a shorter input."
            },
            59862,
        ),
        ({"message": "prompt is too long: 213462 tokens > 200000 maximum"}, 200000),
        ({"type": "exceed_context_size_error", "message": "too big"}, 0),
        ({"message": "max_tokens is too large: 5000", "code": "invalid_value"}, None),
        ({"message": "max_tokens must be at least 1, got 0."}, None),
        ({"message": ["context length"]}, None),
        ({"message": "x" * 10_000 + " context length"}, None),
        ({}, None),
    ],
)
def test_a_prompt_that_is_too_long_is_recognised(error: dict[str, Any], tokens: int | None) -> None:
    assert find_overflow(error) == tokens


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, b"", errors.UpstreamAuth),
        (403, b"<html>", errors.UpstreamAuth),
        (403, b'{"error": {"message": "no", "code": "model_forbidden"}}', errors.UpstreamAuth),
        (403, b'{"error": {"message": "no", "code": "content_filter"}}', type(None)),
        (403, b'{"error": {"message": "flagged by our safety system"}}', type(None)),
        (403, b'{"error": {"code": 403, "metadata": {"flagged_input": "x"}}}', type(None)),
        (429, b'{"error": {"code": "rate_limit_exceeded"}}', errors.UpstreamRateLimited),
        (429, b'{"error": {"type": "insufficient_quota"}}', errors.UpstreamAuth),
        (429, b"[1]", errors.UpstreamRateLimited),
    ],
)
def test_the_body_says_whose_fault_it_is_where_the_status_does_not(
    status: int, body: bytes, kind: type
) -> None:
    assert type(failure_of(status, now=noon, body=body)) is kind


def test_a_403_that_is_not_the_apis_own_says_nothing_of_the_credential() -> None:
    for body, lasting in [(b"", False), (b"<html>", False), (b'{"error": {"code": "no"}}', True)]:
        failure = failure_of(403, now=noon, body=body)
        assert isinstance(failure, errors.UpstreamAuth)
        assert failure.lasting is lasting
    refused = failure_of(401, now=noon)
    assert isinstance(refused, errors.UpstreamAuth)
    assert refused.lasting


def test_an_error_is_read_nested_and_flat() -> None:
    assert read_error(b'{"error": {"code": 1}}') == {"code": 1}
    assert read_error(b'{"object": "error", "code": 400}')["code"] == 400
    assert read_error(b"") == read_error(b"[]") == read_error(b"oops") == {}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "x"}, errors.UpstreamFailed),
        ({"code": 429}, errors.UpstreamRateLimited),
        ({"code": "503"}, errors.UpstreamOverloaded),
        ({"code": "invalid_api_key"}, errors.UpstreamAuth),
        ({"code": "who_knows"}, errors.UpstreamFailed),
        ({"code": "rate_limit_exceeded"}, errors.UpstreamRateLimited),
        ({"code": 429, "type": "insufficient_quota"}, errors.UpstreamAuth),
        ({"type": "overloaded_error"}, errors.UpstreamOverloaded),
        ({"type": "invalid_request_error"}, type(None)),
        ({"code": "content_filter"}, type(None)),
        ({"code": "context_length_exceeded"}, type(None)),
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
    assert {kind.failure for kind in kinds if kind.whole_backend} == {
        "auth",
        "misconfigured",
        "context_overflow",
    }
    assert len({kind.failure for kind in kinds}) == len(kinds) == 10
