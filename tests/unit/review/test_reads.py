"""What an expression reads is told by its text: facts, and the keys of headers and metadata."""

import pytest

from switchboard_policy.facts import REQUEST_FACTS
from switchboard_policy.reads import (
    SECRET_HEADERS,
    facts_in,
    headers_in,
    may_record,
    metadata_in,
)


@pytest.mark.parametrize(
    ("source", "names", "every"),
    [
        ('request.headers["x-team"] == "a"', {"x-team"}, False),
        ("request . headers [ 'X-Team' ] == ''", {"x-team"}, False),
        (
            'request.headers.get("x-team") == "a" && "x-b" in request.headers',
            {"x-team", "x-b"},
            False,
        ),
        ('request.headers.exists(k, k == "x-team")', set(), True),
        ("size(request.headers) > 3", set(), True),
        ('request.headers["x-team"] == "a" && size(request.headers) > 3', {"x-team"}, True),
        ('request.headers["x-" + request.user] == "a"', set(), True),
        ('request.tags.exists(t, t == "request.headers")', set(), False),
        ('request.metadata["x-team"] == "a"', set(), False),
    ],
)
def test_headers_that_are_named_are_known_and_others_are_told(
    source: str, names: set[str], *, every: bool
) -> None:
    assert headers_in(source) == (frozenset(names), every)


def test_metadata_keeps_the_case_of_its_keys() -> None:
    assert metadata_in('request.metadata["Team"] == "a"') == (frozenset({"Team"}), False)


def test_facts_are_read_where_they_stand_and_not_in_texts() -> None:
    source = "request.tokens > 5 && signals . task == \"request.prompt\" || client.tier == 'x'"
    assert facts_in(source) == {"request.tokens", "signals.task", "client.tier"}
    assert all(facts_in(f"{fact} == x") == {fact} for fact in REQUEST_FACTS)


def test_no_header_that_holds_a_credential_is_ever_recorded() -> None:
    assert may_record([*SECRET_HEADERS, "x-team", "x-app", "x-team"]) == ("x-app", "x-team")
    assert {"authorization", "api-key", "x-api-key", "cookie"} <= SECRET_HEADERS
